//===- Columns.cpp - Columns moving between lanes, sums -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A lane holds columns 2 c and 2 c + 1 of every 8x8 block, so columns at
// distance 1 and 8 meet in one lane, those at 2 and 4 in lanes c ^ 1 and c ^ 2.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::warp;

void FragmentLowering::lowerSum(SumOp op) {
  auto type = cast<RankedTensorType>(op.getInput().getType());
  ArrayRef<Value> input = get(op.getInput());
  int64_t perRow = type.getDimSize(1) / 4, rowBlocks = type.getDimSize(0) / 8;
  bool ofRows = getAlongAxis(op.getType()) == Axis::Rows;
  Registers results;
  auto sumOf = [&](int64_t first, int64_t stride, int64_t count,
                   ArrayRef<int64_t> masks) {
    Value total = input[first];
    for (int64_t j = 1; j < count; ++j)
      total = arith::AddFOp::create(b, total, input[first + j * stride]);
    for (int64_t mask : masks)
      total = arith::AddFOp::create(b, total, shuffleXor(total, mask));
    results.push_back(total);
  };
  if (ofRows)
    for (int64_t i = 0; i < rowBlocks; ++i)
      sumOf(i * perRow, 1, perRow, {1, 2});
  else
    for (int64_t j = 0; j < perRow; ++j)
      sumOf(j, perRow, rowBlocks, {4, 8, 16});
  define(op, results);
}

Value FragmentLowering::holdsRightCols(int64_t distance) {
  return atEntry({4, distance, 0, 0, 0}, [&] {
    return compare(arith::CmpIPredicate::ne, bitAnd(getC(), distance / 2),
                   i32(0));
  });
}

void FragmentLowering::lowerShuffleCols(ShuffleColsOp op) {
  ArrayRef<Value> input = get(op.getInput());
  int64_t distance = op.getDistance();
  Registers results;
  for (size_t i = 0; i < input.size(); ++i) {
    if (distance == 1)
      results.push_back(input[i ^ 1]);
    else if (distance < 8)
      results.push_back(shuffleXor(input[i], distance / 2));
    else // Pairs of a block stand together, blocks of a row one after another.
      results.push_back(input[i ^ (distance / 4)]);
  }
  define(op, results);
}

/// The slots of split_rows, for columns: lanes with right columns keep those of
/// the first block and give those of the second away.
void FragmentLowering::lowerSplitCols(SplitColsOp op) {
  ArrayRef<Value> input = get(op.getInput());
  bool packed = isPacked(op.getInput().getType());
  Type element = getElementTypeOrSelf(op.getInput().getType());
  int64_t distance = op.getDistance(), perBlock = packed ? 1 : 2;
  Registers right, left;
  for (size_t row = 0; row < input.size(); row += 2 * perBlock) {
    ArrayRef<Value> first = input.slice(row, perBlock),
                    second = input.slice(row + perBlock, perBlock);
    if (distance == 8) {
      right.append(second.begin(), second.end());
      left.append(first.begin(), first.end());
    } else if (distance == 1 && packed) {
      auto [low0, high0] = unpackBits(first[0], element);
      auto [low1, high1] = unpackBits(second[0], element);
      right.push_back(packBits(high1, high0));
      left.push_back(packBits(low0, low1));
    } else if (distance == 1) {
      right.append({second[1], first[1]});
      left.append({first[0], second[0]});
    } else {
      Value isRight = holdsRightCols(distance);
      for (int64_t e = 0; e < perBlock; ++e) {
        Value own = first[e], other = shuffleXor(second[e], distance / 2);
        right.push_back(select(isRight, own, other));
        left.push_back(select(isRight, other, own));
      }
    }
  }
  define(op.getRight(), right);
  define(op.getLeft(), left);
}

