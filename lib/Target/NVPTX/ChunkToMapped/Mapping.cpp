//===- Mapping.cpp - How a chunk program is laid out on a GPU -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The candidates and the choice among them.
//
//===----------------------------------------------------------------------===//

#include "Arrays.h"
#include "MappingCost.h"

#include <algorithm>
#include <cmath>

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

bool OperandPolicy::isNarrow(const Program &program, Value value) const {
  value = program.resolve(value);
  return isa<BlockArgument>(value) && mma == warp::Operand::Native &&
         type.isBF16() && program.staged.contains(cast<BlockArgument>(value)) &&
         program.getArg(value).getType() == type &&
         program.getPadding(value, /*channels=*/true) == 0.0;
}

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
  return module.emitError() << "a GPU's matrix instructions have no precision '"
                            << precision << "'; use bf16, f16, tf32 or bf16x3";
}

DictionaryAttr GpuMapping::getAttr(MLIRContext *context) const {
  Builder builder(context);
  auto entry = [&](StringRef name, int64_t value) {
    return builder.getNamedAttr(name, builder.getI64IntegerAttr(value));
  };
  SmallVector<NamedAttribute> entries = {
      entry("warps", warps),    entry("rows", rowsPerWarp),
      entry("vsplit", vBlocks), entry("ksplit", kSplit),
      entry("window", window),  entry("stages", stages),
      entry("kernels", kernels)};
  if (kernels == 2)
    entries.push_back(entry("free", freeWindow));
  return builder.getDictionaryAttr(entries);
}

GpuMapping GpuMapping::getFreeMapping(int64_t columns) const {
  GpuMapping free;
  free.slices = Slices::Free;
  free.warps = free.window = freeWindow;
  free.blockCols = columns;
  free.stages = 1;
  free.tight = freeTight;
  return free;
}

GpuMapping GpuMapping::getStateMapping() const {
  GpuMapping state = *this;
  state.slices = Slices::State;
  return state;
}

warp::SharedType gpumap::getTileType(ArrayRef<int64_t> lead, int64_t rows,
                                     int64_t cols, Type elementType) {
  SmallVector<int64_t> shape(lead);
  shape.append({rows, cols});
  int64_t bytes = elementType.getIntOrFloatBitWidth() / 8;
  int64_t segments = cols * bytes / 16;
  bool swizzle = segments >= 2 && (segments & (segments - 1)) == 0;
  // Otherwise the distance of rows keeps 8 of them apart in single segments, or
  // 4 in pairs of segments.
  int64_t period = bytes == 4 ? 4 : 2, pad = 0;
  while (!swizzle && (segments + pad * bytes / 16) % period != period / 2)
    pad += 16 / bytes;
  return warp::SharedType::get(elementType.getContext(), shape, elementType,
                               swizzle, pad);
}

/// What a CTA and a head are divided into at most.
static constexpr int64_t kMaxWarps = 16, kMaxBlocks = 32;

/// Can two warps share a chunk's free slice, each with every other slice of the
/// channels? What they sum is put together once, behind the loops.
static bool canSplitChannels(const Program &program) {
  if (program.numPhases() != 1)
    return false;
  for (Node node : program.nodes)
    if (node.form == Form::Wide &&
        cast<RankedTensorType>(node.value.getType()).getDimSize(1) <= 16)
      return false;
  return true;
}

