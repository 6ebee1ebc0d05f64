//===- EmitDecayGram.cpp - Decay-weighted Gram matrices -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tokens are halved down to leaves of four. A pair in different halves of a
// node has the decay of its row from the node's middle times that of its
// column up to the middle, both products of w over an interval:
//
//   x~_i = x_i * w[mid] ... w[i]      y~_j = y_j * w[j + 1] ... w[mid - 1]
//   G[i, j] = <x~_i, y~_j>                                 j < mid <= i
//
// which are dense dot products of scaled copies. In a leaf the columns decay
// from row to row in registers. Nothing divides, no factor depends on a later
// token than its row, and w = 0 is as good as any other.
//
// This is also the order for the scheme `anchored`: its factors x * P and y / P
// would save no multiplication on four-token leaves.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

static constexpr int64_t kLeaf = 4;
/// Nodes up to this size are alike in every block of tokens: one loop nest.
static constexpr int64_t kBlock = 16;
/// Rows that a scaling loop's body covers at most.
static constexpr int64_t kUnrolledRows = 8;

/// Are there results for all pairs of a row and a column?
static bool hasAllPairs(DecayGramOp op) {
  return op.getGrams().size() == op.getRows().size() * op.getCols().size();
}

void Emitter::emitGram(const Unit &unit) {
  auto op = cast<DecayGramOp>(unit.op);
  const Buffer &first = *plan.getBuffer(op.getGrams()[0]);
  fillZero(
      viewSlot(first.slot, 0, op.getGrams().size() * g.tokens, first.stride),
      op.getGrams().size() * g.tokens, first.stride);
  auto halve = [&](int64_t lo, int64_t size, auto &self) -> void {
    if (size <= kBlock)
      return;
    int64_t left = llvm::PowerOf2Ceil(size) / 2;
    emitGramNode(unit, idx(lo), left, size - left);
    self(lo, left, self);
    self(lo + left, size - left, self);
  };
  halve(0, g.tokens, halve);
  for (int64_t half = kBlock / 2; half >= kLeaf; half /= 2)
    loop(0, g.tokens, 2 * half,
         [&](Value lo) { emitGramNode(unit, lo, half, half); });
  loop(0, g.tokens, kLeaf, [&](Value lo) { emitGramLeaf(unit, lo); });
}

