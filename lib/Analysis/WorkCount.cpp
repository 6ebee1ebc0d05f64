//===- WorkCount.cpp - Matrix products of a chunk program ------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// See the header.
//
//===----------------------------------------------------------------------===//

#include "delta/Analysis/WorkCount.h"

using namespace mlir;
using namespace mlir::delta;

double WorkCount::inverseFlops() const {
  double n = static_cast<double>(tokens) * solve;
  return solve ? 2.0 * n * (n * n - 1.0) / 3.0 : 0.0;
}

double WorkCount::flops() const {
  double c = tokens, k = rows, v = columns;
  return 2 * c * c * k * g + 2 * c * c * v * s + 2 * c * k * v * h +
         inverseFlops();
}

WorkCount mlir::delta::countWork(ModuleOp chunk) {
  WorkCount count;
  SignatureAttr signature = getSignature(chunk);
  count.tokens = signature.getIntOption("chunk").value_or(0);
  ArrayRef<StringAttr> axes = signature.getState().getAxes();
  count.rows = signature.getDim(axes[0]).value_or(0);
  count.columns = signature.getDim(axes[1]).value_or(0);
  chunk.walk([&](Operation *op) {
    if (auto gram = dyn_cast<DecayGramOp>(op)) {
      count.g += gram.getGrams().size();
    } else if (auto solve = dyn_cast<TriSolveOp>(op)) {
      int64_t unknowns = solve.getRhs().size();
      count.solve += unknowns;
      count.s += unknowns * unknowns; // the inverse applied to the right side
    } else if (auto matmul = dyn_cast<MatmulOp>(op)) {
      if (matmul.getTransposeRhs())
        ++count.g;
      else if (matmul.getTriangular())
        ++count.s;
      else
        ++count.h;
    }
  });
  return count;
}
