//===- StatesKernel.h - States between saved ones, again --------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where a forward saves the state of every N-th chunk, a kernel before the
// backward one computes those between again: the fused forward, without outs,
// one CTA for N chunks. They lie in the workspace as a forward that saves every
// state would have left them.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_STATESKERNEL_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_STATESKERNEL_H

#include "Mapping.h"
#include "delta/Target/NVPTX/Kernel.h"

namespace mlir::delta::gpumap {

class StatesKernel {
public:
  /// The kernel for the program `states` of a backward module with the
  /// signature; made in `module`, with its part of the workspace.
  static FailureOr<StatesKernel> add(ModuleOp module, func::FuncOp states,
                                     SignatureAttr signature,
                                     const OperandPolicy &policy,
                                     const ::delta::gpu::GpuTarget &target,
                                     StringRef name);
  /// The states of all chunks, for a kernel that is launched behind it.
  Value getStates(const GpuKernel &kernel) const;
  const GpuMapping &getMapping() const { return mapping; }

private:
  GpuMapping mapping;
  Type element;
  int64_t stateSize = 0;
  unsigned part = 0; // of the workspace
};

/// The program that computes states again, of a backward module; null where
/// every state is saved.
func::FuncOp getStatesProgram(ModuleOp module);

/// A part of the workspace with a state for every `tokens` tokens of a head, as
/// an array at the start of a kernel.
Value viewStates(const GpuKernel &kernel, unsigned part, int64_t tokens,
                 int64_t stateSize, Type element);

/// Drops pairs of decay-Grams that nobody reads, and their rows and columns.
void dropUnusedPairs(func::FuncOp program);

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_STATESKERNEL_H
