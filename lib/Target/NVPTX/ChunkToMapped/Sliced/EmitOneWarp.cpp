//===- EmitOneWarp.cpp - C x C matrices, vectors and numbers --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What is not wide is one warp's work. Vectors and numbers are computed where
// they are used, from what is stored of them.
//
//===----------------------------------------------------------------------===//

#include "../RowScan.h"
#include "SlicedKernel.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

//===----------------------------------------------------------------------===//
// C x C matrices
//===----------------------------------------------------------------------===//

Value SlicedKernel::evalSquare(Value value) {
  value = resolve(value);
  auto known = memo.find(value);
  if (known != memo.end())
    return known->second;
  Value result = computeSquare(value);
  return memo[value] = result;
}

Value SlicedKernel::sumProducts(
    int64_t parts, Value acc, llvm::function_ref<Value(int64_t, Value)> make) {
  if (parts < 4) {
    for (int64_t part = 0; part < parts; ++part)
      acc = make(part, acc);
    return acc;
  }
  Value other = w->constant(0.0, cast<RankedTensorType>(acc.getType()));
  for (int64_t part = 0; part < parts; part += 2) {
    acc = make(part, acc);
    if (part + 1 < parts)
      other = make(part + 1, other);
  }
  return w->addf(acc, other);
}

Value SlicedKernel::computeSquare(Value value) {
  RankedTensorType type = w->square();
  Operation *op = value.getDefiningOp();
  if (std::optional<double> number = VectorBuilder::getConstant(value))
    return w->constant(*number, type);
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    Value input = resolve(broadcast.getInput());
    if (!isa<RankedTensorType>(input.getType()))
      return w->splat(evalNumber(input), type);
    Axis axis = broadcast.getDim().value_or(0) == 0 ? Axis::Rows : Axis::Cols;
    return w->expand(evalVector(input, axis));
  }
  if (auto gram = dyn_cast<DecayGramOp>(op))
    return emitGramSquare(gram, value);
  if (auto mask = dyn_cast<DecayMaskOp>(op))
    return emitDecayMask(mask);
  if (auto mask = dyn_cast<CausalMaskOp>(op)) {
    Value keep = w->compare(mask.getDiagonal() ? arith::CmpIPredicate::sle
                                               : arith::CmpIPredicate::slt,
                            w->colNumbers(), w->rowNumbers());
    return w->select(keep, evalSquare(mask.getInput()), w->constant(0.0, type));
  }
  if (auto set = dyn_cast<SetDiagonalOp>(op)) {
    Value diagonal = evalVector(set.getDiagonal(), Axis::Rows);
    return w->select(
        w->compare(arith::CmpIPredicate::eq, w->rowNumbers(), w->colNumbers()),
        w->expand(diagonal), evalSquare(set.getInput()));
  }
  if (auto rows = dyn_cast<IdentityRowsOp>(op)) {
    Value inside = hasToken(Axis::Rows);
    return w->select(w->expand(inside), evalSquare(rows.getInput()),
                     w->constant(rows.getValue().convertToDouble(), type));
  }
  if (auto prefix = dyn_cast<PrefixProductOp>(op))
    return emitRowScan(evalSquare(prefix.getInput()), true,
                       prefix.getExclusive(), prefix.getReverse());
  if (auto prefix = dyn_cast<PrefixSumOp>(op))
    return emitRowScan(evalSquare(prefix.getInput()), false,
                       prefix.getExclusive(), prefix.getReverse());
  if (auto scan = dyn_cast<LinearScanOp>(op))
    return emitLinearScan(scan, evalSquare(scan.getInput()),
                          evalSquare(scan.getFactors()));
  if (auto matmul = dyn_cast<MatmulOp>(op)) {
    Value acc = matmul.getAcc() ? evalSquare(matmul.getAcc()) : Value();
    Value left = getTileNumber(matmul.getLhs());
    Value right = getTileNumber(matmul.getRhs());
    bool scaled = left || right;
    Shape shape = getShape(matmul.getLhs());
    Value sum = sumProducts(
        countSlices(shape.side), acc && !scaled ? acc : w->constant(0.0, type),
        [&](int64_t part, Value before) {
          Value channel = w->index(16 * part);
          return w->mma(loadTile(matmul.getLhs(), channel, /*transpose=*/false),
                        loadTile(matmul.getRhs(), channel, /*transpose=*/false),
                        before);
        });
    if (!scaled)
      return sum;
    if (left && right)
      sum = addScaled(Value(), sum, left);
    return addScaled(acc, sum, right ? right : left);
  }
  IRMapping map;
  for (Value operand : op->getOperands())
    map.map(operand, evalSquare(operand));
  Operation *copy = w->b.clone(*op, map);
  WarpBuilder::allowContraction(copy);
  copy->getResult(0).setType(type);
  return copy->getResult(0);
}

