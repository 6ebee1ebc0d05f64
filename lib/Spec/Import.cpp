//===- Import.cpp - from a checked recurrence to the step stage -----------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The importer. Rows and columns are both tensors of rank 1, so the orientation
// of a vector is gone here; a matrix is imported together with a flag that says
// whether its transpose is meant, so that S^T * x needs no transposed state:
//
//   S = S + k * (v - S^T * k)^T     %z = delta.matvec %S, %k {transpose}
//                                   %u = arith.subf %v, %z
//                              ==>  %w = delta.outer %k, %u
//                                   %S1 = arith.addf %S, %w
//
// Test: test/Spec/import.test, test/python/test_spec_meaning.py
//
//===----------------------------------------------------------------------===//

#include "delta/Spec/Import.h"

#include "ImportSignature.h"
#include "LineTable.h"
#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLExtras.h"

using namespace llvm;
using mlir::Location;
using mlir::Value;
namespace arith = mlir::arith;
namespace math = mlir::math;
namespace ir = mlir::delta;

namespace delta::spec {

namespace {
/// The value of an expression: `value`, or the transpose of the matrix `value`.
struct Imported {
  Value value;
  bool transposed = false;
};

class Importer {
public:
  Importer(const Recurrence &recurrence, const SourceMgr &sources,
           mlir::MLIRContext *context)
      : recurrence(recurrence), lines(recurrence, sources, context),
        builder(context) {}

  mlir::OwningOpRef<mlir::ModuleOp> run(ir::SignatureAttr signature);

private:
  void importItem(const Stmt *item);
  void importFor(const ForStmt *loop);

  Imported visit(const Expr *expr);
  Imported visitBinary(const BinaryExpr *expr, Imported lhs, Imported rhs);
  Imported visitElementwise(const BinaryExpr *expr, Imported lhs, Imported rhs);
  Imported visitProduct(const BinaryExpr *expr, Imported lhs, Imported rhs);
  Value visitPower(const PowerExpr *expr);
  Value visitCall(const CallExpr *expr);
  Value visitIndex(const IndexExpr *expr);

  // Building blocks.
  Location locate(SMLoc loc) { return lines.locate(loc); }
  Location locate(const Expr *expr) { return lines.locate(expr->getLoc()); }
  mlir::Type getType(Type type, bool transposed = false);
  Value constant(Location loc, double value);
  /// `scalar` repeated to the type of `like`, or `scalar` if that is one.
  Value broadcast(Location loc, Value scalar, Value like);
  void broadcastBoth(Location loc, Value &lhs, Value &rhs);
  /// The matrix itself if `transposed` is as wanted, else its transpose.
  Value orient(Location loc, Imported matrix, bool transposed);
  Value dot(Location loc, Value x, Value y);

