//===- EmitterBuilder.cpp - What all of the forward emitter makes ---------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Elementwise operations, and values that are the same in all lanes.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/Support/SaveAndRestore.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

Value Emitter::number(double value) {
  return arith::ConstantOp::create(b, b.getF32FloatAttr(value));
}

Value Emitter::extract(Value value, ArrayRef<int64_t> offsets,
                       RankedTensorType type) {
  if (value.getType() == type)
    return value;
  return warp::ExtractOp::create(b, type, value,
                                 b.getDenseI64ArrayAttr(offsets));
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
