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

/// Estimated instructions of a warp for a slice of 16 channels of the free
/// slice.
static double countSliceWork(const Program &program) {
  double work = 20.0;
  llvm::DenseSet<Operation *> seen;
  for (Node node : program.nodes) {
    Operation *op = node.value.getDefiningOp();
    if (!op || !isFree(node.form) || !seen.insert(op).second)
      continue;
    if (auto gram = dyn_cast<DecayGramOp>(op))
      work += 75.0 * (gram.getRows().size() + gram.getCols().size()) + 100.0;
    else if (isa<MatmulOp>(op))
      work += 4.0;
    else if (node.form == Form::Wide)
      work += 8.0;
  }
  return work;
}

/// The same for the products of the state slice and 16 rows.
static double countStateWork(const Program &program) {
  double work = 0.0;
  for (Operation &op : program.function.front())
    if (auto matmul = dyn_cast<MatmulOp>(op))
      if (program.dependsOnState(matmul.getResult()))
        work += program.isStateShaped(matmul.getRhs()) ||
                        matmul.getTransposeLhs()
                    ? 3.0
                    : 0.5;
  return work + 6.0;
}

SmallVector<Candidate>
gpumap::enumerateMappings(const Program &program, const OperandPolicy &policy,
                          const ::delta::gpu::GpuTarget &target,
                          const GpuMapOptions &options) {
  const int64_t A = getPaddedChannels(program.stateRows), B = program.stateCols;
  const double sliceWork = countSliceWork(program);
  const double stateWork = countStateWork(program);
  int64_t operands = 0; // of the largest decay-Gram
  for (Node node : program.nodes)
    if (auto gram = node.value.getDefiningOp<DecayGramOp>())
      operands = std::max<int64_t>(
          operands, gram.getRows().size() + gram.getCols().size());
  int64_t steps = 1; // of the largest system
  for (Operation *op : program.systems)
    steps = std::max<int64_t>(steps, cast<TriSolveOp>(op).getRhs().size());
  SmallVector<Candidate> candidates;
  for (int64_t rows : {16, 32}) {
    if (options.rows && options.rows != rows)
      continue;
    for (int64_t vBlocks = 1; vBlocks <= 32; ++vBlocks) {
      if ((options.vsplit && options.vsplit != vBlocks) || B % vBlocks)
        continue;
      int64_t blockCols = B / vBlocks;
      int64_t warps = (blockCols + rows - 1) / rows;
      if (warps > 16 || (options.warps && options.warps != warps))
        continue;
      for (int64_t window : {1, 2, 3, 4, 8}) {
        if (options.window && options.window != window)
          continue;
        for (int64_t stages : {2, 1, 3}) {
          if (options.stages && options.stages != stages)
            continue;
          if (stages == 3 ? warps + window > 16 : window > warps || window == 3)
            continue;
          Candidate candidate;
          GpuMapping &mapping = candidate.mapping;
          mapping.warps = warps;
          mapping.rowsPerWarp = rows;
          mapping.vBlocks = vBlocks;
          mapping.blockCols = blockCols;
          mapping.window = window;
          mapping.stages = stages;
          mapping.sharedBytes = Arrays(program, mapping, policy).getBytes();

          // Registers: the state, and what the slices take beside it; fewer
          // than `wanted` cost little down to `needed`, then they spill. Both
          // read off the assembler's reports for the library's recurrences.
          int64_t wanted = std::max<int64_t>(160, 60 + 32 * operands);
          int64_t needed = operands ? 115 + 16 * operands : 120;
          int64_t state = rows * A / 32;
          if (mapping.isOverlapped()) {
            wanted = std::max(wanted, state + 80);
            needed = std::max(needed, state + 60);
          } else {
            wanted += state;
            needed += state;
          }
          int64_t most = std::min<int64_t>(
              255, target.getRegisterBudget(mapping.getThreads(), 1) + 7);
          mapping.tight = mapping.isOverlapped() ||
                          needed + 70 * (steps - 1) > most - 7;
          candidate.registers = std::min(wanted, most) / 8 * 8;
          double spill = needed > most ? 1.0 + 0.02 * (needed - most) : 1.0;
          if (mapping.sharedBytes <= target.getSharedPerCta())
            candidate.ctas = target.getOccupancy(
                mapping.getThreads(), candidate.registers, mapping.sharedBytes);
          // A chunk's free slice is one warp's; every warp of a window works at
          // once, then all take the state slices of the window in turn.
          double free = sliceWork * A / 16 + 250.0;
          double chain = (stateWork * rows / 16 * A / 16 + 60.0) * spill;
          candidate.issue = vBlocks * (free + warps * chain) / 4.0;
          if (candidate.ctas > 0)
            candidate.latency = vBlocks *
                                (2.5 * free / window + 3.0 * chain) /
                                candidate.ctas;
          // Several small CTAs overlap better than one large one.
          candidate.cost = (std::max(candidate.issue, candidate.latency) +
                            0.2 * std::min(candidate.issue, candidate.latency)) *
                           (stages == 1 ? 1.15 : 1.0) * (1.0 + 0.02 * warps);
          candidates.push_back(candidate);
        }
      }
    }
  }
  return candidates;
}

