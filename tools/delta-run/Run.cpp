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

#include "llvm/Support/MemoryBuffer.h"

using namespace llvm;
using namespace delta::driver;
using mlir::delta::SignatureAttr;
using mlir::delta::Stage;

namespace delta::run {

namespace {

/// The options for the module that arrays are bound to: for gradients those of
/// neither of the two kernels.
CompilerOptions forLoading(const CompilerOptions &compiler,
                           const RunOptions &options) {
  CompilerOptions loading = compiler;
  if (options.grad) {
    loading.fn = std::nullopt;
    loading.saveBudget = loading.saveEvery = std::nullopt;
    loading.beside = Fn::Backward;
  }
  return loading;
}

class Session {
public:
  /// `device` is null for the CPU.
  Session(const CompilerOptions &compiler, const RunOptions &options,
          runtime::Device *device, Reporter &reporter)
      : compiler(compiler), loading(forLoading(compiler, options)),
        options(options), reporter(reporter), compilation(loading, reporter),
        device(device), pool(options.threads) {}

  FailureOr<Exit> run();

private:
  /// Whether the options for functions and saved states go with --grad.
  LogicalResult checkFunction();
  LogicalResult bind();
  LogicalResult prepareArrays();
  LogicalResult checkTarget();
  LogicalResult compileAndRun();
  /// The chunk program by the evaluator, in the kernel's precision.
  LogicalResult emulate();
  class GradientPrograms;
  /// The gradients' programs by the evaluator, likewise.
  LogicalResult emulateGradients();
  /// The forward kernel, which saves states, then the backward one.
  LogicalResult compileAndRunGradients();
  /// Compiles for the device, if there is one: its mapping decides how states
  /// are saved, too, so the kernel's signature is known behind this.
  LogicalResult makeImage(Compilation &kernel,
                          std::optional<runtime::BundleKernel> &image);
  LogicalResult runKernel(Compilation &kernel,
                          const std::optional<runtime::BundleKernel> &image,
                          const std::string &name,
                          runtime::Invocation &invocation);
  LogicalResult runOnCpu(Compilation &kernel, const std::string &name,
                         runtime::Invocation &invocation);
  LogicalResult runOnGpu(Compilation &kernel,
                         const runtime::BundleKernel &image,
                         const std::string &name,
                         runtime::Invocation &invocation);
  /// Measures the kernel and prints the line on standard output; `flops` is
  /// the work of one launch.
  LogicalResult bench(Compilation &kernel, const std::string &name,
                      const runtime::Invocation &invocation,
                      runtime::Runner &runner, double flops);
  FailureOr<Exit> compare();
  LogicalResult write();

  /// Whether the reference is wanted for itself, on the arrays as given.
  bool keepsGivenTypes() const {
    return options.reference && !options.check &&
           !compilation.hasExplicitTypes();
  }

