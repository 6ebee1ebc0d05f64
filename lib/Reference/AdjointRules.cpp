//===- AdjointRules.cpp - Gradients of elementwise operations -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One derivative an operation, and the sums and repetitions that go with them.
// Where a function has no derivative, this is taken for it: at a tie, max and
// min pass half of the cotangent to each operand (so relu has 1/2 at 0), and
// abs nothing; a power with a base of at most 0 does not depend on its
// exponent.
//
//===----------------------------------------------------------------------===//

#include "Tape.h"
#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/StringSwitch.h"

#include <cmath>

using namespace delta::reference;
using namespace mlir::delta;
using mlir::Operation;

/// The derivative of a function of one number, from x and y = f(x).
using Derivative = double (*)(double x, double y);

static double sigmoid(double x) {
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}

static Derivative lookupDerivative(llvm::StringRef name) {
  return llvm::StringSwitch<Derivative>(name)
      .Case("arith.negf", [](double, double) { return -1.0; })
      .Case("arith.truncf", [](double, double) { return 1.0; })
      .Case("arith.extf", [](double, double) { return 1.0; })
      .Case("math.exp", [](double, double y) { return y; })
      .Case("math.exp2", [](double, double y) { return y * std::log(2.0); })
      .Case("math.expm1", [](double, double y) { return y + 1; })
      .Case("math.log", [](double x, double) { return 1 / x; })
      .Case("math.log2", [](double x, double) { return 1 / x / std::log(2.0); })
      .Case("math.log1p", [](double x, double) { return 1 / (1 + x); })
      .Case("math.sqrt", [](double, double y) { return 0.5 / y; })
      .Case("math.rsqrt", [](double x, double y) { return -0.5 * y / x; })
      .Case("math.absf",
            [](double x, double) { return x > 0   ? 1.0
                                          : x < 0 ? -1.0
                                                  : 0.0; })
      // 1 - y would lose what is left of it where y is near 1.
      .Case("math.tanh",
            [](double x, double) {
              double c = std::cosh(x);
              return 1 / c / c;
            })
      .Case("delta.sigmoid", [](double x, double y) { return y * sigmoid(-x); })
      .Case("delta.softplus", [](double x, double) { return sigmoid(x); })
      .Default(nullptr);
}

/// The derivatives of a function of two numbers with respect to each.
struct Partials {
  double (*x)(double x, double y) = nullptr;
  double (*y)(double x, double y) = nullptr;
};

static Partials lookupPartials(llvm::StringRef name) {
  constexpr Partials kMax = {[](double x, double y) {
                               return x > y ? 1.0 : x == y ? 0.5 : 0.0;
                             },
                             [](double x, double y) {
                               return x > y ? 0.0 : x == y ? 0.5 : 1.0;
                             }};
  constexpr Partials kMin = {[](double x, double y) {
                               return x < y ? 1.0 : x == y ? 0.5 : 0.0;
                             },
                             [](double x, double y) {
                               return x < y ? 0.0 : x == y ? 0.5 : 1.0;
                             }};
  constexpr Partials kPow = {
      [](double x, double y) { return y == 0 ? 0 : y * std::pow(x, y - 1); },
      [](double x, double y) {
        return x > 0 ? std::pow(x, y) * std::log(x) : 0.0;
      }};
  return llvm::StringSwitch<Partials>(name)
      .Cases({"arith.maximumf", "arith.maxnumf"}, kMax)
      .Cases({"arith.minimumf", "arith.minnumf"}, kMin)
      .Case("math.powf", kPow)
      .Default({});
}

/// The number that an operand repeats in all its elements, if it does.
static mlir::Value getRepeated(mlir::Value value) {
  auto broadcast = value.getDefiningOp<BroadcastOp>();
  if (!broadcast ||
      mlir::isa<mlir::RankedTensorType>(broadcast.getInput().getType()))
    return {};
  return broadcast.getInput();
}

/// Elementwise g * f(x, y), and 0 where g is.
static Matrix pass(const Adjoint &g, const Matrix &x, const Matrix &y,
                   double (*f)(double, double)) {
  Matrix result = g.dense();
  Matrix lhs = x.densified(), rhs = y.densified();
  for (int64_t i = 0; i < result.size(); ++i)
    if (double &value = result.data()[i]; value != 0)
      value *= f(lhs.data()[i], rhs.data()[i]);
  return result;
}

