//===- EmitMatmul.cpp - Products in register tiles ------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Two kernels. lhs * rhs: a tile of rows x vectors is carried through the loop
// over the contraction, one number of lhs times one vector of rhs at a time;
// all products of a chain run on one tile, which starts from the chain's first
// summand and from which what follows is computed.
//
//   scf.for %k = 0 to K step 4 iter_args(acc...) {
//     acc[r][v] += broadcast(lhs[row + r, k]) * rhs[k, col + v]
//   }
//
// lhs * rhs^T: both operands are contiguous along the contraction, so a tile
// of dot products is summed lane by lane, and a tree of shuffles and additions
// adds the lanes of all of them at once.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

/// Contraction steps in one round of the loop.
static constexpr int64_t kUnroll = 4;

Emitter::Tile Emitter::accumulate(Tile tile, ArrayRef<LeftRow> left,
                                  ArrayRef<Operand> rhs, Value col,
                                  int64_t vectors, Value from, Value to,
                                  std::optional<int64_t> count,
                                  int64_t unroll) {
  auto round = [&](Value first, ValueRange carried, int64_t steps) {
    Tile acc(carried);
    for (int64_t u = 0; u < steps; ++u) {
      Value k = add(first, u);
      SmallVector<Value> right;
      for (int64_t v = 0; v < vectors; ++v)
        right.push_back(rhs.size() > 1
                            ? loadOperand(rhs[v], k, col)
                            : loadOperand(rhs[0], k, add(col, v * g.lanes)));
      for (auto [r, row] : llvm::enumerate(left)) {
        Value number =
            splat(row.transposed ? loadScalar(row.memref, k, row.row)
                                 : loadScalar(row.memref, row.row, k));
        for (int64_t v = 0; v < vectors; ++v)
          acc[r * vectors + v] = fma(number, right[v], acc[r * vectors + v]);
      }
    }
    return acc;
  };
  if (!count)
    return loop(from, to, unroll, tile, [&](Value k, ValueRange carried) {
      return round(k, carried, unroll);
    });
  int64_t main = *count / unroll * unroll;
  tile = loop(0, main, unroll, tile, [&](Value k, ValueRange carried) {
    return round(add(from, k), carried, unroll);
  });
  if (*count > main)
    tile = round(add(from, main), tile, *count - main);
  return tile;
}

size_t Emitter::countAlike(const Unit &unit, size_t first) {
  MatmulOp head = unit.chain[first];
  SmallVector<Value> lhs, rhs;
  auto add = [&](MatmulOp link) {
    lhs.push_back(link.getLhs());
    rhs.push_back(link.getRhs());
  };
  size_t count = 0;
  for (MatmulOp link : ArrayRef(unit.chain).drop_front(first)) {
    if (link->getAttrDictionary() != head->getAttrDictionary())
      break;
    add(link);
    if (!areAlike(lhs) || !areAlike(rhs))
      break;
    ++count;
  }
  return count;
}

