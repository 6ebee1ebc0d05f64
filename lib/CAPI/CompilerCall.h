//===- CompilerCall.h - one call of the compiler from C ---------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the C functions of the compiler share: options come in as names and
// values, messages go out as one text.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_CAPI_COMPILERCALL_H
#define DELTA_LIB_CAPI_COMPILERCALL_H

#include "delta-c/Compiler.h"

#include "delta/Driver/Options.h"
#include "delta/Driver/Report.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <string>

namespace delta::capi {

using CompilerBody = llvm::function_ref<llvm::LogicalResult(
    const driver::CompilerOptions &, driver::Reporter &)>;

/// Runs `body` on the options, one call at a time, and gives its messages to
/// the caller: as `error` when it fails, in `remarks` otherwise. One of `spec`,
/// a name, and `text` is null.
delta_status run(const char *spec, const char *text,
                 const delta_option *options, size_t count, bool explain,
                 std::string *remarks, char **error, CompilerBody body);

} // namespace delta::capi

#endif // DELTA_LIB_CAPI_COMPILERCALL_H