void Emitter::emitGramNode(const Unit &unit, Value lo, int64_t left,
                           int64_t right) {
  auto op = cast<DecayGramOp>(unit.op);
  int64_t numRows = op.getRows().size(), numCols = op.getCols().size();
  const Buffer &decay = *plan.getBuffer(op.getDecay());
  int64_t width = decay.stride;
  Value w = view(decay);
  Value scratch =
      viewSlot(*unit.scratch, 0, numRows * right + numCols * left, width);
  int64_t colStart = numRows * right; // scratch row of the first column
  Value mid = add(lo, left);

  // Scale. One multiplication a factor and one an operand.
  auto scaleRow = [&](Value r, Value carried, Value at) -> Value {
    Value row = add(mid, r);
    Value after = loadVector(w, row, at);
    if (carried)
      after = mulf(carried, after);
    for (auto [a, x] : llvm::enumerate(op.getRows())) {
      Value factor = op.getRowPosition(a) == Position::After ? after : carried;
      Value scaled = loadVector(view(*plan.getBuffer(x)), row, at);
      if (factor)
        scaled = mulf(scaled, factor);
      storeVector(scaled, scratch, add(idx(a * right), r), at);
    }
    return after;
  };
  auto scaleCol = [&](Value c, Value carried, Value at) -> Value {
    Value row = add(lo, c);
    Value before = loadVector(w, row, at);
    if (carried)
      before = mulf(carried, before);
    for (auto [number, y] : llvm::enumerate(op.getCols())) {
      Value factor =
          op.getColPosition(number) == Position::Before ? before : carried;
      Value scaled = loadVector(view(*plan.getBuffer(y)), row, at);
      if (factor)
        scaled = mulf(scaled, factor);
      storeVector(scaled, scratch, add(idx(colStart + number * left), c), at);
    }
    return before;
  };
  loop(0, width, g.lanes, [&](Value at) {
    // `r` counts from the middle, forwards for rows and backwards for columns.
    auto scale = [&](int64_t count, bool rows) {
      auto step = [&](Value r, Value carried) {
        return rows ? scaleRow(r, carried, at)
                    : scaleCol(sub(idx(count - 1), r), carried, at);
      };
      Value carried = step(idx(0), Value());
      if (count <= kUnrolledRows) {
        for (int64_t r = 1; r < count; ++r)
          carried = step(idx(r), carried);
        return;
      }
      loop(idx(1), idx(count), 1, {carried},
           [&](Value r, ValueRange running) -> SmallVector<Value> {
             return {step(r, running[0])};
           });
    };
    scale(right, true);
    scale(left, false);
  });

  // Multiply.
  auto tileAt = [&](Value gramRow, Value xRow, Value r, Value yRow, Value c) {
    SmallVector<Value> xRows, yRows, atRows;
    for (int64_t i = 0; i < g.dotRows; ++i) {
      xRows.push_back(add(add(xRow, r), i));
      atRows.push_back(add(add(gramRow, add(mid, r)), i));
    }
    for (int64_t i = 0; i < g.dotCols; ++i)
      yRows.push_back(add(add(yRow, c), i));
    SmallVector<Value> sums =
        emitDotTile(scratch, xRows, scratch, yRows, width);
    const Buffer &first = *plan.getBuffer(op.getGrams()[0]);
    Value grams =
        viewSlot(first.slot, 0, op.getGrams().size() * g.tokens, first.stride);
    storeSums(sums, g.dotRows, g.dotCols, grams, atRows, add(lo, c), Value());
  };
  auto pairAt = [&](Value gramRow, Value xRow, Value yRow) {
    loop(0, right, g.dotRows, [&](Value r) {
      loop(0, left, g.dotCols,
           [&](Value c) { tileAt(gramRow, xRow, r, yRow, c); });
    });
  };
  if (hasAllPairs(op)) {
    loop(0, numRows, 1, [&](Value a) {
      loop(0, numCols, 1, [&](Value number) {
        pairAt(mul(add(mul(a, numCols), number), g.tokens), mul(a, right),
               add(mul(number, left), colStart));
      });
    });
    return;
  }
  int64_t index = 0;
  for (int64_t a = 0; a < numRows; ++a)
    for (int64_t number = 0; number < numCols; ++number)
      if (op.getMask(a, number) != "none")
        pairAt(idx(index++ * g.tokens), idx(a * right),
               idx(colStart + number * left));
}

