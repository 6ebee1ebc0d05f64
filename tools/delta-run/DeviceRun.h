//===- DeviceRun.h - running on a GPU or simulator -------------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What both halves of delta-run do with a kernel for a GPU, once there is one.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_TOOLS_DELTA_RUN_DEVICERUN_H
#define DELTA_TOOLS_DELTA_RUN_DEVICERUN_H

#include "RunOptions.h"
#include "delta/Runtime/Device.h"

namespace delta::run {

/// How a part of a run ended: with an error and the status to exit with, or
/// well, with status 0.
struct Outcome {
  int status = 0;
  std::string message;
};

constexpr int kFailure = 1, kFinding = 2, kAbsent = 3;

/// Opens the device that the options name, which is not the CPU. Null, with the
/// outcome set, when there is none.
std::unique_ptr<runtime::Device> openDevice(const RunOptions &options,
                                            Outcome &outcome);

/// Runs the kernel on the arrays of the invocation. Faults that the simulator
/// finds are printed on stderr, the line of --bench on standard output, and
/// counters are written where --stats says. `flops` is the work of one launch,
/// `name` the kernel's in the line of --bench.
Outcome runOnDevice(runtime::Device &device, const RunOptions &options,
                    const std::string &name,
                    const runtime::BundleKernel &kernel, double flops,
                    const runtime::Invocation &invocation);

} // namespace delta::run

#endif // DELTA_TOOLS_DELTA_RUN_DEVICERUN_H
