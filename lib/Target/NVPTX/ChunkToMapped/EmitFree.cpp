//===- EmitFree.cpp - The free slice of the forward kernel ----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One warp, one chunk: loops over the channels in slices of 16, between them
// what is narrow (numbers a token, C x C matrices), at last the inverses.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"

#include <numeric>

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

Value Emitter::getFree(Node node) {
  node.value = program.resolve(node.value);
  auto known = memo.find(node);
  if (known != memo.end())
    return known->second;
  Value result = computeFree(node);
  memo[node] = result;
  if (node.form == Form::Wide || node.form == Form::Channels)
    sliceMemo.push_back(node);
  return result;
}

Value Emitter::maskChannels(Value value, Value original, int64_t channels,
                            double fill) {
  if (channels % 16 == 0)
    return value;
  auto type = cast<RankedTensorType>(value.getType());
  RankedTensorType numbers =
      along(type.getShape().back(), Axis::Cols, b.getI32Type());
  Value position = warp::PositionsOp::create(b, numbers, Value());
  Value left = arith::SubIOp::create(b, toI32(index(channels)),
                                     toI32(getFirstChannel()));
  Value inside =
      compare(arith::CmpIPredicate::slt, position, splat(left, numbers));
  if (warp::isFragment(type))
    inside = expand(inside, type);
  return select(inside, value, constant(fill, type));
}

Value Emitter::getContracted(Value value, Value partner) {
  value = program.resolve(value);
  Value result = getFree({value, Form::Wide});
  int64_t channels = cast<RankedTensorType>(value.getType()).getDimSize(1);
  if (program.getPadding(value, true) == 0.0 ||
      (partner && program.getPadding(partner, true) == 0.0))
    return result;
  return maskChannels(result, value, channels, 0.0);
}

Value Emitter::getFirstChannel() {
  return half > 0 ? add(slice, index(8)) : slice;
}

