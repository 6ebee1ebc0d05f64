//===- Decode.h - The recurrent form, token by token ------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What inference runs: `events` -> `mapped` without chunks, for any program.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_CPU_DECODE_H
#define DELTA_TARGET_CPU_DECODE_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Target/CPU/CpuTarget.h"

namespace mlir::delta {

/// Rewrites events so that every read is of the state before the token, and
/// that one decay, if any, and the writes follow them (the pass
/// delta-decode-hoist-reads). Exact algebra; the module stays in `events`.
LogicalResult hoistReads(RecurrenceOp events);

/// `events` -> `mapped`: the kernel that runs token by token with the state in
/// registers and the first-level cache (the pass delta-decode-map). Every dim
/// must be bound. `compute` is "f32", "f64" or empty: f64 if any array is f64,
/// else f32. Errors are reported at the offending operation.
LogicalResult convertEventsToDecode(ModuleOp module,
                                    const ::delta::cpu::CpuTarget &target,
                                    StringRef compute = "");

} // namespace mlir::delta

#endif // DELTA_TARGET_CPU_DECODE_H
