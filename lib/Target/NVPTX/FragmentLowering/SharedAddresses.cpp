//===- SharedAddresses.cpp - Where tiles lie in shared memory -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Addresses are 32 bits:
//
//   ((lane's column ^ swizzle + lane's row) ^ column) + base + constant
//
// The first term is a lane's own, computed at the kernel's entry; with it and
// the column shared by tiles at one place of several arrays, and constants in
// the instructions, an access costs little more than itself.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::warp;

/// Address space of shared memory.
static constexpr unsigned kShared = 3;

int64_t FragmentLowering::getOffset(Value array) {
  return *array.getDefiningOp<AllocSharedOp>().getOffset();
}

/// index = `dynamic` (null: none) + `constant`.
static std::pair<Value, int64_t> splitConstant(Value index) {
  int64_t constant = 0;
  while (true) {
    if (auto number = getConstantIntValue(OpFoldResult(index)))
      return {Value(), constant + *number};
    auto sum = index.getDefiningOp<arith::AddIOp>();
    if (!sum)
      return {index, constant};
    auto right = getConstantIntValue(OpFoldResult(sum.getRhs()));
    if (!right)
      return {index, constant};
    constant += *right;
    index = sum.getLhs();
  }
}

/// `indices` may lack the last axes.
TilePosition FragmentLowering::getPosition(SharedType type, int64_t offset,
                                           ValueRange indices) {
  ArrayRef<int64_t> shape = type.getShape();
  TilePosition position;
  position.base = getSharedBase();
  position.constant = offset;
  int64_t stride = type.getBytes();
  for (auto [axis, index] : llvm::enumerate(indices)) {
    auto [dynamic, constant] = splitConstant(index);
    if (axis + 1 == shape.size()) {
      int64_t bytes = type.getElementBytes();
      position.columnConstant = constant * bytes;
      if (dynamic) {
        position.column = mul(toI32(dynamic), bytes);
        position.columnAlign = getDivisor(dynamic) * bytes;
      }
      break;
    }
    stride =
        axis + 2 == shape.size() ? type.getRowBytes() : stride / shape[axis];
    position.constant += constant * stride;
    if (dynamic) {
      position.base = add(position.base, mul(toI32(dynamic), stride));
      if (getDivisor(dynamic) * stride % 128)
        position.aligned = false;
    }
  }
  return position;
}

/// What a column of row `row` is exclusive-or'd with; null for nothing.
Value FragmentLowering::getSwizzle(SharedType type, Value row) {
  if (!type.getSwizzle())
    return Value();
  auto [divisor, modulus, factor] = type.getSwizzleTerms();
  if (modulus == 1)
    return Value();
  return shiftLeft(bitAnd(shiftRight(row, llvm::Log2_64(divisor)), modulus - 1),
                   llvm::Log2_64(16 * factor));
}

/// `row` (rows counted from a multiple of 8) and `col`, in bytes.
LaneOffset FragmentLowering::getLaneOffset(SharedType type, Value row,
                                           Value col, int64_t span) {
  LaneOffset lane;
  lane.span = span;
  lane.rowBytes = mul(row, type.getRowBytes());
  lane.colBytes = col;
  lane.swizzle = getSwizzle(type, row);
  Value column = lane.swizzle ? bitXor(col, lane.swizzle) : col;
  lane.combined = add(lane.rowBytes, column);
  return lane;
}

Value FragmentLowering::getAddress(SharedType type, const LaneOffset &lane,
                                   const TilePosition &position, int64_t rows,
                                   int64_t colBytes) {
  int64_t constant = position.constant + rows * type.getRowBytes();
  int64_t column = position.columnConstant + colBytes;
  if (!lane.swizzle) {
    Value address =
        position.column ? add(lane.combined, position.column) : lane.combined;
    return add(add(address, position.base), constant + column);
  }
  auto [divisor, modulus, factor] = type.getSwizzleTerms();
  int64_t mask = (modulus - 1) * factor * 16;
  Value moving = position.column;
  int64_t align = position.columnAlign;
  if (moving && column >= align) {
    // The constant part carries into the moving one.
    int64_t rest = column % align;
    moving = add(moving, column - rest);
    column = rest;
  }
  Value address;
  bool carries = (moving && align < lane.span) || column % lane.span != 0;
  if (carries) {
    Value sum = add(lane.colBytes, column);
    if (moving)
      sum = add(sum, moving);
    address = add(bitXor(sum, lane.swizzle), lane.rowBytes);
  } else {
    // With the base first, there is little that is worth keeping in registers
    // across loops: one sum a pattern of lanes.
    address = lane.combined;
    if (position.aligned)
      address = add(address, position.base);
    if (moving) {
      // A column of a row no wider than the swizzle is within its mask, but
      // for the bits below it.
      bool within =
          type.getRowBytes() <= mask + 16 * factor && align >= 16 * factor;
      address = bitXor(address, within ? moving : bitAnd(moving, mask));
      if (!within)
        address = add(address, bitAnd(moving, ~mask));
    }
    if (column & mask)
      address = bitXor(address, i32(column & mask));
    constant += column & ~mask;
    if (position.aligned)
      return add(address, constant);
  }
  return add(add(address, position.base), constant);
}

/// Constants go into the pointer's offset, where instructions have them for
/// nothing; as sums of their own they would be kept in registers over loops.
Value FragmentLowering::getPointer(Value address) {
  int64_t constant = 0;
  while (auto sum = address.getDefiningOp<arith::AddIOp>()) {
    std::optional<int64_t> part = getConstant(sum.getRhs());
    if (!part)
      break;
    constant += *part;
    address = sum.getLhs();
  }
  auto type = LLVM::LLVMPointerType::get(b.getContext(), kShared);
  Value pointer = LLVM::IntToPtrOp::create(b, type, address);
  if (!constant)
    return pointer;
  return LLVM::GEPOp::create(b, type, b.getI8Type(), pointer,
                             ArrayRef<LLVM::GEPArg>{int32_t(constant)});
}

Value FragmentLowering::loadShared(Value address, Type type,
                                   int64_t alignment) {
  return LLVM::LoadOp::create(b, type, getPointer(address), alignment);
}

/// Stores one, two or four values of one type side by side.
void FragmentLowering::storeShared(Value address, ArrayRef<Value> values) {
  Type type = values[0].getType();
  int64_t bytes = values.size() * type.getIntOrFloatBitWidth() / 8;
  Value value = values[0];
  if (values.size() > 1) {
    auto vector = VectorType::get({int64_t(values.size())}, type);
    value = LLVM::UndefOp::create(b, vector);
    for (auto [index, element] : llvm::enumerate(values))
      value = LLVM::InsertElementOp::create(b, value, element, i32(index));
  }
  LLVM::StoreOp::create(b, value, getPointer(address), bytes);
}
