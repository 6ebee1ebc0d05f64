//===- Layouts.cpp - Between layouts, and rows between lanes --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Most of these only rename registers; what has to move between lanes does it
// by shuffles.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::warp;

static RankedTensorType getTensor(Value value) {
  return cast<RankedTensorType>(value.getType());
}

LogicalResult FragmentLowering::lowerLayout(Operation *op) {
  Registers results;
  if (auto warpId = dyn_cast<WarpIdOp>(op)) {
    replaceScalar(warpId, getWarp());
    return success();
  }
  if (isa<WarpBarrierOp>(op)) {
    NVVM::SyncWarpOp::create(b, i32(-1));
    return success();
  }
  if (isa<AsyncCommitOp>(op)) {
    NVVM::CpAsyncCommitGroupOp::create(b);
    return success();
  }
  if (auto wait = dyn_cast<AsyncWaitOp>(op)) {
    NVVM::CpAsyncWaitGroupOp::create(b, wait.getPending());
    return success();
  }
  if (auto positions = dyn_cast<PositionsOp>(op)) {
    RankedTensorType type = getTensor(positions);
    bool rows = getAlongAxis(type) == Axis::Rows;
    Value first = rows ? getR() : shiftLeft(getC(), 1);
    for (int64_t block = 0; block < type.getDimSize(0) / 8; ++block)
      for (int64_t e = 0; e < (rows ? 1 : 2); ++e)
        results.push_back(add(first, 8 * block + e));
    define(positions, results);
    return success();
  }
  if (auto splat = dyn_cast<SplatOp>(op)) {
    Value value = splat.getInput();
    if (isPacked(splat.getType()))
      value = packBits(value, value);
    define(splat, Registers(getRegisterTypes(splat.getType()).size(), value));
    return success();
  }
  if (auto expand = dyn_cast<ExpandOp>(op)) {
    RankedTensorType type = getTensor(expand);
    bool rows = getAlongAxis(expand.getInput().getType()) == Axis::Rows;
    ArrayRef<Value> input = get(expand.getInput());
    int64_t rowBlocks = type.getDimSize(0) / 8,
            colBlocks = type.getDimSize(1) / 8;
    Registers packed;
    if (isPacked(type))
      for (int64_t block = 0; block < (rows ? rowBlocks : colBlocks); ++block)
        packed.push_back(
            rows ? packBits(input[block], input[block])
                 : packBits(input[2 * block], input[2 * block + 1]));
    for (int64_t i = 0; i < rowBlocks; ++i)
      for (int64_t j = 0; j < colBlocks; ++j) {
        if (isPacked(type))
          results.push_back(packed[rows ? i : j]);
        else if (rows)
          results.append({input[i], input[i]});
        else
          results.append({input[2 * j], input[2 * j + 1]});
      }
    define(expand, results);
    return success();
  }
  if (auto collapse = dyn_cast<CollapseOp>(op)) {
    RankedTensorType type = getTensor(collapse.getInput());
    bool rows = getAlongAxis(collapse.getType()) == Axis::Rows;
    ArrayRef<Value> input = get(collapse.getInput());
    int64_t rowBlocks = type.getDimSize(0) / 8,
            colBlocks = type.getDimSize(1) / 8;
    for (int64_t block = 0; block < (rows ? rowBlocks : colBlocks); ++block) {
      size_t at = rows ? block * colBlocks : block;
      if (isPacked(type)) {
        auto [low, high] = unpackBits(input[at], type.getElementType());
        results.push_back(low);
        if (!rows)
          results.push_back(high);
      } else {
        results.push_back(input[2 * at]);
        if (!rows)
          results.push_back(input[2 * at + 1]);
      }
    }
    define(collapse, results);
    return success();
  }
  if (auto convert = dyn_cast<ConvertOp>(op))
    return lowerConvert(convert), success();
  if (auto sum = dyn_cast<SumOp>(op))
    return lowerSum(sum), success();
  if (auto element = dyn_cast<ElementOp>(op)) {
    int64_t position = element.getPosition(), block = position / 8,
            place = position % 8;
    bool rows = getAlongAxis(element.getInput().getType()) == Axis::Rows;
    ArrayRef<Value> input = get(element.getInput());
    Value value = rows ? input[block] : input[2 * block + place % 2];
    replaceScalar(element,
                  shuffleFrom(value, i32(rows ? 4 * place : place / 2)));
    return success();
  }
  if (auto move = dyn_cast<ShuffleRowsOp>(op)) {
    ArrayRef<Value> input = get(move.getInput());
    int64_t distance = move.getDistance();
    size_t perBlock = input.size() / (getTensor(move).getDimSize(0) / 8);
    for (size_t i = 0; i < input.size(); ++i) {
      if (distance < 8) {
        results.push_back(shuffleXor(input[i], 4 * distance));
        continue;
      }
      size_t block = i / perBlock ^ (distance / 8);
      results.push_back(input[block * perBlock + i % perBlock]);
    }
    define(move, results);
    return success();
  }
  if (auto split = dyn_cast<SplitRowsOp>(op))
    return lowerSplitRows(split), success();
  if (auto move = dyn_cast<ShuffleColsOp>(op))
    return lowerShuffleCols(move), success();
  if (auto split = dyn_cast<SplitColsOp>(op))
    return lowerSplitCols(split), success();
  if (auto merge = dyn_cast<MergeColsOp>(op))
    return lowerMergeCols(merge), success();
  if (auto extract = dyn_cast<ExtractOp>(op)) {
    RankedTensorType from = getTensor(extract.getInput()),
                     to = getTensor(extract);
    ArrayRef<Value> input = get(extract.getInput());
    // Registers of an 8x8 block, or of 8 elements of a vector.
    int64_t perBlock =
        input.size() / (from.getNumElements() / (from.getRank() == 2 ? 64 : 8));
    auto blocks = [](RankedTensorType type, unsigned axis) {
      return axis < type.getRank() ? type.getDimSize(axis) / 8 : 1;
    };
    int64_t first = extract.getOffsets()[0] / 8;
    int64_t second = from.getRank() == 2 ? extract.getOffsets()[1] / 8 : 0;
    for (int64_t i = 0; i < blocks(to, 0); ++i)
      for (int64_t j = 0; j < blocks(to, 1); ++j)
        for (int64_t e = 0; e < perBlock; ++e)
          results.push_back(
              input[((first + i) * blocks(from, 1) + second + j) * perBlock +
                    e]);
    define(extract, results);
    return success();
  }
  if (auto concat = dyn_cast<ConcatOp>(op)) {
    RankedTensorType type = getTensor(concat);
    if (concat.getAxis() == 0) {
      for (Value input : concat.getInputs())
        llvm::append_range(results, get(input));
    } else {
      int64_t rowBlocks = type.getDimSize(0) / 8;
      for (int64_t i = 0; i < rowBlocks; ++i)
        for (Value input : concat.getInputs()) {
          ArrayRef<Value> part = get(input);
          size_t perRow = part.size() / rowBlocks;
          llvm::append_range(results, part.slice(i * perRow, perRow));
        }
    }
    define(concat, results);
    return success();
  }
  return op->emitOpError("cannot be lowered to registers");
}

