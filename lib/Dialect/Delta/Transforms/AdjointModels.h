//===- AdjointModels.h - Registers the adjoint rules ------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_DIALECT_DELTA_TRANSFORMS_ADJOINTMODELS_H
#define DELTA_LIB_DIALECT_DELTA_TRANSFORMS_ADJOINTMODELS_H

#include "delta/Dialect/Delta/Transforms/Adjoint.h"

namespace mlir::delta {

/// Rules of arith, math and the dialect's own functions.
void registerElementwiseAdjoints(DialectRegistry &registry);
/// Rules of what works on all tokens of a chunk.
void registerChunkAdjoints(DialectRegistry &registry);

} // namespace mlir::delta

#endif // DELTA_LIB_DIALECT_DELTA_TRANSFORMS_ADJOINTMODELS_H
