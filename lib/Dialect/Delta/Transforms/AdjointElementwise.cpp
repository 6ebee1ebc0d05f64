//===- AdjointElementwise.cpp - Adjoints of arithmetic --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of arith, math and the elementwise operations of the delta dialect. y
// is the result, x (a, b) the operands, dy a cotangent.
//
// Test: test/Dialect/Delta/Transforms/differentiate.mlir
//
//===----------------------------------------------------------------------===//

#include "AdjointModels.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/SetVector.h"

#include <cmath>

using namespace mlir;
using namespace mlir::delta;

namespace {

/// What rules of one operand and one result share: `Rule::scale` is dy/dx.
template <typename Rule, typename OpTy>
struct UnaryAdjoint : AdjointInterface::ExternalModel<Rule, OpTy> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    Location loc = op->getLoc();
    Value x = op->getOperand(0), y = op->getResult(0);
    c.add(loc, x, c.vectors.mul(loc, c.get(y), Rule::scale(c, loc, x, y)));
  }
};

/// The same, where `Rule::logScale`, dlog(y)/dx, is finite for every x.
template <typename Rule, typename OpTy>
struct ExponentialAdjoint : UnaryAdjoint<Rule, OpTy> {
  std::optional<SmallVector<Value>> getLogOperands(Operation *) const {
    return SmallVector<Value>();
  }
  void buildLogAdjoint(Operation *op, Cotangents &c) const {
    Location loc = op->getLoc();
    Value x = op->getOperand(0), y = op->getResult(0);
    c.add(loc, x,
          c.vectors.mul(loc, c.getLog(y), Rule::logScale(c, loc, x, y)));
  }
};

/// The same, where the result's logarithm is `Rule::kPower` times that of x.
template <typename Rule, typename OpTy>
struct RootAdjoint : UnaryAdjoint<Rule, OpTy> {
  std::optional<SmallVector<Value>> getLogOperands(Operation *op) const {
    return SmallVector<Value>{op->getOperand(0)};
  }
  void buildLogAdjoint(Operation *op, Cotangents &c) const {
    Location loc = op->getLoc();
    Value y = op->getResult(0);
    c.addLog(loc, op->getOperand(0),
             c.vectors.mul(loc, c.getLog(y),
                           c.vectors.splat(loc, Rule::kPower, y.getType())));
  }
};

Value number(Cotangents &c, Location loc, double value, Value like) {
  return c.vectors.splat(loc, value, like.getType());
}

/// Is it an argument whose declared range goes down to -inf, as log-decays'
/// does?
bool isDeclaredInfinite(BlockArgument argument) {
  auto function =
      dyn_cast_or_null<func::FuncOp>(argument.getOwner()->getParentOp());
  auto module = function ? function->getParentOfType<ModuleOp>() : ModuleOp();
  if (!module)
    return false;
  ArgAttr arg = lookupArg(getSignature(module), argument);
  return arg && arg.hasRange() && std::isinf(arg.getLo());
}

/// Can an element be infinite? So can what scales or shifts one that can.
bool mayBeInfinite(Value value) {
  llvm::SetVector<Value> seen;
  seen.insert(value);
  for (size_t i = 0; i < seen.size(); ++i) {
    Value next = seen[i];
    if (auto argument = dyn_cast<BlockArgument>(next)) {
      if (isDeclaredInfinite(argument))
        return true;
      continue;
    }
    Operation *op = next.getDefiningOp();
    if (isa<arith::AddFOp, arith::SubFOp, arith::MulFOp, arith::NegFOp,
            arith::MaximumFOp, arith::MinimumFOp, BroadcastOp, IdentityRowsOp>(
            op))
      seen.insert(op->operand_begin(), op->operand_end());
  }
  return false;
}

/// `x` as a factor of a cotangent, which is 0 behind a decay of exp(-inf) and
/// must stay 0: with infinities replaced by the largest numbers.
Value finiteFactor(Cotangents &c, Location loc, Value x) {
  if (!mayBeInfinite(x))
    return x;
  x = arith::MaximumFOp::create(c.builder, loc, x, number(c, loc, -3e38, x));
  return arith::MinimumFOp::create(c.builder, loc, x, number(c, loc, 3e38, x));
}

Value oneMinus(Cotangents &c, Location loc, Value x) {
  return c.vectors.sub(loc, number(c, loc, 1.0, x), x);
}

struct ExpAdjoint : ExponentialAdjoint<ExpAdjoint, math::ExpOp> {
  static Value scale(Cotangents &, Location, Value, Value y) { return y; }
  static Value logScale(Cotangents &, Location, Value, Value) { return {}; }
};

