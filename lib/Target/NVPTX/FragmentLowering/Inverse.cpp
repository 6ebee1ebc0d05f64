//===- Inverse.cpp - (I - A)^-1 of a triangular system --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// By forward substitution, one column of the inverse T a lane:
//
//   T_u = e_u + sum over w < u of A_uw T_w,      u = (token, step)
//
// Where a token has one unknown, only of the two halves on the diagonal. What
// is below them are two products by matrix instructions:
//
//   (I - A)^-1 = [ T1         0  ]
//                [ T2 A21 T1  T2 ]
//
// Row u = (t, j) of A and of T is row t of matrix j, and column w = (s, l) is
// its column 16 l + s: lanes side by side have columns side by side.
//
// Systems of up to 32 unknowns are unrolled with the columns in registers, rows
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
  auto getPlace = [&](Value array, ValueRange indices) {
    return getPosition(cast<SharedType>(array.getType()), getOffset(array),
                       indices);
  };
  TilePosition source = getPlace(op.getSource(), op.getSourceIndices());
  TilePosition target = getPlace(op.getTarget(), op.getTargetIndices());
  // Other lanes of the warp wrote the source.
  NVVM::SyncWarpOp::create(b, i32(-1));
  if (op.getSteps() == 1)
    return invertByHalves(op, source, target);
  Value from = add(source.base, source.constant),
        to = add(target.base, target.constant);
  if (op.getSteps() == 2)
    invertInRegisters(op, from, to);
  else
    invertInPlace(op, from, to);
}

/// Not to be seen through: what follows from it, a number an unknown, would be
/// computed outside of loops and fill the registers.
Value FragmentLowering::getHiddenLane() {
  return LLVM::InlineAsmOp::create(
             b, TypeRange{i32Type}, ValueRange{getLane()}, "mov.b32 $0, $1;",
             "=r,r", /*has_side_effects=*/true, /*is_align_stack=*/false,
             LLVM::TailCallKind::None, LLVM::AsmDialectAttr(), ArrayAttr())
      .getResult(0);
}

/// lhs * rhs^T of 8 x 8 blocks of f32, of which a lane has two columns. A
/// number is the sum of two of tf32: the nearest one and what is left, whose
/// upper bits the instruction takes; less than 2^-22 is lost, as much as
/// without products of what is left. That of the left operand makes rows 8
/// to 15.
FragmentLowering::Pair FragmentLowering::multiplyBlocks(const Pair &lhs,
                                                        const Pair &rhs) {
  auto split = [&](Value value) {
    Value nearest = bitAnd(add(bitcast(value, i32Type), 0x1000), 0xffffe000);
    Value rest = arith::SubFOp::create(b, value, bitcast(nearest, f32Type));
    return std::pair(nearest, bitcast(rest, i32Type));
  };
  auto [a0, a0Rest] = split(lhs[0]);
  auto [a1, a1Rest] = split(lhs[1]);
  auto [b0, b0Rest] = split(rhs[0]);
  auto [b1, b1Rest] = split(rhs[1]);
  Value a[4] = {a0, a0Rest, a1, a1Rest};
  // Two sums: one instruction does not wait for the other.
  Registers sums(4, zero(f32Type)), rests = sums;
  multiply(sums, a, {b0, b1}, f32Type);
  multiply(rests, a, {b0Rest, b1Rest}, f32Type);
  auto sum = [&](int64_t e) -> Value {
    Value rest = arith::AddFOp::create(b, rests[e], sums[2 + e]);
    return arith::AddFOp::create(b, sums[e], rest);
  };
  return {sum(0), sum(1)};
}

/// The transpose of an 8 x 8 block of f32, by halves of its numbers.
FragmentLowering::Pair FragmentLowering::transposeWords(const Pair &block) {
  auto permute = [&](Value a, Value c, int64_t choice) -> Value {
    return NVVM::PermuteOp::create(b, i32Type, a, c, i32(choice),
                                   NVVM::PermuteMode::DEFAULT);
  };
  constexpr int64_t lower = 0x5410, upper = 0x7632;
  Value x = bitcast(block[0], i32Type), y = bitcast(block[1], i32Type);
  Value low = transposeBlock(permute(x, y, lower));
  Value high = transposeBlock(permute(x, y, upper));
  return {bitcast(permute(low, high, lower), f32Type),
          bitcast(permute(low, high, upper), f32Type)};
}

