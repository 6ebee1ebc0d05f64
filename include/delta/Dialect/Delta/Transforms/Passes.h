//===- Passes.h - Passes on the delta dialect -------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_DIALECT_DELTA_TRANSFORMS_PASSES_H
#define DELTA_DIALECT_DELTA_TRANSFORMS_PASSES_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/Pass/Pass.h"

namespace mlir::arith {
class ArithDialect;
}
namespace mlir::math {
class MathDialect;
}
namespace mlir::func {
class FuncDialect;
}
namespace mlir::tensor {
class TensorDialect;
}

namespace mlir::delta {

#define GEN_PASS_DECL
#include "delta/Dialect/Delta/Transforms/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "delta/Dialect/Delta/Transforms/Passes.h.inc"

} // namespace mlir::delta

#endif // DELTA_DIALECT_DELTA_TRANSFORMS_PASSES_H
