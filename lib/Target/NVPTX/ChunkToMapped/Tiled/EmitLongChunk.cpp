//===- EmitLongChunk.cpp - Chunks of 32 and 64 tokens by tiles ------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What couples tokens of different tiles. A chunk is blocks of 16 tokens:
// within a block everything is as in a chunk of 16, and of two blocks the
// dyadic levels above it take the products over whole blocks between the pair's
// middle and each of its tokens' blocks. Triangular systems are solved block by
// block, the blocks on the diagonal by their inverses.
//
//===----------------------------------------------------------------------===//

#include "../Program.h"
#include "TiledKernel.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

/// The block with which the right half of the pair's level begins: the level is
/// that of the highest bit in which the numbers of the blocks differ.
static int64_t getMiddle(int64_t row, int64_t col) {
  int64_t half = llvm::PowerOf2Ceil((row ^ col) + 1) / 2;
  return row / half * half;
}

static int64_t getCols(Value value) {
  return cast<RankedTensorType>(value.getType()).getDimSize(1);
}

void TiledKernel::forgetTiles() {
  tileMemo.clear();
  for (auto &memo : vectorMemo)
    memo.clear();
}

Value TiledKernel::joinRows(Value x, bool product) {
  for (int64_t distance = 1; distance < 16; distance *= 2) {
    Value other = shuffle(x, distance);
    x = product ? mulf(x, other) : addf(x, other);
  }
  return x;
}

TiledKernel::WholeBlock TiledKernel::getWholeBlock(Value w) {
  return {emitScan(w, /*product=*/true, /*exclusive=*/true, /*reverse=*/false),
          emitScan(w, /*product=*/true, /*exclusive=*/true, /*reverse=*/true),
          joinRows(w, /*product=*/true)};
}

Value TiledKernel::getPairFactor(int64_t part, int64_t middle, bool isRow,
                                 llvm::function_ref<Value(int64_t)> getW) {
  WholeBlock own = getWholeBlock(getW(part));
  Value factor = isRow ? own.before : own.behind;
  int64_t first = isRow ? middle : part + 1, end = isRow ? part : middle;
  for (int64_t between = first; between < end; ++between)
    factor = mulf(factor, joinRows(getW(between), /*product=*/true));
  return factor;
}

//===----------------------------------------------------------------------===//
// Scans and sums over the tokens
//===----------------------------------------------------------------------===//

void TiledKernel::emitLongScan(Operation *op) {
  Value input = op->getOperand(0), result = op->getResult(0);
  bool product = isa<PrefixProductOp>(op), exclusive, reverse;
  if (auto prefix = dyn_cast<PrefixProductOp>(op))
    exclusive = prefix.getExclusive(), reverse = prefix.getReverse();
  else
    exclusive = cast<PrefixSumOp>(op).getExclusive(),
    reverse = cast<PrefixSumOp>(op).getReverse();
  auto join = [&](Value x, Value y) {
    return product ? mulf(x, y) : addf(x, y);
  };
  // One warp goes through the blocks of its channels.
  auto scan = [&](llvm::function_ref<Value(Value)> get,
                  llvm::function_ref<void(Value, Value)> put) {
    Value carried;
    for (int64_t step = 0; step < getBlocks(); ++step) {
      int64_t part = reverse ? getBlocks() - 1 - step : step;
      Value first = index(16 * part);
      forgetTiles();
      Value x = get(first);
      put(join(emitScan(x, product, exclusive, reverse), carried), first);
      if (step + 1 < getBlocks())
        carried = join(joinRows(x, product), carried);
    }
  };
  if (getRank(input) == 1)
    return inOneWarp([&] {
      scan([&](Value first) { return evalVector(input, Axis::Rows, first); },
           [&](Value x, Value first) { storeVector(x, result, first); });
    });
  forTiles(16, getCols(input), [&](TileAt at) {
    scan([&](Value first) { return evalMatrix(input, {first, at.col}); },
         [&](Value x, Value first) { storeTile(x, result, {first, at.col}); });
  });
}

