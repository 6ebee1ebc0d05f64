//===- Stats.h - the simulator's counters -----------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a launch counts, and its JSON form, the same for every tool.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_SIMULATOR_STATS_H
#define DELTA_SIMULATOR_STATS_H

#include "delta/Runtime/Status.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace delta::sim {

/// Classes of instructions that are counted apart.
enum class InstructionClass : uint8_t {
  Mma,
  MatrixLoad,  ///< ldmatrix
  MatrixStore, ///< stmatrix
  SharedLoad,
  SharedStore,
  AsyncCopy,
  GlobalLoad,
  GlobalStore,
  LocalMemory,
  ParamLoad,
  Atomic,
  Special, ///< ex2, lg2, rcp, rsqrt, sin, cos, tanh, division
  Float32,
  Float64,
  Float16, ///< f16, bf16 and their pairs
  Convert,
  Shuffle, ///< shfl, vote, match, redux, movmatrix
  Integer,
  Move, ///< mov, selp, cvta
  Control,
  Barrier, ///< bar, barrier, bar.warp.sync, fences
  Count
};

/// "mma", "matrix_load"...
const char *nameOf(InstructionClass cls);

/// Counters of one launch, summed over all CTAs.
struct Stats {
  std::string kernel;
  uint64_t ctas = 0;
  uint64_t threads = 0;         ///< of one CTA
  uint64_t globalLoadBytes = 0; ///< what active lanes ask for, cp.async too
  uint64_t globalStoreBytes = 0;
  uint64_t globalSectors = 0; ///< distinct 32-byte sectors an instruction, sum
  uint64_t sharedBytesPerCta = 0;
  uint64_t sharedBankConflicts = 0; ///< wavefronts beyond ceil(bytes / 128)
  uint64_t sharedWavefronts = 0;
  uint64_t mmaFlops = 0;
  uint64_t instructions = 0; ///< warp instructions
  uint64_t barriers = 0;     ///< CTA barriers, counted once for every warp
  uint64_t ex2 = 0;          ///< exponentials, counted by active lane
  uint64_t globalLoadSectors = 0, globalStoreSectors = 0;
  uint64_t barrierPhases = 0; ///< CTA barriers, counted once for the CTA
  uint64_t divergentBranches = 0;
  std::array<uint64_t, size_t(InstructionClass::Count)> byClass{};

  /// Adds the counters of another part of the same launch.
  void add(const Stats &other);
};

/// A JSON list with one object a launch, keys in a fixed order.
std::string toJson(const std::vector<Stats> &launches);

/// Writes toJson to a file. Errors name the file and the reason.
runtime::Status writeStats(const std::string &path,
                           const std::vector<Stats> &launches);

} // namespace delta::sim

#endif // DELTA_SIMULATOR_STATS_H
