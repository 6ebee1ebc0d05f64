//===- EmitGramAdjoint.cpp - Cotangents of decay-weighted Gram matrices ---===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The adjoint of the tree of EmitDecayGram.cpp. At a node, with the factors
// p_i of the rows from the middle and s_j of the columns up to it,
//
//   dx~_i = sum_j H[i, j] y~_j      x~_i = p_i x_i     dx_i += p_i dx~_i
//   dy~_j = sum_i H[i, j] x~_i      y~_j = s_j y_j     dy_j += s_j dy~_j
//
// and the decay of a row's token t, which the factors of the rows behind it
// hold, gets
//
//   log:  dlog w_t += r_t                        r_t = x~_t dx~_t + r_{t+1}
//   else: dw_t += (w_mid ... w_{t-1}) r_t        r_t = x_t dx~_t + w_{t+1}
//   r_{t+1}
//
// (the columns' likewise, in the other direction). Every addend is a pair that
// spans the token; nothing is divided or subtracted. Leaves of four tokens are
// the same tree in registers. Sums lie along the contraction's other axis, so
// there are no horizontal sums.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

static constexpr int64_t kLeaf = 4;
/// Nodes up to this size are alike in every block of tokens: one loop nest.
static constexpr int64_t kBlock = 16;
/// Contraction steps in one round of a loop.
static constexpr int64_t kUnroll = 4;

void Emitter::emitGramAdjoint(const Unit &unit) {
  auto op = cast<DecayGramAdjointOp>(unit.op);
  int64_t width = plan.getBuffer(op.getDecay())->stride;
  loop(0, g.tokens, kLeaf, [&](Value lo) {
    loop(0, width, g.lanes, [&](Value at) { emitAdjointLeaf(op, lo, at); });
  });
  for (int64_t half = kLeaf; 2 * half <= kBlock; half *= 2)
    loop(0, g.tokens, 2 * half,
         [&](Value lo) { emitAdjointNode(unit, lo, half, half); });
  auto halve = [&](int64_t lo, int64_t size, auto &self) -> void {
    if (size <= kBlock)
      return;
    int64_t left = llvm::PowerOf2Ceil(size) / 2;
    self(lo, left, self);
    self(lo + left, size - left, self);
    emitAdjointNode(unit, idx(lo), left, size - left);
  };
  halve(0, g.tokens, halve);
}

//===----------------------------------------------------------------------===//
// Leaves
//===----------------------------------------------------------------------===//

