//===- BundleRun.h - running a bundle --------------------------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The half of delta-run that needs no compiler: from a bundle and arrays to
// results in a file or a measurement.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_TOOLS_DELTA_RUN_BUNDLERUN_H
#define DELTA_TOOLS_DELTA_RUN_BUNDLERUN_H

#include <string>
#include <vector>

namespace delta::run {

/// Runs the bundle that the arguments name, or for gradients the two. Returns
/// the status to exit with: 0, 1 after an error, 2 for a finding of the
/// simulator, 3 when a device is absent; errors go to stderr.
int runBundle(const std::vector<std::string> &arguments);

} // namespace delta::run

#endif // DELTA_TOOLS_DELTA_RUN_BUNDLERUN_H
