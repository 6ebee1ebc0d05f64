//===- Adjoint.h - Reverse-mode differentiation -----------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The interface of operations that can be differentiated, and the cotangents
// that its rules read and add to.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_DIALECT_DELTA_TRANSFORMS_ADJOINT_H
#define DELTA_DIALECT_DELTA_TRANSFORMS_ADJOINT_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

namespace mlir::delta {

/// The cotangents of a chunk program's values while it is differentiated. A
/// value without one has the cotangent zero.
class Cotangents {
public:
  /// `valid`: the number of tokens of the chunk.
  Cotangents(OpBuilder &builder, Value valid)
      : builder(builder), vectors(builder), valid(valid) {}

  OpBuilder &builder;
  VectorBuilder vectors;

  /// The value's cotangent; null for zero.
  Value get(Value value) const { return plain.lookup(value); }
  /// The same, with zeros written out.
  Value getOrZero(Location loc, Value value);
  /// Adds `term`, of the value's type, to the value's cotangent.
  void add(Location loc, Value value, Value term);
  /// Adds op(lhs) op(rhs), accumulated by the product.
  void addMatmul(Location loc, Value value, Value lhs, Value rhs,
                 bool transposeLhs, bool transposeRhs, bool triangular = false);

  /// Is `decay` differentiated in logarithms? Yes when its definition leads,
  /// through products, masks and the like, to exponentials and constants.
  bool isLogarithmic(Value decay);
  Value getLog(Value value) const { return logarithmic.lookup(value); }
  void addLog(Location loc, Value value, Value term);
  /// Adds to a decay's cotangent by `makeLog` or `makePlain`, whichever kind
  /// the decay has.
  void addDecay(Location loc, Value decay, llvm::function_ref<Value()> makeLog,
                llvm::function_ref<Value()> makePlain);

  /// Starts with the rule of `op`.
  void setOperation(Operation *op);

  /// May rows of the value behind the last token hold anything, NaN included?
  /// True for what is computed from the chunk's inputs without a mask. Their
  /// cotangents may too; those of all other values are 0 there.
  bool isUnmasked(Value value) const { return unmasked.contains(value); }
  void setUnmasked(Value value) { unmasked.insert(value); }

private:
  Value accumulate(Location loc, Value sum, Value term);
  /// A term that the current rule adds to a value's cotangent.
  Value masked(Location loc, Value value, Value term);

  Value valid;
  llvm::DenseMap<Value, Value> plain, logarithmic;
  llvm::DenseMap<Value, bool> logarithmicDecays;
  llvm::DenseSet<Value> unmasked;
  bool fromUnmasked = false; ///< does the current rule read such values?
};

} // namespace mlir::delta

#include "delta/Dialect/Delta/IR/AdjointInterface.h.inc"

namespace mlir::delta {

/// Attaches the adjoint rules of arith, math and delta operations.
void registerAdjointModels(DialectRegistry &registry);

/// How a chunk program is differentiated.
struct DifferentiateOptions {
  /// Chunks from one saved state to the next.
  int64_t saveEvery = 1;
};

/// Moves numbers that multiply sums of products to the products' left operands,
/// so that the numbers' gradients need no product computed again.
void moveScalarFactors(func::FuncOp function);

/// Behind a backward program's name: the name of the program that computes the
/// state at a chunk's end, where not every chunk has a checkpoint.
inline constexpr llvm::StringLiteral kStatesSuffix = "_states";

/// Replaces the forward program of a module of stage `chunk` by the backward
/// one (see the pass delta-differentiate).
LogicalResult differentiate(ModuleOp module,
                            const DifferentiateOptions &options);

/// Makes the forward program of a module of stage `chunk` give the state at the
/// start of every `every`-th chunk (see the pass delta-save-states).
LogicalResult saveStates(ModuleOp module, int64_t every);

} // namespace mlir::delta

#endif // DELTA_DIALECT_DELTA_TRANSFORMS_ADJOINT_H
