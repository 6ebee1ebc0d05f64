//===- DecodeToken.cpp - What of a token is free of the state -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Arithmetic keeps its operations; f64 tensors of the events become one f32
// scalar a lane and chunk of 32 elements. Lanes beyond the end evaluate the
// last element again and contribute zero, so that nothing is read out of
// bounds.
//
//===----------------------------------------------------------------------===//

#include "DecodeToken.h"
#include "delta/Target/CPU/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace mlir::delta;

/// Chunks that are unrolled, with their loads made ahead. Longer vectors are
/// gone through in a loop.
static constexpr int64_t kUnrolledChunks = 8;

//===----------------------------------------------------------------------===//
// Small builders
//===----------------------------------------------------------------------===//

Value DecodeToken::index(int64_t value) {
  return arith::ConstantIndexOp::create(b, value);
}

Value DecodeToken::add(Value x, Value y) {
  return arith::AddIOp::create(b, x, y);
}

Value DecodeToken::mul(Value x, int64_t y) {
  return y == 1 ? x : arith::MulIOp::create(b, x, index(y));
}

Value DecodeToken::less(Value x, int64_t y) {
  return arith::CmpIOp::create(b, arith::CmpIPredicate::ult, x, index(y));
}

void DecodeToken::emitIf(Value condition, function_ref<void()> body) {
  if (!condition)
    return body();
  auto op = scf::IfOp::create(b, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.thenBlock());
  body();
}

Value DecodeToken::widen(Value value) {
  if (value.getType().isF32())
    return value;
  return arith::ExtFOp::create(b, b.getF32Type(), value);
}

Value DecodeToken::narrow(Value value, Type element) {
  if (element.isF32())
    return value;
  return arith::TruncFOp::create(b, element, value);
}

Value DecodeToken::cloneElementwise(Operation *op, ValueRange operands) {
  if (isa<SigmoidOp>(op))
    return buildSigmoid(b, op->getLoc(), operands[0]);
  if (isa<SoftplusOp>(op))
    return buildSoftplus(b, op->getLoc(), operands[0]);
  Type type = getElementTypeOrSelf(op->getResult(0).getType());
  if (isa<FloatType>(type))
    type = b.getF32Type();
  OperationState state(op->getLoc(), op->getName(), operands, type,
                       op->getAttrs());
  return b.create(state)->getResult(0);
}

//===----------------------------------------------------------------------===//
// What has to be evaluated
//===----------------------------------------------------------------------===//

DecodeToken::DecodeToken(const GpuDecodePlan &plan, ImplicitLocOpBuilder &b,
                         const GpuKernel &kernel)
    : plan(plan), b(b), kernel(kernel) {
  RecurrenceOp events = plan.events;
  size_t nextArray = 0, nextAttr = 0;
  for (BlockArgument arg : events.getBodyBlock()->getArguments()) {
    ArgKind kind = plan.getArg(arg).getKind();
    if (kind == ArgKind::Attr)
      inputs[arg] = kernel.attrs[nextAttr++];
    else if (kind != ArgKind::State)
      inputs[arg] = kernel.inputs[nextArray++];
  }

  for (auto [vector, slot] : plan.rowSlots) {
    Space &space = getSpace(getVectorAxis(vector), /*block=*/false);
    space.slots.push_back(vector);
    space.extent = std::max(space.extent, plan.getPaddedRows());
    addRoot(space, vector);
  }
  for (auto [vector, slot] : plan.columnSlots) {
    Space &space = getSpace(plan.columnDim, /*block=*/true);
    space.slots.push_back(vector);
    addRoot(space, vector);
  }
  for (SumOp sum : events.getBodyBlock()->getOps<SumOp>()) {
    Space &space = getSpace(getVectorAxis(sum.getInput()), /*block=*/false);
    space.sums.push_back(sum);
    addRoot(space, sum.getInput());
    levels = std::max(levels, plan.level.lookup(sum.getResult()) + 1);
  }
  ValueRange outs = events.getYield().getValues().drop_front();
  for (auto [position, out] : llvm::enumerate(outs)) {
    StringAttr axis = getVectorAxis(out);
    if (!axis || axis == plan.columnDim)
      continue;
    Space &space = getSpace(axis, /*block=*/false);
    space.outs.push_back(position);
    addRoot(space, out);
  }
}

