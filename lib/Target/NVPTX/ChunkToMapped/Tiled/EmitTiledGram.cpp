//===- EmitTiledGram.cpp - Decay-Grams and their cotangents by tiles ------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The dyadic factorisation (chunk_math 3.2, 4.1): a pair of tokens belongs to
// the level of its highest different bit, where its decay is a product of two
// factors over intervals that end at the block's midpoint. A level's products
// are whole 16 x 16 matrix instructions, of which the level's pairs are kept.
//
//===----------------------------------------------------------------------===//

#include "../RowScan.h"
#include "TiledKernel.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

TiledKernel::Levels TiledKernel::getLevels(Value w) {
  auto type = cast<RankedTensorType>(w.getType());
  Levels levels;
  Value before, behind, all = w, one = constant(1.0, type);
  for (int level = 0; level < 4; ++level) {
    levels.before[level] = before;
    levels.behind[level] = behind;
    if (level == 3)
      break;
    int64_t distance = int64_t(1) << level;
    Value other = shuffle(all, distance), has = rowHas(distance, type);
    Value left = before ? before : one, right = behind ? behind : one;
    before = select(has, mulf(left, other), left);
    behind = select(has, right, mulf(right, other));
    all = mulf(all, other);
  }
  return levels;
}

Value TiledKernel::getLevelMask(int level, bool turned) {
  Value row = rowNumbers(), col = colNumbers();
  if (turned)
    std::swap(row, col);
  auto type = cast<RankedTensorType>(row.getType());
  Value different = arith::XOrIOp::create(b, row, col);
  Value high = arith::ShRUIOp::create(b, different, integers(level, type));
  Value here = compare(arith::CmpIPredicate::eq, high, integers(1, type));
  Value below = compare(arith::CmpIPredicate::slt, col, row);
  return arith::AndIOp::create(b, here, below);
}

void TiledKernel::emitGram(DecayGramOp op) {
  int64_t channels = getPaddedChannels(
      cast<RankedTensorType>(op.getDecay().getType()).getDimSize(1));
  for (unsigned i = 0; i < op.getRows().size(); ++i)
    for (unsigned j = 0; j < op.getCols().size(); ++j) {
      Value gram = op.getGram(i, j);
      if (!gram || gram.use_empty())
        continue;
      for (int64_t part = 0; part < getBlocks(); ++part)
        inOneWarp([&] {
          Value first = index(16 * part);
          bool diagonal = op.getMask(i, j) == "diagonal";
          bool after = op.getRowPosition(i) == Position::After;
          bool before = op.getColPosition(j) == Position::Before;
          SmallVector<Value> sums(diagonal ? 5 : 4, constant(0.0, square()));
          auto loop =
              scf::ForOp::create(b, index(0), index(channels), index(16), sums);
          {
            OpBuilder::InsertionGuard guard(b);
            b.setInsertionPointToStart(loop.getBody());
            tileMemo.clear();
            for (auto &memo : vectorMemo)
              memo.clear();
            TileAt at{first, loop.getInductionVar()};
            Value w = maskColumns(evalMatrix(op.getDecay(), at), op.getDecay(),
                                  at.col, 1.0);
            Value x = maskColumns(evalMatrix(op.getRows()[i], at),
                                  op.getRows()[i], at.col);
            Value y = maskColumns(evalMatrix(op.getCols()[j], at),
                                  op.getCols()[j], at.col);
            Value rows = after ? mulf(x, w) : x, cols = before ? mulf(y, w) : y;
            Levels levels = getLevels(w);
            SmallVector<Value> next(loop.getRegionIterArgs());
            for (int level = 0; level < 4; ++level)
              next[level] =
                  mma(toOperand(mulf(rows, levels.before[level])),
                      toOperand(mulf(cols, levels.behind[level])), next[level]);
            if (diagonal)
              next[4] = addf(next[4], mulf(after && before ? rows : x, y));
            scf::YieldOp::create(b, next);
          }
          Value result = constant(0.0, square());
          for (int level = 0; level < 4; ++level)
            result = select(getLevelMask(level, false), loop.getResult(level),
                            result);
          if (diagonal) {
            Value sum =
                warp::SumOp::create(b, along(Axis::Rows), loop.getResult(4));
            result = select(
                compare(arith::CmpIPredicate::eq, rowNumbers(), colNumbers()),
                expand(sum), result);
          }
          storeTile(result, gram, {first, first});
        });
      if (isLong())
        storeZeros(gram);
    }
  for (int64_t row = 1; row < getBlocks(); ++row)
    for (int64_t col = 0; col < row; ++col)
      emitGramBetween(op, row, col);
}

