//===- EmitSlices.cpp - A chunk program's values in one slice -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A slice has 16 channels as rows and the chunk's tokens as columns, so that a
// product from the left with a C x C matrix L is X^T L^T: the slice is the left
// operand as it stands, and L comes from shared memory.
//
//===----------------------------------------------------------------------===//

#include "SlicedKernel.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "mlir/IR/IRMapping.h"

#include <functional>

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

Value SlicedKernel::hasToken(Axis axis) {
  Value limit = arith::IndexCastOp::create(w->b, w->b.getI32Type(), tokens);
  return w->compare(arith::CmpIPredicate::slt, w->positions(axis),
                    w->splat(limit, w->along(axis, w->b.getI32Type())));
}

Value SlicedKernel::maskRows(Value value, Value of) {
  int64_t size = getSize(side);
  if (size % 16 == 0 || (of && facts.getPadding(of, /*channels=*/true) == 0.0))
    return value;
  RankedTensorType vector = w->along(Axis::Rows, w->b.getI32Type());
  Value left = arith::IndexCastOp::create(w->b, w->b.getI32Type(),
                                          w->sub(w->index(size), firstRow));
  Value inside = w->compare(arith::CmpIPredicate::slt, w->positions(Axis::Rows),
                            w->splat(left, vector));
  auto type = cast<RankedTensorType>(value.getType());
  if (warp::isFragment(type))
    inside = warp::ExpandOp::create(w->b, type.clone(w->b.getI1Type()), inside);
  return w->select(inside, value, w->constant(0.0, type));
}

Value SlicedKernel::getInputArray(Value argument, Value &at) {
  for (const Input &input : inputs)
    if (input.argument == argument) {
      noteInput();
      at = stageIndex;
      return input.array;
    }
  llvm_unreachable("an argument that is read is staged");
}

Value SlicedKernel::loadTile(Value value, Value channel, bool transpose) {
  value = resolve(value);
  Value token = firstToken ? firstToken : w->index(0);
  if (getTileNumber(value))
    value = splitNumber(value).first;
  if (isa<BlockArgument>(value)) {
    Value at;
    Value array = getInputArray(value, at);
    return w->toOperand(
        w->load(array, {at, token, channel}, w->square(), transpose));
  }
  return read(tiles.find(value)->second, {token, channel}, w->square(),
              transpose);
}

//===----------------------------------------------------------------------===//
// Matrices of tokens x channels
//===----------------------------------------------------------------------===//

Value SlicedKernel::evalWide(Value value) {
  value = resolve(value);
  auto known = memo.find(value);
  if (known != memo.end())
    return known->second;
  Kept *entry = getKept(value);
  Value result =
      entry ? w->extend(readKept(*entry, Kept::kW)) : computeWide(value);
  return memo[value] = result;
}

Value SlicedKernel::computeWide(Value value) {
  RankedTensorType type = w->square();
  if (isa<BlockArgument>(value)) {
    Value &loaded = inputMemo[value];
    if (!loaded) {
      Value at;
      Value array = getInputArray(value, at);
      loaded = w->load(array, {at, w->index(0), firstRow}, type,
                       /*transpose=*/true);
    }
    return w->extend(late ? Value(warp::FollowOp::create(w->b, loaded, late))
                          : loaded);
  }
  Operation *op = value.getDefiningOp();
  if (std::optional<double> number = VectorBuilder::getConstant(value))
    return w->constant(*number, type);
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    Value input = resolve(broadcast.getInput());
    if (!isa<RankedTensorType>(input.getType()))
      return w->splat(evalNumber(input), type);
    if (broadcast.getDim().value_or(0) == 0)
      return w->expand(evalVector(input, Axis::Cols));
    return w->expand(evalOwn(input));
  }
  if (auto rows = dyn_cast<IdentityRowsOp>(op)) {
    Value inside = hasToken(Axis::Cols);
    return w->select(w->expand(inside), evalWide(rows.getInput()),
                     w->constant(rows.getValue().convertToDouble(), type));
  }
  if (auto prefix = dyn_cast<PrefixProductOp>(op)) {
    Value side = getProducts(prefix.getInput(), prefix.getReverse());
    return prefix.getExclusive() ? side
                                 : w->mulf(evalWide(prefix.getInput()), side);
  }
  if (auto prefix = dyn_cast<PrefixSumOp>(op))
    return emitScan(evalWide(prefix.getInput()), prefix.getExclusive(),
                    prefix.getReverse());
  if (auto matmul = dyn_cast<MatmulOp>(op))
    return emitProduct(matmul);
  if (auto solve = dyn_cast<TriSolveOp>(op))
    return emitSolve(solve, value);
  auto adjoint = dyn_cast<DecayGramAdjointOp>(op);
  if (!adjoint)
    adjoint = findGradientIn(value);
  if (adjoint) {
    emitGramAdjoint(adjoint);
    return memo.lookup(value);
  }
  IRMapping map;
  for (Value operand : op->getOperands())
    map.map(operand, evalWide(operand));
  Operation *copy = w->b.clone(*op, map);
  WarpBuilder::allowContraction(copy);
  copy->getResult(0).setType(type);
  return copy->getResult(0);
}

