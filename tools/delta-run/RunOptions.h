//===- RunOptions.h - the options of a run ---------------------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What delta-run is asked for beyond compiling, the same for a spec and for a
// bundle. No LLVM here.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_TOOLS_DELTA_RUN_RUNOPTIONS_H
#define DELTA_TOOLS_DELTA_RUN_RUNOPTIONS_H

#include "delta/Runtime/Binding.h"

#include <optional>
#include <string>

namespace delta::run {

/// The texts of the command line; unset: not given.
struct RunFlags {
  std::optional<std::string> input, output, device, tolerance, random, stats;
  bool reference = false, emulate = false, grad = false, check = false,
       bench = false;
};

enum class DeviceKind { Cpu, Sim, Cuda };

/// "cpu", "sim", "cuda".
const char *nameOf(DeviceKind kind);

struct RunOptions {
  std::string input;  ///< .npz; empty with `random`
  std::string output; ///< .npz; empty: results are not kept
  std::optional<runtime::RandomOptions> random;
  DeviceKind device = DeviceKind::Cpu;
  std::string stats; ///< empty: no counters are written
  bool reference = false;
  bool emulate = false; ///< the chunk program in the target's precision
  bool grad = false;    ///< gradients, not outs
  bool check = false;
  bool bench = false;
  std::optional<double> tolerance;
  unsigned threads = 0; ///< 0: as many as the process may use
};

/// Validates the flags; `threads` is the text of DELTA_NUM_THREADS, or null.
/// Nothing is written, but what --output could not be is refused.
runtime::Expected<RunOptions> readRunOptions(const RunFlags &flags,
                                             const char *threads);

} // namespace delta::run

#endif // DELTA_TOOLS_DELTA_RUN_RUNOPTIONS_H
