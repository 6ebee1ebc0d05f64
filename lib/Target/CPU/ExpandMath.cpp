//===- ExpandMath.cpp - Elementary functions as polynomials ---------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rewrites exp, exp2, log, log1p, tanh, rsqrt, pow, sigmoid, softplus and
// heaviside on scalars and vectors into arith and math.fma, so that a vector
// costs little more than a scalar does in libm.
//
//   math.exp %x : vector<16xf32>   =>   reduction, polynomial, scaling by 2^n
//
// The polynomials are Chebyshev fits of the quotients named beside them. All
// steps are exact where hardware has no fused multiply-add too: the high parts
// of log 2 have enough trailing zeros. Test: test/Target/CPU/expand-math.mlir,
// accuracy: test/python/test_expand_math.py.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Target/CPU/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

#include <cmath>
#include <limits>

#define DEBUG_TYPE "delta-expand-math"

namespace mlir::delta {
#define GEN_PASS_DEF_EXPANDMATH
#include "delta/Target/CPU/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;

namespace {

/// Numbers of one element type that the expansions are made of. Polynomials
/// are in ascending order.
struct Numbers {
  int mantissa;            // explicit bits of the mantissa
  double rounder;          // 1.5 * 2^mantissa: adding it rounds to an integer
  double ln2Hi, ln2Lo;     // log 2 in two parts; n * ln2Hi is exact
  double expMax, expMin;   // largest x with finite, least with normal e^x
  double exp2Max, exp2Min; // the same for 2^x (the first is excluded)
  double tanhMin;          // -2|x| from where on tanh is +-1
  ArrayRef<double> exp;    // (e^r - 1 - r) / r^2,      |r| <= log(2) / 2
  ArrayRef<double> exp2;   // (2^r - 1) / r,            |r| <= 1/2
  ArrayRef<double> log;    // see logOfReduced
};

} // namespace

static const double kExpF32[] = {0.5, 0.166665763, 0.0416665561, 0.00836318545,
                                 0.0013926191};
static const double kExp2F32[] = {0.693147182,   0.240226507,  0.0555041097,
                                  0.00961805694, 0.0013333502, 0.000154614681,
                                  1.52973407e-05};
static const double kLogF32[] = {0.333333313,  -0.24999997,  0.200007156,
                                 -0.166678026, 0.142490402,  -0.124256544,
                                 0.1168558,    -0.114800684, 0.0697158501};
static const double kExpF64[] = {0.5,
                                 0.16666666666666671,
                                 0.041666666666666671,
                                 0.0083333333333261289,
                                 0.0013888888888883744,
                                 0.00019841269874840768,
                                 2.4801587325562125e-05,
                                 2.7557255374658744e-06,
                                 2.7557273624866478e-07,
                                 2.510522763655176e-08,
                                 2.0914694560351592e-09};
static const double kExp2F64[] = {
    0.69314718055994529,    0.24022650695910072,    0.055504108664821625,
    0.0096181291076284803,  0.0013333558146406436,  0.00015403530393370715,
    1.5252733841601815e-05, 1.3215486808727859e-06, 1.0178057064573359e-07,
    7.0548972926916273e-09, 4.4558220250149153e-10, 2.5729344553386755e-11};
static const double kLogF64[] = {0.66666666666666696, 0.39999999999899322,
                                 0.2857142862605887,  0.22222211121185237,
                                 0.18182890116710865, 0.15331688649850531,
                                 0.14616856909240356};

static const Numbers &getNumbers(Type type) {
  static const Numbers f32 = {
      23,         0x1.8p23,    0x1.62e4p-1, 0x1.7f7d1cf79abcap-20,
      88.7228317, -87.3365402, 128.0,       -126.0,
      -40.0,      kExpF32,     kExp2F32,    kLogF32};
  static const Numbers f64 = {52,
                              0x1.8p52,
                              0x1.62e42fefa2p-1,
                              0x1.9ef35793c7673p-41,
                              0x1.62e42fefa39efp9,
                              -708.396418532264,
                              1024.0,
                              -1022.0,
                              -80.0,
                              kExpF64,
                              kExp2F64,
                              kLogF64};
  return getElementTypeOrSelf(type).isF32() ? f32 : f64;
}

namespace {

/// Builds elementwise expressions on values of one type, scalar or vector.
class Emitter {
public:
  Emitter(OpBuilder &builder, Location loc, Type type)
      : builder(builder), loc(loc), type(type), numbers(getNumbers(type)) {
    Type bits = builder.getIntegerType(
        getElementTypeOrSelf(type).getIntOrFloatBitWidth());
    auto shaped = dyn_cast<ShapedType>(type);
    integer = shaped ? shaped.clone(bits) : bits;
  }

