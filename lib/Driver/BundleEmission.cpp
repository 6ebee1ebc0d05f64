//===- BundleEmission.cpp - kernels for a bundle --------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every kernel of a bundle is a compilation of its own, from the input on: a
// bundle for one target holds the same code as the artefact for that target.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/Emission.h"

#include "delta/Driver/Execution.h"
#include "delta/Driver/Signature.h"
#include "delta/Runtime/Bundle.h"
#include "delta/Target/CPU/Codegen.h"
#include "delta/Target/CPU/CpuFeatures.h"
#include "delta/Target/CPU/CpuTarget.h"
#include "delta/Target/NVPTX/Codegen.h"
#include "delta/Target/NVPTX/Kernel.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Config/llvm-config.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace llvm;
using mlir::delta::ArgAttr;
using mlir::delta::ArgKind;
using mlir::delta::SignatureAttr;
using mlir::delta::Stage;

namespace delta::driver {

namespace {

/// The options a module was made with, as texts.
NamedValues<std::string> describeOptions(SignatureAttr signature) {
  NamedValues<std::string> options;
  if (mlir::DictionaryAttr made = signature.getOptions())
    for (mlir::NamedAttribute option : made) {
      std::string &text = options[option.getName().str()];
      if (auto name = dyn_cast<mlir::StringAttr>(option.getValue()))
        text = name.str();
      else if (auto number = dyn_cast<mlir::IntegerAttr>(option.getValue()))
        text = std::to_string(number.getInt());
      else
        raw_string_ostream(text) << option.getValue();
    }
  return options;
}

/// The extensions of a CPU that a machine can be asked for.
std::vector<std::string> listFeatures(const cpu::CpuTarget &target) {
  std::vector<std::string> present;
  for (const std::string &feature : cpu::knownFeatures())
    if (target.has(feature))
      present.push_back(feature);
  sort(present);
  return present;
}

LogicalResult makeCpuKernel(Compilation &compilation,
                            runtime::BundleKernel &kernel, Reporter &reporter) {
  if (failed(compilation.lowerTo(Stage::LLVM)))
    return failure();
  kernel.entry = cpu::getEntryName(compilation.getModule());
  const cpu::CpuTarget &target = compilation.getCpuTarget();
  kernel.triple = target.getTriple().str();
  kernel.cpu = target.getCpu().str();
  kernel.cpuFeatures = listFeatures(target);
  return compilation.timed("so", [&]() -> LogicalResult {
    FailureOr<std::string> bytes =
        linkSharedLibrary(compilation.getModule(), target, reporter);
    if (failed(bytes))
      return failure();
    kernel.images.push_back(
        {runtime::KernelImage::SharedObject, std::move(*bytes)});
    return success();
  });
}

LogicalResult makeGpuKernel(Compilation &compilation,
                            runtime::BundleKernel &kernel, bool withCubin,
                            Reporter &reporter) {
  if (failed(compilation.lowerTo(Stage::LLVM)))
    return failure();
  mlir::ModuleOp module = compilation.getModule();
  SmallVector<mlir::Operation *> kernels = mlir::delta::getGpuKernels(module);
  if (kernels.empty())
    return reporter.error("there is no kernel in the module");
  for (mlir::Operation *op : kernels) {
    FailureOr<mlir::delta::GpuKernelFacts> facts =
        mlir::delta::GpuKernelFacts::get(op);
    if (failed(facts))
      return failure();
    kernel.launches.push_back({facts->name, facts->threads, facts->sharedBytes,
                               facts->vBlocks, facts->tokens});
  }
  kernel.entry =
      kernel.launches.size() == 1
          ? kernel.launches.front().entry
          : mlir::delta::getGpuEntryName(compilation.getName(), kernel.fn);
  FailureOr<SmallVector<mlir::delta::GpuWorkspacePart>> workspace =
      mlir::delta::getGpuWorkspace(module);
  if (failed(workspace))
    return failure();
  for (const mlir::delta::GpuWorkspacePart &part : *workspace)
    kernel.workspace.push_back({part.bytes, part.ofB, part.ofH, part.tokens});
  FailureOr<std::string> ptx = failure();
  if (failed(compilation.timed("ptx", [&] {
        ptx = gpu::emitPtx(module);
        return success(succeeded(ptx));
      })))
    return failure();
  // Without an assembler the driver's does the work.
  if (withCubin && !gpu::findPtxas().empty()) {
    gpu::Cubin cubin;
    if (failed(compilation.timed("cubin", [&] {
          return success(gpu::assemble(module, *ptx, cubin) ==
                         gpu::AssembleResult::Ok);
        })))
      return failure();
    kernel.images.push_back(
        {runtime::KernelImage::Cubin, std::move(cubin.bytes)});
  }
  kernel.images.push_back({runtime::KernelImage::Ptx, std::move(*ptx)});
  return success();
}

/// The signature with all dims bound and the defaults of the attrs evaluated.
FailureOr<runtime::Signature> finishSignature(Compilation &compilation,
                                              Reporter &reporter) {
  SignatureAttr signature = compilation.getSignature();
  runtime::Signature result =
      toRuntimeSignature(signature, compilation.getName());
  NamedValues<double> known;
  for (runtime::Argument &arg : result.args) {
    if (arg.kind != runtime::ArgKind::Attr || arg.defaultText.empty())
      continue;
    FailureOr<double> value =
        evaluateDefault(arg, result.dims, known, reporter);
    if (failed(value))
      return failure();
    arg.defaultValue = known[arg.name] = *value;
  }
  return result;
}

/// What the kernels of a bundle must agree in, in comparable form.
std::string describeInterface(const runtime::Signature &signature) {
  runtime::Bundle bundle;
  bundle.signature = signature;
  return runtime::writeManifest(bundle, {}, {});
}

} // namespace

FailureOr<runtime::BundleKernel>
makeBundleKernel(Compilation &compilation, bool withCubin, Reporter &reporter) {
  runtime::BundleKernel kernel;
  kernel.target = compilation.getTarget().str();
  kernel.fn = stringifyFn(compilation.getFn()).str();
  // The work is counted on the stage that shows it best.
  FailureOr<double> flops = compilation.countFlopsPerToken();
  if (failed(flops) ||
      failed(compilation.isForGpu()
                 ? makeGpuKernel(compilation, kernel, withCubin, reporter)
                 : makeCpuKernel(compilation, kernel, reporter)))
    return failure();
  kernel.flopsPerToken = *flops;
  SignatureAttr signature = compilation.getSignature();
  kernel.options = describeOptions(signature);
  kernel.compute =
      signature.getOption("precision", signature.getOption("compute", "f32"))
          .str();
  return kernel;
}

/// Compiles one function for one target, and adds it to the bundle.
static LogicalResult addKernel(Compilation &compilation,
                               runtime::Bundle &bundle, Reporter &reporter) {
  if (failed(compilation.load()))
    return failure();
  FailureOr<runtime::BundleKernel> kernel =
      makeBundleKernel(compilation, /*withCubin=*/true, reporter);
  if (failed(kernel))
    return failure();
  FailureOr<runtime::Signature> signature =
      finishSignature(compilation, reporter);
  if (failed(signature))
    return failure();
  if (bundle.kernels.empty())
    bundle.signature = std::move(*signature);
  else if (describeInterface(bundle.signature) != describeInterface(*signature))
    return reporter.error("the kernels of a bundle must have the same "
                          "arguments, types and sizes");
  bundle.kernels.push_back(std::move(*kernel));
  compilation.printTiming();
  return success();
}

static FailureOr<std::string> write(const runtime::Bundle &bundle,
                                    Reporter &reporter) {
  runtime::Expected<std::string> bytes = runtime::writeBundle(bundle);
  if (!bytes)
    return reporter.error(bytes.message());
  return std::move(*bytes);
}

static runtime::Bundle makeEmptyBundle() {
  runtime::Bundle bundle;
  bundle.compiler = DELTA_VERSION;
  bundle.llvm = LLVM_VERSION_STRING;
  return bundle;
}

/// The two kernels of gradients for one target: the forward saves what the
/// backward has been made to read.
static FailureOr<runtime::GradientPair> makeGradients(CompilerOptions options,
                                                      Reporter &reporter) {
  runtime::GradientPair pair;
  options.fn = Fn::Backward;
  options.beside = Fn::Forward;
  Compilation backward(options, reporter);
  runtime::Bundle bundle = makeEmptyBundle();
  if (failed(addKernel(backward, bundle, reporter)))
    return failure();
  FailureOr<std::string> bytes = write(bundle, reporter);
  if (failed(bytes))
    return failure();
  pair.target = backward.getTarget().str();
  pair.backward = std::move(*bytes);

  SignatureAttr made = backward.getSignature();
  options.fn = Fn::Forward;
  options.beside = Fn::Backward;
  options.repeated = true;
  options.saveBudget = std::nullopt;
  options.chunk = made.getIntOption("chunk");
  options.saveEvery = made.getIntOption("save_every");
  Compilation forward(options, reporter);
  bundle = makeEmptyBundle();
  if (failed(addKernel(forward, bundle, reporter)))
    return failure();
  bytes = write(bundle, reporter);
  if (failed(bytes))
    return failure();
  pair.forward = std::move(*bytes);
  return pair;
}

FailureOr<std::string> emitBundle(const CompilerOptions &options,
                                  Reporter &reporter) {
  runtime::Bundle bundle = makeEmptyBundle();

  CompilerOptions one = options;
  if (options.input == "-" && !options.standardInput) {
    ErrorOr<std::unique_ptr<MemoryBuffer>> buffer = MemoryBuffer::getSTDIN();
    if (!buffer)
      return reporter.error("cannot read '-': " + buffer.getError().message());
    one.standardInput = (*buffer)->getBuffer().str();
  }
  std::vector<std::optional<std::string>> targets(options.targets.begin(),
                                                  options.targets.end());
  std::vector<std::optional<Fn>> fns(options.fns.begin(), options.fns.end());
  // What is not given is the default, or what a module says.
  if (targets.empty())
    targets.push_back(options.target);
  if (fns.empty())
    fns.push_back(options.fn);
  // Beside other functions, the backward has a forward of its own.
  bool gradients = fns.size() > 1 && is_contained(fns, Fn::Backward);
  if (gradients)
    erase(fns, Fn::Backward);
  for (const std::optional<std::string> &target : targets) {
    one.target = target;
    for (const std::optional<Fn> &fn : fns) {
      one.fn = fn;
      if (gradients)
        one.beside = Fn::Backward;
      one.saveEvery = gradients ? std::nullopt : options.saveEvery;
      one.saveBudget = gradients ? std::nullopt : options.saveBudget;
      // Chunks are the other functions'.
      one.chunk = (fns.size() > 1 || gradients) && fn == Fn::Decode
                      ? std::nullopt
                      : options.chunk;
      Compilation compilation(one, reporter);
      if (failed(addKernel(compilation, bundle, reporter)))
        return failure();
      one.repeated = true;
    }
    if (!gradients)
      continue;
    CompilerOptions training = one;
    training.saveEvery = options.saveEvery;
    training.saveBudget = options.saveBudget;
    training.chunk = options.chunk;
    FailureOr<runtime::GradientPair> pair = makeGradients(training, reporter);
    if (failed(pair))
      return failure();
    bundle.gradients.push_back(std::move(*pair));
  }
  return write(bundle, reporter);
}

} // namespace delta::driver
