//===- Mapping.cpp - How a chunk program is laid out on a GPU -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The candidates and the choice among them.
//
//===----------------------------------------------------------------------===//

#include "Mapping.h"
#include "Arrays.h"

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
      work += 60.0 * (gram.getRows().size() + gram.getCols().size()) + 90.0;
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
        work +=
            program.isStateShaped(matmul.getRhs()) || matmul.getTransposeLhs()
                ? 3.0
                : 0.5;
  return work + 6.0;
}

/// Products with the state, or that add to it, for which a warp loads a factor
/// of each slice.
static int64_t countStateProducts(const Program &program) {
  int64_t count = 0;
  for (Operation &op : program.function.front())
    if (auto matmul = dyn_cast<MatmulOp>(op))
      if (program.dependsOnState(matmul.getResult()))
        count +=
            program.isStateShaped(matmul.getRhs()) || matmul.getTransposeLhs();
  return count;
}

namespace {
/// What the estimates start from.
struct Work {
  double slice, state;
  int64_t products;
  int64_t operands = 0; // of the largest decay-Gram
  int64_t steps = 1;    // of the largest system
  bool saves = false;   // states
  int64_t beside = 0;   // registers of the state slice beside the state
};
} // namespace

/// Registers of a lane that a warp's part of the state takes.
static int64_t getStateRegisters(int64_t A, int64_t rows) {
  return rows * A / 32;
}

/// What the state slice needs beside the state: an accumulator, both operands
/// of an instruction and their addresses. Without them nothing can be computed.
static int64_t getSliceRegisters(const OperandPolicy &policy) {
  return policy.type.isF32() ? 28 : 24;
}

/// Registers: the state, and what the slices take beside it, addresses kept or
/// (where the candidate is tight) computed anew. Read off the assembler's
/// reports for the library's recurrences.
static void estimateRegisters(const Work &work, int64_t A,
                              const ::delta::gpu::GpuTarget &target,
                              Candidate &candidate) {
  GpuMapping &mapping = candidate.mapping;
  int64_t state = getStateRegisters(A, mapping.rowsPerWarp);
  int64_t most = std::min<int64_t>(
      255, target.getRegisterBudget(mapping.getThreads(), 1) + 7);
  int64_t kept =
      (work.operands ? 115 + 16 * work.operands : 120) + 70 * (work.steps - 1) +
      (work.saves ? 12 : 0) +
      (target.getCapability() < 90 ? 6 : 0); // no stmatrix: more addresses
  int64_t renewed = (work.operands ? 94 + 6 * work.operands +
                                         (target.getCapability() < 90 ? 12 : 0)
                                   : 113) +
                    (14 + 4 * (mapping.kSplit - 1)) * (work.steps - 1);
  mapping.tight = mapping.isOverlapped() || kept + state > most - 7;
  int64_t needed = mapping.isOverlapped() ? std::max(renewed, state + 60)
                   : mapping.tight        ? renewed + state
                                          : kept + state;
  candidate.spilled = std::max<int64_t>(0, needed - most);
  candidate.registerLimit = most;
  candidate.holdsState = state + work.beside <= most;
  int64_t wanted = mapping.tight ? most : needed + 40;
  candidate.registers = std::min(wanted, most) / 8 * 8;
}

