//===- Signature.h - options applied to a signature -------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the command line gives, written into a module's signature or compared
// with what it says already.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_DRIVER_SIGNATURE_H
#define DELTA_DRIVER_SIGNATURE_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Driver/Options.h"
#include "delta/Driver/Report.h"
#include "delta/Runtime/Signature.h"

#include <string>
#include <vector>

namespace delta::driver {

/// Every dim that the module needs the size of: those of the arrays in order of
/// first use, then those that are only numbers in an expression or an attr's
/// default.
std::vector<std::string> getDimNames(mlir::ModuleOp module);

/// The signature of recurrence `name` for code that knows no IR. The values of
/// attrs' defaults are left open.
runtime::Signature toRuntimeSignature(mlir::delta::SignatureAttr signature,
                                      llvm::StringRef name);

/// Applies dims and attr values to a module made from a spec.
llvm::LogicalResult applyToSpec(mlir::ModuleOp module,
                                const CompilerOptions &options,
                                Reporter &reporter);

/// Compares the options with the signature of a module that was read; unbound
/// dims of stages `step` and `events` are bound, attr values replace defaults,
/// and what contradicts the module is an error.
llvm::LogicalResult applyToModule(mlir::ModuleOp module,
                                  const CompilerOptions &options,
                                  Reporter &reporter);

} // namespace delta::driver

#endif // DELTA_DRIVER_SIGNATURE_H
