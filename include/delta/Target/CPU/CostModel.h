//===- CostModel.h - Reckoning of a chunk program's time --------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Estimates the cycles that a CPU needs for a token of a chunk program, from
// which the number of tokens in a chunk is chosen. The estimate knows the
// program, its sizes and types, and the CPU's vectors, but no machine and no
// arrays: a choice that changes bits must come out alike everywhere.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_CPU_COSTMODEL_H
#define DELTA_TARGET_CPU_COSTMODEL_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Target/CPU/CpuTarget.h"
#include "llvm/Support/raw_ostream.h"

#include <optional>

namespace mlir::delta {

/// Sizes that the user said to reckon with; unset: many heads, long sequences.
struct CpuCostAssumptions {
  std::optional<int64_t> B, T, H;
};

/// Cycles of one token and head.
struct CpuCost {
  int64_t tokens = 0;     // of the chunk
  double products = 0;    // matrix products in register tiles
  double pairs = 0;       // dot products of pairs of tokens, decay-Grams
  double solve = 0;       // substitution
  double elementwise = 0; // everything computed element by element
  double memory = 0;      // inputs and outs, once

  double total() const {
    // Inputs come while the chunk before is computed, if that takes longer.
    double work = products + pairs + solve + elementwise;
    return work > memory ? work : memory;
  }
};

/// Reckons a module of stage `chunk`.
CpuCost estimateCpuCost(ModuleOp chunk, const ::delta::cpu::CpuTarget &target,
                        const CpuCostAssumptions &assume);

/// The cheapest of the candidates, which are in order of their chunks; a larger
/// one must be clearly cheaper.
const CpuCost &chooseCpuChunk(ArrayRef<CpuCost> candidates);

/// Prints the candidates and the choice.
void explainCpuChunk(ArrayRef<CpuCost> candidates, llvm::raw_ostream &os);

} // namespace mlir::delta

#endif // DELTA_TARGET_CPU_COSTMODEL_H