/// Four tokens, one vector of channels; writes the gradients' rows.
void Emitter::emitAdjointLeaf(DecayGramAdjointOp op, Value lo, Value at) {
  int64_t numRows = op.getRows().size(), numCols = op.getCols().size();
  using Tokens = SmallVector<Value>;
  auto load = [&](Value value) {
    Tokens tokens;
    for (int64_t i = 0; i < kLeaf; ++i)
      tokens.push_back(
          loadVector(view(*plan.getBuffer(value)), add(lo, i), at));
    return tokens;
  };
  Tokens w = load(op.getDecay()), decay(kLeaf);
  SmallVector<Tokens> x, y, dx(numRows, Tokens(kLeaf)),
      dy(numCols, Tokens(kLeaf));
  for (Value row : op.getRows())
    x.push_back(load(row));
  for (Value col : op.getCols())
    y.push_back(load(col));

  // Null stands for 0 in sums and for 1 in products.
  auto addTo = [&](Value &sum, Value term) {
    if (term)
      sum = sum ? addf(sum, term) : term;
  };
  auto addProduct = [&](Value &sum, Value u, Value v) {
    sum = sum ? fma(u, v, sum) : mulf(u, v);
  };
  auto times = [&](Value u, Value v) { return !u ? v : !v ? u : mulf(u, v); };
  auto cotangent = [&](int64_t a, int64_t number, int64_t i, int64_t j) {
    Value matrix = view(*plan.getBuffer(op.getCotangent(a, number)));
    return splat(loadScalar(matrix, add(lo, i), add(lo, j)));
  };
  auto isAfter = [](Position position) { return position == Position::After; };

  auto visit = [&](int64_t first, int64_t size, auto &self) -> void {
    if (size == 1) {
      int64_t i = first;
      for (int64_t a = 0; a < numRows; ++a)
        for (int64_t number = 0; number < numCols; ++number) {
          if (op.getMask(a, number) != "diagonal")
            continue;
          // The token's own decay, where it stands between the two.
          bool spans = isAfter(op.getRowPosition(a)) &&
                       !isAfter(op.getColPosition(number));
          Value h = cotangent(a, number, i, i);
          Value scaled = spans ? mulf(h, w[i]) : h;
          addProduct(dx[a][i], scaled, y[number][i]);
          addProduct(dy[number][i], scaled, x[a][i]);
          if (spans)
            addProduct(decay[i], mulf(op.getLog() ? scaled : h, x[a][i]),
                       y[number][i]);
        }
      return;
    }
    int64_t half = size / 2, mid = first + half;
    self(first, half, self);
    self(mid, half, self);
    // before[t]: the decays from the middle to t, without t; after: with it.
    // Of the left half: the decays from t to the middle.
    Tokens without(kLeaf), with(kLeaf);
    for (int64_t t = mid; t < mid + half; ++t) {
      without[t] = t > mid ? with[t - 1] : Value();
      with[t] = times(without[t], w[t]);
    }
    for (int64_t t = mid - 1; t >= first; --t) {
      without[t] = t < mid - 1 ? with[t + 1] : Value();
      with[t] = times(without[t], w[t]);
    }
    auto rowFactor = [&](int64_t a, int64_t t) {
      return isAfter(op.getRowPosition(a)) ? with[t] : without[t];
    };
    auto colFactor = [&](int64_t number, int64_t t) {
      return isAfter(op.getColPosition(number)) ? without[t] : with[t];
    };
    SmallVector<Tokens> xs(numRows, Tokens(kLeaf)),
        dxs = xs, ys(numCols, Tokens(kLeaf)), dys = ys;
    for (int64_t a = 0; a < numRows; ++a)
      for (int64_t t = mid; t < mid + half; ++t)
        xs[a][t] = times(x[a][t], rowFactor(a, t));
    for (int64_t number = 0; number < numCols; ++number)
      for (int64_t t = first; t < mid; ++t)
        ys[number][t] = times(y[number][t], colFactor(number, t));
    for (int64_t a = 0; a < numRows; ++a)
      for (int64_t number = 0; number < numCols; ++number) {
        if (op.getMask(a, number) == "none")
          continue;
        for (int64_t i = mid; i < mid + half; ++i)
          for (int64_t j = first; j < mid; ++j) {
            Value h = cotangent(a, number, i, j);
            addProduct(dxs[a][i], h, ys[number][j]);
            addProduct(dys[number][j], h, xs[a][i]);
          }
      }
    // What the token's decay gets from its own half, `carried` from token to
    // token; `inner` operands are those whose factor holds their own token.
    auto collect = [&](int64_t t, Value &carried, ArrayRef<Tokens> plain,
                       ArrayRef<Tokens> scaled, ArrayRef<Tokens> gradients,
                       llvm::function_ref<bool(int64_t)> isInner) {
      Value outer;
      for (size_t n = 0; n < plain.size(); ++n) {
        if (!gradients[n][t])
          continue;
        Value u = op.getLog() ? scaled[n][t] : plain[n][t];
        addProduct(isInner(n) ? carried : outer, u, gradients[n][t]);
      }
      if (carried) {
        addTo(decay[t], op.getLog() ? carried : times(without[t], carried));
        if (!op.getLog())
          carried = mulf(carried, w[t]);
      }
      addTo(carried, outer);
    };
    Value carried;
    for (int64_t t = mid + half - 1; t >= mid; --t)
      collect(t, carried, x, xs, dxs,
              [&](int64_t a) { return isAfter(op.getRowPosition(a)); });
    carried = Value();
    for (int64_t t = first; t < mid; ++t)
      collect(t, carried, y, ys, dys,
              [&](int64_t n) { return !isAfter(op.getColPosition(n)); });
    for (int64_t a = 0; a < numRows; ++a)
      for (int64_t t = mid; t < mid + half; ++t)
        if (dxs[a][t])
          addTo(dx[a][t], times(dxs[a][t], rowFactor(a, t)));
    for (int64_t number = 0; number < numCols; ++number)
      for (int64_t t = first; t < mid; ++t)
        if (dys[number][t])
          addTo(dy[number][t], times(dys[number][t], colFactor(number, t)));
  };
  visit(0, kLeaf, visit);

  auto store = [&](Value value, ArrayRef<Value> tokens) {
    Value memref = view(*plan.getBuffer(value));
    for (int64_t i = 0; i < kLeaf; ++i)
      storeVector(tokens[i] ? tokens[i] : zeroVector(), memref, add(lo, i), at);
  };
  for (int64_t a = 0; a < numRows; ++a)
    store(op.getRowGradient(a), dx[a]);
  for (int64_t number = 0; number < numCols; ++number)
    store(op.getColGradient(number), dy[number]);
  store(op.getDecayGradient(), decay);
}

