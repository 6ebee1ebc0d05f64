//===- Report.cpp - messages and exit statuses of the tools ---------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the tools say on stderr when no place in a file is to blame. Colour only
// where LLVM's streams find a terminal.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/Report.h"

#include "llvm/Support/WithColor.h"

using namespace llvm;

namespace delta::driver {

LogicalResult Reporter::error(const Twine &message) {
  WithColor::error(os, tool) << message << '\n';
  return failure();
}

LogicalResult Reporter::error(Error error) {
  return this->error(toString(std::move(error)));
}

void Reporter::warning(const Twine &message) {
  WithColor::warning(os, tool) << message << '\n';
}

void Reporter::note(const Twine &message) {
  WithColor::note(os, tool) << message << '\n';
}

LogicalResult Reporter::absent(const Twine &message) {
  failureStatus = Exit::Absent;
  return error(message);
}

} // namespace delta::driver
