//===- DecodeValues.cpp - A token's values as code ------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Arithmetic keeps its operations and changes its types: f64 tensors of the
// events become scalars and vectors of the computed type.
//
//===----------------------------------------------------------------------===//

#include "DecodeValues.h"
#include "delta/Target/CPU/Passes.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace mlir::delta;

//===----------------------------------------------------------------------===//
// Small builders
//===----------------------------------------------------------------------===//

Value DecodeValues::index(int64_t value) {
  return arith::ConstantIndexOp::create(b, value);
}

Value DecodeValues::add(Value x, Value y) {
  return arith::AddIOp::create(b, x, y);
}

Value DecodeValues::mul(Value x, int64_t y) {
  return y == 1 ? x : arith::MulIOp::create(b, x, index(y));
}

VectorType DecodeValues::vectorOf(int64_t width) {
  return VectorType::get({width}, plan.computeType);
}

Value DecodeValues::convert(Value value, Type element) {
  Type from = getElementTypeOrSelf(value.getType());
  if (from == element)
    return value;
  auto shaped = dyn_cast<ShapedType>(value.getType());
  Type to = shaped ? shaped.clone(element) : element;
  if (from.getIntOrFloatBitWidth() < element.getIntOrFloatBitWidth())
    return arith::ExtFOp::create(b, to, value);
  // bf16 <-> f16 do not meet here: one side is the computed type.
  return arith::TruncFOp::create(b, to, value);
}

Value DecodeValues::load(Value memref, Value base, int64_t width) {
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  Value loaded = vector::LoadOp::create(b, VectorType::get({width}, element),
                                        memref, base);
  return convert(loaded, plan.computeType);
}

void DecodeValues::store(Value vector, Value memref, Value base,
                         bool streaming) {
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  Value value = convert(vector, element);
  auto store = vector::StoreOp::create(b, value, memref, base);
  if (!streaming)
    return;
  auto type = cast<VectorType>(value.getType());
  store.setNontemporal(true);
  store.setAlignment(type.getNumElements() * element.getIntOrFloatBitWidth() /
                     8);
}

Value DecodeValues::loadScalar(Value memref, Value at) {
  Value loaded = memref::LoadOp::create(b, memref, at);
  return convert(loaded, plan.computeType);
}

Value DecodeValues::broadcast(Value scalar, int64_t width) {
  return vector::BroadcastOp::create(b, vectorOf(width), scalar);
}

Value DecodeValues::view(int64_t offset, int64_t elements) {
  return memref::ViewOp::create(b,
                                MemRefType::get({elements}, plan.computeType),
                                args.arena, index(offset), ValueRange());
}

//===----------------------------------------------------------------------===//
// Where things are in memory
//===----------------------------------------------------------------------===//

void DecodeValues::startItem(Value sequenceIndex, Value headIndex,
                             Value first) {
  sequence = sequenceIndex;
  head = headIndex;
  isFirst = first;
  uniform.clear();
  for (Value value : plan.uniformScalars)
    evaluateScalar(value, Value(), uniform);
}

Value DecodeValues::getOffset(const InputRef &input, Value token) {
  ArgAttr arg = plan.getArg(input.arg);
  int64_t size = 1;
  for (StringAttr axis : arg.getAxes())
    size *= plan.getSize(axis);
  if (arg.getKind() == ArgKind::Param)
    return mul(head, size);
  // [B, T, (n,) H, (dim)]
  Value at = arith::MulIOp::create(b, sequence, args.T);
  at = add(at, token);
  if (arg.getFamily())
    at = add(mul(at, plan.getSize(arg.getFamily())), index(input.micro));
  at = add(arith::MulIOp::create(b, at, args.H), head);
  return mul(at, size);
}

Value DecodeValues::getOutOffset(unsigned position, Value token) {
  ArgAttr arg = plan.signature.getArgs(ArgKind::Out)[position];
  int64_t size = 1;
  for (StringAttr axis : arg.getAxes())
    size *= plan.getSize(axis);
  Value at = add(arith::MulIOp::create(b, sequence, args.T), token);
  return mul(add(arith::MulIOp::create(b, at, args.H), head), size);
}

