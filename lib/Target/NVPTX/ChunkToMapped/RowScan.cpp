//===- RowScan.cpp - Running sums with factors over rows ------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Blocks of rows double: what stands before a row in the right half is what
// does so in that half, and the left half's end times the factors between.
//
//===----------------------------------------------------------------------===//

#include "RowScan.h"
#include "delta/Dialect/Warp/IR/Warp.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

Value gpumap::scanInBlock(ImplicitLocOpBuilder &b, Value x, Value factors,
                          int levels, bool reverse, RowHas rowHas) {
  auto type = cast<RankedTensorType>(x.getType());
  auto mul = [&](Value p, Value q) -> Value {
    return p && q ? Value(arith::MulFOp::create(b, p, q)) : p ? p : q;
  };
  auto add = [&](Value p, Value q) -> Value {
    return arith::AddFOp::create(b, p, q);
  };
  auto other = [&](Value value, int64_t distance) -> Value {
    return warp::ShuffleRowsOp::create(b, type, value, distance);
  };
  auto splat = [&](double value) -> Value {
    return arith::ConstantOp::create(
        b, DenseElementsAttr::get(
               type, b.getFloatAttr(type.getElementType(), value)));
  };
  // `side`: the factors before each row in its block; of the whole block, `end`
  // is the sum for a row behind it, and `all` the factors.
  Value sum = splat(0.0), one = splat(1.0), side, end = x, all = factors;
  for (int level = 0; level < levels; ++level) {
    int64_t distance = int64_t(1) << level;
    Value has = rowHas(distance, type);
    // For rows of the half that the other one comes before, and for the others.
    auto choose = [&](Value behind, Value before) -> Value {
      if (reverse)
        std::swap(behind, before);
      return arith::SelectOp::create(b, has, behind, before);
    };
    Value otherEnd = other(end, distance), otherAll = other(all, distance);
    sum = choose(add(sum, mul(side, otherEnd)), sum);
    if (level + 1 == levels)
      break;
    side = choose(mul(side, otherAll), side ? side : one);
    end =
        choose(add(end, mul(all, otherEnd)), add(otherEnd, mul(otherAll, end)));
    all = mul(all, otherAll);
  }
  return sum;
}

Value gpumap::emitLinearScan(ImplicitLocOpBuilder &b, LinearScanOp op, Value x,
                             Value factors, RowHas rowHas) {
  // A row's own factor comes between it and the next one, unless exclusive.
  Value from =
      op.getExclusive() ? x : Value(arith::MulFOp::create(b, x, factors));
  Value sum = scanInBlock(b, from, factors, 4, op.getReverse(), rowHas);
  return op.getExclusive() ? sum : Value(arith::AddFOp::create(b, x, sum));
}
