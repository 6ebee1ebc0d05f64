//===- DeltaEventOps.cpp - Verifiers of events ----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//
//===----------------------------------------------------------------------===//

#include "ShapeUtils.h"
#include "delta/Dialect/Delta/IR/Delta.h"

using namespace mlir;
using namespace mlir::delta;

/// Fails unless `value`, called `what`, has the axis `expected`.
static LogicalResult expectAxis(Operation *op, Value value, StringRef what,
                                Axis expected) {
  Axis axis = getAxes(value.getType())[0];
  if (axis == expected)
    return success();
  return op->emitOpError() << "expects " << what << " over " << expected
                           << ", but got " << axis;
}

LogicalResult DecayOp::verify() {
  if (isa<FloatType>(getW().getType()))
    return success();
  SmallVector<Axis> w = getAxes(getW().getType());
  if (w.size() != 1)
    return emitOpError() << "expects a scalar or a vector decay, but got "
                         << getW().getType();
  return expectAxis(getOperation(), getW(), "the decay",
                    getAxes(getState().getType())[0]); // decay_c1
}

LogicalResult ReadOp::verify() {
  SmallVector<Axis> state = getAxes(getState().getType());
  if (failed(expectAxis(getOperation(), getX(), "the read vector", state[0])))
    return failure(); // read_c1
  return expectAxis(getOperation(), getResult(), "the result", state[1]);
}

LogicalResult WriteOp::verify() {
  SmallVector<Axis> state = getAxes(getState().getType());
  if (failed(expectAxis(getOperation(), getY(), "the write vector", state[0])))
    return failure(); // write_c1
  return expectAxis(getOperation(), getC(), "the coefficient", state[1]);
}
