//===- ShapeUtils.h - Axes by name or by size -------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Verifiers compare axes the same way in every stage: by dim name where a
// tensor has a #delta.dims encoding, else by size.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_DIALECT_DELTA_IR_SHAPEUTILS_H
#define DELTA_LIB_DIALECT_DELTA_IR_SHAPEUTILS_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/IR/Diagnostics.h"

namespace mlir::delta {

/// One axis of a tensor: a dim's name, or a static size.
struct Axis {
  StringAttr name;
  int64_t size = 0;
  bool operator==(const Axis &other) const {
    return name == other.name && size == other.size;
  }
  bool operator!=(const Axis &other) const { return !(*this == other); }
};

inline Diagnostic &operator<<(Diagnostic &diag, const Axis &axis) {
  if (axis.name)
    return diag << "'" << axis.name.getValue() << "'";
  return diag << axis.size;
}

/// The axes of a type; none for a scalar.
inline SmallVector<Axis> getAxes(Type type) {
  SmallVector<Axis> axes;
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor)
    return axes;
  ArrayRef<StringAttr> names = getDimNames(type);
  for (auto [index, size] : llvm::enumerate(tensor.getShape()))
    axes.push_back(index < names.size() ? Axis{names[index], 0}
                                        : Axis{StringAttr(), size});
  return axes;
}

/// Fails with a worded error unless `type` has exactly the axes `expected`.
inline LogicalResult expectAxes(Operation *op, ArrayRef<Axis> expected,
                                Type type) {
  SmallVector<Axis> axes = getAxes(type);
  if (llvm::equal(axes, expected))
    return success();
  InFlightDiagnostic diag = op->emitOpError() << "expects the result's axes (";
  llvm::interleaveComma(expected, diag);
  diag << "), but got ";
  return diag << type;
}

} // namespace mlir::delta

#endif // DELTA_LIB_DIALECT_DELTA_IR_SHAPEUTILS_H