FailureOr<GpuMapping>
gpumap::chooseMapping(const Program &program, const OperandPolicy &policy,
                      const ::delta::gpu::GpuTarget &target,
                      const GpuMapOptions &options) {
  SmallVector<Candidate> candidates =
      enumerateMappings(program, policy, target, options);
  const Candidate *best = nullptr;
  int64_t smallest = -1;
  for (const Candidate &candidate : candidates) {
    int64_t bytes = candidate.mapping.sharedBytes;
    smallest = smallest < 0 ? bytes : std::min(smallest, bytes);
    if (candidate.ctas > 0 && (!best || candidate.cost < best->cost))
      best = &candidate;
  }
  if (best)
    return best->mapping;
  auto error = program.function.emitError()
               << "no mapping of a " << program.stateRows << " x "
               << program.stateCols << " state fits " << target.getName()
               << ": ";
  if (smallest > target.getSharedPerCta())
    error << "the smallest needs " << smallest
          << " bytes of shared memory a CTA, and there are "
          << target.getSharedPerCta() << "; use --fn=decode or smaller dims";
  else
    error << "the pinned choices leave none; take back some of --mapping";
  return failure();
}

int64_t gpumap::countMmaFlops(const Program &program,
                              const GpuMapping &mapping) {
  const int64_t C = program.chunk, A = getPaddedChannels(program.stateRows),
                B = mapping.warps * mapping.rowsPerWarp * mapping.vBlocks;
  int64_t flops = 0;
  llvm::DenseSet<Operation *> seen;
  for (Node node : program.nodes) {
    Operation *op = node.value.getDefiningOp();
    if (!op || !seen.insert(op).second)
      continue;
    auto getChannels = [](Value value) {
      return getPaddedChannels(
          cast<RankedTensorType>(value.getType()).getDimSize(1));
    };
    if (auto gram = dyn_cast<DecayGramOp>(op)) {
      int64_t channels = getChannels(gram.getDecay());
      int64_t rows = gram.getRows().size(), cols = gram.getCols().size();
      bool anchored = gram.getScheme() == DecayScheme::Anchored &&
                      static_cast<int64_t>(gram.getLeaf()) >= C;
      flops += mapping.vBlocks *
               (anchored ? static_cast<int64_t>(gram.getGrams().size()) * 2 * C * C * channels
                         : 4 * ((rows + 1) / 2) * cols * 2 * 16 * 8 * channels);
    } else if (auto matmul = dyn_cast<MatmulOp>(op)) {
      if (matmul.getTransposeRhs())
        flops += mapping.vBlocks * 2 * C * C * getChannels(matmul.getLhs());
      else if (matmul.getTransposeLhs() ||
               program.isStateShaped(program.resolve(matmul.getRhs())))
        flops += 2 * C * A * B;
      else
        flops += 2 * C * C * B;
    } else if (auto solve = dyn_cast<TriSolveOp>(op)) {
      flops += static_cast<int64_t>(solve.getBlocks().size()) * 2 * C * C * B;
    }
  }
  return flops;
}