  Value num(double value) {
    TypedAttr attr = FloatAttr::get(getElementTypeOrSelf(type), value);
    if (auto shaped = dyn_cast<ShapedType>(type))
      attr = DenseElementsAttr::get(shaped, attr);
    return arith::ConstantOp::create(builder, loc, attr);
  }
  Value inum(int64_t value) {
    TypedAttr attr =
        builder.getIntegerAttr(getElementTypeOrSelf(integer), value);
    if (auto shaped = dyn_cast<ShapedType>(integer))
      attr = DenseElementsAttr::get(shaped, attr);
    return arith::ConstantOp::create(builder, loc, attr);
  }
  Value add(Value a, Value b) {
    return arith::AddFOp::create(builder, loc, a, b);
  }
  Value sub(Value a, Value b) {
    return arith::SubFOp::create(builder, loc, a, b);
  }
  Value mul(Value a, Value b) {
    return arith::MulFOp::create(builder, loc, a, b);
  }
  Value div(Value a, Value b) {
    return arith::DivFOp::create(builder, loc, a, b);
  }
  Value neg(Value a) { return arith::NegFOp::create(builder, loc, a); }
  Value abs(Value a) { return math::AbsFOp::create(builder, loc, a); }
  Value fma(Value a, Value b, Value c) {
    return math::FmaOp::create(builder, loc, a, b, c);
  }
  Value iadd(Value a, Value b) {
    return arith::AddIOp::create(builder, loc, a, b);
  }
  Value isub(Value a, Value b) {
    return arith::SubIOp::create(builder, loc, a, b);
  }
  Value shl(Value a, int64_t by) {
    return arith::ShLIOp::create(builder, loc, a, inum(by));
  }
  Value ashr(Value a, int64_t by) {
    return arith::ShRSIOp::create(builder, loc, a, inum(by));
  }
  Value bits(Value a) {
    return arith::BitcastOp::create(builder, loc, integer, a);
  }
  Value real(Value a) {
    return arith::BitcastOp::create(builder, loc, type, a);
  }
  Value cmp(arith::CmpFPredicate predicate, Value a, Value b) {
    return arith::CmpFOp::create(builder, loc, predicate, a, b);
  }
  Value select(Value condition, Value a, Value b) {
    return arith::SelectOp::create(builder, loc, condition, a, b);
  }
  /// Horner's scheme.
  Value polynomial(ArrayRef<double> coefficients, Value x) {
    Value sum = num(coefficients.back());
    for (double c : llvm::reverse(coefficients.drop_back()))
      sum = fma(sum, x, num(c));
    return sum;
  }
  Value infinity() { return num(std::numeric_limits<double>::infinity()); }

  /// e^r - 1 and the integer n, as bits beside the rounder, with
  /// x = n log 2 + r.
  std::pair<Value, Value> reducedExp(Value x);
  Value exp(Value x);
  Value exp2(Value x);
  Value log(Value x);
  Value log1p(Value x);
  Value tanh(Value x);
  Value sigmoid(Value x);
  Value softplus(Value x);
  Value heaviside(Value x);

private:
  /// `y` where 2^n was finite and normal, else inf, 0 or NaN by `x`.
  Value guardExp(Value x, Value y, arith::CmpFPredicate overflow, double max,
                 double min);