  const CompilerOptions &compiler;
  /// The options without those of the kernels for gradients.
  const CompilerOptions loading;
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
  /// The limit on the results' errors that the computation allows.
  double computedLimit = 0;
};

/// The limit on the errors of what a kernel computes: that of the type it
/// computes in, or of the operands of its matrix products.
double limitFor(SignatureAttr signature) {
  auto of = [](StringRef precision) {
    return runtime::checkLimit(precision.str()).value_or(0);
  };
  return std::max(of(signature.getOption("compute", "f32")),
                  of(signature.getOption("precision")));
}

/// Whether a kernel is run, and not only what it should compute.
bool runsKernel(const RunOptions &options) {
  return !options.emulate && (!options.reference || options.check);
}

/// Where the arrays came from, for messages.
std::string describeSource(const RunOptions &options) {
  return options.random ? "--random" : options.input;
}

LogicalResult Session::checkFunction() {
  if (options.grad && compiler.fn == Fn::Decode)
    return reporter.error("--grad differentiates the chunked form; --fn=decode "
                          "has no gradients");
  if (options.grad)
    return success();
  if (options.emulate && compiler.fn == Fn::Decode)
    return reporter.error("--emulate evaluates the chunked form; --fn=decode "
                          "has no matrix products whose operands are rounded");
  if (compiler.fn == Fn::Backward)
    return reporter.error("--fn=backward needs states that the forward saves; "
                          "--grad runs both");
  if (compiler.saveBudget || compiler.saveEvery)
    return reporter.error(
        Twine(compiler.saveBudget ? "--save-budget" : "--save-every") +
        " means nothing without --grad");
  return success();
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
  std::optional<runtime::BundleKernel> image;
  if (failed(makeImage(compilation, image)))
    return failure();
  runtime::Signature made =
      toRuntimeSignature(compilation.getSignature(), signature.name);
  // States that a module saves have no reader here.
  std::optional<runtime::NdArray> checkpoints;
  if (made.checkpoint()) {
    runtime::Expected<runtime::NdArray> room =
        runtime::makeCheckpoints(made, arrays);
    if (!room)
      return reporter.error(room.message());
    checkpoints = std::move(*room);
  }
  runtime::Expected<runtime::Invocation> invocation =
      runtime::Invocation::create(made, arrays, attrs,
                                  checkpoints ? &*checkpoints : nullptr);
  if (!invocation)
    return reporter.error(invocation.message());
  if (failed(runKernel(compilation, image, signature.name, *invocation)))
    return failure();
  results = invocation->takeResults();
  return success();
}

LogicalResult Session::emulate() {
  if (failed(compilation.lowerTo(Stage::Chunk)))
    return failure();
  mlir::OwningOpRef<mlir::ModuleOp> program = compilation.getModule().clone();
  // On a GPU the mapping decides what the operands are rounded to.
  if (compilation.isForGpu() && failed(compilation.lowerTo(Stage::Mapped)))
    return failure();
  SignatureAttr made = compilation.getSignature();
  return compilation.timed("emulation", [&]() -> LogicalResult {
    FailureOr<runtime::Results> computed = runEmulation(
        *program, made.getOption("precision", made.getOption("compute")),
        signature, arrays, attrs, pool.numThreads(), reporter);
    if (failed(computed))
      return failure();
    results = std::move(*computed);
    computedLimit = limitFor(made);
    return success();
  });
}

/// The two programs of gradients, at the stage chunk.
class Session::GradientPrograms {
public:
  GradientPrograms(const CompilerOptions &compiler, Reporter &reporter)
      : forwardOptions(compiler), backwardOptions(compiler),
        backward(backwardOptions, reporter), forward(forwardOptions, reporter) {
    backwardOptions.fn = Fn::Backward;
    forwardOptions.fn = Fn::Forward;
    forwardOptions.beside = Fn::Backward;
    backwardOptions.beside = Fn::Forward;
    forwardOptions.repeated = backwardOptions.repeated = true;
    forwardOptions.saveBudget = std::nullopt;
  }

