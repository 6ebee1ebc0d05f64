//===- Passes.td - Passes of the NVIDIA target -------------*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_NVPTX_PASSES_TD
#define DELTA_TARGET_NVPTX_PASSES_TD

include "mlir/Pass/PassBase.td"

def GpuExpandMath : Pass<"delta-gpu-expand-math"> {
  let summary = "Replace elementary functions by what the GPU has";
  let description = [{
    There is no library of device functions behind a kernel, so every function
    becomes instructions: on f32 scalars `math.exp2` and `math.exp` one
    `ex2.approx.ftz` (exp after a multiplication by log2 e, so its relative
    error is 2^-22 + |x| 2^-24), `math.rsqrt` and `math.sqrt` the hardware's
    approximations, a division `rcp.approx.ftz` (of 1) or `div.full` (2 units
    in the last place, any range); `delta.sigmoid` is right for every x; log,
    log1p, tanh and `delta.softplus` are range reductions and polynomials as on
    the CPU, accurate near their zeros, where `lg2.approx` is not. exp(-inf) is
    0, overflow is inf, NaN stays NaN, denormal results are flushed to zero.

    Vectors are taken apart, f16 and bf16 go by way of f32. A function that
    none of this covers is an error.

    ```mlir
    %y = math.exp %x : f32
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
                           "::mlir::vector::VectorDialect",
                           "::mlir::LLVM::LLVMDialect", "::mlir::NVVM::NVVMDialect"];
}

def GpuToNVVM : Pass<"delta-gpu-to-nvvm", "::mlir::gpu::GPUModuleOp"> {
  let summary = "Convert the kernels of a module to LLVM and NVVM";
  let description = [{
    The generic half of the pipeline `delta-gpu-to-llvm`: gpu, nvgpu, arith,
    math, cf, vector, memref and index become LLVM and NVVM operations; index
    is 64 bits wide. A kernel's memref arguments become bare pointers to global
    memory, aligned to 16 bytes; reads through an input's pointer do not alias
    any write. `delta.kernel` becomes `nvvm.maxntid` and `nvvm.minctasm`.
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect", "::mlir::NVVM::NVVMDialect"];
}

def GpuDecodeMap : Pass<"delta-gpu-decode-map", "::mlir::ModuleOp"> {
  let summary = "Map events to a GPU kernel that runs token by token";
  let description = [{
    Contract in: stage `events`, every dim bound. Out: stage `mapped`, the
    recurrent form of the recurrence for `--fn=decode`, computed in f32.

    A CTA runs a block of one head's columns through the tokens with the state
    in registers: a thread holds a few columns of every n-th group of four
    rows, reads are sums over its rows and a butterfly over the lanes that
    share its columns. What is free of the state is evaluated by one warp for
    each token, as many tokens at a time as the CTA has warps, and handed over
    in shared memory: one barrier a window of tokens.
  }];
  let options = [
    Option<"target", "target", "std::string", "\"sm_90a\"",
           "Architecture to map for: sm_80 or sm_90a">];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
                           "::mlir::gpu::GPUDialect", "::mlir::memref::MemRefDialect",
                           "::mlir::NVVM::NVVMDialect", "::mlir::scf::SCFDialect",
                           "::mlir::vector::VectorDialect"];
}

#endif // DELTA_TARGET_NVPTX_PASSES_TD