struct Exp2Adjoint : ExponentialAdjoint<Exp2Adjoint, math::Exp2Op> {
  static Value scale(Cotangents &c, Location loc, Value x, Value y) {
    return c.vectors.mul(loc, y, logScale(c, loc, x, y));
  }
  static Value logScale(Cotangents &c, Location loc, Value, Value y) {
    return number(c, loc, 0.693147180559945309417, y);
  }
};

struct SigmoidAdjoint : ExponentialAdjoint<SigmoidAdjoint, SigmoidOp> {
  static Value scale(Cotangents &c, Location loc, Value, Value y) {
    return c.vectors.mul(loc, y, oneMinus(c, loc, y));
  }
  static Value logScale(Cotangents &c, Location loc, Value, Value y) {
    return oneMinus(c, loc, y);
  }
};

struct SoftplusAdjoint : UnaryAdjoint<SoftplusAdjoint, SoftplusOp> {
  static Value scale(Cotangents &c, Location loc, Value x, Value) {
    return SigmoidOp::create(c.builder, loc, x.getType(), x);
  }
};

struct TanhAdjoint : UnaryAdjoint<TanhAdjoint, math::TanhOp> {
  static Value scale(Cotangents &c, Location loc, Value, Value y) {
    return oneMinus(c, loc, c.vectors.mul(loc, y, y));
  }
};

struct LogAdjoint : UnaryAdjoint<LogAdjoint, math::LogOp> {
  static Value scale(Cotangents &c, Location loc, Value x, Value) {
    return c.vectors.div(loc, number(c, loc, 1.0, x), x);
  }
};

struct SqrtAdjoint : RootAdjoint<SqrtAdjoint, math::SqrtOp> {
  static constexpr double kPower = 0.5;
  static Value scale(Cotangents &c, Location loc, Value, Value y) {
    return c.vectors.div(loc, number(c, loc, 0.5, y), y);
  }
};

struct RsqrtAdjoint : RootAdjoint<RsqrtAdjoint, math::RsqrtOp> {
  static constexpr double kPower = -0.5;
  static Value scale(Cotangents &c, Location loc, Value, Value y) {
    Value cube = c.vectors.mul(loc, c.vectors.mul(loc, y, y), y);
    return c.vectors.mul(loc, cube, number(c, loc, -0.5, y));
  }
};

struct AbsAdjoint : UnaryAdjoint<AbsAdjoint, math::AbsFOp> {
  static Value scale(Cotangents &c, Location loc, Value x, Value) {
    Value step = HeavisideOp::create(c.builder, loc, x.getType(), x);
    return c.vectors.sub(loc, c.vectors.add(loc, step, step),
                         number(c, loc, 1.0, x));
  }
};

struct NegAdjoint : AdjointInterface::ExternalModel<NegAdjoint, arith::NegFOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    c.add(op->getLoc(), op->getOperand(0),
          c.vectors.neg(op->getLoc(), c.get(op->getResult(0))));
  }
};

struct AddAdjoint : AdjointInterface::ExternalModel<AddAdjoint, arith::AddFOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    Value dy = c.get(op->getResult(0));
    c.add(op->getLoc(), op->getOperand(0), dy);
    c.add(op->getLoc(), op->getOperand(1), dy);
  }
};

struct SubAdjoint : AdjointInterface::ExternalModel<SubAdjoint, arith::SubFOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    Location loc = op->getLoc();
    Value dy = c.get(op->getResult(0));
    c.add(loc, op->getOperand(0), dy);
    if (!VectorBuilder::getConstant(op->getOperand(1)))
      c.add(loc, op->getOperand(1), c.vectors.neg(loc, dy));
  }
};

struct MulAdjoint : AdjointInterface::ExternalModel<MulAdjoint, arith::MulFOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    Location loc = op->getLoc();
    Value dy = c.get(op->getResult(0));
    Value a = op->getOperand(0), b = op->getOperand(1);
    if (!VectorBuilder::getConstant(a))
      c.add(loc, a, c.vectors.mul(loc, dy, finiteFactor(c, loc, b)));
    if (!VectorBuilder::getConstant(b))
      c.add(loc, b, c.vectors.mul(loc, dy, finiteFactor(c, loc, a)));
  }
  std::optional<SmallVector<Value>> getLogOperands(Operation *op) const {
    return SmallVector<Value>(op->getOperands());
  }
  void buildLogAdjoint(Operation *op, Cotangents &c) const {
    for (Value operand : op->getOperands())
      c.addLog(op->getLoc(), operand, c.getLog(op->getResult(0)));
  }
};

