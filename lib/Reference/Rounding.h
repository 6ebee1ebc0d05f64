//===- Rounding.h - Evaluation in a target's precision ----------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The reference computes in double. An emulation of a kernel rounds: operands
// of matrix products to a narrow type, everything else to f32.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_REFERENCE_ROUNDING_H
#define DELTA_LIB_REFERENCE_ROUNDING_H

#include "Matrix.h"
#include "delta/Reference/Reference.h"

namespace delta::reference {

class Rounding {
public:
  explicit Rounding(Operands operands = Operands::Exact) : operands(operands) {}

  bool isExact() const { return operands == Operands::Exact; }

  /// Every element as f32; as it is when nothing is rounded.
  Matrix result(const Matrix &x) const;

  /// The matrix product of x and y [+ acc]. With rounding the operands are
  /// rounded first and the sums are f32, one product after the other.
  Matrix product(const Matrix &x, const Matrix &y,
                 const Matrix *acc = nullptr) const;

private:
  Operands operands;
};

} // namespace delta::reference

#endif // DELTA_LIB_REFERENCE_ROUNDING_H