SmallVector<Candidate>
gpumap::enumerateMappings(const Program &program, const OperandPolicy &policy,
                          const ::delta::gpu::GpuTarget &target,
                          const GpuMapOptions &options) {
  const int64_t A = getPaddedChannels(program.stateRows), B = program.stateCols;
  const MappingWork work = MappingWork::get(program, policy);
  SmallVector<Candidate> candidates;
  for (int64_t rows : {16, 32}) {
    if (options.rows && options.rows != rows)
      continue;
    for (int64_t vBlocks = 1; vBlocks <= kMaxBlocks; ++vBlocks) {
      if ((options.vsplit && options.vsplit != vBlocks) || B % vBlocks)
        continue;
      int64_t blockCols = B / vBlocks;
      int64_t warps = (blockCols + rows - 1) / rows;
      if (warps > kMaxWarps || (options.warps && options.warps != warps))
        continue;
      for (int64_t window : {1, 2, 3, 4, 8}) {
        if (options.window && options.window != window)
          continue;
        Candidate start;
        start.mapping.warps = warps;
        start.mapping.rowsPerWarp = rows;
        start.mapping.vBlocks = vBlocks;
        start.mapping.blockCols = blockCols;
        start.mapping.window = window;
        for (int64_t stages : {2, 1, 3}) {
          if (options.stages && options.stages != stages)
            continue;
          // Two kernels are for few heads, whose number must be known.
          if (stages == 2 && window != 3 && options.kernels != 1 &&
              options.kernels <= 2 && options.ksplit < 2 &&
              (options.kernels == 2 || options.free || options.sequences > 0)) {
            Candidate candidate = start;
            GpuMapping &mapping = candidate.mapping;
            mapping.kernels = 2;
            Arrays arrays(program, mapping.getStateMapping(), policy);
            mapping.sharedBytes = arrays.getBytes();
            if (estimateFreeKernel(program, work, A, policy, target,
                                   options.free, candidate))
              estimateStateKernel(work, A,
                                  candidate.recordBytes +
                                      getInputBytes(arrays, program.chunk),
                                  target, options, candidate);
            if (candidate.recordBytes > 0)
              candidates.push_back(candidate);
          }
          if (options.kernels > 1 || options.free ||
              (stages == 3 ? warps + window > kMaxWarps
                           : window > warps || window == 3))
            continue;
          for (int64_t kSplit : {1, 2}) {
            if ((options.ksplit && options.ksplit != kSplit) ||
                (kSplit > 1 && (stages == 3 || window * kSplit != warps ||
                                !canSplitChannels(program))))
              continue;
            Candidate candidate = start;
            GpuMapping &mapping = candidate.mapping;
            mapping.kSplit = kSplit;
            mapping.stages = stages;
            mapping.sharedBytes = Arrays(program, mapping, policy).getBytes();

            estimateRegisters(work, A, target, candidate);
            estimateTime(work, A, target, options, candidate);
            candidates.push_back(candidate);
          }
        }
      }
    }
  }
  return candidates;
}

/// The cheapest one that fits; null when none does.
static const Candidate *findBest(ArrayRef<Candidate> candidates) {
  const Candidate *best = nullptr;
  for (const Candidate &candidate : candidates)
    if (candidate.ctas > 0 && (!best || candidate.cost < best->cost))
      best = &candidate;
  return best;
}

bool gpumap::hasMapping(const Program &program, const OperandPolicy &policy,
                        const ::delta::gpu::GpuTarget &target,
                        const GpuMapOptions &options) {
  return findBest(enumerateMappings(program, policy, target, options));
}

bool gpumap::isPinned(const GpuMapOptions &options) {
  return options.warps || options.rows || options.vsplit || options.ksplit ||
         options.window || options.stages || options.kernels || options.free;
}

