//===- AST.cpp - syntax tree of a recurrence ------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Names of operators and functions, and the canonical printed form, which
// parses to the same tree: parentheses only where the grammar needs them.
//
//===----------------------------------------------------------------------===//

#include "delta/Spec/AST.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>

using namespace llvm;

namespace delta::spec {

SMRange Identifier::getRange() const {
  if (!loc.isValid())
    return SMRange();
  return SMRange(loc, SMLoc::getFromPointer(loc.getPointer() + name.size()));
}

std::string Type::str() const {
  if (isScalar())
    return "scalar";
  return (Twine(rows ? rows->getName() : "1") + " x " +
          (cols ? cols->getName() : "1"))
      .str();
}

StringRef Decl::getDescription() const {
  switch (kind) {
  case Kind::Dim:
    return "dim";
  case Kind::Argument:
    return cast<ArgumentDecl>(this)->isParam() ? "param" : "input";
  case Kind::Attr:
    return "attr";
  case Kind::State:
    return "state";
  case Kind::Let:
    return "let";
  case Kind::Out:
    return "out";
  case Kind::LoopVar:
    return "loop variable";
  }
  llvm_unreachable("all kinds are handled");
}

StringRef getSpelling(BinaryOp op) {
  switch (op) {
  case BinaryOp::Add:
    return "+";
  case BinaryOp::Sub:
    return "-";
  case BinaryOp::Mul:
    return "*";
  case BinaryOp::Div:
    return "/";
  case BinaryOp::ElementMul:
    return ".*";
  case BinaryOp::ElementDiv:
    return "./";
  }
  llvm_unreachable("all operators are handled");
}

// In the order of the enumeration.
static constexpr StringLiteral functionNames[] = {
    "exp",     "exp2",     "log",  "sqrt",   "rsqrt", "abs",
    "sigmoid", "softplus", "silu", "tanh",   "relu",  "min",
    "max",     "dot",      "sum",  "l2norm", "diag"};

StringRef getSpelling(Function function) {
  return functionNames[static_cast<unsigned>(function)];
}

std::optional<Function> lookupFunction(StringRef name) {
  const auto *it = llvm::find(functionNames, name);
  if (it == std::end(functionNames))
    return std::nullopt;
  return static_cast<Function>(it - std::begin(functionNames));
}

unsigned getNumArguments(Function function) {
  return function == Function::Min || function == Function::Max ||
                 function == Function::Dot
             ? 2
             : 1;
}

bool isElementwise(Function function) { return function <= Function::Max; }

Recurrence::Recurrence() {
  dims.push_back(create<DimDecl>(Identifier{"K", SMLoc()}));
  dims.push_back(create<DimDecl>(Identifier{"V", SMLoc()}));
}

void collectLeftSpine(Expr *expr, SmallVectorImpl<BinaryExpr *> &spine) {
  for (auto *binary = dyn_cast<BinaryExpr>(expr); binary;
       binary = dyn_cast<BinaryExpr>(binary->lhs))
    spine.push_back(binary);
}

//===----------------------------------------------------------------------===//
// Printing
//===----------------------------------------------------------------------===//

std::string formatNumber(double value) {
  if (std::isinf(value))
    return value < 0 ? "-inf" : "inf";
  // The shortest form that reads back exactly.
  SmallString<32> text;
  for (int digits = 1; digits <= 17; ++digits) {
    text.clear();
    raw_svector_ostream(text) << format("%.*g", digits, value);
    double back;
    if (!text.str().getAsDouble(back) && back == value)
      break;
  }
  return text.str().str();
}

namespace {
/// How tightly a construct binds; the grammar's levels.
enum Level { kSum, kTerm, kUnary, kPower, kPostfix };
} // namespace

static Level getLevel(const Expr *expr) {
  switch (expr->getKind()) {
  case Expr::Kind::Binary: {
    BinaryOp op = cast<BinaryExpr>(expr)->op;
    return op == BinaryOp::Add || op == BinaryOp::Sub ? kSum : kTerm;
  }
  case Expr::Kind::Negate:
    return kUnary;
  case Expr::Kind::Power:
    return kPower;
  default:
    return kPostfix;
  }
}

static void printAt(raw_ostream &os, const Expr *expr, Level level);

/// Prints `expr` without parentheses around it.
static void printBare(raw_ostream &os, const Expr *expr) {
  switch (expr->getKind()) {
  case Expr::Kind::Number:
    os << cast<NumberExpr>(expr)->text;
    return;
  case Expr::Kind::Name:
    os << cast<NameExpr>(expr)->id.name;
    return;
  case Expr::Kind::Index: {
    const auto *index = cast<IndexExpr>(expr);
    os << index->id.name << '[';
    if (index->indexId.isValid())
      os << index->indexId.name;
    else
      os << index->literal;
    os << ']';
    return;
  }
  case Expr::Kind::Negate:
    os << '-';
    printAt(os, cast<NegateExpr>(expr)->operand, kUnary);
    return;
  case Expr::Kind::Transpose:
    printAt(os, cast<TransposeExpr>(expr)->operand, kPostfix);
    os << "^T";
    return;
  case Expr::Kind::Power: {
    const auto *power = cast<PowerExpr>(expr);
    printAt(os, power->base, kPostfix);
    os << " ^ ";
    const Expr *exponent = power->exponent;
    if (const auto *negate = dyn_cast<NegateExpr>(exponent)) {
      os << '-';
      exponent = negate->operand;
    }
    if (isa<NumberExpr, NameExpr>(exponent)) {
      printBare(os, exponent);
    } else {
      os << '(';
      printAt(os, exponent, kSum);
      os << ')';
    }
    return;
  }
  case Expr::Kind::Call: {
    const auto *call = cast<CallExpr>(expr);
    os << getSpelling(call->function) << '(';
    llvm::interleaveComma(call->args, os,
                          [&](const Expr *arg) { printAt(os, arg, kSum); });
    os << ')';
    return;
  }
  case Expr::Kind::Eye:
    os << "eye(" << cast<EyeExpr>(expr)->dimId.name << ')';
    return;
  case Expr::Kind::Binary:
    llvm_unreachable("printed by printAt");
  }
}

/// Prints `expr` as an operand that must bind at least as tightly as `level`.
static void printAt(raw_ostream &os, const Expr *expr, Level level) {
  SmallVector<const BinaryExpr *> spine;
  SmallVector<bool> closing;
  // Down the left edge: opening parentheses; back up: operators.
  for (;;) {
    bool parenthesised = getLevel(expr) < level;
    if (parenthesised)
      os << '(';
    closing.push_back(parenthesised);
    const auto *binary = dyn_cast<BinaryExpr>(expr);
    if (!binary)
      break;
    spine.push_back(binary);
    level = getLevel(binary);
    expr = binary->lhs;
  }
  printBare(os, expr);
  if (closing.pop_back_val())
    os << ')';
  for (const BinaryExpr *binary : llvm::reverse(spine)) {
    os << ' ' << getSpelling(binary->op) << ' ';
    printAt(os, binary->rhs, getLevel(binary) == kSum ? kTerm : kUnary);
    if (closing.pop_back_val())
      os << ')';
  }
}

void Expr::print(raw_ostream &os) const { printAt(os, this, kSum); }

std::string Expr::str() const {
  std::string text;
  raw_string_ostream os(text);
  print(os);
  return text;
}

static void printRange(raw_ostream &os,
                       const std::optional<ValueRange> &range) {
  if (range)
    os << " in [" << formatNumber(range->low) << ", "
       << formatNumber(range->high) << ']';
}

static void printDecl(raw_ostream &os, const Decl *decl) {
  switch (decl->getKind()) {
  case Decl::Kind::Dim:
    os << "dim " << decl->getName();
    return;
  case Decl::Kind::Argument: {
    const auto *argument = cast<ArgumentDecl>(decl);
    os << (argument->isParam() ? "param " : "in ") << decl->getName();
    if (argument->isFamily())
      os << '[' << argument->familyId.name << ']';
    os << ": "
       << (argument->dimId.isValid() ? argument->dimId.name
                                     : StringRef("scalar"));
    printRange(os, argument->valueRange);
    return;
  }
  case Decl::Kind::Attr: {
    const auto *attr = cast<AttrDecl>(decl);
    os << "attr " << decl->getName();
    if (attr->defaultValue) {
      os << " = ";
      attr->defaultValue->print(os);
    }
    printRange(os, attr->valueRange);
    return;
  }
  case Decl::Kind::State: {
    const auto *state = cast<StateDecl>(decl);
    os << "state " << decl->getName() << ": " << state->rowsId.name << " x "
       << state->colsId.name;
    return;
  }
  case Decl::Kind::Let:
  case Decl::Kind::Out:
  case Decl::Kind::LoopVar:
    llvm_unreachable("printed with their statements");
  }
}

/// Prints what the analysis found out about a statement's value.
static void printTypeComment(raw_ostream &os, const Expr *value) {
  os << "  // " << value->getType().str();
  const StateUse &use = value->getStateUse();
  if (use.isRead())
    os << ", reads the state";
  else if (use.isMatrix())
    os << (use.keepsState ? ", affine in the state" : ", writes only");
  else if (value->isConstant())
    os << ", constant";
}

static void printStmt(raw_ostream &os, const Stmt *stmt, bool types,
                      unsigned indent) {
  os.indent(indent);
  const Expr *value = nullptr;
  switch (stmt->getKind()) {
  case Stmt::Kind::Declare:
    printDecl(os, cast<DeclareStmt>(stmt)->decl);
    break;
  case Stmt::Kind::Let:
    value = cast<LetStmt>(stmt)->decl->value;
    os << "let " << cast<LetStmt>(stmt)->decl->getName() << " = ";
    break;
  case Stmt::Kind::Assign:
    value = cast<AssignStmt>(stmt)->value;
    os << cast<AssignStmt>(stmt)->target.name << " = ";
    break;
  case Stmt::Kind::Out:
    value = cast<OutStmt>(stmt)->decl->value;
    os << "out " << cast<OutStmt>(stmt)->decl->getName() << " = ";
    break;
  case Stmt::Kind::For: {
    const auto *loop = cast<ForStmt>(stmt);
    os << "for " << loop->var->getName() << " in " << loop->var->dimId.name
       << " {\n";
    for (const Stmt *inner : loop->body)
      printStmt(os, inner, types, indent + 2);
    os.indent(indent) << '}';
    break;
  }
  }
  if (value) {
    value->print(os);
    if (types)
      printTypeComment(os, value);
  }
  os << '\n';
}

void Recurrence::print(raw_ostream &os, bool types) const {
  os << "recurrence " << getName() << " {\n";
  for (const Stmt *item : items)
    printStmt(os, item, types, 2);
  os << "}\n";
}

} // namespace delta::spec
