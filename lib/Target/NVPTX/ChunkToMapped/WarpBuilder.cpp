//===- WarpBuilder.cpp - Short names for a warp's operations --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "WarpBuilder.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

void WarpBuilder::allowContraction(Operation *op) {
  if (auto floats = dyn_cast<arith::ArithFastMathInterface>(op))
    op->setAttr(floats.getFastMathAttrName(),
                arith::FastMathFlagsAttr::get(op->getContext(),
                                              arith::FastMathFlags::contract));
}

Value WarpBuilder::index(int64_t value) {
  Value &known = indices[value];
  if (!known) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&kernelFunction.getBody().front());
    known = arith::ConstantIndexOp::create(b, value);
  }
  return known;
}

Value WarpBuilder::add(Value x, Value y) {
  return b.createOrFold<arith::AddIOp>(x, y);
}

Value WarpBuilder::mul(Value x, Value y) {
  return b.createOrFold<arith::MulIOp>(x, y);
}

Value WarpBuilder::sub(Value x, Value y) {
  return b.createOrFold<arith::SubIOp>(x, y);
}

Value WarpBuilder::minimum(Value x, Value y) {
  return b.createOrFold<arith::MinSIOp>(x, y);
}

Value WarpBuilder::toI32(Value index) {
  return arith::IndexCastOp::create(b, b.getI32Type(), index);
}

RankedTensorType WarpBuilder::fragment(int64_t rows, int64_t cols, Type type) {
  return warp::getFragmentType(rows, cols, type ? type : b.getF32Type());
}

RankedTensorType WarpBuilder::along(int64_t size, Axis axis, Type type) {
  return warp::getAlongType(size, axis, type ? type : b.getF32Type());
}

Value WarpBuilder::constant(double value, RankedTensorType type) {
  return arith::ConstantOp::create(
      b, DenseElementsAttr::get(type,
                                b.getFloatAttr(type.getElementType(), value)));
}

Value WarpBuilder::integers(int64_t value, RankedTensorType like) {
  return arith::ConstantOp::create(
      b, DenseElementsAttr::get(like.clone(b.getI32Type()),
                                b.getI32IntegerAttr(value)));
}

Value WarpBuilder::splat(Value number, RankedTensorType like) {
  return warp::SplatOp::create(b, like.clone(number.getType()), number);
}

Value WarpBuilder::expand(Value vector, RankedTensorType like) {
  Type element = getElementTypeOrSelf(vector.getType());
  return warp::ExpandOp::create(b, like.clone(element), vector);
}

Value WarpBuilder::extend(Value value) {
  Type element = getElementTypeOrSelf(value.getType());
  if (element.isF32())
    return value;
  Type type = b.getF32Type();
  if (auto tensor = dyn_cast<RankedTensorType>(value.getType()))
    type = tensor.clone(type);
  if (element.isF64())
    return arith::TruncFOp::create(b, type, value);
  return arith::ExtFOp::create(b, type, value);
}

Value WarpBuilder::toElement(Value value, Type element) {
  auto type = cast<RankedTensorType>(value.getType());
  if (type.getElementType() == element)
    return value;
  // What was widened only is as it was.
  if (auto widened = value.getDefiningOp<arith::ExtFOp>())
    if (getElementTypeOrSelf(widened.getIn().getType()) == element)
      return widened.getIn();
  value = extend(value);
  if (element.isF32())
    return value;
  return arith::TruncFOp::create(b, type.clone(element), value);
}

Value WarpBuilder::mma(Value lhs, Value rhs, Value acc) {
  return warp::MmaOp::create(b, acc.getType(), lhs, rhs, acc, policy.mma);
}

Value WarpBuilder::load(Value array, ValueRange at, RankedTensorType type,
                        bool transpose) {
  Type element = cast<warp::SharedType>(array.getType()).getElementType();
  return warp::SharedLoadOp::create(b, type.clone(element), array, at,
                                    transpose);
}

void WarpBuilder::store(Value value, Value array, ValueRange at,
                        bool transpose) {
  Type element = cast<warp::SharedType>(array.getType()).getElementType();
  warp::SharedStoreOp::create(b, toElement(value, element), array, at,
                              transpose);
}

Value WarpBuilder::positions(Axis axis) {
  return warp::PositionsOp::create(b, along(axis, b.getI32Type()), lanes);
}

Value WarpBuilder::has(int64_t bit, Axis axis, RankedTensorType like) {
  RankedTensorType vector = along(axis, b.getI32Type());
  Value bits = arith::AndIOp::create(b, positions(axis), integers(bit, vector));
  Value found = compare(arith::CmpIPredicate::ne, bits, integers(0, vector));
  return warp::isFragment(like) ? expand(found, like) : found;
}

Value WarpBuilder::compare(arith::CmpIPredicate predicate, Value x, Value y) {
  return arith::CmpIOp::create(b, predicate, x, y);
}

Value WarpBuilder::isNotNull(Value array) {
  Value address = memref::ExtractAlignedPointerAsIndexOp::create(b, array);
  return compare(arith::CmpIPredicate::ne, address, index(0));
}

Value WarpBuilder::select(Value condition, Value x, Value y) {
  return arith::SelectOp::create(b, condition, x, y);
}

Value WarpBuilder::mulf(Value x, Value y) {
  return x && y ? Value(arith::MulFOp::create(b, x, y, rounding)) : x ? x : y;
}

Value WarpBuilder::addf(Value x, Value y) {
  return x && y ? Value(arith::AddFOp::create(b, x, y, rounding)) : x ? x : y;
}

Value WarpBuilder::fma(Value x, Value y, Value z) {
  return z ? Value(math::FmaOp::create(b, x, y, z)) : mulf(x, y);
}