Value Emitter::computeFree(Node node) {
  auto [value, form] = node;
  Operation *op = value.getDefiningOp();
  const int64_t width = half < 0 ? 16 : 8;
  RankedTensorType type = form == Form::Wide       ? fragment(16, width)
                          : form == Form::Square   ? fragment(16, 16)
                          : form == Form::Tokens   ? along(16, Axis::Rows)
                          : form == Form::Channels ? along(width, Axis::Cols)
                                                   : RankedTensorType();
  if (form == Form::Number && program.isUniform(value))
    return getUniform(value);

  if (auto argument = dyn_cast<BlockArgument>(value)) {
    ArgAttr arg = program.getArg(argument);
    if (arg.getKind() == ArgKind::Param && beforeWindows) {
      // Its copy in shared memory is still on the way.
      int64_t channels =
          cast<RankedTensorType>(argument.getType()).getDimSize(0);
      Value first = getFirstChannel();
      Value left = arith::SubIOp::create(b, index(channels), first);
      return extend(warp::GlobalLoadOp::create(
          b, type.clone(arg.getType()), getArray(arg),
          add(mul(head, channels), first), ValueRange{index(1)},
          ValueRange{left}));
    }
    for (auto [param, array] : llvm::zip_equal(arrays.params, paramArrays))
      if (param.argument == argument)
        return extend(load(array, {index(0), getFirstChannel()},
                           type.clone(arg.getType())));
    for (auto [input, array] : llvm::zip_equal(arrays.inputs, inputArrays)) {
      if (input.argument != argument)
        continue;
      SmallVector<Value> at{getStageOf(input), chunk, index(0)};
      if (form != Form::Wide)
        return extend(load(array, at, type));
      if (mapping.tight && arrays.gram) {
        at.push_back(getFirstChannel());
        return extend(load(array, at, type));
      }
      // Both halves of a tile come with one load.
      Value &tile = tiles[argument];
      if (!tile) {
        at.push_back(slice);
        tile = load(array, at, fragment(16, 16));
      }
      return extend(
          extract(tile, {0, half > 0 ? 8 : 0}, type.clone(arg.getType())));
    }
    llvm_unreachable("a staged argument has an array");
  }
  if (isa<arith::ConstantOp>(op)) {
    double number = VectorBuilder::getConstant(value).value_or(0.0);
    return type ? constant(number, type) : this->number(number);
  }
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    Value input = program.resolve(broadcast.getInput());
    if (!isa<RankedTensorType>(input.getType()))
      return splat(getFree({input, Form::Number}), type);
    bool rows = broadcast.getDim().value_or(0) == 0;
    if (form == Form::Wide && !rows)
      return expand(getFree({input, Form::Channels}), type);
    Value vector = getFree({input, Form::Tokens});
    if (!rows)
      vector = warp::ConvertOp::create(b, along(16, Axis::Cols), vector);
    return expand(vector, type);
  }
  if (auto identity = dyn_cast<IdentityRowsOp>(op)) {
    Value input = getFree({identity.getInput(), form});
    Value inside =
        compare(arith::CmpIPredicate::slt, positions(Axis::Rows),
                splat(toI32(valid), along(16, Axis::Rows, b.getI32Type())));
    if (form != Form::Tokens)
      inside = expand(inside, type);
    return select(inside, input,
                  constant(identity.getValue().convertToDouble(), type));
  }
  if (isPointwise(op)) {
    SmallVector<Value> operands;
    for (Value operand : op->getOperands())
      operands.push_back(getFree({program.resolve(operand), form}));
    return clonePointwise(op, operands, type);
  }
  if (auto prefix = dyn_cast<PrefixProductOp>(op))
    return getPrefix(prefix, node);
  if (auto totalProduct = dyn_cast<TotalProductOp>(op)) {
    Form source = form == Form::Number ? Form::Tokens : Form::Wide;
    Value decay = program.resolve(totalProduct.getInput());
    Value total = form == Form::Number ? getTables({decay, source}).total
                                       : getFactors(decay, 4).total;
    if (form == Form::Number)
      return warp::ElementOp::create(b, b.getF32Type(), total, 0);
    return warp::CollapseOp::create(b, type, total);
  }
  if (auto mask = dyn_cast<DecayMaskOp>(op))
    return getDecayMask(mask);
  if (auto causal = dyn_cast<CausalMaskOp>(op)) {
    Value input = getFree({causal.getInput(), Form::Square});
    Type i32 = b.getI32Type();
    Value row = expand(positions(Axis::Rows), fragment(16, 16, i32));
    Value col = expand(positions(Axis::Cols), fragment(16, 16, i32));
    Value keep = compare(causal.getDiagonal() ? arith::CmpIPredicate::sle
                                              : arith::CmpIPredicate::slt,
                         col, row);
    return select(keep, input, zeros(type));
  }
  if (auto diagonal = dyn_cast<SetDiagonalOp>(op)) {
    Value input = getFree({diagonal.getInput(), Form::Square});
    Value vector = getFree({diagonal.getDiagonal(), Form::Tokens});
    Type i32 = b.getI32Type();
    Value row = expand(positions(Axis::Rows), fragment(16, 16, i32));
    Value col = expand(positions(Axis::Cols), fragment(16, 16, i32));
    return select(compare(arith::CmpIPredicate::eq, row, col),
                  expand(vector, type), input);
  }
  llvm_unreachable("sums over channels are there after their loop");
}

//===----------------------------------------------------------------------===//
// Loops over channels
//===----------------------------------------------------------------------===//

void Emitter::getOperandParts(Operation *sum, SmallVectorImpl<Value> &parts) {
  if (auto gram = dyn_cast<DecayGramOp>(sum))
    return getGramParts(gram, parts);
  auto matmul = cast<MatmulOp>(sum);
  Value rhs = program.resolve(matmul.getRhs());
  for (Value operand : {program.resolve(matmul.getLhs()), rhs})
    if (Value scaled = getScaledInput(operand))
      parts.push_back(scaled);
    else
      parts.push_back(toOperand(operand == rhs ? getFree({rhs, Form::Wide})
                                               : getContracted(operand, rhs)));
}

