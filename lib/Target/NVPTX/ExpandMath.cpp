//===- ExpandMath.cpp - Elementary functions on the GPU -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Functions become the hardware's approximations where those are accurate, and
// the polynomials of the CPU target where they are not.
//
//   math.exp %x : f32   =>   ex2.approx.ftz(x * log2 e)
//
// Test: test/Target/NVPTX/expand-math.mlir.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Target/CPU/Passes.h"
#include "delta/Target/NVPTX/Passes.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

#include <limits>

#define DEBUG_TYPE "delta-gpu-expand-math"

namespace mlir::delta {
#define GEN_PASS_DEF_GPUEXPANDMATH
#include "delta/Target/NVPTX/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;

static constexpr double kLog2E = 1.4426950408889634;

static Value callIntrinsic(OpBuilder &builder, Location loc, StringRef name,
                           ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(builder, loc, operands[0].getType(),
                                       builder.getStringAttr(name), operands)
      .getResult(0);
}

static Value constant(OpBuilder &builder, Location loc, double value) {
  return arith::ConstantOp::create(builder, loc,
                                   builder.getF32FloatAttr(value));
}

static Value exp2(OpBuilder &builder, Location loc, Value x) {
  return callIntrinsic(builder, loc, "llvm.nvvm.ex2.approx.ftz.f32", x);
}

static Value exp(OpBuilder &builder, Location loc, Value x) {
  Value scaled =
      arith::MulFOp::create(builder, loc, x, constant(builder, loc, kLog2E));
  return exp2(builder, loc, scaled);
}

static Value reciprocal(OpBuilder &builder, Location loc, Value x) {
  return callIntrinsic(builder, loc, "llvm.nvvm.rcp.approx.ftz.f", x);
}

static Value rsqrt(OpBuilder &builder, Location loc, Value x) {
  return callIntrinsic(builder, loc, "llvm.nvvm.rsqrt.approx.ftz.f", x);
}

static Value sqrt(OpBuilder &builder, Location loc, Value x) {
  return callIntrinsic(builder, loc, "llvm.nvvm.sqrt.approx.ftz.f", x);
}

/// 1 / (1 + e^-|x|), times e^-|x| for a negative x: nothing overflows.
static Value sigmoid(OpBuilder &builder, Location loc, Value x) {
  Value size = math::AbsFOp::create(builder, loc, x);
  Value e = exp(builder, loc, arith::NegFOp::create(builder, loc, size));
  Value one = constant(builder, loc, 1.0);
  Value positive =
      reciprocal(builder, loc, arith::AddFOp::create(builder, loc, e, one));
  Value negative = arith::MulFOp::create(builder, loc, e, positive);
  Value isPositive = arith::CmpFOp::create(
      builder, loc, arith::CmpFPredicate::OGE, x, constant(builder, loc, 0.0));
  return arith::SelectOp::create(builder, loc, isPositive, positive, negative);
}

/// What upstream would turn into calls of a device library.
template <typename Op>
static Value callLLVM(OpBuilder &builder, Location loc, Value x) {
  return Op::create(builder, loc, x.getType(), x);
}

namespace {

/// Above the CPU's patterns, which take what is left.
constexpr unsigned kHardware = 2;
/// Vectors are taken apart before anything else is tried.
constexpr unsigned kScalarise = 3;

/// Replaces `Op` on f32 scalars by what `Emit` builds.
template <typename Op, Value (*Emit)(OpBuilder &, Location, Value)>
struct UseHardware : OpRewritePattern<Op> {
  explicit UseHardware(MLIRContext *context)
      : OpRewritePattern<Op>(context, kHardware) {}
  LogicalResult matchAndRewrite(Op op,
                                PatternRewriter &rewriter) const override {
    Value x = op->getOperand(0);
    if (!x.getType().isF32())
      return rewriter.notifyMatchFailure(op, "not a scalar of f32");
    rewriter.replaceOp(op, Emit(rewriter, op.getLoc(), x));
    return success();
  }
};

struct DivideInHardware : OpRewritePattern<arith::DivFOp> {
  explicit DivideInHardware(MLIRContext *context)
      : OpRewritePattern(context, kHardware) {}
  LogicalResult matchAndRewrite(arith::DivFOp op,
                                PatternRewriter &rewriter) const override {
    if (!op.getType().isF32())
      return rewriter.notifyMatchFailure(op, "not a scalar of f32");
    FloatAttr numerator;
    bool inverts = matchPattern(op.getLhs(), m_Constant(&numerator)) &&
                   numerator.getValueAsDouble() == 1.0;
    rewriter.replaceOp(
        op, inverts ? reciprocal(rewriter, op.getLoc(), op.getRhs())
                    : callIntrinsic(rewriter, op.getLoc(), "llvm.nvvm.div.full",
                                    {op.getLhs(), op.getRhs()}));
    return success();
  }
};

/// The size of one number with the sign of another, by their bits.
struct CopySignBits : OpRewritePattern<math::CopySignOp> {
  explicit CopySignBits(MLIRContext *context)
      : OpRewritePattern(context, kHardware) {}
  LogicalResult matchAndRewrite(math::CopySignOp op,
                                PatternRewriter &rewriter) const override {
    if (!op.getType().isF32())
      return rewriter.notifyMatchFailure(op, "not a scalar of f32");
    Location loc = op.getLoc();
    Type bits = rewriter.getI32Type();
    auto masked = [&](Value x, int64_t mask) -> Value {
      Value constant = arith::ConstantIntOp::create(rewriter, loc, bits, mask);
      x = arith::BitcastOp::create(rewriter, loc, bits, x);
      return arith::AndIOp::create(rewriter, loc, x, constant);
    };
    Value both =
        arith::OrIOp::create(rewriter, loc, masked(op.getLhs(), 0x7fffffff),
                             masked(op.getRhs(), -0x80000000ll));
    rewriter.replaceOpWithNewOp<arith::BitcastOp>(op, op.getType(), both);
    return success();
  }
};

/// x^p for any p: e^(p log|x|), with x's sign for odd p; a negative x has no
/// other real powers. Small constant exponents are products, made elsewhere.
struct PowerByLogarithm : OpRewritePattern<math::PowFOp> {
  explicit PowerByLogarithm(MLIRContext *context)
      : OpRewritePattern(context, /*benefit=*/0) {}
  LogicalResult matchAndRewrite(math::PowFOp op,
                                PatternRewriter &rewriter) const override {
    using P = arith::CmpFPredicate;
    if (!op.getType().isF32())
      return rewriter.notifyMatchFailure(op, "not a scalar of f32");
    Location loc = op.getLoc();
    Value x = op.getLhs(), p = op.getRhs();
    auto num = [&](double value) { return constant(rewriter, loc, value); };
    auto cmp = [&](P predicate, Value a, Value b) -> Value {
      return arith::CmpFOp::create(rewriter, loc, predicate, a, b);
    };
    auto select = [&](Value condition, Value a, Value b) -> Value {
      return arith::SelectOp::create(rewriter, loc, condition, a, b);
    };
    auto isWhole = [&](Value a) {
      return cmp(P::OEQ, math::FloorOp::create(rewriter, loc, a), a);
    };
    Value size = math::AbsFOp::create(rewriter, loc, x);
    Value logarithm = math::LogOp::create(rewriter, loc, size);
    Value y =
        exp(rewriter, loc, arith::MulFOp::create(rewriter, loc, p, logarithm));
    Value half = arith::MulFOp::create(rewriter, loc, p, num(0.5));
    Value minus = arith::NegFOp::create(rewriter, loc, y);
    Value negative = select(isWhole(half), y, minus);
    negative = select(isWhole(p), negative,
                      num(std::numeric_limits<double>::quiet_NaN()));
    y = select(cmp(P::OLT, x, num(0.0)), negative, y);
    rewriter.replaceOp(op, select(cmp(P::OEQ, p, num(0.0)), num(1.0), y));
    return success();
  }
};

/// An operation on a vector of one dim becomes one on each element.
template <typename Op> struct Scalarise : OpRewritePattern<Op> {
  explicit Scalarise(MLIRContext *context)
      : OpRewritePattern<Op>(context, kScalarise) {}
  LogicalResult matchAndRewrite(Op op,
                                PatternRewriter &rewriter) const override {
    auto type = dyn_cast<VectorType>(op->getResult(0).getType());
    if (!type || type.getRank() != 1 || type.isScalable())
      return rewriter.notifyMatchFailure(op, "not a vector of one dim");
    Location loc = op.getLoc();
    SmallVector<Value> elements;
    for (int64_t i = 0; i < type.getDimSize(0); ++i) {
      SmallVector<Value> operands;
      for (Value operand : op->getOperands())
        operands.push_back(
            vector::ExtractOp::create(rewriter, loc, operand, i));
      elements.push_back(
          Op::create(rewriter, loc, type.getElementType(), operands));
    }
    rewriter.replaceOpWithNewOp<vector::FromElementsOp>(op, type, elements);
    return success();
  }
};

/// math.absf is one instruction on any float, not a call to a device library.
struct AbsoluteInHardware : OpRewritePattern<math::AbsFOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(math::AbsFOp op,
                                PatternRewriter &rewriter) const override {
    if (!isa<FloatType>(op.getType()))
      return rewriter.notifyMatchFailure(op, "not a scalar");
    rewriter.replaceOpWithNewOp<LLVM::FAbsOp>(op, op.getType(),
                                              op.getOperand());
    return success();
  }
};

template <typename... Ops> void addScalarise(RewritePatternSet &patterns) {
  patterns.add<Scalarise<Ops>...>(patterns.getContext());
}

struct GpuExpandMathPass
    : mlir::delta::impl::GpuExpandMathBase<GpuExpandMathPass> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    populateGpuExpandMathPatterns(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      return signalPassFailure();
    // What has an instruction, or a short sequence that LLVM knows.
    WalkResult left = getOperation()->walk([](Operation *op) {
      if (!isa_and_nonnull<math::MathDialect, DeltaDialect>(op->getDialect()) ||
          isa<math::AbsIOp, math::FmaOp, math::CtPopOp,
              math::CountLeadingZerosOp>(op) ||
          !op->hasTrait<OpTrait::Elementwise>())
        return WalkResult::advance();
      op->emitError() << "'" << op->getName() << "' on "
                      << op->getResult(0).getType()
                      << " has no expansion for a GPU";
      return WalkResult::interrupt();
    });
    if (left.wasInterrupted())
      signalPassFailure();
  }
};

} // namespace