/// Log steps over blocks of rows: `side` joins what stands on the wanted side
/// of each row in its block, `all` the whole block.
Value SlicedKernel::emitRowScan(Value x, bool product, bool exclusive,
                                bool reverse) {
  auto type = cast<RankedTensorType>(x.getType());
  auto join = [&](Value a, Value b) {
    return product ? w->mulf(a, b) : w->addf(a, b);
  };
  Value side = w->constant(product ? 1.0 : 0.0, type), all = x;
  for (int64_t distance = 1; distance < kTokens; distance *= 2) {
    Value other = warp::ShuffleRowsOp::create(w->b, type, all, distance);
    Value has = w->has(distance, Axis::Rows, type);
    Value joined = join(side, other);
    side =
        reverse ? w->select(has, side, joined) : w->select(has, joined, side);
    if (2 * distance < kTokens)
      all = join(all, other);
  }
  return exclusive ? side : join(x, side);
}

Value SlicedKernel::emitLinearScan(LinearScanOp op, Value x, Value factors) {
  return gpumap::emitLinearScan(w->b, op, x, factors,
                                [&](int64_t bit, RankedTensorType like) {
                                  return w->has(bit, Axis::Rows, like);
                                });
}

Value SlicedKernel::emitDecayMask(DecayMaskOp op) {
  Value decay = evalVector(op.getW(), Axis::Rows);
  RankedTensorType vector = w->along(Axis::Rows);
  Value one = w->constant(1.0, vector);
  Value row = w->rowNumbers(), col = w->colNumbers();
  Value different = arith::XOrIOp::create(w->b, row, col);
  Value result = w->constant(0.0, w->square());
  Value before = one, behind = one, all = decay;
  for (int level = 0; level < 4; ++level) {
    int64_t distance = int64_t(1) << level;
    Value left =
        op.getRow() == Position::After ? w->mulf(before, decay) : before;
    Value right =
        op.getCol() == Position::Before ? w->mulf(behind, decay) : behind;
    Value turned = warp::ConvertOp::create(w->b, w->along(Axis::Cols), right);
    // Pairs whose highest different bit is this level's or a higher one's.
    Value here = w->compare(arith::CmpIPredicate::uge, different,
                            w->integers(distance, w->square()));
    result =
        w->select(here, w->mulf(w->expand(left), w->expand(turned)), result);
    Value other = warp::ShuffleRowsOp::create(w->b, vector, all, distance);
    Value has = w->has(distance, Axis::Rows, vector);
    before = w->select(has, w->mulf(before, other), before);
    behind = w->select(has, behind, w->mulf(behind, other));
    all = w->mulf(all, other);
  }
  result = w->select(w->compare(arith::CmpIPredicate::slt, col, row), result,
                     w->constant(0.0, w->square()));
  if (!op.getDiagonal())
    return result;
  bool own = op.getRow() == Position::After && op.getCol() == Position::Before;
  return w->select(w->compare(arith::CmpIPredicate::eq, row, col),
                   w->expand(own ? decay : one), result);
}

//===----------------------------------------------------------------------===//
// Vectors
//===----------------------------------------------------------------------===//

Value SlicedKernel::evalVector(Value value, Axis axis, int64_t first) {
  value = resolve(value);
  auto &known = vectorMemo[axis == Axis::Cols];
  auto found = known.find({value, first});
  if (found != known.end())
    return found->second;
  Value result = computeVector(value, axis, first);
  return known[{value, first}] = result;
}

Value SlicedKernel::keepDiagonal(Value square) {
  return w->select(
      w->compare(arith::CmpIPredicate::eq, w->rowNumbers(), w->colNumbers()),
      square, w->constant(0.0, w->square()));
}

Value SlicedKernel::reduceInOne(Value value) {
  Operation *op = value.getDefiningOp();
  Value input = op->getOperand(0);
  if (isa<DiagonalOp>(op))
    return warp::SumOp::create(w->b, w->along(Axis::Rows),
                               keepDiagonal(evalSquare(input)));
  return warp::SumOp::create(w->b,
                             w->along(isa<SumOp>(op) ? Axis::Rows : Axis::Cols),
                             evalSquare(input));
}

