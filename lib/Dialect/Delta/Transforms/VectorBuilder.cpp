//===- VectorBuilder.cpp - Folding builder of elementwise algebra ---------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// See the header.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::delta;

std::optional<double> VectorBuilder::getConstant(Value value) {
  while (auto broadcast = value.getDefiningOp<BroadcastOp>())
    value = broadcast.getInput();
  FloatAttr scalar;
  if (matchPattern(value, m_Constant(&scalar)))
    return scalar.getValueAsDouble();
  DenseFPElementsAttr dense;
  if (matchPattern(value, m_Constant(&dense)) && dense.isSplat())
    return dense.getSplatValue<FloatAttr>().getValueAsDouble();
  return std::nullopt;
}

bool VectorBuilder::isConstant(Value value, double number) {
  std::optional<double> constant = getConstant(value);
  return constant && *constant == number;
}

Value VectorBuilder::constant(Location loc, double value, Type type) {
  if (!type)
    type = builder.getF64Type();
  return arith::ConstantOp::create(builder, loc,
                                   builder.getFloatAttr(type, value));
}

Value VectorBuilder::splat(Location loc, double value, Type type) {
  return broadcast(loc, constant(loc, value, getElementTypeOrSelf(type)), type);
}

Value VectorBuilder::broadcast(Location loc, Value value, Type type) {
  if (value.getType() == type)
    return value;
  // A repeated repetition of a scalar is one repetition.
  if (auto inner = value.getDefiningOp<BroadcastOp>())
    if (isa<FloatType>(inner.getInput().getType()))
      value = inner.getInput();
  IntegerAttr dim;
  if (isa<RankedTensorType>(value.getType()))
    dim = builder.getI64IntegerAttr(0);
  return BroadcastOp::create(builder, loc, type, value, dim);
}

Type VectorBuilder::unify(Location loc, Value &a, Value &b) {
  auto rank = [](Value value) {
    auto tensor = dyn_cast<RankedTensorType>(value.getType());
    return tensor ? tensor.getRank() : 0;
  };
  if (rank(a) < rank(b))
    a = broadcast(loc, a, b.getType());
  else if (rank(b) < rank(a))
    b = broadcast(loc, b, a.getType());
  return a.getType();
}

/// The scalar that a value repeats; null when it does not.
static Value getScalar(Value value) {
  if (isa<FloatType>(value.getType()))
    return value;
  auto broadcast = value.getDefiningOp<BroadcastOp>();
  return broadcast && isa<FloatType>(broadcast.getInput().getType())
             ? broadcast.getInput()
             : Value();
}

Value VectorBuilder::mul(Location loc, Value a, Value b) {
  if (!a || !b)
    return a ? a : b;
  if (isConstant(a, 1.0))
    std::swap(a, b);
  if (isConstant(b, 1.0)) {
    unify(loc, a, b);
    return a;
  }
  if (isConstant(a, 0.0))
    std::swap(a, b);
  if (isConstant(b, 0.0)) {
    unify(loc, a, b);
    return b;
  }
  Type type = unify(loc, a, b);
  // Multiply scalars before they are repeated.
  if (Value s = getScalar(a), t = getScalar(b); s && t && s != a)
    return broadcast(loc, arith::MulFOp::create(builder, loc, s, t), type);
  return arith::MulFOp::create(builder, loc, a, b);
}

Value VectorBuilder::add(Location loc, Value a, Value b) {
  if (isConstant(a, 0.0))
    std::swap(a, b);
  bool zero = isConstant(b, 0.0);
  unify(loc, a, b);
  return zero ? a : arith::AddFOp::create(builder, loc, a, b);
}

Value VectorBuilder::sub(Location loc, Value a, Value b) {
  bool zero = isConstant(b, 0.0);
  unify(loc, a, b);
  return zero ? a : arith::SubFOp::create(builder, loc, a, b);
}

Value VectorBuilder::div(Location loc, Value a, Value b) {
  bool one = isConstant(b, 1.0);
  unify(loc, a, b);
  return one ? a : arith::DivFOp::create(builder, loc, a, b);
}

Value VectorBuilder::neg(Location loc, Value a) {
  if (auto neg = a.getDefiningOp<arith::NegFOp>())
    return neg.getOperand();
  return arith::NegFOp::create(builder, loc, a);
}

Value VectorBuilder::sum(Location loc, Value x) {
  auto tensor = cast<RankedTensorType>(x.getType());
  Type type = tensor.getElementType();
  if (tensor.getRank() == 2)
    type = RankedTensorType::get(tensor.getShape().drop_back(), type);
  if (isConstant(x, 0.0))
    return zero(loc, type);
  return SumOp::create(builder, loc, type, x);
}

Value VectorBuilder::dot(Location loc, Value x, Value y) {
  return sum(loc, mul(loc, x, y));
}
