//===- DeltaFolders.cpp - Folds of the delta dialect ----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What --canonicalize does to single operations. Rewrites that look at several
// events are the pass delta-simplify-events.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace mlir::delta;

/// Is the value this number everywhere, as far as its definition shows?
static bool isEverywhere(Value value, double number) {
  if (auto broadcast = value.getDefiningOp<BroadcastOp>())
    return isEverywhere(broadcast.getInput(), number);
  FloatAttr scalar;
  if (matchPattern(value, m_Constant(&scalar)))
    return scalar.getValueAsDouble() == number;
  DenseFPElementsAttr dense;
  return matchPattern(value, m_Constant(&dense)) && dense.isSplat() &&
         dense.getSplatValue<FloatAttr>().getValueAsDouble() == number;
}

OpFoldResult DecayOp::fold(FoldAdaptor) {
  return isEverywhere(getW(), 1.0) ? getState() : Value();
}

OpFoldResult WriteOp::fold(FoldAdaptor) {
  return isEverywhere(getY(), 0.0) || isEverywhere(getC(), 0.0) ? getState()
                                                                : Value();
}

OpFoldResult TransposeOp::fold(FoldAdaptor) {
  auto inner = getMatrix().getDefiningOp<TransposeOp>();
  return inner ? inner.getMatrix() : Value();
}

OpFoldResult IdentityRowsOp::fold(FoldAdaptor) {
  auto inner = getInput().getDefiningOp<IdentityRowsOp>();
  return inner && inner.getValid() == getValid() &&
                 inner.getValue() == getValue()
             ? getInput()
             : Value();
}

OpFoldResult CausalMaskOp::fold(FoldAdaptor) {
  // The strict mask inside, or the same one, leaves nothing to select.
  auto inner = getInput().getDefiningOp<CausalMaskOp>();
  return inner && (!inner.getDiagonal() || getDiagonal()) ? getInput()
                                                          : Value();
}