Value SlicedKernel::computeVector(Value value, Axis axis, int64_t first) {
  RankedTensorType type = w->along(axis);
  Value start = w->index(first);
  auto turn = [&](Value vector) -> Value {
    if (vector.getType() == type)
      return vector;
    return warp::ConvertOp::create(w->b, type, vector);
  };
  if (auto stored = vectors.find(value); stored != vectors.end()) {
    Stored &entry = stored->second;
    if (side == None && entry.side == None && entry.level == level)
      return turn(reduceInOne(value));
    Value sum;
    for (int64_t part = 0; part < entry.parts; ++part)
      sum = w->addf(sum, read(entry, {w->index(part), start}, type));
    return sum;
  }
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    ArgAttr arg = getArg(argument);
    if (arg.getKind() == ArgKind::In) {
      Value stagedAt;
      Value array = getInputArray(value, stagedAt);
      return w->extend(w->load(array, {stagedAt, start}, type));
    }
    int64_t size = cast<RankedTensorType>(value.getType()).getDimSize(0);
    return w->extend(warp::GlobalLoadOp::create(
        w->b, type.clone(arg.getType()), kernel.getInput(signature, arg),
        w->add(getParamOffset(arg, size), start), ValueRange{w->index(1)},
        ValueRange{w->index(size - first)}));
  }
  Operation *op = value.getDefiningOp();
  if (std::optional<double> number = VectorBuilder::getConstant(value))
    return w->constant(*number, type);
  if (auto broadcast = dyn_cast<BroadcastOp>(op))
    return w->splat(evalNumber(resolve(broadcast.getInput())), type);
  bool product = isa<PrefixProductOp>(op);
  if (product || isa<PrefixSumOp>(op)) {
    bool exclusive = product ? cast<PrefixProductOp>(op).getExclusive()
                             : cast<PrefixSumOp>(op).getExclusive();
    bool reverse = product ? cast<PrefixProductOp>(op).getReverse()
                           : cast<PrefixSumOp>(op).getReverse();
    if (axis == Axis::Cols)
      return turn(evalVector(value, Axis::Rows, first));
    return emitRowScan(evalVector(op->getOperand(0), axis, first), product,
                       exclusive, reverse);
  }
  if (auto scan = dyn_cast<LinearScanOp>(op)) {
    if (axis == Axis::Cols)
      return turn(evalVector(value, Axis::Rows, first));
    return emitLinearScan(scan, evalVector(scan.getInput(), axis, first),
                          evalVector(scan.getFactors(), axis, first));
  }
  if (auto rows = dyn_cast<IdentityRowsOp>(op)) {
    Value inside = hasToken(axis);
    return w->select(inside, evalVector(rows.getInput(), axis, first),
                     w->constant(rows.getValue().convertToDouble(), type));
  }
  IRMapping map;
  for (Value operand : op->getOperands())
    map.map(operand, evalVector(operand, axis, first));
  Operation *copy = w->b.clone(*op, map);
  copy->getResult(0).setType(type);
  return copy->getResult(0);
}

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

Value SlicedKernel::evalNumber(Value value) {
  auto known = memo.find(value);
  if (known != memo.end())
    return known->second;
  Value result = computeNumber(value);
  return memo[value] = result;
}

Value SlicedKernel::computeNumber(Value value) {
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    ArgAttr arg = getArg(argument);
    return arg.getKind() == ArgKind::Attr
               ? kernel.getAttr(signature, arg)
               : w->extend(memref::LoadOp::create(
                     w->b, kernel.getInput(signature, arg), renew(head)));
  }
  Operation *op = value.getDefiningOp();
  // Sums, or products, of a vector's elements.
  auto combine = [&](Value input, bool product) -> Value {
    int64_t size = cast<RankedTensorType>(input.getType()).getDimSize(0);
    RankedTensorType type = w->along(Axis::Rows);
    Value all;
    for (int64_t first = 0; first < size; first += 16) {
      Value part = evalVector(input, Axis::Rows, first);
      if (size - first < 16)
        part = w->select(w->compare(arith::CmpIPredicate::slt,
                                    w->positions(Axis::Rows),
                                    w->integers(size - first, type)),
                         part, w->constant(product ? 1.0 : 0.0, type));
      all = product ? w->mulf(all, part) : w->addf(all, part);
    }
    for (int64_t distance = 1; distance < 16; distance *= 2) {
      Value other = warp::ShuffleRowsOp::create(w->b, type, all, distance);
      all = product ? w->mulf(all, other) : w->addf(all, other);
    }
    return warp::ElementOp::create(w->b, w->b.getF32Type(), all, 0);
  };
  if (auto stored = vectors.find(value); stored != vectors.end()) {
    Stored &entry = stored->second;
    if (side == None && entry.side == None && entry.level == level)
      return combine(op->getOperand(0), /*product=*/false);
    Value vector =
        read(entry, {w->index(0), w->index(0)}, w->along(Axis::Cols));
    return warp::ElementOp::create(w->b, w->b.getF32Type(), vector, 0);
  }
  if (isa<TotalProductOp>(op))
    return combine(op->getOperand(0), /*product=*/true);
  IRMapping map;
  for (Value operand : op->getOperands())
    map.map(operand, evalNumber(operand));
  return w->b.clone(*op, map)->getResult(0);
}