/// Cycles, fitted to measurements on an H200. The state slice of one CTA is
/// bound by its chain of dependent products, or by the factors that all warps
/// read from shared memory; a free slice by its one warp, or by the issue slots
/// that the window's warps share.
static void estimateTime(const Work &work, int64_t A,
                         const ::delta::gpu::GpuTarget &target,
                         const GpuMapOptions &options, Candidate &candidate) {
  const GpuMapping &mapping = candidate.mapping;
  if (mapping.sharedBytes <= target.getSharedPerCta() && candidate.holdsState)
    candidate.ctas = target.getOccupancy(mapping.getThreads(),
                                         candidate.registers,
                                         mapping.sharedBytes);
  const double window = mapping.window, warps = mapping.warps;
  double loop = work.slice * A / 16, free = loop + 250.0;
  // Of one warp.
  double own = loop / mapping.kSplit + 250.0 + 50.0 * (mapping.kSplit - 1);
  double chain = work.state * mapping.rowsPerWarp / 16 * A / 16 + 60.0;
  candidate.issue = (free + warps * chain) / 4.0;
  candidate.shared =
      warps * 1.7 *
      (4.0 * (A / 16) * static_cast<double>(work.products) + 24.0);
  // Few heads: every CTA has a multiprocessor to itself, and one head may have
  // several.
  const bool alone = options.sequences > 0 &&
                     2 * options.sequences <= target.getNumSMs() &&
                     options.sequences * mapping.vBlocks <= target.getNumSMs();
  double state = alone && mapping.isOverlapped()
                     ? 3.0 * chain + 0.5 * candidate.shared
                     : std::max(6.2 * chain, candidate.shared);
  candidate.latency =
      mapping.isOverlapped()
          ? std::max(2.5 * free / window, state) + 250.0
          : std::max(1.4 * own / window, 1.05 * free / 4.0) + state;
  if (candidate.ctas == 0)
    return;
  // CTAs that a multiprocessor has at once, and how often.
  double resident = candidate.ctas, rounds = 1.0, heads = resident;
  if (options.sequences > 0) {
    double each = std::ceil(static_cast<double>(options.sequences) *
                            mapping.vBlocks / target.getNumSMs());
    resident = std::min(resident, each);
    rounds = std::ceil(each / resident);
    heads = static_cast<double>(options.sequences) * mapping.vBlocks /
            target.getNumSMs();
  }
  double bounds[] = {resident * candidate.issue, resident * candidate.shared,
                     candidate.latency};
  double time = *std::max_element(bounds, bounds + 3) + 0.2 * bounds[0];
  // Another share of the columns repeats the free slice and its loads, which is
  // of little account where multiprocessors would be idle; with one stage,
  // copies are waited for.
  candidate.cost = rounds * time / heads * mapping.vBlocks *
                   (1.0 + (alone ? 0.02 : 0.25) * (mapping.vBlocks - 1)) *
                   (mapping.stages == 1 ? 1.15 : 1.0);
  if (candidate.spilled)
    candidate.cost *= 1.5 + 0.02 * candidate.spilled;
}

/// Bytes that a multiprocessor's share of the memory moves in a cycle, and that
/// it reads from the cache where all do.
static constexpr double kBytesPerCycle = 17.8, kCachedPerCycle = 22.0;

/// Bytes of the inputs that a kernel copies for a chunk.
static int64_t getInputBytes(const Arrays &arrays, int64_t tokens) {
  int64_t bytes = 0;
  for (const StagedInput &input : arrays.inputs)
    bytes += tokens * input.width * input.type.getElementBytes();
  return bytes;
}

/// The first of two kernels: as many warps as fit beside each other, a chunk
/// each, or so many as `free` says. It is bound by the memory as a rule.
static bool estimateFreeKernel(const Program &program, const Work &work,
                               int64_t A, const OperandPolicy &policy,
                               const ::delta::gpu::GpuTarget &target,
                               int64_t free, Candidate &candidate) {
  GpuMapping &mapping = candidate.mapping;
  int64_t most = 0, bytes = 0;
  int64_t registers =
      (work.operands ? 115 + 16 * work.operands : 120) + 70 * (work.steps - 1);
  registers = std::min<int64_t>(255, (registers + 7) / 8 * 8);
  for (int64_t window : {4, 2, 1, 8}) {
    if (free && free != window)
      continue;
    GpuMapping first = mapping;
    first.freeWindow = window;
    Arrays arrays(program, first.getFreeMapping(program.stateCols), policy);
    const int64_t shared = arrays.getBytes();
    candidate.recordBytes = arrays.recordBytes;
    bytes = arrays.recordBytes + getInputBytes(arrays, program.chunk);
    if (!candidate.freeSharedBytes || shared < candidate.freeSharedBytes)
      candidate.freeSharedBytes = shared;
    int64_t ctas = target.getOccupancy(window * 32, registers, shared);
    if (ctas * window <= most)
      continue;
    most = ctas * window;
    mapping.freeWindow = window;
    mapping.freeCtas = ctas;
    candidate.freeSharedBytes = shared;
  }
  double own = work.slice * A / 16 + 250.0;
  candidate.free = 1.12 * std::max({1.4 * own / std::max<int64_t>(most, 1),
                                    1.05 * own / 4.0, bytes / kBytesPerCycle});
  return most > 0;
}

