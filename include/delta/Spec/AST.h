//===- AST.h - syntax tree of a recurrence ----------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The tree that the parser builds and that the semantic analysis completes:
// afterwards every name points to its declaration and every expression has a
// type. Nodes live in the recurrence's arena and point into the source buffer,
// which must outlive them. Chains of `+` and `*` lean to the left and may be
// hundreds of thousands of operators long: walk a BinaryExpr's left spine in a
// loop (see collectLeftSpine), everything else nests at most kNestingLimit
// deep.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_SPEC_AST_H
#define DELTA_SPEC_AST_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Allocator.h"
#include "llvm/Support/Casting.h"
#include "llvm/Support/SMLoc.h"
#include <memory>
#include <optional>
#include <string>

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace delta::spec {

class Expr;
class DimDecl;

/// Parentheses and unary minus nest at most this deep.
constexpr unsigned kNestingLimit = 256;
/// Larger files are refused.
constexpr size_t kFileLimit = size_t(1) << 20;

/// A name as written.
struct Identifier {
  llvm::StringRef name;
  llvm::SMLoc loc;

  bool isValid() const { return loc.isValid(); }
  llvm::SMRange getRange() const;
};

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

/// Every value has rows and columns, each a dim or 1 (null). Dims agree by
/// declaration, never by size.
struct Type {
  const DimDecl *rows = nullptr;
  const DimDecl *cols = nullptr;

  bool isScalar() const { return !rows && !cols; }
  bool isColumn() const { return rows && !cols; }
  bool isRow() const { return !rows && cols; }
  bool isVector() const { return isColumn() || isRow(); }
  bool isMatrix() const { return rows && cols; }
  Type getTransposed() const { return {cols, rows}; }
  bool operator==(const Type &other) const {
    return rows == other.rows && cols == other.cols;
  }
  bool operator!=(const Type &other) const { return !(*this == other); }
  /// `scalar`, or rows x columns: `K x 1`.
  std::string str() const;
};

//===----------------------------------------------------------------------===//
// Declarations
//===----------------------------------------------------------------------===//

/// A closed interval that a value's elements are declared to lie in.
struct ValueRange {
  double low = 0;
  double high = 0;
  llvm::SMRange range;
};

/// Something with a name.
class Decl {
public:
  enum class Kind { Dim, Argument, Attr, State, Let, Out, LoopVar };

  Kind getKind() const { return kind; }
  llvm::StringRef getName() const { return id.name; }
  llvm::SMLoc getLoc() const { return id.loc; }
  llvm::SMRange getNameRange() const { return id.getRange(); }
  /// `input`, `let`, ...: what the declaration is called in messages.
  llvm::StringRef getDescription() const;

  bool isUsed() const { return used; }
  void setUsed() { used = true; }
  /// Whether the declaration was in error, so that its uses say nothing.
  bool isInvalid() const { return invalid; }
  void setInvalid() { invalid = true; }

protected:
  Decl(Kind kind, Identifier id) : id(id), kind(kind) {}
  Identifier id;

private:
  Kind kind;
  bool used = false;
  bool invalid = false;
};

/// `dim n`; K and V are predeclared and have no place in the source.
class DimDecl : public Decl {
public:
  explicit DimDecl(Identifier id) : Decl(Kind::Dim, id) {}
  static bool classof(const Decl *d) { return d->getKind() == Kind::Dim; }
};

/// `in k[n]: K` or `param u: K`: an array that the caller gives, one element
/// per token and head, or one per head.
class ArgumentDecl : public Decl {
public:
  ArgumentDecl(Identifier id, bool param)
      : Decl(Kind::Argument, id), param(param) {}
  bool isParam() const { return param; }
  /// A family has one element per micro-step.
  bool isFamily() const { return familyId.isValid(); }
  const DimDecl *getFamily() const { return family; }
  /// Null for a scalar.
  const DimDecl *getDim() const { return dim; }
  /// The type of one element: scalar or column.
  Type getType() const { return {dim, nullptr}; }

  // As parsed: the family's dim, the dim (invalid for `scalar`), the range.
  Identifier familyId;
  Identifier dimId;
  std::optional<ValueRange> valueRange;
  // Filled in by the analysis.
  const DimDecl *family = nullptr;
  const DimDecl *dim = nullptr;

  static bool classof(const Decl *d) { return d->getKind() == Kind::Argument; }

private:
  bool param;
};

/// `attr scale = K ^ -0.5`: a number given at the call.
class AttrDecl : public Decl {
public:
  AttrDecl(Identifier id, Expr *defaultValue,
           std::optional<ValueRange> valueRange)
      : Decl(Kind::Attr, id), defaultValue(defaultValue),
        valueRange(valueRange) {}
  /// Null if the caller must give a value.
  Expr *defaultValue;
  std::optional<ValueRange> valueRange;
  static bool classof(const Decl *d) { return d->getKind() == Kind::Attr; }
};

/// `state S: K x V`.
class StateDecl : public Decl {
public:
  StateDecl(Identifier id, Identifier rowsId, Identifier colsId)
      : Decl(Kind::State, id), rowsId(rowsId), colsId(colsId) {}
  Type getType() const { return {rows, cols}; }
  Identifier rowsId;
  Identifier colsId;
  const DimDecl *rows = nullptr;
  const DimDecl *cols = nullptr;
  static bool classof(const Decl *d) { return d->getKind() == Kind::State; }
};

/// `let u = ...`: stands for its value at this point of the step.
class LetDecl : public Decl {
public:
  LetDecl(Identifier id, Expr *value) : Decl(Kind::Let, id), value(value) {}
  Expr *value;
  static bool classof(const Decl *d) { return d->getKind() == Kind::Let; }
};

/// `out o = ...`.
class OutDecl : public Decl {
public:
  OutDecl(Identifier id, Expr *value) : Decl(Kind::Out, id), value(value) {}
  Expr *value;
  static bool classof(const Decl *d) { return d->getKind() == Kind::Out; }
};

/// The `j` of `for j in n`; only ever an index.
class LoopVarDecl : public Decl {
public:
  LoopVarDecl(Identifier id, Identifier dimId)
      : Decl(Kind::LoopVar, id), dimId(dimId) {}
  Identifier dimId;
  const DimDecl *dim = nullptr;
  static bool classof(const Decl *d) { return d->getKind() == Kind::LoopVar; }
};

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

/// How a value depends on the state. Computed by the analysis; see
/// lib/Spec/Affinity.cpp for what each operator does to it.
struct StateUse {
  enum class Kind {
    /// Does not depend on the state.
    Free,
    /// A matrix of the state's type (or of its transpose), affine in the state.
    Matrix,
    /// A vector along the state's second axis, affine in the state.
    Read
  };
  Kind kind = Kind::Free;
  /// Matrix: the value is the transpose of one of the state's type.
  bool transposed = false;
  /// Matrix: a term D * S is there, not only outer products.
  bool keepsState = false;
  /// Free matrix: the sub-expression that adds a diagonal (null if none), or
  /// one that is neither diagonal nor of low rank.
  const Expr *diagonal = nullptr;
  const Expr *general = nullptr;
  /// Read: the `.*` that scaled its elements, after which only outs may use it.
  const Expr *elementwise = nullptr;

  bool isFree() const { return kind == Kind::Free; }
  bool isMatrix() const { return kind == Kind::Matrix; }
  bool isRead() const { return kind == Kind::Read; }
};

class Expr {
public:
  enum class Kind {
    Number,
    Name,
    Index,
    Negate,
    Transpose,
    Binary,
    Power,
    Call,
    Eye
  };

  Kind getKind() const { return kind; }
  /// Where the caret of a message about the expression goes: its operator.
  llvm::SMLoc getLoc() const { return loc; }
  llvm::SMRange getRange() const { return range; }
  void setRange(llvm::SMRange r) { range = r; }

  /// Whether the analysis found no fault; type and state use are set.
  bool isTyped() const { return typed; }
  Type getType() const { return type; }
  void setType(Type t) {
    type = t;
    typed = true;
  }
  /// Whether the value is built from numbers, dims and attrs only.
  bool isConstant() const { return constant; }
  void setConstant(bool value) { constant = value; }
  const StateUse &getStateUse() const { return stateUse; }
  void setStateUse(const StateUse &use) { stateUse = use; }

  /// The expression in canonical spacing; parses to the same tree.
  std::string str() const;
  void print(llvm::raw_ostream &os) const;

protected:
  Expr(Kind kind, llvm::SMLoc loc, llvm::SMRange range)
      : loc(loc), range(range), kind(kind) {}

private:
  llvm::SMLoc loc;
  llvm::SMRange range;
  StateUse stateUse;
  Type type;
  Kind kind;
  bool typed = false;
  bool constant = false;
};

class NumberExpr : public Expr {
public:
  NumberExpr(llvm::StringRef text, double value, llvm::SMRange range)
      : Expr(Kind::Number, range.Start, range), text(text), value(value) {}
  llvm::StringRef text;
  double value;
  static bool classof(const Expr *e) { return e->getKind() == Kind::Number; }
};

/// A use of a dim, argument, attr, state or let.
class NameExpr : public Expr {
public:
  explicit NameExpr(Identifier id)
      : Expr(Kind::Name, id.loc, id.getRange()), id(id) {}
  Identifier id;
  Decl *decl = nullptr;
  static bool classof(const Expr *e) { return e->getKind() == Kind::Name; }
};

/// `k[j]` or `k[0]`: an element of a micro-step family.
class IndexExpr : public Expr {
public:
  IndexExpr(Identifier id, Identifier indexId, uint64_t literal,
            llvm::SMLoc bracketLoc, llvm::SMRange range)
      : Expr(Kind::Index, bracketLoc, range), id(id), indexId(indexId),
        literal(literal) {}
  Identifier id;
  /// The loop's variable; invalid for a literal index.
  Identifier indexId;
  uint64_t literal;
  ArgumentDecl *decl = nullptr;
  LoopVarDecl *loopVar = nullptr;
  static bool classof(const Expr *e) { return e->getKind() == Kind::Index; }
};

class NegateExpr : public Expr {
public:
  NegateExpr(Expr *operand, llvm::SMLoc loc, llvm::SMRange range)
      : Expr(Kind::Negate, loc, range), operand(operand) {}
  Expr *operand;
  static bool classof(const Expr *e) { return e->getKind() == Kind::Negate; }
};

class TransposeExpr : public Expr {
public:
  TransposeExpr(Expr *operand, llvm::SMLoc loc, llvm::SMRange range)
      : Expr(Kind::Transpose, loc, range), operand(operand) {}
  Expr *operand;
  static bool classof(const Expr *e) { return e->getKind() == Kind::Transpose; }
};

enum class BinaryOp { Add, Sub, Mul, Div, ElementMul, ElementDiv };
/// `+`, `.*`, ...
llvm::StringRef getSpelling(BinaryOp op);

class BinaryExpr : public Expr {
public:
  BinaryExpr(BinaryOp op, Expr *lhs, Expr *rhs, llvm::SMLoc loc,
             llvm::SMRange range)
      : Expr(Kind::Binary, loc, range), op(op), lhs(lhs), rhs(rhs) {}
  BinaryOp op;
  Expr *lhs;
  Expr *rhs;
  static bool classof(const Expr *e) { return e->getKind() == Kind::Binary; }
};

/// `x ^ p`, elementwise.
class PowerExpr : public Expr {
public:
  PowerExpr(Expr *base, Expr *exponent, llvm::SMLoc loc, llvm::SMRange range)
      : Expr(Kind::Power, loc, range), base(base), exponent(exponent) {}
  Expr *base;
  Expr *exponent;
  static bool classof(const Expr *e) { return e->getKind() == Kind::Power; }
};

enum class Function {
  // Elementwise, one argument.
  Exp,
  Exp2,
  Log,
  Sqrt,
  Rsqrt,
  Abs,
  Sigmoid,
  Softplus,
  Silu,
  Tanh,
  Relu,
  // Elementwise, two arguments.
  Min,
  Max,
  // Vectors.
  Dot,
  Sum,
  L2norm,
  Diag
};
/// `exp`, `l2norm`, ...
llvm::StringRef getSpelling(Function function);
std::optional<Function> lookupFunction(llvm::StringRef name);
/// 1 or 2.
unsigned getNumArguments(Function function);
bool isElementwise(Function function);

class CallExpr : public Expr {
public:
  CallExpr(Function function, llvm::ArrayRef<Expr *> args, llvm::SMRange range)
      : Expr(Kind::Call, range.Start, range), function(function), args(args) {}
  Function function;
  /// In the recurrence's arena.
  llvm::ArrayRef<Expr *> args;
  static bool classof(const Expr *e) { return e->getKind() == Kind::Call; }
};

/// `eye(K)`.
class EyeExpr : public Expr {
public:
  EyeExpr(Identifier dimId, llvm::SMRange range)
      : Expr(Kind::Eye, range.Start, range), dimId(dimId) {}
  Identifier dimId;
  const DimDecl *dim = nullptr;
  static bool classof(const Expr *e) { return e->getKind() == Kind::Eye; }
};

/// The binary operators from `expr` down its left edge, outermost first; the
/// last one's `lhs` is no binary operator.
void collectLeftSpine(Expr *expr, llvm::SmallVectorImpl<BinaryExpr *> &spine);

//===----------------------------------------------------------------------===//
// Items
//===----------------------------------------------------------------------===//

/// One item of a recurrence, in source order.
class Stmt {
public:
  enum class Kind { Declare, Let, Assign, Out, For };
  Kind getKind() const { return kind; }
  /// The whole statement, keyword to last token.
  llvm::SMRange getRange() const { return range; }

protected:
  Stmt(Kind kind, llvm::SMRange range) : range(range), kind(kind) {}

private:
  llvm::SMRange range;
  Kind kind;
};

/// `dim`, `in`, `param`, `attr` or `state`; a list is one item per name.
class DeclareStmt : public Stmt {
public:
  DeclareStmt(Decl *decl, llvm::SMRange range)
      : Stmt(Kind::Declare, range), decl(decl) {}
  Decl *decl;
  static bool classof(const Stmt *s) { return s->getKind() == Kind::Declare; }
};

class LetStmt : public Stmt {
public:
  LetStmt(LetDecl *decl, llvm::SMRange range)
      : Stmt(Kind::Let, range), decl(decl) {}
  LetDecl *decl;
  static bool classof(const Stmt *s) { return s->getKind() == Kind::Let; }
};

/// `S = ...`.
class AssignStmt : public Stmt {
public:
  AssignStmt(Identifier target, Expr *value, llvm::SMRange range)
      : Stmt(Kind::Assign, range), target(target), value(value) {}
  Identifier target;
  Expr *value;
  static bool classof(const Stmt *s) { return s->getKind() == Kind::Assign; }
};

class OutStmt : public Stmt {
public:
  OutStmt(OutDecl *decl, llvm::SMRange range)
      : Stmt(Kind::Out, range), decl(decl) {}
  OutDecl *decl;
  static bool classof(const Stmt *s) { return s->getKind() == Kind::Out; }
};

/// `for j in n { ... }`: micro-steps j = 0 .. n-1, not nested.
class ForStmt : public Stmt {
public:
  ForStmt(LoopVarDecl *var, llvm::ArrayRef<Stmt *> body, llvm::SMRange range)
      : Stmt(Kind::For, range), var(var), body(body) {}
  LoopVarDecl *var;
  /// Lets and assignments; in the recurrence's arena.
  llvm::ArrayRef<Stmt *> body;
  static bool classof(const Stmt *s) { return s->getKind() == Kind::For; }
};

/// A whole file. Nodes are allocated in its arena and never destroyed one by
/// one, so they hold no memory of their own.
class Recurrence {
public:
  Recurrence();
  Recurrence(const Recurrence &) = delete;
  Recurrence &operator=(const Recurrence &) = delete;

  llvm::StringRef getName() const { return id.name; }
  llvm::SMLoc getLoc() const { return id.loc; }

  /// All items in source order.
  llvm::ArrayRef<Stmt *> getItems() const { return items; }
  /// All dims: K, V, then the declared ones.
  llvm::ArrayRef<DimDecl *> getDims() const { return dims; }
  /// The `in`s and `param`s, in source order.
  llvm::ArrayRef<ArgumentDecl *> getArguments() const { return arguments; }
  llvm::ArrayRef<AttrDecl *> getAttrs() const { return attrs; }
  llvm::ArrayRef<OutDecl *> getOuts() const { return outs; }
  const StateDecl &getState() const { return *state; }

  /// Prints the recurrence in canonical form, which parses to the same tree.
  /// With `types`, a comment after every statement says its value's type.
  void print(llvm::raw_ostream &os, bool types = false) const;

  template <typename T, typename... Args> T *create(Args &&...args) {
    return new (arena.Allocate<T>()) T(std::forward<Args>(args)...);
  }
  template <typename T> llvm::ArrayRef<T> copy(llvm::ArrayRef<T> elements) {
    return elements.copy(arena);
  }

  // Written by the parser and the analysis.
  Identifier id;
  llvm::SmallVector<Stmt *> items;
  llvm::SmallVector<DimDecl *> dims;
  llvm::SmallVector<ArgumentDecl *> arguments;
  llvm::SmallVector<AttrDecl *> attrs;
  llvm::SmallVector<OutDecl *> outs;
  StateDecl *state = nullptr;

private:
  llvm::BumpPtrAllocator arena;
};

/// Prints a bound or another number so that it reads back exactly.
std::string formatNumber(double value);

} // namespace delta::spec

#endif // DELTA_SPEC_AST_H
