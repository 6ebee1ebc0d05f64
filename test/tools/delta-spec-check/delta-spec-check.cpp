//===- delta-spec-check.cpp - the spec front end alone --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Parses a spec and prints it in canonical form or as IR, or its diagnostics:
// what the tests of the front end run.
//
//===----------------------------------------------------------------------===//

#include "delta/Spec/Evaluate.h"
#include "delta/Spec/Import.h"
#include "delta/Spec/Library.h"
#include "delta/Spec/Parser.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;

static cl::opt<std::string> input(cl::Positional, cl::init("-"),
                                  cl::desc("FILE, a library name, or -"));
static cl::opt<bool> types("types",
                           cl::desc("Say the type of every statement's value"));
static cl::opt<bool> import("import", cl::desc("Print the step stage"));
static cl::opt<bool> locations("locations",
                               cl::desc("Print locations with --import"));
static cl::list<std::string> dtypes("dtype",
                                    cl::desc("TYPE or NAME=TYPE for --import"));
static cl::opt<bool> listLibrary("library", cl::desc("List the library"));
static cl::opt<std::string>
    expression("eval", cl::desc("Evaluate a constant expression instead"));
static cl::list<std::string> dims("dim", cl::desc("NAME=VALUE for --eval"));
static cl::list<std::string> attrs("attr", cl::desc("NAME=VALUE for --eval"));

/// Prints the value of the expression.
static int evaluate() {
  StringMap<int64_t> dimValues;
  StringMap<double> attrValues;
  for (StringRef dim : dims) {
    auto [name, value] = dim.split('=');
    if (value.getAsInteger(10, dimValues[name]))
      return 1;
  }
  for (StringRef attr : attrs) {
    auto [name, value] = attr.split('=');
    if (value.getAsDouble(attrValues[name]))
      return 1;
  }
  Expected<double> value =
      delta::spec::evaluateConstant(expression, dimValues, attrValues);
  if (!value) {
    errs() << "error: " << toString(value.takeError()) << '\n';
    return 1;
  }
  outs() << delta::spec::formatNumber(*value) << '\n';
  return 0;
}

int main(int argc, char **argv) {
  InitLLVM initLLVM(argc, argv);
  cl::ParseCommandLineOptions(argc, argv, "checks a recurrence spec\n");
  if (listLibrary) {
    for (StringRef name : delta::spec::librarySpecNames())
      outs() << name << '\n';
    return 0;
  }
  if (expression.getNumOccurrences())
    return evaluate();

  std::unique_ptr<MemoryBuffer> buffer;
  if (auto text = delta::spec::lookupLibrarySpec(input)) {
    buffer = MemoryBuffer::getMemBuffer(*text, input + ".delta");
  } else {
    auto file = MemoryBuffer::getFileOrSTDIN(input);
    if (!file) {
      errs() << "error: cannot read '" << input
             << "': " << file.getError().message() << '\n';
      return 1;
    }
    buffer = std::move(*file);
  }
  SourceMgr sources;
  unsigned id = sources.AddNewSourceBuffer(std::move(buffer), SMLoc());
  auto recurrence = delta::spec::parse(sources, id, errs());
  if (!recurrence)
    return 1;
  if (!import) {
    recurrence->print(outs(), types);
    return 0;
  }

  mlir::MLIRContext context;
  mlir::SourceMgrDiagnosticHandler handler(sources, &context, errs());
  SmallVector<std::pair<std::string, std::string>> dtypeOf;
  delta::spec::ImportOptions options;
  for (StringRef dtype : dtypes) {
    auto [name, type] = dtype.split('=');
    if (dtype.contains('='))
      dtypeOf.push_back({name.str(), type.str()});
    else
      options.dtype = dtype.str();
  }
  options.dtypeOf = dtypeOf;
  auto module =
      delta::spec::importRecurrence(*recurrence, sources, &context, options);
  if (!module || failed(mlir::verify(*module)))
    return 1;
  mlir::OpPrintingFlags flags;
  flags.enableDebugInfo(locations, /*prettyForm=*/false);
  module->print(outs(), flags);
  outs() << '\n';
  return 0;
}
