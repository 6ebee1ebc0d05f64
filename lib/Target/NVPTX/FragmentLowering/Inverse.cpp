//===- Inverse.cpp - (I - A)^-1 by forward substitution -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One column of the inverse T a lane:
//
//   T_u = e_u + sum over w < u of A_uw T_w,      u = (token, step)
//
// Row u = (t, j) of A and of T is row t of matrix j, and column w = (s, l) is
// its column 16 l + s: lanes side by side have columns side by side.
//
// Systems of up to 32 unknowns are unrolled with the column in registers, rows
// of A are broadcast from shared memory. Larger ones run in loops, and row u of
// T takes the place of row u of A, which nobody needs afterwards.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::warp;

/// `matrix` is the address of its first element.
Value FragmentLowering::getElementAddress(SharedType type, Value matrix,
                                          Value row, Value colBytes) {
  Value column = colBytes;
  if (Value swizzle = getSwizzle(type, row))
    column = bitXor(column, swizzle);
  return add(add(matrix, mul(row, type.getRowBytes())), column);
}

void FragmentLowering::lowerInverse(InverseOp op) {
  auto addressOf = [&](Value array, ValueRange indices) {
    TilePosition position = getPosition(cast<SharedType>(array.getType()),
                                        getOffset(array), indices);
    return add(position.base, position.constant);
  };
  Value source = addressOf(op.getSource(), op.getSourceIndices());
  Value target = addressOf(op.getTarget(), op.getTargetIndices());
  // Other lanes of the warp wrote the source.
  NVVM::SyncWarpOp::create(b, i32(-1));
  if (op.getSteps() <= 2)
    invertInRegisters(op, source, target);
  else
    invertInPlace(op, source, target);
}

