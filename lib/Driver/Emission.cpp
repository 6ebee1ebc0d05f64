//===- Emission.cpp - artefacts of a compilation --------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Stages are printed as they are; machine code is made from the stage `mapped`
// or `llvm`, whichever the compilation has reached.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/Emission.h"

#include "delta/Target/CPU/Codegen.h"
#include "delta/Target/CPU/CpuTarget.h"

#include "mlir/Bytecode/BytecodeWriter.h"

using namespace llvm;
using mlir::delta::Stage;

namespace delta::driver {

namespace {

bool wantsBytecode(StringRef output) { return output.ends_with(".mlirbc"); }

std::optional<Stage> getStage(Artefact artefact) {
  switch (artefact) {
  case Artefact::Step:
    return Stage::Step;
  case Artefact::Events:
    return Stage::Events;
  case Artefact::Chunk:
    return Stage::Chunk;
  case Artefact::Mapped:
    return Stage::Mapped;
  case Artefact::LLVM:
    return Stage::LLVM;
  default:
    return std::nullopt;
  }
}

FailureOr<std::string> printModule(mlir::ModuleOp module, StringRef output,
                                   Reporter &reporter) {
  std::string text;
  raw_string_ostream os(text);
  if (!wantsBytecode(output)) {
    module->print(os);
    if (!StringRef(text).ends_with("\n"))
      os << '\n';
    return text;
  }
  if (failed(mlir::writeBytecodeToFile(module, os)))
    return reporter.error("the module cannot be written as bytecode");
  return text;
}

} // namespace

bool isBinary(Artefact artefact, StringRef output) {
  switch (artefact) {
  case Artefact::Obj:
  case Artefact::So:
    return true;
  case Artefact::Header:
    return false;
  default:
    return wantsBytecode(output);
  }
}

FailureOr<std::string> emitArtefact(Compilation &compilation, Artefact artefact,
                                    StringRef output, Reporter &reporter) {
  if (std::optional<Stage> stage = getStage(artefact)) {
    if (failed(compilation.lowerTo(*stage)))
      return failure();
    return printModule(compilation.getModule(), output, reporter);
  }
  if (failed(
          compilation.lowerTo(std::max(compilation.getStage(), Stage::Mapped))))
    return failure();
  return reporter.error("'" + stringifyArtefact(artefact) +
                        "' is not available yet");
}

} // namespace delta::driver
