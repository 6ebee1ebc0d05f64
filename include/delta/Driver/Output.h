//===- Output.h - writing what was made -------------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A file appears whole or not at all.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_DRIVER_OUTPUT_H
#define DELTA_DRIVER_OUTPUT_H

#include "delta/Driver/Report.h"

namespace delta::driver {

/// Writes `contents` to `path`; "-" is standard output, to which `binary`
/// contents only go when it is no terminal. A regular file is written beside
/// its place and renamed; a device, and what a link refers to, is written to.
llvm::LogicalResult writeOutput(llvm::StringRef path, llvm::StringRef contents,
                                bool binary, Reporter &reporter);

/// The refusals of `writeOutput` that are known before there are contents:
/// binary to a terminal, a directory, a folder that does not exist or may not
/// be written to.
llvm::LogicalResult checkOutput(llvm::StringRef path, bool binary,
                                Reporter &reporter);

/// Flushes standard output, and reports what could not be written.
llvm::LogicalResult flushOutput(Reporter &reporter);

} // namespace delta::driver

#endif // DELTA_DRIVER_OUTPUT_H