DecodeToken::Space &DecodeToken::getSpace(StringAttr dim, bool block) {
  for (Space &space : spaces)
    if (space.dim == dim && space.block == block)
      return space;
  Space &space = spaces.emplace_back();
  space.dim = dim;
  space.block = block;
  space.extent = block ? plan.getBlockColumns() : plan.getSize(dim);
  return space;
}

/// Notes the inputs whose elements a vector needs.
void DecodeToken::addRoot(Space &space, Value value) {
  llvm::SetVector<Value> worklist;
  worklist.insert(value);
  for (unsigned i = 0; i < worklist.size(); ++i) {
    Value vector = worklist[i];
    if (plan.getInput(vector)) {
      if (!llvm::is_contained(space.inputs, vector))
        space.inputs.push_back(vector);
      continue;
    }
    Operation *op = vector.getDefiningOp();
    if (!isa<BroadcastOp>(op))
      worklist.insert(op->operand_begin(), op->operand_end());
  }
}

bool DecodeToken::isAhead(const Space &space) const {
  return space.getChunks() <= kUnrolledChunks;
}

//===----------------------------------------------------------------------===//
// Where things are in memory
//===----------------------------------------------------------------------===//

Value DecodeToken::getInputOffset(const InputRef &input, Value token) {
  ArgAttr arg = plan.getArg(input.arg);
  int64_t size = 1;
  for (StringAttr axis : arg.getAxes())
    size *= plan.getSize(axis);
  if (arg.getKind() == ArgKind::Param)
    return mul(position.head, size);
  // [B, T, (n,) H, (dim)]
  Value at = arith::MulIOp::create(b, position.sequence, kernel.T);
  at = add(at, token);
  if (arg.getFamily())
    at = add(mul(at, plan.getSize(arg.getFamily())), index(input.micro));
  at = add(arith::MulIOp::create(b, at, kernel.H), position.head);
  return mul(at, size);
}

Value DecodeToken::getOutOffset(unsigned out, Value token) {
  ArgAttr arg = plan.signature.getArgs(ArgKind::Out)[out];
  int64_t size = 1;
  for (StringAttr axis : arg.getAxes())
    size *= plan.getSize(axis);
  Value at = add(arith::MulIOp::create(b, position.sequence, kernel.T), token);
  return mul(add(arith::MulIOp::create(b, at, kernel.H), position.head), size);
}

/// `number` is the chunk's, in elements already times 32.
DecodeToken::Chunk DecodeToken::getChunk(const Space &space, Value number) {
  Chunk chunk;
  chunk.element = add(position.lane, number);
  int64_t size = plan.getSize(space.dim);
  chunk.at = chunk.element;
  int64_t last = llvm::alignTo(space.extent, kWarpSize);
  if (space.block) {
    // Lanes beyond the block stay on its last column.
    if (space.extent % kWarpSize != 0)
      chunk.at = arith::MinUIOp::create(b, chunk.at, index(space.extent - 1));
    chunk.at = add(position.blockColumn, chunk.at);
    last = space.extent * plan.vBlocks;
  }
  APInt first;
  // Chunks that are whole in every CTA need no test.
  bool whole = !space.block && matchPattern(number, m_ConstantInt(&first)) &&
               first.getSExtValue() + kWarpSize <= size;
  if (last > size && !whole) {
    chunk.inside = less(chunk.at, size);
    chunk.at = arith::MinUIOp::create(b, chunk.at, index(size - 1));
  }
  return chunk;
}