Value Emitter::getScaledInput(Value value) {
  auto product = program.resolve(value).getDefiningOp<arith::MulFOp>();
  if (!product)
    return Value();
  Value x = program.resolve(product.getLhs()),
        y = program.resolve(product.getRhs());
  // What is added to the state, by products over later tokens, is rounded once.
  for (auto [input, factor] : {std::pair(x, y), std::pair(y, x)})
    if (auto prefix = factor.getDefiningOp<PrefixProductOp>();
        prefix && !prefix.getReverse() && policy.isNarrow(program, input))
      return scaleOperand(getNarrow(input), getFree({factor, Form::Wide}));
  return Value();
}

Value Emitter::join(Value left, Value right) {
  auto type = cast<RankedTensorType>(left.getType());
  SmallVector<int64_t> shape(type.getShape());
  shape.back() *= 2;
  return warp::ConcatOp::create(
      b,
      RankedTensorType::get(shape, type.getElementType(), type.getEncoding()),
      ValueRange{left, right}, shape.size() - 1);
}

void Emitter::dropSlice() {
  for (Node node : sliceMemo)
    memo.erase(node);
  sliceMemo.clear();
  tables.clear();
  factors.clear();
}

/// Eight channels at a time, which takes half as many registers: what is left
/// of the first eight are operands, rounded and packed.
void Emitter::emitParts(int64_t channels, ArrayRef<Operation *> sums,
                        ArrayRef<std::pair<unsigned, unsigned>> carried,
                        ArrayRef<const TransferPlace *> stores,
                        ArrayRef<unsigned> wideOuts,
                        MutableArrayRef<Value> values, ChannelParts &parts) {
  for (half = 0; half < 2; ++half) {
    for (auto [op, range] : llvm::zip_equal(sums, carried)) {
      MutableArrayRef<Value> mine = values.slice(range.first, range.second);
      parts.operands[half].emplace_back();
      if (auto sum = dyn_cast<SumOp>(op)) {
        mine[0] = arith::AddFOp::create(b, mine[0],
                                        getContracted(sum.getInput(), Value()));
        continue;
      }
      // Diagonals first: they take operands that nothing else does.
      if (auto gram = dyn_cast<DecayGramOp>(op))
        accumulateDiagonals(gram, mine);
      getOperandParts(op, parts.operands[half].back());
    }
    for (const TransferPlace *place : stores) {
      Value array = transferArrays[place - arrays.transfers.data()];
      Value value = getScaledInput(place->node.value);
      if (!value) {
        value = getFree(place->node);
        if (place->node.form == Form::Channels)
          value = maskChannels(value, place->node.value, channels, 1.0);
        else if (program.getPadding(place->node.value, true) != 0.0)
          value = maskChannels(value, place->node.value, channels, 0.0);
        value = toElement(
            value, cast<warp::SharedType>(array.getType()).getElementType());
      }
      if (storesHalves())
        storeFactor(*place, value, getFirstChannel());
      else
        parts.factors[half].push_back(value);
    }
    for (unsigned out : wideOuts)
      parts.outs[half].push_back(
          toElement(getFree({program.outs[out], Form::Wide}),
                    program.signature.getArgs(ArgKind::Out)[out].getType()));
    dropSlice();
  }
  half = -1;
  tiles.clear();
}

bool Emitter::storesHalves() const {
  return mapping.tight && arrays.gram && !mapping.isOverlapped();
}

void Emitter::storeFactor(const TransferPlace &place, Value value,
                          Value channel) {
  SmallVector<Value> at = getTransferIndices();
  if (place.over >= 0)
    at = {getStageOf(arrays.inputs[place.over]), chunk};
  if (place.node.form == Form::Wide)
    at.push_back(index(0));
  at.push_back(channel);
  store(value, transferArrays[&place - arrays.transfers.data()], at);
}

