//===- Adjoint.h - The cotangent of a value ---------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reverse mode adds up what reaches a value from its uses. For a matrix most of
// that are products L R^T, of the state's columns or of a read, which are kept
// as such: the adjoint of a transition is asked for its diagonal or for its
// product with a vector, and never built.
//
// A cotangent of 0 is passed on as 0, whatever it is multiplied with: behind
// a decay of exp(-inf) the way back leads through values that are infinite.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_REFERENCE_ADJOINT_H
#define DELTA_LIB_REFERENCE_ADJOINT_H

#include "Matrix.h"

#include <utility>
#include <vector>

namespace delta::reference {

/// cotangent * factor, and 0 for a cotangent of 0.
inline double passBack(double cotangent, double factor) {
  return cotangent == 0 ? 0 : cotangent * factor;
}

/// A dense matrix plus products L R^T, either of which may be absent.
class Adjoint {
public:
  bool isZero() const { return sum.size() == 0 && products.empty(); }
  void clear() { *this = Adjoint(); }

  /// Adds a matrix, an adjoint times a factor, or its transpose.
  void add(const Matrix &x);
  void add(const Adjoint &other, double factor = 1);
  void addTransposed(const Adjoint &other);
  /// Adds left right^T.
  void addProduct(const Matrix &left, const Matrix &right);

  // What follows needs an adjoint that is not zero.

  /// The matrix.
  Matrix dense() const;
  /// This times x, and its transpose times x.
  Matrix times(const Matrix &x, bool transposed = false) const;
  /// Its diagonal, as a column.
  Matrix diagonal() const;
  /// The sum of all elements, and of the products with those of x.
  double total() const;
  double dot(const Matrix &x) const;

  /// lhs^T times this, and this times rhs^T: the adjoints of a product's
  /// factors.
  Adjoint pulledLeft(const Matrix &lhs) const;
  Adjoint pulledRight(const Matrix &rhs) const;
  /// Row i times scale(i).
  Adjoint withScaledRows(const Matrix &scale) const;

private:
  Matrix sum; ///< no elements: absent
  std::vector<std::pair<Matrix, Matrix>> products;
};

} // namespace delta::reference

#endif // DELTA_LIB_REFERENCE_ADJOINT_H
