//===- BackwardForms.h - Kernels of a gradient by one choice ----*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A chunk program mapped in slices or by tiles as a choice says, with the
// kernels before and behind the one that walks the chunks.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_BACKWARDFORMS_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_BACKWARDFORMS_H

#include "MapBackward.h"
#include "Sliced/SlicedKernel.h"
#include "Tiled/TiledKernel.h"

namespace mlir::delta::gpumap {

/// The module's chunk program.
func::FuncOp getProgram(ModuleOp module);

/// What every mapping of a module starts from.
struct Start {
  SignatureAttr signature;
  ::delta::gpu::GpuTarget target;
  std::string precision;
  OperandPolicy policy;
  func::FuncOp function;

  static FailureOr<Start> get(ModuleOp module, const GpuMapOptions &options);

  /// How the kernel that walks the chunks is launched, but for its name.
  struct Launch {
    StringRef form;
    int64_t warps, stages, ctas, vBlocks;
    int64_t segment = 0; // chunks a CTA; 0: all
  };

  /// Makes the kernel's module; `emit` fills it, and gets the states that
  /// segments begin with.
  LogicalResult
  finish(ModuleOp module, const GpuMapOptions &options, const Launch &launch,
         llvm::function_ref<void(GpuKernel, const PartialSums &, Value)> emit);
};

/// The mapping by tiles with one choice of what is kept.
LogicalResult mapTiled(ModuleOp module, const GpuMapOptions &options,
                       const TiledChoice &choice);

/// The mapping in slices with one choice; none, with the reason, where the
/// program has another structure. `found` receives what is known of the arrays
/// then.
std::optional<LogicalResult> mapSliced(ModuleOp module,
                                       const GpuMapOptions &options,
                                       const SlicedChoice &choice,
                                       std::string &why,
                                       SlicedChoice *found = nullptr);

/// The kernel of a mapped module that walks the chunks.
Operation *getMainKernel(ModuleOp mapped);

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_BACKWARDFORMS_H
