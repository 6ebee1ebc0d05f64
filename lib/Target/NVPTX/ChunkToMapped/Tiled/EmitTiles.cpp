//===- EmitTiles.cpp - A chunk program's values at one tile ---------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Elementwise values are computed from what is stored, tile by tile; a scan
// along the tokens is elementwise too, since a tile has all rows of a chunk.
//
//===----------------------------------------------------------------------===//

#include "../ColumnBlocks.h"
#include "../Program.h"
#include "../RowScan.h"
#include "TiledKernel.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

//===----------------------------------------------------------------------===//
// Small change
//===----------------------------------------------------------------------===//

static Value addOffset(WarpBuilder &w, Value numbers, Value first) {
  Value offset = w.toI32(first);
  return arith::AddIOp::create(
      w.b, numbers, w.splat(offset, cast<RankedTensorType>(numbers.getType())));
}

Value TiledKernel::rowNumbers(TileAt at) {
  return isLong() ? addOffset(*this, rowNumbers(), at.row) : rowNumbers();
}

Value TiledKernel::colNumbers(TileAt at) {
  return isLong() ? addOffset(*this, colNumbers(), at.col) : colNumbers();
}

Value TiledKernel::shuffle(Value x, int64_t distance) {
  return warp::ShuffleRowsOp::create(b, x.getType(), x, distance);
}

//===----------------------------------------------------------------------===//
// Matrices
//===----------------------------------------------------------------------===//

Value TiledKernel::maskColumns(Value tile, Value value, Value firstCol,
                               double fill) {
  int64_t cols = cast<RankedTensorType>(value.getType()).getDimSize(1);
  if (cols % 16 == 0)
    return tile;
  RankedTensorType vector = along(Axis::Cols, b.getI32Type());
  Value left = arith::SubIOp::create(b, index(cols), firstCol);
  Value limit = toI32(left);
  Value inside = compare(arith::CmpIPredicate::slt, positions(Axis::Cols),
                         splat(limit, vector));
  auto type = cast<RankedTensorType>(tile.getType());
  return select(expand(inside), tile, constant(fill, type));
}

Value TiledKernel::evalMatrix(Value value, TileAt at) {
  auto known = tileMemo.find(value);
  if (known != tileMemo.end())
    return known->second;
  Value result = computeMatrix(value, at);
  return tileMemo[value] = result;
}

Value TiledKernel::computeMatrix(Value value, TileAt at) {
  RankedTensorType type = square();
  if (value == state)
    return load(stateArray, {at.row, at.col}, type);
  if (value == checkpoint)
    return extend(loadOperand(value, at.row, at.col, /*transpose=*/false));
  if (auto stored = arrays.find(value); stored != arrays.end())
    return extend(load(stored->second.array, {at.row, at.col}, type));
  for (const Input &input : inputs)
    if (input.argument == value)
      return extend(load(input.array, {stage, at.row, at.col}, type));
  return computeStored(value, at);
}

Value TiledKernel::computeStored(Value value, TileAt at) {
  RankedTensorType type = square();
  Operation *op = value.getDefiningOp();
  assert(op && "the program has been checked");
  if (std::optional<double> number = VectorBuilder::getConstant(value))
    return constant(*number, type);
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    Value input = broadcast.getInput();
    if (!isa<RankedTensorType>(input.getType()))
      return splat(evalScalar(input), type);
    if (broadcast.getDim().value_or(0) == 0)
      return expand(evalVector(input, Axis::Rows, at.row));
    return expand(evalVector(input, Axis::Cols, at.col));
  }
  if (auto rows = dyn_cast<IdentityRowsOp>(op)) {
    Value limit = toI32(tokens);
    Value position = positions(Axis::Rows);
    if (isLong())
      position = addOffset(*this, position, at.row);
    Value inside = compare(arith::CmpIPredicate::slt, position,
                           splat(limit, along(Axis::Rows, b.getI32Type())));
    return select(expand(inside), evalMatrix(rows.getInput(), at),
                  constant(rows.getValue().convertToDouble(), type));
  }
  if (auto mask = dyn_cast<CausalMaskOp>(op)) {
    Value keep = compare(mask.getDiagonal() ? arith::CmpIPredicate::sle
                                            : arith::CmpIPredicate::slt,
                         colNumbers(at), rowNumbers(at));
    return select(keep, evalMatrix(mask.getInput(), at), constant(0.0, type));
  }
  if (auto set = dyn_cast<SetDiagonalOp>(op)) {
    Value diagonal = evalVector(set.getDiagonal(), Axis::Rows, at.row);
    return select(
        compare(arith::CmpIPredicate::eq, rowNumbers(at), colNumbers(at)),
        expand(diagonal), evalMatrix(set.getInput(), at));
  }
  if (auto prefix = dyn_cast<PrefixProductOp>(op))
    return emitScan(evalMatrix(prefix.getInput(), at), /*product=*/true,
                    prefix.getExclusive(), prefix.getReverse());
  if (auto prefix = dyn_cast<PrefixSumOp>(op))
    return emitScan(evalMatrix(prefix.getInput(), at), /*product=*/false,
                    prefix.getExclusive(), prefix.getReverse());
  if (auto scan = dyn_cast<LinearScanOp>(op))
    return emitLinearScan(scan, evalMatrix(scan.getInput(), at),
                          evalMatrix(scan.getFactors(), at));
  if (auto mask = dyn_cast<DecayMaskOp>(op))
    return emitDecayMask(mask, index(0));
  if (auto matmul = dyn_cast<MatmulOp>(op))
    return emitProduct(matmul, at);
  IRMapping map;
  for (Value operand : op->getOperands())
    map.map(operand, evalMatrix(operand, at));
  Operation *copy = b.clone(*op, map);
  copy->getResult(0).setType(type);
  return copy->getResult(0);
}

