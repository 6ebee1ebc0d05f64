//===- Affinity.cpp - is the step in the class? ---------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A step S' = e is in the class if, after products are distributed over sums,
// every term of e is D * S with a state-free diagonal D, or x * y^T with a
// state-free x and a y that is state-free or a read of the state. Nothing is
// distributed here: a StateUse says for every sub-expression what its terms
// would be, and each operator combines the StateUses of its operands.
//
// Orientation is part of it. With a K x K state the types cannot tell S from
// S^T, nor a read M^T * x from a product with the other side.
//
//===----------------------------------------------------------------------===//

#include "Internal.h"
#include "Typing.h"

#include "llvm/ADT/STLExtras.h"

using namespace llvm;

namespace delta::spec {

namespace {
class Affinity {
public:
  Affinity(const Expr *root, UseSite site, const StateDecl &state,
           DiagnosticEngine &diagnostics)
      : root(root), site(site), state(state), diagnostics(diagnostics) {}

  bool visit(Expr *expr);
  bool checkUse(const Expr *value);

private:
  bool visitBinary(BinaryExpr *expr);
  bool visitSum(BinaryExpr *expr);
  bool visitProduct(BinaryExpr *expr);
  bool visitScaling(BinaryExpr *expr, const Expr *scaled);
  bool visitElementwise(BinaryExpr *expr);
  bool multiplyStateByRight(BinaryExpr *expr);
  bool multiplyStateByLeft(BinaryExpr *expr);
  bool multiplyRead(BinaryExpr *expr);
  bool requireTransition(const Expr *factor);
  bool requireWrites(const Expr *term);
  bool rejectTransposed(const Expr *matrix);
  bool rejectSide(const Expr *expr, const Twine &read);
  bool rejectDependence(const Expr *operand, const Twine &what);
  bool fail(const Expr *at, const Twine &message);
  bool failAt(const Expr *culprit, const Expr *use, const Twine &message,
              const Twine &note);

  std::string stateName() const { return ("'" + state.getName() + "'").str(); }
  StringRef rowsName() const { return state.rows->getName(); }

