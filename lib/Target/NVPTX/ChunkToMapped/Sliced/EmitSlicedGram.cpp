//===- EmitSlicedGram.cpp - Decay-Grams and their cotangents in slices ----===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The dyadic factorisation (chunk_math 3.2, 4.1): a pair of tokens belongs to
// the level of its highest different bit, where its decay is a product of two
// factors over intervals that end at the block's midpoint. Each token is either
// in the right half of its block, as a row, or in the left one, as a column: so
// a row and a column operand share one scaled matrix a level, and a level's
// tiles have 8 tokens of each. The same tiles serve the Gram and its
// cotangents.
//
//===----------------------------------------------------------------------===//

#include "SlicedKernel.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

const SlicedKernel::Tables &SlicedKernel::getTables(Value decay, int levels) {
  decay = resolve(decay);
  Tables table = tables.lookup(decay);
  if (!table.w) {
    table.w = evalWide(decay);
    if (getKept(decay)) {
      Value other = warp::ShuffleColsOp::create(w->b, w->square(), table.w, 1);
      Value right = w->has(1, Axis::Cols, w->square());
      Value one = w->constant(1.0, w->square());
      table.before[1] = w->select(right, other, one);
      table.behind[1] = w->select(right, one, other);
      table.built = 4;
    } else {
      table.total = table.w;
    }
  }
  RankedTensorType type = w->square();
  Value one = w->constant(1.0, type);
  for (; table.built < levels; ++table.built) {
    int level = table.built;
    int64_t distance = int64_t(1) << level;
    Value other =
        warp::ShuffleColsOp::create(w->b, type, table.total, distance);
    Value right = w->has(distance, Axis::Cols, type);
    Value before = table.before[level], behind = table.behind[level];
    table.before[level + 1] =
        w->select(right, w->mulf(before, other), before ? before : one);
    table.behind[level + 1] =
        w->select(right, behind ? behind : one, w->mulf(behind, other));
    table.total = w->mulf(table.total, other);
  }
  return tables[decay] = table;
}

Value SlicedKernel::getLevelFactor(Value decay, int level) {
  if (level == 0)
    return Value();
  Kept *entry = getKept(resolve(decay));
  if (entry && level >= 2)
    return readKept(*entry, level - 2);
  const Tables &table = getTables(decay, level);
  Value before = table.before[level], behind = table.behind[level];
  return w->select(w->has(int64_t(1) << level, Axis::Cols, w->square()), before,
                   behind);
}

Value SlicedKernel::getProducts(Value decay, bool behind) {
  if (Kept *entry = getKept(resolve(decay)))
    return w->extend(readKept(*entry, behind ? Kept::kBehind : Kept::kBefore));
  const Tables &table = getTables(decay, 4);
  return behind ? table.behind[4] : table.before[4];
}

void SlicedKernel::findKept() {
  // Rounded, they cost a quarter of what computing them again does; numbers of
  // f16's range would be lost.
  if (!policy.type.isBF16() || !choice.keeps)
    return;
  for (auto &[op, entry] : pairs) {
    const LevelTiles &operands = levelTiles[entry.tiles];
    // Values cannot leave a branch that only some warps take.
    if (countSlices(operands.side) != warps ||
        llvm::any_of(kept, [&](const Kept &other) {
          return other.decay == operands.decay && other.side == operands.side;
        }))
      continue;
    Kept found;
    found.decay = operands.decay;
    found.side = operands.side;
    found.level = operands.level;
    kept.push_back(found);
  }
}

SlicedKernel::Kept *SlicedKernel::getKept(Value decay) {
  if (level < 0)
    return nullptr;
  for (Kept &entry : kept)
    if (entry.decay == decay && entry.side == side &&
        (entry.array ? interval <= getInterval(entry.level)
                     : !entry.values.empty()))
      return &entry;
  return nullptr;
}

Value SlicedKernel::readKept(Kept &entry, int number) {
  if (!entry.array)
    return entry.values[number];
  Value &known = entry.loaded[number];
  if (!known)
    known = w->load(entry.array, {w->index(number), w->index(0), firstRow},
                    w->square(), /*transpose=*/true);
  return known;
}

