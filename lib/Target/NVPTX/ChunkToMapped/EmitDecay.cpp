//===- EmitDecay.cpp - Decay products and decay-Grams ----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Everything that multiplies decays of a chunk's tokens, from one dyadic table:
// products over the rows before and behind each row, block by block. All
// factors are products of w over intervals.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

Value Emitter::rowHas(int64_t bit, RankedTensorType type) {
  RankedTensorType vector = along(16, Axis::Rows, b.getI32Type());
  Value bits = arith::AndIOp::create(
      b, getPositions(Axis::Rows),
      arith::ConstantOp::create(
          b, DenseElementsAttr::get(vector, b.getI32IntegerAttr(bit))));
  Value has = compare(
      arith::CmpIPredicate::ne, bits,
      arith::ConstantOp::create(
          b, DenseElementsAttr::get(vector, b.getI32IntegerAttr(0))));
  return warp::isFragment(type) ? expand(has, type) : has;
}

const DyadicTables &Emitter::getTables(Node decay, int levels) {
  // The key is the value as it was asked for.
  Value key = getFree(decay);
  auto known = tables.find(key);
  DyadicTables table;
  if (known != tables.end()) {
    table = known->second;
  } else {
    table.w = key;
    if (decay.form == Form::Wide &&
        !program.getPadding(decay.value, /*channels=*/true))
      table.w = maskChannels(
          key, decay.value,
          cast<RankedTensorType>(decay.value.getType()).getDimSize(1), 1.0);
    table.total = table.w;
  }
  auto type = cast<RankedTensorType>(key.getType());
  for (; table.built < levels; ++table.built) {
    int level = table.built;
    int64_t distance = int64_t(1) << level;
    Value one = constant(1.0, type);
    Value other =
        warp::ShuffleRowsOp::create(b, type, table.total, distance);
    Value right = rowHas(distance, type);
    auto times = [&](Value x, Value y) -> Value {
      return x ? arith::MulFOp::create(b, x, y).getResult() : y;
    };
    Value before = table.before[level], behind = table.behind[level];
    table.before[level + 1] =
        select(right, times(before, other), before ? before : one);
    table.behind[level + 1] =
        select(right, behind ? behind : one, times(behind, other));
    table.total = arith::MulFOp::create(b, table.total, other);
  }
  return tables[key] = table;
}

Value Emitter::getPrefix(PrefixProductOp op, Node node) {
  Node decay{program.resolve(op.getInput()), node.form};
  const DyadicTables &table = getTables(decay);
  Value product = op.getReverse() ? table.behind[4] : table.before[4];
  if (op.getExclusive())
    return product;
  return arith::MulFOp::create(b, table.w, product);
}

Value Emitter::getDecayMask(DecayMaskOp op) {
  Node decay{program.resolve(op.getW()), Form::Tokens};
  const DyadicTables &table = getTables(decay);
  Value w = table.w;
  RankedTensorType type = fragment(16, 16);
  RankedTensorType numbers = fragment(16, 16, b.getI32Type());
  auto constantI32 = [&](int64_t value) -> Value {
    return arith::ConstantOp::create(
        b, DenseElementsAttr::get(numbers, b.getI32IntegerAttr(value)));
  };
  Value row = expand(getPositions(Axis::Rows), numbers);
  Value col = expand(getPositions(Axis::Cols), numbers);
  Value different = arith::XOrIOp::create(b, row, col);
  Value result = zeros(type);
  Value one = constant(1.0, along(16, Axis::Rows));
  for (int level = 0; level < 4; ++level) {
    // Pairs whose highest different bit is this level's: the row stands right.
    Value before = table.before[level] ? table.before[level] : one;
    if (op.getRow() == Position::After)
      before = arith::MulFOp::create(b, before, w);
    Value behind = table.behind[level] ? table.behind[level] : one;
    if (op.getCol() == Position::Before)
      behind = arith::MulFOp::create(b, behind, w);
    Value turned = warp::ConvertOp::create(b, along(16, Axis::Cols), behind);
    Value product = arith::MulFOp::create(b, expand(before, type),
                                          expand(turned, type));
    Value here = compare(arith::CmpIPredicate::uge, different,
                         constantI32(1 << level));
    result = select(here, product, result);
  }
  Value below = compare(arith::CmpIPredicate::slt, col, row);
  result = select(below, result, zeros(type));
  if (op.getDiagonal()) {
    Value diagonal =
        op.getRow() == Position::After && op.getCol() == Position::Before ? w
                                                                          : one;
    result = select(compare(arith::CmpIPredicate::eq, row, col),
                    expand(diagonal, type), result);
  }
  return result;
}

//===----------------------------------------------------------------------===//
// Decay-Grams
//===----------------------------------------------------------------------===//

