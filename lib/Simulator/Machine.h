//===- Machine.h - warps and CTAs at work -----------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The state of execution. A warp runs its lanes in lockstep under a mask; a
// divergent branch pushes the other side and the place where both meet (the
// branch's immediate post-dominator) on a stack. A CTA runs its warps in turn,
// each up to a barrier.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_MACHINE_H
#define DELTA_LIB_SIMULATOR_MACHINE_H

#include "Program.h"
#include "SharedShadow.h"
#include "delta/Simulator/Launch.h"

#include <atomic>
#include <map>
#include <memory>

namespace delta::sim {

struct Cta;

/// One cp.async of one lane on its way.
struct AsyncCopy {
  uint32_t lane, group; ///< the lane's own count of committed groups
  uint32_t offset, bytes, pc;
};

struct Warp {
  uint8_t *registers = nullptr;
  uint32_t *predicates = nullptr;
  uint32_t pc = 0;
  uint32_t active = 0;         ///< lanes that execute at pc
  uint32_t live = 0;           ///< lanes that have not exited
  uint32_t reconverge = kNone; ///< where the top of the stack takes over
  enum Status : uint8_t { Ready, Waiting, Done } status = Ready;
  unsigned index = 0;
  Cta *cta = nullptr;
  uint32_t carry = 0; ///< the condition code of add.cc and friends
  uint64_t steps = 0;
  uint32_t exitPc = 0;

  struct StackEntry {
    uint32_t pc, reconverge, mask;
  };
  std::vector<StackEntry> stack;

  /// Where the warp waits.
  unsigned barrier = 0;
  uint32_t barrierPc = 0;

  std::vector<AsyncCopy> copies;
  std::array<uint32_t, kLanes> committed{}; ///< cp.async groups

  /// Lanes in which a tracked register has been written, by its number.
  std::vector<uint32_t> initialized;

  std::vector<uint8_t> local, localShadow; ///< lane-major
  std::vector<uint8_t> registerStorage;
  std::vector<uint32_t> predicateStorage;

  uint32_t *r32(uint32_t slot) {
    return reinterpret_cast<uint32_t *>(registers + slot);
  }
  uint64_t *r64(uint32_t slot) {
    return reinterpret_cast<uint64_t *>(registers + slot);
  }
  /// Ends the lanes of `mask`.
  void exit(uint32_t mask);
  /// Goes on with what the stack says next.
  void pop();
};

struct Barrier {
  uint32_t expected = 0; ///< threads; 0 when nobody is here
  uint32_t count = 0;    ///< threads that have come
  uint32_t waiting = 0;  ///< warps
  std::vector<std::pair<unsigned, uint32_t>> arrived; ///< warps and times
  uint32_t popc = 0; ///< of predicates, for bar.red
  uint32_t threads = 0;
};

struct LaunchState;

struct Cta {
  LaunchState *launch = nullptr;
  const KernelProgram *program = nullptr;
  std::array<uint32_t, 3> id{};
  uint64_t linear = 0;
  std::vector<Warp> warps;
  std::vector<uint8_t> shared;
  uint32_t sharedBytes = 0;
  SharedShadow shadow;
  std::array<Barrier, 16> barriers;
  bool failed = false; ///< a finding that ends it
  Stats *stats = nullptr;
  uint64_t *counts = nullptr; ///< executions by instruction
  std::vector<Finding> findings;
  std::map<std::pair<uint32_t, int>, size_t> findingIndex;
  uint64_t steps = 0;

  /// Records a finding at the instruction `pc`, merged with an earlier one of
  /// its kind there.
  void report(FindingKind kind, Warp &warp, int lane, uint32_t pc,
              std::string text);
  /// True when a finding of this kind at this place is there already; then it
  /// is counted, and the text need not be made.
  bool known(FindingKind kind, uint32_t pc);
  /// "'name'+OFFSET" or "offset OFFSET".
  std::string describeShared(uint64_t offset) const;
  unsigned lineOf(uint32_t pc) const { return program->code[pc].line; }
  std::string describe(uint32_t pc) const;

  void start(uint64_t linear);
  void run();
  void runWarp(Warp &warp, uint64_t quantum);
  bool releaseBarriers();
  void reportDeadlock();
};

/// Which CTA stored to global memory: for every two bytes of an allocation the
/// first CTA in number with its instruction, and whether there was another.
class GlobalWriters {
public:
  /// Follows the allocations that `memory` has now, when they are not too
  /// large.
  void reset(const Memory &memory);

  /// Plain stores by a CTA. May be called from several threads.
  void record(uint64_t address, uint32_t bytes, uint64_t cta, uint32_t pc);

  /// Calls f(allocation, offset, cta, pc, count) for every allocation with
  /// places that several CTAs stored to: the first one, and how many there are.
  template <typename F> void conflicts(F f) const;

private:
  struct Table {
    std::unique_ptr<std::atomic<uint64_t>, void (*)(void *)> cells{nullptr,
                                                                   std::free};
    uint64_t base = 0, count = 0;
    const Memory::Allocation *allocation = nullptr;
  };
  static constexpr uint64_t kMaxBytes = uint64_t(1) << 24;
  static constexpr uint64_t kConflict = uint64_t(1) << 63;
  static constexpr unsigned kPcBits = 24;
  std::vector<Table> tables;
  std::atomic<bool> any{false};
};

template <typename F> void GlobalWriters::conflicts(F f) const {
  if (!any.load())
    return;
  for (const Table &table : tables) {
    uint64_t first = 0, found = 0;
    for (uint64_t i = 0; i < table.count; ++i)
      if (table.cells.get()[i].load(std::memory_order_relaxed) & kConflict) {
        first = found ? first : i;
        ++found;
      }
    if (!found)
      continue;
    uint64_t cell = table.cells.get()[first].load() & ~kConflict;
    f(*table.allocation, 2 * first, (cell >> kPcBits) - 1,
      uint32_t(cell & ((1u << kPcBits) - 1)), found);
  }
}

/// What all CTAs of a launch share.
struct LaunchState {
  const Program *module = nullptr;
  const KernelProgram *program = nullptr;
  Memory *memory = nullptr;
  std::vector<uint64_t> globalAddresses; ///< of the module's variables
  std::vector<uint8_t> params;
  Dim3 grid, block;
  uint32_t dynamicSharedBytes = 0;
  LaunchOptions options;
  GlobalWriters writers;
};

/// The lanes' loop of a handler: calls f(lane) for the lanes of mask.
template <typename F> inline void forLanes(uint32_t mask, F &&f) {
  if (mask == kFullMask) {
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      f(lane);
    return;
  }
  for (; mask; mask &= mask - 1)
    f(static_cast<uint32_t>(__builtin_ctz(mask)));
}

} // namespace delta::sim

#endif // DELTA_LIB_SIMULATOR_MACHINE_H