void Emitter::emitSlice(int64_t channels, ArrayRef<Operation *> sums,
                        ArrayRef<std::pair<unsigned, unsigned>> carried,
                        ArrayRef<const TransferPlace *> stores,
                        ArrayRef<unsigned> wideOuts, const ChannelParts &parts,
                        MutableArrayRef<Value> values) {
  for (auto [number, op] : llvm::enumerate(sums)) {
    MutableArrayRef<Value> mine =
        values.slice(carried[number].first, carried[number].second);
    SmallVector<Value> operands;
    for (auto [left, right] :
         llvm::zip_equal(parts.operands[0][number], parts.operands[1][number]))
      operands.push_back(join(left, right));
    if (isa<MatmulOp>(op))
      mine[0] = mma(operands[0], operands[1], mine[0]);
    else if (auto gram = dyn_cast<DecayGramOp>(op))
      accumulateGram(gram, operands, mine);
  }
  if (!storesHalves())
    for (auto [number, place] : llvm::enumerate(stores))
      storeFactor(*place,
                  join(parts.factors[0][number], parts.factors[1][number]),
                  slice);
  for (auto [number, out] : llvm::enumerate(wideOuts)) {
    ArgAttr arg = program.signature.getArgs(ArgKind::Out)[out];
    Value first = mul(add(mul(window, mapping.window), chunk), program.chunk);
    auto [offset, stride] = getTokenOffset(arg, 0, first);
    Value mine = select(compare(arith::CmpIPredicate::eq, block, index(0)),
                        valid, index(0));
    warp::GlobalStoreOp::create(
        b, join(parts.outs[0][number], parts.outs[1][number]), kernel.outs[out],
        add(offset, slice), ValueRange{stride, index(1)},
        ValueRange{mine, arith::SubIOp::create(b, index(channels), slice)},
        channels % 16 ? std::gcd(channels, int64_t(16)) : 16);
  }
}

Emitter::ChannelSums
Emitter::emitChannelLoop(int64_t channels, ArrayRef<Operation *> sums,
                         ArrayRef<const TransferPlace *> stores,
                         ArrayRef<unsigned> wideOuts) {
  // Sums over channels: what each has to carry, and from where.
  SmallVector<Value> initial;
  SmallVector<std::pair<unsigned, unsigned>> carried;
  for (Operation *op : sums) {
    unsigned first = initial.size();
    if (isa<SumOp>(op))
      initial.push_back(zeros(fragment(16, 8)));
    else if (auto matmul = dyn_cast<MatmulOp>(op))
      initial.push_back(matmul.getAcc() && mapping.kSplit == 1
                            ? getFree({matmul.getAcc(), Form::Square})
                            : zeros(fragment(16, 16)));
    else
      for (RankedTensorType type : getGramAccumulators(cast<DecayGramOp>(op)))
        initial.push_back(zeros(type));
    carried.push_back({first, initial.size() - first});
  }

  // Warps without a state have registers for two slices at once, whose chains
  // of dependent operations fill each other's gaps.
  const int64_t padded = getPaddedChannels(channels);
  const int64_t together = mapping.isOverlapped() && padded % 32 == 0 ? 2 : 1;
  // Of two warps that share the channels each takes every other slice.
  Value first = index(0);
  if (mapping.kSplit > 1)
    first = mul(arith::DivUIOp::create(b, warpId, index(mapping.window)), 16);
  auto loop = scf::ForOp::create(
      b, first, index(padded), index(16 * together * mapping.kSplit), initial);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    SmallVector<Value> values(loop.getRegionIterArgs());
    SmallVector<ChannelParts, 2> all(together);
    for (auto [number, parts] : llvm::enumerate(all)) {
      slice = add(loop.getInductionVar(), index(16 * number));
      emitParts(channels, sums, carried, stores, wideOuts, values, parts);
    }
    // After all loads: a factor may lie over its input.
    for (auto [number, parts] : llvm::enumerate(all)) {
      slice = add(loop.getInductionVar(), index(16 * number));
      emitSlice(channels, sums, carried, stores, wideOuts, parts, values);
    }
    // A loop that sums nothing has its terminator.
    if (!values.empty())
      scf::YieldOp::create(b, values);
  }
  slice = Value();
  ChannelSums results;
  for (auto [op, range] : llvm::zip_equal(sums, carried))
    results.push_back({op, SmallVector<Value>(loop.getResults().slice(
                               range.first, range.second))});
  return results;
}