//===----------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------===//

/// Scratch rows of a node: the scaled rows of each operand, those of each
/// column operand, then for the rows 1, w[mid], w[mid] w[mid + 1], ... and for
/// the columns the products up to the middle, 1 the last.
void Emitter::emitAdjointScale(DecayGramAdjointOp op, const AdjointNode &node,
                               Value at) {
  Value w = view(*plan.getBuffer(op.getDecay()));
  auto scale = [&](Value operand, Value token, Value factor, Value scratchRow) {
    Value x = loadVector(view(*plan.getBuffer(operand)), token, at);
    storeVector(mulf(x, factor), node.scratch, scratchRow, at);
  };
  Value one = constantVector(1.0);
  storeVector(one, node.scratch, idx(node.after), at);
  storeVector(one, node.scratch, idx(node.before + node.left), at);
  loop(0, node.right, 1, {one},
       [&](Value r, ValueRange carried) -> SmallVector<Value> {
         Value token = add(node.mid, r);
         Value with = mulf(carried[0], loadVector(w, token, at));
         for (auto [a, x] : llvm::enumerate(op.getRows()))
           scale(x, token,
                 op.getRowPosition(a) == Position::After ? with : carried[0],
                 add(r, a * node.right));
         storeVector(with, node.scratch, add(r, node.after + 1), at);
         return {with};
       });
  loop(0, node.left, 1, {one},
       [&](Value back, ValueRange carried) -> SmallVector<Value> {
         Value c = sub(idx(node.left - 1), back), token = add(node.lo, c);
         Value with = mulf(carried[0], loadVector(w, token, at));
         for (auto [number, y] : llvm::enumerate(op.getCols()))
           scale(y, token,
                 op.getColPosition(number) == Position::After ? carried[0]
                                                              : with,
                 add(c, node.cols + number * node.left));
         storeVector(with, node.scratch, add(c, node.before), at);
         return {with};
       });
}

