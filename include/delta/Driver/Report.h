//===- Report.h - messages and exit statuses of the tools -------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the tools say on stderr when no place in a file is to blame, and the
// meaning of their exit statuses.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_DRIVER_REPORT_H
#define DELTA_DRIVER_REPORT_H

#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/LogicalResult.h"
#include "llvm/Support/raw_ostream.h"

#include <string>

namespace delta::driver {

enum class Exit {
  Ok = 0,
  Failure = 1,  ///< a diagnosed failure or a usage error
  Mismatch = 2, ///< a check found results that differ
  Absent = 3    ///< a needed device or tool is not there
};

/// Prints `TOOL: error: MESSAGE`. A function that fails has reported why, here
/// or through MLIR's diagnostics, so callers only pass the failure on.
class Reporter {
public:
  explicit Reporter(llvm::StringRef tool, llvm::raw_ostream &os = llvm::errs())
      : tool(tool), os(os) {}

  llvm::LogicalResult error(const llvm::Twine &message);
  llvm::LogicalResult error(llvm::Error error);
  void warning(const llvm::Twine &message);
  void note(const llvm::Twine &message);

  /// Reports an error, and remembers the status to exit with.
  llvm::LogicalResult fail(Exit status, const llvm::Twine &message) {
    failureStatus = status;
    return error(message);
  }

  /// Reports that a device or tool is absent, and remembers status 3.
  llvm::LogicalResult absent(const llvm::Twine &message);

  /// The same for a failure that has been reported elsewhere.
  llvm::LogicalResult absent() {
    failureStatus = Exit::Absent;
    return llvm::failure();
  }

  /// The status to exit with after a failure.
  Exit getFailureStatus() const { return failureStatus; }

  llvm::raw_ostream &getStream() { return os; }
  llvm::StringRef getTool() const { return tool; }

private:
  std::string tool;
  llvm::raw_ostream &os;
  Exit failureStatus = Exit::Failure;
};

} // namespace delta::driver

#endif // DELTA_DRIVER_REPORT_H
