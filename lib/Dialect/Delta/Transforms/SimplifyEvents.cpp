//===- SimplifyEvents.cpp - Events with the least work --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// General rewrites on chains of events (chunk_math 2.2). After them a fact is
// visible in the structure: writes and reads that share an SSA vector are tied,
// feedback that is zero is gone, the scalars of a token stand on the side of
// the state's columns.
//
// Test: test/Dialect/Delta/Transforms/simplify-events.mlir
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/Transforms/Passes.h"
#include "delta/Dialect/Delta/Transforms/Transforms.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/CSE.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

#define DEBUG_TYPE "delta-simplify-events"

namespace mlir::delta {
#define GEN_PASS_DEF_DELTASIMPLIFYEVENTS
#include "delta/Dialect/Delta/Transforms/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;

/// The scalar that `value` repeats; null if it is no repetition of one.
static Value getRepeatedScalar(Value value) {
  auto broadcast = value.getDefiningOp<BroadcastOp>();
  return broadcast && isa<FloatType>(broadcast.getInput().getType())
             ? broadcast.getInput()
             : Value();
}

/// Takes `vector` apart as scalar * rest. Returns false when there is no
/// scalar factor.
static bool splitScalar(OpBuilder &builder, Value vector, Value &scalar,
                        Value &rest) {
  VectorBuilder vectors(builder);
  if (auto neg = vector.getDefiningOp<arith::NegFOp>()) {
    scalar = vectors.constant(neg.getLoc(), -1.0);
    rest = neg.getOperand();
    return true;
  }
  if (auto mul = vector.getDefiningOp<arith::MulFOp>())
    for (auto [factor, other] :
         {std::pair(mul.getLhs(), mul.getRhs()), std::pair(mul.getRhs(), mul.getLhs())})
      if (Value s = getRepeatedScalar(factor)) {
        scalar = s;
        rest = other;
        return true;
      }
  if (auto div = vector.getDefiningOp<arith::DivFOp>())
    if (Value s = getRepeatedScalar(div.getRhs())) {
      scalar = vectors.div(div.getLoc(), vectors.constant(div.getLoc(), 1.0), s);
      rest = div.getLhs();
      return true;
    }
  return false;
}

namespace {

/// x .* (s y) -> s (x .* y), so that scalars come to the outside; products
/// with 0, 1 and of repeated scalars fold.
struct HoistScalarFactor : OpRewritePattern<arith::MulFOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(arith::MulFOp op,
                                PatternRewriter &rewriter) const override {
    VectorBuilder vectors(rewriter);
    Location loc = op.getLoc();
    Value lhs = op.getLhs(), rhs = op.getRhs();
    for (Value side : {lhs, rhs})
      if (VectorBuilder::isConstant(side, 0.0) || VectorBuilder::isConstant(side, 1.0)) {
        rewriter.replaceOp(op, vectors.mul(loc, lhs, rhs));
        return success();
      }
    if (!isa<RankedTensorType>(op.getType()))
      return failure();
    Value s = getRepeatedScalar(lhs), t = getRepeatedScalar(rhs);
    if (s && t) {
      rewriter.replaceOp(op, vectors.mul(loc, lhs, rhs));
      return success();
    }
    for (auto [x, other] : {std::pair(lhs, rhs), std::pair(rhs, lhs)}) {
      Value scalar, rest;
      auto mul = x.getDefiningOp<arith::MulFOp>();
      if (!mul || getRepeatedScalar(other))
        continue;
      if (!splitScalar(rewriter, x, scalar, rest))
        continue;
      Value product = arith::MulFOp::create(rewriter, loc, rest, other);
      rewriter.replaceOp(op, vectors.mul(loc, product, scalar));
      return success();
    }
    return failure();
  }
};

/// x + 0 -> x.
struct DropZeroSummand : OpRewritePattern<arith::AddFOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(arith::AddFOp op,
                                PatternRewriter &rewriter) const override {
    if (!VectorBuilder::isConstant(op.getLhs(), 0.0) &&
        !VectorBuilder::isConstant(op.getRhs(), 0.0))
      return failure();
    rewriter.replaceOp(op, VectorBuilder::isConstant(op.getLhs(), 0.0)
                               ? op.getRhs()
                               : op.getLhs());
    return success();
  }
};

