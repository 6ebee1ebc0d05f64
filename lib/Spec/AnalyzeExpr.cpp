//===- AnalyzeExpr.cpp - names and types in expressions -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Resolves the names in an expression, and hands its operators to Typing.cpp
// from the leaves up.
//
//===----------------------------------------------------------------------===//

#include "Analyzer.h"

#include "llvm/ADT/STLExtras.h"

using namespace llvm;

namespace delta::spec {

/// Resolves the names in `expr` and computes its type. Returns false if there
/// is none; the reason was reported.
bool Analyzer::visit(Expr *expr) {
  switch (expr->getKind()) {
  case Expr::Kind::Number:
    expr->setConstant(true);
    expr->setType(Type());
    return true;
  case Expr::Kind::Name:
    return visitName(cast<NameExpr>(expr));
  case Expr::Kind::Index:
    return visitIndex(cast<IndexExpr>(expr));
  case Expr::Kind::Negate: {
    Expr *operand = cast<NegateExpr>(expr)->operand;
    if (!visit(operand))
      return false;
    expr->setConstant(operand->isConstant());
    expr->setType(operand->getType());
    return true;
  }
  case Expr::Kind::Transpose: {
    Expr *operand = cast<TransposeExpr>(expr)->operand;
    if (!visit(operand))
      return false;
    expr->setConstant(operand->isConstant());
    expr->setType(operand->getType().getTransposed());
    return true;
  }
  case Expr::Kind::Binary: {
    SmallVector<BinaryExpr *> spine;
    collectLeftSpine(expr, spine);
    bool typed = visit(spine.back()->lhs);
    for (BinaryExpr *binary : llvm::reverse(spine)) {
      // Both sides, so that errors in both are reported.
      bool rhsTyped = visit(binary->rhs);
      typed = typed && rhsTyped && typing.typeBinary(binary);
    }
    return typed;
  }
  case Expr::Kind::Power: {
    auto *power = cast<PowerExpr>(expr);
    bool baseTyped = visit(power->base);
    bool exponentTyped = visit(power->exponent);
    return baseTyped && exponentTyped && typing.typePower(power);
  }
  case Expr::Kind::Call: {
    auto *call = cast<CallExpr>(expr);
    bool typed = true;
    for (Expr *arg : call->args)
      typed &= visit(arg);
    return typed && typing.typeCall(call);
  }
  case Expr::Kind::Eye: {
    auto *eye = cast<EyeExpr>(expr);
    eye->dim = resolveDim(eye->dimId);
    if (!eye->dim)
      return false;
    expr->setType({eye->dim, eye->dim});
    return true;
  }
  }
  llvm_unreachable("all kinds are handled");
}

bool Analyzer::visitName(NameExpr *expr) {
  Decl *decl = resolve(expr->id, "name");
  expr->decl = decl;
  if (!decl || decl->isInvalid())
    return false;
  switch (decl->getKind()) {
  case Decl::Kind::Dim:
  case Decl::Kind::Attr:
    expr->setConstant(true);
    expr->setType(Type());
    return true;
  case Decl::Kind::Argument: {
    auto *argument = cast<ArgumentDecl>(decl);
    if (!argument->isFamily()) {
      expr->setType(argument->getType());
      return true;
    }
    StringRef name = decl->getName();
    auto error = diagnostics.error(expr->getLoc(),
                                   "'" + name +
                                       "' is a family of micro-steps and needs "
                                       "an index, as in '" +
                                       name + "[0]', or '" + name +
                                       "[j]' inside 'for j "
                                       "in " +
                                       argument->family->getName() + "'");
    error.range(expr->getRange());
    noteDeclaration(error, decl);
    return false;
  }
  case Decl::Kind::State:
    expr->setType(cast<StateDecl>(decl)->getType());
    return true;
  case Decl::Kind::Let: {
    const Expr *value = cast<LetDecl>(decl)->value;
    expr->setConstant(value->isConstant());
    expr->setType(value->getType());
    return true;
  }
  case Decl::Kind::Out: {
    auto error = diagnostics.error(expr->getLoc(),
                                   "the out '" + decl->getName() +
                                       "' is not a value; name it with 'let' "
                                       "first");
    error.range(expr->getRange());
    noteDeclaration(error, decl);
    return false;
  }
  case Decl::Kind::LoopVar: {
    auto error = diagnostics.error(expr->getLoc(),
                                   "the loop variable '" + decl->getName() +
                                       "' is only an index, not a value");
    error.range(expr->getRange());
    noteDeclaration(error, decl);
    return false;
  }
  }
  llvm_unreachable("all kinds are handled");
}

bool Analyzer::visitIndex(IndexExpr *expr) {
  Decl *decl = resolve(expr->id, "name");
  Decl *index = expr->indexId.isValid()
                    ? resolve(expr->indexId, "loop variable")
                    : nullptr;
  if (!decl || decl->isInvalid() || (index && index->isInvalid()))
    return false;
  expr->decl = dyn_cast<ArgumentDecl>(decl);
  if (!expr->decl || !expr->decl->isFamily()) {
    auto error = diagnostics.error(expr->getLoc(),
                                   "'" + decl->getName() +
                                       "' is not a family of micro-steps and "
                                       "takes no index");
    error.range(expr->getRange());
    noteDeclaration(error, decl);
    return false;
  }
  if (expr->indexId.isValid()) {
    if (!index)
      return false;
    expr->loopVar = dyn_cast<LoopVarDecl>(index);
    if (!expr->loopVar) {
      auto error = diagnostics.error(
          expr->indexId.loc, "an index is a loop variable or a whole number, "
                             "but '" +
                                 expr->indexId.name + "' is neither");
      error.range(expr->indexId.getRange());
      noteDeclaration(error, index);
      return false;
    }
    if (expr->loopVar->dim != expr->decl->family) {
      auto error = diagnostics.error(
          expr->getLoc(), "'" + decl->getName() + "' has " +
                              expr->decl->family->getName() +
                              " micro-steps, but '" + expr->indexId.name +
                              "' runs over " + expr->loopVar->dim->getName());
      error.range(expr->getRange());
      noteDeclaration(error, decl);
      return false;
    }
  }
  expr->setType(expr->decl->getType());
  return true;
}

} // namespace delta::spec
