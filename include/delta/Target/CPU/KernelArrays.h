//===- KernelArrays.h - The arrays of a CPU kernel's interface --*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which arrays a kernel reads and writes, in the order of its pointers.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_CPU_KERNELARRAYS_H
#define DELTA_TARGET_CPU_KERNELARRAYS_H

#include "delta/Dialect/Delta/IR/Delta.h"

namespace mlir::delta {

/// What a kernel's input arrays hold, in the order of its interface, but for
/// the state, which comes behind them: ins and params in declared order, then
/// the checkpoint if a backward kernel reads it.
SmallVector<ArgAttr> getInputArrays(SignatureAttr signature);

/// The same of its output arrays: outs, sums, then the checkpoint if a forward
/// kernel writes it.
SmallVector<ArgAttr> getOutputArrays(SignatureAttr signature);

/// Tokens from one saved state to the next: of `save_every` chunks.
int64_t getTokensPerCheckpoint(SignatureAttr signature);

} // namespace mlir::delta

#endif // DELTA_TARGET_CPU_KERNELARRAYS_H