void SlicedKernel::keepTables(Value decay) {
  for (Kept &entry : kept) {
    if (entry.decay != decay || entry.side != side || getKept(decay))
      continue;
    const Tables table = getTables(decay, 4);
    SmallVector<Value> values;
    for (int number : {2, 3})
      values.push_back(w->toOperand(getLevelFactor(decay, number)));
    for (Value value : {table.before[4], table.behind[4], table.w})
      values.push_back(w->toOperand(value));
    Value total =
        warp::CollapseOp::create(w->b, w->along(Axis::Rows), table.total);
    if (entry.level >= 0) {
      entry.values = values;
      entry.total = total;
      continue;
    }
    for (int number = 0; number < Kept::kCount; ++number)
      w->store(values[number], entry.array,
               {w->index(number), w->index(0), firstRow}, /*transpose=*/true);
    w->store(total, entry.totals, {stageIndex, firstRow});
  }
}

//===----------------------------------------------------------------------===//
// Grams
//===----------------------------------------------------------------------===//

SmallVector<Value> SlicedKernel::scaleLevel(ArrayRef<Value> x,
                                            ArrayRef<Value> y, Value factor,
                                            int level) {
  Value isRight = w->has(int64_t(1) << level, Axis::Cols, w->square());
  if (factor)
    factor = w->toOperand(factor);
  SmallVector<Value> scaled;
  for (size_t i = 0; i < std::max(x.size(), y.size()); ++i) {
    Value row = i < x.size() ? x[i] : Value();
    Value col = i < y.size() ? y[i] : Value();
    Value both = row == col || !col ? row
                 : !row             ? col
                                    : w->select(isRight, row, col);
    scaled.push_back(w->mulf(both, factor));
  }
  return scaled;
}

void SlicedKernel::emitLevels(LevelTiles &entry) {
  const unsigned rows = entry.rows.size(), cols = entry.cols.size();
  Value decay = evalWide(entry.decay);
  SmallVector<Value> x, y;
  auto scaled = [&](Value value, bool byDecay) {
    Value result = maskRows(evalWide(value), value);
    return w->toOperand(byDecay ? w->mulf(result, decay) : result);
  };
  for (unsigned a = 0; a < rows; ++a)
    x.push_back(scaled(entry.rows[a], entry.rowAfter[a]));
  for (unsigned b = 0; b < cols; ++b)
    y.push_back(scaled(entry.cols[b], entry.colBefore[b]));
  for (auto [number, pair] : llvm::enumerate(entry.diagonals)) {
    auto [a, b] = pair;
    Value left = maskRows(evalWide(entry.rows[a]), entry.rows[a]);
    if (entry.ownDecay[number])
      left = w->mulf(left, decay);
    Value right = maskRows(evalWide(entry.cols[b]), entry.cols[b]);
    Value sum =
        warp::SumOp::create(w->b, w->along(Axis::Cols), w->mulf(left, right));
    write(sum, entry.diagonal, {w->index(number), warpId, w->index(0)});
  }
  for (int level = 0; level < 4; ++level) {
    SmallVector<Value> rights, lefts;
    RankedTensorType half = w->fragment(16, 8, policy.type);
    for (auto [i, scaled] : llvm::enumerate(
             scaleLevel(x, y, getLevelFactor(entry.decay, level), level))) {
      auto split = warp::SplitColsOp::create(w->b, half, half, scaled,
                                             int64_t(1) << level);
      if (i < rows)
        rights.push_back(split.getRight());
      if (i < cols)
        lefts.push_back(split.getLeft());
    }
    auto put = [&](ArrayRef<Value> halves, Place &place) {
      for (size_t i = 0; i < halves.size(); i += 2) {
        Value value = halves[i];
        if (i + 1 < halves.size())
          value =
              warp::ConcatOp::create(w->b, w->square(policy.type),
                                     ValueRange{halves[i], halves[i + 1]}, 1);
        write(value, place, {w->index(level), w->index(8 * i), firstRow},
              /*transpose=*/true);
      }
    };
    put(rights, entry.rowTile);
    put(lefts, entry.colTile);
  }
  keepTables(entry.decay);
}

/// One level of the Grams of two row operands with all columns.
void SlicedKernel::emitGrams(const Task &task) {
  auto op = cast<DecayGramOp>(task.op);
  LevelTiles &entry = levelTiles[tilesOf.lookup(op)];
  const int64_t cols = op.getCols().size(), first = task.first;
  const int64_t last = std::min<int64_t>(first + 2, op.getRows().size());
  SmallVector<std::pair<Value, SmallVector<int64_t>>> wanted;
  for (int64_t a = first; a < last; ++a)
    for (int64_t b = 0; b < cols; ++b)
      if (Value gram = op.getGram(a, b); gram && grams.contains(gram))
        wanted.push_back({gram, {a % 2 * 8, b * 8}});
  if (wanted.empty())
    return;
  Value number = w->index(task.second);
  Value sum = sumProducts(
      countSlices(entry.side), w->constant(0.0, w->fragment(16, 8 * cols)),
      [&](int64_t part, Value before) {
        Value channel = w->index(16 * part);
        return w->mma(read(entry.rowTile,
                           {number, w->index(8 * first), channel}, w->square()),
                      read(entry.colTile, {number, w->index(0), channel},
                           w->fragment(8 * cols, 16)),
                      before);
      });
  for (auto &[gram, offsets] : wanted) {
    Place &place = grams.find(gram)->second;
    Value block = warp::ExtractOp::create(w->b, w->fragment(8, 8), sum,
                                          w->b.getDenseI64ArrayAttr(offsets));
    warp::StoreLevelOp::create(
        w->b, block, place.array,
        writeAt(place, {w->index(0), w->index(0), w->index(0)}),
        int64_t(1) << task.second);
  }
}