  const Recurrence &recurrence;
  LineTable lines;
  mlir::OpBuilder builder;
  /// Arguments, attrs and loop variables.
  DenseMap<const Decl *, Value> values;
  DenseMap<const LetDecl *, Imported> lets;
  DenseMap<const OutDecl *, Value> outs;
  /// The state at this point of the step.
  Value state;
};
} // namespace

//===----------------------------------------------------------------------===//
// Building blocks
//===----------------------------------------------------------------------===//

mlir::Type Importer::getType(Type type, bool transposed) {
  if (transposed)
    type = type.getTransposed();
  SmallVector<mlir::StringAttr, 2> names;
  for (const DimDecl *dim : {type.rows, type.cols})
    if (dim)
      names.push_back(builder.getStringAttr(dim->getName()));
  return ir::getSymbolicType(builder.getContext(), names);
}

Value Importer::constant(Location loc, double value) {
  return arith::ConstantOp::create(builder, loc,
                                   builder.getF64FloatAttr(value));
}

Value Importer::broadcast(Location loc, Value scalar, Value like) {
  if (scalar.getType() == like.getType())
    return scalar;
  return ir::BroadcastOp::create(builder, loc, like.getType(), scalar,
                                 /*dim=*/mlir::IntegerAttr());
}

void Importer::broadcastBoth(Location loc, Value &lhs, Value &rhs) {
  if (lhs.getType().isF64())
    lhs = broadcast(loc, lhs, rhs);
  else if (rhs.getType().isF64())
    rhs = broadcast(loc, rhs, lhs);
}

Value Importer::orient(Location loc, Imported matrix, bool transposed) {
  if (matrix.transposed == transposed)
    return matrix.value;
  auto type = mlir::cast<mlir::RankedTensorType>(matrix.value.getType());
  ArrayRef<mlir::StringAttr> dims = ir::getDimNames(type);
  mlir::Type flipped =
      ir::getSymbolicType(builder.getContext(), {dims[1], dims[0]});
  // An outer product is as easily built the other way around.
  if (auto outer = matrix.value.getDefiningOp<ir::OuterOp>())
    return ir::OuterOp::create(builder, loc, flipped, outer.getY(),
                               outer.getX());
  return ir::TransposeOp::create(builder, loc, flipped, matrix.value);
}

Value Importer::dot(Location loc, Value x, Value y) {
  Value products = arith::MulFOp::create(builder, loc, x, y);
  return ir::SumOp::create(builder, loc, builder.getF64Type(), products);
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

Imported Importer::visit(const Expr *expr) {
  Location loc = locate(expr);
  switch (expr->getKind()) {
  case Expr::Kind::Number:
    return {constant(loc, cast<NumberExpr>(expr)->value)};
  case Expr::Kind::Name: {
    const Decl *decl = cast<NameExpr>(expr)->decl;
    if (isa<StateDecl>(decl))
      return {state};
    if (auto *let = dyn_cast<LetDecl>(decl))
      return lets.lookup(let);
    if (isa<DimDecl>(decl))
      return {ir::DimOp::create(builder, loc, builder.getF64Type(),
                                decl->getName())};
    return {values.lookup(decl)};
  }
  case Expr::Kind::Index:
    return {visitIndex(cast<IndexExpr>(expr))};
  case Expr::Kind::Negate: {
    const Expr *operand = cast<NegateExpr>(expr)->operand;
    if (auto *number = dyn_cast<NumberExpr>(operand))
      return {constant(loc, -number->value)};
    Imported value = visit(operand);
    return {arith::NegFOp::create(builder, loc, value.value), value.transposed};
  }
  case Expr::Kind::Transpose: {
    Imported value = visit(cast<TransposeExpr>(expr)->operand);
    if (expr->getType().isMatrix())
      value.transposed = !value.transposed;
    return value;
  }
  case Expr::Kind::Binary: {
    SmallVector<BinaryExpr *> spine;
    collectLeftSpine(const_cast<Expr *>(expr), spine);
    Imported value = visit(spine.back()->lhs);
    for (const BinaryExpr *binary : llvm::reverse(spine))
      value = visitBinary(binary, value, visit(binary->rhs));
    return value;
  }
  case Expr::Kind::Power:
    return {visitPower(cast<PowerExpr>(expr))};
  case Expr::Kind::Call:
    return {visitCall(cast<CallExpr>(expr))};
  case Expr::Kind::Eye:
    return {ir::EyeOp::create(builder, loc, getType(expr->getType()))};
  }
  llvm_unreachable("all kinds are handled");
}

Imported Importer::visitBinary(const BinaryExpr *expr, Imported lhs,
                               Imported rhs) {
  if (expr->op == BinaryOp::Mul && !expr->lhs->getType().isScalar() &&
      !expr->rhs->getType().isScalar())
    return visitProduct(expr, lhs, rhs);
  return visitElementwise(expr, lhs, rhs);
}

/// Operands of one type, or a scalar and any.
Imported Importer::visitElementwise(const BinaryExpr *expr, Imported lhs,
                                    Imported rhs) {
  Location loc = locate(expr);
  bool transposed = lhs.transposed || rhs.transposed;
  if (expr->lhs->getType().isMatrix() && expr->rhs->getType().isMatrix() &&
      lhs.transposed != rhs.transposed) {
    // What depends on the state keeps the state's orientation.
    transposed =
        expr->rhs->getStateUse().isMatrix() ? rhs.transposed : lhs.transposed;
    lhs = {orient(loc, lhs, transposed), transposed};
    rhs = {orient(loc, rhs, transposed), transposed};
  }
  Value x = lhs.value, y = rhs.value;
  broadcastBoth(loc, x, y);
  switch (expr->op) {
  case BinaryOp::Add:
    return {arith::AddFOp::create(builder, loc, x, y), transposed};
  case BinaryOp::Sub:
    return {arith::SubFOp::create(builder, loc, x, y), transposed};
  case BinaryOp::Mul:
  case BinaryOp::ElementMul:
    return {arith::MulFOp::create(builder, loc, x, y), transposed};
  case BinaryOp::Div:
  case BinaryOp::ElementDiv:
    return {arith::DivFOp::create(builder, loc, x, y), transposed};
  }
  llvm_unreachable("all operators are handled");
}

/// A product of linear algebra, with no scalar in it.
Imported Importer::visitProduct(const BinaryExpr *expr, Imported lhs,
                                Imported rhs) {
  Location loc = locate(expr);
  Type left = expr->lhs->getType(), right = expr->rhs->getType();
  bool stateTransposed = expr->getStateUse().transposed;
  mlir::Type type = getType(expr->getType(), stateTransposed);
  if (left.isColumn()) { // x * y^T
    if (stateTransposed)
      return {ir::OuterOp::create(builder, loc, type, rhs.value, lhs.value),
              true};
    return {ir::OuterOp::create(builder, loc, type, lhs.value, rhs.value)};
  }
  if (left.isRow() && right.isColumn())
    return {dot(loc, lhs.value, rhs.value)};
  if (left.isRow()) // x^T * M is M^T * x
    return {ir::MatvecOp::create(builder, loc, type, rhs.value, lhs.value,
                                 /*transpose=*/!rhs.transposed)};
  if (right.isColumn())
    return {ir::MatvecOp::create(builder, loc, type, lhs.value, rhs.value,
                                 /*transpose=*/lhs.transposed)};
  auto multiply = [&](mlir::Type type, Value x, Value y) {
    return ir::MatmulOp::create(builder, loc, type, x, y, /*acc=*/Value(),
                                /*transpose_lhs=*/false,
                                /*transpose_rhs=*/false, /*triangular=*/false);
  };
  // S^T * M is (M^T * S)^T. The order of creation is fixed, so that the same
  // text gives the same IR everywhere.
  bool transposed = stateTransposed || (lhs.transposed && rhs.transposed);
  Value x = orient(loc, lhs, transposed);
  Value y = orient(loc, rhs, transposed);
  if (transposed)
    return {multiply(getType(expr->getType(), /*transposed=*/true), y, x),
            true};
  return {multiply(type, x, y)};
}

/// The exponent if it is written as a number.
static std::optional<double> getNumber(const Expr *expr) {
  if (auto *number = dyn_cast<NumberExpr>(expr))
    return number->value;
  if (auto *negate = dyn_cast<NegateExpr>(expr))
    if (auto *number = dyn_cast<NumberExpr>(negate->operand))
      return -number->value;
  return std::nullopt;
}

Value Importer::visitPower(const PowerExpr *expr) {
  Location loc = locate(expr);
  Value base = visit(expr->base).value;
  // The common powers have cheaper operations.
  if (std::optional<double> exponent = getNumber(expr->exponent)) {
    if (*exponent == 1)
      return base;
    if (*exponent == 2)
      return arith::MulFOp::create(builder, loc, base, base);
    if (*exponent == 0.5)
      return math::SqrtOp::create(builder, loc, base);
    if (*exponent == -0.5)
      return math::RsqrtOp::create(builder, loc, base);
    if (*exponent == -1)
      return arith::DivFOp::create(
          builder, loc, broadcast(loc, constant(loc, 1), base), base);
  }
  Value exponent = visit(expr->exponent).value;
  return math::PowFOp::create(builder, loc, base,
                              broadcast(loc, exponent, base));
}

Value Importer::visitCall(const CallExpr *expr) {
  Location loc = locate(expr);
  Value x = visit(expr->args.front()).value;
  Value y = expr->args.size() > 1 ? visit(expr->args[1]).value : Value();
  switch (expr->function) {
  case Function::Exp:
    return math::ExpOp::create(builder, loc, x);
  case Function::Exp2:
    return math::Exp2Op::create(builder, loc, x);
  case Function::Log:
    return math::LogOp::create(builder, loc, x);
  case Function::Sqrt:
    return math::SqrtOp::create(builder, loc, x);
  case Function::Rsqrt:
    return math::RsqrtOp::create(builder, loc, x);
  case Function::Abs:
    return math::AbsFOp::create(builder, loc, x);
  case Function::Sigmoid:
    return ir::SigmoidOp::create(builder, loc, x.getType(), x);
  case Function::Softplus:
    return ir::SoftplusOp::create(builder, loc, x.getType(), x);
  case Function::Silu:
    return arith::MulFOp::create(
        builder, loc, x, ir::SigmoidOp::create(builder, loc, x.getType(), x));
  case Function::Tanh:
    return math::TanhOp::create(builder, loc, x);
  case Function::Relu:
    return arith::MaximumFOp::create(builder, loc, x,
                                     broadcast(loc, constant(loc, 0), x));
  case Function::Min:
    broadcastBoth(loc, x, y);
    return arith::MinimumFOp::create(builder, loc, x, y);
  case Function::Max:
    broadcastBoth(loc, x, y);
    return arith::MaximumFOp::create(builder, loc, x, y);
  case Function::Dot:
    return dot(loc, x, y);
  case Function::Sum:
    return ir::SumOp::create(builder, loc, builder.getF64Type(), x);
  case Function::L2norm: {
    Value squares = dot(loc, x, x);
    squares = arith::AddFOp::create(builder, loc, squares, constant(loc, 1e-6));
    Value factor = math::RsqrtOp::create(builder, loc, squares);
    return arith::MulFOp::create(builder, loc, x, broadcast(loc, factor, x));
  }
  case Function::Diag:
    return ir::DiagOp::create(builder, loc, getType(expr->getType()), x);
  }
  llvm_unreachable("all functions are handled");
}

Value Importer::visitIndex(const IndexExpr *expr) {
  Location loc = locate(expr);
  Value index =
      expr->loopVar
          ? values.lookup(expr->loopVar)
          : Value(arith::ConstantIndexOp::create(builder, loc, expr->literal));
  return ir::MicroOp::create(builder, loc, getType(expr->getType()),
                             values.lookup(expr->decl), index);
}

//===----------------------------------------------------------------------===//
// Items
//===----------------------------------------------------------------------===//

void Importer::importItem(const Stmt *item) {
  switch (item->getKind()) {
  case Stmt::Kind::Declare:
    return;
  case Stmt::Kind::Let: {
    const LetDecl *let = cast<LetStmt>(item)->decl;
    lets[let] = visit(let->value);
    return;
  }
  case Stmt::Kind::Assign: {
    const Expr *value = cast<AssignStmt>(item)->value;
    state = orient(locate(value), visit(value), /*transposed=*/false);
    return;
  }
  case Stmt::Kind::Out: {
    const OutDecl *out = cast<OutStmt>(item)->decl;
    outs[out] = visit(out->value).value;
    return;
  }
  case Stmt::Kind::For:
    return importFor(cast<ForStmt>(item));
  }
}

void Importer::importFor(const ForStmt *loop) {
  Location loc = locate(loop->getRange().Start);
  auto op = ir::ForOp::create(builder, loc, state.getType(),
                              loop->var->dim->getName(), state);
  mlir::OpBuilder::InsertionGuard guard(builder);
  mlir::Block *block =
      builder.createBlock(&op.getBody(), op.getBody().end(),
                          {builder.getIndexType(), state.getType()},
                          {locate(loop->var->getLoc()), loc});
  values[loop->var] = block->getArgument(0);
  state = block->getArgument(1);
  for (const Stmt *item : loop->body)
    importItem(item);
  ir::YieldOp::create(builder, loc, state);
  state = op.getResult();
}

mlir::OwningOpRef<mlir::ModuleOp> Importer::run(ir::SignatureAttr signature) {
  Location loc = locate(recurrence.getLoc());
  mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(loc);
  ir::setStage(*module, ir::Stage::Step);
  ir::setSignature(*module, signature);
  builder.setInsertionPointToEnd(module->getBody());
  auto op = ir::RecurrenceOp::create(builder, loc, recurrence.getName());
  mlir::Block *block = builder.createBlock(&op.getBody());

  // The block's arguments follow the signature: values in the order of their
  // declarations, then the state.
  for (const Stmt *item : recurrence.getItems()) {
    auto *declare = dyn_cast<DeclareStmt>(item);
    if (!declare)
      continue;
    mlir::Type type;
    if (auto *argument = dyn_cast<ArgumentDecl>(declare->decl)) {
      SmallVector<mlir::StringAttr, 2> names;
      for (const DimDecl *dim : {argument->getFamily(), argument->getDim()})
        if (dim)
          names.push_back(builder.getStringAttr(dim->getName()));
      type = ir::getSymbolicType(builder.getContext(), names);
    } else if (isa<AttrDecl>(declare->decl)) {
      type = builder.getF64Type();
    } else {
      continue;
    }
    values[declare->decl] =
        block->addArgument(type, locate(declare->decl->getLoc()));
  }
  state = block->addArgument(getType(recurrence.getState().getType()),
                             locate(recurrence.getState().getLoc()));

  for (const Stmt *item : recurrence.getItems())
    importItem(item);
  SmallVector<Value> yielded{state};
  for (const OutDecl *out : recurrence.getOuts())
    yielded.push_back(outs.lookup(out));
  ir::YieldOp::create(builder, loc, yielded);
  return module;
}

mlir::OwningOpRef<mlir::ModuleOp>
importRecurrence(const Recurrence &recurrence, const SourceMgr &sources,
                 mlir::MLIRContext *context, const ImportOptions &options) {
  context
      ->loadDialect<ir::DeltaDialect, arith::ArithDialect, math::MathDialect>();
  ir::SignatureAttr signature =
      importSignature(recurrence, sources, context, options);
  if (!signature)
    return nullptr;
  return Importer(recurrence, sources, context).run(signature);
}

} // namespace delta::spec
