//===- EmitDecay.cpp - Decay products and decay-Grams ---------------------===//
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

const DyadicTables &Emitter::getTables(Node decay, int levels) {
  // The key is the value as it was asked for.
  Value key = getFree(decay);
  auto known = tables.find(key);
  DyadicTables table;
  if (known != tables.end()) {
    table = known->second;
  } else {
    table.w = table.total = key;
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

/// Which factors products over rows take their own row into, so that no user
/// wants fewer: those over the rows before it, and those over the rows behind.
static std::pair<bool, bool> getInclusive(const Program &program, Value decay) {
  bool rows = true, cols = true;
  for (Node node : program.nodes) {
    Operation *op = node.value.getDefiningOp();
    if (auto gram = dyn_cast_if_present<DecayGramOp>(op);
        gram && program.resolve(gram.getDecay()) == decay) {
      for (unsigned i = 0; i < gram.getRows().size(); ++i)
        rows &= gram.getRowPosition(i) == Position::After;
      for (unsigned j = 0; j < gram.getCols().size(); ++j)
        cols &= gram.getColPosition(j) == Position::Before;
    }
    if (auto prefix = dyn_cast_if_present<PrefixProductOp>(op);
        prefix && program.resolve(prefix.getInput()) == decay)
      (prefix.getReverse() ? cols : rows) &= !prefix.getExclusive();
  }
  return {rows, cols};
}

const DecayFactors &Emitter::getFactors(Value decay, int level) {
  Value key = getFree({decay, Form::Wide});
  auto type = cast<RankedTensorType>(key.getType());
  auto known = factors.find(key);
  DecayFactors result;
  if (known != factors.end())
    result = known->second;
  auto times = [&](Value x, Value y) -> Value {
    return x ? arith::MulFOp::create(b, x, y).getResult() : y;
  };
  auto choose = [&](Value condition, Value x, Value y) -> Value {
    if (!x && !y)
      return Value();
    Value one = constant(1.0, type);
    return select(condition, x ? x : one, y ? y : one);
  };
  if (result.built < 0) {
    result.built = 0;
    result.w = key;
    if (!program.getPadding(decay, /*channels=*/true))
      result.w = maskChannels(
          key, decay, cast<RankedTensorType>(decay.getType()).getDimSize(1),
          1.0);
    result.total = result.w;
    std::tie(result.rowsInclusive, result.colsInclusive) =
        getInclusive(program, decay);
    Value ofRow = result.rowsInclusive ? result.w : Value();
    Value ofCol = result.colsInclusive ? result.w : Value();
    Value right = rowHas(1, type);
    result.active[0] = choose(right, ofRow, ofCol);
    result.passive[0] = choose(right, ofCol, ofRow);
  }
  for (; result.built < level; ++result.built) {
    int now = result.built;
    int64_t distance = int64_t(1) << now;
    Value other = warp::ShuffleRowsOp::create(b, type, result.total, distance);
    result.total = arith::MulFOp::create(b, result.total, other);
    Value product = times(result.active[now], other);
    Value rest = result.passive[now];
    if (now == 3) {
      Value right = rowHas(8, type);
      result.before = choose(right, product, rest);
      result.behind = choose(right, rest, product);
      continue;
    }
    // Does the row stand on the same side of its next larger block?
    RankedTensorType vector = along(16, Axis::Rows, b.getI32Type());
    auto bits = [&](int64_t value) -> Value {
      return arith::ConstantOp::create(
          b, DenseElementsAttr::get(vector, b.getI32IntegerAttr(value)));
    };
    Value position = positions(Axis::Rows);
    Value differ = arith::XOrIOp::create(
        b, position, arith::ShRUIOp::create(b, position, bits(1)));
    Value same = expand(
        compare(arith::CmpIPredicate::eq,
                arith::AndIOp::create(b, differ, bits(distance)), bits(0)),
        type);
    result.active[now + 1] = choose(same, product, rest);
    result.passive[now + 1] = choose(same, rest, product);
  }
  return factors[key] = result;
}

Value Emitter::getScale(Value decay, int level, bool rowInclusive,
                        bool colInclusive) {
  const DecayFactors all = getFactors(decay, level);
  auto type = cast<RankedTensorType>(all.w.getType());
  Value scale = all.active[level];
  const bool row = rowInclusive && !all.rowsInclusive;
  const bool col = colInclusive && !all.colsInclusive;
  if (!row && !col)
    return scale;
  Value own = all.w;
  if (!row || !col) {
    Value one = constant(1.0, type), right = rowHas(int64_t(1) << level, type);
    own = row ? select(right, own, one) : select(right, one, own);
  }
  return scale ? arith::MulFOp::create(b, scale, own).getResult() : own;
}

Value Emitter::getNarrow(Value value) {
  if (!policy.isNarrow(program, value))
    return Value();
  return getFree({program.resolve(value), Form::Wide})
      .getDefiningOp<arith::ExtFOp>()
      .getIn();
}

Value Emitter::scaleOperand(Value value, Value factor) {
  if (!factor)
    return toOperand(value);
  Type narrow = getElementTypeOrSelf(value.getType());
  if (narrow.isF32())
    return toOperand(arith::MulFOp::create(b, value, factor));
  return arith::MulFOp::create(b, value, toElement(factor, narrow));
}

Value Emitter::getPrefix(PrefixProductOp op, Node node) {
  Node decay{program.resolve(op.getInput()), node.form};
  if (node.form == Form::Wide) {
    const DecayFactors all = getFactors(decay.value, 4);
    Value product = op.getReverse() ? all.behind : all.before;
    bool inclusive = op.getReverse() ? all.colsInclusive : all.rowsInclusive;
    return inclusive || op.getExclusive()
               ? product
               : arith::MulFOp::create(b, product, all.w);
  }
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
  Value row = expand(positions(Axis::Rows), numbers);
  Value col = expand(positions(Axis::Cols), numbers);
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

/// Does the token's own decay lie between a row's and a column's events?
static bool hasOwnDecay(DecayGramOp op, unsigned row, unsigned col) {
  return op.getRowPosition(row) == Position::After &&
         op.getColPosition(col) == Position::Before;
}

bool gpumap::isDiagonalOfProduct(const Program &program,
                                 const OperandPolicy &policy, DecayGramOp op,
                                 unsigned row, unsigned col) {
  // Two would take more registers than the kernels with the most have.
  return !hasOwnDecay(op, row, col) && getDiagonals(op).size() == 1 &&
         policy.isNarrow(program, op.getRows()[row]) &&
         policy.isNarrow(program, op.getCols()[col]);
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
  // Four levels for each two rows, then the diagonals: of a whole product, or
  // halves of the sums.
  for (unsigned row = 0; row < rows; row += 2)
    if (hasPair(op, row, std::min(row + 2, rows)))
      types.append(4, fragment(16, 8 * cols));
  for (auto [row, col] : getDiagonals(op))
    types.push_back(isDiagonalOfProduct(program, policy, op, row, col)
                        ? fragment(16, 16)
                        : fragment(16, 8));
  return types;
}

void Emitter::getGramParts(DecayGramOp op, SmallVectorImpl<Value> &parts) {
  Value decay = program.resolve(op.getDecay());
  const unsigned rows = op.getRows().size(), cols = op.getCols().size();
  // As operands where inputs are, otherwise f32.
  auto get = [&](Value value) {
    Value narrow = getNarrow(value);
    return narrow ? narrow : getContracted(value, Value());
  };
  SmallVector<Value> x, y;
  for (Value operand : op.getRows())
    x.push_back(get(operand));
  for (Value operand : op.getCols())
    y.push_back(get(operand));
  auto rowInclusive = [&](unsigned row) {
    return op.getRowPosition(row) == Position::After;
  };
  auto colInclusive = [&](unsigned col) {
    return op.getColPosition(col) == Position::Before;
  };
  if (isAnchored(op)) {
    // One factor from the chunk's start: 1 / prefix is bounded by the range.
    const DecayFactors all = getFactors(decay, 4);
    Value through = all.before, without = all.before;
    if (!all.rowsInclusive)
      through = arith::MulFOp::create(b, all.before, all.w);
    Value inverse = arith::DivFOp::create(
        b, constant(1.0, cast<RankedTensorType>(all.w.getType())), through);
    for (unsigned i = 0; i < rows; ++i)
      parts.push_back(scaleOperand(x[i], rowInclusive(i) ? through : without));
    for (unsigned j = 0; j < cols; ++j)
      parts.push_back(scaleOperand(
          y[j], colInclusive(j) ? arith::MulFOp::create(b, inverse, all.w)
                                : inverse));
    return;
  }

  auto type = cast<RankedTensorType>(getFactors(decay, 0).w.getType());
  RankedTensorType eight = fragment(8, type.getDimSize(1), policy.type);
  for (int level = 0; level < 4; ++level) {
    int64_t distance = 1 << level;
    Value right = rowHas(distance, type);
    SmallVector<Value> colHalves;
    for (unsigned i = 0; i < std::max(rows, cols); ++i) {
      // A row operand's right rows and a column operand's left rows travel in
      // one fragment, with one factor.
      const bool hasRow = i < rows, hasCol = i < cols;
      Value both = hasRow ? x[i] : y[i];
      if (hasRow && hasCol && x[i] != y[i]) {
        Value other = y[i];
        if (both.getType() != other.getType()) {
          both = extend(both);
          other = extend(other);
        }
        both = select(right, both, other);
      }
      // The half that nobody reads may have any factor.
      const DecayFactors &all = getFactors(decay, level);
      Value scale =
          getScale(decay, level, hasRow ? rowInclusive(i) : all.rowsInclusive,
                   hasCol ? colInclusive(i) : all.colsInclusive);
      auto split = warp::SplitRowsOp::create(
          b, eight, eight, scaleOperand(both, scale), distance);
      if (hasRow)
        parts.push_back(split.getRight());
      if (hasCol)
        colHalves.push_back(split.getLeft());
    }
    parts.append(colHalves);
  }
  for (auto [row, col] : getDiagonals(op))
    if (isDiagonalOfProduct(program, policy, op, row, col))
      parts.append({x[row], y[col]});
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
  SmallVector<std::pair<unsigned, unsigned>> diagonals = getDiagonals(op);
  MutableArrayRef<Value> sums = values.take_back(diagonals.size());
  for (auto [pair, sum] : llvm::zip_equal(diagonals, sums))
    if (isDiagonalOfProduct(program, policy, op, pair.first, pair.second)) {
      sum = mma(operands[0], operands[1], sum);
      operands = operands.drop_front(2);
    }
}

void Emitter::accumulateDiagonals(DecayGramOp op,
                                  MutableArrayRef<Value> values) {
  if (isAnchored(op))
    return;
  SmallVector<std::pair<unsigned, unsigned>> diagonals = getDiagonals(op);
  MutableArrayRef<Value> sums = values.take_back(diagonals.size());
  for (auto [pair, sum] : llvm::zip_equal(diagonals, sums)) {
    auto [row, col] = pair;
    if (isDiagonalOfProduct(program, policy, op, row, col))
      continue;
    Value product =
        arith::MulFOp::create(b, getContracted(op.getRows()[row], Value()),
                              getContracted(op.getCols()[col], Value()));
    if (hasOwnDecay(op, row, col))
      product = arith::MulFOp::create(
          b, product, getFactors(program.resolve(op.getDecay()), 0).w);
    sum = arith::AddFOp::create(b, sum, product);
  }
}

Value Emitter::finishLevels(DecayGramOp op, ValueRange values, unsigned row,
                            unsigned col, Value array, ValueRange at) {
  RankedTensorType type = fragment(16, 16),
                   numbers = fragment(16, 16, b.getI32Type());
  Value diagonal = zeros(type);
  SmallVector<std::pair<unsigned, unsigned>> diagonals = getDiagonals(op);
  auto *own = llvm::find(diagonals, std::pair(row, col));
  if (own != diagonals.end()) {
    Value sums = values.take_back(
        diagonals.size())[std::distance(diagonals.begin(), own)];
    if (sums.getType() != type)
      sums = expand(warp::SumOp::create(b, along(16, Axis::Rows), sums), type);
    diagonal = select(compare(arith::CmpIPredicate::eq,
                              expand(positions(Axis::Rows), numbers),
                              expand(positions(Axis::Cols), numbers)),
                      sums, diagonal);
  }
  unsigned first = 0;
  for (unsigned above = 0; above < row / 2 * 2; above += 2)
    first += hasPair(op, above, above + 2) ? 4 : 0;
  // The levels' places are spread over lanes: by way of shared memory, over
  // what is on the diagonal and above it.
  if (array != gramArray)
    store(diagonal, array, at);
  for (int level = 0; level < 4; ++level)
    warp::StoreLevelOp::create(b,
                               extract(values[first + level],
                                       {static_cast<int64_t>(row % 2 * 8),
                                        static_cast<int64_t>(col * 8)},
                                       fragment(8, 8)),
                               array, at, int64_t(1) << level);
  return diagonal;
}

void Emitter::forEachGram(DecayGramOp op, ValueRange values,
                          llvm::function_ref<void(Value gram, unsigned row,
                                                  unsigned col, Value anchored)>
                              fn) {
  RankedTensorType type = fragment(16, 16);
  RankedTensorType numbers = fragment(16, 16, b.getI32Type());
  unsigned next = 0;
  for (unsigned i = 0; i < op.getRows().size(); ++i)
    for (unsigned j = 0; j < op.getCols().size(); ++j) {
      StringRef mask = op.getMask(i, j);
      if (mask == "none")
        continue;
      Value anchored;
      if (isAnchored(op)) {
        Value keep = compare(mask == "diagonal" ? arith::CmpIPredicate::sle
                                                : arith::CmpIPredicate::slt,
                             expand(positions(Axis::Cols), numbers),
                             expand(positions(Axis::Rows), numbers));
        anchored = select(keep, values[next++], zeros(type));
      }
      fn(op.getGram(i, j), i, j, anchored);
    }
}

void Emitter::finishGram(DecayGramOp op, ValueRange values) {
  RankedTensorType type = fragment(16, 16);
  RankedTensorType numbers = fragment(16, 16, b.getI32Type());
  forEachGram(
      op, values, [&](Value gram, unsigned row, unsigned col, Value anchored) {
        Value &result = memo[{gram, Form::Square}];
        if (anchored) {
          result = anchored;
          return;
        }
        SmallVector<Value> at{chunk, index(0), index(0), index(0)};
        Value diagonal = finishLevels(op, values, row, col, gramArray, at);
        result = select(compare(arith::CmpIPredicate::slt,
                                expand(positions(Axis::Cols), numbers),
                                expand(positions(Axis::Rows), numbers)),
                        load(gramArray, at, type), diagonal);
      });
}

void Emitter::sendGram(DecayGramOp op, ValueRange values, Value place) {
  forEachGram(op, values,
              [&](Value gram, unsigned row, unsigned col, Value anchored) {
                SmallVector<Value> at{place, index(0), index(0), index(0)};
                Value array = getPartialArray(gram);
                if (anchored)
                  store(anchored, array, at);
                else
                  finishLevels(op, values, row, col, array, at);
              });
}