void FragmentLowering::lowerMergeCols(MergeColsOp op) {
  ArrayRef<Value> right = get(op.getRight()), left = get(op.getLeft());
  int64_t distance = op.getDistance();
  Registers results;
  for (size_t row = 0; row < right.size(); row += 2) {
    if (distance == 8) {
      results.append({left[row], left[row + 1], right[row], right[row + 1]});
    } else if (distance == 1) {
      results.append({left[row], right[row + 1], left[row + 1], right[row]});
    } else {
      Value isRight = holdsRightCols(distance);
      Registers second;
      for (int64_t e : {0, 1}) {
        Value r = right[row + e], l = left[row + e];
        results.push_back(select(isRight, r, l));
        second.push_back(shuffleXor(select(isRight, l, r), distance / 2));
      }
      llvm::append_range(results, second);
    }
  }
  define(op, results);
}

/// Element (i, j) of blocks on the diagonal: rows r (r + 8) and columns 2 c + e
/// (and 8 more). Both columns have the same level but where r / 2 = c, and then
/// only (2 c + 1, 2 c) is a pair.
void FragmentLowering::lowerStorePairs(StorePairsOp op) {
  auto type = cast<SharedType>(op.getArray().getType());
  Type element = type.getElementType();
  int64_t bytes = type.getElementBytes();
  TilePosition position =
      getPosition(type, getOffset(op.getArray()), op.getIndices());
  ArrayRef<Value> values = get(op.getValue());
  const bool transposed = op.getTranspose();
  Registers elements(values);
  if (bytes == 2)
    for (size_t index = 0; index < values.size(); index += 2)
      std::tie(elements[index], elements[index + 1]) =
          unpackBits(pack(values[index], values[index + 1], element), element);
  // One element, or two side by side.
  auto put = [&](Value level, Value row, Value col, Value condition,
                 size_t first, int64_t count) {
    LaneOffset lanes;
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPoint(own.first);
      if (transposed)
        std::swap(row, col);
      lanes =
          getLaneOffset(type, add(mul(level, 16), row), mul(col, bytes), 32);
    }
    auto body = [&] {
      Value address = getAddress(type, lanes, position, 0, 0);
      if (count == 1)
        storeShared(address, elements[first]);
      else if (bytes == 4)
        storeShared(address, values.slice(first, 2));
      else
        storeShared(address, pack(values[first], values[first + 1], element));
    };
    if (!condition)
      return body();
    auto branch = scf::IfOp::create(b, condition, /*withElseRegion=*/false);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(branch.thenBlock()->getTerminator());
    body();
  };
  // Values by block: rows below 8 with columns below 8, ...
  constexpr size_t upper = 0, cross = 4, lower = 6;
  Value r, low, even, odd, even8, odd8, level, both, single, first,
      levelOfFirst;
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(own.first);
    r = getR();
    low = add(r, 8);
    even = shiftLeft(getC(), 1);
    odd = add(even, 1);
    even8 = add(even, 8);
    odd8 = add(odd, 8);
    Value different = bitXor(shiftRight(r, 1), getC()); // without bit 0
    level = select(compare(arith::CmpIPredicate::uge, different, i32(2)),
                   i32(2), i32(1));
    both = compare(arith::CmpIPredicate::ugt, shiftRight(r, 1), getC());
    single = compare(arith::CmpIPredicate::eq, r, odd);
    first = compare(arith::CmpIPredicate::ugt, r, even);
    levelOfFirst = select(single, i32(0), level);
  }
  if (transposed) {
    put(i32(3), low, even, Value(), cross, 1);
    put(i32(3), low, odd, Value(), cross + 1, 1);
    put(levelOfFirst, r, even, first, upper, 1);
    put(level, r, odd, both, upper + 1, 1);
    put(levelOfFirst, low, even8, first, lower, 1);
    put(level, low, odd8, both, lower + 1, 1);
    return;
  }
  put(i32(3), low, even, Value(), cross, 2);
  put(level, r, even, both, upper, 2);
  put(level, low, even8, both, lower, 2);
  put(i32(0), r, even, single, upper, 1);
  put(i32(0), low, even8, single, lower, 1);
}
