//===- Import.h - from a checked recurrence to the step stage ---*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Builds the module of stage `step` that says what a recurrence says, with
// every operation located where the source has its operator.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_SPEC_IMPORT_H
#define DELTA_SPEC_IMPORT_H

#include "delta/Spec/AST.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace llvm {
class SourceMgr;
} // namespace llvm

namespace delta::spec {

/// The types of the arrays in memory, each `f32`, `bf16`, `f16` or `f64`.
struct ImportOptions {
  /// Of vector inputs and of vector outs. Scalars, params and the state are
  /// f32, and so is a vector input that only serves as an exponent; all are
  /// f64 if this is.
  std::string dtype = "f32";
  /// Of single inputs, params, outs and the state, by name.
  llvm::ArrayRef<std::pair<std::string, std::string>> dtypeOf = {};
};

/// Whether every use of the input `argument`, through lets, lies inside the
/// argument of `exp` or `exp2`: a log-decay, which 8 bits of precision would
/// not do for.
bool isOnlyExponent(const Recurrence &recurrence, const ArgumentDecl &argument);

/// Imports `recurrence`, which was parsed from a buffer of `sources`, into a
/// module of stage `step`. Loads the dialects it needs. On an unknown type or
/// name in `options`, emits an error and returns null.
mlir::OwningOpRef<mlir::ModuleOp>
importRecurrence(const Recurrence &recurrence, const llvm::SourceMgr &sources,
                 mlir::MLIRContext *context,
                 const ImportOptions &options = ImportOptions());

} // namespace delta::spec

#endif // DELTA_SPEC_IMPORT_H
