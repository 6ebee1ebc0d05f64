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

  /// Every element as an operand of matrix products.
  Matrix operand(const Matrix &x) const;

  /// x times products of decays: both as operands where x has their type,
  /// otherwise as f32.
  Matrix scaled(const Matrix &x, const Matrix &factors, bool narrow) const {
    return narrow ? operand(Matrix::times(x, operand(factors)))
                  : result(Matrix::times(x, factors));
  }

  /// Are elements of type bf16 operands as they come, whose products with
  /// decays are formed in that type?
  bool isNarrow() const { return operands == Operands::Bf16; }

  /// The matrix product of x and y [+ acc]. With rounding the operands are
  /// rounded first and the sums are f32, one product after the other.
  Matrix product(const Matrix &x, const Matrix &y,
                 const Matrix *acc = nullptr) const;

private:
  Operands operands;
};

} // namespace delta::reference

#endif // DELTA_LIB_REFERENCE_ROUNDING_H
