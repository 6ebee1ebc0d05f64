//===- BundleRequest.h - the command line for bundles ----------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What delta-run is asked to do with a bundle.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_TOOLS_DELTA_RUN_BUNDLEREQUEST_H
#define DELTA_TOOLS_DELTA_RUN_BUNDLEREQUEST_H

#include "RunOptions.h"

#include <optional>
#include <string>
#include <vector>

namespace delta::run {

/// What is to be run, and how.
struct Request {
  RunFlags flags;
  RunOptions options;
  std::vector<std::string> bundles;
  std::optional<std::string> target, fn;
  runtime::NamedValues<int64_t> dims;
  runtime::NamedValues<double> attrs;
};

/// The argument of delta-run that is its SPEC; empty when there is none. Knows
/// which options have a value as the next argument.
std::string findSpec(const std::vector<std::string> &arguments);

/// Reads the arguments; the error says what is wrong with them.
runtime::Expected<Request>
readRequest(const std::vector<std::string> &arguments);

} // namespace delta::run

#endif // DELTA_TOOLS_DELTA_RUN_BUNDLEREQUEST_H