/// The second one: no slice but the state's, for which a chunk's record and
/// what is read of the inputs is copied. Fitted to CTAs that are alone on their
/// multiprocessors.
static void estimateStateKernel(const Work &work, int64_t A, int64_t copied,
                                const ::delta::gpu::GpuTarget &target,
                                const GpuMapOptions &options,
                                Candidate &candidate) {
  GpuMapping &mapping = candidate.mapping;
  int64_t state = getStateRegisters(A, mapping.rowsPerWarp);
  int64_t most = std::min<int64_t>(
      255, target.getRegisterBudget(mapping.getThreads(), 1) + 7);
  int64_t needed = state + 90 + (work.saves ? 12 : 0);
  mapping.tight = needed > most;
  candidate.spilled = std::max<int64_t>(0, state + 60 - most);
  candidate.registerLimit = most;
  candidate.holdsState = state + work.beside <= most;
  candidate.registers = std::min(needed + 20, most) / 8 * 8;
  if (candidate.holdsState)
    candidate.ctas = target.getOccupancy(
        mapping.getThreads(), candidate.registers, mapping.sharedBytes);
  const double warps = mapping.warps, window = mapping.window;
  double chain = (work.state * A / 16 + 60.0) * mapping.rowsPerWarp / 16;
  double copies = 5.0 * static_cast<double>(copied) / 512.0; // instructions
  candidate.issue = (warps * chain + copies) / 4.0;          // a warp's own
  candidate.shared =
      warps * 1.7 *
      (4.0 * (A / 16) * static_cast<double>(work.products) + 24.0);
  candidate.latency =
      std::max(2.7 * chain + 0.5 * candidate.shared, copies * 2.0) +
      400.0 / (window * window) + 2.0 * window;
  // Twice as many CTAs, of one warp each, were measured to be 0 to 3 % faster:
  // not worth their copies.
  if (mapping.warps == 1)
    candidate.latency += 130.0;
  if (candidate.ctas == 0)
    return;
  const double multiprocessors = target.getNumSMs();
  double resident = candidate.ctas, rounds = 1.0, heads = resident;
  double active = 1.0; // of the multiprocessors
  if (options.sequences > 0) {
    double all = static_cast<double>(options.sequences) * mapping.vBlocks;
    double each = std::ceil(all / multiprocessors);
    resident = std::min(resident, each);
    rounds = std::ceil(each / resident);
    heads = all / multiprocessors;
    active = std::min(1.0, heads);
  }
  // The columns' CTAs find in the cache what the first of them has read.
  double bytes = resident * active * static_cast<double>(copied);
  double bounds[] = {resident * candidate.issue, resident * candidate.shared,
                     bytes / kCachedPerCycle,
                     bytes / mapping.vBlocks / kBytesPerCycle,
                     candidate.latency};
  double time = *std::max_element(bounds, bounds + 5) + 0.2 * bounds[0];
  // A second launch, and a first kernel that has not begun yet.
  double launch = 0.0;
  if (options.sequences > 0 && options.tokens > 0)
    launch = (6000.0 + 1.4 * (work.slice * A / 16 + 250.0)) * multiprocessors *
             16.0 /
             (static_cast<double>(options.sequences) *
              static_cast<double>(options.tokens));
  candidate.cost = rounds * time / heads * mapping.vBlocks *
                       (1.0 + 0.01 * (mapping.vBlocks - 1)) +
                   candidate.free + launch;
  if (candidate.spilled)
    candidate.cost *= 1.5 + 0.02 * candidate.spilled;
}

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
  Work work{countSliceWork(program), countStateWork(program),
            countStateProducts(program)};
  for (Node node : program.nodes)
    if (auto gram = node.value.getDefiningOp<DecayGramOp>())
      work.operands = std::max<int64_t>(
          work.operands, gram.getRows().size() + gram.getCols().size());
  for (Operation *op : program.systems)
    work.steps = std::max<int64_t>(work.steps,
                                   cast<TriSolveOp>(op).getRhs().size());
  work.beside = getSliceRegisters(policy);
  work.saves = !program.signature.getArgs(ArgKind::Checkpoint).empty();
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
        for (int64_t stages : {2, 1, 3}) {
          if (options.stages && options.stages != stages)
            continue;
          // Two kernels are for few heads, whose number must be known.
          if (stages == 2 && window != 3 && options.kernels != 1 &&
              options.kernels <= 2 && options.ksplit < 2 &&
              (options.kernels == 2 || options.free || options.sequences > 0)) {
            Candidate candidate;
            GpuMapping &mapping = candidate.mapping;
            mapping.warps = warps;
            mapping.rowsPerWarp = rows;
            mapping.vBlocks = vBlocks;
            mapping.blockCols = blockCols;
            mapping.window = window;
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
            Candidate candidate;
            GpuMapping &mapping = candidate.mapping;
            mapping.warps = warps;
            mapping.rowsPerWarp = rows;
            mapping.vBlocks = vBlocks;
            mapping.blockCols = blockCols;
            mapping.kSplit = kSplit;
            mapping.window = window;
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
      smallest = std::min(smallest.value_or(getBytes(candidate)),
                          getBytes(candidate));
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

FailureOr<GpuMapping>
gpumap::chooseMapping(const Program &program, const OperandPolicy &policy,
                      const ::delta::gpu::GpuTarget &target,
                      const GpuMapOptions &options) {
  SmallVector<Candidate> candidates =
      enumerateMappings(program, policy, target, options);
  if (const Candidate *best = findBest(candidates))
    return best->mapping;
  explainFailure(program, policy, target, options, candidates);
  return failure();
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
