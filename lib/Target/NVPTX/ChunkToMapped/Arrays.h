//===- Arrays.h - The shared arrays of a forward kernel ---------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which arrays a mapping needs, and which of them lie over an input. Used both
// to reckon their bytes and to emit the kernel.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_ARRAYS_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_ARRAYS_H

#include "Mapping.h"

namespace mlir::delta::gpumap {

/// Copies of an input's tokens: [stages, window, 16, width] or, for one number
/// a token, [stages, window, 16].
struct StagedInput {
  BlockArgument argument;
  warp::SharedType type;
  int64_t stages = 2;
  /// Channels that are copied.
  int64_t width = 1;
  /// Only the columns of this CTA are there.
  bool ownColumns = false;
  /// The next window's copies are started after the free slice, into the place
  /// that it has read.
  bool late = false;
  /// Where the slices overlap: only the state slice reads it, so that its
  /// copies come a window later.
  bool forStateOnly = false;
};

/// A head's numbers of a param, one a channel: [1, width]. They are copied
/// once.
struct StagedParam {
  BlockArgument argument;
  warp::SharedType type;
};

/// Where the state slice finds a transfer.
struct TransferPlace {
  Node node;
  /// [window, 16, width], [window, 16] or [window, channels], behind 2 stages
  /// where the slices overlap or the free slice has a kernel of its own; null
  /// when it lies over the staged input `over`.
  warp::SharedType type;
  int64_t over = -1;
  /// Where it lies in a chunk's record, with two kernels.
  int64_t recordOffset = 0;
};

/// One triangular system: [window, m, 16, 16 m] twice, the inverse behind 2
/// stages where the slices overlap. A kernel without the free slice has no
/// source.
struct SystemPlace {
  TriSolveOp op;
  warp::SharedType source, inverse;
  /// The source lies where decay-Grams are put together.
  bool overGram = false;
  /// Where the inverse lies in a chunk's record, with two kernels.
  int64_t recordOffset = 0;
};

/// A sum over channels of the warp that has the second half of them, on its way
/// to the first one: [window, 1, 16, 16], or [window, 16] for numbers a token.
struct PartialPlace {
  Value value;
  warp::SharedType type;
};

/// Everything in shared memory of a kernel: of the slices that the mapping
/// says.
struct Arrays {
  Arrays(const Program &program, const GpuMapping &mapping,
         const OperandPolicy &policy);

  std::vector<StagedInput> inputs;
  std::vector<StagedParam> params;
  std::vector<TransferPlace> transfers;
  std::vector<SystemPlace> systems;
  std::vector<PartialPlace> partials;
  /// Where decay-Grams are put together from their levels, one after the
  /// other: [window, 1, 16, 16]; null when none is.
  warp::SharedType gram;

  /// Bytes of what the free slice leaves of a chunk for the state slice in
  /// another kernel: every transfer and inverse, one behind the other.
  int64_t recordBytes = 0;

  int64_t getBytes() const;

private:
  void layOutRecord(unsigned lead);
};

/// Does the free slice sum the node over channels?
bool isChannelSum(Node node);

/// The loop over channels in which an operation that sums over them runs.
int64_t getLoopPhase(const Program &program, Operation *op);

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_ARRAYS_H