  const Expr *root;
  UseSite site;
  const StateDecl &state;
  DiagnosticEngine &diagnostics;
};
} // namespace

//===----------------------------------------------------------------------===//
// Messages
//===----------------------------------------------------------------------===//

bool Affinity::fail(const Expr *at, const Twine &message) {
  auto error = diagnostics.error(at->getLoc(), message);
  if (auto *binary = dyn_cast<BinaryExpr>(at))
    error.range(binary->lhs->getRange()).range(binary->rhs->getRange());
  else
    error.range(at->getRange());
  return false;
}

/// Reports at `culprit` if it stands in this statement; if it is inside a let,
/// reports at the let's `use` and notes the culprit.
bool Affinity::failAt(const Expr *culprit, const Expr *use,
                      const Twine &message, const Twine &note) {
  const char *at = culprit->getLoc().getPointer();
  SMRange statement = root->getRange();
  if (at >= statement.Start.getPointer() && at < statement.End.getPointer())
    return fail(culprit, message);
  diagnostics.error(use->getLoc(), message)
      .range(use->getRange())
      .note(culprit->getLoc(), note);
  return false;
}

/// Reports `operand`, which must be state-free, unless it is.
bool Affinity::rejectDependence(const Expr *operand, const Twine &what) {
  if (operand->getStateUse().isFree())
    return true;
  diagnostics
      .error(operand->getLoc(),
             what + ", but '" + shorten(operand->str()) +
                 "' depends on the state; the step must be affine in the "
                 "state")
      .range(operand->getRange());
  return false;
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

bool Affinity::visit(Expr *expr) {
  switch (expr->getKind()) {
  case Expr::Kind::Number:
  case Expr::Kind::Index:
    return true;
  case Expr::Kind::Eye: {
    StateUse use;
    use.diagonal = expr;
    expr->setStateUse(use);
    return true;
  }
  case Expr::Kind::Name: {
    Decl *decl = cast<NameExpr>(expr)->decl;
    if (auto *let = dyn_cast<LetDecl>(decl))
      expr->setStateUse(let->value->getStateUse());
    if (isa<StateDecl>(decl)) {
      StateUse use;
      use.kind = StateUse::Kind::Matrix;
      use.keepsState = true;
      expr->setStateUse(use);
    }
    return true;
  }
  case Expr::Kind::Negate: {
    Expr *operand = cast<NegateExpr>(expr)->operand;
    if (!visit(operand))
      return false;
    expr->setStateUse(operand->getStateUse());
    return true;
  }
  case Expr::Kind::Transpose: {
    Expr *operand = cast<TransposeExpr>(expr)->operand;
    if (!visit(operand))
      return false;
    StateUse use = operand->getStateUse();
    if (use.isMatrix())
      use.transposed = !use.transposed;
    expr->setStateUse(use);
    return true;
  }
  case Expr::Kind::Binary: {
    SmallVector<BinaryExpr *> spine;
    collectLeftSpine(expr, spine);
    if (!visit(spine.back()->lhs))
      return false;
    for (BinaryExpr *binary : llvm::reverse(spine))
      if (!visit(binary->rhs) || !visitBinary(binary))
        return false;
    return true;
  }
  case Expr::Kind::Power: {
    // The exponent is a constant.
    Expr *base = cast<PowerExpr>(expr)->base;
    return visit(base) && rejectDependence(base, "'^' takes a state-free base");
  }
  case Expr::Kind::Call: {
    auto *call = cast<CallExpr>(expr);
    for (Expr *arg : call->args)
      if (!visit(arg) ||
          !rejectDependence(arg, "'" + getSpelling(call->function) +
                                     "' takes state-free arguments"))
        return false;
    StateUse use;
    if (call->function == Function::Diag)
      use.diagonal = expr;
    expr->setStateUse(use);
    return true;
  }
  }
  llvm_unreachable("all kinds are handled");
}

bool Affinity::visitBinary(BinaryExpr *expr) {
  bool scalarLhs = expr->lhs->getType().isScalar();
  bool scalarRhs = expr->rhs->getType().isScalar();
  switch (expr->op) {
  case BinaryOp::Add:
  case BinaryOp::Sub:
    return visitSum(expr);
  case BinaryOp::Mul:
    if (scalarRhs || scalarLhs)
      return visitScaling(expr, scalarRhs ? expr->lhs : expr->rhs);
    return visitProduct(expr);
  case BinaryOp::Div:
    return visitScaling(expr, expr->lhs);
  case BinaryOp::ElementMul:
    if (scalarRhs || scalarLhs)
      return visitScaling(expr, scalarRhs ? expr->lhs : expr->rhs);
    return visitElementwise(expr);
  case BinaryOp::ElementDiv:
    if (scalarRhs)
      return visitScaling(expr, expr->lhs);
    return visitElementwise(expr);
  }
  llvm_unreachable("all operators are handled");
}

/// A product or quotient of `scaled` and a scalar, which is state-free: nothing
/// makes a scalar from the state.
bool Affinity::visitScaling(BinaryExpr *expr, const Expr *scaled) {
  expr->setStateUse(scaled->getStateUse());
  return true;
}

/// Requires the state-free matrix `term`, added to a matrix of the state's
/// type, to be a sum of outer products.
bool Affinity::requireWrites(const Expr *term) {
  const StateUse &use = term->getStateUse();
  if (use.general)
    return failAt(use.general, term,
                  "an elementwise product of matrices cannot be added to the "
                  "state; what is added is a sum of outer products 'x * y^T'",
                  "the elementwise product is here");
  if (use.diagonal)
    return failAt(use.diagonal, term,
                  "a diagonal matrix cannot be added to the state; what is "
                  "added is a sum of outer products 'x * y^T'",
                  "the diagonal matrix is here");
  return true;
}

/// Reports a transposed matrix where one of the state's orientation must be.
bool Affinity::rejectTransposed(const Expr *matrix) {
  if (matrix->getStateUse().keepsState)
    return fail(matrix, "the transpose of the state " + stateName() +
                            " cannot become part of the state; it only serves "
                            "to read, as in '" +
                            state.getName() + "^T * x'");
  return fail(matrix, "a read of the state " + stateName() +
                          " is the left factor of an outer product that is "
                          "written to it; it can only be the right one, as in "
                          "'x * (" +
                          state.getName() + "^T * k)^T'");
}

bool Affinity::visitSum(BinaryExpr *expr) {
  const StateUse &lhs = expr->lhs->getStateUse();
  const StateUse &rhs = expr->rhs->getStateUse();
  StateUse use;
  if (lhs.isMatrix() || rhs.isMatrix()) {
    use.kind = StateUse::Kind::Matrix;
    use.keepsState = lhs.keepsState || rhs.keepsState;
    use.transposed = lhs.isMatrix() ? lhs.transposed : rhs.transposed;
    if (lhs.isMatrix() && rhs.isMatrix() && lhs.transposed != rhs.transposed)
      return rejectTransposed(lhs.transposed ? expr->lhs : expr->rhs);
    if ((lhs.isFree() && !requireWrites(expr->lhs)) ||
        (rhs.isFree() && !requireWrites(expr->rhs)))
      return false;
  } else if (lhs.isRead() || rhs.isRead()) {
    use.kind = StateUse::Kind::Read;
    use.elementwise = lhs.elementwise ? lhs.elementwise : rhs.elementwise;
  } else {
    use.diagonal = lhs.diagonal ? lhs.diagonal : rhs.diagonal;
    use.general = lhs.general ? lhs.general : rhs.general;
  }
  expr->setStateUse(use);
  return true;
}

/// `.*` or `./` of two operands that are not scalar, or `./` by a vector.
bool Affinity::visitElementwise(BinaryExpr *expr) {
  const StateUse &lhs = expr->lhs->getStateUse();
  const StateUse &rhs = expr->rhs->getStateUse();
  StateUse use;
  if (lhs.isFree() && rhs.isFree()) {
    if (expr->getType().isMatrix())
      use.general = expr;
    expr->setStateUse(use);
    return true;
  }
  if (lhs.isMatrix() || rhs.isMatrix())
    return fail(expr, "'" + getSpelling(expr->op) +
                          "' cannot scale the state's elements one by one; the "
                          "state decays by a scalar or by rows, as in 'diag(w) "
                          "* " +
                          state.getName() + "'");
  if (expr->op == BinaryOp::ElementDiv) {
    if (!rhs.isFree())
      return fail(expr, "cannot divide by a read of the state; the step must "
                        "be affine in the state");
    diagnostics
        .error(expr->getLoc(), "cannot divide a read of the state by a vector")
        .range(expr->getRange())
        .note(expr->getLoc(),
              "did you mean '.* (1 ./ " + shorten(expr->rhs->str()) + ")'?");
    return false;
  }
  if (!lhs.isFree() && !rhs.isFree())
    return fail(expr, "cannot multiply two reads of the state; the step must "
                      "be affine in the state");
  use.kind = StateUse::Kind::Read;
  use.elementwise = expr;
  expr->setStateUse(use);
  return true;
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

/// Requires the state-free matrix `factor` to be diagonal plus low rank.
bool Affinity::requireTransition(const Expr *factor) {
  const StateUse &use = factor->getStateUse();
  if (!use.general)
    return true;
  return failAt(use.general, factor,
                "an elementwise product of matrices is not a transition; what "
                "multiplies the state is diagonal plus low rank, as in "
                "'diag(w) + b * a^T'",
                "the elementwise product is here");
}

/// A product of two operands of which none is scalar.
bool Affinity::visitProduct(BinaryExpr *expr) {
  const StateUse &lhs = expr->lhs->getStateUse();
  const StateUse &rhs = expr->rhs->getStateUse();
  if (!lhs.isFree() && !rhs.isFree())
    return fail(expr, "the product of two values that depend on the state is "
                      "not affine in it");
  if (lhs.isMatrix())
    return multiplyStateByRight(expr);
  if (rhs.isMatrix())
    return multiplyStateByLeft(expr);
  if (lhs.isRead() || rhs.isRead())
    return multiplyRead(expr);

  StateUse use;
  if (expr->lhs->getType().isMatrix() && expr->rhs->getType().isMatrix()) {
    use.general = lhs.general ? lhs.general : rhs.general;
    // Only diagonal times diagonal is diagonal.
    if (lhs.diagonal && rhs.diagonal)
      use.diagonal = lhs.diagonal;
  }
  expr->setStateUse(use);
  return true;
}

/// Reports a product that combines the state's columns; `read` does not.
bool Affinity::rejectSide(const Expr *expr, const Twine &read) {
  return fail(expr, "the state " + stateName() +
                        " is read from the wrong side; a read is '" + read +
                        "' with a vector x of type " + rowsName() +
                        " x 1, which keeps the state's columns apart");
}

/// M * y for a matrix M that depends on the state and a state-free y.
bool Affinity::multiplyStateByRight(BinaryExpr *expr) {
  const StateUse &lhs = expr->lhs->getStateUse();
  const Expr *right = expr->rhs;
  bool vector = right->getType().isVector();
  if (!lhs.transposed) {
    if (vector)
      return rejectSide(expr, state.getName() + "^T * x");
    return fail(expr, "the state " + stateName() +
                          " is multiplied from the right; a transition "
                          "multiplies it from the left, as in 'diag(w) * " +
                          state.getName() + "'");
  }
  // (M^T)^T * x: a read. (M^T)^T * N is (N^T * M^T)^T.
  if (!vector && !requireTransition(right))
    return false;
  StateUse use;
  if (vector) {
    use.kind = StateUse::Kind::Read;
  } else if (right->getType().cols != state.rows) {
    return fail(expr, "a product of the state " + stateName() +
                          " must have the state's type or be a read; this is " +
                          expr->getType().str());
  } else {
    use.kind = StateUse::Kind::Matrix;
    use.transposed = true;
    use.keepsState = lhs.keepsState && right->getStateUse().diagonal;
  }
  expr->setStateUse(use);
  return true;
}

/// x * M for a matrix M that depends on the state and a state-free x.
bool Affinity::multiplyStateByLeft(BinaryExpr *expr) {
  const StateUse &rhs = expr->rhs->getStateUse();
  const Expr *left = expr->lhs;
  bool vector = left->getType().isVector();
  if (rhs.transposed) {
    if (vector)
      return rejectSide(expr, "x^T * " + state.getName());
    return fail(expr, "the transposed state " + stateName() +
                          " is multiplied from the left, which is the state "
                          "from the right; a transition multiplies it from the "
                          "left, as in 'diag(w) * " +
                          state.getName() + "'");
  }
  if (!vector && !requireTransition(left))
    return false;
  StateUse use;
  if (vector) {
    use.kind = StateUse::Kind::Read;
  } else if (left->getType().rows != state.rows) {
    return fail(expr, "a product of the state " + stateName() +
                          " must have the state's type or be a read; this is " +
                          expr->getType().str());
  } else {
    use.kind = StateUse::Kind::Matrix;
    use.keepsState = rhs.keepsState && left->getStateUse().diagonal;
  }
  expr->setStateUse(use);
  return true;
}

/// A product with a read as one factor, the other state-free.
bool Affinity::multiplyRead(BinaryExpr *expr) {
  bool readOnLeft = expr->lhs->getStateUse().isRead();
  const Expr *read = readOnLeft ? expr->lhs : expr->rhs;
  const Expr *other = readOnLeft ? expr->rhs : expr->lhs;
  bool outer = expr->lhs->getType().isColumn() && expr->rhs->getType().isRow();
  if (!outer) {
    if (expr->getType().isScalar())
      return fail(expr, "cannot reduce a read of the state to a scalar; the "
                        "columns of the state must stay independent");
    return fail(expr, "cannot multiply a read of the state by a matrix; the "
                      "columns of the state must stay independent");
  }
  if (const Expr *elementwise = read->getStateUse().elementwise)
    return failAt(elementwise, read,
                  "a read scaled by '.*' cannot be written to the state, whose "
                  "columns share one transition; only an out may use it",
                  "the read is scaled here");
  // x * r^T writes; r * x^T is its transpose.
  Type type = other->getType();
  if ((readOnLeft ? type.cols : type.rows) != state.rows)
    return fail(expr, "the outer product of a read and a vector must have the "
                      "state's type, " +
                          state.getType().str() + "; this is " +
                          expr->getType().str());
  StateUse use;
  use.kind = StateUse::Kind::Matrix;
  use.transposed = readOnLeft;
  expr->setStateUse(use);
  return true;
}

//===----------------------------------------------------------------------===//
// Statements
//===----------------------------------------------------------------------===//

/// Checks what the statement does with its value.
bool Affinity::checkUse(const Expr *value) {
  const StateUse &use = value->getStateUse();
  switch (site) {
  case UseSite::Let:
    if (!use.isMatrix() || !use.keepsState)
      return true;
    diagnostics
        .error(value->getLoc(), "a let cannot hold the whole state " +
                                    stateName() +
                                    "; name a read of it, as in "
                                    "'" +
                                    state.getName() + "^T * x'")
        .range(value->getRange());
    return false;
  case UseSite::Assign:
    if (use.isFree())
      return requireWrites(value);
    if (use.isMatrix() && use.transposed)
      return rejectTransposed(value);
    return true;
  case UseSite::Out:
    return true;
  }
  llvm_unreachable("all sites are handled");
}

bool checkAffinity(Expr *value, UseSite site, const StateDecl &state,
                   DiagnosticEngine &diagnostics) {
  Affinity affinity(value, site, state, diagnostics);
  return affinity.visit(value) && affinity.checkUse(value);
}

} // namespace delta::spec
