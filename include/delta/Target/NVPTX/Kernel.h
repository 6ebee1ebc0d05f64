//===- Kernel.h - A GPU kernel and its interface ----------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What every GPU kernel has in common, whichever pass made it: the order of its
// arguments, its launch, and the module of stage `mapped` around it.
//
// Arguments: one pointer per `in` and `param` in declared order (a family is
// one array [B, T, n, H, dim]); the initial state (null: zero); one pointer per
// `out`; the final state (null: not wanted); one f32 per `attr`; the workspace;
// B, T and H in 64 bits. Arrays are contiguous, row-major, in the signature's
// types, and start at multiples of 16 bytes.
//
// Launch: the kernels of a function are launched in the order of the module,
// one after the other, with the same arguments. A kernel has a grid of B * H *
// v_blocks CTAs, CTA (b * H + h) * v_blocks + block; with `tokens` it is B * H
// * pieces * v_blocks with pieces = ceil(T / tokens), CTA
// ((b * H + h) * pieces + piece) * v_blocks + block. A grid without CTAs is not
// launched. T may be 0.
//
// Workspace: what kernels leave for later ones lies in global memory, in parts
// one behind the other whose sizes depend on B, T and H. Its contents are
// undefined when the first kernel begins.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_NVPTX_KERNEL_H
#define DELTA_TARGET_NVPTX_KERNEL_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Target/NVPTX/GpuTarget.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/BuiltinOps.h"

#include <string>

namespace mlir::delta {

/// Name of the dictionary with the facts of a kernel, on its `gpu.func` and
/// then its `llvm.func`.
inline constexpr llvm::StringLiteral kKernelAttr = "delta.kernel";

/// Name of the list with the parts of a function's workspace, on its
/// `gpu.module`; without it there is none.
inline constexpr llvm::StringLiteral kWorkspaceAttr = "delta.workspace";

/// How a kernel is launched.
struct GpuKernelFacts {
  std::string name;        // of the entry: delta_NAME_FN
  int64_t threads = 32;    // of a CTA
  int64_t sharedBytes = 0; // dynamic
  int64_t vBlocks = 1;     // CTAs that share a head's columns
  int64_t minCtas = 1;     // that a multiprocessor shall hold
  int64_t tokens = 0;      // that a CTA takes; 0: all of a sequence

  DictionaryAttr getAttr(MLIRContext *context) const;
  /// The facts on an operation; an error there when they are incomplete or
  /// out of range.
  static FailureOr<GpuKernelFacts> get(Operation *kernel);
};

/// A part of the workspace: `bytes`, a multiple of 16, times the dims that it
/// is made for.
struct GpuWorkspacePart {
  int64_t bytes = 0;
  bool ofB = true, ofH = true;
  int64_t tokens = 0; // for every so many tokens of T; 0: once
};

/// The workspace of a module of stage `mapped` or `llvm`; an error at its
/// `gpu.module` when the list is malformed.
FailureOr<SmallVector<GpuWorkspacePart>> getGpuWorkspace(ModuleOp module);
/// Adds a part, which gets the number returned, to that of a module in which a
/// kernel was made.
unsigned addGpuWorkspacePart(ModuleOp module, const GpuWorkspacePart &part);

/// A kernel being built: its function, with an entry block that ends in
/// `gpu.return`, and its arguments by what they are.
struct GpuKernel {
  gpu::GPUFuncOp function;
  SmallVector<Value> inputs; // in and param, in declared order
  /// The saved states: read by a backward kernel, written by a forward one;
  /// null when there are none.
  Value checkpoints;
  Value initialState;
  SmallVector<Value> outs;
  SmallVector<Value> sums;
  Value finalState;
  SmallVector<Value> attrs;
  Value workspace, B, T, H;

  /// Where part `number` of the workspace, an i8 array, begins: the bytes of
  /// the parts before it.
  Value getWorkspaceOffset(OpBuilder &builder, unsigned number) const;
  /// The array of an `in` or `param`; the value of an `attr`.
  Value getInput(SignatureAttr signature, ArgAttr arg) const;
  Value getAttr(SignatureAttr signature, ArgAttr arg) const;
};

/// "delta_NAME_FN".
std::string getGpuEntryName(StringRef name, StringRef fn);

/// Types of a kernel's arguments in the stage `mapped`: flat memrefs, f32,
/// index.
SmallVector<Type> getGpuKernelTypes(SignatureAttr signature);

/// Adds the kernel to the module's `gpu.module @NAME`, which is made (with its
/// target) if it is not there. The entry block holds `gpu.return` alone.
GpuKernel createGpuKernel(ModuleOp module, SignatureAttr signature,
                          StringRef name, const GpuKernelFacts &facts,
                          const ::delta::gpu::GpuTarget &target);

/// Kernels of a module of stage `mapped` or `llvm`, in order; empty when it is
/// not a GPU module.
SmallVector<Operation *> getGpuKernels(ModuleOp module);

/// The GPU that a module was mapped for, from its signature. An error on the
/// module when it is none.
FailureOr<::delta::gpu::GpuTarget> getGpuTarget(ModuleOp module);

/// Checks that a module of stage `mapped` is a GPU module: one `gpu.module`
/// with at least one kernel whose arguments are what the signature promises,
/// and whose facts fit the target. Reports the first thing that is not.
LogicalResult verifyMappedGpuModule(ModuleOp module);

} // namespace mlir::delta

#endif // DELTA_TARGET_NVPTX_KERNEL_H
