//===- Passes.h - Passes of the NVIDIA target -------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The passes of Passes.td, the pipeline `delta-gpu-to-llvm`, and the library
// functions behind them.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_NVPTX_PASSES_H
#define DELTA_TARGET_NVPTX_PASSES_H

#include "delta/Target/NVPTX/GpuTarget.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace mlir {
class OpPassManager;
class RewritePatternSet;
} // namespace mlir

namespace mlir::delta {

#define GEN_PASS_DECL
#include "delta/Target/NVPTX/Passes.h.inc"

/// The rewrites of delta-gpu-expand-math.
void populateGpuExpandMathPatterns(RewritePatternSet &patterns);

/// The passes from stage `mapped` of a GPU module to stage `llvm`:
///  1. the module is checked (verifyMappedGpuModule);
///  2. values spread over a warp's lanes become each lane's own;
///  3. functions are expanded, control flow and the rest converted;
///  4. the result is checked and its stage set.
void buildGpuToLLVMPipeline(OpPassManager &pm);

/// Takes a GPU module from stage `mapped` to stage `llvm` in place. Errors are
/// reported on the module's operations.
LogicalResult lowerMappedGpuToLLVM(ModuleOp module);

/// `events` -> `mapped`: the GPU kernel that runs token by token (the pass
/// delta-gpu-decode-map). Every dim must be bound. Errors are reported at the
/// offending operation.
LogicalResult convertEventsToGpuDecode(ModuleOp module,
                                       const ::delta::gpu::GpuTarget &target);

#define GEN_PASS_REGISTRATION
#include "delta/Target/NVPTX/Passes.h.inc"

/// Registers the passes above and the pipeline `delta-gpu-to-llvm`.
void registerGpuPasses();

} // namespace mlir::delta

#endif // DELTA_TARGET_NVPTX_PASSES_H
