//===- Typing.cpp - shapes of operators -----------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Typing rules 2 to 7 of docs/Language.md. When shapes do not fit, the message
// proposes the transposes that would make them fit.
//
//===----------------------------------------------------------------------===//

#include "Typing.h"

#include "llvm/ADT/STLExtras.h"

using namespace llvm;

namespace delta::spec {

std::string describeOperand(const Expr *expr) {
  return "'" + shorten(expr->str()) + "' (" + expr->getType().str() + ")";
}

Expr *Typing::makeBinary(BinaryOp op, Expr *lhs, Expr *rhs) {
  return recurrence.create<BinaryExpr>(op, lhs, rhs, SMLoc(), SMRange());
}

Expr *Typing::makeTransposed(Expr *expr, unsigned depth) {
  if (auto *transpose = dyn_cast<TransposeExpr>(expr))
    return transpose->operand;
  auto *binary = dyn_cast<BinaryExpr>(expr);
  if (binary && depth < 8) {
    bool scalarLhs = binary->lhs->getType().isScalar();
    bool scalarRhs = binary->rhs->getType().isScalar();
    if (binary->op == BinaryOp::Mul && scalarLhs)
      return makeBinary(BinaryOp::Mul, binary->lhs,
                        makeTransposed(binary->rhs, depth + 1));
    if ((binary->op == BinaryOp::Mul || binary->op == BinaryOp::Div) &&
        scalarRhs)
      return makeBinary(binary->op, makeTransposed(binary->lhs, depth + 1),
                        binary->rhs);
    // (x * y^T)^T is y * x^T, and (x^T * M)^T is M^T * x.
    if (binary->op == BinaryOp::Mul && !scalarLhs && !scalarRhs &&
        binary->lhs->getType().isVector())
      return makeBinary(BinaryOp::Mul, makeTransposed(binary->rhs, depth + 1),
                        makeTransposed(binary->lhs, depth + 1));
  }
  return recurrence.create<TransposeExpr>(expr, SMLoc(), SMRange());
}

//===----------------------------------------------------------------------===//
// Binary operators
//===----------------------------------------------------------------------===//

bool Typing::typeBinary(BinaryExpr *expr) {
  expr->setConstant(expr->lhs->isConstant() && expr->rhs->isConstant());
  switch (expr->op) {
  case BinaryOp::Add:
  case BinaryOp::Sub:
    return typeSum(expr);
  case BinaryOp::Mul:
    return typeProduct(expr);
  case BinaryOp::ElementMul:
  case BinaryOp::ElementDiv:
    return typeElementwise(expr);
  case BinaryOp::Div:
    break;
  }
  Type lhs = expr->lhs->getType(), rhs = expr->rhs->getType();
  if (rhs.isScalar()) {
    expr->setType(lhs);
    return true;
  }
  auto error = diagnostics
                   .error(expr->getLoc(),
                          "cannot divide by " + describeOperand(expr->rhs) +
                              "; '/' takes a scalar on its right")
                   .range(expr->rhs->getRange());
  if (lhs == rhs || (lhs.isScalar() && rhs.isVector()))
    error.note(
        expr->getLoc(),
        "did you mean '" +
            shorten(
                makeBinary(BinaryOp::ElementDiv, expr->lhs, expr->rhs)->str()) +
            "' (elementwise)?");
  return false;
}

bool Typing::typeProduct(BinaryExpr *expr) {
  Type lhs = expr->lhs->getType(), rhs = expr->rhs->getType();
  if (lhs.isScalar() || rhs.isScalar()) {
    expr->setType(lhs.isScalar() ? rhs : lhs);
    return true;
  }
  if (lhs.cols == rhs.rows) {
    expr->setType({lhs.rows, rhs.cols});
    return true;
  }
  auto name = [](const DimDecl *dim) {
    return dim ? dim->getName() : StringRef("1");
  };
  auto error =
      diagnostics
          .error(expr->getLoc(),
                 "cannot multiply " + describeOperand(expr->lhs) + " by " +
                     describeOperand(expr->rhs) + ": the inner dims " +
                     name(lhs.cols) + " and " + name(rhs.rows) + " differ")
          .range(expr->lhs->getRange())
          .range(expr->rhs->getRange());
  suggestProduct(expr, error);
  return false;
}

/// Notes which products of the operands or their transposes make sense.
void Typing::suggestProduct(BinaryExpr *expr,
                            DiagnosticEngine::Builder &error) {
  Expr *lhs = expr->lhs, *rhs = expr->rhs;
  auto show = [&](BinaryOp op, Expr *l, Expr *r) {
    return "'" + shorten(makeBinary(op, l, r)->str()) + "'";
  };
  Type left = lhs->getType(), right = rhs->getType();
  if (left == right && left.isVector()) {
    bool column = left.isColumn();
    Expr *transposedLhs = makeTransposed(lhs),
         *transposedRhs = makeTransposed(rhs);
    error.note(expr->getLoc(),
               "did you mean " + show(BinaryOp::ElementMul, lhs, rhs) +
                   " (elementwise), " +
                   (column ? show(BinaryOp::Mul, transposedLhs, rhs)
                           : show(BinaryOp::Mul, lhs, transposedRhs)) +
                   " (a scalar) or " +
                   (column ? show(BinaryOp::Mul, lhs, transposedRhs)
                           : show(BinaryOp::Mul, transposedLhs, rhs)) +
                   " (a matrix)?");
    return;
  }
  // The fewest transposes that make the inner dims agree.
  for (auto [flipLhs, flipRhs] :
       {std::pair(false, true), std::pair(true, false),
        std::pair(true, true)}) {
    Type l = flipLhs ? left.getTransposed() : left;
    Type r = flipRhs ? right.getTransposed() : right;
    if (l.cols != r.rows)
      continue;
    error.note(expr->getLoc(),
               "did you mean " +
                   show(BinaryOp::Mul, flipLhs ? makeTransposed(lhs) : lhs,
                        flipRhs ? makeTransposed(rhs) : rhs) +
                   "?");
    return;
  }
}

bool Typing::typeSum(BinaryExpr *expr) {
  Expr *lhs = expr->lhs, *rhs = expr->rhs;
  Type left = lhs->getType(), right = rhs->getType();
  if (left == right) {
    expr->setType(left);
    return true;
  }
  bool scalar = left.isScalar() || right.isScalar();
  Type other = left.isScalar() ? right : left;
  if (scalar && other.isVector()) {
    expr->setType(other);
    return true;
  }
  bool add = expr->op == BinaryOp::Add;
  auto error = diagnostics
                   .error(expr->getLoc(),
                          add ? "cannot add " + describeOperand(lhs) + " and " +
                                    describeOperand(rhs)
                              : "cannot subtract " + describeOperand(rhs) +
                                    " from " + describeOperand(lhs))
                   .range(lhs->getRange())
                   .range(rhs->getRange());
  if (scalar && other.rows != other.cols) {
    error.note(expr->getLoc(), "only a square matrix takes a scalar, as a "
                               "multiple of the identity: 'c * eye(K)'");
  } else if (scalar) {
    // 1 - M is meant as eye(K) - M.
    auto makeIdentity = [&](Expr *factor) -> Expr * {
      Identifier dim{other.rows->getName(), other.rows->getLoc()};
      Expr *eye = recurrence.create<EyeExpr>(dim, SMRange());
      auto *number = dyn_cast<NumberExpr>(factor);
      return number && number->value == 1
                 ? eye
                 : makeBinary(BinaryOp::Mul, factor, eye);
    };
    error.note(
        expr->getLoc(),
        "did you mean '" +
            shorten(makeBinary(expr->op,
                               left.isScalar() ? makeIdentity(lhs) : lhs,
                               right.isScalar() ? makeIdentity(rhs) : rhs)
                        ->str()) +
            "'?");
  } else if (left == right.getTransposed()) {
    error.note(
        expr->getLoc(),
        "did you mean '" +
            shorten(makeBinary(expr->op, lhs, makeTransposed(rhs))->str()) +
            "'?");
  }
  return false;
}

bool Typing::typeElementwise(BinaryExpr *expr) {
  Expr *lhs = expr->lhs, *rhs = expr->rhs;
  Type left = lhs->getType(), right = rhs->getType();
  if (left == right || right.isScalar() || left.isScalar()) {
    expr->setType(left.isScalar() ? right : left);
    return true;
  }
  auto error =
      diagnostics
          .error(expr->getLoc(),
                 "'" + getSpelling(expr->op) + "' cannot combine " +
                     describeOperand(lhs) + " and " + describeOperand(rhs) +
                     "; it takes equal types, or a scalar and any")
          .range(lhs->getRange())
          .range(rhs->getRange());
  if (left == right.getTransposed())
    error.note(
        expr->getLoc(),
        "did you mean '" +
            shorten(makeBinary(expr->op, lhs, makeTransposed(rhs))->str()) +
            "'?");
  return false;
}

//===----------------------------------------------------------------------===//
// Powers and functions
//===----------------------------------------------------------------------===//

const Expr *findNonConstant(const Expr *expr, bool allowLets) {
  SmallVector<const Expr *> worklist{expr};
  while (!worklist.empty()) {
    const Expr *current = worklist.pop_back_val();
    switch (current->getKind()) {
    case Expr::Kind::Number:
      break;
    case Expr::Kind::Name: {
      const Decl *decl = cast<NameExpr>(current)->decl;
      bool let = isa<LetDecl>(decl);
      if (!current->isConstant() || (let && !allowLets))
        return current;
      break;
    }
    case Expr::Kind::Index:
    case Expr::Kind::Eye:
      return current;
    case Expr::Kind::Negate:
      worklist.push_back(cast<NegateExpr>(current)->operand);
      break;
    case Expr::Kind::Transpose:
      worklist.push_back(cast<TransposeExpr>(current)->operand);
      break;
    case Expr::Kind::Binary:
      worklist.push_back(cast<BinaryExpr>(current)->rhs);
      worklist.push_back(cast<BinaryExpr>(current)->lhs);
      break;
    case Expr::Kind::Power:
      worklist.push_back(cast<PowerExpr>(current)->exponent);
      worklist.push_back(cast<PowerExpr>(current)->base);
      break;
    case Expr::Kind::Call:
      llvm::append_range(worklist,
                         llvm::reverse(cast<CallExpr>(current)->args));
      break;
    }
  }
  return nullptr;
}

bool Typing::typePower(PowerExpr *expr) {
  expr->setConstant(expr->base->isConstant() && expr->exponent->isConstant());
  bool valid = true;
  if (expr->base->getType().isMatrix()) {
    diagnostics
        .error(expr->getLoc(), "'^' is elementwise and takes a scalar or a "
                               "vector, but found " +
                                   describeOperand(expr->base))
        .range(expr->base->getRange());
    valid = false;
  }
  if (const Expr *culprit =
          findNonConstant(expr->exponent, /*allowLets=*/true)) {
    diagnostics
        .error(culprit->getRange().Start,
               "an exponent is built from numbers, dims and attrs only, but "
               "found '" +
                   shorten(culprit->str()) + "'")
        .range(culprit->getRange());
    valid = false;
  }
  if (valid)
    expr->setType(expr->base->getType());
  return valid;
}

bool Typing::typeCall(CallExpr *expr) {
  expr->setConstant(llvm::all_of(
      expr->args, [](const Expr *arg) { return arg->isConstant(); }));
  std::string name = ("'" + getSpelling(expr->function) + "'").str();
  Expr *first = expr->args.front();
  Type type = first->getType();

  if (isElementwise(expr->function)) {
    for (Expr *arg : expr->args) {
      if (!arg->getType().isMatrix())
        continue;
      auto error = diagnostics
                       .error(arg->getRange().Start,
                              name + " takes a scalar or a vector, but found " +
                                  describeOperand(arg))
                       .range(arg->getRange());
      auto *inner = dyn_cast<CallExpr>(arg);
      if (inner && inner->function == Function::Diag && expr->args.size() == 1)
        error.note(expr->getLoc(),
                   "did you mean 'diag(" + getSpelling(expr->function) + "(" +
                       shorten(inner->args.front()->str()) + "))'?");
      return false;
    }
    expr->setType(type);
    if (expr->args.size() == 1)
      return true;
    Expr *second = expr->args[1];
    Type other = second->getType();
    if (type != other && !type.isScalar() && !other.isScalar()) {
      diagnostics
          .error(expr->getLoc(), name + " cannot combine " +
                                     describeOperand(first) + " and " +
                                     describeOperand(second) +
                                     "; it takes equal types, or a scalar and "
                                     "any")
          .range(first->getRange())
          .range(second->getRange());
      return false;
    }
    expr->setType(type.isScalar() ? other : type);
    return true;
  }

  for (Expr *arg : expr->args) {
    Type argType = arg->getType();
    if (argType.isColumn() ||
        (argType.isRow() && expr->function != Function::Diag))
      continue;
    auto error = diagnostics
                     .error(arg->getRange().Start,
                            name + " takes a " +
                                (expr->function == Function::Diag ? "column"
                                                                  : "vector") +
                                ", but found " + describeOperand(arg))
                     .range(arg->getRange());
    if (argType.isRow())
      error.note(expr->getLoc(), "did you mean 'diag(" +
                                     shorten(makeTransposed(arg)->str()) +
                                     ")'?");
    return false;
  }
  switch (expr->function) {
  case Function::Dot: {
    Expr *second = expr->args[1];
    if (type != second->getType()) {
      auto error =
          diagnostics
              .error(expr->getLoc(),
                     "'dot' takes two vectors of one type, but found " +
                         describeOperand(first) + " and " +
                         describeOperand(second))
              .range(first->getRange())
              .range(second->getRange());
      if (type == second->getType().getTransposed())
        error.note(expr->getLoc(),
                   "did you mean 'dot(" + shorten(first->str()) + ", " +
                       shorten(makeTransposed(second)->str()) + ")'?");
      return false;
    }
    expr->setType(Type());
    return true;
  }
  case Function::Sum:
    expr->setType(Type());
    return true;
  case Function::L2norm:
    expr->setType(type);
    return true;
  case Function::Diag:
    expr->setType({type.rows, type.rows});
    return true;
  default:
    llvm_unreachable("elementwise functions are done");
  }
}

} // namespace delta::spec
