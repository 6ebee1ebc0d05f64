//===- MappingCost.cpp - What a mapping costs -----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Estimated registers, instructions and time of a mapping, fitted to the
// assembler's reports and to measurements on an H200 (benchmarks/RESULTS.md).
//
//===----------------------------------------------------------------------===//

#include "MappingCost.h"
#include "delta/Target/NVPTX/GpuTarget.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

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

/// Is a state an operand or the result?
static bool hasState(const Program &program, MatmulOp matmul) {
  return program.isStateShaped(matmul.getRhs()) ||
         program.isStateShaped(matmul.getResult());
}

/// The same for the products of the state slice and 16 rows.
static double countStateWork(const Program &program) {
  double work = 0.0;
  for (Operation &op : program.function.front())
    if (auto matmul = dyn_cast<MatmulOp>(op))
      if (program.dependsOnState(matmul.getResult()))
        work += hasState(program, matmul) ? 3.0 : 0.5;
  return work + 6.0;
}

/// Products with the state, or that add to it, for which a warp loads a factor
/// of each slice.
static int64_t countStateProducts(const Program &program) {
  int64_t count = 0;
  for (Operation &op : program.function.front())
    if (auto matmul = dyn_cast<MatmulOp>(op))
      if (program.dependsOnState(matmul.getResult()))
        count += hasState(program, matmul);
  return count;
}

MappingWork MappingWork::get(const Program &program,
                             const OperandPolicy &policy) {
  MappingWork work;
  work.slice = countSliceWork(program);
  work.state = countStateWork(program);
  work.products = countStateProducts(program);
  for (Node node : program.nodes)
    if (auto gram = node.value.getDefiningOp<DecayGramOp>())
      work.operands = std::max<int64_t>(
          work.operands, gram.getRows().size() + gram.getCols().size());
  for (Operation *op : program.systems)
    work.steps =
        std::max<int64_t>(work.steps, cast<TriSolveOp>(op).getRhs().size());
  work.beside = getSliceRegisters(policy);
  work.saves = !program.signature.getArgs(ArgKind::Checkpoint).empty();
  return work;
}

int64_t gpumap::getStateRegisters(int64_t A, int64_t rows) {
  return rows * A / 32;
}

int64_t gpumap::getSliceRegisters(const OperandPolicy &policy) {
  return policy.type.isF32() ? 28 : 24;
}

void gpumap::estimateRegisters(const MappingWork &work, int64_t A,
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

void gpumap::estimateTime(const MappingWork &work, int64_t A,
                          const ::delta::gpu::GpuTarget &target,
                          const GpuMapOptions &options, Candidate &candidate) {
  const GpuMapping &mapping = candidate.mapping;
  if (mapping.sharedBytes <= target.getSharedPerCta() && candidate.holdsState)
    candidate.ctas = target.getOccupancy(
        mapping.getThreads(), candidate.registers, mapping.sharedBytes);
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

int64_t gpumap::getInputBytes(const Arrays &arrays, int64_t tokens) {
  int64_t bytes = 0;
  for (const StagedInput &input : arrays.inputs)
    bytes += tokens * input.width * input.type.getElementBytes();
  return bytes;
}

bool gpumap::estimateFreeKernel(const Program &program, const MappingWork &work,
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

void gpumap::estimateStateKernel(const MappingWork &work, int64_t A,
                                 int64_t copied,
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