Value DecodeToken::loadElement(Value input, const Chunk &chunk, Value token) {
  InputRef ref = *plan.getInput(input);
  Value at = add(getInputOffset(ref, token), chunk.at);
  return memref::LoadOp::create(b, inputs.lookup(ref.arg), at);
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

Value DecodeToken::evaluateScalar(Value value, Value token, ValueMap &scalars) {
  if (Value known = uniform.lookup(value))
    return known;
  if (Value known = scalars.lookup(value))
    return known;
  Value result;
  FloatAttr constant;
  if (matchPattern(value, m_Constant(&constant))) {
    result = arith::ConstantOp::create(
        b, b.getF32FloatAttr(constant.getValueAsDouble()));
  } else if (auto dim = value.getDefiningOp<DimOp>()) {
    int64_t size = plan.getSize(b.getStringAttr(dim.getName()));
    result = arith::ConstantOp::create(
        b, b.getF32FloatAttr(static_cast<double>(size)));
  } else if (std::optional<InputRef> input = plan.getInput(value)) {
    Value source = inputs.lookup(input->arg);
    if (isa<FloatType>(source.getType())) // an attr
      result = source;
    else
      result = widen(
          memref::LoadOp::create(b, source, getInputOffset(*input, token)));
  } else {
    Operation *op = value.getDefiningOp();
    SmallVector<Value> operands;
    for (Value operand : op->getOperands())
      operands.push_back(evaluateScalar(operand, token, scalars));
    result = cloneElementwise(op, operands);
  }
  // Conditions are evaluated where they are used, maybe in a loop.
  if (isa<FloatType>(result.getType()))
    scalars[value] = result;
  return result;
}

Value DecodeToken::evaluate(Value value, const Chunk &chunk, Value token,
                            ValueMap &scalars, ValueMap &memo) {
  if (Value known = memo.lookup(value))
    return known;
  Value result;
  if (plan.getInput(value)) {
    result = widen(loadElement(value, chunk, token));
  } else if (auto broadcast = value.getDefiningOp<BroadcastOp>()) {
    result = evaluateScalar(broadcast.getInput(), token, scalars);
  } else {
    Operation *op = value.getDefiningOp();
    SmallVector<Value> operands;
    for (Value operand : op->getOperands())
      operands.push_back(evaluate(operand, chunk, token, scalars, memo));
    result = cloneElementwise(op, operands);
  }
  return memo[value] = result;
}

Value DecodeToken::getScalar(Value scalar, Value shared, Value base,
                             ValueMap &memo) {
  if (Value known = uniform.lookup(scalar))
    return known;
  if (Value known = memo.lookup(scalar))
    return known;
  auto slot = plan.scalarSlots.find(scalar);
  if (slot == plan.scalarSlots.end()) // a constant
    return memo[scalar] = evaluateScalar(scalar, Value(), memo);
  return memo[scalar] =
             memref::LoadOp::create(b, shared, add(base, index(slot->second)));
}

Value DecodeToken::reduceWarp(Value partial) {
  // Both partners of a step add the same two numbers, so all lanes agree.
  Value width = arith::ConstantIntOp::create(b, kWarpSize, 32);
  for (int64_t step = kWarpSize / 2; step > 0; step /= 2) {
    Value offset = arith::ConstantIntOp::create(b, step, 32);
    Value other =
        gpu::ShuffleOp::create(b, partial, offset, width, gpu::ShuffleMode::XOR)
            .getShuffleResult();
    partial = arith::AddFOp::create(b, partial, other);
  }
  return partial;
}

SmallVector<Value> DecodeToken::forChunks(
    unsigned number, ValueRange sums,
    function_ref<SmallVector<Value>(const Chunk &, ValueMap &, ValueRange)> f) {
  const Space &space = spaces[number];
  if (isAhead(space)) {
    SmallVector<Value> partial(sums);
    for (int64_t c = 0; c < space.getChunks(); ++c)
      partial =
          f(getChunk(space, index(c * kWarpSize)), memos[number][c], partial);
    return partial;
  }
  auto loop =
      scf::ForOp::create(b, index(0), index(space.getChunks() * kWarpSize),
                         index(kWarpSize), sums);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  ValueMap memo;
  SmallVector<Value> partial = f(getChunk(space, loop.getInductionVar()), memo,
                                 loop.getRegionIterArgs());
  if (!sums.empty())
    scf::YieldOp::create(b, partial);
  return llvm::to_vector_of<Value>(loop.getResults());
}

//===----------------------------------------------------------------------===//
// Tokens
//===----------------------------------------------------------------------===//

void DecodeToken::start(const DecodePosition &at) {
  position = at;
  for (Value value : plan.uniformScalars)
    uniform[value] = evaluateScalar(value, Value(), uniform);
  for (const Space &space : spaces) {
    SmallVector<ValueMap> &chunks = params.emplace_back();
    if (!isAhead(space))
      continue;
    chunks.resize(space.getChunks());
    for (int64_t c = 0; c < space.getChunks(); ++c) {
      Chunk chunk = getChunk(space, index(c * kWarpSize));
      for (Value input : space.inputs)
        if (plan.getArg(plan.getInput(input)->arg).getKind() == ArgKind::Param)
          chunks[c][input] = widen(loadElement(input, chunk, Value()));
    }
  }
}

SmallVector<Type> DecodeToken::getLoadTypes() {
  SmallVector<Type> types;
  auto elementType = [&](Value input) {
    return plan.getArg(plan.getInput(input)->arg).getType();
  };
  for (auto [number, space] : llvm::enumerate(spaces))
    if (isAhead(space))
      for (int64_t c = 0; c < space.getChunks(); ++c)
        for (Value input : space.inputs)
          if (!params[number][c].contains(input))
            types.push_back(elementType(input));
  for (Value scalar : plan.tokenScalars)
    if (plan.getInput(scalar))
      types.push_back(elementType(scalar));
  return types;
}

SmallVector<Value> DecodeToken::emitLoads(Value token) {
  SmallVector<Value> loads;
  for (auto [number, space] : llvm::enumerate(spaces)) {
    if (!isAhead(space))
      continue;
    for (int64_t c = 0; c < space.getChunks(); ++c) {
      Chunk chunk = getChunk(space, index(c * kWarpSize));
      for (Value input : space.inputs)
        if (!params[number][c].contains(input))
          loads.push_back(loadElement(input, chunk, token));
    }
  }
  for (Value scalar : plan.tokenScalars)
    if (std::optional<InputRef> input = plan.getInput(scalar))
      loads.push_back(memref::LoadOp::create(b, inputs.lookup(input->arg),
                                             getInputOffset(*input, token)));
  return loads;
}

void DecodeToken::emitPrepare(Value token, ValueRange loads, Value shared,
                              Value base) {
  // Loads and params are what is known at first, in the order of emitLoads.
  ValueMap scalars;
  memos = params;
  size_t next = 0;
  for (auto [number, space] : llvm::enumerate(spaces))
    if (isAhead(space))
      for (int64_t c = 0; c < space.getChunks(); ++c)
        for (Value input : space.inputs)
          if (!params[number][c].contains(input))
            memos[number][c][input] = widen(loads[next++]);
  for (Value scalar : plan.tokenScalars)
    if (plan.getInput(scalar))
      scalars[scalar] = widen(loads[next++]);

  Value zero = arith::ConstantOp::create(b, b.getF32FloatAttr(0.0));
  for (unsigned level = 0; level < levels; ++level) {
    // In a block that dominates all that follows.
    for (Value scalar : plan.tokenScalars)
      if (plan.level.lookup(scalar) == level)
        (void)evaluateScalar(scalar, token, scalars);
    for (auto [number, space] : llvm::enumerate(spaces)) {
      SmallVector<SumOp> sums;
      for (SumOp sum : space.sums)
        if (plan.level.lookup(sum.getInput()) == level)
          sums.push_back(sum);
      if (sums.empty())
        continue;
      SmallVector<Value> zeros(sums.size(), zero);
      SmallVector<Value> partial = forChunks(
          number, zeros,
          [&](const Chunk &chunk, ValueMap &memo, ValueRange before) {
            SmallVector<Value> after;
            for (auto [sum, old] : llvm::zip(sums, before)) {
              Value term =
                  evaluate(SumOp(sum).getInput(), chunk, token, scalars, memo);
              if (chunk.inside)
                term = arith::SelectOp::create(b, chunk.inside, term, zero);
              after.push_back(
                  old == zero
                      ? term
                      : arith::AddFOp::create(b, old, term).getResult());
            }
            return after;
          });
      for (auto [sum, total] : llvm::zip(sums, partial))
        scalars[SumOp(sum).getResult()] = reduceWarp(total);
    }
  }

  ValueRange outs = RecurrenceOp(plan.events).getYield().getValues();
  auto store = [&](Value value, unsigned out, Value at) {
    Value array = kernel.outs[out];
    Type element = cast<MemRefType>(array.getType()).getElementType();
    memref::StoreOp::create(b, narrow(value, element), array,
                            add(getOutOffset(out, token), at));
  };
  for (auto [number, space] : llvm::enumerate(spaces)) {
    if (space.slots.empty() && space.outs.empty())
      continue;
    int64_t slotExtent =
        space.block ? plan.getBlockColumns() : plan.getPaddedRows();
    const auto &slots = space.block ? plan.columnSlots : plan.rowSlots;
    forChunks(number, {}, [&](const Chunk &chunk, ValueMap &memo, ValueRange) {
      auto get = [&](Value vector) {
        return evaluate(vector, chunk, token, scalars, memo);
      };
      SmallVector<Value> kept, given;
      for (Value vector : space.slots) {
        Value value = get(vector);
        if (chunk.inside)
          value = arith::SelectOp::create(b, chunk.inside, value, zero);
        kept.push_back(value);
      }
      for (unsigned out : space.outs)
        given.push_back(get(outs[out + 1]));
      Value fits;
      if (slotExtent < space.getChunks() * kWarpSize)
        fits = less(chunk.element, slotExtent);
      if (!kept.empty())
        emitIf(fits, [&] {
          for (auto [vector, value] : llvm::zip(space.slots, kept))
            memref::StoreOp::create(
                b, value, shared,
                add(add(base, index(slots.find(vector)->second)),
                    chunk.element));
        });
      if (!given.empty()) {
        Value writes = position.isFirstBlock;
        if (chunk.inside)
          writes = arith::AndIOp::create(b, writes, chunk.inside);
        emitIf(writes, [&] {
          for (auto [out, value] : llvm::zip(space.outs, given))
            store(value, out, chunk.at);
        });
      }
      return SmallVector<Value>();
    });
  }

  if (plan.scalarSlots.empty() && plan.scalarOuts.empty())
    return;
  Value first = arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                      position.lane, index(0));
  SmallVector<Value> kept, given;
  for (auto [scalar, slot] : plan.scalarSlots)
    kept.push_back(evaluateScalar(scalar, token, scalars));
  for (unsigned out : plan.scalarOuts)
    given.push_back(evaluateScalar(outs[out + 1], token, scalars));
  emitIf(first, [&] {
    for (auto [slot, value] : llvm::zip(plan.scalarSlots, kept))
      memref::StoreOp::create(b, value, shared, add(base, index(slot.second)));
    // Loads of neighbours may be made one that takes the padding along.
    if (!kept.empty())
      for (int64_t pad = plan.scalarSlots.back().second + 1;
           pad < plan.tokenFloats; ++pad)
        memref::StoreOp::create(b, zero, shared, add(base, index(pad)));
    if (!given.empty())
      emitIf(position.isFirstBlock, [&] {
        for (auto [out, value] : llvm::zip(plan.scalarOuts, given))
          store(value, out, index(0));
      });
  });
}
