//===- Run.cpp - what delta-run does --------------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The module that was read is kept for the reference; a second compilation goes
// down to the kernel.
//
//===----------------------------------------------------------------------===//

#include "Run.h"
#include "DeviceRun.h"
#include "delta/Driver/Emission.h"
#include "delta/Driver/Output.h"
#include "delta/Driver/Signature.h"
#include "delta/Runtime/Check.h"
#include "delta/Runtime/MachineLimits.h"
#include "delta/Target/CPU/Jit.h"
#include "delta/Target/NVPTX/GpuTarget.h"

using namespace llvm;
using namespace delta::driver;
using mlir::delta::SignatureAttr;
using mlir::delta::Stage;

namespace delta::run {

namespace {

class Session {
public:
  /// `device` is null for the CPU.
  Session(const CompilerOptions &compiler, const RunOptions &options,
          runtime::Device *device, Reporter &reporter)
      : options(options), reporter(reporter), compilation(compiler, reporter),
        device(device), pool(options.threads) {}

  FailureOr<Exit> run();

private:
  LogicalResult bind();
  LogicalResult prepareArrays();
  LogicalResult checkTarget();
  LogicalResult compileAndRun();
  LogicalResult runOnCpu(runtime::Invocation &invocation);
  LogicalResult runOnGpu(runtime::Invocation &invocation);
  /// Measures the kernel and prints the line on standard output; `flops` is
  /// the work of one launch.
  LogicalResult bench(const runtime::Invocation &invocation,
                      runtime::Runner &runner, double flops);
  FailureOr<Exit> compare();
  LogicalResult write();

  /// Whether the reference is wanted for itself, on the arrays as given.
  bool keepsGivenTypes() const {
    return options.reference && !options.check &&
           !compilation.hasExplicitTypes();
  }