void SlicedKernel::readAnew(Value earlier) {
  if (!earlier)
    return;
  late = earlier;
  for (auto [input, loaded] : inputMemo)
    memo.erase(input);
}

Value SlicedKernel::addScaled(Value acc, Value value, Value number) {
  if (!number)
    return w->addf(acc, value);
  return w->fma(value, w->splat(evalNumber(number), w->square()), acc);
}

/// Sums over tokens by a product with a matrix of zeros and ones.
Value SlicedKernel::emitScan(Value x, bool exclusive, bool reverse) {
  Value ones = w->toOperand(
      w->load(scanArray, {w->index(reverse ? 4 : 3), w->index(0), w->index(0)},
              w->square()));
  return w->mma(w->toOperand(x), ones,
                exclusive ? w->constant(0.0, w->square()) : x);
}

Value SlicedKernel::emitProduct(MatmulOp op) {
  Value lhs = resolve(op.getLhs()), rhs = resolve(op.getRhs());
  Value number = getTileNumber(lhs);
  if (number && getShape(rhs).kind == Kind::State) {
    // The sum of products comes first.
    Value total = w->constant(0.0, w->square());
    for (int64_t part = 0;
         part < countSlices(op.getTransposeRhs() ? Cols : Rows); ++part)
      total = w->mma(op.getTransposeRhs() ? loadStateRows(rhs, part)
                                          : w->toOperand(evalState(rhs, part)),
                     loadTile(lhs, w->index(16 * part), /*transpose=*/false),
                     total);
    return addScaled(op.getAcc() ? evalWide(op.getAcc()) : Value(), total,
                     number);
  }
  Value sum =
      op.getAcc() ? evalWide(op.getAcc()) : w->constant(0.0, w->square());
  if (getShape(rhs).kind != Kind::State) {
    Value square = read(squares.find(lhs)->second, {w->index(0), w->index(0)},
                        w->square(), op.getTransposeLhs());
    return w->mma(w->toOperand(evalWide(rhs)), square, sum);
  }
  if (!op.getTransposeRhs()) {
    // Tokens x rows of the state, times the state: its columns are ours.
    for (int64_t part = 0; part < countSlices(Rows); ++part)
      sum =
          w->mma(w->toOperand(evalState(rhs, part)),
                 loadTile(lhs, w->index(16 * part), /*transpose=*/false), sum);
    return sum;
  }
  // Tokens x columns of the state, times its transpose: its rows are ours.
  for (int64_t part = 0; part < countSlices(Cols); ++part)
    sum = w->mma(loadStateRows(rhs, part),
                 loadTile(lhs, w->index(16 * part), /*transpose=*/false), sum);
  return sum;
}

Value SlicedKernel::loadStateRows(Value value, int64_t part) {
  Value &known = stateMemo[{value, -1 - part}];
  if (known)
    return known;
  Value from = w->index(16 * part);
  noteInput();
  return known = value == state
                     ? read(stateTile, {from, firstRow}, w->square(),
                            /*transpose=*/true)
                     : w->load(savedTile.array, {stageIndex, from, firstRow},
                               w->square(), /*transpose=*/true);
}

bool SlicedKernel::isStateProduct(Operation *op) {
  auto matmul = dyn_cast<MatmulOp>(op);
  return matmul && matmul.getTransposeRhs() && !matmul.getTransposeLhs() &&
         getShape(matmul.getRhs()).kind == Kind::State;
}