/// Lane 4 c + s has column c of T1 where s is even, of T2 where it is odd; then
/// rows 2 s and 2 s + 1 of both, which is the layout of T1^T and T2^T.
void FragmentLowering::invertByHalves(InverseOp op, const TilePosition &source,
                                      const TilePosition &target) {
  auto from = cast<SharedType>(op.getSource().getType());
  auto to = cast<SharedType>(op.getTarget().getType());
  int64_t fromRow = from.getRowBytes(), toRow = to.getRowBytes();
  int64_t bytes = to.getElementBytes();
  Value lane = getHiddenLane();
  Value r = shiftRight(lane, 2), c = bitAnd(lane, 3), odd = bitAnd(lane, 1);
  Value second = compare(arith::CmpIPredicate::ne, odd, i32(0));
  Value upper = compare(arith::CmpIPredicate::ne, bitAnd(lane, 2), i32(0));

  // Row t of T2's block is so many bytes behind that of T1's.
  std::map<int64_t, Value> starts;
  auto loadRow = [&](int64_t t, int64_t first, int64_t count) {
    auto offset = [&](int64_t row, int64_t column) {
      return row * fromRow +
             ((column * 4) ^ (16 * from.getSwizzledSegment(0, row)));
    };
    int64_t place = offset(t, first);
    int64_t distance = offset(8 + t, 8 + first) - place;
    Value &start = starts[distance];
    if (!start)
      start = add(source.base, mul(odd, distance));
    Value address = add(start, source.constant + place);
    Registers row;
    if (fromRow % 16 || count == 1) {
      for (int64_t e = 0; e < count; ++e)
        row.push_back(loadShared(add(address, 4 * e), f32Type, 4));
      return row;
    }
    int64_t width = count == 2 ? 2 : 4;
    Value loaded =
        loadShared(address, VectorType::get({width}, f32Type), 4 * width);
    for (int64_t e = 0; e < count; ++e)
      row.push_back(LLVM::ExtractElementOp::create(b, loaded, i32(e)));
    return row;
  };
  Value one = arith::ConstantOp::create(b, b.getF32FloatAttr(1));
  Value none = zero(f32Type);
  // Compared as (denormal) floating-point numbers, which takes one instruction.
  Value column = bitcast(r, f32Type);
  Registers x;
  for (int64_t t = 0; t < 8; ++t) {
    Value unit = arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, column,
                                       bitcast(i32(t), f32Type));
    Value sum = select(unit, one, none);
    for (int64_t first = 0; first < t; first += 4) {
      Registers row = loadRow(t, first, std::min<int64_t>(4, t - first));
      for (auto [e, factor] : llvm::enumerate(row))
        sum = LLVM::FMAOp::create(b, factor, x[first + e], sum);
    }
    x.push_back(sum);
  }

  // Lanes side by side exchange rows.
  Registers half;
  for (int64_t i = 0; i < 4; ++i)
    half.push_back(select(upper, x[4 + i], x[i]));
  Pair first, last;
  for (int64_t e : {0, 1}) {
    Value own = select(second, half[2 + e], half[e]);
    Value other = shuffleXor(select(second, half[e], half[2 + e]), 1);
    first[e] = select(second, other, own);
    last[e] = select(second, own, other);
  }
  last = transposeWords(last);

  // Addresses of columns 2 s and 2 s + 1; 8 rows below, swizzles are the same.
  auto addressOf = [&](SharedType type, const TilePosition &position,
                       int64_t row, int64_t column) {
    int64_t size = type.getElementBytes();
    Value mine = getElementAddress(type, i32(0), r,
                                   add(mul(c, 2 * size), column * size));
    return add(add(position.base, mine),
               position.constant + row * type.getRowBytes());
  };
  Pair below;
  Value corner = addressOf(from, source, 8, 0);
  if (fromRow % 8 == 0) {
    Value pair = loadShared(corner, VectorType::get({2}, f32Type), 8);
    for (int64_t e : {0, 1})
      below[e] = LLVM::ExtractElementOp::create(b, pair, i32(e));
  } else {
    for (int64_t e : {0, 1})
      below[e] = loadShared(add(corner, 4 * e), f32Type, 4);
  }
  // (A21 T1)^T, and from it T2 A21 T1.
  Pair left = multiplyBlocks(last, multiplyBlocks(first, below));

  auto put = [&](int64_t row, int64_t column, const Pair &block) {
    Value address = addressOf(to, target, row, column);
    if (bytes == 2) {
      storeShared(address, pack(block[0], block[1], to.getElementType()));
    } else if (toRow % 8 == 0) {
      storeShared(address, block);
    } else {
      for (int64_t e : {0, 1})
        storeShared(add(address, 4 * e), block[e]);
    }
  };
  if (bytes == 2)
    storeShared(addressOf(to, target, 0, 0),
                transposeBlock(pack(first[0], first[1], to.getElementType())));
  else
    put(0, 0, transposeWords(first));
  put(0, 8, {none, none});
  put(8, 8, last);
  put(8, 0, left);
}

/// Two steps: lane 16 l + s holds the column of token s and step l.
void FragmentLowering::invertInRegisters(InverseOp op, Value source,
                                         Value target) {
  auto from = cast<SharedType>(op.getSource().getType());
  auto to = cast<SharedType>(op.getTarget().getType());
  constexpr int64_t steps = 2, count = 16 * steps;
  int64_t fromMatrix = 16 * from.getRowBytes(),
          toMatrix = 16 * to.getRowBytes();
  int64_t bytes = to.getElementBytes(), toRow = to.getRowBytes();
  bool wideRows = from.getRowBytes() % 16 == 0;
  auto swizzleOf = [](SharedType type, int64_t row) {
    return 16 * type.getSwizzledSegment(0, row);
  };
  Value lane = getHiddenLane();
  Value one = arith::ConstantOp::create(b, b.getF32FloatAttr(1));
  Value none = arith::ConstantOp::create(b, b.getF32FloatAttr(0));

  Registers x;
  for (int64_t u = 0; u < count; ++u) {
    int64_t t = u / steps, j = u % steps;
    Value unit = compare(arith::CmpIPredicate::eq, lane, i32(16 * j + t));
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
  // The address of this lane's column in row t of matrix j.
  auto addressOf = [&](Value mine, Value column, int64_t t, int64_t j) {
    return add(add(mine, bitXor(column, i32(swizzleOf(to, t)))),
               j * toMatrix + t * toRow);
  };
  if (bytes == 4) {
    Value column = shiftLeft(lane, 2);
    for (int64_t u = 0; u < count; ++u)
      storeShared(addressOf(target, column, u / steps, u % steps), x[u]);
    return;
  }

  // 16 bits: lanes pair up so that each store has two columns.
  Type element = to.getElementType();
  Value column = shiftLeft(bitAnd(lane, 30), 1);
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
