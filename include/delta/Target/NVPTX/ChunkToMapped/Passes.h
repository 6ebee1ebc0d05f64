//===- Passes.h - From the chunk program to a GPU kernel --------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The mapping of the forward kernel. Shared memory and barriers come after it.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_NVPTX_CHUNKTOMAPPED_PASSES_H
#define DELTA_TARGET_NVPTX_CHUNKTOMAPPED_PASSES_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Dialect/Warp/IR/Warp.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

#include <string>

namespace mlir::delta {

/// Choices pinned by the user; 0 or empty leaves them to the mapping.
struct GpuMapOptions {
  std::string precision;
  int64_t warps = 0, rows = 0, vsplit = 0, ksplit = 0, window = 0, stages = 0,
          kernels = 0, free = 0, ctas = 0, segment = 0;
  /// Sequences times heads that the cost model reckons with; 0 is as many as
  /// the device holds.
  int64_t sequences = 0;
  /// Tokens of a sequence that it reckons with; 0 is many.
  int64_t tokens = 0;
};

/// Takes a module from stage `chunk` to stage `mapped` in place, for the
/// architecture that its signature's option `target` names. Reports what cannot
/// be mapped, or does not fit, and leaves the module as it was.
LogicalResult mapChunkToGpu(ModuleOp module, const GpuMapOptions &options);

/// Writes the candidates for a module of stage `chunk` with their reckoning,
/// and one line `mapping warps=… mma_flops_per_chunk=…` for the choice.
LogicalResult explainGpuMapping(ModuleOp module, const GpuMapOptions &options,
                                raw_ostream &os);

/// Bytes of one element of a saved state: kernels save states in the type that
/// operands have with the precision (empty: the default one), 16 bits or f32.
int64_t getGpuSavedBytes(SignatureAttr signature, StringRef precision);

#define GEN_PASS_DECL
#include "delta/Target/NVPTX/ChunkToMapped/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "delta/Target/NVPTX/ChunkToMapped/Passes.h.inc"

} // namespace mlir::delta

#endif // DELTA_TARGET_NVPTX_CHUNKTOMAPPED_PASSES_H
