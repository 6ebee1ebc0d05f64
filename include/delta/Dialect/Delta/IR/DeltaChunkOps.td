//===- DeltaChunkOps.td - The chunk program ----------------*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Included by DeltaOps.td. What upstream dialects cannot say about C tokens at
// a time. A chunk program is a `func.func`; rows of a tensor<CxD> are tokens.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_CHUNK_OPS_TD
#define DELTA_CHUNK_OPS_TD

def Delta_IdentityRowsOp : Delta_Op<"identity_rows", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "makes the rows from `valid` on identity tokens";
  let description = [{
    `result[i, ...] = i < valid ? input[i, ...] : value`. A sequence's last
    chunk may have fewer than C tokens; the rows behind them must neither decay
    (value 1) nor read or write (value 0). It is a selection: what the masked
    rows held, NaN included, cannot leak.

    ```mlir
    %1 = delta.identity_rows %0, %valid value 1.0 : tensor<16x64xf32>
    ```
  }];
  let arguments = (ins AnyTypeOf<[Delta_Vector, Delta_Matrix]>:$input, Index:$valid, F64Attr:$value);
  let results = (outs AnyTypeOf<[Delta_Vector, Delta_Matrix]>:$result);
  let assemblyFormat = "$input `,` $valid `value` $value attr-dict `:` type($input)";
  let hasFolder = 1;
}

def Delta_PrefixProductOp : Delta_Op<"prefix_product", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "running products along the tokens";
  let description = [{
    Inclusive: `result[i] = w[0] * ... * w[i]`; `exclusive`: without w[i].
    With `reverse` from the other end: `w[i] * ... * w[C-1]`, `exclusive`:
    without w[i]. The empty product is 1. Works along the first axis of
    tensor<C> or tensor<CxD>.
  }];
  let arguments = (ins AnyTypeOf<[Delta_Vector, Delta_Matrix]>:$input, UnitAttr:$exclusive, UnitAttr:$reverse);
  let results = (outs AnyTypeOf<[Delta_Vector, Delta_Matrix]>:$result);
  let assemblyFormat = "(`exclusive` $exclusive^)? (`reverse` $reverse^)? $input attr-dict `:` type($input)";
}

def Delta_TotalProductOp : Delta_Op<"total_product", [Pure]> {
  let summary = "product over all tokens";
  let description = [{
    `tensor<C> -> scalar`, `tensor<CxD> -> tensor<D>`: the chunk's whole decay.

    Constraints:
    - C1: the result has the operand's axes but the first.
  }];
  let arguments = (ins AnyTypeOf<[Delta_Vector, Delta_Matrix]>:$input);
  let results = (outs Delta_Value:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Delta_DecayMaskOp : Delta_Op<"decay_mask", [Pure]> {
  let summary = "pairwise decays of a scalar gate, causally masked";
  let description = [{
    `result[i, j] = w[j + (col == after)] * ... * w[i - (row == before)]` for
    j < i (the decays between the column's event in token j and the row's event
    in token i), 0 for j > i, and on the diagonal the same product
    (w[i] when the column stands before and the row after the decay, else 1)
    with `diagonal`, otherwise 0. Only products over intervals: no exp of a
    positive number, no division, right for w = 0.

    Constraints:
    - C1: the result is C x C for w of C tokens.
    - C2: `diagonal` excludes a row before and a column after the decay.

    ```mlir
    %m = delta.decay_mask %w row after col after diagonal : tensor<16xf32> -> tensor<16x16xf32>
    ```
  }];
  let arguments = (ins Delta_Vector:$w, Delta_PositionAttr:$row, Delta_PositionAttr:$col, UnitAttr:$diagonal);
  let results = (outs Delta_Matrix:$result);
  let assemblyFormat = "$w `row` $row `col` $col (`diagonal` $diagonal^)? attr-dict `:` type($w) `->` type($result)";
  let hasVerifier = 1;
}

def Delta_CausalMaskOp : Delta_Op<"causal_mask", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "selects the causal part of a C x C matrix";
  let description = [{
    Keeps j < i, and j = i with `diagonal`; the rest is selected to zero (never
    multiplied), so that what the mask hides cannot leak.
  }];
  let arguments = (ins Delta_Matrix:$input, UnitAttr:$diagonal);
  let results = (outs Delta_Matrix:$result);
  let assemblyFormat = "$input (`diagonal` $diagonal^)? attr-dict `:` type($input)";
  let hasFolder = 1;
}

def Delta_SetDiagonalOp : Delta_Op<"set_diagonal", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "replaces the diagonal of a C x C matrix";
  let arguments = (ins Delta_Matrix:$input, Delta_Vector:$diagonal);
  let results = (outs Delta_Matrix:$result);
  let assemblyFormat = "$input `,` $diagonal attr-dict `:` type($input) `,` type($diagonal)";
}