Value TiledKernel::sumInBlock(Value x, int level, bool behind) {
  auto type = cast<RankedTensorType>(x.getType());
  Value side = constant(0.0, type), all = x;
  for (int l = 0; l < level; ++l) {
    int64_t distance = int64_t(1) << l;
    Value other = shuffle(all, distance), has = rowHas(distance, type);
    Value joined = addf(side, other);
    side = behind ? select(has, side, joined) : select(has, joined, side);
    if (l + 1 < level)
      all = addf(all, other);
  }
  return side;
}

void TiledKernel::emitGramAdjoint(DecayGramAdjointOp op) {
  unsigned rows = op.getRows().size(), cols = op.getCols().size();
  int64_t channels =
      cast<RankedTensorType>(op.getDecay().getType()).getDimSize(1);
  forTiles(16, channels, [&](TileAt strip) {
    SmallVector<Value> decays(getBlocks());
    for (int64_t part = 0; part < getBlocks(); ++part) {
      TileAt at{index(16 * part), strip.col};
      if (part > 0)
        forgetTiles();
      auto masked = [&](Value value, double fill) {
        return maskColumns(evalMatrix(value, at), value, at.col, fill);
      };
      Value w = masked(op.getDecay(), 1.0);
      Levels levels = getLevels(w);
      SmallVector<Value> x, y, rowFactor(rows), colFactor(cols);
      for (unsigned i = 0; i < rows; ++i) {
        x.push_back(masked(op.getRows()[i], 0.0));
        if (op.getRowPosition(i) == Position::After)
          rowFactor[i] = w;
      }
      for (unsigned j = 0; j < cols; ++j) {
        y.push_back(masked(op.getCols()[j], 0.0));
        if (op.getColPosition(j) == Position::Before)
          colFactor[j] = w;
      }
      Value zero = constant(0.0, square());
      SmallVector<Value> dx(rows, zero), dy(cols, zero);
      Value dw = zero;

      for (int level = 0; level < 4; ++level) {
        SmallVector<Value> scaledX, scaledY, factorX, factorY;
        for (unsigned i = 0; i < rows; ++i) {
          factorX.push_back(mulf(levels.before[level], rowFactor[i]));
          scaledX.push_back(mulf(x[i], factorX[i]));
        }
        for (unsigned j = 0; j < cols; ++j) {
          factorY.push_back(mulf(levels.behind[level], colFactor[j]));
          scaledY.push_back(mulf(y[j], factorY[j]));
        }
        // The products sum over tokens, which are rows: by way of memory.
        auto turn = [&](ArrayRef<Value> tiles) {
          SmallVector<Value> turned;
          for (auto [number, tile] : llvm::enumerate(tiles))
            store(tile, scratch, {warpId, index(number), index(0), index(0)});
          for (size_t number = 0; number < tiles.size(); ++number)
            turned.push_back(toOperand(
                load(scratch, {warpId, index(number), index(0), index(0)},
                     square(), /*transpose=*/true)));
          return turned;
        };
        SmallVector<Value> gx(rows), gy(cols);
        auto addProducts = [&](bool toRows, ArrayRef<Value> turned) {
          for (unsigned i = 0; i < rows; ++i)
            for (unsigned j = 0; j < cols; ++j) {
              Value cotangent = op.getCotangent(i, j);
              if (!cotangent)
                continue;
              Value array = arrays.find(cotangent)->second.array;
              Value h = select(getLevelMask(level, /*turned=*/!toRows),
                               extend(load(array, {at.row, at.row}, square(),
                                           /*transpose=*/!toRows)),
                               zero);
              Value &sum = toRows ? gx[i] : gy[j];
              sum = mma(toOperand(h), turned[toRows ? j : i], sum ? sum : zero);
            }
        };
        addProducts(/*toRows=*/true, turn(scaledY));
        addProducts(/*toRows=*/false, turn(scaledX));
        // A row's pairs span the tokens before it in its half, a column's those
        // behind it. The cotangent of a decay that is no exponential has the
        // products without the token's own factor: those on both sides of it.
        const bool log = op.getLog();
        Value spanning[2], own;
        for (unsigned i = 0; i < rows; ++i) {
          if (!gx[i])
            continue;
          dx[i] = addf(dx[i], mulf(gx[i], factorX[i]));
          bool after = op.getRowPosition(i) == Position::After;
          Value term = log     ? mulf(scaledX[i], gx[i])
                       : after ? mulf(mulf(x[i], w), gx[i])
                               : mulf(x[i], gx[i]);
          spanning[1] = addf(spanning[1], term);
          if (after)
            own =
                addf(own, log ? term
                              : mulf(mulf(x[i], gx[i]), levels.before[level]));
        }
        for (unsigned j = 0; j < cols; ++j) {
          if (!gy[j])
            continue;
          dy[j] = addf(dy[j], mulf(gy[j], factorY[j]));
          bool before = op.getColPosition(j) == Position::Before;
          Value term = log      ? mulf(scaledY[j], gy[j])
                       : before ? mulf(mulf(y[j], w), gy[j])
                                : mulf(y[j], gy[j]);
          spanning[0] = addf(spanning[0], term);
          if (before)
            own =
                addf(own, log ? term
                              : mulf(mulf(y[j], gy[j]), levels.behind[level]));
        }
        dw = addf(dw, own);
        for (bool behind : {false, true}) {
          if (!spanning[behind] || level == 0)
            continue;
          Value sum =
              log ? sumInBlock(spanning[behind], level, behind)
                  : mulf(scanInBlock(b, spanning[behind], w, level, behind,
                                     [&](int64_t bit, RankedTensorType like) {
                                       return rowHas(bit, like);
                                     }),
                         behind ? levels.before[level] : levels.behind[level]);
          dw = addf(dw, sum);
        }
      }

      for (unsigned i = 0; i < rows; ++i)
        for (unsigned j = 0; j < cols; ++j) {
          if (op.getMask(i, j) != "diagonal")
            continue;
          Value h = select(
              compare(arith::CmpIPredicate::eq, rowNumbers(), colNumbers()),
              evalMatrix(op.getCotangent(i, j), {at.row, at.row}), zero);
          Value diagonal = expand(warp::SumOp::create(b, along(Axis::Rows), h));
          bool own = rowFactor[i] && colFactor[j];
          Value factor = own ? mulf(diagonal, w) : diagonal;
          dx[i] = addf(dx[i], mulf(factor, y[j]));
          dy[j] = addf(dy[j], mulf(factor, x[i]));
          if (own)
            dw = addf(dw,
                      mulf(op.getLog() ? factor : diagonal, mulf(x[i], y[j])));
        }
      addAdjointBetween(op, part, /*isRow=*/true, at.col, dx, decays);
      addAdjointBetween(op, part, /*isRow=*/false, at.col, dy, decays);
      for (unsigned i = 0; i < rows; ++i)
        storeTile(dx[i], op.getRowGradient(i), at);
      for (unsigned j = 0; j < cols; ++j)
        storeTile(dy[j], op.getColGradient(j), at);
      decays[part] = addf(decays[part], dw);
    }
    for (int64_t part = 0; part < getBlocks(); ++part)
      storeTile(decays[part], op.getDecayGradient(),
                {index(16 * part), strip.col});
  });
}
