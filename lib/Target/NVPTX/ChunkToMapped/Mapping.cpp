//===- Mapping.cpp - How a chunk program is laid out on a GPU --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The candidates and the choice among them.
//
//===----------------------------------------------------------------------===//

#include "Mapping.h"
#include "Arrays.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

FailureOr<OperandPolicy> OperandPolicy::get(ModuleOp module,
                                            StringRef precision) {
  Builder builder(module.getContext());
  if (precision == "bf16")
    return OperandPolicy{warp::Operand::Native, builder.getBF16Type()};
  if (precision == "f16")
    return OperandPolicy{warp::Operand::Native, builder.getF16Type()};
  if (precision == "tf32")
    return OperandPolicy{warp::Operand::TF32, builder.getF32Type()};
  if (precision == "bf16x3")
    return OperandPolicy{warp::Operand::BF16x3, builder.getF32Type()};
  return module.emitError()
         << "a GPU's matrix instructions have no precision '" << precision
         << "'; use bf16, f16, tf32 or bf16x3";
}

DictionaryAttr GpuMapping::getAttr(MLIRContext *context) const {
  Builder builder(context);
  auto entry = [&](StringRef name, int64_t value) {
    return builder.getNamedAttr(name, builder.getI64IntegerAttr(value));
  };
  return builder.getDictionaryAttr(
      {entry("warps", warps), entry("rows", rowsPerWarp),
       entry("vsplit", vBlocks), entry("window", window),
       entry("stages", stages), entry("kernels", 1)});
}

warp::SharedType gpumap::getTileType(ArrayRef<int64_t> lead, int64_t rows,
                                     int64_t cols, Type elementType) {
  SmallVector<int64_t> shape(lead);
  shape.append({rows, cols});
  int64_t bytes = elementType.getIntOrFloatBitWidth() / 8;
  int64_t segments = cols * bytes / 16;
  bool swizzle = segments >= 2 && (segments & (segments - 1)) == 0;
  // Otherwise an odd number of segments keeps neighbouring rows apart.
  int64_t pad = !swizzle && segments % 2 == 0 ? 16 / bytes : 0;
  return warp::SharedType::get(elementType.getContext(), shape, elementType,
                               swizzle, pad);
}

FailureOr<GpuMapping>
gpumap::chooseMapping(const Program &program, const OperandPolicy &policy,
                      const ::delta::gpu::GpuTarget &target,
                      const GpuMapOptions &options) {
  const int64_t A = getPaddedChannels(program.stateRows), B = program.stateCols;
  GpuMapping best;
  double bestCost = -1.0;
  int64_t smallest = -1;
  for (int64_t rows : {16, 32}) {
    if (options.rows && options.rows != rows)
      continue;
    // Registers of a lane: the state, its rounded copy, and the chain's own.
    int64_t state = rows * A / 32;
    int64_t copy = policy.mma == warp::Operand::Native ? state / 2 : state;
    int64_t registers = state + std::min<int64_t>(copy, 64) + 104;
    for (int64_t vBlocks = 1; vBlocks <= 32; ++vBlocks) {
      if (options.vsplit && options.vsplit != vBlocks)
        continue;
      if (B % vBlocks)
        continue;
      int64_t blockCols = B / vBlocks;
      int64_t warps = (blockCols + rows - 1) / rows;
      if (options.warps && options.warps != warps)
        continue;
      if (warps > 16)
        continue;
      for (int64_t window : {1, 2, 4, 8}) {
        if (window > warps || (options.window && options.window != window))
          continue;
        for (int64_t stages : {2, 1}) {
          if (options.stages && options.stages != stages)
            continue;
          GpuMapping mapping;
          mapping.warps = warps;
          mapping.rowsPerWarp = rows;
          mapping.vBlocks = vBlocks;
          mapping.blockCols = blockCols;
          mapping.window = window;
          mapping.stages = stages;
          mapping.sharedBytes = Arrays(program, mapping, policy).getBytes();
          if (smallest < 0 || mapping.sharedBytes < smallest)
            smallest = mapping.sharedBytes;
          if (mapping.sharedBytes > target.getSharedPerCta())
            continue;
          int64_t perThread = std::min<int64_t>(
              std::min<int64_t>(registers, 255) / 8 * 8, 65536 / (warps * 32));
          int64_t ctas = target.getOccupancy(warps * 32, perThread,
                                             mapping.sharedBytes);
          if (ctas == 0)
            continue;
          // Relative time of one chunk and head on one multiprocessor. A
          // warp's free slice and its share of the state slice come one after
          // the other and overlap with those of the other CTAs.
          double spill = registers > 65536 / (warps * 32) || registers > 255
                             ? 2.0
                             : 1.0;
          double free = 150.0 * A / 16 + 300.0;
          double stateWork = (20.0 * (rows / 16) + 16.0) * A / 16 + 60.0;
          double issue = vBlocks * (free + warps * stateWork * spill) / 4.0;
          double latency = (3.0 * free + window * 4.0 * stateWork * spill) /
                           window * vBlocks / ctas;
          double cost = std::max(issue, latency) + 0.1 * latency;
          cost *= stages == 1 ? 1.3 : 1.0;
          if (bestCost < 0 || cost < bestCost) {
            bestCost = cost;
            best = mapping;
          }
        }
      }
    }
  }
  if (bestCost < 0) {
    auto error = program.function.emitError()
                 << "no mapping of a " << program.stateRows << " x "
                 << program.stateCols << " state fits "
                 << target.getName() << ": ";
    if (smallest > target.getSharedPerCta())
      error << "the smallest needs " << smallest
            << " bytes of shared memory a CTA, and there are "
            << target.getSharedPerCta()
            << "; use --fn=decode or smaller dims";
    else
      error << "the pinned choices leave none; take back some of --mapping";
    return failure();
  }
  return best;
}
