//===- DecodePlan.h - The recurrent form on a GPU, planned ------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A CTA owns a block of a head's columns. In its warps a thread holds a tile of
// the state in registers: `quads` groups of four rows by `threadColumns`
// columns. The lanes of a warp are `rowLanes` by `columnLanes`; lane row g
// holds the rows 4 (g + rowLanes m) + (0..3), so that the lanes' vector loads
// of one m lie side by side in shared memory.
//
// What is free of the state is evaluated once a token and CTA, by one warp: a
// window of as many tokens as there are warps is prepared at a time, one token
// a warp, in shared memory, while the window before is run through.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_DECODEPLAN_H
#define DELTA_LIB_TARGET_NVPTX_DECODEPLAN_H

#include "delta/Analysis/DecodeAnalysis.h"
#include "delta/Target/NVPTX/GpuTarget.h"
#include "llvm/ADT/MapVector.h"

namespace mlir::delta {

/// Lanes of a warp.
inline constexpr int64_t kWarpSize = 32;

struct GpuDecodePlan : DecodeAnalysis {
  // Shape of the code.
  int64_t rowLanes = 1, columnLanes = kWarpSize;
  int64_t quads = 1, threadColumns = 1;
  int64_t warps = 1; // of a CTA, and tokens in a window
  int64_t vBlocks = 1;
  int64_t stateWidth = 1; // columns that one access of memory can take

  /// Scalars in order; uniform ones are the same for all tokens of a head.
  SmallVector<Value> uniformScalars, tokenScalars;

  /// What a token leaves in shared memory for those who run through it, by
  /// offset in floats: vectors over the rows (padded with zeros), vectors over
  /// the block's columns, scalars.
  llvm::MapVector<Value, int64_t> rowSlots, columnSlots, scalarSlots;
  int64_t tokenFloats = 0;

  int64_t getPaddedRows() const { return 4 * rowLanes * quads; }
  int64_t getWarpColumns() const { return columnLanes * threadColumns; }
  int64_t getBlockColumns() const { return warps * getWarpColumns(); }
  int64_t getThreads() const { return warps * kWarpSize; }
  int64_t getSharedBytes() const { return 2 * warps * tokenFloats * 4; }
};

/// Checks that the events can be run on the GPU, and plans the kernel. The
/// reads must have been hoisted. What does not fit is reported with the bytes
/// or registers it would take.
FailureOr<GpuDecodePlan> planGpuDecode(ModuleOp module,
                                       const ::delta::gpu::GpuTarget &target);

} // namespace mlir::delta

#endif // DELTA_LIB_TARGET_NVPTX_DECODEPLAN_H