  LogicalResult lower(const NamedValues<int64_t> &dims) {
    if (failed(backward.load()) || failed(backward.bindDims(dims)) ||
        failed(backward.lowerTo(Stage::Chunk)))
      return failure();
    // The forward saves what the backward has been made to read.
    SignatureAttr made = backward.getSignature();
    forwardOptions.chunk = made.getIntOption("chunk");
    forwardOptions.saveEvery = made.getIntOption("save_every");
    if (failed(forward.load()) || failed(forward.bindDims(dims)))
      return failure();
    return forward.lowerTo(Stage::Chunk);
  }

private:
  CompilerOptions forwardOptions, backwardOptions;

public:
  Compilation backward, forward;
};

LogicalResult Session::emulateGradients() {
  // What lies between saved states would be the same, computed again.
  CompilerOptions everyChunk = compiler;
  everyChunk.saveBudget = std::nullopt;
  everyChunk.saveEvery = 1;
  GradientPrograms programs(everyChunk, reporter);
  if (failed(programs.lower(arrays.dims)))
    return failure();
  mlir::OwningOpRef<mlir::ModuleOp> kept[2];
  auto take = [&](Compilation &kernel,
                  mlir::OwningOpRef<mlir::ModuleOp> &module)
      -> FailureOr<EmulatedProgram> {
    module = kernel.getModule().clone();
    // On a GPU the mapping decides what operands and saved states are.
    if (kernel.isForGpu() && failed(kernel.lowerTo(Stage::Mapped)))
      return failure();
    SignatureAttr made = kernel.getSignature();
    computedLimit = std::max(computedLimit, limitFor(made));
    return EmulatedProgram{
        *module, toRuntimeSignature(made, signature.name),
        made.getOption("precision", made.getOption("compute")).str()};
  };
  FailureOr<EmulatedProgram> forward = take(programs.forward, kept[0]);
  if (failed(forward))
    return failure();
  FailureOr<EmulatedProgram> backward = take(programs.backward, kept[1]);
  if (failed(backward))
    return failure();
  return compilation.timed("emulation", [&]() -> LogicalResult {
    FailureOr<runtime::Results> computed =
        runEmulatedGradient(*forward, *backward, signature, arrays, attrs,
                            pool.numThreads(), reporter);
    if (failed(computed))
      return failure();
    results = std::move(*computed);
    return success();
  });
}

LogicalResult Session::compileAndRunGradients() {
  GradientPrograms programs(compiler, reporter);
  if (failed(programs.lower(arrays.dims)))
    return failure();
  Compilation &forward = programs.forward, &backward = programs.backward;
  std::optional<runtime::BundleKernel> forwardImage, backwardImage;
  if (failed(makeImage(forward, forwardImage)) ||
      failed(makeImage(backward, backwardImage)))
    return failure();
  runtime::Signature saving =
      toRuntimeSignature(forward.getSignature(), signature.name);
  runtime::Signature reading =
      toRuntimeSignature(backward.getSignature(), signature.name);
  runtime::Expected<runtime::NdArray> checkpoints =
      runtime::makeCheckpoints(saving, arrays);
  if (!checkpoints)
    return reporter.error(checkpoints.message());
  if (compiler.explain)
    reporter.getStream() << "  saved states take " << checkpoints->sizeInBytes()
                         << " bytes: shape "
                         << runtime::toString(checkpoints->shape()) << " of "
                         << runtime::nameOf(checkpoints->dtype()) << '\n';
  auto run = [&](Compilation &kernel,
                 const std::optional<runtime::BundleKernel> &image,
                 const runtime::Signature &signature,
                 StringRef suffix) -> FailureOr<runtime::Results> {
    runtime::Expected<runtime::Invocation> invocation =
        runtime::Invocation::create(signature, arrays, attrs, &*checkpoints);
    if (!invocation)
      return reporter.error(invocation.message());
    if (failed(runKernel(kernel, image, signature.name + suffix.str(),
                         *invocation)))
      return failure();
    kernel.printTiming();
    return invocation->takeResults();
  };
  if (failed(run(forward, forwardImage, saving, "_forward")))
    return failure();
  FailureOr<runtime::Results> computed =
      run(backward, backwardImage, reading, "_backward");
  if (failed(computed))
    return failure();
  runtime::Expected<runtime::Results> gradients = runtime::finishGradients(
      signature, reading, arrays, std::move(*computed));
  if (!gradients)
    return reporter.error(gradients.message());
  results = std::move(*gradients);
  return success();
}

LogicalResult Session::makeImage(Compilation &kernel,
                                 std::optional<runtime::BundleKernel> &image) {
  if (!device)
    return success();
  FailureOr<runtime::BundleKernel> made =
      makeBundleKernel(kernel, /*withCubin=*/false, reporter);
  if (failed(made))
    return failure();
  image = std::move(*made);
  return success();
}

LogicalResult
Session::runKernel(Compilation &kernel,
                   const std::optional<runtime::BundleKernel> &image,
                   const std::string &name, runtime::Invocation &invocation) {
  if (failed(image ? runOnGpu(kernel, *image, name, invocation)
                   : runOnCpu(kernel, name, invocation)))
    return failure();
  computedLimit = limitFor(kernel.getSignature());
  return success();
}

LogicalResult Session::runOnGpu(Compilation &kernel,
                                const runtime::BundleKernel &image,
                                const std::string &name,
                                runtime::Invocation &invocation) {
  double tokens = static_cast<double>(arrays.B) * arrays.T * arrays.H;
  return kernel.timed("run", [&]() -> LogicalResult {
    Outcome outcome = runOnDevice(*device, options, name, image,
                                  image.flopsPerToken * tokens, invocation);
    if (outcome.status == 0)
      return success();
    return reporter.fail(static_cast<Exit>(outcome.status), outcome.message);
  });
}

LogicalResult Session::runOnCpu(Compilation &kernel, const std::string &name,
                                runtime::Invocation &invocation) {
  const cpu::CpuTarget &cpu = kernel.getCpuTarget();
  if (std::string missing = cpu.findMissingHere(); !missing.empty())
    return reporter.error("CPU '" + cpu.getCpu() + "' has the extension '" +
                          missing +
                          "', which this machine has not, so its kernels do "
                          "not run here");
  // The work is counted on the stage that shows it best.
  double flopsPerToken = 0;
  if (options.bench) {
    FailureOr<double> counted = kernel.countFlopsPerToken();
    if (failed(counted))
      return failure();
    flopsPerToken = *counted;
  }
  if (failed(kernel.lowerTo(Stage::LLVM)))
    return failure();
  std::unique_ptr<cpu::JitKernel> code;
  if (failed(kernel.timed("jit", [&] {
        code =
            cpu::JitKernel::compile(kernel.getModule(), kernel.getCpuTarget());
        return success(code != nullptr);
      })))
    return failure();
  std::vector<int64_t> sizes;
  for (const std::string &dim :
       toRuntimeSignature(kernel.getSignature(), name).arrayDims())
    sizes.push_back(arrays.dims[dim]);
  cpu::Runner runner(code->getEntry(), std::move(sizes), pool);
  if (failed(kernel.timed("run", [&]() -> LogicalResult {
        runtime::Status status = runner.launch(invocation);
        return status.ok() ? success() : reporter.error(status.message());
      })))
    return failure();
  if (!options.bench)
    return success();
  double tokens = static_cast<double>(arrays.B) * arrays.T * arrays.H;
  return bench(kernel, name, invocation, runner, flopsPerToken * tokens);
}

LogicalResult Session::bench(Compilation &kernel, const std::string &name,
                             const runtime::Invocation &invocation,
                             runtime::Runner &runner, double flops) {
  runtime::Expected<double> median = runtime::measureMedian(runner, invocation);
  if (!median)
    return reporter.error(median.message());
  bool f64 = kernel.getSignature().getOption("compute") == "f64";
  double bytes = static_cast<double>(invocation.bytes());
  outs() << runtime::formatBench(
                name, *median, bytes, flops,
                runtime::measureMachineLimits(pool, f64).floor(bytes, flops))
         << '\n';
  return flushOutput(reporter);
}

FailureOr<Exit> Session::compare() {
  Exit status = Exit::Ok;
  for (auto [computed, wanted] : zip(*results, *reference)) {
    runtime::Expected<runtime::CheckResult> result =
        runtime::compareArrays(computed.second, wanted.second);
    if (!result)
      return reporter.error("'" + computed.first + "': " + result.message());
    // Storing a result may be coarser than computing it.
    double stored =
        runtime::checkLimit(runtime::nameOf(computed.second.dtype()))
            .value_or(0);
    double limit = options.tolerance.value_or((options.grad ? 2 : 1) *
                                              std::max(computedLimit, stored));
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
  bool wantsKernel = runsKernel(options);
  if (failed(checkFunction()) || failed(compilation.load()) ||
      (wantsKernel && failed(checkTarget())) || failed(bind()))
    return failure();
  if (options.grad && compilation.getStage() > Stage::Events)
    return reporter.error("--grad needs the spec, or a module of stage 'step' "
                          "or 'events', but the module is of stage '" +
                          mlir::delta::stringifyStage(compilation.getStage()) +
                          "'");
  if (!options.grad && compilation.getFn() == Fn::Backward)
    return reporter.error("a backward program needs states that the forward "
                          "saves; --grad runs both, from the spec");
  if (options.emulate && compilation.getStage() > Stage::Chunk)
    return reporter.error("--emulate evaluates the chunk program, and a module "
                          "of stage '" +
                          mlir::delta::stringifyStage(compilation.getStage()) +
                          "' has none; give the spec, or a module of stage "
                          "'step' to 'chunk'");
  if (options.reference || options.check) {
    if (compilation.getStage() > Stage::Chunk)
      return reporter.error(
          Twine(options.check ? "--check" : "--reference") +
          " needs what the recurrence means, and a module of stage '" +
          mlir::delta::stringifyStage(compilation.getStage()) +
          "' does not say; give the spec, or a module of stage 'step'");
    meaning = compilation.getModule().clone();
  }
  if (failed(prepareArrays()))
    return failure();
  if (wantsKernel &&
      failed(options.grad ? compileAndRunGradients() : compileAndRun()))
    return failure();
  if (options.emulate && failed(options.grad ? emulateGradients() : emulate()))
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
  CompilerOptions chosen = compiler;
  if (options.grad && compiler.input == "-") {
    // It is compiled more than once.
    ErrorOr<std::unique_ptr<MemoryBuffer>> text = MemoryBuffer::getSTDIN();
    if (!text)
      return reporter.error("cannot read '-': " + text.getError().message());
    chosen.standardInput = (*text)->getBuffer().str();
  }
  if (options.emulate && options.device != DeviceKind::Cpu)
    chosen.defaultTarget = "sm_90a";
  if (options.device == DeviceKind::Cpu || !runsKernel(options))
    return Session(chosen, options, nullptr, reporter).run();
  Outcome outcome;
  std::unique_ptr<runtime::Device> device = openDevice(options, outcome);
  if (!device)
    return reporter.fail(static_cast<Exit>(outcome.status), outcome.message);
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
