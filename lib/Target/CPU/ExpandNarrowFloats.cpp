//===- ExpandNarrowFloats.cpp - f16 and bf16 on any CPU -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where the CPU cannot convert between f32 and f16 or bf16, LLVM calls a
// function of the compiler's run-time library for each element, which an
// object file of ours must not need. This rewrites arith.extf and arith.truncf
// into bit operations there, and takes conversions from and to f64 through f32
// everywhere. Rounding is to nearest even; f16's denormals are kept.
//
// Test: test/Target/CPU/expand-narrow-floats.mlir.
//
//===----------------------------------------------------------------------===//

#include "delta/Target/CPU/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

#define DEBUG_TYPE "delta-expand-narrow-floats"

namespace mlir::delta {
#define GEN_PASS_DEF_EXPANDNARROWFLOATS
#include "delta/Target/CPU/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;

static Type withElement(Type type, Type element) {
  auto shaped = dyn_cast<ShapedType>(type);
  return shaped ? Type(shaped.clone(element)) : element;
}

namespace {

/// Integer arithmetic on scalars or vectors shaped like `shape`.
struct Bits {
  ImplicitLocOpBuilder b;
  Type shape;

  Type type(unsigned width) {
    return withElement(shape, b.getIntegerType(width));
  }
  Value num(uint32_t value) {
    TypedAttr attr = b.getIntegerAttr(b.getI32Type(), int32_t(value));
    if (auto shaped = dyn_cast<ShapedType>(type(32)))
      attr = DenseElementsAttr::get(shaped, attr);
    return arith::ConstantOp::create(b, attr);
  }
  Value real(Value bits) {
    return arith::BitcastOp::create(b, withElement(shape, b.getF32Type()),
                                    bits);
  }
  Value ofReal(Value value) {
    return arith::BitcastOp::create(b, type(32), value);
  }
  Value land(Value x, uint32_t y) {
    return arith::AndIOp::create(b, x, num(y));
  }
  Value add(Value x, uint32_t y) { return arith::AddIOp::create(b, x, num(y)); }
  Value shr(Value x, uint32_t y) {
    return arith::ShRUIOp::create(b, x, num(y));
  }
  Value shl(Value x, uint32_t y) { return arith::ShLIOp::create(b, x, num(y)); }
  Value below(Value x, uint32_t y) {
    return arith::CmpIOp::create(b, arith::CmpIPredicate::ult, x, num(y));
  }
  Value select(Value condition, Value x, Value y) {
    return arith::SelectOp::create(b, condition, x, y);
  }
};

/// f64 <-> 16 bits by way of f32.
template <typename Op> struct ConvertThroughF32 : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;
  LogicalResult matchAndRewrite(Op op,
                                PatternRewriter &rewriter) const override {
    unsigned from =
        getElementTypeOrSelf(op.getIn().getType()).getIntOrFloatBitWidth();
    unsigned to = getElementTypeOrSelf(op.getType()).getIntOrFloatBitWidth();
    if (std::max(from, to) != 64 || std::min(from, to) != 16)
      return rewriter.notifyMatchFailure(op, "not between 16 and 64 bits");
    Type middle = withElement(op.getType(), rewriter.getF32Type());
    Value value = Op::create(rewriter, op.getLoc(), middle, op.getIn());
    rewriter.replaceOpWithNewOp<Op>(op, op.getType(), value);
    return success();
  }
};

struct ExtendF16 : OpRewritePattern<arith::ExtFOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(arith::ExtFOp op,
                                PatternRewriter &rewriter) const override {
    if (!getElementTypeOrSelf(op.getIn().getType()).isF16() ||
        !getElementTypeOrSelf(op.getType()).isF32())
      return rewriter.notifyMatchFailure(op, "not from f16 to f32");
    Bits bits{ImplicitLocOpBuilder(op.getLoc(), rewriter), op.getType()};
    Value half = arith::BitcastOp::create(bits.b, bits.type(16), op.getIn());
    half = arith::ExtUIOp::create(bits.b, bits.type(32), half);
    Value sign = bits.shl(bits.land(half, 0x8000), 16);
    Value size = bits.shl(bits.land(half, 0x7fff), 13);
    // The exponent's bias; once more for inf and NaN.
    Value normal = bits.add(size, 112u << 23);
    Value special = bits.add(size, 224u << 23);
    // A denormal is the mantissa's distance from 2^-14.
    Value base = bits.real(bits.num(113u << 23));
    Value denormal = bits.ofReal(arith::SubFOp::create(
        bits.b, bits.real(bits.add(size, 113u << 23)), base));
    Value result =
        bits.select(bits.below(size, 0x7c00u << 13), normal, special);
    result = bits.select(bits.below(size, 0x0400u << 13), denormal, result);
    result = arith::OrIOp::create(bits.b, result, sign);
    rewriter.replaceOp(op, bits.real(result));
    return success();
  }
};

struct TruncateF16 : OpRewritePattern<arith::TruncFOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(arith::TruncFOp op,
                                PatternRewriter &rewriter) const override {
    if (!getElementTypeOrSelf(op.getType()).isF16() ||
        !getElementTypeOrSelf(op.getIn().getType()).isF32())
      return rewriter.notifyMatchFailure(op, "not from f32 to f16");
    Bits bits{ImplicitLocOpBuilder(op.getLoc(), rewriter), op.getType()};
    Value all = bits.ofReal(op.getIn());
    Value sign = bits.shr(bits.land(all, 0x80000000u), 16);
    Value size = bits.land(all, 0x7fffffffu);
    // Normal: half a unit less one, and one more for an odd mantissa.
    Value odd = bits.land(bits.shr(size, 13), 1);
    Value normal = bits.add(size, (uint32_t(15 - 127) << 23) + 0xfff);
    normal = bits.shr(arith::AddIOp::create(bits.b, normal, odd), 13);
    // Denormal: adding 1/2 rounds at the right place.
    Value half = bits.num(0x3f000000);
    Value denormal =
        arith::SubIOp::create(bits.b,
                              bits.ofReal(arith::AddFOp::create(
                                  bits.b, bits.real(size), bits.real(half))),
                              half);
    Value special = bits.select(bits.below(size, 0x7f800001u), bits.num(0x7c00),
                                bits.num(0x7e00));
    Value result = bits.select(bits.below(size, 0x47800000u), normal, special);
    result = bits.select(bits.below(size, 0x38800000u), denormal, result);
    result = arith::OrIOp::create(bits.b, result, sign);
    result = arith::TruncIOp::create(bits.b, bits.type(16), result);
    rewriter.replaceOpWithNewOp<arith::BitcastOp>(op, op.getType(), result);
    return success();
  }
};

struct ExpandNarrowFloatsPass
    : mlir::delta::impl::ExpandNarrowFloatsBase<ExpandNarrowFloatsPass> {
  using ExpandNarrowFloatsBase::ExpandNarrowFloatsBase;
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<ConvertThroughF32<arith::ExtFOp>,
                 ConvertThroughF32<arith::TruncFOp>>(&getContext());
    if (f16)
      patterns.add<ExtendF16, TruncateF16>(&getContext());
    if (bf16)
      arith::populateExpandBFloat16Patterns(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