Value Emitter::getPartialArray(Value value) const {
  for (auto [place, array] : llvm::zip_equal(arrays.partials, partialArrays))
    if (place.value == value)
      return array;
  llvm_unreachable("what warps sum together has a place");
}

void Emitter::sendSums(const ChannelSums &sums) {
  Value place = arith::SubIOp::create(b, warpId, index(mapping.window));
  for (const auto &[op, results] : sums) {
    if (auto gram = dyn_cast<DecayGramOp>(op)) {
      sendGram(gram, results, place);
      continue;
    }
    Value result = op->getResult(0);
    if (isa<SumOp>(op))
      store(warp::SumOp::create(b, along(16, Axis::Rows), results[0]),
            getPartialArray(result), {place, index(0)});
    else
      store(results[0], getPartialArray(result),
            {place, index(0), index(0), index(0)});
  }
}

void Emitter::finishSums(const ChannelSums &sums) {
  auto addPartial = [&](Value value, Form form) {
    if (mapping.kSplit == 1)
      return;
    Value &sum = memo[{value, form}];
    SmallVector<Value> at(form == Form::Tokens ? 2 : 4, index(0));
    at[0] = chunk;
    sum = arith::AddFOp::create(b, sum,
                                load(getPartialArray(value), at,
                                     cast<RankedTensorType>(sum.getType())));
  };
  for (const auto &[op, results] : sums) {
    if (auto sum = dyn_cast<SumOp>(op)) {
      memo[{sum.getResult(), Form::Tokens}] =
          warp::SumOp::create(b, along(16, Axis::Rows), results[0]);
      addPartial(sum.getResult(), Form::Tokens);
    } else if (auto matmul = dyn_cast<MatmulOp>(op)) {
      memo[{matmul.getResult(), Form::Square}] = results[0];
      addPartial(matmul.getResult(), Form::Square);
      if (matmul.getAcc() && mapping.kSplit > 1) {
        Value acc = getFree({matmul.getAcc(), Form::Square});
        Value &result = memo[{matmul.getResult(), Form::Square}];
        result = arith::AddFOp::create(b, result, acc);
      }
    } else {
      auto gram = cast<DecayGramOp>(op);
      finishGram(gram, results);
      for (Value result : gram.getGrams())
        addPartial(result, Form::Square);
    }
  }
}

void Emitter::emitNarrow(int64_t phase) {
  for (Node node : program.nodes)
    if ((node.form == Form::Tokens || node.form == Form::Square ||
         node.form == Form::Number) &&
        program.getPhase(node) <= phase)
      (void)getFree(node);
}

void Emitter::storeNarrow(const TransferPlace &place) {
  unsigned position = &place - arrays.transfers.data();
  Value value = getFree(place.node);
  SmallVector<Value> at = getTransferIndices();
  at.push_back(index(0));
  if (place.node.form == Form::Number)
    value = splat(value, along(16, Axis::Rows));
  else if (place.node.form == Form::Square)
    at.push_back(index(0));
  store(value, transferArrays[position], at);
}

void Emitter::storeSystem(unsigned position) {
  TriSolveOp op = arrays.systems[position].op;
  int64_t steps = op.getRhs().size();
  for (auto [number, matrix] : llvm::enumerate(op.getBlocks()))
    store(getFree({matrix, Form::Square}), systemSources[position],
          {chunk, index(number / steps), index(0),
           index(number % steps * program.chunk)});
}

void Emitter::invertSystem(unsigned position) {
  TriSolveOp op = arrays.systems[position].op;
  warp::InverseOp::create(b, systemSources[position], ValueRange{chunk},
                          systemInverses[position], getTransferIndices(),
                          op.getRhs().size());
}

