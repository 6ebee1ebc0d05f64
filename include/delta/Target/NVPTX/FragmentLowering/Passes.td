//===- Passes.td - From a warp's tiles to its lanes' registers -*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_FRAGMENT_LOWERING_PASSES_TD
#define DELTA_FRAGMENT_LOWERING_PASSES_TD

include "mlir/Pass/PassBase.td"

def LowerFragments : Pass<"delta-lower-fragments", "::mlir::gpu::GPUModuleOp"> {
  let summary = "Replace tiles of a warp by registers of its lanes";
  let description = [{
    Contract in: kernels of stage `mapped` with shared memory placed and
    barriers in. Out: no `delta_warp` operation and no encoded tensor is left;
    what was a tile is scalars in arith, math, scf, llvm and nvvm.

    A fragment of f32, i32 or i1 becomes R C / 32 scalars a lane in the order
    (i / 8, j / 8, j mod 2), one of bf16 or f16 R C / 64 packed 32-bit
    registers; vectors become R / 8 or C / 4 scalars. Tiles of 16-bit elements
    are read by ldmatrix, in the register order of the operand that they are
    for, and written by stmatrix (sm_90) or 32-bit stores; 32-bit elements by
    64-bit loads and stores. Addresses are 32 bits: a lane's part, computed once
    at the entry, exclusive-or a column, plus a base, plus a constant.

    The chip of the `gpu.module`'s `#nvvm.target` says what instructions there
    are (sm_80 without one).
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::scf::SCFDialect",
                           "::mlir::LLVM::LLVMDialect", "::mlir::NVVM::NVVMDialect",
                           "::mlir::memref::MemRefDialect"];
}

#endif // DELTA_FRAGMENT_LOWERING_PASSES_TD
