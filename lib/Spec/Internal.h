//===- Internal.h - the steps of the front end ------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the parser, the name and shape analysis, and the affinity analysis say
// to each other. Each reports its own errors and leaves the tree in a state
// that the next can work on, so that one run reports as much as it can.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SPEC_INTERNAL_H
#define DELTA_LIB_SPEC_INTERNAL_H

#include "delta/Spec/AST.h"
#include "delta/Spec/Diagnostics.h"
#include "llvm/ADT/DenseSet.h"

namespace delta::spec {

/// The names in text that was skipped after a syntax error: it may have
/// declared them.
using NameSet = llvm::DenseSet<llvm::StringRef>;

/// Parses a file. Where a part could not be parsed, the node for it is null or
/// marked invalid, and an error was reported.
void parseRecurrence(llvm::StringRef text, Recurrence &recurrence,
                     DiagnosticEngine &diagnostics, NameSet &skippedNames);

/// Parses a text that is one expression; null on error.
Expr *parseExpression(llvm::StringRef text, Recurrence &arena,
                      DiagnosticEngine &diagnostics);

/// Resolves names, computes types, and checks the step to be in the class.
void analyze(Recurrence &recurrence, DiagnosticEngine &diagnostics,
             const NameSet &skippedNames);

/// What the value of an expression is used for.
enum class UseSite { Let, Assign, Out };

/// Computes the state use of the typed expression `value` and reports what is
/// outside the class. Returns false after an error.
bool checkAffinity(Expr *value, UseSite site, const StateDecl &state,
                   DiagnosticEngine &diagnostics);

/// The value of the constant `expr` if it needs no dim and no attr.
std::optional<double> evaluateClosed(const Expr *expr);

/// The candidate nearest to `name` in spelling, or empty if none is near.
llvm::StringRef findNearest(llvm::StringRef name,
                            llvm::ArrayRef<llvm::StringRef> candidates);

/// `text`, shortened in the middle if it is too long for a message.
std::string shorten(llvm::StringRef text);

} // namespace delta::spec

#endif // DELTA_LIB_SPEC_INTERNAL_H
