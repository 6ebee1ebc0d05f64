//===- Arguments.h - Which slices of arrays a body reads --------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The arguments of a body are slices of a problem's arrays, found by batch,
// token and head. What evaluates a body and what differentiates it share this.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_REFERENCE_ARGUMENTS_H
#define DELTA_LIB_REFERENCE_ARGUMENTS_H

#include "Program.h"
#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Reference/Reference.h"

namespace delta::reference {

/// One argument of a body: which slice of which array it is.
struct Binding {
  unsigned slot;
  mlir::delta::ArgKind kind;
  llvm::StringRef name;
  const double *data = nullptr;
  double number = 0; ///< of an attr
  int64_t family = 1, size = 1;
  bool isFamily = false; ///< all micro-steps, as a matrix
  int64_t micro = 0;     ///< else this one
};

/// Elements of one token's value. Fails at `module` for a dim without a size.
llvm::FailureOr<int64_t> getSize(mlir::ModuleOp module, const Program &program,
                                 mlir::delta::ArgAttr arg);

/// Binds everything but the slot. Fails with a diagnostic at `module` for a
/// missing or misshaped array or a missing value.
llvm::FailureOr<Binding> bind(mlir::ModuleOp module, const Program &program,
                              const Problem &problem, mlir::delta::ArgAttr arg);

/// Binds the block arguments of a recurrence but the state, and gives them
/// slots.
llvm::LogicalResult bindTokens(mlir::delta::RecurrenceOp recurrence,
                               Program &program, const Problem &problem,
                               std::vector<Binding> &arguments);

/// Where token t of the argument begins in its array, in micro-step j.
int64_t offsetOf(const Binding &binding, const Problem &problem, int64_t b,
                 int64_t t, int64_t h, int64_t j);

/// The argument at token t: a number, a column, or a family as a matrix with a
/// row for every micro-step.
Matrix loadToken(const Binding &binding, const Problem &problem, int64_t b,
                 int64_t t, int64_t h);

/// Fails at `module` when a dim that the signature knows is given otherwise.
llvm::LogicalResult checkDims(mlir::ModuleOp module, const Problem &problem);

/// Calls `work(i)` for i from 0 to `count` - 1 on that many threads; 0: one a
/// processor.
void forEachSequence(int64_t count, unsigned threads,
                     llvm::function_ref<void(int64_t)> work);

} // namespace delta::reference

#endif // DELTA_LIB_REFERENCE_ARGUMENTS_H
