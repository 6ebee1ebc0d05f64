//===- Passes.h - Passes of the CPU target ----------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The passes of Passes.td, the pipeline `delta-cpu-to-llvm`, and the library
// functions behind them.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_CPU_PASSES_H
#define DELTA_TARGET_CPU_PASSES_H

#include "delta/Target/CPU/CpuTarget.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
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
#include "delta/Target/CPU/Passes.h.inc"

/// The rewrites of delta-expand-math.
void populateExpandMathPatterns(RewritePatternSet &patterns);

/// 1 / (1 + exp(-x)) and log(1 + exp(x)) on a scalar or vector, in arith and
/// math only and without overflow: what delta.sigmoid and delta.softplus
/// become in the stage `mapped`, where delta's own operations are not allowed.
Value buildSigmoid(OpBuilder &builder, Location loc, Value x);
Value buildSoftplus(OpBuilder &builder, Location loc, Value x);

/// Adds to a module of LLVM dialect, whose kernel @NAME has the argument order
/// of the stage `mapped`, the entry points that C calls (see Launch.h for
/// their types and return codes).
LogicalResult addCpuEntryPoints(ModuleOp module,
                                const ::delta::cpu::CpuTarget &target);

/// The passes from stage `mapped` to stage `llvm`.
void buildCpuToLLVMPipeline(OpPassManager &pm,
                            const ::delta::cpu::CpuTarget &target);

/// Checks that a module of stage `mapped` is a CPU kernel: one public function
/// with the arguments its signature promises and the attributes
/// `delta.workspace` and `delta.panels`. Reports the first thing that is not.
LogicalResult verifyMappedKernel(ModuleOp module);

/// Takes a module from stage `mapped` to stage `llvm` in place, entry points
/// included. Errors are reported on the module's operations.
LogicalResult lowerMappedToLLVM(ModuleOp module,
                                const ::delta::cpu::CpuTarget &target);

#define GEN_PASS_REGISTRATION
#include "delta/Target/CPU/Passes.h.inc"

/// Registers the passes above and the pipeline `delta-cpu-to-llvm`.
void registerCpuPasses();

} // namespace mlir::delta

#endif // DELTA_TARGET_CPU_PASSES_H
