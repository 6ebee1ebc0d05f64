//===- WorkCount.h - Matrix products of a chunk program ---------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Counts the matrix products of a chunk program in the units of chunk_math 2.3.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_ANALYSIS_WORKCOUNT_H
#define DELTA_ANALYSIS_WORKCOUNT_H

#include "delta/Dialect/Delta/IR/Delta.h"

namespace mlir::delta {

/// Numbers of matrix products by the axes they go over: g = 2 C^2 K (two of
/// tokens, one of the state's rows), s = 2 C^2 V (two of tokens, one of its
/// columns), h = 2 C K V (one of each).
struct ProductCount {
  int64_t g = 0, s = 0, h = 0;
};

/// Work of one chunk of C tokens on a state of K x V.
struct WorkCount : ProductCount {
  int64_t tokens = 0, rows = 0, columns = 0; // C, K, V
  /// Unknowns a token of the triangular system.
  int64_t solve = 0;
  /// A backward program: of the products above, those that no cotangent is in,
  /// which the forward has computed before.
  bool isBackward = false;
  ProductCount recomputed;

  /// FLOPs of inverting the triangular system by recursive halving.
  double inverseFlops() const;
  /// FLOPs of one chunk.
  double flops() const;
  double flopsPerToken() const { return tokens ? flops() / tokens : 0; }
};

/// Bytes of one token and head in the ins and outs: what is moved at least, each
/// array once. Dims that are not known count as 1.
double getBytesPerToken(SignatureAttr signature);

/// Counts a module of stage `chunk`.
WorkCount countWork(ModuleOp chunk);

} // namespace mlir::delta

#endif // DELTA_ANALYSIS_WORKCOUNT_H