bool Emitter::isAnchored(DecayGramOp op) const {
  return op.getScheme() == DecayScheme::Anchored &&
         static_cast<int64_t>(op.getLeaf()) >= program.chunk;
}

/// Does any pair of these rows with any column have a result?
static bool hasPair(DecayGramOp op, unsigned firstRow, unsigned lastRow) {
  for (unsigned row = firstRow; row < lastRow; ++row)
    for (unsigned col = 0; col < op.getCols().size(); ++col)
      if (op.getMask(row, col) != "none")
        return true;
  return false;
}

/// The pairs of rows and columns that need their diagonal.
static SmallVector<std::pair<unsigned, unsigned>> getDiagonals(DecayGramOp op) {
  SmallVector<std::pair<unsigned, unsigned>> pairs;
  for (unsigned row = 0; row < op.getRows().size(); ++row)
    for (unsigned col = 0; col < op.getCols().size(); ++col)
      if (op.getMask(row, col) == "diagonal")
        pairs.push_back({row, col});
  return pairs;
}

SmallVector<RankedTensorType> Emitter::getGramAccumulators(DecayGramOp op) {
  unsigned rows = op.getRows().size(), cols = op.getCols().size();
  SmallVector<RankedTensorType> types;
  if (isAnchored(op)) {
    for (unsigned row = 0; row < rows; ++row)
      for (unsigned col = 0; col < cols; ++col)
        if (op.getMask(row, col) != "none")
          types.push_back(fragment(16, 16));
    return types;
  }
  // Four levels for each two rows, then halves of the diagonals' products.
  for (unsigned row = 0; row < rows; row += 2)
    if (hasPair(op, row, std::min(row + 2, rows)))
      types.append(4, fragment(16, 8 * cols));
  types.append(getDiagonals(op).size(), fragment(16, 8));
  return types;
}

Emitter::GramOperands Emitter::getGramOperands(DecayGramOp op) {
  Node decay{program.resolve(op.getDecay()), Form::Wide};
  Value w = getTables(decay, 0).w;
  GramOperands operands;
  for (auto [position, operand] : llvm::enumerate(op.getRows())) {
    Value x = getContracted(operand, Value());
    operands.plainRows.push_back(x);
    operands.rows.push_back(
        op.getRowPosition(position) == Position::After
            ? arith::MulFOp::create(b, x, w).getResult()
            : x);
  }
  for (auto [position, operand] : llvm::enumerate(op.getCols())) {
    Value y = getContracted(operand, Value());
    operands.plainCols.push_back(y);
    operands.cols.push_back(
        op.getColPosition(position) == Position::Before
            ? arith::MulFOp::create(b, y, w).getResult()
            : y);
  }
  return operands;
}

void Emitter::getGramParts(DecayGramOp op, SmallVectorImpl<Value> &parts) {
  Node decay{program.resolve(op.getDecay()), Form::Wide};
  Value w = getTables(decay, 0).w;
  auto type = cast<RankedTensorType>(w.getType());
  auto times = [&](Value x, Value y) -> Value {
    return y ? arith::MulFOp::create(b, x, y).getResult() : x;
  };
  auto [rows, cols, plainRows, plainCols] = getGramOperands(op);
  if (isAnchored(op)) {
    // One factor from the chunk's start: 1 / prefix is bounded by the range.
    Value before = getTables(decay, 4).before[4];
    Value through = arith::MulFOp::create(b, before, w);
    Value inverse = arith::DivFOp::create(b, constant(1.0, type), through);
    for (Value x : rows)
      parts.push_back(toOperand(times(x, before)));
    for (Value y : cols)
      parts.push_back(toOperand(times(y, inverse)));
    return;
  }

  const unsigned pairs = std::max(rows.size(), cols.size());
  RankedTensorType eight = fragment(8, type.getDimSize(1), policy.type);
  for (int level = 0; level < 4; ++level) {
    int64_t distance = 1 << level;
    // Level by level, so that the products of one are not kept for all.
    const DyadicTables table = getTables(decay, level);
    Value right = rowHas(distance, type);
    SmallVector<Value> colHalves;
    for (unsigned i = 0; i < pairs; ++i) {
      // A row operand's right rows and a column operand's left rows travel in
      // one fragment.
      Value x = i < rows.size() ? times(rows[i], table.before[level]) : Value();
      Value y = i < cols.size() ? times(cols[i], table.behind[level]) : Value();
      Value both = !x ? y : !y ? x : select(right, x, y);
      auto split = warp::SplitRowsOp::create(b, eight, eight, toOperand(both),
                                             distance);
      if (x)
        parts.push_back(split.getRight());
      if (y)
        colHalves.push_back(split.getLeft());
    }
    parts.append(colHalves);
  }
}