/// Lane 16 l + s holds the column of token s and step l; with one step the
/// upper half of the warp has the columns of the lower, and shares the stores.
void FragmentLowering::invertInRegisters(InverseOp op, Value source,
                                         Value target) {
  auto from = cast<SharedType>(op.getSource().getType());
  auto to = cast<SharedType>(op.getTarget().getType());
  int64_t steps = op.getSteps(), count = 16 * steps;
  int64_t fromMatrix = 16 * from.getRowBytes(),
          toMatrix = 16 * to.getRowBytes();
  int64_t bytes = to.getElementBytes(), toRow = to.getRowBytes();
  bool wideRows = from.getRowBytes() % 16 == 0;
  auto swizzleOf = [](SharedType type, int64_t row) {
    return 16 * type.getSwizzledSegment(0, row);
  };
  // Not to be seen through: what follows from it, a number an unknown, would
  // be computed outside of loops and fill the registers.
  Value lane = LLVM::InlineAsmOp::create(
                   b, TypeRange{i32Type}, ValueRange{getLane()},
                   "mov.b32 $0, $1;", "=r,r", /*has_side_effects=*/true,
                   /*is_align_stack=*/false, LLVM::TailCallKind::None,
                   LLVM::AsmDialectAttr(), ArrayAttr())
                   .getResult(0);
  Value token = bitAnd(lane, 15), half = shiftRight(lane, 4);
  Value one = arith::ConstantOp::create(b, b.getF32FloatAttr(1));
  Value none = arith::ConstantOp::create(b, b.getF32FloatAttr(0));

  Registers x;
  for (int64_t u = 0; u < count; ++u) {
    int64_t t = u / steps, j = u % steps;
    Value unit = compare(arith::CmpIPredicate::eq, steps == 1 ? token : lane,
                         i32(16 * j + t));
    Value sums[2] = {select(unit, one, none), none};
    // Four columns of each block a load, of blocks side by side in turn.
    for (int64_t first = 0; first <= t; first += 4) {
      SmallVector<Registers> parts;
      for (int64_t l = 0; l < steps; ++l) {
        Registers part;
        int64_t needed = std::min<int64_t>(4, t - first + (l < j ? 1 : 0));
        if (needed > 0) {
          int64_t place = j * fromMatrix + t * from.getRowBytes() +
                          (((16 * l + first) * 4) ^ swizzleOf(from, t));
          if (wideRows) {
            Value row = loadShared(add(source, place),
                                   VectorType::get({4}, f32Type), 16);
            for (int64_t e = 0; e < needed; ++e)
              part.push_back(LLVM::ExtractElementOp::create(b, row, i32(e)));
          } else {
            for (int64_t e = 0; e < needed; ++e)
              part.push_back(
                  loadShared(add(source, place + 4 * e), f32Type, 4));
          }
        }
        parts.push_back(part);
      }
      for (int64_t e = 0; e < 4; ++e)
        for (int64_t l = 0; l < steps; ++l)
          if (e < int64_t(parts[l].size())) {
            int64_t w = (first + e) * steps + l;
            sums[w % 2] =
                LLVM::FMAOp::create(b, parts[l][e], x[w], sums[w % 2]);
          }
    }
    // Until then there is no term of an odd unknown.
    x.push_back(u < 2 ? sums[0]
                      : Value(arith::AddFOp::create(b, sums[0], sums[1])));
  }

  Value odd = compare(arith::CmpIPredicate::ne, bitAnd(lane, 1), i32(0));
  Value upper = compare(arith::CmpIPredicate::ne, half, i32(0));
  // The address of this lane's column in row t of matrix j.
  auto addressOf = [&](Value mine, Value column, int64_t t, int64_t j) {
    return add(add(mine, bitXor(column, i32(swizzleOf(to, t)))),
               j * toMatrix + t * toRow);
  };
  if (bytes == 4) {
    Value column = shiftLeft(steps == 1 ? token : lane, 2);
    if (steps == 1) {
      Value mine = add(target, mul(half, toRow));
      for (int64_t t = 0; t < 16; t += 2)
        storeShared(addressOf(mine, column, t, 0),
                    select(upper, x[t + 1], x[t]));
      return;
    }
    for (int64_t u = 0; u < count; ++u)
      storeShared(addressOf(target, column, u / steps, u % steps), x[u]);
    return;
  }

  // 16 bits: lanes pair up so that each store has two columns.
  Type element = to.getElementType();
  Value column = shiftLeft(bitAnd(steps == 1 ? token : lane, 30), 1);
  if (steps == 1) {
    Value mine = add(target, mul(half, toRow));
    Value even = compare(arith::CmpIPredicate::eq, bitAnd(lane, 1), i32(0));
    Registers words;
    for (int64_t t = 0; t < 16; t += 2) {
      Value own = select(upper, x[t + 1], x[t]);
      words.push_back(pack(own, shuffleXor(own, 1), element));
    }
    whenTrue(even, [&] {
      for (int64_t t = 0; t < 16; t += 2)
        storeShared(addressOf(mine, column, t, 0), words[t / 2]);
    });
    return;
  }
  // Even lanes write a token's row, odd lanes the next one's, which is swizzled
  // in the same way: together all banks.
  Value mine = add(target, mul(bitAnd(lane, 1), toRow));
  for (int64_t j = 0; j < steps; ++j)
    for (int64_t t = 0; t < 16; t += 2) {
      Value first = x[steps * t + j], second = x[steps * (t + 1) + j];
      Value other = shuffleXor(select(odd, first, second), 1);
      storeShared(
          addressOf(mine, column, t, j),
          pack(select(odd, other, first), select(odd, second, other), element));
    }
}