void TiledKernel::emitLongTotal(Operation *op) {
  Value input = op->getOperand(0), result = op->getResult(0);
  bool product = isa<TotalProductOp>(op);
  auto total = [&](llvm::function_ref<Value(Value)> get) {
    Value all;
    for (int64_t part = 0; part < getBlocks(); ++part) {
      forgetTiles();
      Value x = joinRows(get(index(16 * part)), product);
      all = product ? mulf(all, x) : addf(all, x);
    }
    return all;
  };
  if (getRank(input) == 1)
    return inOneWarp([&] {
      storeVector(total([&](Value first) {
                    return evalVector(input, Axis::Rows, first);
                  }),
                  result, index(0));
    });
  forTiles(16, getCols(input), [&](TileAt at) {
    Value all =
        total([&](Value first) { return evalMatrix(input, {first, at.col}); });
    storeVector(warp::CollapseOp::create(b, along(Axis::Cols), all), result,
                at.col);
  });
}

//===----------------------------------------------------------------------===//
// Pairs of tokens
//===----------------------------------------------------------------------===//

void TiledKernel::storeZeros(Value value) {
  inOneWarp([&] {
    Value zero = constant(0.0, square());
    for (int64_t row = 0; row < getBlocks(); ++row)
      for (int64_t col = row + 1; col < getBlocks(); ++col)
        storeTile(zero, value, {index(16 * row), index(16 * col)});
  });
}

void TiledKernel::emitLongMask(DecayMaskOp op) {
  Value result = op.getResult();
  auto getW = [&](int64_t part) {
    return evalVector(op.getW(), Axis::Rows, index(16 * part));
  };
  storeZeros(result);
  for (int64_t row = 0; row < getBlocks(); ++row)
    for (int64_t col = 0; col <= row; ++col)
      inOneWarp([&] {
        TileAt at{index(16 * row), index(16 * col)};
        if (row == col)
          return storeTile(emitDecayMask(op, at.row), result, at);
        int64_t middle = getMiddle(row, col);
        Value before = getPairFactor(row, middle, /*isRow=*/true, getW);
        if (op.getRow() == Position::After)
          before = mulf(before, getW(row));
        Value behind = getPairFactor(col, middle, /*isRow=*/false, getW);
        if (op.getCol() == Position::Before)
          behind = mulf(behind, getW(col));
        Value turned = warp::ConvertOp::create(b, along(Axis::Cols), behind);
        storeTile(mulf(expand(before), expand(turned)), result, at);
      });
}

void TiledKernel::emitGramBetween(DecayGramOp op, int64_t row, int64_t col) {
  SmallVector<std::pair<unsigned, unsigned>> pairs;
  for (unsigned i = 0; i < op.getRows().size(); ++i)
    for (unsigned j = 0; j < op.getCols().size(); ++j)
      if (Value gram = op.getGram(i, j); gram && !gram.use_empty())
        pairs.push_back({i, j});
  if (pairs.empty())
    return;
  int64_t channels = getPaddedChannels(getCols(op.getDecay()));
  int64_t middle = getMiddle(row, col);
  inOneWarp([&] {
    SmallVector<Value> sums(pairs.size(), constant(0.0, square()));
    auto loop =
        scf::ForOp::create(b, index(0), index(channels), index(16), sums);
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(loop.getBody());
      Value channel = loop.getInductionVar();
      auto get = [&](Value value, int64_t part, double fill) {
        forgetTiles();
        return maskColumns(evalMatrix(value, {index(16 * part), channel}),
                           value, channel, fill);
      };
      auto getW = [&](int64_t part) { return get(op.getDecay(), part, 1.0); };
      Value before = getPairFactor(row, middle, /*isRow=*/true, getW);
      Value behind = getPairFactor(col, middle, /*isRow=*/false, getW);
      SmallVector<Value> x, y;
      for (unsigned i = 0; i < op.getRows().size(); ++i) {
        Value value = mulf(get(op.getRows()[i], row, 0.0), before);
        if (op.getRowPosition(i) == Position::After)
          value = mulf(value, getW(row));
        x.push_back(toOperand(value));
      }
      for (unsigned j = 0; j < op.getCols().size(); ++j) {
        Value value = mulf(get(op.getCols()[j], col, 0.0), behind);
        if (op.getColPosition(j) == Position::Before)
          value = mulf(value, getW(col));
        y.push_back(toOperand(value));
      }
      SmallVector<Value> next;
      for (auto [number, pair] : llvm::enumerate(pairs))
        next.push_back(mma(x[pair.first], y[pair.second],
                           loop.getRegionIterArgs()[number]));
      scf::YieldOp::create(b, next);
    }
    for (auto [number, pair] : llvm::enumerate(pairs))
      storeTile(loop.getResult(number), op.getGram(pair.first, pair.second),
                {index(16 * row), index(16 * col)});
  });
}

