//===- DeltaEventOps.td - Events on a state ----------------*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Included by DeltaOps.td. The canonical form: an SSA chain on a state value.
// The order of events is def-use. Micro-steps are unrolled. Facts are structure
// (types, the same SSA operand), so the IR cannot lie about them.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_EVENT_OPS_TD
#define DELTA_EVENT_OPS_TD

def Delta_DecayOp : Delta_Op<"decay", [Pure, AllTypesMatch<["state", "result"]>]> {
  let summary = "scales the rows of the state: diag(w) S";
  let description = [{
    `result[i, j] = w[i] * state[i, j]`, or `w * state` for a scalar w. w may be
    any real number; declared ranges only choose faster schemes.

    A decay by 1 folds to its state.

    Constraints:
    - C1: a vector w has the state's first axis.
  }];
  let arguments = (ins Delta_Matrix:$state, Delta_Value:$w);
  let results = (outs Delta_Matrix:$result);
  let assemblyFormat = "$state `,` $w attr-dict `:` type($state) `,` type($w)";
  let hasFolder = 1;
  let hasVerifier = 1;

}

def Delta_ReadOp : Delta_Op<"read", [Pure]> {
  let summary = "reads the state: S^T x";
  let description = [{
    `result[j] = sum_i state[i, j] * x[i]`.

    Constraints:
    - C1: x has the state's first axis, the result its second.
  }];
  let arguments = (ins Delta_Matrix:$state, Delta_Vector:$x);
  let results = (outs Delta_Vector:$result);
  let assemblyFormat = "$state `,` $x attr-dict `:` type($state) `,` type($x) `->` type($result)";
  let hasVerifier = 1;

}

def Delta_WriteOp : Delta_Op<"write", [Pure, AllTypesMatch<["state", "result"]>]> {
  let summary = "writes a rank-one term: S + y c^T";
  let description = [{
    `result[i, j] = state[i, j] + y[i] * c[j]`. The coefficient c may depend,
    linearly, on earlier reads (feedback). A write of zero folds to its state.

    Constraints:
    - C1: y has the state's first axis, c its second.
  }];
  let arguments = (ins Delta_Matrix:$state, Delta_Vector:$y, Delta_Vector:$c);
  let results = (outs Delta_Matrix:$result);
  let assemblyFormat = "$state `,` $y `,` $c attr-dict `:` type($state) `,` type($y) `,` type($c)";
  let hasFolder = 1;
  let hasVerifier = 1;

}

#endif // DELTA_EVENT_OPS_TD
