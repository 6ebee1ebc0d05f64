//===- RangeAnalysis.h - Intervals from declared ranges ---------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the declared ranges of a recurrence's inputs prove about its values.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_ANALYSIS_RANGEANALYSIS_H
#define DELTA_ANALYSIS_RANGEANALYSIS_H

#include "delta/Dialect/Delta/IR/Delta.h"

namespace mlir::delta {

/// A closed interval of the extended reals.
struct Interval {
  double lo, hi;
};

/// Interval that holds every element of `value`, an operand of a recurrence of
/// stage `step` or `events`. Only declared ranges and the operations' own
/// bounds count; what is not known is (-inf, inf).
Interval computeRange(Value value);

/// Bound L with |log w| <= L for the product of all decays of one token;
/// nothing when the ranges do not give a finite one.
std::optional<double> boundLogDecay(RecurrenceOp events);

} // namespace mlir::delta

#endif // DELTA_ANALYSIS_RANGEANALYSIS_H