  OpBuilder &builder;
  Location loc;
  Type type, integer;
  const Numbers &numbers;
};

} // namespace

std::pair<Value, Value> Emitter::reducedExp(Value x) {
  // Adding 1.5 * 2^mantissa leaves the nearest integer in the low bits.
  Value shifted = fma(x, num(1.4426950408889634), num(numbers.rounder));
  Value n = sub(shifted, num(numbers.rounder));
  Value r = fma(n, num(-numbers.ln2Hi), x);
  r = fma(n, num(-numbers.ln2Lo), r);
  Value q = polynomial(numbers.exp, r);
  return {fma(mul(r, r), q, r), bits(shifted)};
}

Value Emitter::guardExp(Value x, Value y, arith::CmpFPredicate overflow,
                        double max, double min) {
  using P = arith::CmpFPredicate;
  y = select(cmp(overflow, x, num(max)), infinity(), y);
  y = select(cmp(P::OLT, x, num(min)), num(0.0), y);
  return select(cmp(P::UNO, x, x), x, y);
}

Value Emitter::exp(Value x) {
  auto [p, n] = reducedExp(x);
  // 1 + p is within [0.7, 1.42]; n goes straight into its exponent.
  Value y = real(iadd(bits(add(p, num(1.0))), shl(n, numbers.mantissa)));
  return guardExp(x, y, arith::CmpFPredicate::OGT, numbers.expMax,
                  numbers.expMin);
}

Value Emitter::exp2(Value x) {
  Value shifted = add(x, num(numbers.rounder));
  Value r = sub(x, sub(shifted, num(numbers.rounder)));
  Value y = fma(polynomial(numbers.exp2, r), r, num(1.0));
  y = real(iadd(bits(y), shl(bits(shifted), numbers.mantissa)));
  return guardExp(x, y, arith::CmpFPredicate::OGE, numbers.exp2Max,
                  numbers.exp2Min);
}

/// x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)). In f32
/// log(1 + f) = f - f^2/2 + f^3 P(f); in f64, with s = f / (2 + f),
/// log(1 + f) = 2s + s z P(z), z = s^2, arranged so that f is added last.
Value Emitter::log(Value x) {
  using P = arith::CmpFPredicate;
  bool single = numbers.mantissa == 23;
  Value offset = inum(single ? 0x3f3504f3 : 0x3fe6a09e667f3bcd);
  Value e = ashr(isub(bits(x), offset), numbers.mantissa);
  Value f = sub(real(isub(bits(x), shl(e, numbers.mantissa))), num(1.0));
  Value rounderBits = bits(num(numbers.rounder));
  Value n = sub(real(iadd(e, rounderBits)), num(numbers.rounder));
  Value half = mul(mul(f, f), num(0.5));
  Value y;
  if (single) {
    Value cube = mul(mul(f, f), f);
    Value tail =
        fma(cube, polynomial(numbers.log, f), mul(n, num(numbers.ln2Lo)));
    y = fma(n, num(numbers.ln2Hi), add(f, sub(tail, half)));
  } else {
    Value s = div(f, add(f, num(2.0)));
    Value z = mul(s, s);
    Value r = mul(z, polynomial(numbers.log, z));
    Value tail = fma(s, add(half, r), mul(n, num(numbers.ln2Lo)));
    y = fma(n, num(numbers.ln2Hi), sub(f, sub(half, tail)));
  }
  double nan = std::numeric_limits<double>::quiet_NaN();
  y = select(cmp(P::OEQ, x, num(0.0)), neg(infinity()), y);
  y = select(cmp(P::OEQ, x, infinity()), infinity(), y);
  return select(cmp(P::UGE, x, num(0.0)), select(cmp(P::UNO, x, x), x, y),
                num(nan));
}

/// log(u) + c / u with u = 1 + x rounded and c what rounding lost.
Value Emitter::log1p(Value x) {
  using P = arith::CmpFPredicate;
  Value u = add(x, num(1.0));
  Value lostSmall = sub(x, sub(u, num(1.0)));
  Value lostLarge = sub(num(1.0), sub(u, x));
  Value lost = select(cmp(P::OLT, x, num(1.0)), lostSmall, lostLarge);
  Value y = add(log(u), div(lost, u));
  // -1 and inf, where lost / u is not a number.
  Value edge = cmp(P::OEQ, x, num(-1.0));
  y = select(edge, neg(infinity()), y);
  return select(cmp(P::OEQ, x, infinity()), infinity(), y);
}

/// -E / (2 + E), E = e^(-2|x|) - 1, with x's sign.
Value Emitter::tanh(Value x) {
  using P = arith::CmpFPredicate;
  Value t = mul(abs(x), num(-2.0));
  Value least = num(numbers.tanhMin);
  t = select(cmp(P::OLT, t, least), least, t);
  auto [p, n] = reducedExp(t);
  Value scale = real(iadd(bits(num(1.0)), shl(n, numbers.mantissa)));
  Value e = fma(scale, p, sub(scale, num(1.0)));
  Value y = div(neg(e), add(e, num(2.0)));
  // The bits of a NaN may have spoilt `scale`.
  y = select(cmp(P::UNO, x, x), x, y);
  return math::CopySignOp::create(builder, loc, y, x);
}

Value Emitter::sigmoid(Value x) {
  Value e = math::ExpOp::create(builder, loc, neg(abs(x)));
  Value positive = div(num(1.0), add(e, num(1.0)));
  Value isPositive = cmp(arith::CmpFPredicate::OGE, x, num(0.0));
  return select(isPositive, positive, mul(e, positive));
}

Value Emitter::softplus(Value x) {
  Value e = math::ExpOp::create(builder, loc, neg(abs(x)));
  Value tail = math::Log1pOp::create(builder, loc, e);
  Value isPositive = cmp(arith::CmpFPredicate::OGT, x, num(0.0));
  return add(select(isPositive, x, num(0.0)), tail);
}

Value Emitter::heaviside(Value x) {
  Value isPositive = cmp(arith::CmpFPredicate::OGT, x, num(0.0));
  Value isNegative = cmp(arith::CmpFPredicate::OLT, x, num(0.0));
  return select(isPositive, num(1.0), select(isNegative, num(0.0), num(0.5)));
}

Value mlir::delta::buildSigmoid(OpBuilder &builder, Location loc, Value x) {
  return Emitter(builder, loc, x.getType()).sigmoid(x);
}

Value mlir::delta::buildSoftplus(OpBuilder &builder, Location loc, Value x) {
  return Emitter(builder, loc, x.getType()).softplus(x);
}

//===----------------------------------------------------------------------===//
// Patterns
//===----------------------------------------------------------------------===//

/// Scalars and vectors of floats; tensors come here later, as vectors.
static bool isScalarOrVector(Type type) {
  return isa<FloatType>(type) ||
         (isa<VectorType>(type) && isa<FloatType>(getElementTypeOrSelf(type)));
}

namespace {

/// Replaces a unary `Op` by what `Emit` builds.
template <typename Op, Value (Emitter::*Emit)(Value)>
struct ExpandUnary : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;
  LogicalResult matchAndRewrite(Op op,
                                PatternRewriter &rewriter) const override {
    Type type = op->getOperand(0).getType();
    Type element = getElementTypeOrSelf(type);
    if (!isScalarOrVector(type) || !(element.isF32() || element.isF64()))
      return rewriter.notifyMatchFailure(op, "neither f32 nor f64");
    Emitter emitter(rewriter, op.getLoc(), type);
    rewriter.replaceOp(op, (emitter.*Emit)(op->getOperand(0)));
    return success();
  }
};

/// f16 and bf16 are computed in f32.
template <typename Op> struct ComputeInF32 : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;
  LogicalResult matchAndRewrite(Op op,
                                PatternRewriter &rewriter) const override {
    Type type = op->getResult(0).getType();
    if (!isScalarOrVector(type) ||
        getElementTypeOrSelf(type).getIntOrFloatBitWidth() != 16)
      return rewriter.notifyMatchFailure(op, "not a 16-bit float");
    auto shaped = dyn_cast<ShapedType>(type);
    Type wide = shaped ? shaped.clone(rewriter.getF32Type())
                       : Type(rewriter.getF32Type());
    SmallVector<Value> operands;
    for (Value operand : op->getOperands())
      operands.push_back(
          arith::ExtFOp::create(rewriter, op.getLoc(), wide, operand));
    Value result = Op::create(rewriter, op.getLoc(), wide, operands);
    rewriter.replaceOpWithNewOp<arith::TruncFOp>(op, type, result);
    return success();
  }
};