/// Element 8 b + p of a vector is held along rows by the lanes with r = p, and
/// along columns, in the register of p mod 2, by those with c = p / 2.
void FragmentLowering::lowerConvert(ConvertOp op) {
  ArrayRef<Value> input = get(op.getInput());
  Registers results;
  if (getAlongAxis(op.getInput().getType()) == Axis::Rows) {
    for (Value value : input)
      for (int64_t e : {0, 1}) {
        Value source = atEntry(
            {0, e, 0, 0, 0}, [&] { return add(shiftLeft(getC(), 3), 4 * e); });
        results.push_back(shuffleFrom(value, source));
      }
    define(op, results);
    return;
  }
  // Lanes with an odd r offer the odd elements: one shuffle a register.
  Value odd = atEntry({1, 0, 0, 0, 0}, [&] {
    return compare(arith::CmpIPredicate::ne, bitAnd(getR(), 1), i32(0));
  });
  Value source = atEntry({1, 1, 0, 0, 0}, [&] {
    return add(shiftLeft(bitAnd(getR(), 1), 2), shiftRight(getR(), 1));
  });
  for (size_t i = 0; i < input.size(); i += 2)
    results.push_back(shuffleFrom(select(odd, input[i + 1], input[i]), source));
  define(op, results);
}

/// See SplitRowsOp: lanes with `r & distance` keep their upper row for the
/// right half, the others for the left one; the lower rows change places.
void FragmentLowering::lowerSplitRows(SplitRowsOp op) {
  ArrayRef<Value> input = get(op.getInput());
  size_t perRow = input.size() / 2;
  int64_t distance = op.getDistance();
  Registers right, left;
  if (distance == 8) {
    define(op.getRight(), input.drop_front(perRow));
    define(op.getLeft(), input.take_front(perRow));
    return;
  }
  Value isRight = atEntry({2, distance, 0, 0, 0}, [&] {
    return compare(arith::CmpIPredicate::ne, bitAnd(getR(), distance), i32(0));
  });
  for (size_t i = 0; i < perRow; ++i) {
    Value own = input[i], other = shuffleXor(input[perRow + i], 4 * distance);
    right.push_back(select(isRight, own, other));
    left.push_back(select(isRight, other, own));
  }
  define(op.getRight(), right);
  define(op.getLeft(), left);
}