void Emitter::emitFreeSlice(llvm::function_ref<void()> beside) {
  const bool some = !mapping.isOverlapped() &&
                    mapping.window * mapping.kSplit < mapping.warps;
  OpBuilder::InsertionGuard guard(b);
  if (some) {
    auto mine = scf::IfOp::create(
        b, compare(arith::CmpIPredicate::ult, warpId, index(mapping.window)),
        /*withElseRegion=*/false);
    b.setInsertionPointToStart(mine.thenBlock());
  }
  renewLanes(window);
  chunk =
      mapping.kSplit > 1
          ? arith::RemUIOp::create(b, warpId, index(mapping.window)).getResult()
          : warpId;
  Value first = getFirstToken(window, chunk);
  valid = getValidTokens(first);

  for (int64_t phase = 0; phase < program.numPhases(); ++phase) {
    emitNarrow(phase);
    // What runs in this loop, by the number of channels.
    struct Work {
      SmallVector<Operation *> sums;
      SmallVector<const TransferPlace *> stores;
      SmallVector<unsigned> outs;
    };
    llvm::MapVector<int64_t, Work> loops;
    llvm::SetVector<Operation *> seen;
    for (Node node : program.nodes) {
      Operation *op = node.value.getDefiningOp();
      if (!isChannelSum(node) || getLoopPhase(program, op) != phase ||
          !seen.insert(op))
        continue;
      auto type = cast<RankedTensorType>(op->getOperand(0).getType());
      loops[type.getDimSize(1)].sums.push_back(op);
    }
    for (const TransferPlace &place : arrays.transfers) {
      auto type = dyn_cast<RankedTensorType>(place.node.value.getType());
      if ((place.node.form == Form::Wide ||
           place.node.form == Form::Channels) &&
          program.getPhase(place.node) == phase)
        loops[type.getShape().back()].stores.push_back(&place);
    }
    for (unsigned out : program.freeOuts) {
      auto type = cast<RankedTensorType>(program.outs[out].getType());
      Node node{program.resolve(program.outs[out]), Form::Wide};
      if (type.getRank() == 2 && program.getPhase(node) == phase)
        loops[type.getDimSize(1)].outs.push_back(out);
    }
    ChannelSums sums;
    for (auto &[channels, work] : loops)
      sums.append(emitChannelLoop(channels, work.sums, work.stores, work.outs));
    renewLanes(window);
    if (mapping.kSplit > 1) {
      // The first warp of a chunk goes on alone.
      Value leads =
          compare(arith::CmpIPredicate::ult, warpId, index(mapping.window));
      Value sends =
          compare(arith::CmpIPredicate::uge, warpId, index(mapping.window));
      auto second = scf::IfOp::create(b, sends, /*withElseRegion=*/false);
      auto leading = scf::IfOp::create(b, leads, /*withElseRegion=*/true);
      Value own = warpId, column = warpColumn;
      b.setInsertionPointToStart(second.thenBlock());
      sendSums(sums);
      b.setInsertionPointToStart(leading.elseBlock());
      beside();
      warpId = own;
      warpColumn = column;
      b.setInsertionPointToStart(leading.thenBlock());
    }
    chunk = warpId;
    finishSums(sums);
  }
  emitNarrow(program.numPhases());
  // Stored before systems are inverted, matrices are not held meanwhile.
  for (unsigned position = 0; position < arrays.systems.size(); ++position)
    storeSystem(position);
  for (const TransferPlace &place : arrays.transfers)
    if (place.node.form != Form::Wide && place.node.form != Form::Channels)
      storeNarrow(place);
  for (unsigned position = 0; position < arrays.systems.size(); ++position)
    invertSystem(position);
  for (unsigned out : program.freeOuts) {
    Value value = program.outs[out];
    if (cast<RankedTensorType>(value.getType()).getRank() != 1)
      continue;
    ArgAttr arg = program.signature.getArgs(ArgKind::Out)[out];
    auto [offset, stride] = getTokenOffset(arg, 0, first);
    Value mine = select(compare(arith::CmpIPredicate::eq, block, index(0)),
                        valid, index(0));
    warp::GlobalStoreOp::create(
        b, toElement(getFree({value, Form::Tokens}), arg.getType()),
        kernel.outs[out], offset, ValueRange{stride}, ValueRange{mine}, 1);
  }
  memo.clear();
  tables.clear();
}