Value TiledKernel::loadCheckpoint(Value row, Value col, bool transpose) {
  int64_t size = stateRows * getAllCols();
  Value sequence = add(mul(batch, kernel.H), head);
  Value number = add(mul(sequence, chunks), chunk);
  Value column = block ? add(getFirstCol(), col) : col;
  Value offset = add(mul(number, size), add(mul(column, stateRows), row));
  SmallVector<Value> strides{index(1), index(stateRows)};
  SmallVector<Value> limits{arith::SubIOp::create(b, index(stateRows), row),
                            arith::SubIOp::create(b, index(stateCols), col)};
  if (transpose) {
    std::swap(strides[0], strides[1]);
    std::swap(limits[0], limits[1]);
  }
  Type element =
      cast<MemRefType>(kernel.checkpoints.getType()).getElementType();
  return warp::GlobalLoadOp::create(b, square(element), kernel.checkpoints,
                                    offset, strides, limits);
}

Value TiledKernel::loadOperand(Value value, Value row, Value col,
                               bool transpose) {
  RankedTensorType type = square();
  if (value == state)
    return toOperand(load(stateArray, {row, col}, type, transpose));
  if (value == checkpoint) {
    auto copy = arrays.find(value);
    return copy == arrays.end()
               ? loadCheckpoint(row, col, transpose)
               : load(copy->second.array, {stage, col, row}, type, !transpose);
  }
  if (auto stored = arrays.find(value); stored != arrays.end())
    return toOperand(load(stored->second.array, {row, col}, type, transpose));
  for (const Input &input : inputs)
    if (input.argument == value)
      return toOperand(load(input.array, {stage, row, col}, type, transpose));
  llvm_unreachable("operands of matrix instructions are stored");
}

Value TiledKernel::emitProduct(MatmulOp op, TileAt at) {
  Value sum =
      op.getAcc() ? evalMatrix(op.getAcc(), at) : constant(0.0, square());
  auto shape = cast<RankedTensorType>(op.getLhs().getType()).getShape();
  int64_t length = getPaddedChannels(shape[op.getTransposeLhs() ? 0 : 1]);
  for (int64_t k = 0; k < length; k += 16) {
    bool tl = op.getTransposeLhs(), tr = op.getTransposeRhs();
    Value lhs = loadOperand(op.getLhs(), tl ? index(k) : at.row,
                            tl ? at.row : index(k), tl);
    // The instruction multiplies rows with rows.
    Value rhs = loadOperand(op.getRhs(), tr ? at.col : index(k),
                            tr ? index(k) : at.col, !tr);
    sum = mma(lhs, rhs, sum);
  }
  return sum;
}

/// Log steps over blocks of rows: `side` joins what stands on the wanted side
/// of each row in its block, `all` the whole block.
Value TiledKernel::emitScan(Value x, bool product, bool exclusive,
                            bool reverse) {
  auto type = cast<RankedTensorType>(x.getType());
  auto join = [&](Value a, Value b) {
    return product ? mulf(a, b) : addf(a, b);
  };
  Value side = constant(product ? 1.0 : 0.0, type), all = x;
  for (int64_t distance = 1; distance < 16; distance *= 2) {
    Value other = shuffle(all, distance);
    Value has = rowHas(distance, type);
    Value joined = join(side, other);
    side = reverse ? select(has, side, joined) : select(has, joined, side);
    if (distance < 8)
      all = join(all, other);
  }
  return exclusive ? side : join(x, side);
}

Value TiledKernel::emitLinearScan(LinearScanOp op, Value x, Value factors) {
  return gpumap::emitLinearScan(
      b, op, x, factors,
      [&](int64_t bit, RankedTensorType like) { return rowHas(bit, like); });
}

