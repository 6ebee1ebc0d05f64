//===- Launch.h - executing kernels in the simulator ------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Runs one kernel over a grid: functionally, with checks of memory and of
// synchronisation, and with counters. What a launch computes, finds and counts
// does not depend on the number of host threads.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_SIMULATOR_LAUNCH_H
#define DELTA_SIMULATOR_LAUNCH_H

#include "delta/Simulator/Memory.h"
#include "delta/Simulator/Module.h"
#include "delta/Simulator/Stats.h"

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace delta::sim {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
  uint64_t count() const { return uint64_t(x) * y * z; }
};

/// The values of a kernel's parameters in order.
class Params {
public:
  /// Appends one parameter of a trivially copyable type.
  template <typename T> Params &add(const T &value) {
    static_assert(std::is_trivially_copyable<T>::value, "parameters are bytes");
    const auto *bytes = reinterpret_cast<const uint8_t *>(&value);
    values.emplace_back(bytes, bytes + sizeof(T));
    return *this;
  }
  /// Appends one parameter given as bytes.
  Params &addBytes(std::vector<uint8_t> bytes) {
    values.push_back(std::move(bytes));
    return *this;
  }
  std::vector<std::vector<uint8_t>> values;
};

/// What a checker can find.
enum class FindingKind {
  OutOfBounds,
  Misaligned,
  UninitializedMemory,
  UninitializedRegister,
  SharedRace,
  GlobalRace,
  AsyncCopy,         ///< a copy's destination touched before its wait, or
                     ///< a copy still in flight at the end
  BarrierDivergence, ///< also deadlocks
  WarpDivergence,    ///< lanes missing at a .sync instruction
  InvalidOperand,    ///< an operand value that the ISA leaves undefined
  Trap,
  StepLimit
};

/// "shared-race", "out-of-bounds"...
const char *nameOf(FindingKind kind);

/// One thing a checker found: the first place, and how often.
struct Finding {
  FindingKind kind = FindingKind::OutOfBounds;
  unsigned line = 0; ///< of the PTX file; 0 when there is none
  std::array<uint32_t, 3> cta = {0, 0, 0};
  unsigned warp = 0;
  int lane = -1;            ///< -1 for the whole warp
  std::string text;         ///< without place: lower-case start, no period
  uint64_t occurrences = 1; ///< lanes or instructions with the same finding
};

/// "FILE:LINE: error: KIND: TEXT (cta X,Y,Z warp W lane L; N times)".
std::string format(const Finding &finding, std::string_view file);

struct LaunchOptions {
  unsigned threads = 0;      ///< of the host; 0: all
  uint64_t scheduleSeed = 0; ///< another order of warps for another seed
  unsigned maxFindings = 20; ///< kept; more are only counted
  uint64_t stepLimit = uint64_t(1) << 28; ///< warp instructions of one CTA
  uint32_t maxSharedBytes = 227 * 1024;   ///< of one CTA, static and dynamic
  bool checkRaces = true; ///< off: shared-memory races are not looked for
  bool checkUninitialized = true;
};

struct LaunchResult {
  std::vector<Finding> findings; ///< by CTA, then in order of execution
  uint64_t totalFindings = 0;    ///< those beyond maxFindings included
  Stats stats;
};

/// Runs `kernel` of `module`. Errors (as opposed to findings): no such kernel,
/// parameters of other number or size than declared, a grid or block beyond the
/// ISA's limits or the kernel's, too much shared memory.
runtime::Expected<LaunchResult> launch(const Module &module,
                                       std::string_view kernel, Dim3 grid,
                                       Dim3 block, uint32_t dynamicSharedBytes,
                                       const Params &params, Memory &memory,
                                       const LaunchOptions &options = {});

} // namespace delta::sim

#endif // DELTA_SIMULATOR_LAUNCH_H
