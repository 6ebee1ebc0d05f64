//===- Passes.td - From the chunk program to a GPU kernel ---*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_NVPTX_CHUNKTOMAPPED_PASSES_TD
#define DELTA_TARGET_NVPTX_CHUNKTOMAPPED_PASSES_TD

include "mlir/Pass/PassBase.td"

def DeltaGpuMap : Pass<"delta-gpu-map", "::mlir::ModuleOp"> {
  let summary = "Map a chunk program onto kernels for an NVIDIA GPU";
  let description = [{
    Contract in: stage `chunk`, chunks of 16, 32 or 64 tokens, every shape static. Out:
    stage `mapped`: a `gpu.module` with one kernel, or two, of `delta_warp`, arith, math,
    scf and gpu operations. Shared memory is not placed yet and there are no
    barriers: delta-place-shared and delta-insert-barriers do that.

    - A CTA is one batch, head and block of the state's columns. It works on
      windows of chunks, whose inputs arrive asynchronously a window ahead.
    - The *free slice* (all that does not depend on the state: decay products,
      Grams, inverses) of a chunk is one warp's, in registers, 16 channels at a
      time, in as many passes over the channels as sums over them feed each
      other. What the state slice needs of it goes to shared memory, over the
      input it was made from where nobody else reads that.
    - In the *state slice* every warp holds its columns of the state, as rows,
      in f32 accumulators and takes the chunks of the window in order; an
      accumulator is the operand of the next product as it stands.
    - Decay-Grams go level by level of the dyadic halving: the right rows of two
      row operands share one matrix instruction with the left rows of every
      column operand. Declared ranges (`scheme anchored`) give one product.
    - Masks of padding rows are dropped where zeros in the copies of the inputs
      already give the masked value.

    With `kernels=2` the slices are two kernels: the first one has a grid over
    windows of chunks and leaves a record of every chunk in a workspace
    (copy_out), the second one copies them back (async_copy).

    A backward with `segment=N` has kernels for its state's cotangent alone,
    which leave that behind every N chunks in the workspace, then a grid over
    segments of N chunks.

    `precision` says how operands of matrix instructions are rounded: bf16, f16,
    tf32 or bf16x3. 0 for the other options leaves the choice to the pass.
  }];
  let options = [
    Option<"target", "target", "std::string", "\"\"", "Architecture; that of the signature by default">,
    Option<"precision", "precision", "std::string", "\"\"", "bf16, f16, tf32 or bf16x3; the signature's, or from the inputs' types">,
    Option<"warps", "warps", "int64_t", "0", "Warps a CTA">,
    Option<"rows", "rows", "int64_t", "0", "Columns of the state a warp: 16 or 32">,
    Option<"vsplit", "vsplit", "int64_t", "0", "CTAs that share a head's columns">,
    Option<"ksplit", "ksplit", "int64_t", "0", "warps that share a chunk's channels: 1 or 2">,
    Option<"window", "window", "int64_t", "0", "Chunks a window">,
    Option<"stages", "stages", "int64_t", "0", "Windows in shared memory: 1, 2 or, with slices that overlap, 3">,
    Option<"kernels", "kernels", "int64_t", "0", "Kernels: 1, or 2, the free slice's and the state slice's">,
    Option<"free", "free", "int64_t", "0", "Chunks a CTA of the free slice's kernel">,
    Option<"ctas", "ctas", "int64_t", "0", "CTAs that a multiprocessor shall hold (backward)">,
    Option<"segment", "segment", "int64_t", "0", "Chunks that a CTA of a backward walks, behind a kernel for the state's cotangents">,
    Option<"sequences", "sequences", "int64_t", "0", "Sequences times heads that the cost model reckons with; 0 is as many as the device holds">,
    Option<"tokens", "tokens", "int64_t", "0", "Tokens of a sequence that the cost model reckons with; 0 is many">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect",
    "::mlir::math::MathDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect", "::mlir::delta::warp::WarpDialect"];
}

#endif // DELTA_TARGET_NVPTX_CHUNKTOMAPPED_PASSES_TD