void Emitter::emitMatmulTile(const Unit &unit, Value row, int64_t rows,
                             Value col, int64_t vectors, Cursor &origin) {
  SmallVector<Value> masks(vectors);
  if (origin.panel && g.hasPartialPanel())
    for (int64_t v = 0; v < vectors; ++v)
      masks[v] = dynamicMask(
          sub(idx(g.stateCols), add(colBase, add(col, v * g.lanes))), g.lanes);
  auto cursorAt = [&](int64_t r, int64_t v) {
    Cursor cursor = origin;
    cursor.row = add(row, r);
    cursor.col = add(col, v * g.lanes);
    if (masks[v])
      cursor.mask = masks[v];
    return cursor;
  };
  for (const Root &root : unit.roots)
    if (root.kind == Root::Out)
      emitOutPrefetch(root.out, row, rows, col, vectors, origin.panel);
  Tile tile;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t v = 0; v < vectors; ++v) {
      Cursor cursor = cursorAt(r, v);
      tile.push_back(unit.getChainStart() ? eval(unit.getChainStart(), cursor)
                                          : zeroVector());
    }
  auto addProduct = [&](Tile tile, MatmulOp link, const Operand &lhs,
                        const Operand &rhs) {
    SmallVector<LeftRow> left;
    for (int64_t r = 0; r < rows; ++r)
      left.push_back({lhs.memref, add(row, r), link.getTransposeLhs()});
    int64_t depth = getShape(link.getRhs()).first;
    // Above the diagonal lhs is zero.
    bool lower =
        link.getTriangular() && rows < depth && depth % kUnroll == 0 &&
        getShape(link.getLhs()).first == getShape(link.getLhs()).second;
    if (lower && link.getTransposeLhs())
      return accumulate(tile, left, rhs, col, vectors,
                        mul(div(row, kUnroll), kUnroll), idx(depth),
                        std::nullopt, kUnroll);
    if (lower) {
      Value end = add(row, rows + kUnroll - 1);
      end = mul(div(end, kUnroll), kUnroll);
      return accumulate(tile, left, rhs, col, vectors, idx(0), end,
                        std::nullopt, kUnroll);
    }
    return accumulate(tile, left, rhs, col, vectors, idx(0), Value(), depth,
                      kUnroll);
  };
  for (size_t first = 0; first < unit.chain.size();) {
    MatmulOp link = unit.chain[first];
    size_t count = countAlike(unit, first);
    if (count < kLeastMembers) {
      tile =
          addProduct(tile, link, getOperand(link.getLhs(), origin.panel, false),
                     getOperand(link.getRhs(), origin.panel, true));
      ++first;
      continue;
    }
    SmallVector<Value> lhs, rhs;
    unit.forEachMember([&](const Unit &member) {
      for (MatmulOp other : ArrayRef(member.chain).slice(first, count)) {
        lhs.push_back(other.getLhs());
        rhs.push_back(other.getRhs());
      }
    });
    tile = loop(
        0, count, 1, tile,
        [&](Value round, ValueRange carried) -> SmallVector<Value> {
          Value position = instance ? add(mul(instance, count), round) : round;
          return addProduct(Tile(carried), link,
                            getOperandOf(lhs, position, origin.panel, false),
                            getOperandOf(rhs, position, origin.panel, true));
        });
    first += count;
  }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t v = 0; v < vectors; ++v) {
      Cursor cursor = cursorAt(r, v);
      cursor.known[unit.getChainResult()] = tile[r * vectors + v];
      emitRoots(unit.roots, cursor);
    }
}

void Emitter::emitJoined(const Unit &unit) {
  SmallVector<const Unit *> members = {&unit};
  for (const Unit &other : unit.beside)
    members.push_back(&other);
  SmallVector<Operand> rhs;
  for (const Unit *member : members)
    rhs.push_back(getOperand(MatmulOp(member->chain[0]).getRhs(), false, true));
  MatmulOp product = unit.chain[0];
  Operand lhs = getOperand(product.getLhs(), false, false);
  int64_t rows, cols;
  std::tie(rows, cols) = getShape(product.getResult());
  int64_t vectors = members.size(), depth = getShape(product.getRhs()).first;
  Value mask = cols < g.lanes ? constantMask(cols) : Value();
  auto tileAt = [&](Value row, int64_t count) {
    SmallVector<LeftRow> left;
    for (int64_t r = 0; r < count; ++r)
      left.push_back({lhs.memref, add(row, r), false});
    Tile tile(count * vectors, zeroVector());
    tile = accumulate(tile, left, rhs, idx(0), vectors, idx(0), Value(), depth,
                      kUnroll);
    for (int64_t r = 0; r < count; ++r)
      for (auto [v, member] : llvm::enumerate(members)) {
        Cursor cursor;
        cursor.row = add(row, r);
        cursor.col = idx(0);
        cursor.mask = mask;
        cursor.known[member->getChainResult()] = tile[r * vectors + v];
        emitRoots(member->roots, cursor);
      }
  };
  int64_t main = rows / g.tileRows * g.tileRows;
  loop(0, main, g.tileRows, [&](Value row) { tileAt(row, g.tileRows); });
  if (rows > main)
    tileAt(idx(main), rows - main);
  for (const Unit *member : members)
    emitZeroColumns(*plan.getBuffer(member->roots[0].value), g.lanes);
}