/// Lanes hold columns 32 g + lane = 16 l + s for g = 0, 1, ...
void FragmentLowering::invertInPlace(InverseOp op, Value source, Value target) {
  auto from = cast<SharedType>(op.getSource().getType());
  auto to = cast<SharedType>(op.getTarget().getType());
  int64_t steps = op.getSteps(), groups = (steps + 1) / 2;
  int64_t fromMatrix = 16 * from.getRowBytes(),
          toMatrix = 16 * to.getRowBytes();
  Value token = bitAnd(getLane(), 15), half = shiftRight(getLane(), 4);
  Value fromColumn = shiftLeft(token, 2);
  Value toColumn = mul(token, to.getElementBytes());
  Value none = arith::ConstantOp::create(b, b.getF32FloatAttr(0));
  Value one = arith::ConstantOp::create(b, b.getF32FloatAttr(1));
  // Step of this lane's column in group g, and whether there is one: an odd
  // number of steps leaves half of the last group.
  Registers step, exists;
  for (int64_t g = 0; g < groups; ++g) {
    Value own = add(half, 2 * g);
    bool all = 2 * g + 1 < steps;
    Value there =
        all ? Value() : compare(arith::CmpIPredicate::slt, own, i32(steps));
    exists.push_back(there);
    step.push_back(all ? own : select(there, own, i32(steps - 1)));
  }
  auto columnOf = [&](int64_t g, Value column, int64_t bytes) {
    return add(mul(step[g], 16 * bytes), column);
  };
  // acc += A[t j, s l] T[s l, columns]
  auto accumulate = [&](Value t, Value j, Value s, Value l, ValueRange acc) {
    Value a =
        loadShared(getElementAddress(from, add(source, mul(j, fromMatrix)), t,
                                     shiftLeft(add(mul(l, 16), s), 2)),
                   f32Type, 4);
    Value matrix = add(source, mul(l, fromMatrix));
    Registers next;
    for (int64_t g = 0; g < groups; ++g) {
      Value value = loadShared(
          getElementAddress(from, matrix, s, columnOf(g, fromColumn, 4)),
          f32Type, 4);
      next.push_back(LLVM::FMAOp::create(b, a, value, acc[g]));
    }
    return next;
  };
  auto loopOver = [&](Value end, ValueRange inits,
                      function_ref<Registers(Value, ValueRange)> body) {
    auto loop = scf::ForOp::create(b, i32(0), end, i32(1), inits);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Registers results = body(loop.getInductionVar(), loop.getRegionIterArgs());
    if (!inits.empty()) {
      b.setInsertionPointToEnd(loop.getBody());
      scf::YieldOp::create(b, results);
    }
    return Registers(loop.getResults());
  };
  loopOver(i32(16), {}, [&](Value t, ValueRange) {
    loopOver(i32(steps), {}, [&](Value j, ValueRange) {
      Registers acc(groups, none);
      acc = loopOver(t, acc, [&](Value s, ValueRange values) {
        Registers now(values);
        for (int64_t l = 0; l < steps; ++l)
          now = accumulate(t, j, s, i32(l), now);
        return now;
      });
      acc = loopOver(j, acc, [&](Value l, ValueRange values) {
        return accumulate(t, j, t, l, values);
      });
      // All lanes have read the row of A before it is overwritten.
      NVVM::SyncWarpOp::create(b, i32(-1));
      Value here = compare(arith::CmpIPredicate::eq, token, t);
      for (int64_t g = 0; g < groups; ++g) {
        Value unit = b.createOrFold<arith::AndIOp>(
            here, compare(arith::CmpIPredicate::eq, step[g], j));
        Value value = arith::AddFOp::create(b, acc[g], select(unit, one, none));
        whenTrue(exists[g], [&] {
          storeShared(getElementAddress(from, add(source, mul(j, fromMatrix)),
                                        t, columnOf(g, fromColumn, 4)),
                      value);
          Value narrow = value;
          if (to.getElementBytes() == 2)
            narrow = arith::TruncFOp::create(b, to.getElementType(), value);
          storeShared(
              getElementAddress(to, add(target, mul(j, toMatrix)), t,
                                columnOf(g, toColumn, to.getElementBytes())),
              narrow);
        });
      }
      NVVM::SyncWarpOp::create(b, i32(-1));
      return Registers();
    });
    return Registers();
  });
}