void mlir::delta::populateGpuExpandMathPatterns(RewritePatternSet &patterns) {
  patterns
      .add<UseHardware<math::ExpOp, exp>, UseHardware<math::Exp2Op, exp2>,
           UseHardware<math::RsqrtOp, rsqrt>, UseHardware<math::SqrtOp, sqrt>,
           UseHardware<math::FloorOp, callLLVM<LLVM::FFloorOp>>,
           UseHardware<math::CeilOp, callLLVM<LLVM::FCeilOp>>,
           UseHardware<math::TruncOp, callLLVM<LLVM::FTruncOp>>,
           UseHardware<math::RoundEvenOp, callLLVM<LLVM::RoundEvenOp>>,
           UseHardware<SigmoidOp, sigmoid>, CopySignBits, PowerByLogarithm,
           AbsoluteInHardware, DivideInHardware>(patterns.getContext());
  addScalarise<math::ExpOp, math::Exp2Op, math::LogOp, math::Log1pOp,
               math::TanhOp, math::RsqrtOp, math::SqrtOp, math::PowFOp,
               math::AbsFOp, math::FloorOp, math::CeilOp, math::TruncOp,
               math::RoundEvenOp, math::CopySignOp, arith::DivFOp, SigmoidOp,
               SoftplusOp>(patterns);
  populateExpandMathPatterns(patterns);
}
