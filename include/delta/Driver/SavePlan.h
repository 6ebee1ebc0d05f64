//===- SavePlan.h - what a forward saves for its backward -------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A backward kernel reads the inputs again, and the state at the start of every
// so many chunks; everything else it computes again. The distance between two
// saved states is chosen under a budget of bytes.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_DRIVER_SAVEPLAN_H
#define DELTA_DRIVER_SAVEPLAN_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Driver/Options.h"
#include "delta/Driver/Report.h"

namespace delta::driver {

/// The largest distance between two saved states, in chunks, that backward
/// kernels are made for: they keep the states between in their workspace.
inline constexpr int64_t kMaxSaveEvery = 64;

/// What is saved, and what that costs.
struct SavePlan {
  int64_t every = 1;  ///< chunks from one saved state to the next
  int64_t tokens = 1; ///< of a chunk
  int64_t rows = 1, cols = 1;
  int64_t elementBytes = 4;
  double inputBytes = 0; ///< of a token and head, in the `in`s
  /// Bytes that may be saved for a token and head.
  double budget = 0;

  int64_t stateBytes() const { return rows * cols * elementBytes; }
  /// Saved bytes of a token and head.
  double bytesPerToken() const {
    return static_cast<double>(stateBytes()) / (tokens * every);
  }
};

/// Whether the states of all chunks of `tokens` tokens fit the budget.
/// Precondition: all dims are known.
bool fitsBudget(mlir::delta::SignatureAttr signature, int64_t tokens,
                const CompilerOptions &options);

/// The plan for a forward chunk program: as the options say, or else the
/// smallest distance that the budget allows; without a budget, every chunk's
/// state. Reports a distance that there are
/// no kernels for, and a budget that no plan fits, with what would.
llvm::FailureOr<SavePlan> planSaves(mlir::delta::SignatureAttr signature,
                                    const CompilerOptions &options,
                                    Reporter &reporter);

/// Says in words and numbers what is saved.
void explainSaves(const SavePlan &plan, llvm::raw_ostream &os);

} // namespace delta::driver

#endif // DELTA_DRIVER_SAVEPLAN_H