Value TiledKernel::emitDecayMask(DecayMaskOp op, Value first) {
  Value w = evalVector(op.getW(), Axis::Rows, first);
  Levels levels = getLevels(w);
  Value one = constant(1.0, along(Axis::Rows));
  Value result = constant(0.0, square());
  for (int level = 0; level < 4; ++level) {
    Value before = levels.before[level] ? levels.before[level] : one;
    if (op.getRow() == Position::After)
      before = mulf(before, w);
    Value behind = levels.behind[level] ? levels.behind[level] : one;
    if (op.getCol() == Position::Before)
      behind = mulf(behind, w);
    Value turned = warp::ConvertOp::create(b, along(Axis::Cols), behind);
    result = select(getLevelMask(level, /*turned=*/false),
                    mulf(expand(before), expand(turned)), result);
  }
  if (!op.getDiagonal())
    return result;
  bool own = op.getRow() == Position::After && op.getCol() == Position::Before;
  return select(compare(arith::CmpIPredicate::eq, rowNumbers(), colNumbers()),
                expand(own ? w : one), result);
}

//===----------------------------------------------------------------------===//
// Vectors and numbers
//===----------------------------------------------------------------------===//

Value TiledKernel::evalVector(Value value, Axis axis, Value first) {
  auto &memo = vectorMemo[axis == Axis::Cols];
  auto known = memo.find({value, first});
  if (known != memo.end())
    return known->second;
  Value result = computeVector(value, axis, first);
  return memo[{value, first}] = result;
}

Value TiledKernel::computeVector(Value value, Axis axis, Value first) {
  RankedTensorType type = along(axis);
  if (auto stored = arrays.find(value); stored != arrays.end())
    return load(stored->second.array, {first}, type);
  for (const Input &input : inputs)
    if (input.argument == value)
      return extend(load(input.array, {stage, first}, type));
  if (auto argument = dyn_cast<BlockArgument>(value)) { // a param
    int64_t size = cast<RankedTensorType>(value.getType()).getDimSize(0);
    ArgAttr arg = getArg(argument);
    Value left = arith::SubIOp::create(b, index(size), first);
    Value offset = mul(head, size);
    if (block && hasColumns(signature, arg))
      offset = add(mul(head, getAllCols()), getFirstCol());
    return extend(warp::GlobalLoadOp::create(
        b, type.clone(arg.getType()), kernel.getInput(signature, arg),
        add(offset, first), ValueRange{index(1)}, ValueRange{left}));
  }
  Operation *op = value.getDefiningOp();
  if (std::optional<double> number = VectorBuilder::getConstant(value))
    return constant(*number, type);
  if (auto broadcast = dyn_cast<BroadcastOp>(op))
    return splat(evalScalar(broadcast.getInput()), type);
  if (isa<PrefixProductOp, PrefixSumOp, LinearScanOp>(op) && axis == Axis::Cols)
    return warp::ConvertOp::create(b, type,
                                   evalVector(value, Axis::Rows, first));
  if (auto prefix = dyn_cast<PrefixProductOp>(op))
    return emitScan(evalVector(prefix.getInput(), axis, first), true,
                    prefix.getExclusive(), prefix.getReverse());
  if (auto prefix = dyn_cast<PrefixSumOp>(op))
    return emitScan(evalVector(prefix.getInput(), axis, first), false,
                    prefix.getExclusive(), prefix.getReverse());
  if (auto scan = dyn_cast<LinearScanOp>(op))
    return emitLinearScan(scan, evalVector(scan.getInput(), axis, first),
                          evalVector(scan.getFactors(), axis, first));
  if (auto rows = dyn_cast<IdentityRowsOp>(op)) {
    Value limit = toI32(tokens);
    Value position = positions(axis);
    if (isLong())
      position = addOffset(*this, position, first);
    Value inside = compare(arith::CmpIPredicate::slt, position,
                           splat(limit, along(axis, b.getI32Type())));
    return select(inside, evalVector(rows.getInput(), axis, first),
                  constant(rows.getValue().convertToDouble(), type));
  }
  IRMapping map;
  for (Value operand : op->getOperands())
    map.map(operand, evalVector(operand, axis, first));
  Operation *copy = b.clone(*op, map);
  copy->getResult(0).setType(type);
  return copy->getResult(0);
}

Value TiledKernel::evalScalar(Value value) {
  auto known = tileMemo.find(value);
  if (known != tileMemo.end())
    return known->second;
  Value result;
  if (auto stored = arrays.find(value); stored != arrays.end()) {
    Value vector = load(stored->second.array, {index(0)}, along(Axis::Cols));
    result = warp::ElementOp::create(b, b.getF32Type(), vector, 0);
  } else if (auto argument = dyn_cast<BlockArgument>(value)) {
    ArgAttr arg = getArg(argument);
    result = arg.getKind() == ArgKind::Attr
                 ? kernel.getAttr(signature, arg)
                 : extend(memref::LoadOp::create(
                       b, kernel.getInput(signature, arg), head));
  } else {
    Operation *op = value.getDefiningOp();
    IRMapping map;
    for (Value operand : op->getOperands())
      map.map(operand, evalScalar(operand));
    result = b.clone(*op, map)->getResult(0);
  }
  return tileMemo[value] = result;
}
