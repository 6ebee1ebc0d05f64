//===- Transforms.h - Rewrites between the stages ---------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The library functions behind the passes of Passes.td.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_DIALECT_DELTA_TRANSFORMS_TRANSFORMS_H
#define DELTA_DIALECT_DELTA_TRANSFORMS_TRANSFORMS_H

#include "delta/Dialect/Delta/IR/Delta.h"

namespace mlir::delta {

/// Binds dim `name` to `size` in the module's signature. Errors: no such dim,
/// a size below 1, another size bound already.
LogicalResult bindDim(ModuleOp module, StringRef name, int64_t size);

/// `step` -> `events` (see the pass delta-step-to-events). Needs the dims of
/// micro-step loops bound. Errors are emitted at the offending operation.
LogicalResult convertStepToEvents(ModuleOp module);

/// Simplifies a module of stage `events` in place.
LogicalResult simplifyEvents(ModuleOp module);

/// What the chunk program is made with.
struct ChunkOptions {
  /// Tokens a chunk: a positive multiple of 16; 0: chosen by the cost model.
  int64_t chunk = 0;
  /// Type computed in.
  bool f64 = false;
};

/// `events` -> `chunk` (see the pass delta-chunk). Needs every dim bound.
LogicalResult convertEventsToChunk(ModuleOp module, const ChunkOptions &options);

} // namespace mlir::delta

#endif // DELTA_DIALECT_DELTA_TRANSFORMS_TRANSFORMS_H