  const RunOptions &options;
  Reporter &reporter;
  Compilation compilation;
  runtime::Device *device;
  runtime::ThreadPool pool;
  /// The module before lowering, from which the reference is computed.
  mlir::OwningOpRef<mlir::ModuleOp> meaning;
  runtime::Signature signature;
  runtime::BoundArrays arrays;
  std::vector<double> attrs;
  std::optional<runtime::Results> results, reference;
};

/// Where the arrays came from, for messages.
std::string describeSource(const RunOptions &options) {
  return options.random ? "--random" : options.input;
}

LogicalResult Session::bind() {
  NamedValues<int64_t> given = compilation.getKnownDims();
  signature =
      toRuntimeSignature(compilation.getSignature(), compilation.getName());
  auto report = [&](const std::string &message) {
    (void)reporter.error(message);
  };
  std::optional<runtime::BoundArrays> bound;
  if (options.random) {
    bound =
        runtime::makeRandomArrays(signature, compilation.getDimNames(),
                                  *options.random, given, report, options.grad);
  } else {
    runtime::Expected<runtime::NpzReader> file =
        runtime::NpzReader::open(options.input);
    if (!file)
      return reporter.error(file.message());
    bound = runtime::bindArrays(signature, *file, given, report, options.grad);
  }
  if (!bound)
    return failure();
  arrays = std::move(*bound);
  for (auto &[name, size] : given)
    arrays.dims[name] = size;
  return compilation.bindDims(arrays.dims);
}

LogicalResult Session::prepareArrays() {
  // Ranges are checked on the values as given, before any rounding.
  if (options.check &&
      !runtime::checkValues(
          signature, arrays, describeSource(options),
          [&](const std::string &message) { (void)reporter.error(message); }))
    return failure();
  runtime::Status status =
      runtime::convertArrays(signature, arrays, keepsGivenTypes());
  if (!status.ok())
    return reporter.error(status.message());
  FailureOr<std::vector<double>> values =
      evaluateAttrs(signature, arrays.dims, reporter);
  if (failed(values))
    return failure();
  attrs = std::move(*values);
  return success();
}

/// Whether the device can run what is compiled for.
LogicalResult Session::checkTarget() {
  std::string target = compilation.getTarget().str();
  if (compilation.isForGpu() != (device != nullptr))
    return reporter.error("target '" + target + "' does not run on device '" +
                          nameOf(options.device) + "'");
  if (!device)
    return success();
  runtime::Expected<std::string> chosen = device->chooseTarget({target});
  return chosen ? success() : reporter.error(chosen.message());
}

LogicalResult Session::compileAndRun() {
  runtime::Expected<runtime::Invocation> invocation =
      runtime::Invocation::create(signature, arrays, attrs);
  if (!invocation)
    return reporter.error(invocation.message());
  if (failed(device ? runOnGpu(*invocation) : runOnCpu(*invocation)))
    return failure();
  results = invocation->takeResults();
  return success();
}

LogicalResult Session::runOnGpu(runtime::Invocation &invocation) {
  FailureOr<runtime::BundleKernel> kernel =
      makeBundleKernel(compilation, /*withCubin=*/false, reporter);
  if (failed(kernel))
    return failure();
  double tokens = static_cast<double>(arrays.B) * arrays.T * arrays.H;
  return compilation.timed("run", [&]() -> LogicalResult {
    Outcome outcome = runOnDevice(*device, options, signature, *kernel,
                                  kernel->flopsPerToken * tokens, invocation);
    if (outcome.status == 0)
      return success();
    return reporter.fail(static_cast<Exit>(outcome.status), outcome.message);
  });
}

LogicalResult Session::runOnCpu(runtime::Invocation &invocation) {
  const cpu::CpuTarget &cpu = compilation.getCpuTarget();
  if (std::string missing = cpu.findMissingHere(); !missing.empty())
    return reporter.error("CPU '" + cpu.getCpu() + "' has the extension '" +
                          missing +
                          "', which this machine has not, so its kernels do "
                          "not run here");
  // The work is counted on the stage that shows it best.
  double flopsPerToken = 0;
  if (options.bench) {
    FailureOr<double> counted = compilation.countFlopsPerToken();
    if (failed(counted))
      return failure();
    flopsPerToken = *counted;
  }
  if (failed(compilation.lowerTo(Stage::LLVM)))
    return failure();
  std::unique_ptr<cpu::JitKernel> kernel;
  if (failed(compilation.timed("jit", [&] {
        kernel = cpu::JitKernel::compile(compilation.getModule(),
                                         compilation.getCpuTarget());
        return success(kernel != nullptr);
      })))
    return failure();
  std::vector<int64_t> sizes;
  for (const std::string &dim : signature.arrayDims())
    sizes.push_back(arrays.dims[dim]);
  cpu::Runner runner(kernel->getEntry(), std::move(sizes), pool);
  if (failed(compilation.timed("run", [&]() -> LogicalResult {
        runtime::Status status = runner.launch(invocation);
        return status.ok() ? success() : reporter.error(status.message());
      })))
    return failure();
  if (!options.bench)
    return success();
  double tokens = static_cast<double>(arrays.B) * arrays.T * arrays.H;
  return bench(invocation, runner, flopsPerToken * tokens);
}

LogicalResult Session::bench(const runtime::Invocation &invocation,
                             runtime::Runner &runner, double flops) {
  runtime::Expected<double> median = runtime::measureMedian(runner, invocation);
  if (!median)
    return reporter.error(median.message());
  bool f64 = compilation.getSignature().getOption("compute") == "f64";
  double bytes = static_cast<double>(invocation.bytes());
  outs() << runtime::formatBench(
                compilation.getName(), *median, bytes, flops,
                runtime::measureMachineLimits(pool, f64).floor(bytes, flops))
         << '\n';
  return flushOutput(reporter);
}

/// The limit on one result's error: that of the type it was computed in, of the
/// operands of its matrix products, or of the type it is stored in, whichever
/// is coarsest.
double limitFor(SignatureAttr signature, runtime::DType stored) {
  auto of = [](StringRef precision) {
    return runtime::checkLimit(precision.str()).value_or(0);
  };
  return std::max({of(signature.getOption("compute", "f32")),
                   of(signature.getOption("precision")),
                   of(runtime::nameOf(stored))});
}

FailureOr<Exit> Session::compare() {
  Exit status = Exit::Ok;
  SignatureAttr signature = compilation.getSignature();
  for (auto [computed, wanted] : zip(*results, *reference)) {
    runtime::Expected<runtime::CheckResult> result =
        runtime::compareArrays(computed.second, wanted.second);
    if (!result)
      return reporter.error("'" + computed.first + "': " + result.message());
    double limit = options.tolerance.value_or(
        limitFor(signature, computed.second.dtype()));
    outs() << runtime::formatCheck(computed.first, *result, limit) << '\n';
    if (!result->passes(limit))
      status = Exit::Mismatch;
  }
  if (failed(flushOutput(reporter)))
    return failure();
  return status;
}

LogicalResult Session::write() {
  if (options.output.empty())
    return success();
  const runtime::Results &chosen = options.reference ? *reference : *results;
  std::vector<runtime::NamedArray> named;
  for (auto &[name, array] : chosen)
    named.emplace_back(name, &array);
  runtime::Status status = runtime::writeNpz(options.output, named);
  return status.ok() ? success() : reporter.error(status.message());
}

FailureOr<Exit> Session::run() {
  bool wantsKernel = !options.reference || options.check;
  if (options.grad && wantsKernel)
    return reporter.error("--grad: there are no kernels for gradients yet; "
                          "--reference computes them");
  if (failed(compilation.load()) || (wantsKernel && failed(checkTarget())) ||
      failed(bind()))
    return failure();
  if (options.reference || options.check) {
    Stage last = options.grad ? Stage::Events : Stage::Chunk;
    if (compilation.getStage() > last)
      return reporter.error(
          Twine(options.check ? "--check" : "--reference") +
          " needs what the recurrence means, and a module of stage '" +
          mlir::delta::stringifyStage(compilation.getStage()) +
          "' does not say; give the spec, or a module of stage 'step'");
    meaning = compilation.getModule().clone();
  }
  if (failed(prepareArrays()))
    return failure();
  if (wantsKernel && failed(compileAndRun()))
    return failure();
  if (meaning) {
    if (failed(compilation.timed("reference", [&]() -> LogicalResult {
          auto compute = options.grad ? runReferenceGradient : runReference;
          FailureOr<runtime::Results> computed = compute(
              *meaning, signature, arrays, attrs, pool.numThreads(), reporter);
          if (failed(computed))
            return failure();
          reference = std::move(*computed);
          return success();
        })))
      return failure();
  }
  Exit status = Exit::Ok;
  if (options.check) {
    FailureOr<Exit> compared = compare();
    if (failed(compared))
      return failure();
    status = *compared;
  }
  if (failed(write()))
    return failure();
  compilation.printTiming();
  return status;
}

} // namespace

FailureOr<Exit> run(const CompilerOptions &compiler, const RunOptions &options,
                    Reporter &reporter) {
  if (options.device == DeviceKind::Cpu ||
      (options.reference && !options.check))
    return Session(compiler, options, nullptr, reporter).run();
  Outcome outcome;
  std::unique_ptr<runtime::Device> device = openDevice(options, outcome);
  if (!device)
    return reporter.fail(static_cast<Exit>(outcome.status), outcome.message);
  CompilerOptions chosen = compiler;
  std::vector<std::string> targets;
  for (StringRef target : gpu::GpuTarget::getNames())
    targets.push_back(target.str());
  if (!compiler.target) {
    runtime::Expected<std::string> target = device->chooseTarget(targets);
    if (!target)
      return reporter.error(target.message());
    chosen.defaultTarget = *target;
  }
  return Session(chosen, options, device.get(), reporter).run();
}

} // namespace delta::run