void TiledKernel::addAdjointBetween(DecayGramAdjointOp op, int64_t part,
                                    bool isRow, Value channel,
                                    MutableArrayRef<Value> gradients,
                                    MutableArrayRef<Value> decays) {
  auto get = [&](Value value, int64_t from, double fill) {
    forgetTiles();
    return maskColumns(evalMatrix(value, {index(16 * from), channel}), value,
                       channel, fill);
  };
  auto getW = [&](int64_t from) { return get(op.getDecay(), from, 1.0); };
  unsigned rows = op.getRows().size(), cols = op.getCols().size();
  // The operand's value in a block, scaled to the middle.
  auto getScaled = [&](bool row, unsigned number, int64_t from, int64_t middle,
                       Value *factor = nullptr, Value *plain = nullptr) {
    Value value = row ? op.getRows()[number] : op.getCols()[number];
    Value scale = getPairFactor(from, middle, row, getW);
    if (row ? op.getRowPosition(number) == Position::After
            : op.getColPosition(number) == Position::Before)
      scale = mulf(scale, getW(from));
    Value x = get(value, from, 0.0);
    if (factor)
      *factor = scale;
    if (plain)
      *plain = x;
    return mulf(x, scale);
  };
  for (int64_t half = 1; half < getBlocks(); half *= 2) {
    if (((part / half) % 2 == 1) != isRow)
      continue;
    int64_t middle = isRow ? part / half * half : (part / half + 1) * half;
    int64_t first = isRow ? middle - half : middle;
    unsigned own = isRow ? rows : cols, others = isRow ? cols : rows;
    SmallVector<Value> sums(own);
    for (int64_t other = first; other < first + half; ++other) {
      // The products sum over tokens, which are rows: by way of memory.
      SmallVector<Value> turned;
      for (unsigned number = 0; number < others; ++number)
        store(getScaled(!isRow, number, other, middle), scratch,
              {warpId, index(number), index(0), index(0)});
      for (unsigned number = 0; number < others; ++number)
        turned.push_back(
            toOperand(load(scratch, {warpId, index(number), index(0), index(0)},
                           square(), /*transpose=*/true)));
      for (unsigned i = 0; i < rows; ++i)
        for (unsigned j = 0; j < cols; ++j) {
          Value cotangent = op.getCotangent(i, j);
          if (!cotangent)
            continue;
          Value array = arrays.find(cotangent)->second.array;
          Value h = isRow ? load(array, {index(16 * part), index(16 * other)},
                                 square())
                          : load(array, {index(16 * other), index(16 * part)},
                                 square(), /*transpose=*/true);
          Value &sum = sums[isRow ? i : j];
          sum = mma(toOperand(h), turned[isRow ? j : i],
                    sum ? sum : constant(0.0, square()));
        }
    }
    // A row's pairs span the tokens before it from the middle on, a column's
    // those behind it up to there.
    Value spanning;
    for (unsigned number = 0; number < own; ++number) {
      if (!sums[number])
        continue;
      Value factor, plain;
      getScaled(isRow, number, part, middle, &factor, &plain);
      Value gradient = mulf(sums[number], factor);
      gradients[number] = addf(gradients[number], gradient);
      Value term = mulf(plain, gradient);
      spanning = addf(spanning, term);
      if (isRow ? op.getRowPosition(number) == Position::After
                : op.getColPosition(number) == Position::Before)
        decays[part] = addf(decays[part], term);
    }
    if (!spanning)
      continue;
    decays[part] = addf(decays[part], sumInBlock(spanning, /*level=*/4, isRow));
    int64_t begin = isRow ? middle : part + 1, end = isRow ? part : middle;
    if (begin == end)
      continue;
    Value whole = joinRows(spanning, /*product=*/false);
    for (int64_t between = begin; between < end; ++between)
      decays[between] = addf(decays[between], whole);
  }
}

