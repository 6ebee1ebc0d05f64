//===- Analyzer.h - names, types and the class of a step --------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The analysis after parsing. Analysis.cpp has names and items, AnalyzeExpr.cpp
// the expressions in them.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SPEC_ANALYZER_H
#define DELTA_LIB_SPEC_ANALYZER_H

#include "Internal.h"
#include "Typing.h"
#include "llvm/ADT/DenseMap.h"

namespace delta::spec {

/// Analyses one recurrence. A node left without a type was reported.
class Analyzer {
public:
  Analyzer(Recurrence &recurrence, DiagnosticEngine &diagnostics,
           const NameSet &skippedNames)
      : recurrence(recurrence), diagnostics(diagnostics),
        typing(recurrence, diagnostics), silentNames(skippedNames),
        hadSyntaxErrors(diagnostics.getNumErrors() != 0) {}

  void run();

private:
  // Names.
  void collectDecls(llvm::ArrayRef<Stmt *> items);
  bool declare(Decl *decl);
  Decl *resolve(const Identifier &id, llvm::StringRef what);
  DimDecl *resolveDim(const Identifier &id);
  void checkArrayName(Decl *decl);
  void checkGradientNames();
  void noteDeclaration(DiagnosticEngine::Builder &error, const Decl *decl);

  // Items.
  void visitItem(Stmt *item);
  void visitDeclaration(Decl *decl);
  void visitArgument(ArgumentDecl *decl);
  void visitAttr(AttrDecl *decl);
  void visitState(StateDecl *decl);
  void visitLet(LetDecl *decl);
  void visitAssign(AssignStmt *stmt);
  void visitOut(OutDecl *decl);
  void visitFor(ForStmt *stmt);
  bool checkClass(Expr *value, UseSite site);
  void checkUnused(llvm::ArrayRef<Stmt *> items);

  // Expressions.
  bool visit(Expr *expr);
  bool visitName(NameExpr *expr);
  bool visitIndex(IndexExpr *expr);

  Recurrence &recurrence;
  DiagnosticEngine &diagnostics;
  Typing typing;
  /// Names about which nothing more is said.
  NameSet silentNames;
  bool hadSyntaxErrors;
  /// The names known at this point.
  llvm::DenseMap<llvm::StringRef, Decl *> scope;
  /// Every declaration of the file by name, the first one winning.
  llvm::DenseMap<llvm::StringRef, Decl *> allDecls;
  /// The names declared inside the current `for`.
  llvm::SmallVector<llvm::StringRef> loopNames;
  bool inLoop = false;
};

} // namespace delta::spec

#endif // DELTA_LIB_SPEC_ANALYZER_H
