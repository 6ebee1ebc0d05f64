//===- ImportSignature.cpp - the interface of a recurrence ----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Builds `delta.signature`, and decides the arrays' types in memory. Inputs
// that only serve as exponents stay in f32: a log-decay rounded to bf16 would
// be off by a factor in the decay, not by a rounding.
//
//===----------------------------------------------------------------------===//

#include "ImportSignature.h"

#include "Internal.h"
#include "LineTable.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"

using namespace llvm;
namespace ir = mlir::delta;

namespace delta::spec {

//===----------------------------------------------------------------------===//
// What is only an exponent
//===----------------------------------------------------------------------===//

namespace {
/// Collects the declarations whose values are used outside of exponents.
class OutsideUses {
public:
  /// Visits the items last to first, so that a let's uses are known before its
  /// value is visited.
  void visit(ArrayRef<Stmt *> items) {
    for (const Stmt *item : llvm::reverse(items)) {
      if (auto *let = dyn_cast<LetStmt>(item))
        visit(let->decl->value, uses.contains(let->decl));
      else if (auto *assign = dyn_cast<AssignStmt>(item))
        visit(assign->value, /*outside=*/true);
      else if (auto *out = dyn_cast<OutStmt>(item))
        visit(out->decl->value, /*outside=*/true);
      else if (auto *loop = dyn_cast<ForStmt>(item))
        visit(loop->body);
    }
  }

  bool contains(const Decl *decl) const { return uses.contains(decl); }

private:
  void visit(const Expr *root, bool outside) {
    // What is inside an exponent adds nothing.
    if (!outside)
      return;
    SmallVector<const Expr *> worklist{root};
    while (!worklist.empty()) {
      const Expr *expr = worklist.pop_back_val();
      if (auto *name = dyn_cast<NameExpr>(expr)) {
        uses.insert(name->decl);
      } else if (auto *index = dyn_cast<IndexExpr>(expr)) {
        uses.insert(index->decl);
      } else if (auto *negate = dyn_cast<NegateExpr>(expr)) {
        worklist.push_back(negate->operand);
      } else if (auto *transpose = dyn_cast<TransposeExpr>(expr)) {
        worklist.push_back(transpose->operand);
      } else if (auto *binary = dyn_cast<BinaryExpr>(expr)) {
        worklist.push_back(binary->lhs);
        worklist.push_back(binary->rhs);
      } else if (auto *power = dyn_cast<PowerExpr>(expr)) {
        worklist.push_back(power->base);
        worklist.push_back(power->exponent);
      } else if (auto *call = dyn_cast<CallExpr>(expr)) {
        if (call->function != Function::Exp && call->function != Function::Exp2)
          llvm::append_range(worklist, call->args);
      }
    }
  }

  DenseSet<const Decl *> uses;
};
} // namespace

bool isOnlyExponent(const Recurrence &recurrence,
                    const ArgumentDecl &argument) {
  OutsideUses uses;
  uses.visit(recurrence.getItems());
  return argument.isUsed() && !uses.contains(&argument);
}

//===----------------------------------------------------------------------===//
// Types in memory
//===----------------------------------------------------------------------===//

static mlir::Type parseType(mlir::Builder &builder, StringRef name) {
  if (name == "f32")
    return builder.getF32Type();
  if (name == "bf16")
    return builder.getBF16Type();
  if (name == "f16")
    return builder.getF16Type();
  if (name == "f64")
    return builder.getF64Type();
  return {};
}

namespace {
class SignatureBuilder {
public:
  SignatureBuilder(const Recurrence &recurrence, const SourceMgr &sources,
                   mlir::MLIRContext *context, const ImportOptions &options)
      : recurrence(recurrence), loc(LineTable(recurrence, sources, context)
                                        .locate(recurrence.getLoc())),
        builder(context), options(options) {}

  ir::SignatureAttr run();

private:
  bool readTypes();
  mlir::Type getType(const Decl *decl, bool vector) const;
  ir::ArgAttr getArg(ir::ArgKind kind, const Decl *decl, mlir::Type type,
                     ArrayRef<const DimDecl *> axes,
                     const DimDecl *family = nullptr,
                     const std::optional<ValueRange> &range = std::nullopt,
                     const Expr *defaultValue = nullptr);

