//===- WarpBuilder.h - Short names for a warp's operations ------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What every emitter of a mapped kernel says often: constants, conversions,
// loads and stores of tiles, of 16 x 16 and in f32 where nothing else is said.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_WARPBUILDER_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_WARPBUILDER_H

#include "Mapping.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::delta::gpumap {

class WarpBuilder {
public:
  /// `kernel` may be set later; `rounding` is that of single products and sums.
  WarpBuilder(gpu::GPUFuncOp kernel, const OperandPolicy &policy, Location loc,
              arith::FastMathFlags rounding = arith::FastMathFlags::contract)
      : b(loc, loc.getContext()), kernelFunction(kernel), policy(policy),
        rounding(rounding) {}

  Value index(int64_t value);
  Value add(Value x, Value y);
  Value mul(Value x, Value y);
  Value mul(Value x, int64_t y) { return mul(x, index(y)); }
  Value sub(Value x, Value y);
  Value minimum(Value x, Value y);
  Value toI32(Value index);

  RankedTensorType fragment(int64_t rows, int64_t cols, Type type = {});
  RankedTensorType square(Type type = {}) { return fragment(16, 16, type); }
  RankedTensorType along(int64_t size, warp::Axis axis, Type type = {});
  RankedTensorType along(warp::Axis axis, Type type = {}) {
    return along(16, axis, type);
  }
  Value constant(double value, RankedTensorType type);
  Value integers(int64_t value, RankedTensorType like);
  Value splat(Value number, RankedTensorType like);
  /// Repeats a vector to a shape.
  Value expand(Value vector, RankedTensorType like);
  Value expand(Value vector) { return expand(vector, square()); }

  /// A number or a tile in f32; a tile with another element type, by way of f32,
  /// or as operand of matrix instructions.
  Value extend(Value value);
  Value toElement(Value value, Type element);
  Value toOperand(Value value) { return toElement(value, policy.type); }
  /// acc + lhs rhs^T.
  Value mma(Value lhs, Value rhs, Value acc);

  Value load(Value array, ValueRange at, RankedTensorType type,
             bool transpose = false);
  void store(Value value, Value array, ValueRange at, bool transpose = false);

  /// Positions stay behind this warp's index, by renew_lanes; null: anywhere.
  Value lanes;
  /// 0 to 15 along an axis; rows and columns of a square as numbers.
  Value positions(warp::Axis axis);
  Value rowNumbers() { return expand(positions(warp::Axis::Rows)); }
  Value colNumbers() { return expand(positions(warp::Axis::Cols)); }
  /// Has the position along the axis this bit? For a vector, or a fragment.
  Value has(int64_t bit, warp::Axis axis, RankedTensorType like);
  Value rowHas(int64_t bit, RankedTensorType like) {
    return has(bit, warp::Axis::Rows, like);
  }
  Value compare(arith::CmpIPredicate predicate, Value x, Value y);
  Value isNotNull(Value array);
  Value select(Value condition, Value x, Value y);

  /// Products and sums of which null is the neutral element.
  Value mulf(Value x, Value y);
  Value addf(Value x, Value y);
  /// Lets a product and a sum be one instruction.
  static void allowContraction(Operation *op);
  /// x y + z, rounded once.
  Value fma(Value x, Value y, Value z);

  ImplicitLocOpBuilder b;

protected:
  gpu::GPUFuncOp kernelFunction;
  OperandPolicy policy;

private:
  arith::FastMathFlags rounding;
  llvm::DenseMap<int64_t, Value> indices;
};

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_WARPBUILDER_H
