//===- delta-run.cpp - compiles a recurrence and runs it ------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The command line of delta-run; Run.cpp does the work.
//
//===----------------------------------------------------------------------===//

#include "Run.h"
#include "delta/Driver/CommandLine.h"
#include "delta/Driver/Output.h"
#include "delta/Runtime/Suggest.h"

#include "llvm/Support/InitLLVM.h"

#include <cmath>
#include <cstdlib>

using namespace llvm;
using namespace delta;
using namespace delta::driver;

namespace {

/// delta-run's own flags.
struct RunFlags {
  cl::OptionCategory category{"Running"};
  cl::opt<std::string> input, output, device, tolerance, random, stats;
  cl::opt<bool> reference, grad, check, bench;

  explicit RunFlags(cl::OptionCategory &io)
      : input("input", cl::value_desc("FILE.npz"),
              cl::desc("Arrays named after the spec's inputs and params, and "
                       "initial_state, cu_seqlens"),
              cl::cat(io)),
        output("output", cl::value_desc("FILE.npz"),
               cl::desc("Where the outs and final_state go"), cl::cat(io)),
        device("device", cl::init("cpu"), cl::value_desc("cpu|sim|cuda"),
               cl::desc("Where the kernel runs (default: cpu)"),
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
        grad("grad", cl::desc("Gradients (not available yet)"),
             cl::cat(category)),
        check("check",
              cl::desc("Compare with the reference; exit 2 when they differ"),
              cl::cat(category)),
        bench("bench", cl::desc("Measure the kernel"), cl::cat(category)) {}
};

FailureOr<unsigned> readThreads(Reporter &reporter) {
  const char *text = std::getenv("DELTA_NUM_THREADS");
  if (!text || !*text)
    return 0u;
  unsigned threads;
  if (StringRef(text).getAsInteger(10, threads) || threads < 1 ||
      threads > 4096)
    return reporter.error(
        Twine("DELTA_NUM_THREADS: expected a number from 1 to "
              "4096, but got '") +
        text + "'");
  return threads;
}

LogicalResult checkDevice(const RunFlags &flags, Reporter &reporter) {
  if (flags.device == "sim" || flags.device == "cuda")
    return reporter.absent("--device: device '" + flags.device +
                           "' is not built into this version; cpu is");
  if (flags.device != "cpu")
    return reporter.error(
        "--device: unknown device '" + flags.device +
        "'; expected cpu, sim or cuda" +
        runtime::didYouMean(flags.device, {"cpu", "sim", "cuda"}));
  if (!flags.stats.empty())
    return reporter.error("--stats writes the simulator's counters; device "
                          "'cpu' has none");
  if (flags.grad)
    return reporter.error("--grad: gradients are not available yet");
  return success();
}

FailureOr<run::RunOptions> readOptions(const RunFlags &flags,
                                       Reporter &reporter) {
  if (failed(checkDevice(flags, reporter)))
    return failure();
  run::RunOptions options;
  options.input = flags.input;
  options.output = flags.output;
  options.reference = flags.reference;
  options.check = flags.check;
  options.bench = flags.bench;
  bool random = flags.random.getNumOccurrences() != 0;
  if (options.input.empty() && !random)
    return reporter.error(
        "there are no arrays to run on; give --input FILE.npz "
        "or --random=B=1,T=256,H=2,K=64,V=64,seed=0");
  if (!options.input.empty() && random)
    return reporter.error("--input and --random exclude each other");
  if (options.reference && options.bench)
    return reporter.error("--bench measures the kernel, which --reference does "
                          "not run");
  if (random) {
    FailureOr<RandomOptions> parsed = parseRandom(flags.random, reporter);
    if (failed(parsed))
      return failure();
    options.random = std::move(*parsed);
  }
  if (!flags.tolerance.empty()) {
    double value;
    if (StringRef(flags.tolerance).getAsDouble(value) ||
        !std::isfinite(value) || value < 0)
      return reporter.error("--tolerance: expected a number of at least 0, but "
                            "got '" +
                            flags.tolerance + "'");
    if (!options.check)
      return reporter.error("--tolerance means nothing without --check");
    options.tolerance = value;
  }
  if (options.output == "-")
    return reporter.error("--output: arrays do not go to standard output; give "
                          "a file");
  if (!options.output.empty() &&
      failed(checkOutput(options.output, /*binary=*/true, reporter)))
    return failure();
  FailureOr<unsigned> threads = readThreads(reporter);
  if (failed(threads))
    return failure();
  options.threads = *threads;
  return options;
}

} // namespace

int main(int argc, char **argv) {
  InitLLVM init(argc, argv);
  Reporter reporter("delta-run");
  // LLVM's own --stats gives way to ours.
  if (cl::Option *stats = cl::getRegisteredOptions().lookup("stats"))
    stats->removeArgument();
  CommandLine commandLine;
  RunFlags flags(commandLine.ioCategory);
  commandLine.parse(
      argc, argv,
      "delta-run: compiles a recurrence and runs it on arrays\n\n"
      "SPEC is a file in the spec language, the name of a library "
      "spec, '-' for\nstandard input, or a module of stage step to "
      "mapped. DELTA_NUM_THREADS sets the\nnumber of threads.\n",
      {&flags.category});
  FailureOr<CompilerOptions> compiler = commandLine.getOptions(reporter);
  if (failed(compiler))
    return static_cast<int>(reporter.getFailureStatus());
  FailureOr<run::RunOptions> options = readOptions(flags, reporter);
  if (failed(options))
    return static_cast<int>(reporter.getFailureStatus());
  FailureOr<Exit> status = run::run(*compiler, *options, reporter);
  return static_cast<int>(succeeded(status) ? *status
                                            : reporter.getFailureStatus());
}