struct DivAdjoint : AdjointInterface::ExternalModel<DivAdjoint, arith::DivFOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    Location loc = op->getLoc();
    Value y = op->getResult(0), b = op->getOperand(1);
    Value da = c.vectors.div(loc, c.get(y), b);
    c.add(loc, op->getOperand(0), da);
    if (!VectorBuilder::getConstant(b))
      c.add(loc, b, c.vectors.neg(loc, c.vectors.mul(loc, da, y)));
  }
};

/// max(a, b) and min(a, b); where they are equal each gets one half.
template <typename OpTy>
struct ExtremumAdjoint
    : AdjointInterface::ExternalModel<ExtremumAdjoint<OpTy>, OpTy> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    Location loc = op->getLoc();
    Value dy = c.get(op->getResult(0));
    Value a = op->getOperand(0), b = op->getOperand(1);
    bool isMax = std::is_same_v<OpTy, arith::MaximumFOp>;
    Value difference =
        isMax ? c.vectors.sub(loc, a, b) : c.vectors.sub(loc, b, a);
    Value step = HeavisideOp::create(c.builder, loc, a.getType(), difference);
    if (!VectorBuilder::getConstant(a))
      c.add(loc, a, c.vectors.mul(loc, dy, step));
    if (!VectorBuilder::getConstant(b))
      c.add(loc, b, c.vectors.mul(loc, dy, oneMinus(c, loc, step)));
  }
};

struct PowAdjoint : AdjointInterface::ExternalModel<PowAdjoint, math::PowFOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    Location loc = op->getLoc();
    Value x = op->getOperand(0), p = op->getOperand(1), y = op->getResult(0);
    Value dy = c.get(y);
    if (!VectorBuilder::getConstant(x)) {
      Value less = c.vectors.sub(loc, p, number(c, loc, 1.0, p));
      Value power = math::PowFOp::create(c.builder, loc, x, less);
      c.add(loc, x, c.vectors.mul(loc, dy, c.vectors.mul(loc, p, power)));
    }
    if (!VectorBuilder::getConstant(p)) {
      // A power of 0, or of a negative number, is taken not to depend on p.
      Value positive = arith::MaximumFOp::create(c.builder, loc, x,
                                                 number(c, loc, 1.2e-38, x));
      Value log = math::LogOp::create(c.builder, loc, positive);
      Value step = HeavisideOp::create(c.builder, loc, x.getType(), x);
      Value slope = c.vectors.mul(loc, c.vectors.mul(loc, y, step), log);
      c.add(loc, p, c.vectors.mul(loc, dy, slope));
    }
  }
};

struct ConstantAdjoint
    : AdjointInterface::ExternalModel<ConstantAdjoint, arith::ConstantOp> {
  void buildAdjoint(Operation *, Cotangents &) const {}
  std::optional<SmallVector<Value>> getLogOperands(Operation *) const {
    return SmallVector<Value>();
  }
  void buildLogAdjoint(Operation *, Cotangents &) const {}
};

} // namespace

void mlir::delta::registerElementwiseAdjoints(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, arith::ArithDialect *) {
    arith::AddFOp::attachInterface<AddAdjoint>(*context);
    arith::SubFOp::attachInterface<SubAdjoint>(*context);
    arith::MulFOp::attachInterface<MulAdjoint>(*context);
    arith::DivFOp::attachInterface<DivAdjoint>(*context);
    arith::NegFOp::attachInterface<NegAdjoint>(*context);
    arith::ConstantOp::attachInterface<ConstantAdjoint>(*context);
    arith::MaximumFOp::attachInterface<ExtremumAdjoint<arith::MaximumFOp>>(
        *context);
    arith::MinimumFOp::attachInterface<ExtremumAdjoint<arith::MinimumFOp>>(
        *context);
  });
  registry.addExtension(+[](MLIRContext *context, math::MathDialect *) {
    math::ExpOp::attachInterface<ExpAdjoint>(*context);
    math::Exp2Op::attachInterface<Exp2Adjoint>(*context);
    math::LogOp::attachInterface<LogAdjoint>(*context);
    math::SqrtOp::attachInterface<SqrtAdjoint>(*context);
    math::RsqrtOp::attachInterface<RsqrtAdjoint>(*context);
    math::AbsFOp::attachInterface<AbsAdjoint>(*context);
    math::TanhOp::attachInterface<TanhAdjoint>(*context);
    math::PowFOp::attachInterface<PowAdjoint>(*context);
  });
  registry.addExtension(+[](MLIRContext *context, DeltaDialect *) {
    SigmoidOp::attachInterface<SigmoidAdjoint>(*context);
    SoftplusOp::attachInterface<SoftplusAdjoint>(*context);
  });
}
