//===- Products.cpp - Matrix products by mma.sync -------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// acc (16 x 8 a tile) + lhs (16 x k) * rhs (8 x k)^T. A fragment of rows is
// both operands as it stands for 16-bit elements. For tf32, whose instruction
// has lane c hold columns c and c + 4 of 8, the order of the columns does not
// matter to their sum: column 2 c plays c, and 2 c + 1 plays c + 4.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::warp;

/// One instruction: a of 2 or 4 registers, b of 1 or 2. `element` is the type
/// of their elements; f32 stands for tf32.
void FragmentLowering::multiply(MutableArrayRef<Value> acc, ArrayRef<Value> a,
                                ArrayRef<Value> b2, Type element) {
  MLIRContext *context = b.getContext();
  auto type =
      LLVM::LLVMStructType::getLiteral(context, SmallVector<Type>(4, f32Type));
  bool tf32 = element.isF32();
  auto kind = tf32               ? NVVM::MMATypes::tf32
              : element.isBF16() ? NVVM::MMATypes::bf16
                                 : NVVM::MMATypes::f16;
  Registers lhs(a), rhs(b2);
  if (element.isF16()) {
    auto pair = VectorType::get({2}, element);
    for (Registers *operand : {&lhs, &rhs})
      for (Value &value : *operand)
        value = bitcast(value, pair);
  }
  int64_t depth = tf32 ? 8 : 8 * b2.size();
  Value result = NVVM::MmaOp::create(
      b, type, lhs, rhs, ValueRange(acc), ArrayRef<int64_t>{16, 8, depth},
      std::nullopt, std::nullopt, std::array{kind, kind},
      std::array{NVVM::MMALayout::row, NVVM::MMALayout::col});
  for (auto [index, value] : llvm::enumerate(acc))
    value = LLVM::ExtractValueOp::create(b, result, index);
}

void FragmentLowering::lowerMma(MmaOp op) {
  auto lhsType = cast<RankedTensorType>(op.getLhs().getType());
  auto rhsType = cast<RankedTensorType>(op.getRhs().getType());
  int64_t rowTiles = lhsType.getDimSize(0) / 16,
          colTiles = rhsType.getDimSize(0) / 8;
  int64_t blocks = lhsType.getDimSize(1) / 8; // of columns to contract
  ArrayRef<Value> lhs = get(op.getLhs()), rhs = get(op.getRhs());
  Registers acc(get(op.getAcc()));

  // The four registers of a tile of the accumulator.
  auto withTile = [&](int64_t i, int64_t j,
                      function_ref<void(MutableArrayRef<Value>)> body) {
    size_t upper = (2 * i * colTiles + j) * 2,
           lower = ((2 * i + 1) * colTiles + j) * 2;
    Value tile[4] = {acc[upper], acc[upper + 1], acc[lower], acc[lower + 1]};
    body(tile);
    std::copy_n(tile, 2, &acc[upper]);
    std::copy_n(tile + 2, 2, &acc[lower]);
  };

  if (op.getOperand() == Operand::TF32) {
    Type i32 = i32Type;
    auto convert = [&](ArrayRef<Value> values) {
      Registers converted;
      llvm::DenseMap<Value, Value> known;
      for (Value value : values) {
        Value &result = known[value];
        if (!result)
          result = NVVM::ConvertFloatToTF32Op::create(
              b, i32, value, NVVM::FPRoundingMode::RNA);
        converted.push_back(result);
      }
      return converted;
    };
    Registers x = convert(lhs), y = convert(rhs);
    for (int64_t k = 0; k < blocks; ++k)
      for (int64_t i = 0; i < rowTiles; ++i) {
        size_t upper = (2 * i * blocks + k) * 2,
               lower = ((2 * i + 1) * blocks + k) * 2;
        Value a[4] = {x[upper], x[lower], x[upper + 1], x[lower + 1]};
        for (int64_t j = 0; j < colTiles; ++j)
          withTile(i, j, [&](MutableArrayRef<Value> tile) {
            multiply(tile, a, ArrayRef(y).slice((j * blocks + k) * 2, 2),
                     f32Type);
          });
      }
    define(op, acc);
    return;
  }

  // 16-bit operands: pairs of (high, low) parts for bf16x3.
  Type element = lhsType.getElementType();
  struct Parts {
    Registers high, low;
  };
  Parts x, y;
  bool split = op.getOperand() == Operand::BF16x3;
  if (split) {
    element = b.getBF16Type();
    auto take = [&](ArrayRef<Value> values) {
      Parts parts;
      for (size_t i = 0; i < values.size(); i += 2) {
        Value high = pack(values[i], values[i + 1], element);
        auto [h0, h1] = unpack(high, element);
        parts.high.push_back(high);
        parts.low.push_back(pack(arith::SubFOp::create(b, values[i], h0),
                                 arith::SubFOp::create(b, values[i + 1], h1),
                                 element));
      }
      return parts;
    };
    x = take(lhs);
    y = take(rhs);
  } else {
    x.high.assign(lhs.begin(), lhs.end());
    y.high.assign(rhs.begin(), rhs.end());
  }
  for (int64_t k = 0; k < blocks; k += 2) {
    int64_t depth = std::min<int64_t>(2, blocks - k);
    auto getA = [&](const Registers &values, int64_t i) {
      Registers a;
      for (int64_t d = 0; d < depth; ++d)
        for (int64_t half = 0; half < 2; ++half)
          a.push_back(values[(2 * i + half) * blocks + k + d]);
      return a;
    };
    auto getB = [&](const Registers &values, int64_t j) {
      return ArrayRef(values).slice(j * blocks + k, depth);
    };
    for (int64_t i = 0; i < rowTiles; ++i) {
      Registers high = getA(x.high, i), low;
      if (split)
        low = getA(x.low, i);
      for (int64_t j = 0; j < colTiles; ++j)
        withTile(i, j, [&](MutableArrayRef<Value> tile) {
          if (split) {
            multiply(tile, high, getB(y.low, j), element);
            multiply(tile, low, getB(y.high, j), element);
          }
          multiply(tile, high, getB(y.high, j), element);
        });
    }
  }
  define(op, acc);
}