void Emitter::accumulateGram(DecayGramOp op, ArrayRef<Value> operands,
                             MutableArrayRef<Value> values) {
  const unsigned rows = op.getRows().size(), cols = op.getCols().size();
  if (isAnchored(op)) {
    unsigned next = 0;
    for (unsigned row = 0; row < rows; ++row)
      for (unsigned col = 0; col < cols; ++col)
        if (op.getMask(row, col) != "none") {
          values[next] =
              mma(operands[row], operands[rows + col], values[next]);
          ++next;
        }
    return;
  }
  Value nothing;
  for (int level = 0; level < 4; ++level) {
    ArrayRef<Value> rowHalves = operands.take_front(rows);
    ArrayRef<Value> colHalves = operands.slice(rows, cols);
    operands = operands.drop_front(rows + cols);
    Value rhs = colHalves[0];
    if (colHalves.size() > 1)
      rhs = warp::ConcatOp::create(
          b, fragment(8 * cols, 16, policy.type), colHalves, 0);
    unsigned next = level;
    for (unsigned row = 0; row < rows; row += 2) {
      if (!hasPair(op, row, std::min<unsigned>(row + 2, rows)))
        continue;
      if (row + 1 == rows && !nothing)
        nothing = constant(0.0, fragment(8, 16, policy.type));
      Value lower = row + 1 < rows ? rowHalves[row + 1] : nothing;
      Value lhs = warp::ConcatOp::create(b, fragment(16, 16, policy.type),
                                         ValueRange{rowHalves[row], lower}, 0);
      values[next] = mma(lhs, rhs, values[next]);
      next += 4;
    }
  }
}

void Emitter::accumulateDiagonals(DecayGramOp op,
                                  MutableArrayRef<Value> values) {
  if (isAnchored(op))
    return;
  auto [rows, cols, plainRows, plainCols] = getGramOperands(op);
  SmallVector<std::pair<unsigned, unsigned>> diagonals = getDiagonals(op);
  for (auto [number, pair] : llvm::enumerate(diagonals)) {
    auto [row, col] = pair;
    bool after = op.getRowPosition(row) == Position::After;
    bool before = op.getColPosition(col) == Position::Before;
    Value product =
        arith::MulFOp::create(b, after && before ? rows[row] : plainRows[row],
                              plainCols[col]);
    Value &sum = values[values.size() - diagonals.size() + number];
    sum = arith::AddFOp::create(b, sum, product);
  }
}

void Emitter::finishGram(DecayGramOp op, ValueRange values) {
  unsigned rows = op.getRows().size(), cols = op.getCols().size();
  RankedTensorType type = fragment(16, 16);
  RankedTensorType numbers = fragment(16, 16, b.getI32Type());
  Value row = expand(getPositions(Axis::Rows), numbers);
  Value col = expand(getPositions(Axis::Cols), numbers);
  SmallVector<std::pair<unsigned, unsigned>> diagonals = getDiagonals(op);
  unsigned next = 0, used = 0;
  for (unsigned i = 0; i < rows; ++i) {
    for (unsigned j = 0; j < cols; ++j) {
      StringRef mask = op.getMask(i, j);
      if (mask == "none")
        continue;
      Value result;
      if (isAnchored(op)) {
        Value keep = compare(mask == "diagonal" ? arith::CmpIPredicate::sle
                                                : arith::CmpIPredicate::slt,
                             col, row);
        result = select(keep, values[next++], zeros(type));
      } else {
        // The levels' places are spread over lanes: by way of shared memory.
        SmallVector<Value> at{chunk, index(0), index(0), index(0)};
        unsigned first = 0;
        for (unsigned above = 0; above < i / 2 * 2; above += 2)
          first += hasPair(op, above, above + 2) ? 4 : 0;
        for (int level = 0; level < 4; ++level)
          warp::StoreLevelOp::create(
              b,
              extract(values[first + level],
                      {static_cast<int64_t>(i % 2 * 8),
                       static_cast<int64_t>(j * 8)},
                      fragment(8, 8)),
              gramArray, at, int64_t(1) << level);
        Value diagonal = zeros(type);
        if (mask == "diagonal") {
          Value sums = warp::SumOp::create(
              b, along(16, Axis::Rows),
              values[values.size() - diagonals.size() + used++]);
          diagonal = select(compare(arith::CmpIPredicate::eq, row, col),
                            expand(sums, type), diagonal);
        }
        result = select(compare(arith::CmpIPredicate::slt, col, row),
                        load(gramArray, at, type), diagonal);
      }
      memo[{op.getGram(i, j), Form::Square}] = result;
    }
  }
}