Value SlicedKernel::emitGramSquare(DecayGramOp op, Value gram) {
  LevelTiles &entry = levelTiles[tilesOf.lookup(op)];
  Value row = w->rowNumbers(), col = w->colNumbers();
  Value diagonal = w->constant(0.0, w->square());
  for (unsigned a = 0; a < op.getRows().size(); ++a)
    for (unsigned b = 0; b < op.getCols().size(); ++b) {
      if (op.getGram(a, b) != gram || op.getMask(a, b) != "diagonal")
        continue;
      auto summed = llvm::find(entry.diagonals, std::make_pair(a, b));
      if (summed == entry.diagonals.end()) {
        Value row = entry.rows[a], col = entry.cols[b];
        diagonal = sumProducts(
            countSlices(entry.side), diagonal, [&](int64_t part, Value before) {
              Value channel = w->index(16 * part);
              return w->mma(loadTile(row, channel, false),
                            loadTile(col, channel, false), before);
            });
        for (Value number : {getTileNumber(row), getTileNumber(col)})
          if (number)
            diagonal = addScaled(Value(), diagonal, number);
        diagonal = keepDiagonal(diagonal);
        continue;
      }
      Value sum, number = w->index(summed - entry.diagonals.begin());
      for (int64_t part = 0; part < countSlices(entry.side); ++part)
        sum = w->addf(sum, read(entry.diagonal,
                                {number, w->index(part), w->index(0)},
                                w->along(Axis::Rows)));
      diagonal = keepDiagonal(w->expand(sum));
    }
  Value below = read(grams.find(gram)->second,
                     {w->index(0), w->index(0), w->index(0)}, w->square());
  return w->select(w->compare(arith::CmpIPredicate::slt, col, row), below,
                   diagonal);
}

//===----------------------------------------------------------------------===//
// Cotangents
//===----------------------------------------------------------------------===//

void SlicedKernel::emitPairs(const Task &task) {
  auto op = cast<DecayGramAdjointOp>(task.op);
  Pairs &entry = pairs.find(op)->second;
  const unsigned row = task.first, col = task.second;
  Value value = evalSquare(task.value);
  // To a row from its columns, and to a column from its rows.
  Value zero = w->index(0), a = w->index(row), b = w->index(col);
  warp::StorePairsOp::create(w->b, value, entry.tile.array,
                             writeAt(entry.tile, {a, b, zero, zero, zero}),
                             /*transpose=*/false);
  warp::StorePairsOp::create(w->b, value, entry.tile.array,
                             writeAt(entry.tile, {b, a, zero, zero, zero}),
                             /*transpose=*/true);
  if (op.getMask(row, col) != "diagonal")
    return;
  int64_t number = 0;
  for (unsigned a = 0; a < op.getRows().size(); ++a)
    for (unsigned b = 0; b < op.getCols().size(); ++b)
      if (std::make_pair(a, b) < std::make_pair(row, col) &&
          op.getCotangent(a, b) && op.getMask(a, b) == "diagonal")
        ++number;
  write(warp::SumOp::create(w->b, w->along(Axis::Rows), keepDiagonal(value)),
        entry.diagonal, {w->index(number), w->index(0)});
}

