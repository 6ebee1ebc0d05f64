//===- Passes.td - Shared memory of GPU kernels -------------*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_NVPTX_SHAREDMEMORY_PASSES_TD
#define DELTA_TARGET_NVPTX_SHAREDMEMORY_PASSES_TD

include "mlir/Pass/PassBase.td"

def DeltaPlaceShared : Pass<"delta-place-shared", "::mlir::ModuleOp"> {
  let summary = "Give every shared array its place";
  let description = [{
    Sets the offset of each `delta_warp.alloc_shared` and `shared_bytes` in the
    kernel's `delta.kernel`. Arrays are aligned to 128 bytes. Two arrays share
    a place when no iteration of the kernel's loop has use for both at once and
    they are private to the warps in the same way (equal types, every access at
    the warp's own first index), so that ordering one warp is enough. When that
    does not fit the architecture, any two arrays that are not needed at once
    may overlap, which costs barriers. An array that the loop fills
    asynchronously, or reads before it writes, lives through the whole loop.
  }];
}

def DeltaInsertBarriers : Pass<"delta-insert-barriers", "::mlir::ModuleOp"> {
  let summary = "Order the accesses to shared memory";
  let description = [{
    Runs after delta-place-shared. Inserts `gpu.barrier` where an access may
    touch bytes that another warp accessed before, one of both writing, and
    `delta_warp.warp_barrier` where another lane of the same warp did; nowhere
    else. Accesses at the same index made from the warp's number belong to one
    warp. An asynchronous copy is a write from its start to the wait for it; it
    goes to another stage than what is read meanwhile (another first index).
    Loops are followed over their back edge: tiles at the loop's own index do
    not meet those of another iteration. Barriers stand in uniform control
    flow; where that cannot be, or a copy is read before it is waited for, the
    pass fails with an error at the access.
  }];
  let dependentDialects = ["::mlir::gpu::GPUDialect"];
}

#endif // DELTA_TARGET_NVPTX_SHAREDMEMORY_PASSES_TD
