//===- VectorBuilder.h - Folding builder of elementwise algebra -*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Builds sums and products of scalars and tensors, in every stage, folding
// what constants decide: 0, 1 and -1 (the algebra is over the reals).
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_DIALECT_DELTA_TRANSFORMS_VECTORBUILDER_H
#define DELTA_DIALECT_DELTA_TRANSFORMS_VECTORBUILDER_H

#include "mlir/IR/Builders.h"

namespace mlir::delta {

/// Wraps a builder; mixed operands are broadcast: a scalar to any tensor, a
/// value per token tensor<C> to tensor<CxD> (along dim 0).
class VectorBuilder {
public:
  explicit VectorBuilder(OpBuilder &builder) : builder(builder) {}

  /// The number `value` as a scalar of type `type` (default f64).
  Value constant(Location loc, double value, Type type = {});
  /// A tensor (or scalar) of `type` that is `value` everywhere.
  Value splat(Location loc, double value, Type type);
  Value zero(Location loc, Type type) { return splat(loc, 0.0, type); }
  /// a * b; a null operand is 1.
  Value mul(Location loc, Value a, Value b);
  Value add(Location loc, Value a, Value b);
  Value sub(Location loc, Value a, Value b);
  Value div(Location loc, Value a, Value b);
  Value neg(Location loc, Value a);
  /// sum_i x_i y_i over the last axis.
  Value dot(Location loc, Value x, Value y);
  /// Sum over the last axis.
  Value sum(Location loc, Value x);
  /// `value` repeated to `type`.
  Value broadcast(Location loc, Value value, Type type);

  /// Is the value this number everywhere, as far as its definition shows?
  static bool isConstant(Value value, double number);
  /// The number that the value is everywhere, if its definition shows one.
  static std::optional<double> getConstant(Value value);

private:
  /// Broadcasts the smaller operand to the larger one's type.
  Type unify(Location loc, Value &a, Value &b);
  OpBuilder &builder;
};

} // namespace mlir::delta

#endif // DELTA_DIALECT_DELTA_TRANSFORMS_VECTORBUILDER_H