/// total + value * factor in the right, or left, columns of the blocks.
Value SlicedKernel::addHalf(Value total, Value value, Value factor,
                            int64_t distance, bool right) {
  RankedTensorType type = w->square(), half = w->fragment(16, 8);
  Value zero = w->constant(0.0, type);
  if (distance == 2 || distance == 4) {
    // Lanes hold columns of one side: one number a lane, where a choice
    // between factors would keep both of them.
    Value isRight = w->has(distance, Axis::Cols, type);
    Value one = w->constant(1.0, type);
    Value mine =
        right ? w->select(isRight, one, zero) : w->select(isRight, zero, one);
    return w->fma(w->mulf(value, w->extend(factor)), mine, total);
  }
  auto split = [&](Value from) {
    return warp::SplitColsOp::create(w->b, half, half, from, distance);
  };
  auto take = [&](Value from) -> Value {
    if (!from)
      return Value();
    auto both = split(from);
    return right ? both.getRight() : both.getLeft();
  };
  Value mine = take(value), before = take(total);
  Value weight = take(factor ? w->extend(factor) : factor);
  Value sum = !weight ? w->addf(before, mine) : w->fma(mine, weight, before);
  Value other = w->constant(0.0, half);
  if (total)
    other = right ? split(total).getLeft() : split(total).getRight();
  return warp::MergeColsOp::create(w->b, type, right ? sum : other,
                                   right ? other : sum, distance);
}

Value SlicedKernel::getGradientSum(DecayGramAdjointOp op, Value gradient,
                                   SmallVectorImpl<Value> *terms) {
  Value sum = gradient;
  while (sum.hasOneUse()) {
    auto add = dyn_cast<arith::AddFOp>(*sum.user_begin());
    if (!add)
      break;
    Value term = add.getLhs() == sum ? add.getRhs() : add.getLhs();
    Operation *made = term.getDefiningOp();
    if ((made && !made->isBeforeInBlock(op)) ||
        levelInSlice(term, /*asState=*/false, side) > level)
      break;
    if (terms)
      terms->push_back(term);
    sum = add.getResult();
  }
  return sum;
}

DecayGramAdjointOp SlicedKernel::findGradientIn(Value sum) {
  SmallVector<Value> sums{sum};
  while (!sums.empty()) {
    auto add = sums.pop_back_val().getDefiningOp<arith::AddFOp>();
    if (!add)
      continue;
    for (Value operand : add->getOperands()) {
      auto op = operand.getDefiningOp<DecayGramAdjointOp>();
      if (op && getGradientSum(op, operand) == sum)
        return op;
      if (!op)
        sums.push_back(operand);
    }
  }
  return {};
}