void Emitter::emitMatmul(const Unit &unit) {
  if (!unit.beside.empty()) {
    emitJoined(unit);
    return;
  }
  bool inPanel = unit.slice == Slice::Panel;
  int64_t rows, cols;
  std::tie(rows, cols) = getShape(unit.getChainResult());
  bool prefetches = getPrefetchSteps(unit) > 0 && prefetchSteps > 0;
  bool triangular = llvm::any_of(
      unit.chain, [](MatmulOp link) { return link.getTriangular(); });
  auto emitColumns = [&](Value col, int64_t vectors, Value mask) {
    // As many accumulators as a whole tile has, so that as many multiplications
    // are under way; but a triangle is left out tile by tile.
    int64_t tileRows = g.tileRows;
    if (!inPanel && !triangular)
      tileRows *= std::max<int64_t>(1, g.kFreeVectors / vectors);
    int64_t main = rows / tileRows * tileRows;
    bool asks = prefetches && (inPanel || vectors == g.kFreeVectors);
    Value step = firstStep;
    if (asks && !inPanel)
      step =
          add(step, mul(div(col, g.kFreeVectors * g.lanes), main / g.tileRows));
    Cursor origin;
    origin.panel = inPanel;
    origin.mask = mask;
    loop(0, main, tileRows, [&](Value row) {
      if (asks)
        emitPrefetch(add(step, div(row, g.tileRows)));
      emitMatmulTile(unit, row, tileRows, col, vectors, origin);
    });
    if (inPanel)
      firstStep = add(firstStep, main / g.tileRows);
    if (rows > main)
      emitMatmulTile(unit, idx(main), rows - main, col, vectors, origin);
  };
  if (inPanel) {
    emitColumns(idx(0), g.panelVectors, Value());
    return;
  }
  // Two vectors of columns at a time, then what is left; the last may have
  // lanes that do not exist.
  int64_t vectors = g.roundUpToVector(cols) / g.lanes, tail = cols % g.lanes;
  int64_t plain = tail ? vectors - 1 : vectors;
  loop(0, plain / 2 * 2 * g.lanes, 2 * g.lanes,
       [&](Value col) { emitColumns(col, 2, Value()); });
  for (int64_t v = plain / 2 * 2; v < vectors; ++v)
    emitColumns(idx(v * g.lanes), 1, v >= plain ? constantMask(tail) : Value());
  if (prefetches)
    firstStep = add(firstStep, getPrefetchSteps(unit));
  for (const Root &root : unit.roots)
    if (root.kind == Root::Store)
      emitZeroColumns(*plan.getBuffer(root.value), vectors * g.lanes);
}

//===----------------------------------------------------------------------===//
// Dot products
//===----------------------------------------------------------------------===//

