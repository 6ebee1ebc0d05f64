//===- Parser.h - from spec text to a checked recurrence --------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The front end's entry points: read a file, report everything wrong with it,
// return a typed tree whose step is known to be in the class. docs/Language.md
// describes the language.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_SPEC_PARSER_H
#define DELTA_SPEC_PARSER_H

#include "delta/Spec/AST.h"
#include "delta/Spec/Diagnostics.h"

namespace delta::spec {

/// Parses and checks the recurrence in the buffer `bufferId` of `sources`,
/// which must outlive the result. Errors and warnings go to `handler` in source
/// order. Returns null if there was an error.
std::unique_ptr<Recurrence> parse(llvm::SourceMgr &sources, unsigned bufferId,
                                  DiagnosticHandler handler);

/// The same; errors and warnings are printed to `os`.
std::unique_ptr<Recurrence> parse(llvm::SourceMgr &sources, unsigned bufferId,
                                  llvm::raw_ostream &os);

} // namespace delta::spec

#endif // DELTA_SPEC_PARSER_H