/// Tokens alternate between two copies, so that one token's vectors are still
/// there when the next one's are evaluated.
Value DecodeValues::bufferBase(Value vector, Value token) {
  int64_t size = getDimNames(vector.getType()).empty()
                     ? 1
                     : plan.getSize(getDimNames(vector.getType())[0]);
  int64_t lanes = 64 * 8 / plan.computeType.getIntOrFloatBitWidth();
  int64_t stride = llvm::alignTo(size, lanes);
  Value parity = arith::AndIOp::create(b, token, index(1));
  return mul(parity, stride);
}

ArraySlice DecodeValues::getRows(Value vector, Value token) {
  auto buffer = plan.bufferOffset.find(vector);
  if (buffer == plan.bufferOffset.end()) {
    InputRef input = *plan.getInput(vector);
    return {args.inputs.lookup(input.arg), getOffset(input, token)};
  }
  int64_t size = plan.getSize(getDimNames(vector.getType())[0]);
  int64_t lanes = 64 * 8 / plan.computeType.getIntOrFloatBitWidth();
  return {view(buffer->second, 2 * llvm::alignTo(size, lanes)),
          bufferBase(vector, token)};
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

Value DecodeValues::cloneElementwise(Operation *op, ValueRange operands) {
  if (isa<SigmoidOp>(op))
    return buildSigmoid(b, op->getLoc(), operands[0]);
  if (isa<SoftplusOp>(op))
    return buildSoftplus(b, op->getLoc(), operands[0]);
  Type element = getElementTypeOrSelf(op->getResult(0).getType());
  if (isa<FloatType>(element))
    element = plan.computeType;
  Type type = element;
  for (Value operand : operands)
    if (auto shaped = dyn_cast<VectorType>(operand.getType()))
      type = shaped.clone(element);
  OperationState state(op->getLoc(), op->getName(), operands, type,
                       op->getAttrs());
  return b.create(state)->getResult(0);
}

Value DecodeValues::evaluateScalar(Value value, Value token, Scalars &scalars) {
  Value &slot = scalars[value];
  if (slot)
    return slot;
  Value result;
  Operation *op = value.getDefiningOp();
  FloatAttr constant;
  if (matchPattern(value, m_Constant(&constant))) {
    result = arith::ConstantOp::create(
        b, b.getFloatAttr(plan.computeType, constant.getValueAsDouble()));
  } else if (auto dim = value.getDefiningOp<DimOp>()) {
    int64_t size = plan.getSize(b.getStringAttr(dim.getName()));
    result = arith::ConstantOp::create(
        b, b.getFloatAttr(plan.computeType, static_cast<double>(size)));
  } else if (std::optional<InputRef> input = plan.getInput(value)) {
    Value source = args.inputs.lookup(input->arg);
    if (isa<FloatType>(source.getType())) // an attr
      result = convert(source, plan.computeType);
    else
      result = loadScalar(source, getOffset(*input, token));
  } else {
    SmallVector<Value> operands;
    for (Value operand : op->getOperands()) {
      // Conditions are scalars too, though no numbers.
      operands.push_back(evaluateScalar(operand, token, scalars));
    }
    result = cloneElementwise(op, operands);
  }
  return scalars[value] = result;
}

Value DecodeValues::evaluate(Value value, Value offset, int64_t width,
                             Value token, const Scalars &scalars,
                             DenseMap<Value, Value> &memo, int level) {
  if (Value known = memo.lookup(value))
    return known;
  Value result;
  Operation *op = value.getDefiningOp();
  if (level >= 0 && plan.bufferOffset.contains(value) &&
      static_cast<int>(plan.level.lookup(value)) < level) {
    ArraySlice rows = getRows(value, token);
    result = load(rows.memref, add(rows.base, offset), width);
  } else if (std::optional<InputRef> input = plan.getInput(value)) {
    result = load(args.inputs.lookup(input->arg),
                  add(getOffset(*input, token), offset), width);
  } else if (auto broadcastOp = dyn_cast<BroadcastOp>(op)) {
    Value scalar = scalars.lookup(broadcastOp.getInput());
    if (!scalar)
      scalar = uniform.lookup(broadcastOp.getInput());
    result = broadcast(scalar, width);
  } else {
    SmallVector<Value> operands;
    for (Value operand : op->getOperands())
      operands.push_back(
          evaluate(operand, offset, width, token, scalars, memo, level));
    result = cloneElementwise(op, operands);
  }
  return memo[value] = result;
}

//===----------------------------------------------------------------------===//
// A token's scalars and whole vectors
//===----------------------------------------------------------------------===//

SmallVector<Value> DecodeValues::emitLoopBody(const DecodePlan::Loop &loop,
                                              unsigned level, Value offset,
                                              int64_t width, Value token,
                                              const Scalars &scalars,
                                              ValueRange partial) {
  DenseMap<Value, Value> memo;
  auto get = [&](Value vector) {
    return evaluate(vector, offset, width, token, scalars, memo, level);
  };
  for (Value vector : loop.buffered) {
    ArraySlice rows = getRows(vector, token);
    store(get(vector), rows.memref, add(rows.base, offset));
  }
  SmallVector<Value> sums;
  for (auto [index, sum] : llvm::enumerate(loop.sums)) {
    Value term = get(SumOp(sum).getInput());
    sums.push_back(partial.empty()
                       ? term
                       : arith::AddFOp::create(b, partial[index], term));
  }
  ValueRange outs = RecurrenceOp(plan.events).getYield().getValues();
  for (unsigned position : loop.outs) {
    Value value = get(outs[position + 1]);
    auto guard = scf::IfOp::create(b, isFirst, /*withElseRegion=*/false);
    OpBuilder::InsertionGuard restore(b);
    b.setInsertionPointToStart(guard.thenBlock());
    store(value, args.outs[position],
          add(getOutOffset(position, token), offset));
  }
  return sums;
}

void DecodeValues::emitLoop(StringAttr dim, const DecodePlan::Loop &loop,
                            unsigned level, Value token, Scalars &scalars) {
  int64_t size = plan.getSize(dim), lanes = plan.lanes;
  int64_t whole = size / lanes * lanes, rest = size - whole;
  SmallVector<Value> totals(loop.sums.size());
  // The lanes' sum in a fixed tree; the order of terms is ours to choose.
  auto reduce = [&](ValueRange vectors) {
    for (auto [total, vector] : llvm::zip(totals, vectors)) {
      Value sum = vector::ReductionOp::create(
          b, vector::CombiningKind::ADD, vector, arith::FastMathFlags::reassoc);
      total = total ? arith::AddFOp::create(b, total, sum).getResult() : sum;
    }
  };
  if (whole == lanes) {
    reduce(emitLoopBody(loop, level, index(0), lanes, token, scalars, {}));
  } else if (whole > 0) {
    SmallVector<Value> zeros;
    Value zero = arith::ConstantOp::create(b, b.getZeroAttr(vectorOf(lanes)));
    zeros.append(loop.sums.size(), zero);
    auto forOp =
        scf::ForOp::create(b, index(0), index(whole), index(lanes), zeros);
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(forOp.getBody());
      SmallVector<Value> sums =
          emitLoopBody(loop, level, forOp.getInductionVar(), lanes, token,
                       scalars, forOp.getRegionIterArgs());
      if (!sums.empty())
        scf::YieldOp::create(b, sums);
    }
    reduce(forOp.getResults());
  }
  if (rest > 0)
    reduce(emitLoopBody(loop, level, index(whole), rest, token, scalars, {}));
  for (auto [sum, total] : llvm::zip(loop.sums, totals))
    scalars[SumOp(sum).getResult()] = total;
}

Scalars DecodeValues::emitToken(Value token) {
  Scalars scalars = uniform;
  for (unsigned level = 0; level < plan.levels; ++level) {
    for (Value value : plan.tokenScalars)
      if (plan.level.lookup(value) == level)
        evaluateScalar(value, token, scalars);
    for (const auto &[dim, loop] : plan.loops[level])
      emitLoop(dim, loop, level, token, scalars);
  }
  if (plan.scalarOuts.empty())
    return scalars;
  auto guard = scf::IfOp::create(b, isFirst, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard restore(b);
  b.setInsertionPointToStart(guard.thenBlock());
  ValueRange outs = RecurrenceOp(plan.events).getYield().getValues();
  for (unsigned position : plan.scalarOuts) {
    Value memref = args.outs[position];
    Type element = cast<MemRefType>(memref.getType()).getElementType();
    memref::StoreOp::create(
        b, convert(scalars.lookup(outs[position + 1]), element), memref,
        getOutOffset(position, token));
  }
  return scalars;
}