def Delta_DecayGramOp : Delta_Op<"decay_gram", [Pure, AttrSizedOperandSegments]> {
  let summary = "decay-weighted Gram matrices of row and column vectors";
  let description = [{
    For row operand a, column operand b (all CxK) and per-channel decay w (CxK)

        G_ab[i, j] = sum_d rows_a[i, d] cols_b[j, d] prod_{t in I(i, j)} w[t, d]

    for j < i, where I(i, j) is the tokens from j (excluded when the column's
    event stands after its token's decay) to i (excluded when the row's event
    stands before it); 0 for j > i; on the diagonal the same formula when the
    pair's mask is `diagonal`, 0 when it is `strict`, and no result at all for
    a pair masked `none` (research: the decay-Gram, the only hard operation of
    the chunk form). Results are the C x C matrices of the pairs that are not
    `none`, in row-major order of (a, b).

    `leaf` and `scheme` say how it is evaluated: pairs of tokens in different
    leaves by the dyadic factorisation, whose factors are products of w over
    intervals ending at a block midpoint; pairs inside a leaf by exact running
    products (`exact`) or by factors anchored at the leaf's start (`anchored`,
    only where a declared range proves that 1/prefix stays finite). No factor
    ever depends on a later token.

    Constraints:
    - C1: rows, cols and w are all C x K; there is one position a row and a
      column and one mask a pair.
    - C2: `diagonal` excludes a row before and a column after the decay.
    - C3: `leaf` is a power of two that divides C, or C itself.

    ```mlir
    %g:2 = delta.decay_gram rows(%a, %q) [before, after] cols(%b) [after] decay(%w)
        masks ["strict", "diagonal"] leaf 16 scheme exact
        : tensor<16x64xf32> -> tensor<16x16xf32>, tensor<16x16xf32>
    ```
  }];
  let arguments = (ins Variadic<Delta_Matrix>:$rows, Variadic<Delta_Matrix>:$cols,
                       Delta_Matrix:$decay,
                       DenseI32ArrayAttr:$rowPositions, DenseI32ArrayAttr:$colPositions,
                       StrArrayAttr:$masks, I64Attr:$leaf, Delta_DecaySchemeAttr:$scheme);
  let results = (outs Variadic<Delta_Matrix>:$grams);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    Position getRowPosition(unsigned a) { return static_cast<Position>(getRowPositions()[a]); }
    Position getColPosition(unsigned b) { return static_cast<Position>(getColPositions()[b]); }
    /// Mask of the pair: "strict", "diagonal" or "none".
    ::llvm::StringRef getMask(unsigned a, unsigned b);
    /// The pair's result; null for a pair masked "none".
    ::mlir::Value getGram(unsigned a, unsigned b);
  }];
}

def Delta_TriSolveOp : Delta_Op<"tri_solve", [Pure, AttrSizedOperandSegments]> {
  let summary = "solves (I - A) E = R for a token-causal block system";
  let description = [{
    m unknowns E_0 .. E_{m-1} of C x V a token and m*m blocks A_jl of C x C in
    row-major order: `E_j = R_j + sum_l A_jl E_l`. Every block is strictly
    lower triangular, except that A_jl with l < j may have a diagonal: with
    the rows ordered by token, then by unknown, I - A is unit lower
    triangular. `leaf` is the number of tokens solved by substitution; larger
    systems are solved by recursive halving (the off-diagonal half is a matrix
    product). Neumann or Newton series must not be used (they lose everything
    for correlated keys).

    With `transpose` it solves (I - A)^T E = R, which reverse-mode
    differentiation of a solve needs: `E_j = R_j + sum_l A_lj^T E_l`, from the
    last token to the first. The blocks are the same operands as without.

    Constraints:
    - C1: m right-hand sides and m*m blocks, C x V and C x C.

    ```mlir
    %e = delta.tri_solve blocks(%a) rhs(%r) leaf 16 : tensor<16x16xf32>, tensor<16x64xf32>
    ```
  }];
  let arguments = (ins Variadic<Delta_Matrix>:$blocks, Variadic<Delta_Matrix>:$rhs, I64Attr:$leaf,
                       UnitAttr:$transpose);
  let results = (outs Variadic<Delta_Matrix>:$unknowns);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
}

def Delta_MatmulOp : Delta_Op<"matmul", [Pure]> {
  let summary = "matrix product, optionally accumulated";
  let description = [{
    `result = op(lhs) op(rhs) [+ acc]` with op the transpose where
    `transpose_lhs` / `transpose_rhs` say so. Used in `step` (no flags, no acc)
    and in `chunk`. `triangular` says that lhs is lower triangular (C x C,
    zeros above the diagonal are known), so that products with them may be
    skipped.

    Constraints:
    - C1: the contracted axes agree, the result has the other two; acc has the
      result's type.

    ```mlir
    %o = delta.matmul %a, %b acc(%c : tensor<16x64xf32>) : tensor<16x16xf32>, tensor<16x64xf32> -> tensor<16x64xf32>
    %g = delta.matmul %x, %y transpose_rhs : tensor<16x64xf32>, tensor<16x64xf32> -> tensor<16x16xf32>
    ```
  }];
  let arguments = (ins Delta_Matrix:$lhs, Delta_Matrix:$rhs, Optional<Delta_Matrix>:$acc,
                       UnitAttr:$transpose_lhs, UnitAttr:$transpose_rhs, UnitAttr:$triangular);
  let results = (outs Delta_Matrix:$result);
  let assemblyFormat = [{
    $lhs `,` $rhs (`acc` `(` $acc^ `:` type($acc) `)`)? (`transpose_lhs` $transpose_lhs^)?
    (`transpose_rhs` $transpose_rhs^)? (`triangular` $triangular^)? attr-dict
    `:` type($lhs) `,` type($rhs) `->` type($result)
  }];
  let hasVerifier = 1;
}

#endif // DELTA_CHUNK_OPS_TD