SmallVector<Value> Emitter::sumLanes(ArrayRef<Value> vectors) {
  int64_t lanes = g.lanes;
  int64_t inBlock = 128 / g.bits(); // lanes of a 128-bit block
  // Shuffles of one instruction each, first between blocks, then within; each
  // halves the number of vectors and puts two partial sums side by side.
  struct Stage {
    SmallVector<int64_t> low, high;
  };
  SmallVector<Stage> stages;
  int64_t blocks = lanes / inBlock;
  auto addBlockStage = [&](ArrayRef<int64_t> low, ArrayRef<int64_t> high) {
    Stage stage;
    for (auto [mask, from] :
         {std::make_pair(&stage.low, low), std::make_pair(&stage.high, high)})
      for (int64_t block : from)
        for (int64_t lane = 0; lane < inBlock; ++lane)
          mask->push_back(block * inBlock + lane);
    stages.push_back(stage);
  };
  if (blocks == 4) {
    addBlockStage({0, 1, 4, 5}, {2, 3, 6, 7});
    addBlockStage({0, 2, 4, 6}, {1, 3, 5, 7});
  } else if (blocks == 2) {
    addBlockStage({0, 2}, {1, 3});
  }
  auto addLaneStage = [&](ArrayRef<int64_t> low, ArrayRef<int64_t> high) {
    Stage stage;
    // `low` and `high` count lanes of the first block, then of the second
    // vector's first block.
    for (int64_t block = 0; block < lanes / inBlock; ++block)
      for (auto [mask, from] :
           {std::make_pair(&stage.low, low), std::make_pair(&stage.high, high)})
        for (int64_t lane : from)
          mask->push_back(lane < inBlock
                              ? block * inBlock + lane
                              : lanes + block * inBlock + lane - inBlock);
    stages.push_back(stage);
  };
  if (inBlock == 4) {
    addLaneStage({0, 4, 1, 5}, {2, 6, 3, 7});
    addLaneStage({0, 1, 4, 5}, {2, 3, 6, 7});
  } else {
    addLaneStage({0, 2}, {1, 3});
  }

  // Where does each vector's sum end up? Follow the lanes.
  SmallVector<int64_t> slotOfLane(lanes);
  {
    SmallVector<SmallVector<int64_t>> labels;
    for (int64_t i = 0; i < lanes; ++i)
      labels.push_back(SmallVector<int64_t>(lanes, i));
    for (const Stage &stage : stages) {
      SmallVector<SmallVector<int64_t>> next;
      for (size_t i = 0; i < labels.size() / 2; ++i) {
        const auto &x = labels[i], &y = labels[i + labels.size() / 2];
        SmallVector<int64_t> joined;
        for (int64_t lane : stage.low)
          joined.push_back(lane < lanes ? x[lane] : y[lane - lanes]);
        next.push_back(joined);
      }
      labels = next;
    }
    slotOfLane = labels[0];
  }

  SmallVector<Value> sums;
  for (size_t first = 0; first < vectors.size(); first += lanes) {
    SmallVector<Value> level(lanes);
    for (int64_t lane = 0; lane < lanes; ++lane)
      if (first + lane < vectors.size())
        level[slotOfLane[lane]] = vectors[first + lane];
    for (const Stage &stage : stages) {
      SmallVector<Value> next;
      for (size_t i = 0; i < level.size() / 2; ++i) {
        Value x = level[i], y = level[i + level.size() / 2];
        if (!x && !y) {
          next.push_back(Value());
          continue;
        }
        x = x ? x : zeroVector();
        y = y ? y : zeroVector();
        next.push_back(
            addf(shuffle(x, y, stage.low), shuffle(x, y, stage.high)));
      }
      level = next;
    }
    sums.push_back(level[0] ? level[0] : zeroVector());
  }
  return sums;
}

void Emitter::storeSums(ArrayRef<Value> sums, int64_t rows, int64_t cols,
                        Value memref, ArrayRef<Value> atRows, Value atCol,
                        Value addend) {
  // The sums lie in row-major order; what is written at once is at most a
  // row's part within one vector.
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols;) {
      int64_t position = r * cols + c;
      int64_t lane = position % g.lanes;
      int64_t count = std::min(cols - c, g.lanes - lane);
      Value part = sums[position / g.lanes];
      if (count < g.lanes)
        part = vector::ExtractStridedSliceOp::create(
            b, loc, part, ArrayRef<int64_t>{lane}, ArrayRef<int64_t>{count},
            ArrayRef<int64_t>{1});
      Value col = add(atCol, c);
      if (addend)
        part =
            addf(part, vector::LoadOp::create(b, loc, vectorType(count), addend,
                                              ValueRange{atRows[r], col}));
      vector::StoreOp::create(b, loc, part, memref, ValueRange{atRows[r], col});
      c += count;
    }
}

void Emitter::fillZero(Value memref, int64_t rows, int64_t stride) {
  loop(0, rows, 1, [&](Value row) {
    for (int64_t col = 0; col < stride; col += g.lanes)
      storeVector(zeroVector(), memref, row, idx(col));
  });
}

