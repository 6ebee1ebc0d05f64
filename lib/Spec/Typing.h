//===- Typing.h - shapes of operators ---------------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The typing rules of the operators and functions, for operands whose types are
// known. Names are Analysis.cpp's business.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SPEC_TYPING_H
#define DELTA_LIB_SPEC_TYPING_H

#include "Internal.h"

namespace delta::spec {

class Typing {
public:
  Typing(Recurrence &recurrence, DiagnosticEngine &diagnostics)
      : recurrence(recurrence), diagnostics(diagnostics) {}

  // Each sets the type of its node, whose operands are typed, or reports why
  // there is none and returns false.
  bool typeBinary(BinaryExpr *expr);
  bool typePower(PowerExpr *expr);
  bool typeCall(CallExpr *expr);

  /// `expr` transposed, as a user would write it: `(c * x)^T` is `c * x^T`.
  Expr *makeTransposed(Expr *expr, unsigned depth = 0);

private:
  bool typeProduct(BinaryExpr *expr);
  bool typeSum(BinaryExpr *expr);
  bool typeElementwise(BinaryExpr *expr);
  void suggestProduct(BinaryExpr *expr, DiagnosticEngine::Builder &error);
  Expr *makeBinary(BinaryOp op, Expr *lhs, Expr *rhs);

  Recurrence &recurrence;
  DiagnosticEngine &diagnostics;
};

/// `'k' (K x 1)`: how messages show an operand.
std::string describeOperand(const Expr *expr);

/// The leftmost name or matrix in `expr` that keeps it from being a constant;
/// lets of constants are constants only if `allowLets`. Null if it is one.
const Expr *findNonConstant(const Expr *expr, bool allowLets);

} // namespace delta::spec

#endif // DELTA_LIB_SPEC_TYPING_H