/// 1 / sqrt(x).
struct ExpandRsqrt : OpRewritePattern<math::RsqrtOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(math::RsqrtOp op,
                                PatternRewriter &rewriter) const override {
    Type element = getElementTypeOrSelf(op.getType());
    if (!isScalarOrVector(op.getType()) ||
        !(element.isF32() || element.isF64()))
      return rewriter.notifyMatchFailure(op, "neither f32 nor f64");
    Emitter emitter(rewriter, op.getLoc(), op.getType());
    Value root = math::SqrtOp::create(rewriter, op.getLoc(), op.getOperand());
    rewriter.replaceOp(op, emitter.div(emitter.num(1.0), root));
    return success();
  }
};

/// x^p for p = 0, +-1/2, +-1, ..., +-4; other powers are libm's.
struct ExpandPow : OpRewritePattern<math::PowFOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(math::PowFOp op,
                                PatternRewriter &rewriter) const override {
    Type element = getElementTypeOrSelf(op.getType());
    if (!isScalarOrVector(op.getType()) ||
        !(element.isF32() || element.isF64()))
      return rewriter.notifyMatchFailure(op, "neither f32 nor f64");
    FloatAttr exponent;
    DenseFPElementsAttr splat;
    if (!matchPattern(op.getRhs(), m_Constant(&exponent))) {
      if (!matchPattern(op.getRhs(), m_Constant(&splat)) || !splat.isSplat())
        return rewriter.notifyMatchFailure(op, "exponent is not constant");
      exponent = splat.getSplatValue<FloatAttr>();
    }
    double p = exponent.getValueAsDouble(), size = std::abs(p);
    Emitter emitter(rewriter, op.getLoc(), op.getType());
    Value x = op.getLhs(), y;
    if (size == 0.5) {
      y = math::SqrtOp::create(rewriter, op.getLoc(), x);
    } else if (size == 0.0) {
      y = emitter.num(1.0);
    } else if (size <= 4.0 && size == std::floor(size)) {
      y = x;
      if (size >= 2.0)
        y = emitter.mul(x, x);
      if (size == 3.0)
        y = emitter.mul(y, x);
      if (size == 4.0)
        y = emitter.mul(y, y);
    } else {
      return rewriter.notifyMatchFailure(op, "not a small exponent");
    }
    rewriter.replaceOp(op, p < 0 ? emitter.div(emitter.num(1.0), y) : y);
    return success();
  }
};

