//===- SpecMain.cpp - compiles a recurrence and runs it -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The half of delta-run that compiles: its command line. Run.cpp does the work.
//
//===----------------------------------------------------------------------===//

#include "Run.h"
#include "delta/Driver/CommandLine.h"

#include "llvm/Support/InitLLVM.h"

#include <cstdlib>

using namespace llvm;
using namespace delta;
using namespace delta::driver;

namespace {

/// delta-run's own flags.
struct Flags {
  cl::OptionCategory category{"Running"};
  cl::opt<std::string> input, output, device, tolerance, random, stats;
  cl::opt<bool> reference, emulate, grad, check, bench;

  explicit Flags(cl::OptionCategory &io)
      : input("input", cl::value_desc("FILE.npz"),
              cl::desc("Arrays named after the spec's inputs and params, and "
                       "initial_state, cu_seqlens"),
              cl::cat(io)),
        output("output", cl::value_desc("FILE.npz"),
               cl::desc("Where the outs and final_state go"), cl::cat(io)),
        device("device", cl::init("cpu"), cl::value_desc("cpu|sim|cuda"),
               cl::desc("Where the kernel runs (default: cpu); sim runs PTX in "
                        "the simulator"),
               cl::cat(category)),
        tolerance("tolerance", cl::value_desc("X"),
                  cl::desc("Limit on rel_err for --check, in place of the "
                           "precision's"),
                  cl::cat(category)),
        random("random", cl::value_desc("B=1,T=256,H=2,K=64,V=64,seed=0"),
               cl::desc("Make inputs instead of reading them"), cl::cat(io)),
        stats("stats", cl::value_desc("FILE"),
              cl::desc("The simulator's counters as JSON (--device=sim)"),
              cl::cat(category)),
        reference("reference",
                  cl::desc("Compute the reference instead: float64, token by "
                           "token, from the stage 'step'"),
                  cl::cat(category)),
        emulate("emulate",
                cl::desc("Compute the chunk program instead, rounded as the "
                         "target's kernel rounds: operands of matrix products "
                         "to the precision's type, the rest to f32"),
                cl::cat(category)),
        grad("grad",
             cl::desc("Compute gradients: of the ins, params, attrs and the "
                      "initial state, from the cotangents d<out> and dht; of "
                      "two bundles: a forward that saves states, its backward"),
             cl::cat(category)),
        check("check",
              cl::desc("Compare with the reference; exit 2 when they differ"),
              cl::cat(category)),
        bench("bench", cl::desc("Measure the kernel"), cl::cat(category)) {}
};

/// The text of an option that was given.
std::optional<std::string> textOf(const cl::opt<std::string> &option) {
  if (!option.getNumOccurrences())
    return std::nullopt;
  return option.getValue();
}

FailureOr<run::RunOptions> readOptions(const Flags &flags, Reporter &reporter) {
  run::RunFlags texts;
  texts.input = textOf(flags.input);
  texts.output = textOf(flags.output);
  texts.device = textOf(flags.device);
  texts.tolerance = textOf(flags.tolerance);
  texts.random = textOf(flags.random);
  texts.stats = textOf(flags.stats);
  texts.reference = flags.reference;
  texts.emulate = flags.emulate;
  texts.grad = flags.grad;
  texts.check = flags.check;
  texts.bench = flags.bench;
  runtime::Expected<run::RunOptions> options =
      run::readRunOptions(texts, std::getenv("DELTA_NUM_THREADS"));
  if (!options)
    return reporter.error(options.message());
  return std::move(*options);
}

} // namespace

int main(int argc, char **argv) {
  InitLLVM init(argc, argv);
  Reporter reporter("delta-run");
  // LLVM's own --stats gives way to ours.
  if (cl::Option *stats = cl::getRegisteredOptions().lookup("stats"))
    stats->removeArgument();
  CommandLine commandLine;
  Flags flags(commandLine.ioCategory);
  commandLine.parse(
      argc, argv,
      "delta-run: compiles a recurrence and runs it on arrays\n\n"
      "SPEC is a file in the spec language, the name of a library "
      "spec, '-' for\nstandard input, a module of stage step to "
      "mapped, or a bundle, which runs without\nthe compiler. "
      "DELTA_NUM_THREADS sets the number of threads.\n",
      {&flags.category});
  FailureOr<CompilerOptions> compiler = commandLine.getOptions(reporter);
  if (failed(compiler) || failed(requireOneKernel(*compiler, reporter)))
    return static_cast<int>(reporter.getFailureStatus());
  FailureOr<run::RunOptions> options = readOptions(flags, reporter);
  if (failed(options))
    return static_cast<int>(reporter.getFailureStatus());
  FailureOr<Exit> status = run::run(*compiler, *options, reporter);
  return static_cast<int>(succeeded(status) ? *status
                                            : reporter.getFailureStatus());
}
