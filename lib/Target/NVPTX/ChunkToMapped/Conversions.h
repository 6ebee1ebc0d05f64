//===- Conversions.h - Element types of tiles -------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What all emitters of mapped kernels do alike.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_CONVERSIONS_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_CONVERSIONS_H

#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::delta::gpumap {

/// A number or a tile in f32.
Value toF32(ImplicitLocOpBuilder &b, Value value);

/// A tile with another element type, by way of f32; one that was only widened
/// from it is taken as it was.
Value toElement(ImplicitLocOpBuilder &b, Value value, Type element);

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_CONVERSIONS_H
