//===- CommandLine.cpp - the tools' flags ---------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Flags are taken as texts and judged in Options.cpp: LLVM's own complaints
// about values would not say what was expected.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/CommandLine.h"

#include "delta/Driver/MappingKeys.h"

#include "delta/Target/NVPTX/GpuTarget.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Config/llvm-config.h"
#include "llvm/Support/Path.h"

using namespace llvm;

namespace delta::driver {

/// cl::desc keeps a reference.
static StringRef getMappingDescription() {
  static const std::string text =
      "Pin choices of the mapping. " + describeMappingKeys();
  return text;
}

CommandLine::CommandLine()
    : ioCategory("Input and output"), compileCategory("Compilation"),
      inspectCategory("Looking inside"), mlirCategory("Printing of IR (MLIR)"),
      input(cl::Positional, cl::init(""), cl::value_desc("SPEC"),
            cl::desc("SPEC"), cl::cat(ioCategory)),
      target("target", cl::value_desc("cpu|sm_80|sm_90a"),
             cl::desc("What to compile for (default: cpu)"),
             cl::cat(compileCategory)),
      mcpu("mcpu", cl::value_desc("NAME"),
           cl::desc("The CPU to compile for, by LLVM's name (default: native, "
                    "this machine)"),
           cl::cat(compileCategory)),
      fn("fn", cl::value_desc("forward|backward|decode"),
         cl::desc("forward: the chunked form (default); backward: its "
                  "gradients; decode: the recurrent form, token by token"),
         cl::cat(compileCategory)),
      precision("precision", cl::value_desc("f32|f64|..."),
                cl::desc("What is computed in. cpu: f32 or f64 (default: the "
                         "tensors' type, f32 for bf16 and f16). GPU: bf16, "
                         "f16, tf32 or bf16x3, operands of matrix products "
                         "(default: bf16 for bf16, tf32 for f16, bf16x3 for "
                         "f32); decode computes in f32"),
                cl::cat(compileCategory)),
      chunk("chunk", cl::value_desc("auto|16|32|64"),
            cl::desc("Tokens in a chunk (default: auto)"),
            cl::cat(compileCategory)),
      mapping("mapping", cl::value_desc("NAME=VALUE,..."),
              cl::desc(getMappingDescription()),
              cl::cat(compileCategory)),
      assume("assume", cl::value_desc("B=N,T=N,H=N"),
             cl::desc("Sizes that the cost model reckons with (default: a "
                      "saturated machine)"),
             cl::cat(compileCategory)),
      saveBudget("save-budget", cl::value_desc("BYTES"),
                 cl::desc("For gradients: bytes that saved states may take for "
                          "every token and head; what is not saved is computed "
                          "again (default: every chunk's state is saved)"),
                 cl::cat(compileCategory)),
      saveEvery("save-every", cl::value_desc("N"),
                cl::desc("For gradients: the state is saved at the start of "
                         "every N-th chunk, by a forward and for a backward"),
                cl::cat(compileCategory)),
      dims("D", cl::Prefix, cl::value_desc("NAME=SIZE"),
           cl::desc("Size of a dim: -D K=64 -D V=64"),
           cl::cat(compileCategory)),
      dtypes("dtype", cl::value_desc("TYPE or NAME=TYPE"),
             cl::desc("f32 (default), bf16, f16 or f64: type of the vector "
                      "inputs and outs, or of the one named"),
             cl::cat(compileCategory)),
      attrs("attr", cl::value_desc("NAME=VALUE"),
            cl::desc("Value of an attr of the spec"), cl::cat(compileCategory)),
      explain("explain",
              cl::desc("Say on stderr which form was chosen, and why"),
              cl::cat(inspectCategory)),
      timing("timing", cl::desc("Say on stderr how long each stage took"),
             cl::cat(inspectCategory)),
      dumpDir("dump-dir", cl::value_desc("DIR"),
              cl::desc("Write the IR of every stage into DIR"),
              cl::cat(inspectCategory)) {
  mlir::registerMLIRContextCLOptions();
  mlir::registerPassManagerCLOptions();
  mlir::registerAsmPrinterCLOptions();
  for (auto &[name, option] : cl::getRegisteredOptions())
    if (name.starts_with("mlir-print"))
      option->addCategory(mlirCategory);
}

void CommandLine::parse(int argc, char **argv, StringRef overview,
                        ArrayRef<cl::OptionCategory *> more) {
  SmallVector<const cl::OptionCategory *> shown = {
      &ioCategory, &compileCategory, &inspectCategory, &mlirCategory};
  shown.append(more.begin(), more.end());
  cl::HideUnrelatedOptions(shown);
  std::string tool = sys::path::filename(argv[0]).str();
  cl::SetVersionPrinter([tool](raw_ostream &os) {
    os << tool << " (delta) " DELTA_VERSION ", LLVM " LLVM_VERSION_STRING
       << ", targets: cpu, " << join(gpu::GpuTarget::getNames(), ", ") << '\n';
  });
  cl::ParseCommandLineOptions(argc, argv, overview);
}

FailureOr<CompilerOptions> CommandLine::getOptions(Reporter &reporter) const {
  CompilerFlags flags;
  flags.input = input;
  flags.target = target;
  flags.mcpu = mcpu;
  flags.fn = fn;
  flags.precision = precision;
  flags.chunk = chunk;
  flags.mapping = mapping;
  flags.assume = assume;
  flags.saveBudget = saveBudget;
  flags.saveEvery = saveEvery;
  flags.dumpDir = dumpDir;
  flags.dims.assign(dims.begin(), dims.end());
  flags.dtypes.assign(dtypes.begin(), dtypes.end());
  flags.attrs.assign(attrs.begin(), attrs.end());
  flags.explain = explain;
  flags.timing = timing;
  if (flags.input.empty())
    return reporter.error("no SPEC is given; expected a file, the name of a "
                          "library spec, or '-' for standard input");
  FailureOr<CompilerOptions> options = parseCompilerOptions(flags, reporter);
  if (succeeded(options))
    options->obeysMlirFlags = true;
  return options;
}

} // namespace delta::driver