void SlicedKernel::emitGramAdjoint(DecayGramAdjointOp op) {
  Pairs &entry = pairs.find(op)->second;
  LevelTiles &operands = levelTiles[entry.tiles];
  const int64_t rows = op.getRows().size(), cols = op.getCols().size();
  RankedTensorType type = w->square();
  Value decay = evalWide(op.getDecay());
  // Operands with their own token's decay where it lies between the events.
  SmallVector<Value> x, y, dx(rows), dy(cols);
  // What is added to a gradient comes first: the gradient grows on it.
  auto begin = [&](Value gradient) {
    SmallVector<Value> terms;
    getGradientSum(op, gradient, &terms);
    Value total;
    for (Value term : terms)
      total = w->addf(total, evalWide(term));
    return total;
  };
  SmallVector<Value> beside(rows + cols);
  for (int64_t a = 0; a < rows; ++a)
    (operands.rowAfter[a] ? beside[a] : dx[a]) = begin(op.getRowGradient(a));
  for (int64_t b = 0; b < cols; ++b)
    (operands.colBefore[b] ? beside[rows + b] : dy[b]) =
        begin(op.getColGradient(b));
  Value dlog = begin(op.getDecayGradient()), zero = w->constant(0.0, type);
  auto scaled = [&](Value value, bool byDecay) {
    Value result = evalWide(value);
    return w->toOperand(byDecay ? w->mulf(result, decay) : result);
  };
  for (int64_t a = 0; a < rows; ++a)
    x.push_back(scaled(op.getRows()[a], operands.rowAfter[a]));
  for (int64_t b = 0; b < cols; ++b)
    y.push_back(scaled(op.getCols()[b], operands.colBefore[b]));
  SmallVector<bool> hasRow(rows), hasCol(cols);
  for (int64_t a = 0; a < rows; ++a)
    for (int64_t b = 0; b < cols; ++b)
      if (op.getCotangent(a, b))
        hasRow[a] = hasCol[b] = true;

  // The diagonals come first too, while their operands are at hand.
  int64_t diagonals = 0;
  for (int64_t a = 0; a < rows; ++a)
    for (int64_t b = 0; b < cols; ++b) {
      if (!op.getCotangent(a, b) || op.getMask(a, b) != "diagonal")
        continue;
      Value diagonal =
          w->expand(read(entry.diagonal, {w->index(diagonals++), w->index(0)},
                         w->along(Axis::Cols)));
      bool own = operands.rowAfter[a] && operands.colBefore[b];
      Value weight = own ? w->mulf(diagonal, decay) : diagonal;
      Value row = evalWide(op.getRows()[a]), col = evalWide(op.getCols()[b]);
      Value &forRow = operands.rowAfter[a] ? beside[a] : dx[a];
      Value &forCol = operands.colBefore[b] ? beside[rows + b] : dy[b];
      forRow = w->fma(weight, col, forRow);
      forCol = w->fma(weight, row, forCol);
      if (own)
        dlog = w->fma(weight, w->mulf(row, col), dlog);
    }

  // What needs other numbers than these operands is done before the levels.
  auto follow = [&](Value &operand, Value sum, Value aside) {
    if (Value earlier = sum ? sum : aside)
      operand = warp::FollowOp::create(w->b, operand, earlier);
  };
  for (int64_t b = 0; b < cols; ++b) {
    bool same = b < rows && x[b] == y[b];
    follow(y[b], dy[b], beside[rows + b]);
    if (same)
      x[b] = y[b];
  }
  for (int64_t a = 0; a < rows; ++a) {
    bool same = a < cols && x[a] == y[a];
    follow(x[a], dx[a], beside[a]);
    if (same)
      y[a] = x[a];
  }
  follow(x[rows - 1], dlog, Value());

  const int64_t count = std::max(rows, cols);
  // Numbers that are row and column first, and from the last to the first: of
  // the orders that were measured the one in which the fewest values wait.
  SmallVector<int64_t> order;
  for (int64_t i = std::min(rows, cols) - 1; i >= 0; --i)
    order.push_back(i);
  for (int64_t i = count - 1; i >= std::min(rows, cols); --i)
    order.push_back(i);
  // One level after the other: side by side, their sums fill the registers.
  Value latest;
  for (int level = 0; level < 4; ++level) {
    int64_t distance = int64_t(1) << level;
    Value number = w->index(level);
    Value factor = getLevelFactor(op.getDecay(), level);
    if (factor && latest)
      factor = warp::FollowOp::create(w->b, factor, latest);
    SmallVector<Value> scaled = scaleLevel(x, y, factor, level);
    Value spanning;
    for (int64_t i : order) {
      bool row = i < rows && hasRow[i], col = i < cols && hasCol[i];
      if (!row && !col)
        continue;
      // To rows in right halves, and to columns in left ones.
      Value sum = zero;
      for (int64_t j : order) {
        auto related = [&](int64_t a, int64_t b) {
          return a < rows && b < cols && op.getCotangent(a, b);
        };
        if (related(i, j) || related(j, i))
          sum = w->mma(
              scaled[j],
              read(entry.tile,
                   {w->index(i), w->index(j), number, w->index(0), w->index(0)},
                   type),
              sum);
      }
      if (level > 0)
        spanning = w->fma(w->extend(scaled[i]), sum, spanning);
      if (row)
        dx[i] = addHalf(dx[i], sum, factor, distance, /*right=*/true);
      if (col)
        dy[i] = addHalf(dy[i], sum, factor, distance, /*right=*/false);
      latest = sum;
    }
    // A row's pairs span the tokens before it in its half, a column's those
    // behind it.
    if (spanning)
      dlog = w->mma(w->toOperand(spanning),
                    w->toOperand(w->load(
                        scanArray,
                        {w->index(level - 1), w->index(0), w->index(0)}, type)),
                    dlog ? dlog : zero);
  }

  // The own token's decay.
  if (Kept *entry = getKept(resolve(op.getDecay())); entry && latest)
    decay = w->extend(
        warp::FollowOp::create(w->b, readKept(*entry, Kept::kW), latest));
  auto addOwn = [&](Value scaled, Value &gradient, Value beside) {
    if (gradient)
      dlog = w->fma(w->extend(scaled), gradient, dlog);
    gradient = gradient ? w->fma(gradient, decay, beside) : beside;
  };
  for (int64_t a = 0; a < rows; ++a)
    if (operands.rowAfter[a])
      addOwn(x[a], dx[a], beside[a]);
  for (int64_t b = 0; b < cols; ++b)
    if (operands.colBefore[b])
      addOwn(y[b], dy[b], beside[rows + b]);
  readAnew(latest);
  auto finish = [&](Value gradient, Value total) {
    memo[getGradientSum(op, gradient)] = total ? total : zero;
  };
  for (int64_t a = 0; a < rows; ++a)
    finish(op.getRowGradient(a), dx[a]);
  for (int64_t b = 0; b < cols; ++b)
    finish(op.getColGradient(b), dy[b]);
  finish(op.getDecayGradient(), dlog);
}