/// Says why none of `candidates` fits, and what does.
static void explainFailure(const Program &program, const OperandPolicy &policy,
                           const ::delta::gpu::GpuTarget &target,
                           const GpuMapOptions &options,
                           ArrayRef<Candidate> candidates) {
  const bool pinned = isPinned(options);
  auto error = program.function.emitError()
               << "no mapping of a " << program.stateRows << " x "
               << program.stateCols << " state "
               << (pinned ? "with the pinned choices " : "") << "fits "
               << target.getName() << ": ";
  // Of two kernels the one that needs more.
  auto getBytes = [](const Candidate &candidate) {
    return std::max(candidate.mapping.sharedBytes, candidate.freeSharedBytes);
  };
  std::optional<int64_t> smallest;
  const Candidate *roomiest = nullptr; // by registers for the state
  auto getRoom = [](const Candidate &candidate) {
    return candidate.registerLimit * 32 / candidate.mapping.rowsPerWarp;
  };
  for (const Candidate &candidate : candidates) {
    if (!roomiest || getRoom(candidate) > getRoom(*roomiest))
      roomiest = &candidate;
    if (candidate.holdsState)
      smallest =
          std::min(smallest.value_or(getBytes(candidate)), getBytes(candidate));
  }
  if (roomiest && !smallest) {
    int64_t rows = roomiest->mapping.rowsPerWarp;
    int64_t beside = getSliceRegisters(policy);
    int64_t most = (roomiest->registerLimit - beside) * 32 / rows;
    error << "with rows=" << rows << " a lane holds "
          << getStateRegisters(getPaddedChannels(program.stateRows), rows)
          << " registers of the state and takes " << beside
          << " for operands and sums, and there are " << roomiest->registerLimit
          << "; at most " << most / 16 * 16 << " rows of the state fit";
  } else if (smallest) {
    error << "the smallest needs " << *smallest
          << " bytes of shared memory a CTA, and there are "
          << target.getSharedPerCta();
    // What is copied and prepared grows with the state's rows.
    int64_t most = program.stateRows * target.getSharedPerCta() / *smallest;
    if (!pinned && most >= 16)
      error << "; about " << most / 16 * 16 << " rows of the state fit";
  } else if (options.kernels > 2) {
    error << "kernels is 1 or 2";
  } else if (options.free && options.kernels == 1) {
    error << "free belongs to kernels=2";
  } else if (options.kernels == 2 || options.free) {
    error << "there is none (with kernels=2, ksplit is 1, stages is 2, window "
             "and free are 1, 2, 4 or 8, rows is 16 or 32, and warps * rows * "
             "vsplit covers the "
          << program.stateCols << " columns, which vsplit divides)";
  } else if (pinned) {
    error
        << "there is none (rows is 16 or 32, warps * rows * vsplit covers the "
        << program.stateCols
        << " columns and vsplit divides them, window is "
           "1, 2, 4 or 8 and at most warps, or up to 16 - warps with stages=3; "
           "with ksplit=2 it is half of warps, without stages=3)";
  } else {
    error << "a CTA takes at most " << kMaxWarps * 32 << " columns, and "
          << program.stateCols << " has no divisor up to " << kMaxBlocks
          << " that leaves as few";
  }
  if (pinned) {
    GpuMapOptions unpinned;
    unpinned.precision = options.precision;
    unpinned.sequences = options.sequences;
    SmallVector<Candidate> all =
        enumerateMappings(program, policy, target, unpinned);
    if (const Candidate *best = findBest(all)) {
      const GpuMapping &m = best->mapping;
      error << "; without them warps=" << m.warps << ",rows=" << m.rowsPerWarp
            << ",vsplit=" << m.vBlocks << ",ksplit=" << m.kSplit
            << ",window=" << m.window << ",stages=" << m.stages
            << ",kernels=" << m.kernels << " fits";
      return;
    }
  }
  error << "; use --fn=decode, --target=cpu or smaller dims";
}

FailureOr<Candidate>
gpumap::chooseCandidate(const Program &program, const OperandPolicy &policy,
                        const ::delta::gpu::GpuTarget &target,
                        const GpuMapOptions &options) {
  SmallVector<Candidate> candidates =
      enumerateMappings(program, policy, target, options);
  if (const Candidate *best = findBest(candidates))
    return *best;
  explainFailure(program, policy, target, options, candidates);
  return failure();
}

FailureOr<GpuMapping>
gpumap::chooseMapping(const Program &program, const OperandPolicy &policy,
                      const ::delta::gpu::GpuTarget &target,
                      const GpuMapOptions &options) {
  FailureOr<Candidate> best =
      chooseCandidate(program, policy, target, options);
  if (failed(best))
    return failure();
  return best->mapping;
}

int64_t gpumap::countMmaFlops(const Program &program,
                              const OperandPolicy &policy,
                              const GpuMapping &mapping) {
  const int64_t C = program.chunk, A = getPaddedChannels(program.stateRows),
                B = mapping.warps * mapping.rowsPerWarp * mapping.vBlocks;
  // How often the free slice is computed.
  const int64_t repeats = mapping.kernels == 2 ? 1 : mapping.vBlocks;
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
      flops += repeats *
               (anchored ? static_cast<int64_t>(gram.getGrams().size()) * 2 *
                               C * C * channels
                         : 4 * ((rows + 1) / 2) * cols * 2 * 16 * 8 * channels);
      for (unsigned row = 0; row < rows; ++row)
        for (unsigned col = 0; col < cols; ++col)
          if (!anchored && gram.getMask(row, col) == "diagonal" &&
              isDiagonalOfProduct(program, policy, gram, row, col))
            flops += repeats * 2 * C * C * channels;
    } else if (auto matmul = dyn_cast<MatmulOp>(op)) {
      if (matmul.getTransposeRhs())
        flops += repeats * 2 * C * C * getChannels(matmul.getLhs());
      else if (program.isStateShaped(matmul.getResult()) ||
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
