//===- DeltaStepOps.td - The recurrence as written ---------*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Included by DeltaOps.td. The container and the linear algebra of one step.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_STEP_OPS_TD
#define DELTA_STEP_OPS_TD

def Delta_RecurrenceOp : Delta_Op<"recurrence", [
    IsolatedFromAbove, Symbol, SingleBlock, NoTerminator]> {
  let summary = "one token's step of a recurrence on a matrix state";
  let description = [{
    Holds the step of a recurrence in the stages `step` and `events`. The body
    runs once a token. Its block arguments are, in this order, the `in`,
    `param` and `attr` entries of the module's `delta.signature` in declared
    order, then the state before the token. The types are

    - a scalar: `f64`; a vector over dim D: `tensor<?xf64, #delta.dims<D>>`;
    - a micro-step family over n: the same with a leading axis n, so
      `tensor<?xf64, #delta.dims<n>>` or `tensor<?x?xf64, #delta.dims<n, D>>`;
    - the state A x B: `tensor<?x?xf64, #delta.dims<A, B>>`.

    The body ends with `delta.yield`, which gives the state after the token and
    the outs in declared order.

    Constraints:
    - C1: the body has one block, and it ends with `delta.yield`.
    - C2: the block arguments match the signature in number and type.
    - C3: the yielded state has the state's type, and the yielded outs match
      the signature's outs.

    ```mlir
    delta.recurrence @linear_attn {
    ^bb0(%q: tensor<?xf64, #delta.dims<K>>, %k: tensor<?xf64, #delta.dims<K>>,
         %v: tensor<?xf64, #delta.dims<V>>, %S: tensor<?x?xf64, #delta.dims<K, V>>):
      %kv = delta.outer %k, %v : (tensor<?xf64, #delta.dims<K>>, tensor<?xf64, #delta.dims<V>>) -> tensor<?x?xf64, #delta.dims<K, V>>
      %S1 = arith.addf %S, %kv : tensor<?x?xf64, #delta.dims<K, V>>
      %o = delta.matvec %S1, %q {transpose} : (tensor<?x?xf64, #delta.dims<K, V>>, tensor<?xf64, #delta.dims<K>>) -> tensor<?xf64, #delta.dims<V>>
      delta.yield %S1, %o : tensor<?x?xf64, #delta.dims<K, V>>, tensor<?xf64, #delta.dims<V>>
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name attr-dict-with-keyword $body";
  let hasRegionVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::Block *getBodyBlock() { return &getBody().front(); }
    /// The state before the token: the last block argument.
    ::mlir::BlockArgument getStateArgument();
    /// The terminator.
    YieldOp getYield();
    /// The module's signature; null when the op stands in no such module.
    SignatureAttr getSignature();
  }];
}

def Delta_YieldOp : Delta_Op<"yield", [
    Pure, Terminator, ParentOneOf<["RecurrenceOp", "ForOp"]>]> {
  let summary = "ends a recurrence's step or a micro-step loop";
  let description = [{
    In `delta.recurrence`: the state after the token, then the outs. In
    `delta.for`: the state after the micro-step.
  }];
  let arguments = (ins Variadic<AnyType>:$values);
  let assemblyFormat = "attr-dict ($values^ `:` type($values))?";
}

def Delta_ForOp : Delta_Op<"for", [AllTypesMatch<["init", "result"]>,
    SingleBlock, NoTerminator]> {
  let summary = "micro-steps: runs its body for j = 0 .. n-1";
  let description = [{
    The body has the block arguments `%j : index` and the state before the
    micro-step, and yields the state after it. Stage `step` only: from `events`
    on micro-steps are unrolled.

    Constraints:
    - C1: result, initial value, body argument and yielded value have one type.

    ```mlir
    %S2 = delta.for "n" init(%S1) : tensor<?x?xf64, #delta.dims<K, V>> {
    ^bb0(%j: index, %S: tensor<?x?xf64, #delta.dims<K, V>>):
      %kj = delta.micro %k[%j] : tensor<?x?xf64, #delta.dims<n, K>> -> tensor<?xf64, #delta.dims<K>>
      ...
      delta.yield %S3 : tensor<?x?xf64, #delta.dims<K, V>>
    }
    ```
  }];
  let arguments = (ins StrAttr:$dim, Delta_Matrix:$init);
  let results = (outs Delta_Matrix:$result);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasRegionVerifier = 1;
}

def Delta_MicroOp : Delta_Op<"micro", [Pure]> {
  let summary = "one micro-step's value of a family";
  let description = [{
    `result = family[index]`, index from 0.

    Constraints:
    - C1: the family's first axis is the family dim, the result has the rest.
  }];
  let arguments = (ins Delta_Tensor:$family, Index:$index);
  let results = (outs Delta_Value:$result);
  let assemblyFormat = "$family `[` $index `]` attr-dict `:` type($family) `->` type($result)";
  let hasVerifier = 1;
}

def Delta_DimOp : Delta_Op<"dim", [Pure]> {
  let summary = "the size of a dim, as a number";
  let arguments = (ins StrAttr:$name);
  let results = (outs F64:$result);
  let assemblyFormat = "$name attr-dict `:` type($result)";
}

def Delta_OuterOp : Delta_Op<"outer", [Pure]> {
  let summary = "outer product x y^T";
  let description = [{
    `result[i, j] = x[i] * y[j]`.

    Constraints:
    - C1: the result's axes are x's, then y's.
  }];
  let arguments = (ins Delta_Vector:$x, Delta_Vector:$y);
  let results = (outs Delta_Matrix:$result);
  let assemblyFormat = "$x `,` $y attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Delta_MatvecOp : Delta_Op<"matvec", [Pure]> {
  let summary = "matrix times vector, M x or M^T x";
  let description = [{
    `result = M x`, or `M^T x` with `transpose`. A row times a matrix, x^T M,
    is `M^T x`: rows and columns are both rank-1 tensors here.

    Constraints:
    - C1: the contracted axis agrees, the result has the other one.
  }];
  let arguments = (ins Delta_Matrix:$matrix, Delta_Vector:$x, UnitAttr:$transpose);
  let results = (outs Delta_Vector:$result);
  let assemblyFormat = "$matrix `,` $x attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Delta_TransposeOp : Delta_Op<"transpose", [Pure]> {
  let summary = "transposed matrix";
  let arguments = (ins Delta_Matrix:$matrix);
  let results = (outs Delta_Matrix:$result);
  let assemblyFormat = "$matrix attr-dict `:` type($matrix) `->` type($result)";
  let hasFolder = 1;
  let hasVerifier = 1;
}

def Delta_DiagOp : Delta_Op<"diag", [Pure]> {
  let summary = "diagonal matrix of a vector";
  let arguments = (ins Delta_Vector:$x);
  let results = (outs Delta_Matrix:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

def Delta_EyeOp : Delta_Op<"eye", [Pure]> {
  let summary = "identity matrix";
  let results = (outs Delta_Matrix:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
  let hasVerifier = 1;
}

// Ops below are used in every stage.

def Delta_BroadcastOp : Delta_Op<"broadcast", [Pure]> {
  let summary = "repeats a value along new axes";
  let description = [{
    `step`, `events`: a scalar becomes a tensor of any shape. `chunk`: a scalar,
    a value per token `tensor<C>` (`dim = 0`: repeated along the columns) or a
    value per column `tensor<D>` (`dim = 1`: repeated along the rows) becomes
    `tensor<CxD>`; a scalar needs no `dim`.

    Constraints:
    - C1: the element types agree; a tensor operand has rank 1, the result rank
      2, and the operand's axis is the result's axis `dim`.

    ```mlir
    %1 = delta.broadcast %beta dim 0 : tensor<16xf32> -> tensor<16x64xf32>
    ```
  }];
  let arguments = (ins Delta_Value:$input, OptionalAttr<I64Attr>:$dim);
  let results = (outs Delta_Tensor:$result);
  let assemblyFormat = "$input (`dim` $dim^)? attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Delta_SumOp : Delta_Op<"sum", [Pure]> {
  let summary = "sum over the last axis";
  let description = [{
    `tensor<D> -> scalar`, `tensor<CxD> -> tensor<C>`.

    Constraints:
    - C1: the result has the operand's axes but the last.
  }];
  let arguments = (ins Delta_Tensor:$input);
  let results = (outs Delta_Value:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

class Delta_UnaryOp<string mnemonic> : Delta_Op<mnemonic, [AllTypesMatch<["input", "result"]>,
    Pure, SameOperandsAndResultType, Elementwise, Scalarizable, Vectorizable,
    Tensorizable]> {
  let arguments = (ins AnyTypeOf<[AnyFloat, TensorOf<[AnyFloat]>, VectorOfAnyRankOf<[AnyFloat]>]>:$input);
  let results = (outs AnyTypeOf<[AnyFloat, TensorOf<[AnyFloat]>, VectorOfAnyRankOf<[AnyFloat]>]>:$result);
  let assemblyFormat = "$input attr-dict `:` type($result)";
}

def Delta_SigmoidOp : Delta_UnaryOp<"sigmoid"> {
  let summary = "1 / (1 + exp(-x)), elementwise";
  let description = [{ Right for every x, infinities included. }];
}

def Delta_SoftplusOp : Delta_UnaryOp<"softplus"> {
  let summary = "log(1 + exp(x)), elementwise";
  let description = [{ Evaluated as max(x, 0) + log1p(exp(-abs(x))), so it never overflows. }];
}

#endif // DELTA_STEP_OPS_TD
