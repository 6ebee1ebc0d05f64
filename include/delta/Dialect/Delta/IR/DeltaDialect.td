//===- DeltaDialect.td - The delta dialect -----------------*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_DIALECT_TD
#define DELTA_DIALECT_TD

include "mlir/IR/OpBase.td"

def Delta_Dialect : Dialect {
  let name = "delta";
  let cppNamespace = "::mlir::delta";
  let summary = "Recurrences on a matrix state, and their chunkwise form";
  let description = [{
    The dialect represents the generalized delta rule

        S_t = (diag(d_t) + b_t a_t^T) S_{t-1} + k_t v_t^T      S : A x B
        o_t = f(S^T q_t, ...)

    at three levels, the *stages* `step` (one token as the user wrote it),
    `events` (an SSA chain of decay, read and write on the state) and `chunk`
    (matrix products over C tokens). A module says which stage it is in with
    the attribute `delta.stage` and carries the interface of the kernel in
    `delta.signature`; both are verified, and operations of different stages
    may not be mixed.

    In `step` and `events` the dims are symbolic: tensors have dynamic shape and
    a `#delta.dims` encoding that names every axis, and elements are `f64`, the
    real numbers of the specification. In `chunk` shapes are static, there is
    no encoding, and the element type is the type computed in.
  }];
  let useDefaultAttributePrinterParser = 1;
  let hasOperationAttrVerify = 1;
  let hasConstantMaterializer = 1;
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::math::MathDialect",
                           "::mlir::tensor::TensorDialect"];
}

#endif // DELTA_DIALECT_TD