struct SimplifyRead : OpRewritePattern<ReadOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ReadOp op,
                                PatternRewriter &rewriter) const override {
    VectorBuilder vectors(rewriter);
    Location loc = op.getLoc();
    if (VectorBuilder::isConstant(op.getX(), 0.0)) {
      rewriter.replaceOp(op, vectors.zero(loc, op.getType()));
      return success();
    }
    Value scalar, rest;
    if (splitScalar(rewriter, op.getX(), scalar, rest)) {
      Value read = ReadOp::create(rewriter, loc, op.getType(), op.getState(), rest);
      rewriter.replaceOp(op, vectors.mul(loc, read, scalar));
      return success();
    }
    return readAfterDecay(op, rewriter);
  }

  /// read(s, w .* x) where s decays by the vector w next -> read(decay(s, w), x).
  LogicalResult readAfterDecay(ReadOp op, PatternRewriter &rewriter) const {
    DecayOp decay;
    for (Operation *user : op.getState().getUsers())
      if (auto candidate = dyn_cast<DecayOp>(user))
        decay = candidate;
    if (!decay || !isa<RankedTensorType>(decay.getW().getType()) ||
        decay->getBlock() != op->getBlock())
      return failure();
    auto mul = op.getX().getDefiningOp<arith::MulFOp>();
    if (!mul)
      return failure();
    Value x = mul.getLhs() == decay.getW()   ? mul.getRhs()
              : mul.getRhs() == decay.getW() ? mul.getLhs()
                                             : Value();
    if (!x)
      return failure();
    // The decay only needs its state and w, which both stand before the read.
    if (op->isBeforeInBlock(decay))
      rewriter.moveOpBefore(decay, op);
    rewriter.replaceOpWithNewOp<ReadOp>(op, op.getType(), decay.getResult(), x);
    return success();
  }
};

struct SimplifyDecay : OpRewritePattern<DecayOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(DecayOp op,
                                PatternRewriter &rewriter) const override {
    if (VectorBuilder::isConstant(op.getW(), 1.0)) {
      rewriter.replaceOp(op, op.getState());
      return success();
    }
    // A repeated scalar is a scalar decay.
    if (Value s = getRepeatedScalar(op.getW())) {
      rewriter.modifyOpInPlace(op, [&] { op.getWMutable().assign(s); });
      return success();
    }
    auto inner = op.getState().getDefiningOp<DecayOp>();
    if (!inner || !inner->hasOneUse())
      return failure();
    Value w = VectorBuilder(rewriter).mul(op.getLoc(), inner.getW(), op.getW());
    rewriter.replaceOpWithNewOp<DecayOp>(op, op.getType(), inner.getState(), w);
    return success();
  }
};

struct SimplifyWrite : OpRewritePattern<WriteOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(WriteOp op,
                                PatternRewriter &rewriter) const override {
    VectorBuilder vectors(rewriter);
    Location loc = op.getLoc();
    if (VectorBuilder::isConstant(op.getY(), 0.0) ||
        VectorBuilder::isConstant(op.getC(), 0.0)) {
      rewriter.replaceOp(op, op.getState());
      return success();
    }
    Value scalar, rest;
    if (splitScalar(rewriter, op.getY(), scalar, rest)) {
      Value c = vectors.mul(loc, op.getC(), scalar);
      rewriter.replaceOpWithNewOp<WriteOp>(op, op.getType(), op.getState(), rest, c);
      return success();
    }
    // Writes that nothing reads in between commute: find one with this vector.
    SmallVector<WriteOp> between;
    auto earlier = op.getState().getDefiningOp<WriteOp>();
    for (; earlier && earlier->hasOneUse();
         earlier = earlier.getState().getDefiningOp<WriteOp>()) {
      if (earlier.getY() == op.getY())
        break;
      between.push_back(earlier);
    }
    if (!earlier || !earlier->hasOneUse() || earlier.getY() != op.getY())
      return failure();
    Value state = earlier.getState();
    for (WriteOp write : llvm::reverse(between))
      state = WriteOp::create(rewriter, write.getLoc(), write.getType(), state,
                              write.getY(), write.getC());
    Value c = vectors.add(loc, earlier.getC(), op.getC());
    rewriter.replaceOpWithNewOp<WriteOp>(op, op.getType(), state, op.getY(), c);
    return success();
  }
};

} // namespace

LogicalResult mlir::delta::simplifyEvents(ModuleOp module) {
  if (getStage(module) != Stage::Events)
    return module.emitError("expects a module of stage events");
  RewritePatternSet patterns(module.getContext());
  patterns.add<HoistScalarFactor, DropZeroSummand, SimplifyRead, SimplifyDecay,
               SimplifyWrite>(module.getContext());
  FrozenRewritePatternSet frozen(std::move(patterns));
  DominanceInfo dominance;
  // Merging needs equal vectors to be one value, so CSE comes first.
  for (int round = 0; round < 2; ++round) {
    IRRewriter rewriter(module.getContext());
    eliminateCommonSubExpressions(rewriter, dominance, module);
    if (failed(applyPatternsGreedily(module, frozen)))
      return module.emitError("the simplification of events does not converge");
  }
  IRRewriter rewriter(module.getContext());
  eliminateCommonSubExpressions(rewriter, dominance, module);
  return success();
}

namespace {

struct SimplifyEvents : delta::impl::DeltaSimplifyEventsBase<SimplifyEvents> {
  void runOnOperation() override {
    if (failed(simplifyEvents(getOperation())))
      signalPassFailure();
  }
};

} // namespace
