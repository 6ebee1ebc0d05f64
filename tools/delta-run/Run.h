//===- Run.h - what delta-run does ------------------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// From arrays in a file, or random ones, to results in a file, a comparison or
// a measurement.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_TOOLS_DELTA_RUN_RUN_H
#define DELTA_TOOLS_DELTA_RUN_RUN_H

#include "RunOptions.h"
#include "delta/Analysis/WorkCount.h"
#include "delta/Driver/Compilation.h"
#include "delta/Driver/Execution.h"
#include "delta/Driver/Options.h"
#include "delta/Driver/Report.h"
#include "delta/Runtime/ThreadPool.h"

#include <optional>
#include <string>

namespace delta::run {

/// Does what the options ask for. The status to exit with: Ok, or Mismatch when
/// a check failed; any other failure has been reported.
llvm::FailureOr<driver::Exit> run(const driver::CompilerOptions &compiler,
                                  const RunOptions &options,
                                  driver::Reporter &reporter);

} // namespace delta::run

#endif // DELTA_TOOLS_DELTA_RUN_RUN_H