void SlicedKernel::emitStateProducts(ArrayRef<const Task *> tasks) {
  SmallVector<MatmulOp> products;
  SmallVector<Value> sums;
  llvm::DenseSet<Value> seen;
  std::function<void(Value)> visit = [&](Value value) {
    value = resolve(value);
    if (!seen.insert(value).second || memo.contains(value))
      return;
    Operation *op = value.getDefiningOp();
    if (!op)
      return;
    if (isa<SumOp>(op) && side == Rows && isStatesProduct(op->getOperand(0))) {
      if (!ownMemo.contains(value))
        sums.push_back(value);
      return;
    }
    for (Value operand : op->getOperands()) {
      Shape shape = getShape(operand);
      if ((shape.kind == Kind::Wide && shape.side == side) ||
          shape.kind == Kind::Channels)
        visit(operand);
    }
    if (isStateProduct(op))
      products.push_back(cast<MatmulOp>(op));
  };
  for (const Task *task : tasks)
    if (task->value)
      visit(task->value);
  // Without such a sum the states' rows are read where they are needed.
  if (sums.empty())
    return;
  SmallVector<Value> totals(products.size()), sumTotals(sums.size());
  for (auto [op, total] : llvm::zip(products, totals))
    total = w->constant(0.0, w->square());
  for (int64_t part = 0; part < countSlices(Cols); ++part) {
    for (auto [op, total] : llvm::zip(products, totals))
      total = w->mma(loadStateRows(resolve(op.getRhs()), part),
                     loadTile(op.getLhs(), w->index(16 * part),
                              /*transpose=*/false),
                     total);
    for (Value &sum : sumTotals)
      sum = w->fma(w->extend(loadStateRows(state, part)),
                   w->extend(loadStateRows(checkpoint, part)), sum);
  }
  for (auto [op, total] : llvm::zip(products, totals))
    memo[op.getResult()] =
        addScaled(op.getAcc() ? evalWide(op.getAcc()) : Value(), total,
                  getTileNumber(op.getLhs()));
  for (auto [sum, total] : llvm::zip(sums, sumTotals))
    ownMemo[sum] = warp::SumOp::create(w->b, w->along(Axis::Rows), total);
}

Value SlicedKernel::emitSolve(TriSolveOp op, Value wanted) {
  System *system = nullptr;
  for (System &candidate : systems)
    if (llvm::equal(candidate.blocks, op.getBlocks()))
      system = &candidate;
  int64_t steps = op.getRhs().size();
  bool turned = op.getTranspose();
  for (int64_t j = 0; j < steps; ++j) {
    Value sum = w->constant(0.0, w->square());
    for (int64_t l = 0; l < steps; ++l) {
      Value inverse = read(system->inverse,
                           {w->index(turned ? l : j), w->index(0),
                            w->index((turned ? j : l) * kTokens)},
                           w->square(), turned);
      sum = w->mma(w->toOperand(evalWide(op.getRhs()[l])), inverse, sum);
    }
    memo[op.getUnknowns()[j]] = sum;
  }
  return memo.lookup(wanted);
}

//===----------------------------------------------------------------------===//
// Matrices of the state's shape: columns are rows here
//===----------------------------------------------------------------------===//

Value SlicedKernel::evalState(Value value, int64_t part) {
  value = resolve(value);
  if (value == state)
    return currentState[part];
  auto known = stateMemo.find({value, part});
  if (known != stateMemo.end())
    return known->second;
  Value result = computeState(value, part);
  return stateMemo[{value, part}] = result;
}

