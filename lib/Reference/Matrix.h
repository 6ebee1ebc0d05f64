//===- Matrix.h - The reference's values ------------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every value of the reference is an r x c matrix of doubles; a vector is a
// column, a number 1 x 1. A step may multiply by diagonal plus rank-one
// matrices, which are kept as such, so that a token costs what its mathematics
// needs and not A * A * B.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_REFERENCE_MATRIX_H
#define DELTA_LIB_REFERENCE_MATRIX_H

#include "llvm/ADT/STLFunctionalExtras.h"

#include <cstdint>
#include <vector>

namespace delta::reference {

/// The sum of those of its terms that are present: a dense array, one number
/// everywhere, a diagonal, and outer products.
class Matrix {
public:
  Matrix() = default;

  /// A dense matrix filled with `value`.
  static Matrix dense(int64_t rows, int64_t cols, double value = 0);
  /// `value` in every element.
  static Matrix uniform(int64_t rows, int64_t cols, double value);
  /// The diagonal matrix of a column.
  static Matrix diagonal(const Matrix &x);
  /// The outer product x y^T of two columns.
  static Matrix outer(const Matrix &x, const Matrix &y);

  int64_t rows() const { return numRows; }
  int64_t cols() const { return numCols; }
  int64_t size() const { return numRows * numCols; }

  /// The row-major elements of a dense matrix, and one of them.
  double *data() { return elements.data(); }
  const double *data() const { return elements.data(); }
  double &operator()(int64_t i, int64_t j = 0) {
    return elements[i * numCols + j];
  }
  double operator()(int64_t i, int64_t j = 0) const {
    return elements[i * numCols + j];
  }

  /// Adds up all terms into the dense one.
  void densify();
  Matrix densified() const;

  Matrix transposed() const;
  /// f of every element; f must be linear when `linear` says so, and is then
  /// applied to the terms.
  Matrix map(llvm::function_ref<double(double)> f, bool linear = false) const;
  /// f of every pair of elements.
  static Matrix zip(const Matrix &x, const Matrix &y,
                    llvm::function_ref<double(double, double)> f);
  /// x + sign * y.
  static Matrix add(const Matrix &x, const Matrix &y, double sign);
  /// Elementwise products and quotients, which keep the terms of the one when
  /// the other has one number everywhere.
  static Matrix times(const Matrix &x, const Matrix &y);
  static Matrix over(const Matrix &x, const Matrix &y);
  /// The matrix product.
  static Matrix product(const Matrix &x, const Matrix &y);

  /// Neither dense nor uniform: diagonal plus low rank.
  bool isLowRank() const { return !isDense() && everywhere == 0; }

private:
  struct Outer {
    std::vector<double> x, y;
  };

  bool isDense() const { return !elements.empty() || size() == 0; }
  /// Nothing but one number everywhere.
  bool isUniform() const {
    return !isDense() && diag.empty() && outers.empty();
  }

  int64_t numRows = 0, numCols = 0;
  std::vector<double> elements; ///< empty: no dense term
  double everywhere = 0;
  std::vector<double> diag; ///< empty: no diagonal term
  std::vector<Outer> outers;
};

} // namespace delta::reference

#endif // DELTA_LIB_REFERENCE_MATRIX_H
