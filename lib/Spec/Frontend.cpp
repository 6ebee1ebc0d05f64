//===- Frontend.cpp - from spec text to a checked recurrence --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Runs the steps of the front end and hands over what they reported.
//
//===----------------------------------------------------------------------===//

#include "Internal.h"
#include "delta/Spec/Parser.h"

#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;

namespace delta::spec {

std::unique_ptr<Recurrence> parse(SourceMgr &sources, unsigned bufferId,
                                  DiagnosticHandler handler) {
  StringRef text = sources.getMemoryBuffer(bufferId)->getBuffer();
  auto recurrence = std::make_unique<Recurrence>();
  DiagnosticEngine diagnostics;
  if (text.size() > kFileLimit) {
    diagnostics.error(SMLoc::getFromPointer(text.begin()),
                      "the file has " + Twine(text.size()) +
                          " bytes; the limit is " + Twine(kFileLimit));
  } else {
    NameSet skippedNames;
    parseRecurrence(text, *recurrence, diagnostics, skippedNames);
    if (!diagnostics.isFull())
      analyze(*recurrence, diagnostics, skippedNames);
  }
  bool failed = diagnostics.getNumErrors() != 0;
  diagnostics.flush(handler);
  if (failed)
    return nullptr;
  return recurrence;
}

std::unique_ptr<Recurrence> parse(SourceMgr &sources, unsigned bufferId,
                                  raw_ostream &os) {
  return parse(sources, bufferId, [&](const Diagnostic &diagnostic) {
    printDiagnostic(os, sources, diagnostic);
  });
}

} // namespace delta::spec
