//===- EventChain.h - The chain of events as a table ------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads, writes and decays of one token with their two counters (chunk_math
// 2.1): how many decays and how many writes stand before them.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_ANALYSIS_EVENTCHAIN_H
#define DELTA_ANALYSIS_EVENTCHAIN_H

#include "delta/Dialect/Delta/IR/Delta.h"

namespace mlir::delta {

/// The events of one token in order.
struct EventChain {
  struct Read {
    ReadOp op;
    unsigned decays, writes; // that stand before it
  };
  struct Write {
    WriteOp op;
    unsigned decays; // that stand before it
    bool feedback;   // its coefficient depends on a read
  };
  SmallVector<DecayOp> decays;
  SmallVector<Read> reads; // those with users
  SmallVector<Write> writes;

  /// Index of a read's result in `reads`.
  unsigned indexOf(Value read) const;
  /// Number of feedback writes: the rank of the transition's low-rank part.
  unsigned getRank() const;
  /// Are all decays scalars?
  bool hasScalarDecay() const;
};

/// Builds the table. Fails with a located error if the states do not form one
/// chain from the recurrence's argument to its yielded state.
FailureOr<EventChain> buildEventChain(RecurrenceOp events);

} // namespace mlir::delta

#endif // DELTA_ANALYSIS_EVENTCHAIN_H
