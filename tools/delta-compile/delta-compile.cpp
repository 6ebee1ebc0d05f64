//===- delta-compile.cpp - compiles a recurrence to any stage -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Reads a spec or a module, lowers it to what --emit names, writes that.
// Nothing is written before everything has been made.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/CommandLine.h"
#include "delta/Driver/Compilation.h"
#include "delta/Driver/Emission.h"
#include "delta/Driver/Output.h"

#include "llvm/Support/InitLLVM.h"

using namespace llvm;
using namespace delta::driver;

static LogicalResult compile(const CompilerOptions &options, StringRef emit,
                             StringRef output, Reporter &reporter) {
  std::optional<Artefact> wanted;
  if (!emit.empty()) {
    FailureOr<Artefact> artefact = parseArtefact(emit, reporter);
    if (failed(artefact))
      return failure();
    wanted = *artefact;
    if (failed(checkOutput(output, isBinary(*wanted, output), reporter)))
      return failure();
  }
  if (wanted == Artefact::Bundle) {
    FailureOr<std::string> contents = emitBundle(options, reporter);
    if (failed(contents))
      return failure();
    return writeOutput(output, *contents, /*binary=*/true, reporter);
  }
  if (failed(requireOneKernel(options, reporter)))
    return failure();
  Compilation compilation(options, reporter);
  if (failed(compilation.load()))
    return failure();
  // By default a module comes out as it went in.
  Artefact artefact =
      wanted.value_or(static_cast<Artefact>(compilation.getStage()));
  FailureOr<std::string> contents =
      emitArtefact(compilation, artefact, output, reporter);
  if (failed(contents) || failed(compilation.explainFurther()) ||
      failed(
          writeOutput(output, *contents, isBinary(artefact, output), reporter)))
    return failure();
  compilation.printTiming();
  return success();
}

int main(int argc, char **argv) {
  InitLLVM init(argc, argv);
  Reporter reporter("delta-compile");
  CommandLine commandLine;
  cl::opt<std::string> emit(
      "emit", cl::value_desc("STAGE"),
      cl::desc("step, events, chunk, mapped, llvm; for the cpu obj, so or "
               "header; for a GPU ptx or cubin; bundle (default: the "
               "stage of the input, step for a spec)"),
      cl::cat(commandLine.ioCategory));
  cl::opt<std::string> output(
      "o", cl::init("-"), cl::value_desc("FILE"),
      cl::desc("Where the output goes; '-', the default, is standard output; "
               "a name ending in .mlirbc gets bytecode"),
      cl::cat(commandLine.ioCategory));
  commandLine.parse(
      argc, argv,
      "delta-compile: from a recurrence to a native kernel\n\n"
      "SPEC is a file in the spec language, the name of a library "
      "spec, '-' for\nstandard input, or a module of any stage.\n");
  FailureOr<CompilerOptions> options = commandLine.getOptions(reporter);
  if (failed(options) || failed(compile(*options, emit, output, reporter)))
    return static_cast<int>(reporter.getFailureStatus());
  return static_cast<int>(Exit::Ok);
}
