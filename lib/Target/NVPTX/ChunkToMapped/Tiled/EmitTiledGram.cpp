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
  Value different = arith::XOrIOp::create(*builder, row, col);
  Value high =
      arith::ShRUIOp::create(*builder, different, integers(level, type));
  Value here = compare(arith::CmpIPredicate::eq, high, integers(1, type));
  Value below = compare(arith::CmpIPredicate::slt, col, row);
  return arith::AndIOp::create(*builder, here, below);
}

void TiledKernel::emitGram(DecayGramOp op) {
  int64_t channels = getPaddedChannels(
      cast<RankedTensorType>(op.getDecay().getType()).getDimSize(1));
  for (unsigned a = 0; a < op.getRows().size(); ++a)
    for (unsigned b = 0; b < op.getCols().size(); ++b) {
      Value gram = op.getGram(a, b);
      if (!gram || gram.use_empty())
        continue;
      for (int64_t part = 0; part < getBlocks(); ++part)
        inOneWarp([&] {
          Value first = index(16 * part);
          bool diagonal = op.getMask(a, b) == "diagonal";
          bool after = op.getRowPosition(a) == Position::After;
          bool before = op.getColPosition(b) == Position::Before;
          SmallVector<Value> sums(diagonal ? 5 : 4, constant(0.0, fragment()));
          auto loop = scf::ForOp::create(*builder, index(0), index(channels),
                                         index(16), sums);
          {
            OpBuilder::InsertionGuard guard(*builder);
            builder->setInsertionPointToStart(loop.getBody());
            tileMemo.clear();
            for (auto &memo : vectorMemo)
              memo.clear();
            TileAt at{first, loop.getInductionVar()};
            Value w = maskColumns(evalMatrix(op.getDecay(), at), op.getDecay(),
                                  at.col, 1.0);
            Value x = maskColumns(evalMatrix(op.getRows()[a], at),
                                  op.getRows()[a], at.col);
            Value y = maskColumns(evalMatrix(op.getCols()[b], at),
                                  op.getCols()[b], at.col);
            Value rows = after ? mulf(x, w) : x, cols = before ? mulf(y, w) : y;
            Levels levels = getLevels(w);
            SmallVector<Value> next(loop.getRegionIterArgs());
            for (int level = 0; level < 4; ++level)
              next[level] =
                  mma(toOperand(mulf(rows, levels.before[level])),
                      toOperand(mulf(cols, levels.behind[level])), next[level]);
            if (diagonal)
              next[4] = addf(next[4], mulf(after && before ? rows : x, y));
            scf::YieldOp::create(*builder, next);
          }
          Value result = constant(0.0, fragment());
          for (int level = 0; level < 4; ++level)
            result = select(getLevelMask(level, false), loop.getResult(level),
                            result);
          if (diagonal) {
            Value sum = warp::SumOp::create(*builder, along(Axis::Rows),
                                            loop.getResult(4));
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
      for (unsigned a = 0; a < rows; ++a) {
        x.push_back(masked(op.getRows()[a], 0.0));
        if (op.getRowPosition(a) == Position::After)
          rowFactor[a] = w;
      }
      for (unsigned b = 0; b < cols; ++b) {
        y.push_back(masked(op.getCols()[b], 0.0));
        if (op.getColPosition(b) == Position::Before)
          colFactor[b] = w;
      }
      Value zero = constant(0.0, fragment());
      SmallVector<Value> dx(rows, zero), dy(cols, zero);
      Value dw = zero;

      for (int level = 0; level < 4; ++level) {
        SmallVector<Value> scaledX, scaledY, factorX, factorY;
        for (unsigned a = 0; a < rows; ++a) {
          factorX.push_back(mulf(levels.before[level], rowFactor[a]));
          scaledX.push_back(mulf(x[a], factorX[a]));
        }
        for (unsigned b = 0; b < cols; ++b) {
          factorY.push_back(mulf(levels.behind[level], colFactor[b]));
          scaledY.push_back(mulf(y[b], factorY[b]));
        }
        // The products sum over tokens, which are rows: by way of memory.
        auto turn = [&](ArrayRef<Value> tiles) {
          SmallVector<Value> turned;
          for (auto [number, tile] : llvm::enumerate(tiles))
            store(tile, scratch, {warpId, index(number), index(0), index(0)});
          for (size_t number = 0; number < tiles.size(); ++number)
            turned.push_back(toOperand(
                load(scratch, {warpId, index(number), index(0), index(0)},
                     fragment(), /*transpose=*/true)));
          return turned;
        };
        SmallVector<Value> gx(rows), gy(cols);
        auto addProducts = [&](bool toRows, ArrayRef<Value> turned) {
          for (unsigned a = 0; a < rows; ++a)
            for (unsigned b = 0; b < cols; ++b) {
              Value cotangent = op.getCotangent(a, b);
              if (!cotangent)
                continue;
              Value array = arrays.find(cotangent)->second.array;
              Value h = select(getLevelMask(level, /*turned=*/!toRows),
                               extend(load(array, {at.row, at.row}, fragment(),
                                           /*transpose=*/!toRows)),
                               zero);
              Value &sum = toRows ? gx[a] : gy[b];
              sum = mma(toOperand(h), turned[toRows ? b : a], sum ? sum : zero);
            }
        };
        addProducts(/*toRows=*/true, turn(scaledY));
        addProducts(/*toRows=*/false, turn(scaledX));
        // A row's pairs span the tokens before it in its half, a column's those
        // behind it. The cotangent of a decay that is no exponential has the
        // products without the token's own factor: those on both sides of it.
        const bool log = op.getLog();
        Value spanning[2], own;
        for (unsigned a = 0; a < rows; ++a) {
          if (!gx[a])
            continue;
          dx[a] = addf(dx[a], mulf(gx[a], factorX[a]));
          bool after = op.getRowPosition(a) == Position::After;
          Value term = log     ? mulf(scaledX[a], gx[a])
                       : after ? mulf(mulf(x[a], w), gx[a])
                               : mulf(x[a], gx[a]);
          spanning[1] = addf(spanning[1], term);
          if (after)
            own =
                addf(own, log ? term
                              : mulf(mulf(x[a], gx[a]), levels.before[level]));
        }
        for (unsigned b = 0; b < cols; ++b) {
          if (!gy[b])
            continue;
          dy[b] = addf(dy[b], mulf(gy[b], factorY[b]));
          bool before = op.getColPosition(b) == Position::Before;
          Value term = log      ? mulf(scaledY[b], gy[b])
                       : before ? mulf(mulf(y[b], w), gy[b])
                                : mulf(y[b], gy[b]);
          spanning[0] = addf(spanning[0], term);
          if (before)
            own =
                addf(own, log ? term
                              : mulf(mulf(y[b], gy[b]), levels.behind[level]));
        }
        dw = addf(dw, own);
        for (bool behind : {false, true}) {
          if (!spanning[behind] || level == 0)
            continue;
          Value sum =
              log ? sumInBlock(spanning[behind], level, behind)
                  : mulf(scanInBlock(*builder, spanning[behind], w, level,
                                     behind,
                                     [&](int64_t bit, RankedTensorType like) {
                                       return rowHas(bit, like);
                                     }),
                         behind ? levels.before[level] : levels.behind[level]);
          dw = addf(dw, sum);
        }
      }

      for (unsigned a = 0; a < rows; ++a)
        for (unsigned b = 0; b < cols; ++b) {
          if (op.getMask(a, b) != "diagonal")
            continue;
          Value h = select(
              compare(arith::CmpIPredicate::eq, rowNumbers(), colNumbers()),
              evalMatrix(op.getCotangent(a, b), {at.row, at.row}), zero);
          Value diagonal =
              expand(warp::SumOp::create(*builder, along(Axis::Rows), h));
          bool own = rowFactor[a] && colFactor[b];
          Value factor = own ? mulf(diagonal, w) : diagonal;
          dx[a] = addf(dx[a], mulf(factor, y[b]));
          dy[b] = addf(dy[b], mulf(factor, x[a]));
          if (own)
            dw = addf(dw,
                      mulf(op.getLog() ? factor : diagonal, mulf(x[a], y[b])));
        }
      addAdjointBetween(op, part, /*isRow=*/true, at.col, dx, decays);
      addAdjointBetween(op, part, /*isRow=*/false, at.col, dy, decays);
      for (unsigned a = 0; a < rows; ++a)
        storeTile(dx[a], op.getRowGradient(a), at);
      for (unsigned b = 0; b < cols; ++b)
        storeTile(dy[b], op.getColGradient(b), at);
      decays[part] = addf(decays[part], dw);
    }
    for (int64_t part = 0; part < getBlocks(); ++part)
      storeTile(decays[part], op.getDecayGradient(),
                {index(16 * part), strip.col});
  });
}
