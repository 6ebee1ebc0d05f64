//===- Passes.h - From a warp's tiles to its lanes' registers ---*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The pass of Passes.td, and the pipeline around it.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_NVPTX_FRAGMENTLOWERING_PASSES_H
#define DELTA_TARGET_NVPTX_FRAGMENTLOWERING_PASSES_H

#include "delta/Dialect/Warp/IR/Warp.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Pass/Pass.h"

namespace mlir {
class OpPassManager;
} // namespace mlir

namespace mlir::delta {

#define GEN_PASS_DECL
#include "delta/Target/NVPTX/FragmentLowering/Passes.h.inc"

/// The passes from a module with values of warps to one with values of lanes,
/// to run on `builtin.module`: shared memory is placed, barriers are put, tiles
/// become registers. What follows is the generic lowering of arith, math, scf
/// and gpu.
void buildGpuMappedToLLVM(OpPassManager &pm);

#define GEN_PASS_REGISTRATION
#include "delta/Target/NVPTX/FragmentLowering/Passes.h.inc"

} // namespace mlir::delta

#endif // DELTA_TARGET_NVPTX_FRAGMENTLOWERING_PASSES_H
