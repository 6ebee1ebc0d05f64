//===- DecodePlan.h - Where the values of a token are evaluated -*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A token's values are of three kinds. Scalars are SSA values. Vectors that are
// needed whole (what is read with, written along or summed) are evaluated in
// loops over their dim, level by level, a sum separating two levels; what later
// loops or the passes over the state need is kept in buffers of the workspace.
// Vectors over the state's columns are evaluated for a panel's columns where
// they are used and stay in registers.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_CPU_DECODEPLAN_H
#define DELTA_LIB_TARGET_CPU_DECODEPLAN_H

#include "delta/Analysis/DecodeAnalysis.h"
#include "delta/Target/CPU/CpuTarget.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

namespace mlir::delta {

/// Everything known about a kernel before any code is built.
struct DecodePlan : DecodeAnalysis {
  Type computeType; // f32 or f64
  unsigned levels = 1;
  /// Scalars in order; uniform ones are the same for all tokens of a head.
  SmallVector<Value> uniformScalars, tokenScalars;
  /// Token scalars used beside the columns: carried from where they are
  /// evaluated to there.
  SmallVector<Value> carried;
  /// Work of the loop over one dim at one level.
  struct Loop {
    SmallVector<Value> buffered; // vectors to keep in the workspace
    SmallVector<SumOp> sums;
    SmallVector<unsigned> outs; // outs to store, by position
  };
  /// Loops by level; dims in order of first use.
  SmallVector<llvm::MapVector<StringAttr, Loop>> loops;

  // Shape of the code.
  unsigned lanes = 1;       // of a vector register
  int64_t panelColumns = 1; // of a whole panel
  int64_t wideColumns = 1;  // of the panels done at once, where there are many
  int64_t panels = 1;
  /// Byte offset of each buffered vector: two copies, for even and odd tokens.
  llvm::MapVector<Value, int64_t> bufferOffset;
  int64_t workspace = 0; // bytes; the panel of the state stands first

  /// Is the vector an input with elements of the computed type, so that the
  /// passes can use it where it is?
  bool isReadInPlace(Value vector) const;
};

/// Checks that the events can be run by columns, and plans the kernel. The
/// reads must have been hoisted. `compute` is as for convertEventsToDecode.
FailureOr<DecodePlan> planDecode(ModuleOp module,
                                 const ::delta::cpu::CpuTarget &target,
                                 StringRef compute);

} // namespace mlir::delta

#endif // DELTA_LIB_TARGET_CPU_DECODEPLAN_H
