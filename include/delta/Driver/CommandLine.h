//===- CommandLine.h - the tools' flags -------------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Registers with LLVM's command line the flags that delta-compile and delta-run
// share, in categories so that --help is grouped and shows nothing else.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_DRIVER_COMMANDLINE_H
#define DELTA_DRIVER_COMMANDLINE_H

#include "delta/Driver/Options.h"

#include "llvm/Support/CommandLine.h"

namespace delta::driver {

/// The shared flags. Make one in main, before the command line is parsed; the
/// tool's own flags go into `ioCategory` or a category of their own.
class CommandLine {
public:
  CommandLine();

  /// Parses argv with the tool's overview. LLVM reports unknown flags and ends
  /// the process with status 1.
  void parse(int argc, char **argv, llvm::StringRef overview,
             llvm::ArrayRef<llvm::cl::OptionCategory *> more = {});

  /// The values given, validated.
  llvm::FailureOr<CompilerOptions> getOptions(Reporter &reporter) const;

  llvm::cl::OptionCategory ioCategory, compileCategory, inspectCategory;

private:
  llvm::cl::OptionCategory mlirCategory;
  llvm::cl::opt<std::string> input;
  llvm::cl::opt<std::string> target, mcpu, fn, precision, chunk, mapping,
      assume, saveBudget, saveEvery;
  llvm::cl::list<std::string> dims, dtypes, attrs;
  llvm::cl::opt<bool> explain, timing;
  llvm::cl::opt<std::string> dumpDir;
};

} // namespace delta::driver

#endif // DELTA_DRIVER_COMMANDLINE_H
