//===- Lanes.cpp - What a lane is, and words between lanes ----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A lane's own numbers are computed once, at the kernel's entry, or where they
// are renewed so that they do not stay in registers.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::warp;

//===----------------------------------------------------------------------===//
// Lanes
//===----------------------------------------------------------------------===//

/// A value computed once for all that follows.
#define DELTA_LANE_VALUE(name, expression)                                     \
  if (!own.name) {                                                             \
    OpBuilder::InsertionGuard guard(b);                                        \
    b.setInsertionPoint(own.first);                                            \
    own.name = expression;                                                     \
  }                                                                            \
  return own.name

Value FragmentLowering::getThread() {
  DELTA_LANE_VALUE(thread, NVVM::ThreadIdXOp::create(b, i32Type));
}
Value FragmentLowering::getLane() {
  DELTA_LANE_VALUE(lane, bitAnd(getThread(), 31));
}
Value FragmentLowering::getR() {
  DELTA_LANE_VALUE(r, shiftRight(getLane(), 2));
}
Value FragmentLowering::getC() { DELTA_LANE_VALUE(c, bitAnd(getThread(), 3)); }
Value FragmentLowering::getWarp() {
  DELTA_LANE_VALUE(warp, arith::IndexCastUIOp::create(
                             b, b.getIndexType(),
                             shuffleFrom(shiftRight(getThread(), 5), i32(0))));
}
#undef DELTA_LANE_VALUE

Value FragmentLowering::getSharedBase() {
  if (!sharedBase) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(firstOp);
    sharedBase = LLVM::PtrToIntOp::create(b, i32Type,
                                          LLVM::AddressOfOp::create(b, shared));
  }
  return sharedBase;
}

Value FragmentLowering::atEntry(
    std::tuple<int, int64_t, int64_t, int64_t, int64_t> key,
    function_ref<Value()> make) {
  if (Value known = own.entries[key])
    return known;
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(own.first);
  Value made = make();
  own.entries[key] = made;
  return made;
}

/// The thread's number plus a zero that no compiler sees through: the round's
/// bits from 40 on. Another bit each time, so that no two are the same value.
void FragmentLowering::lowerRenewLanes(RenewLanesOp op) {
  Value original = kernelThread ? kernelThread : getThread();
  kernelThread = original;
  Value high =
      arith::ShRUIOp::create(b, toI64(op.getRound()), i64(40 + renewals++ % 8));
  own = LaneValues();
  own.first = op;
  own.zero = arith::TruncIOp::create(b, i32Type, high);
  own.thread = arith::AddIOp::create(b, original, own.zero);
  if (Value warp = op.getWarp())
    own.warp = arith::AddIOp::create(
        b, warp, arith::IndexCastOp::create(b, b.getIndexType(), high));
  replaceScalar(op.getResult(), getWarp());
}

/// x | (y & z), where z is a zero of which only we know.
void FragmentLowering::lowerFollow(FollowOp op) {
  bool number = op.getValue().getType().isIndex();
  Value none;
  if (own.zero) {
    ArrayRef<Value> earlier = get(op.getEarlier());
    none = arith::AndIOp::create(b,
                                 bitOr(bitcast(earlier.front(), i32Type),
                                       bitcast(earlier.back(), i32Type)),
                                 own.zero);
  }
  if (number) {
    Value value = op.getValue();
    if (none)
      value = b.createOrFold<arith::AddIOp>(
          value, arith::IndexCastUIOp::create(b, b.getIndexType(), none));
    return replaceScalar(op.getResult(), value);
  }
  Registers values(get(op.getValue()));
  if (none)
    for (Value &value : values)
      value = bitcast(bitOr(bitcast(value, i32Type), none), value.getType());
  define(op, values);
}

Value FragmentLowering::shuffle(Value value, Value offset,
                                NVVM::ShflKind kind) {
  Type type = value.getType();
  Value word = value;
  if (type.isInteger(1))
    word = arith::ExtUIOp::create(b, i32Type, value);
  else if (type.getIntOrFloatBitWidth() == 16)
    word = arith::ExtUIOp::create(b, i32Type,
                                  bitcast(value, b.getIntegerType(16)));
  Value moved = NVVM::ShflOp::create(b, word.getType(), i32(-1), word, offset,
                                     i32(31), kind, UnitAttr());
  if (type.isInteger(1))
    return compare(arith::CmpIPredicate::ne, moved, i32(0));
  if (type.getIntOrFloatBitWidth() == 16)
    return bitcast(arith::TruncIOp::create(b, b.getIntegerType(16), moved),
                   type);
  return moved;
}

Value FragmentLowering::shuffleXor(Value value, int64_t mask) {
  return shuffle(value, i32(mask), NVVM::ShflKind::bfly);
}

Value FragmentLowering::shuffleFrom(Value value, Value lane) {
  return shuffle(value, lane, NVVM::ShflKind::idx);
}

//===----------------------------------------------------------------------===//
// 16-bit elements
//===----------------------------------------------------------------------===//

Value FragmentLowering::pack(Value low, Value high, Type element) {
  auto type = VectorType::get({2}, element);
  Value pair = element.isBF16()
                   ? Value(NVVM::ConvertF32x2ToBF16x2Op::create(
                         b, type, high, low, /*random_bits=*/Value(),
                         NVVM::FPRoundingMode::RN, NVVM::SaturationMode::NONE,
                         /*relu=*/false))
                   : Value(NVVM::ConvertF32x2ToF16x2Op::create(
                         b, type, high, low, /*random_bits=*/Value(),
                         NVVM::FPRoundingMode::RN, NVVM::SaturationMode::NONE,
                         /*relu=*/false));
  return bitcast(pair, i32Type);
}

Value FragmentLowering::packBits(Value low, Value high) {
  auto widen = [&](Value half) -> Value {
    return arith::ExtUIOp::create(b, i32Type,
                                  bitcast(half, b.getIntegerType(16)));
  };
  return bitOr(widen(low), shiftLeft(widen(high), 16));
}

std::pair<Value, Value> FragmentLowering::unpack(Value packed, Type element) {
  if (element.isBF16())
    return {bitcast(shiftLeft(packed, 16), f32Type),
            bitcast(bitAnd(packed, 0xffff0000), f32Type)};
  auto [low, high] = unpackBits(packed, element);
  return {arith::ExtFOp::create(b, f32Type, low),
          arith::ExtFOp::create(b, f32Type, high)};
}

std::pair<Value, Value> FragmentLowering::unpackBits(Value packed,
                                                     Type element) {
  auto half = b.getIntegerType(16);
  Value low = arith::TruncIOp::create(b, half, packed);
  Value high = arith::TruncIOp::create(b, half, shiftRight(packed, 16));
  return {bitcast(low, element), bitcast(high, element)};
}

Value FragmentLowering::transposeBlock(Value packed) {
  // There is no intrinsic for movmatrix.
  auto op = LLVM::InlineAsmOp::create(
      b, TypeRange{i32Type}, ValueRange{packed},
      "movmatrix.sync.aligned.m8n8.trans.b16 $0, $1;", "=r,r",
      /*has_side_effects=*/true, /*is_align_stack=*/false,
      LLVM::TailCallKind::None, LLVM::AsmDialectAttr(), ArrayAttr());
  return op.getResult(0);
}