void Emitter::emitAdjointProducts(DecayGramAdjointOp op,
                                  const AdjointNode &node, int64_t number,
                                  bool isRow, Value at, int64_t vectors) {
  bool log = op.getLog();
  int64_t own = isRow ? node.right : node.left;
  int64_t other = isRow ? node.left : node.right;
  Value ownStart = isRow ? node.mid : node.lo;
  Value otherStart = isRow ? node.lo : node.mid;
  int64_t ownScratch = isRow ? number * own : node.cols + number * own;
  Value operand = isRow ? op.getRows()[number] : op.getCols()[number];
  Value plain = view(*plan.getBuffer(operand));
  Value w = view(*plan.getBuffer(op.getDecay()));
  Value gradient = view(*plan.getBuffer(isRow ? op.getRowGradient(number)
                                              : op.getColGradient(number)));
  Value decay = view(*plan.getBuffer(op.getDecayGradient()));
  bool isAfter = (isRow ? op.getRowPosition(number)
                        : op.getColPosition(number)) == Position::After;
  // Does the factor of a token hold the token's own decay?
  bool isInner = isRow == isAfter;
  SmallVector<std::pair<Value, int64_t>> partners; // cotangent, scratch row
  unsigned numPartners = isRow ? op.getCols().size() : op.getRows().size();
  for (unsigned n = 0; n < numPartners; ++n)
    if (Value h =
            isRow ? op.getCotangent(number, n) : op.getCotangent(n, number))
      partners.push_back({view(*plan.getBuffer(h)),
                          isRow ? node.cols + n * other : n * other});
  if (partners.empty())
    return;

  int64_t tileRows = std::min<int64_t>(own, g.tileRows >= 8 ? 8 : 4);
  auto colAt = [&](int64_t v) { return add(at, v * g.lanes); };
  loop(0, own, tileRows, SmallVector<Value>(vectors, zeroVector()),
       [&](Value step, ValueRange carried) -> SmallVector<Value> {
         Value first = isRow ? sub(idx(own - tileRows), step) : step;
         Tile tile(tileRows * vectors, zeroVector());
         for (auto [matrix, start] : partners)
           tile = loop(
               0, other, kUnroll, tile,
               [&, matrix = matrix,
                start = start](Value k, ValueRange acc) -> SmallVector<Value> {
                 Tile next(acc);
                 for (int64_t u = 0; u < kUnroll; ++u) {
                   Value step = add(k, u), token = add(otherStart, step);
                   SmallVector<Value> right;
                   for (int64_t v = 0; v < vectors; ++v)
                     right.push_back(
                         loadVector(node.scratch, add(step, start), colAt(v)));
                   for (int64_t r = 0; r < tileRows; ++r) {
                     Value mine = add(add(ownStart, first), r);
                     Value h = splat(isRow ? loadScalar(matrix, mine, token)
                                           : loadScalar(matrix, token, mine));
                     for (int64_t v = 0; v < vectors; ++v)
                       next[r * vectors + v] =
                           fma(h, right[v], next[r * vectors + v]);
                   }
                 }
                 return next;
               });
         SmallVector<Value> running(carried);
         for (int64_t i = 0; i < tileRows; ++i) {
           // Rows from the last to the first, columns the other way round.
           int64_t r = isRow ? tileRows - 1 - i : i;
           Value local = add(first, r), token = add(ownStart, local);
           // The factors without and with the token's own decay.
           Value without =
               isRow ? add(local, node.after) : add(local, node.before + 1);
           Value with =
               isRow ? add(local, node.after + 1) : add(local, node.before);
           for (int64_t v = 0; v < vectors; ++v) {
             Value col = colAt(v), d = tile[r * vectors + v];
             Value factor =
                 loadVector(node.scratch, isInner ? with : without, col);
             Value sum = loadVector(gradient, token, col);
             storeVector(fma(d, factor, sum), gradient, token, col);
             Value u =
                 log ? loadVector(node.scratch, add(local, ownScratch), col)
                     : loadVector(plain, token, col);
             Value &carry = running[v];
             if (isInner)
               carry = fma(u, d, carry);
             Value total = loadVector(decay, token, col);
             total = log ? addf(total, carry)
                         : fma(carry, loadVector(node.scratch, without, col),
                               total);
             storeVector(total, decay, token, col);
             if (!log)
               carry = mulf(carry, loadVector(w, token, col));
             if (!isInner)
               carry = fma(u, d, carry);
           }
         }
         return running;
       });
}

void Emitter::emitAdjointNode(const Unit &unit, Value lo, int64_t left,
                              int64_t right) {
  auto op = cast<DecayGramAdjointOp>(unit.op);
  int64_t numRows = op.getRows().size(), numCols = op.getCols().size();
  int64_t width = plan.getBuffer(op.getDecay())->stride;
  AdjointNode node;
  node.lo = lo;
  node.mid = add(lo, left);
  node.left = left;
  node.right = right;
  node.cols = numRows * right;
  node.after = node.cols + numCols * left;
  node.before = node.after + right + 1;
  node.scratch = viewSlot(*unit.scratch, 0, node.before + left + 1, width);
  loop(0, width, g.lanes, [&](Value at) { emitAdjointScale(op, node, at); });
  auto columnsAt = [&](Value at, int64_t vectors) {
    for (int64_t a = 0; a < numRows; ++a)
      emitAdjointProducts(op, node, a, /*isRow=*/true, at, vectors);
    for (int64_t number = 0; number < numCols; ++number)
      emitAdjointProducts(op, node, number, /*isRow=*/false, at, vectors);
  };
  int64_t main = width / (2 * g.lanes) * 2 * g.lanes;
  loop(0, main, 2 * g.lanes, [&](Value at) { columnsAt(at, 2); });
  if (width > main)
    columnsAt(idx(main), 1);
}
