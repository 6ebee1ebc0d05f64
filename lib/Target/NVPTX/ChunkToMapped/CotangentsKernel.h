//===- CotangentsKernel.h - The state's cotangent, segment by segment -----===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Of a backward program, only the state's cotangent goes from chunk to chunk:
// the program without any other result, which is one with a state slice and a
// free slice as forwards are, has kernels of its own. They leave the cotangent
// behind every segment of chunks in the workspace, so that the backward kernel
// can take all segments of a sequence at once.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_COTANGENTSKERNEL_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_COTANGENTSKERNEL_H

#include "Mapping.h"
#include "delta/Target/NVPTX/Kernel.h"

namespace mlir::delta::gpumap {

class CotangentsKernel {
public:
  /// Its kernels, made in `module`, with their parts of the workspace, for the
  /// program `cotangents` of a backward module with the signature.
  static FailureOr<CotangentsKernel>
  add(ModuleOp module, func::FuncOp cotangents, SignatureAttr signature,
      const OperandPolicy &policy, const ::delta::gpu::GpuTarget &target,
      const GpuMapOptions &options, int64_t segment, StringRef name);
  /// How they are mapped, with the estimates; an error at the program where
  /// that is not possible.
  static FailureOr<Candidate> choose(func::FuncOp cotangents,
                                     SignatureAttr signature,
                                     const OperandPolicy &policy,
                                     const ::delta::gpu::GpuTarget &target,
                                     const GpuMapOptions &options);

  /// The states behind segments, the last one's first, f32, transposed, for a
  /// kernel that is launched behind these.
  Value getStates(const GpuKernel &kernel) const;

private:
  int64_t stateSize = 0, tokens = 0; // of a segment
  unsigned part = 0;                 // of the workspace
};

/// Adds to a backward module the program of its state's cotangent alone.
LogicalResult addCotangentsProgram(ModuleOp module);
/// That program; null where there is none.
func::FuncOp getCotangentsProgram(ModuleOp module);

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_COTANGENTSKERNEL_H
