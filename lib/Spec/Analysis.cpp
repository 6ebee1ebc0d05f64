//===- Analysis.cpp - names and declarations ------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Walks the items in order: declares names, resolves uses, and has every
// expression typed (Typing.cpp) and checked to be in the class (Affinity.cpp).
// A node without a type was reported already, and so says nothing more.
//
//===----------------------------------------------------------------------===//

#include "Analyzer.h"
#include "Lexer.h"

#include "llvm/ADT/STLExtras.h"

using namespace llvm;

namespace delta::spec {

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

static std::string withArticle(StringRef noun) {
  return ((StringRef("aio").contains(noun.front()) ? "an " : "a ") + noun)
      .str();
}

void Analyzer::noteDeclaration(DiagnosticEngine::Builder &error,
                               const Decl *decl) {
  if (decl->getLoc().isValid())
    error.note(decl->getLoc(), decl->getDescription() + " '" + decl->getName() +
                                   "' is declared here");
}

void Analyzer::collectDecls(ArrayRef<Stmt *> items) {
  for (Stmt *item : items) {
    Decl *decl = nullptr;
    if (auto *declare = dyn_cast<DeclareStmt>(item))
      decl = declare->decl;
    else if (auto *let = dyn_cast<LetStmt>(item))
      decl = let->decl;
    else if (auto *out = dyn_cast<OutStmt>(item))
      decl = out->decl;
    else if (auto *loop = dyn_cast<ForStmt>(item))
      collectDecls(loop->body);
    if (decl)
      allDecls.try_emplace(decl->getName(), decl);
  }
}

/// Makes the name known. Returns false if it is taken.
bool Analyzer::declare(Decl *decl) {
  // Reported by the parser.
  if (isReserved(decl->getName())) {
    decl->setInvalid();
    return false;
  }
  auto [it, inserted] = scope.try_emplace(decl->getName(), decl);
  if (inserted) {
    if (inLoop)
      loopNames.push_back(decl->getName());
    return true;
  }
  Decl *first = it->second;
  auto error = diagnostics.error(decl->getLoc(),
                                 "'" + decl->getName() +
                                     "' is declared twice; every name is "
                                     "declared once");
  error.range(decl->getNameRange());
  if (first->getLoc().isValid())
    error.note(first->getLoc(), "the " + first->getDescription() + " '" +
                                    first->getName() + "' is declared here");
  // Which of the two a use means is anyone's guess.
  decl->setInvalid();
  if (!isa<DimDecl, StateDecl>(first))
    first->setInvalid();
  return false;
}

/// The declaration that `id` names, or null after reporting that there is none
/// (`what` says what was looked for).
Decl *Analyzer::resolve(const Identifier &id, StringRef what) {
  auto it = scope.find(id.name);
  if (it != scope.end()) {
    it->second->setUsed();
    return it->second;
  }
  // Once is enough, and looking for near names takes time.
  if (!silentNames.insert(id.name).second || diagnostics.isFull())
    return nullptr;
  if (Decl *decl = allDecls.lookup(id.name)) {
    bool before = id.loc.getPointer() < decl->getLoc().getPointer();
    auto error = diagnostics.error(
        id.loc, before ? "'" + id.name + "' is used before it is declared"
                       : "'" + id.name +
                             "' is known only inside the 'for' "
                             "that declares it");
    error.range(id.getRange());
    noteDeclaration(error, decl);
    decl->setUsed();
    return nullptr;
  }
  SmallVector<StringRef> names;
  for (const auto &[name, decl] : scope)
    if (!isa<OutDecl>(decl))
      names.push_back(name);
  llvm::sort(names); // For a message that is the same every time.
  StringRef nearest = findNearest(id.name, names);
  std::string end =
      nearest.empty() ? "" : ("; did you mean '" + nearest + "'?").str();
  if (nearest.empty() && what == "dim" && !isReserved(id.name))
    end = "; declare it with 'dim " + shorten(id.name) + "'";
  auto error = diagnostics.error(id.loc, "unknown " + what + " '" +
                                             shorten(id.name) + "'" + end);
  error.range(id.getRange());
  if (!nearest.empty())
    noteDeclaration(error, scope.lookup(nearest));
  return nullptr;
}

DimDecl *Analyzer::resolveDim(const Identifier &id) {
  Decl *decl = resolve(id, "dim");
  if (!decl)
    return nullptr;
  if (auto *dim = dyn_cast<DimDecl>(decl))
    return dim;
  auto error = diagnostics.error(
      id.loc, "'" + id.name + "' is " + withArticle(decl->getDescription()) +
                  ", not a dim");
  error.range(id.getRange());
  noteDeclaration(error, decl);
  return nullptr;
}

/// Inputs, params and outs share their names with arrays of other meaning.
void Analyzer::checkArrayName(Decl *decl) {
  StringRef name = decl->getName();
  StringRef reason;
  if (name == "initial_state" || name == "final_state" ||
      name == "cu_seqlens" || name == "dht")
    reason = "the array of that name has a meaning of its own";
  else if (name.starts_with("d_"))
    reason = "names that begin with 'd_' are those of gradients";
  else
    return;
  diagnostics
      .error(decl->getLoc(), "'" + name + "' cannot be the name of " +
                                 withArticle(decl->getDescription()) + "; " +
                                 reason)
      .range(decl->getNameRange());
}

/// `do` is the gradient of the out `o`, so no input can have that name.
void Analyzer::checkGradientNames() {
  DenseMap<StringRef, OutDecl *> outs;
  for (OutDecl *out : recurrence.outs)
    outs.try_emplace(out->getName(), out);
  for (ArgumentDecl *argument : recurrence.arguments) {
    StringRef name = argument->getName();
    if (!name.consume_front("d"))
      continue;
    OutDecl *out = outs.lookup(name);
    if (!out)
      continue;
    auto error = diagnostics.error(
        argument->getLoc(),
        "'" + argument->getName() + "' cannot be the name of " +
            withArticle(argument->getDescription()) +
            "; it is the name of the gradient of the out '" + out->getName() +
            "'");
    error.range(argument->getNameRange());
    noteDeclaration(error, out);
  }
}

//===----------------------------------------------------------------------===//
// Items
//===----------------------------------------------------------------------===//

void Analyzer::run() {
  for (DimDecl *dim : recurrence.dims)
    scope.try_emplace(dim->getName(), dim);
  collectDecls(recurrence.items);
  for (Stmt *item : recurrence.items) {
    if (diagnostics.isFull())
      return;
    visitItem(item);
  }
  checkGradientNames();
  if (hadSyntaxErrors)
    return; // What is missing may have been skipped.
  if (!recurrence.state)
    diagnostics
        .error(recurrence.getLoc(), "the recurrence '" + recurrence.getName() +
                                        "' has no state; declare one, as in "
                                        "'state S: K x V'")
        .range(recurrence.id.getRange());
  if (recurrence.outs.empty())
    diagnostics
        .error(recurrence.getLoc(), "the recurrence '" + recurrence.getName() +
                                        "' has no out; add one, as in 'out o "
                                        "= S^T * q'")
        .range(recurrence.id.getRange());
  checkUnused(recurrence.items);
}

void Analyzer::visitItem(Stmt *item) {
  switch (item->getKind()) {
  case Stmt::Kind::Declare:
    return visitDeclaration(cast<DeclareStmt>(item)->decl);
  case Stmt::Kind::Let:
    return visitLet(cast<LetStmt>(item)->decl);
  case Stmt::Kind::Assign:
    return visitAssign(cast<AssignStmt>(item));
  case Stmt::Kind::Out:
    return visitOut(cast<OutStmt>(item)->decl);
  case Stmt::Kind::For:
    return visitFor(cast<ForStmt>(item));
  }
}

void Analyzer::visitDeclaration(Decl *decl) {
  switch (decl->getKind()) {
  case Decl::Kind::Dim:
    if (declare(decl))
      recurrence.dims.push_back(cast<DimDecl>(decl));
    return;
  case Decl::Kind::Argument:
    return visitArgument(cast<ArgumentDecl>(decl));
  case Decl::Kind::Attr:
    return visitAttr(cast<AttrDecl>(decl));
  case Decl::Kind::State:
    return visitState(cast<StateDecl>(decl));
  default:
    llvm_unreachable("declared by their statements");
  }
}

void Analyzer::visitArgument(ArgumentDecl *decl) {
  if (decl->familyId.isValid())
    decl->family = resolveDim(decl->familyId);
  if (decl->dimId.isValid())
    decl->dim = resolveDim(decl->dimId);
  if ((decl->familyId.isValid() && !decl->family) ||
      (decl->dimId.isValid() && !decl->dim))
    decl->setInvalid();
  checkArrayName(decl);
  if (declare(decl))
    recurrence.arguments.push_back(decl);
}

void Analyzer::visitAttr(AttrDecl *decl) {
  if (Expr *value = decl->defaultValue) {
    bool typed = visit(value);
    const Expr *culprit =
        typed ? findNonConstant(value, /*allowLets=*/false) : nullptr;
    if (!typed) {
      decl->setInvalid();
    } else if (culprit) {
      diagnostics
          .error(culprit->getRange().Start,
                 "an attr's default is built from numbers, dims and earlier "
                 "attrs, but found '" +
                     shorten(culprit->str()) + "'")
          .range(culprit->getRange());
      decl->setInvalid();
    } else if (std::optional<double> number = evaluateClosed(value)) {
      const auto &range = decl->valueRange;
      if (range && !(*number >= range->low && *number <= range->high))
        diagnostics
            .error(value->getRange().Start,
                   "the default " + formatNumber(*number) +
                       " lies outside the declared range [" +
                       formatNumber(range->low) + ", " +
                       formatNumber(range->high) + "]")
            .range(value->getRange());
    }
  }
  if (declare(decl))
    recurrence.attrs.push_back(decl);
}

void Analyzer::visitState(StateDecl *decl) {
  if (decl->rowsId.isValid())
    decl->rows = resolveDim(decl->rowsId);
  if (decl->colsId.isValid())
    decl->cols = resolveDim(decl->colsId);
  if (!decl->rows || !decl->cols)
    decl->setInvalid();
  if (StateDecl *first = recurrence.state) {
    auto error =
        diagnostics.error(decl->getLoc(), "a recurrence has exactly one state");
    error.range(decl->getNameRange());
    noteDeclaration(error, first);
    silentNames.insert(decl->getName());
    return;
  }
  recurrence.state = decl;
  declare(decl);
}

/// Has the typed `value` checked against the class.
bool Analyzer::checkClass(Expr *value, UseSite site) {
  // Without a sound state there is nothing to depend on.
  StateDecl none{Identifier(), Identifier(), Identifier()};
  return checkAffinity(value, site, recurrence.state ? *recurrence.state : none,
                       diagnostics);
}

void Analyzer::visitLet(LetDecl *decl) {
  if (!decl->value || !visit(decl->value) ||
      !checkClass(decl->value, UseSite::Let))
    decl->setInvalid();
  declare(decl);
}

void Analyzer::visitAssign(AssignStmt *stmt) {
  bool typed = stmt->value && visit(stmt->value);
  const Identifier &target = stmt->target;
  auto it = scope.find(target.name);
  if (it == scope.end()) {
    // Not `resolve`: what is meant is a let more often than the state.
    if (silentNames.insert(target.name).second) {
      auto error = diagnostics.error(
          target.loc, "'" + shorten(target.name) +
                          "' is not declared; only the state is assigned to");
      error.range(target.getRange());
      error.note(target.loc,
                 "did you mean 'let " + shorten(target.name) + " = ...'?");
    }
    return;
  }
  auto *state = dyn_cast<StateDecl>(it->second);
  if (!state) {
    auto error = diagnostics.error(
        target.loc, "cannot assign to the " + it->second->getDescription() +
                        " '" + target.name +
                        "'; only the state is assigned to");
    error.range(target.getRange());
    noteDeclaration(error, it->second);
    return;
  }
  state->setUsed();
  if (!typed || state->isInvalid())
    return;
  Expr *value = stmt->value;
  Type expected = state->getType();
  if (value->getType() != expected) {
    auto error = diagnostics.error(
        value->getLoc(), "the state '" + state->getName() + "' is " +
                             expected.str() + ", but its new value is " +
                             value->getType().str());
    error.range(value->getRange());
    if (value->getType() == expected.getTransposed())
      error.note(value->getLoc(),
                 "did you mean '" +
                     shorten(typing.makeTransposed(value)->str()) + "'?");
    return;
  }
  checkClass(value, UseSite::Assign);
}

void Analyzer::visitOut(OutDecl *decl) {
  checkArrayName(decl);
  Expr *value = decl->value;
  if (value && visit(value)) {
    Type type = value->getType();
    if (type.isRow() || type.isMatrix()) {
      auto error = diagnostics.error(
          value->getLoc(), "an out is a scalar or a column, but '" +
                               decl->getName() + "' is " + type.str());
      error.range(value->getRange());
      if (type.isRow())
        error.note(value->getLoc(),
                   "did you mean '" +
                       shorten(typing.makeTransposed(value)->str()) + "'?");
    } else {
      checkClass(value, UseSite::Out);
    }
  }
  if (declare(decl))
    recurrence.outs.push_back(decl);
}

void Analyzer::visitFor(ForStmt *stmt) {
  LoopVarDecl *var = stmt->var;
  if (var->dimId.isValid())
    var->dim = resolveDim(var->dimId);
  if (!var->dim)
    var->setInvalid();
  inLoop = true;
  if (!var->getName().empty())
    declare(var);
  for (Stmt *inner : stmt->body) {
    if (diagnostics.isFull())
      break;
    visitItem(inner);
  }
  inLoop = false;
  for (StringRef name : loopNames)
    scope.erase(name);
  loopNames.clear();
}

void Analyzer::checkUnused(ArrayRef<Stmt *> items) {
  for (Stmt *item : items) {
    const Decl *decl = nullptr;
    if (auto *declare = dyn_cast<DeclareStmt>(item))
      decl = dyn_cast<ArgumentDecl>(declare->decl);
    else if (auto *let = dyn_cast<LetStmt>(item))
      decl = let->decl;
    else if (auto *loop = dyn_cast<ForStmt>(item))
      checkUnused(loop->body);
    if (decl && !decl->isUsed() && !decl->isInvalid())
      diagnostics
          .warning(decl->getLoc(), "unused " + decl->getDescription() + " '" +
                                       shorten(decl->getName()) + "'")
          .range(decl->getNameRange());
  }
}

//===----------------------------------------------------------------------===//
// Entry point
//===----------------------------------------------------------------------===//

void analyze(Recurrence &recurrence, DiagnosticEngine &diagnostics,
             const NameSet &skippedNames) {
  Analyzer(recurrence, diagnostics, skippedNames).run();
}

} // namespace delta::spec