Value SlicedKernel::computeState(Value value, int64_t part) {
  RankedTensorType type = w->square();
  if (value == checkpoint) {
    noteInput();
    return w->extend(w->load(
        savedTile.array, {stageIndex, firstRow, w->index(16 * part)}, type));
  }
  Operation *op = value.getDefiningOp();
  if (std::optional<double> number = VectorBuilder::getConstant(value))
    return w->constant(*number, type);
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    Value input = resolve(broadcast.getInput());
    if (!isa<RankedTensorType>(input.getType()))
      return w->splat(evalNumber(input), type);
    if (broadcast.getDim().value_or(0) == 0)
      return w->expand(evalVector(input, Axis::Cols, 16 * part));
    return w->expand(evalOwn(input));
  }
  if (auto matmul = dyn_cast<MatmulOp>(op)) {
    Value sum = matmul.getAcc() ? evalState(matmul.getAcc(), part)
                                : w->constant(0.0, type);
    Value rhs = evalWide(matmul.getRhs());
    if (Value number = getTileNumber(matmul.getLhs()))
      rhs = w->mulf(rhs, w->splat(evalNumber(number), type));
    return w->mma(w->toOperand(rhs),
                  loadTile(matmul.getLhs(), w->index(16 * part),
                           /*transpose=*/true),
                  sum);
  }
  IRMapping map;
  for (Value operand : op->getOperands())
    map.map(operand, evalState(operand, part));
  Operation *copy = w->b.clone(*op, map);
  WarpBuilder::allowContraction(copy);
  copy->getResult(0).setType(type);
  return copy->getResult(0);
}

//===----------------------------------------------------------------------===//
// The slice's own part of a vector of channels
//===----------------------------------------------------------------------===//

Value SlicedKernel::evalOwn(Value value) {
  value = resolve(value);
  auto known = ownMemo.find(value);
  if (known != ownMemo.end())
    return known->second;
  Value result = computeOwn(value);
  return ownMemo[value] = result;
}

Value SlicedKernel::computeOwn(Value value) {
  RankedTensorType type = w->along(Axis::Rows);
  if (auto argument = dyn_cast<BlockArgument>(value)) { // a param
    auto load = [&](Value first) {
      int64_t size = cast<RankedTensorType>(value.getType()).getDimSize(0);
      ArgAttr arg = getArg(argument);
      return w->extend(warp::GlobalLoadOp::create(
          w->b, type.clone(arg.getType()), kernel.getInput(signature, arg),
          w->add(getParamOffset(arg, size), first), ValueRange{w->index(1)},
          ValueRange{w->sub(w->index(size), first)}));
    };
    if (countSlices(side) > warps)
      return load(firstRow);
    Value &known = paramMemo[value];
    if (!known) {
      // A warp's slice is the same for all chunks.
      OpBuilder::InsertionGuard guard(w->b);
      w->b.setInsertionPoint(entry.getDefiningOp());
      known = load(w->mul(kernelWarp, 16));
    }
    return known;
  }
  Operation *op = value.getDefiningOp();
  if (std::optional<double> number = VectorBuilder::getConstant(value))
    return w->constant(*number, type);
  if (auto broadcast = dyn_cast<BroadcastOp>(op))
    return w->splat(evalNumber(resolve(broadcast.getInput())), type);
  Shape input = op->getNumOperands() ? getShape(op->getOperand(0)) : Shape();
  bool mine = input.kind == Kind::Wide && input.side == side;
  if (isa<TotalProductOp>(op) && mine)
    if (Kept *entry = getKept(resolve(op->getOperand(0))))
      return entry->total
                 ? entry->total
                 : w->load(entry->totals, {stageIndex, firstRow}, type);
  if (isa<TotalProductOp>(op) && mine)
    return warp::CollapseOp::create(w->b, type,
                                    getTables(op->getOperand(0), 4).total);
  if (isa<TokenSumOp>(op) && mine)
    return warp::SumOp::create(w->b, type, evalWide(op->getOperand(0)));
  if (isa<SumOp>(op) && side == Rows && isStatesProduct(op->getOperand(0))) {
    // Rows of both states are at hand where products with them are made.
    Value sum;
    for (int64_t part = 0; part < countSlices(Cols); ++part)
      sum = w->fma(w->extend(loadStateRows(state, part)),
                   w->extend(loadStateRows(checkpoint, part)), sum);
    return warp::SumOp::create(w->b, type, sum);
  }
  if (isPointwise(op)) {
    IRMapping map;
    for (Value operand : op->getOperands())
      map.map(operand, evalOwn(operand));
    Operation *copy = w->b.clone(*op, map);
    copy->getResult(0).setType(type);
    return copy->getResult(0);
  }
  Stored &stored = vectors.find(value)->second;
  Value sum;
  for (int64_t part = 0; part < stored.parts; ++part)
    sum = w->addf(sum, read(stored, {w->index(part), firstRow}, type));
  return sum;
}
