//===- DeltaAdjointOps.td - What only gradients need -------*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Included by DeltaOps.td. Operations of the stage chunk that reverse-mode
// differentiation of the chunk program introduces.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_ADJOINT_OPS_TD
#define DELTA_ADJOINT_OPS_TD

def Delta_PrefixSumOp : Delta_Op<"prefix_sum", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "running sums along the tokens";
  let description = [{
    Inclusive: `result[i] = x[0] + ... + x[i]`; `exclusive`: without x[i]. With
    `reverse` from the other end: `x[i] + ... + x[C-1]`, `exclusive`: without
    x[i]. Works along the first axis of tensor<C> or tensor<CxD>. It is the
    adjoint of `prefix_product` in logarithms: every addend of a log-decay's
    gradient is a term whose product really spans the token, so nothing cancels
    (chunk_math 4.1).

    ```mlir
    %1 = delta.prefix_sum reverse %0 : tensor<16x64xf32>
    ```
  }];
  let arguments = (ins AnyTypeOf<[Delta_Vector, Delta_Matrix]>:$input, UnitAttr:$exclusive, UnitAttr:$reverse);
  let results = (outs AnyTypeOf<[Delta_Vector, Delta_Matrix]>:$result);
  let assemblyFormat = "(`exclusive` $exclusive^)? (`reverse` $reverse^)? $input attr-dict `:` type($input)";
}

def Delta_LinearScanOp : Delta_Op<"linear_scan", [Pure, AllTypesMatch<["input", "factors", "result"]>]> {
  let summary = "running sums with decaying terms along the tokens";
  let description = [{
    `r[i] = x[i] + w[i-1] r[i-1]`; `exclusive`: `r[i] = x[i-1] + w[i-1] r[i-1]`,
    from `r[0] = x[0]`, `exclusive`: 0. With `reverse`:
    `r[i] = x[i] + w[i+1] r[i+1]`, `exclusive`: `r[i] = x[i+1] + w[i+1] r[i+1]`.
    Works along the first axis. The adjoint of a running product of factors
    that may be zero, without a division: the terms behind (before) token i,
    each multiplied by the factors between.

    ```mlir
    %1 = delta.linear_scan reverse %x, %w : tensor<16x64xf32>
    ```
  }];
  let arguments = (ins AnyTypeOf<[Delta_Vector, Delta_Matrix]>:$input,
                       AnyTypeOf<[Delta_Vector, Delta_Matrix]>:$factors,
                       UnitAttr:$exclusive, UnitAttr:$reverse);
  let results = (outs AnyTypeOf<[Delta_Vector, Delta_Matrix]>:$result);
  let assemblyFormat = "(`exclusive` $exclusive^)? (`reverse` $reverse^)? $input `,` $factors attr-dict `:` type($input)";
}

def Delta_TokenSumOp : Delta_Op<"token_sum", [Pure]> {
  let summary = "sum over the first axis of a matrix";
  let description = [{
    `tensor<CxD> -> tensor<D>`. The adjoint of a value that every row shares.

    Constraints:
    - C1: the result has the operand's axes but the first.
  }];
  let arguments = (ins Delta_Matrix:$input);
  let results = (outs Delta_Vector:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Delta_HeavisideOp : Delta_UnaryOp<"heaviside"> {
  let summary = "1 for x > 0, 0 for x < 0, else 1/2, elementwise";
  let description = [{
    The derivative of max(x, 0), with the middle of the subgradient where x is 0;
    1/2 for NaN too, which is what the difference of equal infinities is.
  }];
}

def Delta_DiagonalOp : Delta_Op<"diagonal", [Pure]> {
  let summary = "the diagonal of a C x C matrix";
  let description = [{
    `tensor<CxC> -> tensor<C>`. The adjoint of `set_diagonal`.

    Constraints:
    - C1: the operand is square, and the result has one of its axes.
  }];
  let arguments = (ins Delta_Matrix:$input);
  let results = (outs Delta_Vector:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Delta_DecayGramAdjointOp : Delta_Op<"decay_gram_adjoint", [Pure, AttrSizedOperandSegments]> {
  let summary = "cotangents of a decay_gram's operands";
  let description = [{
    For a `decay_gram` with rows x_a, columns y_b and decay w, and the cotangents
    H_ab of its results (what lies outside a pair's mask is not looked at), with
    P_ij = prod_{t in I(i, j)} w[t, d]:

        rows_a[i, d]  = sum_b sum_j H_ab[i, j] y_b[j, d] P_ij
        cols_b[j, d]  = sum_a sum_i H_ab[i, j] x_a[i, d] P_ij
        decay[t, d]   = sum_ab sum_{i, j : t in I(i, j)}
                            H_ab[i, j] x_a[i, d] y_b[j, d] P_ij / w[t, d]

    where P_ij / w[t, d] stands for the product without token t (nothing is
    ever divided). With `log` the last one is w[t, d] times that: the cotangent
    of log w. Every addend is a pair that spans the token, so there is no
    cancellation, and with `log` a token with w = 0 gets exactly 0
    (chunk_math 4.1). Results: one of each row, one of each column, then the
    decay's. `leaf` and `scheme` as in `decay_gram`.

    Constraints:
    - C1 to C3 of `decay_gram`, with one cotangent of C x C for each pair that
      is not masked `none`; the results are C x K.

    ```mlir
    %d:3 = delta.decay_gram_adjoint rows(%k) [after] cols(%k) [after] decay(%w)
        cotangents(%h) masks ["strict"] leaf 16 scheme exact log
        : tensor<16x64xf32>, tensor<16x16xf32>
    ```
  }];
  let arguments = (ins Variadic<Delta_Matrix>:$rows, Variadic<Delta_Matrix>:$cols,
                       Delta_Matrix:$decay, Variadic<Delta_Matrix>:$cotangents,
                       DenseI32ArrayAttr:$rowPositions, DenseI32ArrayAttr:$colPositions,
                       StrArrayAttr:$masks, I64Attr:$leaf, Delta_DecaySchemeAttr:$scheme,
                       UnitAttr:$log);
  let results = (outs Variadic<Delta_Matrix>:$gradients);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    Position getRowPosition(unsigned a) { return static_cast<Position>(getRowPositions()[a]); }
    Position getColPosition(unsigned b) { return static_cast<Position>(getColPositions()[b]); }
    /// Mask of the pair: "strict", "diagonal" or "none".
    ::llvm::StringRef getMask(unsigned a, unsigned b);
    /// The cotangent of the pair's Gram; null for a pair masked "none".
    ::mlir::Value getCotangent(unsigned a, unsigned b);
    ::mlir::Value getRowGradient(unsigned a) { return getGradients()[a]; }
    ::mlir::Value getColGradient(unsigned b) { return getGradients()[getRows().size() + b]; }
    ::mlir::Value getDecayGradient() { return getGradients().back(); }
  }];
}

#endif // DELTA_ADJOINT_OPS_TD