std::optional<Tape::Rule> Tape::getElementwiseRule(Operation *op) {
  llvm::StringRef name = op->getName().getStringRef();
  if (auto broadcast = mlir::dyn_cast<BroadcastOp>(op)) {
    if (mlir::isa<mlir::RankedTensorType>(broadcast.getInput().getType()))
      return std::nullopt;
    Operand x = operand(broadcast.getInput());
    return [=](const Frame &, const Adjoint &g, Adjoints &d) {
      d[x.slot].add(Matrix::dense(1, 1, g.total()));
    };
  }
  if (auto sum = mlir::dyn_cast<SumOp>(op)) {
    auto type = mlir::cast<mlir::RankedTensorType>(sum.getInput().getType());
    if (type.getRank() != 1)
      return std::nullopt;
    Operand x = operand(sum.getInput());
    return [=](const Frame &f, const Adjoint &g, Adjoints &d) {
      d[x.slot].add(Matrix::uniform(f[x.slot].rows(), 1, g.dense()(0)));
    };
  }
  if (op->getNumResults() != 1)
    return std::nullopt;
  unsigned result = program.slot(op->getResult(0));
  if (op->getNumOperands() == 1) {
    Derivative derivative = lookupDerivative(name);
    if (!derivative)
      return std::nullopt;
    Operand x = operand(op->getOperand(0));
    if (name == "arith.negf")
      return [=](const Frame &, const Adjoint &g, Adjoints &d) {
        d[x.slot].add(g, -1);
      };
    return [=](const Frame &f, const Adjoint &g, Adjoints &d) {
      d[x.slot].add(pass(g, f[x.slot], f[result], derivative));
    };
  }
  if (op->getNumOperands() != 2)
    return std::nullopt;

  Operand x = operand(op->getOperand(0)), y = operand(op->getOperand(1));
  if (name == "arith.addf" || name == "arith.subf") {
    double sign = name == "arith.addf" ? 1 : -1;
    return [=](const Frame &, const Adjoint &g, Adjoints &d) {
      if (x.active)
        d[x.slot].add(g);
      if (y.active)
        d[y.slot].add(g, sign);
    };
  }
  bool product = name == "arith.mulf", quotient = name == "arith.divf";
  mlir::Value repeatedX, repeatedY = getRepeated(op->getOperand(1));
  if (product && !repeatedY)
    repeatedX = getRepeated(op->getOperand(0));
  if ((product || quotient) && (repeatedX || repeatedY)) {
    // A multiple of a matrix, which keeps its structure.
    Operand many = repeatedX ? y : x;
    Operand one = operand(repeatedX ? repeatedX : repeatedY);
    return [=](const Frame &f, const Adjoint &g, Adjoints &d) {
      double scale = f[one.slot](0);
      if (many.active)
        d[many.slot].add(g, product ? scale : 1 / scale);
      if (one.active && product)
        d[one.slot].add(Matrix::dense(1, 1, g.dot(f[many.slot])));
      else if (one.active)
        d[one.slot].add(
            Matrix::dense(1, 1, passBack(g.dot(f[result]), -1 / scale)));
    };
  }
  if (product)
    return [=](const Frame &f, const Adjoint &g, Adjoints &d) {
      auto second = [](double, double b) { return b; };
      if (x.active)
        d[x.slot].add(pass(g, f[x.slot], f[y.slot], second));
      if (y.active)
        d[y.slot].add(pass(g, f[y.slot], f[x.slot], second));
    };
  if (quotient)
    return [=](const Frame &f, const Adjoint &g, Adjoints &d) {
      if (x.active)
        d[x.slot].add(pass(g, f[x.slot], f[y.slot],
                           [](double, double b) { return 1 / b; }));
      if (y.active)
        d[y.slot].add(pass(g, f[result], f[y.slot],
                           [](double r, double b) { return -r / b; }));
    };
  Partials partials = lookupPartials(name);
  if (!partials.x)
    return std::nullopt;
  return [=](const Frame &f, const Adjoint &g, Adjoints &d) {
    if (x.active)
      d[x.slot].add(pass(g, f[x.slot], f[y.slot], partials.x));
    if (y.active)
      d[y.slot].add(pass(g, f[x.slot], f[y.slot], partials.y));
  };
}