//===----------------------------------------------------------------------===//
// Triangular systems
//===----------------------------------------------------------------------===//

void TiledKernel::emitLongSolve(TriSolveOp op, System &system) {
  int64_t steps = op.getRhs().size(), blocks = getBlocks();
  auto getBlock = [&](int64_t j, int64_t l) {
    return system.blocks[j * steps + l];
  };
  if (!system.done) {
    system.done = true;
    for (int64_t part = 0; part < blocks; ++part)
      inOneWarp([&] {
        for (int64_t j = 0; j < steps; ++j)
          for (int64_t l = 0; l < steps; ++l) {
            forgetTiles();
            store(evalMatrix(getBlock(j, l),
                             {index(16 * part), index(16 * part)}),
                  system.source,
                  {index(part), index(j), index(0), index(16 * l)});
          }
        warp::InverseOp::create(b, system.source, ValueRange{index(part)},
                                system.inverse, ValueRange{index(part)}, steps);
      });
  }
  // Held turned, columns as rows of a warp's fragments: what is known already
  // is an operand as it stands.
  const bool turned = op.getTranspose();
  forTiles(16, getCols(op.getUnknowns()[0]), [&](TileAt at) {
    SmallVector<SmallVector<Value>> known(blocks);
    SmallVector<int64_t> order;
    for (int64_t step = 0; step < blocks; ++step) {
      int64_t part = turned ? blocks - 1 - step : step;
      SmallVector<Value> right;
      for (int64_t j = 0; j < steps; ++j) {
        Value sum = extend(load(arrays.find(op.getRhs()[j])->second.array,
                                {index(16 * part), at.col}, square(),
                                /*transpose=*/true));
        for (int64_t from : order)
          for (int64_t l = 0; l < steps; ++l) {
            // The instruction multiplies rows with rows.
            Value factor =
                turned ? loadOperand(getBlock(l, j), index(16 * from),
                                     index(16 * part), /*transpose=*/true)
                       : loadOperand(getBlock(j, l), index(16 * part),
                                     index(16 * from), /*transpose=*/false);
            sum = mma(known[from][l], factor, sum);
          }
        right.push_back(toOperand(sum));
      }
      for (int64_t j = 0; j < steps; ++j) {
        Value sum = constant(0.0, square());
        for (int64_t l = 0; l < steps; ++l) {
          Value inverse =
              toOperand(load(system.inverse,
                             {index(part), index(turned ? l : j), index(0),
                              index(16 * (turned ? j : l))},
                             square(), turned));
          sum = mma(right[l], inverse, sum);
        }
        known[part].push_back(toOperand(sum));
        auto stored = arrays.find(op.getUnknowns()[j]);
        if (stored == arrays.end())
          continue;
        Value array = stored->second.array;
        Type element = cast<warp::SharedType>(array.getType()).getElementType();
        warp::SharedStoreOp::create(b, toElement(sum, element), array,
                                    ValueRange{index(16 * part), at.col},
                                    /*transpose=*/true);
      }
      order.push_back(part);
    }
  });
}

//===----------------------------------------------------------------------===//
// Saved states
//===----------------------------------------------------------------------===//

void TiledKernel::emitSavedState() {
  Value sequence = add(mul(batch, kernel.H), head);
  Value base = mul(add(mul(sequence, chunks), chunk), stateRows * getAllCols());
  if (block)
    base = add(base, mul(getFirstCol(), stateRows));
  Type element =
      cast<MemRefType>(kernel.checkpoints.getType()).getElementType();
  // Transposed, as operands.
  forTiles(stateCols, stateRows, [&](TileAt at) {
    Value tile = load(stateArray, {at.col, at.row}, square(),
                      /*transpose=*/true);
    Value cols = arith::SubIOp::create(b, index(stateCols), at.row);
    Value rows = arith::SubIOp::create(b, index(stateRows), at.col);
    warp::GlobalStoreOp::create(b, toElement(tile, element), kernel.checkpoints,
                                add(base, add(mul(at.row, stateRows), at.col)),
                                ValueRange{index(stateRows), index(1)},
                                ValueRange{cols, rows},
                                stateRows % 16 ? 1 : 16);
  });
}
