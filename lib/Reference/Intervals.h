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

} // namespace delta::reference

#endif // DELTA_LIB_REFERENCE_INTERVALS_H
