//===- Inliner.h - calls become the bodies of their functions ---*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The machine that executes has no stack: all calls are inlined first.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_INLINER_H
#define DELTA_LIB_SIMULATOR_INLINER_H

#include "Parser.h"

namespace delta::sim::ptx {

bool hasCalls(const Function &function);

/// Makes `to` a copy of `from` without calls. Errors: functions without a body,
/// indirect calls, recursion, arguments that do not match.
runtime::Status inlineCalls(const File &file, const Function &from,
                            Function &to);

} // namespace delta::sim::ptx

#endif // DELTA_LIB_SIMULATOR_INLINER_H
