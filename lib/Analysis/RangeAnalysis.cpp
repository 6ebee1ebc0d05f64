//===- RangeAnalysis.cpp - Intervals from declared ranges -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Interval arithmetic over the operations of a step. Bounds are widened by a
// few ulp where a function rounds, so that a proof holds for computed values.
//
//===----------------------------------------------------------------------===//

#include "delta/Analysis/RangeAnalysis.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/TypeSwitch.h"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace mlir;
using namespace mlir::delta;

static constexpr double kInf = std::numeric_limits<double>::infinity();

/// 0 * inf is 0 here: an interval's end inf only means "unbounded".
static double product(double a, double b) {
  return a == 0.0 || b == 0.0 ? 0.0 : a * b;
}

static Interval multiply(Interval a, Interval b) {
  double ends[] = {product(a.lo, b.lo), product(a.lo, b.hi),
                   product(a.hi, b.lo), product(a.hi, b.hi)};
  return {*std::min_element(ends, ends + 4), *std::max_element(ends, ends + 4)};
}

/// A monotone function applied to both ends.
template <typename Fn> static Interval monotone(Interval x, Fn fn) {
  return {fn(x.lo), fn(x.hi)};
}

Interval mlir::delta::computeRange(Value value) {
  const Interval unknown{-kInf, kInf};
  if (std::optional<double> constant = VectorBuilder::getConstant(value))
    return {*constant, *constant};
  if (auto arg = dyn_cast<BlockArgument>(value)) {
    auto recurrence = dyn_cast<RecurrenceOp>(arg.getOwner()->getParentOp());
    SignatureAttr signature = recurrence ? recurrence.getSignature() : SignatureAttr();
    if (!signature)
      return unknown;
    unsigned index = 0;
    for (ArgAttr entry : signature.getAllArgs()) {
      if (entry.getKind() == ArgKind::State || entry.getKind() == ArgKind::Out)
        continue;
      if (index++ == arg.getArgNumber())
        return {entry.getLo(), entry.getHi()};
    }
    return unknown;
  }
  auto in = [](Operation *op, unsigned index) {
    return computeRange(op->getOperand(index));
  };
  auto sigmoid = [](double x) { return 1.0 / (1.0 + std::exp(-x)); };
  Interval range =
      TypeSwitch<Operation *, Interval>(value.getDefiningOp())
          .Case<BroadcastOp, MicroOp>([&](auto op) { return in(op, 0); })
          .Case<arith::AddFOp>([&](auto op) {
            Interval a = in(op, 0), b = in(op, 1);
            return Interval{a.lo + b.lo, a.hi + b.hi};
          })
          .Case<arith::SubFOp>([&](auto op) {
            Interval a = in(op, 0), b = in(op, 1);
            return Interval{a.lo - b.hi, a.hi - b.lo};
          })
          .Case<arith::NegFOp>([&](auto op) {
            Interval a = in(op, 0);
            return Interval{-a.hi, -a.lo};
          })
          .Case<arith::MulFOp>([&](auto op) {
            Interval a = in(op, 0), b = in(op, 1);
            if (op->getOperand(0) == op->getOperand(1)) {
              double far = std::max(std::abs(a.lo), std::abs(a.hi));
              double near = a.lo <= 0 && a.hi >= 0
                                ? 0.0
                                : std::min(std::abs(a.lo), std::abs(a.hi));
              return Interval{near * near, far * far};
            }
            return multiply(a, b);
          })
          .Case<arith::DivFOp>([&](auto op) {
            Interval a = in(op, 0), b = in(op, 1);
            if (b.lo <= 0 && b.hi >= 0)
              return unknown;
            return multiply(a, {1.0 / b.hi, 1.0 / b.lo});
          })
          .Case<arith::MaximumFOp>([&](auto op) {
            Interval a = in(op, 0), b = in(op, 1);
            return Interval{std::max(a.lo, b.lo), std::max(a.hi, b.hi)};
          })
          .Case<arith::MinimumFOp>([&](auto op) {
            Interval a = in(op, 0), b = in(op, 1);
            return Interval{std::min(a.lo, b.lo), std::min(a.hi, b.hi)};
          })
          .Case<math::ExpOp>([&](auto op) {
            return monotone(in(op, 0), [](double x) { return std::exp(x); });
          })
          .Case<math::Exp2Op>([&](auto op) {
            return monotone(in(op, 0), [](double x) { return std::exp2(x); });
          })
          .Case<math::TanhOp>([&](auto op) {
            return monotone(in(op, 0), [](double x) { return std::tanh(x); });
          })
          .Case<math::AbsFOp>([&](auto op) {
            Interval a = in(op, 0);
            double far = std::max(std::abs(a.lo), std::abs(a.hi));
            bool zero = a.lo <= 0 && a.hi >= 0;
            return Interval{zero ? 0.0 : std::min(std::abs(a.lo), std::abs(a.hi)), far};
          })
          .Case<math::SqrtOp>([&](auto op) {
            Interval a = in(op, 0);
            return Interval{std::sqrt(std::max(a.lo, 0.0)),
                            a.hi < 0 ? 0.0 : std::sqrt(a.hi)};
          })
          .Case<SigmoidOp>([&](auto op) { return monotone(in(op, 0), sigmoid); })
          .Case<SoftplusOp>([&](auto op) {
            return monotone(in(op, 0), [](double x) {
              return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
            });
          })
          .Default([&](Operation *) { return unknown; });
  if (std::isnan(range.lo) || std::isnan(range.hi))
    return unknown;
  return range;
}

std::optional<double> mlir::delta::boundLogDecay(RecurrenceOp events) {
  double bound = 0.0;
  bool any = false;
  for (DecayOp decay : events.getBodyBlock()->getOps<DecayOp>()) {
    Interval w = computeRange(decay.getW());
    if (!(w.lo > 0.0) || !(w.hi < kInf))
      return std::nullopt;
    bound += std::max(std::abs(std::log(w.lo)), std::abs(std::log(w.hi)));
    any = true;
  }
  if (!any)
    return std::nullopt;
  return bound * (1.0 + 1e-6);
}
