//===- Warp.h - The warp dialect: types and operations ----------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Everything that code using the dialect includes, and shorthands for its
// tensor types.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_DIALECT_WARP_IR_WARP_H
#define DELTA_DIALECT_WARP_IR_WARP_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/TensorEncoding.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "delta/Dialect/Warp/IR/WarpDialect.h.inc"
#include "delta/Dialect/Warp/IR/WarpEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "delta/Dialect/Warp/IR/WarpAttrs.h.inc"

#define GET_TYPEDEF_CLASSES
#include "delta/Dialect/Warp/IR/WarpTypes.h.inc"

#define GET_OP_CLASSES
#include "delta/Dialect/Warp/IR/WarpOps.h.inc"

namespace mlir::delta::warp {

/// tensor<RxCxT, #delta_warp.fragment>. Rows and columns are multiples of 8.
RankedTensorType getFragmentType(int64_t rows, int64_t cols, Type elementType);
/// tensor<NxT, #delta_warp.along<axis>>. N is a multiple of 8.
RankedTensorType getAlongType(int64_t size, Axis axis, Type elementType);

/// Is `type` a tensor spread as a fragment?
bool isFragment(Type type);
/// The axis of a vector along one; none for other types.
std::optional<Axis> getAlongAxis(Type type);

} // namespace mlir::delta::warp

#endif // DELTA_DIALECT_WARP_IR_WARP_H
