//===- Diagnostics.h - errors and warnings of the spec language -*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the spec front end reports, and how it is printed: a line
// `file:line:col: error: ...`, the source line, a caret. Nothing here knows
// about recurrences.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_SPEC_DIAGNOSTICS_H
#define DELTA_SPEC_DIAGNOSTICS_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/SMLoc.h"
#include <string>
#include <vector>

namespace llvm {
class SourceMgr;
class raw_ostream;
} // namespace llvm

namespace delta::spec {

enum class Severity { Error, Warning, Note };

/// One message at one place. A note belongs to the error or warning before it.
struct Diagnostic {
  Severity severity = Severity::Error;
  /// Where the caret goes; invalid for a message without a place.
  llvm::SMLoc loc;
  /// What is underlined with tildes, on the caret's line.
  llvm::SmallVector<llvm::SMRange, 2> ranges;
  std::string message;
};

/// Receives the diagnostics of a file in the order of their places.
using DiagnosticHandler = llvm::function_ref<void(const Diagnostic &)>;

/// Prints one diagnostic as clang does. Columns count bytes from 1; long lines
/// are shown in part.
void printDiagnostic(llvm::raw_ostream &os, const llvm::SourceMgr &sources,
                     const Diagnostic &diagnostic);

/// Collects the diagnostics of one file and hands them over sorted by place.
class DiagnosticEngine {
public:
  /// No more errors than this are shown, nor looked for.
  static constexpr unsigned kErrorLimit = 20;

  /// A diagnostic under construction: ranges and notes are added in a chain.
  class Builder {
  public:
    Builder(DiagnosticEngine &engine, size_t group)
        : engine(engine), group(group) {}
    /// Underlines `range` in the message added last.
    Builder &range(llvm::SMRange range);
    /// Appends a note.
    Builder &note(llvm::SMLoc loc, const llvm::Twine &message);

  private:
    DiagnosticEngine &engine;
    size_t group;
  };

  Builder error(llvm::SMLoc loc, const llvm::Twine &message);
  Builder warning(llvm::SMLoc loc, const llvm::Twine &message);

  unsigned getNumErrors() const { return numErrors; }
  /// Whether reading on is of no use.
  bool isFull() const { return numErrors >= kErrorLimit; }
  /// Hands all diagnostics to `handler`, in source order, and forgets them.
  void flush(DiagnosticHandler handler);

private:
  Builder add(Severity severity, llvm::SMLoc loc, const llvm::Twine &message);

  /// A diagnostic and its notes.
  using Group = llvm::SmallVector<Diagnostic, 2>;
  std::vector<Group> groups;
  unsigned numErrors = 0;
};

} // namespace delta::spec

#endif // DELTA_SPEC_DIAGNOSTICS_H
