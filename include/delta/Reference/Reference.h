//===- Reference.h - The meaning of a recurrence, in float64 ----*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Evaluates a module of stage `step`, `events` or `chunk` on plain arrays of
// double, and differentiates one of stage `step` or `events`. It shares no code
// with the passes or the targets, so that they can be held against it.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_REFERENCE_REFERENCE_H
#define DELTA_REFERENCE_REFERENCE_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringMap.h"

#include <cstdint>
#include <vector>

namespace delta::reference {

/// How an evaluation rounds. `Exact`: every value is a double. With a type,
/// as kernels do that take their matrix products' operands in it: operands are
/// rounded to it (for `Bf16x3` to a high and a low part, whose product is left
/// out), products add up in f32, and every other result is an f32.
enum class Operands { Exact, F32, Tf32, F16, Bf16, Bf16x3 };

/// What a module is evaluated on. Arrays are dense and row-major:
/// an `in` is [B, T, H, dim] ([B, T, H] for a scalar), of a micro-step family
/// [B, T, n, H, dim]; a `param` is [H, dim] ([H]); the state is [B, H, A, A'].
struct Problem {
  int64_t B = 0, T = 0, H = 0;
  /// The size of every other dim of the signature, families' included.
  llvm::StringMap<int64_t> dims;
  /// Every `in` and `param`, by name.
  llvm::StringMap<llvm::ArrayRef<double>> arrays;
  /// Value of every `attr`, by name.
  llvm::StringMap<double> attrs;
  /// The state before the first token; empty: zero.
  llvm::ArrayRef<double> initialState;
  /// Threads over the B * H independent sequences; 0: one a processor. The
  /// result does not depend on it.
  unsigned threads = 0;
  /// Other than exact in the stage `chunk` only. Decay-Grams are then halved
  /// down to single tokens or anchored, as the operation says, their adjoints
  /// halved in either case, and a system is solved by its f32 inverse.
  Operands operands = Operands::Exact;
};

/// The arrays computed: each out as [B, T, H, dim] ([B, T, H]), of a
/// micro-step family [B, T, n, H, dim], each sum as [B, H, dim] ([B, H]), the
/// state after the last token (before the first one, for a backward program),
/// and the states that a forward program saves, [B, H, count, A, A'].
struct Result {
  llvm::StringMap<std::vector<double>> outs;
  std::vector<double> finalState;
  std::vector<double> checkpoints;
};

/// Evaluates `module`: token by token in the stages `step` and `events`, chunk
/// by chunk in the stage `chunk`, where the rows behind the last token are NaN,
/// which a correct program never shows. A backward program, whose `in`s include
/// the outs' cotangents, walks the chunks from the last to the first, and needs
/// the checkpoint's array too: the state at the start of every chunk. Element
/// types in the module are not looked at: every value is a double.
///
/// Fails with a diagnostic at the operation or the module: an operation that
/// is not known, another stage, a missing or misshaped array, a missing dim or
/// attr, a dim that contradicts the signature, rounding where there is none.
llvm::LogicalResult evaluate(mlir::ModuleOp module, const Problem &problem,
                             Result &result);

/// The cotangents of a problem's results, by what they belong to; an absent or
/// empty one is zero. Shapes are those of the results.
struct Cotangents {
  llvm::StringMap<llvm::ArrayRef<double>> outs;
  llvm::ArrayRef<double> finalState;
};

/// The gradient of <outs, their cotangents> + <final state, its cotangent>.
struct Gradients {
  /// Of every `in` and `param`, by its name and in its shape.
  llvm::StringMap<std::vector<double>> arrays;
  /// Of every `attr`, by its name.
  llvm::StringMap<double> attrs;
  std::vector<double> initialState;
};

/// Differentiates a module of stage `step` or `events` in reverse mode, token
/// by token: not by way of a chunk program. Where a function has no derivative
/// a subgradient is taken: at a tie, `max` and `min` pass half of the cotangent
/// to each operand, and `abs` nothing. A cotangent of 0 stays 0 on its way back
/// whatever the values are, so a log-decay of -inf has the gradient 0.
/// Sums over sequences are taken in order and do not depend on `threads`.
///
/// Fails as `evaluate` does, and for a misshaped cotangent.
llvm::LogicalResult differentiate(mlir::ModuleOp module, const Problem &problem,
                                  const Cotangents &cotangents,
                                  Gradients &result);

} // namespace delta::reference

#endif // DELTA_REFERENCE_REFERENCE_H
