//===- Passes.td - Passes on the delta dialect -------------*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TRANSFORMS_PASSES_TD
#define DELTA_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

def DeltaSetDims : Pass<"delta-set-dims", "::mlir::ModuleOp"> {
  let summary = "Bind the sizes of dims";
  let description = [{
    Writes sizes into the `dims` of the module's signature. A dim that is bound
    to another size already, or that the recurrence does not have, is an error.

    Example: `--delta-set-dims="dims=K=64,V=64"`.
  }];
  let options = [
    ListOption<"dims", "dims", "std::string", "Sizes to bind, each NAME=SIZE with SIZE >= 1">
  ];
}

def DeltaStepToEvents : Pass<"delta-step-to-events", "::mlir::ModuleOp"> {
  let summary = "Turn the step as written into a chain of decays, reads and writes";
  let description = [{
    Contract in: stage `step`; the dim of every micro-step loop is bound. Out:
    stage `events`.

    The state-typed values of the step form a graph; its cut points, through
    which every path from the old state to the new one passes, become the
    states of the chain. Between two of them the step is affine in the state,
    S' = D S + sum_i x_i y_i^T where y_i may be a read S^T a: it becomes the
    reads, one decay by D, and one write a dyad. Micro-steps are unrolled.

    A step that is not of that form is an error at the operation that leaves
    the class.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect"];
}

def DeltaSimplifyEvents : Pass<"delta-simplify-events", "::mlir::ModuleOp"> {
  let summary = "Bring events into the form with the least work";
  let description = [{
    General rewrites on a module of stage `events` (chunk_math 2.2), each of
    which makes a fact structural:

    - scalars of a token move to the side of the state's columns:
      `write(s, a*y, c) -> write(s, y, a*c)`, `read(s, a*x) -> a*read(s, x)`;
    - writes with one vector merge: `write(write(s, y, c), y, e) -> write(s, y, c+e)`;
    - a read of `w .* x` before the decay by w is a read of x after it;
    - consecutive decays multiply, and decays by 1 and reads and writes of 0
      vanish.
  }];
}

def DeltaChunk : Pass<"delta-chunk", "::mlir::ModuleOp"> {
  let summary = "Derive the chunk program";
  let description = [{
    Contract in: stage `events`, every dim bound. Out: stage `chunk`: a function
    on C tokens at a time (chunk_math 2.1). Every read of a token is a row, every
    write a column of the decay-Gram; writes whose coefficients depend on reads
    are the unknowns of one triangular system.

        E_j = c_j + sum_i alpha_ji (F~_i S + sum_l G_il E_l)
        z_i = X~_i S + sum_l G_il E_l
        S'  = gamma_C S + sum_l Y^_l^T E_l

    Specialisation deletes work: without feedback there is no solve, a scalar
    decay becomes a C x C mask and row scalings, no decay a causal mask. The
    tokens behind a short sequence's end are identity tokens.
  }];
  let options = [
    Option<"chunk", "chunk", "int64_t", "0", "Tokens a chunk: a multiple of 16, or 0 to let the cost model choose">,
    Option<"compute", "compute", "std::string", "\"f32\"", "Type computed in: f32 or f64">
  ];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
                           "::mlir::func::FuncDialect", "::mlir::tensor::TensorDialect"];
}

def DeltaDifferentiate : Pass<"delta-differentiate", "::mlir::ModuleOp"> {
  let summary = "Derive the backward chunk program";
  let description = [{
    Contract in: stage `chunk`, the forward program. Out: stage `chunk`, the
    backward program of one chunk (signature option `fn = "backward"`): from
    the inputs, the outs' cotangents `d<out>`, the state at the chunk's start (a
    checkpoint) and the cotangent of the state at its end it computes the
    cotangent of the state at its start, those of the inputs, `d_<in>`, and the
    chunk's part of those of the params and attrs, `d_<param>`, `d_<attr>`,
    which the kernel adds up.

    Reverse mode, one rule an operation (AdjointInterface), with decay-Grams
    and triangular solves whole; then common subexpressions are eliminated,
    which leaves the matrix products of a derivation by hand (chunk_math 4).
    Decays are differentiated in logarithms where they are exponentials, so
    that their gradients are finite, and 0 at log-decay -inf.
  }];
  let options = [
    Option<"saveEvery", "save-every", "int64_t", "1", "Chunks from one checkpoint to the next">
  ];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
                           "::mlir::func::FuncDialect", "::mlir::tensor::TensorDialect"];
}

def DeltaSaveStates : Pass<"delta-save-states", "::mlir::ModuleOp"> {
  let summary = "Let a forward program save its states";
  let description = [{
    Adds a `checkpoint` to the signature of a forward chunk program: its kernel
    stores the state at the start of chunk 0, `every`, 2 `every` and so on,
    where the backward kernel reads it.
  }];
  let options = [
    Option<"every", "every", "int64_t", "1", "Chunks from one checkpoint to the next">
  ];
}

def DeltaExplain : Pass<"delta-explain", "::mlir::ModuleOp"> {
  let summary = "Print what was derived, in plain words";
  let description = [{
    Prints the report of `delta-compile --explain` for a module of stage
    `events` or `chunk` on stderr, and leaves the module as it is. In stage
    `chunk` it ends with the counts of matrix products in the units of
    chunk_math 2.3.
  }];
}

#endif // DELTA_TRANSFORMS_PASSES_TD
