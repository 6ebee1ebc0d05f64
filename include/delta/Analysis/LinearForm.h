//===- LinearForm.h - Column-side values as sums of reads -------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// On the side of the state's columns everything is linear in the reads. This
// analysis takes such values apart and rejects IR where they are not.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_ANALYSIS_LINEARFORM_H
#define DELTA_ANALYSIS_LINEARFORM_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "llvm/ADT/MapVector.h"

namespace mlir::delta {

/// `constant + sum_i coefficient_i * read_i`. A null constant is 0, a null
/// coefficient 1; coefficients are scalars free of the state.
struct LinearForm {
  Value constant;
  llvm::MapVector<Value, Value> reads;
};

/// Takes the coefficient of a write apart. New scalars are built with
/// `builder`, which must stand after `value`'s definition.
/// Precondition: checkColumnLinearity holds for the recurrence.
LinearForm computeLinearForm(Value value, OpBuilder &builder);

/// Does `value` depend on a read of the state?
bool dependsOnRead(Value value);

/// Checks a recurrence of stage `events`: what depends on a read is only added,
/// negated, and multiplied or divided by what does not; coefficients of writes
/// only multiply reads by scalars; the vectors of reads and writes and the
/// decays are free of the state. Errors are located at the culprit.
LogicalResult checkColumnLinearity(RecurrenceOp events);

} // namespace mlir::delta

#endif // DELTA_ANALYSIS_LINEARFORM_H
