//===- Explain.h - What was derived, in plain words -------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The report behind --explain. Everything is read off the IR.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_ANALYSIS_EXPLAIN_H
#define DELTA_ANALYSIS_EXPLAIN_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "llvm/Support/raw_ostream.h"

namespace mlir::delta {

/// Describes a module of stage `events`: its events in order, rank, ties,
/// decay kind and the proof for its bound.
LogicalResult explainEvents(ModuleOp events, llvm::raw_ostream &os);

/// Describes a module of stage `chunk`: form, decay scheme, matrix products a
/// chunk, bytes a token; ends with the line `chunk C=... form=... decay=...
/// leaf=... g=... s=... h=... solve=... flops_per_token=...`.
LogicalResult explainChunk(ModuleOp chunk, llvm::raw_ostream &os);

} // namespace mlir::delta

#endif // DELTA_ANALYSIS_EXPLAIN_H
