//===- EmitterBuilder.cpp - Operations that all of the emitter makes ------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Numbers, fragments and vectors, conversions, accesses to shared memory,
// elementwise operations, and values that are the same in all lanes.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "Conversions.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/Support/SaveAndRestore.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

Value Emitter::index(int64_t value) {
  Value &known = indices[value];
  if (!known) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&kernel.function.getBody().front());
    known = arith::ConstantIndexOp::create(b, value);
  }
  return known;
}

Value Emitter::number(double value) {
  return arith::ConstantOp::create(b, b.getF32FloatAttr(value));
}

Value Emitter::add(Value x, Value y) {
  return b.createOrFold<arith::AddIOp>(x, y);
}

Value Emitter::mul(Value x, Value y) {
  return b.createOrFold<arith::MulIOp>(x, y);
}

RankedTensorType Emitter::fragment(int64_t rows, int64_t cols, Type type) {
  return warp::getFragmentType(rows, cols, type ? type : b.getF32Type());
}

RankedTensorType Emitter::along(int64_t size, Axis axis, Type type) {
  return warp::getAlongType(size, axis, type ? type : b.getF32Type());
}

Value Emitter::constant(double value, RankedTensorType type) {
  return arith::ConstantOp::create(
      b, DenseElementsAttr::get(type,
                                b.getFloatAttr(type.getElementType(), value)));
}

Value Emitter::zeros(RankedTensorType type) { return constant(0.0, type); }

Value Emitter::splat(Value number, RankedTensorType type) {
  return warp::SplatOp::create(b, type, number);
}

Value Emitter::extend(Value value) { return toF32(b, value); }

Value Emitter::toElement(Value value, Type element) {
  return gpumap::toElement(b, value, element);
}

Value Emitter::toOperand(Value value) { return toElement(value, policy.type); }

Value Emitter::mma(Value lhs, Value rhs, Value acc) {
  return warp::MmaOp::create(b, acc.getType(), lhs, rhs, acc, policy.mma);
}

Value Emitter::expand(Value vector, RankedTensorType type) {
  Type element = getElementTypeOrSelf(vector.getType());
  return warp::ExpandOp::create(b, type.clone(element), vector);
}

Value Emitter::extract(Value value, ArrayRef<int64_t> offsets,
                       RankedTensorType type) {
  if (value.getType() == type)
    return value;
  return warp::ExtractOp::create(b, type, value,
                                 b.getDenseI64ArrayAttr(offsets));
}

Value Emitter::compare(arith::CmpIPredicate predicate, Value x, Value y) {
  return arith::CmpIOp::create(b, predicate, x, y);
}

Value Emitter::select(Value condition, Value x, Value y) {
  return arith::SelectOp::create(b, condition, x, y);
}

Value Emitter::getPositions(Axis axis) {
  return warp::PositionsOp::create(
      b, along(program.chunk, axis, b.getI32Type()), Value());
}

Value Emitter::toI32(Value value) {
  return arith::IndexCastOp::create(b, b.getI32Type(), value);
}

Value Emitter::load(Value array, ValueRange at, RankedTensorType type,
                    bool transpose) {
  Type element = cast<warp::SharedType>(array.getType()).getElementType();
  auto op =
      warp::SharedLoadOp::create(b, type.clone(element), array, at, transpose);
  return op.getResult();
}

void Emitter::store(Value value, Value array, ValueRange at) {
  Type element = cast<warp::SharedType>(array.getType()).getElementType();
  warp::SharedStoreOp::create(b, toElement(value, element), array, at,
                              /*transpose=*/false);
}

Value Emitter::clonePointwise(Operation *op, ValueRange operands,
                              RankedTensorType type) {
  IRMapping map;
  for (auto [from, to] : llvm::zip_equal(op->getOperands(), operands))
    map.map(from, to);
  Operation *copy = b.clone(*op, map);
  Type element = getElementTypeOrSelf(op->getResult(0).getType());
  copy->getResult(0).setType(type ? Type(type.clone(element)) : element);
  return copy->getResult(0);
}

Value Emitter::getUniform(Value value) {
  auto known = uniforms.find(value);
  if (known != uniforms.end())
    return known->second;
  // Uniform values stand before the windows, whoever asks first.
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(windows.getDefiningOp());
  Value result;
  Operation *op = value.getDefiningOp();
  if (isa<BlockArgument>(value)) {
    ArgAttr arg = program.getArg(value);
    result = arg.getKind() == ArgKind::Attr
                 ? kernel.getAttr(program.signature, arg)
                 : extend(memref::LoadOp::create(b, getArray(arg), head));
  } else if (auto sum = dyn_cast<SumOp>(op)) {
    // Of a parameter's channels, in slices of 16.
    Value input = program.resolve(sum.getInput());
    int64_t channels = cast<RankedTensorType>(input.getType()).getDimSize(0);
    Value total = zeros(fragment(8, 16));
    llvm::SaveAndRestore once(beforeWindows, true);
    dropSlice();
    for (int64_t first = 0; first < channels; first += 16) {
      llvm::SaveAndRestore at(slice, index(first));
      llvm::SaveAndRestore whole(half, -1);
      Value part =
          maskChannels(getFree({input, Form::Channels}), input, channels, 0.0);
      dropSlice();
      total = arith::AddFOp::create(b, total, expand(part, fragment(8, 16)));
    }
    Value rows = warp::SumOp::create(b, along(8, Axis::Rows), total);
    result = warp::ElementOp::create(b, b.getF32Type(), rows, 0);
  } else {
    SmallVector<Value> operands;
    for (Value operand : op->getOperands())
      operands.push_back(getUniform(program.resolve(operand)));
    IRMapping map;
    map.map(op->getOperands(), operands);
    result = b.clone(*op, map)->getResult(0);
  }
  return uniforms[value] = result;
}