  const Recurrence &recurrence;
  mlir::Location loc;
  mlir::Builder builder;
  const ImportOptions &options;
  mlir::Type vectorType, otherType;
  StringMap<mlir::Type> typeOf;
  OutsideUses outsideUses;
};
} // namespace

/// Reads the options. Returns false after an error.
bool SignatureBuilder::readTypes() {
  vectorType = parseType(builder, options.dtype);
  if (!vectorType) {
    mlir::emitError(loc) << "unknown type '" << options.dtype
                         << "'; expected f32, bf16, f16 or f64";
    return false;
  }
  otherType = vectorType.isF64() ? vectorType : builder.getF32Type();
  SmallVector<StringRef> names;
  for (const ArgumentDecl *argument : recurrence.getArguments())
    names.push_back(argument->getName());
  for (const OutDecl *out : recurrence.getOuts())
    names.push_back(out->getName());
  names.push_back(recurrence.getState().getName());
  for (const auto &[name, type] : options.dtypeOf) {
    if (!llvm::is_contained(names, name)) {
      StringRef nearest = findNearest(name, names);
      auto error = mlir::emitError(loc)
                   << "no input, param, out or state is named '" << name
                   << "', so it cannot have the type " << type;
      if (!nearest.empty())
        error << "; did you mean '" << nearest << "'?";
      return false;
    }
    mlir::Type parsed = parseType(builder, type);
    if (!parsed) {
      mlir::emitError(loc) << "unknown type '" << type << "' for '" << name
                           << "'; expected f32, bf16, f16 or f64";
      return false;
    }
    typeOf[name] = parsed;
  }
  return true;
}

mlir::Type SignatureBuilder::getType(const Decl *decl, bool vector) const {
  if (mlir::Type type = typeOf.lookup(decl->getName()))
    return type;
  return vector ? vectorType : otherType;
}

ir::ArgAttr SignatureBuilder::getArg(ir::ArgKind kind, const Decl *decl,
                                     mlir::Type type,
                                     ArrayRef<const DimDecl *> axes,
                                     const DimDecl *family,
                                     const std::optional<ValueRange> &range,
                                     const Expr *defaultValue) {
  SmallVector<mlir::StringAttr> names;
  for (const DimDecl *dim : axes)
    if (dim)
      names.push_back(builder.getStringAttr(dim->getName()));
  return ir::ArgAttr::get(
      builder.getContext(), kind, builder.getStringAttr(decl->getName()), type,
      names, family ? builder.getStringAttr(family->getName()) : nullptr,
      range ? builder.getF64ArrayAttr({range->low, range->high}) : nullptr,
      defaultValue ? builder.getStringAttr(defaultValue->str()) : nullptr);
}

ir::SignatureAttr SignatureBuilder::run() {
  if (!readTypes())
    return {};
  outsideUses.visit(recurrence.getItems());
  SmallVector<mlir::Attribute> args;
  for (const Stmt *item : recurrence.getItems()) {
    if (auto *out = dyn_cast<OutStmt>(item)) {
      Type type = out->decl->value->getType();
      args.push_back(getArg(ir::ArgKind::Out, out->decl,
                            getType(out->decl, !type.isScalar()), {type.rows}));
      continue;
    }
    auto *declare = dyn_cast<DeclareStmt>(item);
    if (!declare)
      continue;
    if (auto *argument = dyn_cast<ArgumentDecl>(declare->decl)) {
      bool rounded = argument->getDim() && !argument->isParam() &&
                     !(argument->isUsed() && !outsideUses.contains(argument));
      args.push_back(
          getArg(argument->isParam() ? ir::ArgKind::Param : ir::ArgKind::In,
                 argument, getType(argument, rounded), {argument->getDim()},
                 argument->getFamily(), argument->valueRange));
    } else if (auto *attr = dyn_cast<AttrDecl>(declare->decl)) {
      args.push_back(getArg(ir::ArgKind::Attr, attr, otherType, {},
                            /*family=*/nullptr, attr->valueRange,
                            attr->defaultValue));
    } else if (auto *state = dyn_cast<StateDecl>(declare->decl)) {
      args.push_back(getArg(ir::ArgKind::State, state,
                            getType(state, /*vector=*/false),
                            {state->rows, state->cols}));
    }
  }
  return ir::SignatureAttr::get(builder.getContext(),
                                builder.getArrayAttr(args),
                                /*dims=*/nullptr, /*options=*/nullptr);
}

ir::SignatureAttr importSignature(const Recurrence &recurrence,
                                  const SourceMgr &sources,
                                  mlir::MLIRContext *context,
                                  const ImportOptions &options) {
  return SignatureBuilder(recurrence, sources, context, options).run();
}

} // namespace delta::spec