SmallVector<Value> Emitter::emitDotTile(Value x, ArrayRef<Value> xRows, Value y,
                                        ArrayRef<Value> yRows, int64_t width) {
  int64_t rows = xRows.size(), cols = yRows.size();
  SmallVector<Value> zeros(rows * cols, zeroVector());
  int64_t vectors = width / g.lanes;
  int64_t unroll = vectors % 2 == 0 ? 2 : 1;
  SmallVector<Value> sums =
      loop(0, vectors * g.lanes, unroll * g.lanes, zeros,
           [&](Value k, ValueRange carried) -> SmallVector<Value> {
             SmallVector<Value> acc(carried);
             for (int64_t u = 0; u < unroll; ++u) {
               Value at = add(k, u * g.lanes);
               SmallVector<Value> right;
               for (Value row : yRows)
                 right.push_back(loadVector(y, row, at));
               for (int64_t r = 0; r < rows; ++r) {
                 Value left = loadVector(x, xRows[r], at);
                 for (int64_t c = 0; c < cols; ++c)
                   acc[r * cols + c] = fma(left, right[c], acc[r * cols + c]);
               }
             }
             return acc;
           });
  return sumLanes(sums);
}

void Emitter::emitDot(const Unit &unit) {
  auto matmul = cast<MatmulOp>(unit.op);
  int64_t rows, cols;
  std::tie(rows, cols) = getShape(matmul.getResult());
  const Buffer &buffer = *plan.getBuffer(matmul.getResult());
  Value result = view(buffer);
  Operand lhs = getOperand(matmul.getLhs(), false, false);
  Operand rhs = getOperand(matmul.getRhs(), false, false);
  Value addend;
  if (matmul.getAcc())
    addend = getOperand(matmul.getAcc(), false, false).memref;
  bool lower = rows == cols && rows % g.dotRows == 0 && cols % g.dotCols == 0 &&
               g.dotCols % g.dotRows == 0 &&
               Plan::isUsedBelowDiagonalOnly(matmul.getResult());
  if (lower || cols != buffer.stride)
    fillZero(result, buffer.rows, buffer.stride);
  if (matmul.getTransposeLhs()) {
    emitScalarDot(matmul, lhs, rhs, result, addend);
    return;
  }
  auto tileAt = [&](Value row, int64_t numRows, Value col, int64_t numCols) {
    SmallVector<Value> xRows, yRows;
    for (int64_t r = 0; r < numRows; ++r)
      xRows.push_back(add(row, r));
    for (int64_t c = 0; c < numCols; ++c)
      yRows.push_back(add(col, c));
    SmallVector<Value> sums =
        emitDotTile(lhs.memref, xRows, rhs.memref, yRows, lhs.stride);
    storeSums(sums, numRows, numCols, result, xRows, col, addend);
  };
  auto rowsAt = [&](Value row, int64_t numRows) {
    int64_t main = cols / g.dotCols * g.dotCols;
    Value end = idx(main);
    if (lower)
      end = min(end, add(row, numRows));
    loop(idx(0), end, g.dotCols, ValueRange{},
         [&](Value col, ValueRange) -> SmallVector<Value> {
           tileAt(row, numRows, col, g.dotCols);
           return {};
         });
    if (cols > main)
      tileAt(row, numRows, idx(main), cols - main);
  };
  int64_t main = rows / g.dotRows * g.dotRows;
  loop(0, main, g.dotRows, [&](Value row) { rowsAt(row, g.dotRows); });
  if (rows > main)
    rowsAt(idx(main), rows - main);
}

/// lhs^T * rhs^T, which no chunk program needs in a hurry.
void Emitter::emitScalarDot(MatmulOp matmul, const Operand &lhs,
                            const Operand &rhs, Value result, Value addend) {
  int64_t rows, cols;
  std::tie(rows, cols) = getShape(matmul.getResult());
  int64_t depth = getShape(matmul.getLhs()).first;
  loop(0, rows, 1, [&](Value row) {
    loop(0, cols, 1, [&](Value col) {
      Value first = addend ? loadScalar(addend, row, col) : constantScalar(0.0);
      Value sum = loop(0, depth, 1, {first},
                       [&](Value k, ValueRange acc) -> SmallVector<Value> {
                         return {fma(loadScalar(lhs.memref, k, row),
                                     loadScalar(rhs.memref, col, k), acc[0])};
                       })[0];
      memref::StoreOp::create(b, loc, sum, result, ValueRange{row, col});
    });
  });
}