struct ExpandMathPass : mlir::delta::impl::ExpandMathBase<ExpandMathPass> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    populateExpandMathPatterns(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace

void mlir::delta::populateExpandMathPatterns(RewritePatternSet &patterns) {
  patterns.add<ExpandUnary<math::ExpOp, &Emitter::exp>,
               ExpandUnary<math::Exp2Op, &Emitter::exp2>,
               ExpandUnary<math::LogOp, &Emitter::log>,
               ExpandUnary<math::Log1pOp, &Emitter::log1p>,
               ExpandUnary<math::TanhOp, &Emitter::tanh>,
               ExpandUnary<SigmoidOp, &Emitter::sigmoid>,
               ExpandUnary<SoftplusOp, &Emitter::softplus>,
               ExpandUnary<HeavisideOp, &Emitter::heaviside>,
               ComputeInF32<math::ExpOp>, ComputeInF32<math::Exp2Op>,
               ComputeInF32<math::LogOp>, ComputeInF32<math::Log1pOp>,
               ComputeInF32<math::TanhOp>, ComputeInF32<math::SqrtOp>,
               ComputeInF32<math::RsqrtOp>, ComputeInF32<math::PowFOp>,
               ComputeInF32<SigmoidOp>, ComputeInF32<SoftplusOp>,
               ComputeInF32<HeavisideOp>, ExpandRsqrt, ExpandPow>(
      patterns.getContext());
}
