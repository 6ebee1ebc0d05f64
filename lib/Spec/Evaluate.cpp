//===- Evaluate.cpp - values of constant expressions ----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A float64 interpreter of scalar expressions.
//
//===----------------------------------------------------------------------===//

#include "delta/Spec/Evaluate.h"

#include "Internal.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include <cmath>

using namespace llvm;

namespace delta::spec {

static Error makeError(const Twine &message) {
  return createStringError(inconvertibleErrorCode(), message);
}

static double apply(BinaryOp op, double lhs, double rhs) {
  switch (op) {
  case BinaryOp::Add:
    return lhs + rhs;
  case BinaryOp::Sub:
    return lhs - rhs;
  case BinaryOp::Mul:
  case BinaryOp::ElementMul:
    return lhs * rhs;
  case BinaryOp::Div:
  case BinaryOp::ElementDiv:
    return lhs / rhs;
  }
  llvm_unreachable("all operators are handled");
}

/// The value of an elementwise function; `y` is the second argument, if any.
static double apply(Function function, double x, double y) {
  switch (function) {
  case Function::Exp:
    return std::exp(x);
  case Function::Exp2:
    return std::exp2(x);
  case Function::Log:
    return std::log(x);
  case Function::Sqrt:
    return std::sqrt(x);
  case Function::Rsqrt:
    return 1 / std::sqrt(x);
  case Function::Abs:
    return std::fabs(x);
  case Function::Sigmoid:
    return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
  case Function::Softplus:
    return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x)));
  case Function::Silu:
    return x * apply(Function::Sigmoid, x, 0);
  case Function::Tanh:
    return std::tanh(x);
  case Function::Relu:
    return std::fmax(x, 0);
  case Function::Min:
    return std::fmin(x, y);
  case Function::Max:
    return std::fmax(x, y);
  case Function::Dot:
  case Function::Sum:
  case Function::L2norm:
  case Function::Diag:
    break;
  }
  llvm_unreachable("not elementwise");
}

using Lookup = function_ref<std::optional<double>(StringRef)>;

static Expected<double> evaluate(const Expr *expr, Lookup lookup) {
  switch (expr->getKind()) {
  case Expr::Kind::Number:
    return cast<NumberExpr>(expr)->value;
  case Expr::Kind::Name: {
    StringRef name = cast<NameExpr>(expr)->id.name;
    if (std::optional<double> value = lookup(name))
      return *value;
    return makeError("the value of '" + name + "' is not known");
  }
  case Expr::Kind::Negate: {
    Expected<double> value = evaluate(cast<NegateExpr>(expr)->operand, lookup);
    if (!value)
      return value;
    return -*value;
  }
  case Expr::Kind::Transpose:
    return evaluate(cast<TransposeExpr>(expr)->operand, lookup);
  case Expr::Kind::Binary: {
    SmallVector<BinaryExpr *> spine;
    collectLeftSpine(const_cast<Expr *>(expr), spine);
    Expected<double> value = evaluate(spine.back()->lhs, lookup);
    if (!value)
      return value;
    for (const BinaryExpr *binary : llvm::reverse(spine)) {
      Expected<double> rhs = evaluate(binary->rhs, lookup);
      if (!rhs)
        return rhs;
      value = apply(binary->op, *value, *rhs);
    }
    return value;
  }
  case Expr::Kind::Power: {
    Expected<double> base = evaluate(cast<PowerExpr>(expr)->base, lookup);
    if (!base)
      return base;
    Expected<double> exponent =
        evaluate(cast<PowerExpr>(expr)->exponent, lookup);
    if (!exponent)
      return exponent;
    return std::pow(*base, *exponent);
  }
  case Expr::Kind::Call: {
    const auto *call = cast<CallExpr>(expr);
    if (!isElementwise(call->function))
      return makeError("'" + getSpelling(call->function) +
                       "' takes a vector, which a constant expression cannot "
                       "have");
    double values[2] = {0, 0};
    for (auto [arg, result] : llvm::zip_first(call->args, values)) {
      Expected<double> value = evaluate(arg, lookup);
      if (!value)
        return value;
      result = *value;
    }
    return apply(call->function, values[0], values[1]);
  }
  case Expr::Kind::Index:
  case Expr::Kind::Eye:
    return makeError("'" + expr->str() + "' is not a constant");
  }
  llvm_unreachable("all kinds are handled");
}

std::optional<double> evaluateClosed(const Expr *expr) {
  Expected<double> value =
      evaluate(expr, [](StringRef) { return std::nullopt; });
  if (value)
    return *value;
  consumeError(value.takeError());
  return std::nullopt;
}

Expected<double> evaluateConstant(StringRef text,
                                  const StringMap<int64_t> &dims,
                                  const StringMap<double> &attrs) {
  std::string shown = "'" + shorten(text) + "'";
  Recurrence arena;
  DiagnosticEngine diagnostics;
  const Expr *expr = parseExpression(text, arena, diagnostics);
  if (!expr) {
    std::string reason;
    diagnostics.flush([&](const Diagnostic &diagnostic) {
      if (reason.empty())
        reason = diagnostic.message;
    });
    return makeError("cannot evaluate " + shown + ": " + reason);
  }
  Expected<double> value =
      evaluate(expr, [&](StringRef name) -> std::optional<double> {
        if (auto it = dims.find(name); it != dims.end())
          return static_cast<double>(it->second);
        if (auto it = attrs.find(name); it != attrs.end())
          return it->second;
        return std::nullopt;
      });
  if (!value)
    return makeError("cannot evaluate " + shown + ": " +
                     toString(value.takeError()));
  if (!std::isfinite(*value))
    return makeError("the value of " + shown + " is not finite");
  return value;
}

SmallVector<std::string> getConstantNames(StringRef text) {
  SmallVector<std::string> names;
  Recurrence arena;
  DiagnosticEngine diagnostics;
  const Expr *root = parseExpression(text, arena, diagnostics);
  if (!root)
    return names;
  SmallVector<const Expr *> worklist{root};
  while (!worklist.empty()) {
    const Expr *expr = worklist.pop_back_val();
    if (auto *name = dyn_cast<NameExpr>(expr)) {
      if (!is_contained(names, name->id.name))
        names.push_back(name->id.name.str());
    } else if (auto *negate = dyn_cast<NegateExpr>(expr)) {
      worklist.push_back(negate->operand);
    } else if (auto *transpose = dyn_cast<TransposeExpr>(expr)) {
      worklist.push_back(transpose->operand);
    } else if (auto *binary = dyn_cast<BinaryExpr>(expr)) {
      worklist.append({binary->rhs, binary->lhs});
    } else if (auto *power = dyn_cast<PowerExpr>(expr)) {
      worklist.append({power->exponent, power->base});
    } else if (auto *call = dyn_cast<CallExpr>(expr)) {
      append_range(worklist, reverse(call->args));
    }
  }
  return names;
}

} // namespace delta::spec