void Emitter::emitGramLeaf(const Unit &unit, Value lo) {
  auto op = cast<DecayGramOp>(unit.op);
  int64_t numRows = op.getRows().size(), numCols = op.getCols().size();
  const Buffer &decay = *plan.getBuffer(op.getDecay());
  Value w = view(decay);
  int64_t limit = g.dotRows * g.dotCols + 4; // accumulators at a time

  struct Pair {
    int64_t a, i, j;
  };
  /// A column and the rows whose pairs with it are summed at a time.
  struct Group {
    int64_t number;
    SmallVector<int64_t> rows;
  };
  // Groups that differ only in where their operands lie are rounds of a loop.
  auto emitGroups = [&](ArrayRef<Group> groups, Value round) {
    int64_t number = groups[0].number;
    ArrayRef<int64_t> rows = groups[0].rows;
    auto select = [&](llvm::function_ref<Value(const Group &)> get) {
      return getOperandOf(llvm::map_to_vector(groups, get), round, false, false)
          .memref;
    };
    Value y =
        select([&](const Group &group) { return op.getCols()[group.number]; });
    llvm::SmallDenseMap<int64_t, Value> rowViews, gramViews;
    for (auto [slot, a] : llvm::enumerate(rows)) {
      rowViews[a] = select(
          [&](const Group &group) { return op.getRows()[group.rows[slot]]; });
      gramViews[a] = select([&](const Group &group) {
        return op.getGram(group.rows[slot], group.number);
      });
    }
    bool colBefore = op.getColPosition(number) == Position::Before;
    SmallVector<Pair> pairs;
    for (int64_t a : rows)
      for (int64_t i = 0; i < kLeaf; ++i)
        for (int64_t j = 0; j <= i; ++j)
          if (j < i || op.getMask(a, number) == "diagonal")
            pairs.push_back({a, i, j});
    SmallVector<Value> zeros(pairs.size(), zeroVector());
    SmallVector<Value> sums =
        loop(0, decay.stride, g.lanes, zeros,
             [&](Value at, ValueRange carried) -> SmallVector<Value> {
               SmallVector<Value> acc(carried);
               SmallVector<Value> column(kLeaf); // decayed so far
               for (int64_t i = 0; i < kLeaf; ++i) {
                 Value row = add(lo, i);
                 Value yi = loadVector(y, row, at);
                 Value wi = i || colBefore ? loadVector(w, row, at) : Value();
                 auto multiply = [&](Position position, Value diagonal) {
                   llvm::SmallDenseMap<int64_t, Value> xs;
                   for (auto [k, pair] : llvm::enumerate(pairs)) {
                     if (pair.i != i || op.getRowPosition(pair.a) != position)
                       continue;
                     Value &x = xs[pair.a];
                     if (!x)
                       x = loadVector(rowViews[pair.a], row, at);
                     acc[k] = fma(x, pair.j == i ? diagonal : column[pair.j],
                                  acc[k]);
                   }
                 };
                 multiply(Position::Before, yi);
                 for (int64_t j = 0; j < i; ++j)
                   column[j] = mulf(column[j], wi);
                 column[i] = colBefore ? mulf(yi, wi) : yi;
                 multiply(Position::After, column[i]);
               }
               return acc;
             });
    for (int64_t a : rows) {
      SmallVector<Value> tile(kLeaf * kLeaf), atRows;
      for (auto [k, pair] : llvm::enumerate(pairs))
        if (pair.a == a)
          tile[pair.i * kLeaf + pair.j] = sums[k];
      for (int64_t i = 0; i < kLeaf; ++i)
        atRows.push_back(add(lo, i));
      storeSums(sumLanes(tile), kLeaf, kLeaf, gramViews[a], atRows, lo,
                Value());
    }
  };
  SmallVector<Group> groups;
  SmallVector<std::string> structures;
  for (int64_t number = 0; number < numCols; ++number) {
    int64_t size = limit; // begin with a new group
    for (int64_t a = 0; a < numRows; ++a) {
      StringRef mask = op.getMask(a, number);
      if (mask == "none")
        continue;
      int64_t needed =
          kLeaf * (kLeaf - 1) / 2 + (mask == "diagonal" ? kLeaf : 0);
      if (size + needed > limit) {
        groups.push_back({number, {}});
        structures.push_back(
            op.getColPosition(number) == Position::Before ? "before" : "after");
        size = 0;
      }
      groups.back().rows.push_back(a);
      structures.back() += mask == "diagonal" ? "d" : "s";
      structures.back() += op.getRowPosition(a) == Position::Before ? "b" : "a";
      size += needed;
    }
  }
  llvm::MapVector<StringRef, SmallVector<Group>> alike;
  for (auto [group, structure] : llvm::zip(groups, structures))
    alike[structure].push_back(group);
  for (auto &[structure, members] : alike) {
    if (members.size() < kLeastMembers) {
      for (const Group &group : members)
        emitGroups(group, idx(0));
      continue;
    }
    loop(0, members.size(), 1,
         [&, &members = members](Value round) { emitGroups(members, round); });
  }
}
