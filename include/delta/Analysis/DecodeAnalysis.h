//===- DecodeAnalysis.h - What a token's values depend on -------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The part of planning the recurrent form, token by token, that is the same for
// every target: which values depend on the state, which vectors are needed
// whole, which sums others wait for. A target derives its plan from it.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_ANALYSIS_DECODEANALYSIS_H
#define DELTA_ANALYSIS_DECODEANALYSIS_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/SetVector.h"

namespace mlir::delta {

/// An argument of the recurrence or one micro-step of a family.
struct InputRef {
  BlockArgument arg;
  int64_t micro = -1; // -1: no family
};

/// The axis of a vector of the events; null for a scalar.
StringAttr getVectorAxis(Value value);

struct DecodeAnalysis {
  RecurrenceOp events;
  SignatureAttr signature;
  int64_t rows = 0; // of the state
  int64_t columns = 0;
  StringAttr columnDim;

  // The token's events: all reads, then at most one decay, then the writes.
  SmallVector<ReadOp> reads;
  Value decay; // null: none
  SmallVector<WriteOp> writes;

  DenseSet<Value> onState; // values that depend on a read
  /// Values that differ between the tokens of a head.
  DenseSet<Value> varying;
  /// Sums that a scalar, or the vectors needed whole, wait for.
  DenseMap<Value, unsigned> level;
  /// Vectors that are read with, written along, decayed by, summed or given
  /// out, in this order of discovery; all are free of the state.
  llvm::SetVector<Value> whole;
  /// Positions of outs over the columns, and of scalars.
  SmallVector<unsigned> columnOuts, scalarOuts;

  int64_t getSize(StringAttr dim) const { return *signature.getDim(dim); }
  /// The signature's entry of an argument of the recurrence.
  ArgAttr getArg(BlockArgument arg) const;
  /// The input that a value is, if it is one.
  std::optional<InputRef> getInput(Value value) const;
};

/// Fills `analysis` for a module of stage `events` whose reads have been
/// hoisted. Errors, at the offending operation, when a dim is not bound or the
/// state's columns are not independent; `target` names the target in them.
LogicalResult analyzeDecode(ModuleOp module, StringRef target,
                            DecodeAnalysis &analysis);

} // namespace mlir::delta

#endif // DELTA_ANALYSIS_DECODEANALYSIS_H
