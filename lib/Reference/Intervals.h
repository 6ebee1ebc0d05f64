//===- Intervals.h - Products of a decay over intervals ---------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a decay-Gram, a decay mask and their cotangents are made of.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_REFERENCE_INTERVALS_H
#define DELTA_LIB_REFERENCE_INTERVALS_H

#include "Matrix.h"
#include "delta/Dialect/Delta/IR/Delta.h"

#include <algorithm>

namespace delta::reference {

/// Calls `visit(i, j, p)` for j <= i with p the product of channel d of w over
/// the tokens from j (without it after the decay) to i (without it before).
inline void
forEachInterval(const Matrix &w, int64_t d, mlir::delta::Position row,
                mlir::delta::Position col,
                llvm::function_ref<void(int64_t, int64_t, double)> visit) {
  for (int64_t j = 0; j < w.rows(); ++j) {
    double product = 1;
    int64_t start = col == mlir::delta::Position::After ? j + 1 : j;
    for (int64_t i = j; i < w.rows(); ++i) {
      double before = product;
      if (i >= start)
        product *= w(i, d);
      visit(i, j, row == mlir::delta::Position::After ? product : before);
    }
  }
}

/// Products of w over the tokens that lie between a row, or a column, and the
/// place at which its operand is scaled: `distance` tokens' halves for one
/// level of a halving, or the start of its leaf. Rows stand behind that place,
/// columns before it.
struct Factors {
  Matrix rows, cols;
};

/// One level: rows in the right halves of blocks of 2 * distance, columns in
/// the left ones; elsewhere 0.
inline Factors halvingFactors(const Matrix &w, int64_t distance,
                              mlir::delta::Position row,
                              mlir::delta::Position col) {
  int64_t C = w.rows();
  Factors factors{Matrix::dense(C, w.cols()), Matrix::dense(C, w.cols())};
  for (int64_t d = 0; d < w.cols(); ++d)
    for (int64_t i = 0; i < C; ++i) {
      bool right = i / distance % 2;
      double product = 1;
      if (right) {
        for (int64_t t = i / distance * distance; t < i; ++t)
          product *= w(t, d);
        factors.rows(i, d) =
            row == mlir::delta::Position::After ? product * w(i, d) : product;
      } else {
        for (int64_t t = i + 1; t < std::min((i / distance + 1) * distance, C);
             ++t)
          product *= w(t, d);
        factors.cols(i, d) =
            col == mlir::delta::Position::Before ? product * w(i, d) : product;
      }
    }
  return factors;
}

} // namespace delta::reference

#endif // DELTA_LIB_REFERENCE_INTERVALS_H
