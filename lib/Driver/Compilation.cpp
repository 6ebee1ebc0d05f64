//===- Compilation.cpp - from a spec to a kernel --------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One input on its way through the stages. Every stage is a short pass pipeline
// of its own, so that it can be timed, dumped and explained.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/Compilation.h"

#include "delta/Dialect/Delta/Transforms/Adjoint.h"
#include "delta/Dialect/Delta/Transforms/Passes.h"
#include "delta/Dialect/Warp/IR/Warp.h"
#include "delta/Driver/Input.h"
#include "delta/Driver/MappingKeys.h"
#include "delta/Driver/SavePlan.h"
#include "delta/Driver/Signature.h"
#include "delta/Spec/Import.h"
#include "delta/Spec/Parser.h"
#include "delta/Target/CPU/ChunkToMapped/Passes.h"
#include "delta/Target/CPU/Codegen.h"
#include "delta/Target/CPU/CostModel.h"
#include "delta/Target/CPU/Passes.h"
#include "delta/Target/NVPTX/ChunkToMapped/Passes.h"
#include "delta/Target/NVPTX/Codegen.h"
#include "delta/Target/NVPTX/Passes.h"
#include "delta/Target/NVPTX/SharedMemory/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/Parser/Parser.h"

using namespace llvm;
using mlir::delta::ArgAttr;
using mlir::delta::ArgKind;
using mlir::delta::SignatureAttr;
using mlir::delta::Stage;

namespace delta::driver {

void registerDialects(mlir::DialectRegistry &registry) {
  mlir::registerAllDialects(registry);
  mlir::registerAllExtensions(registry);
  registry.insert<mlir::delta::DeltaDialect, mlir::delta::warp::WarpDialect>();
  mlir::delta::registerAdjointModels(registry);
  cpu::registerTranslations(registry);
  gpu::registerTranslations(registry);
}

static mlir::DialectRegistry makeRegistry() {
  mlir::DialectRegistry registry;
  registerDialects(registry);
  return registry;
}

Compilation::Compilation(const CompilerOptions &options, Reporter &reporter)
    : options(options), reporter(reporter),
      // Modules are small: threads would cost more than they bring.
      context(makeRegistry(), mlir::MLIRContext::Threading::DISABLED),
      handler(std::make_unique<mlir::SourceMgrDiagnosticHandler>(
          sources, &context, reporter.getStream())) {
  context.printOpOnDiagnostic(false);
  context.loadDialect<mlir::delta::DeltaDialect>();
}

Compilation::~Compilation() = default;

Stage Compilation::getStage() { return *mlir::delta::getStage(*module); }

SignatureAttr Compilation::getSignature() {
  return mlir::delta::getSignature(*module);
}

std::string Compilation::getName() {
  if (mlir::delta::RecurrenceOp op = mlir::delta::getRecurrence(*module))
    return op.getSymName().str();
  if (getStage() == Stage::Chunk)
    return (*module->getOps<mlir::func::FuncOp>().begin()).getName().str();
  for (auto device : module->getOps<mlir::gpu::GPUModuleOp>())
    return device.getName().str();
  return cpu::getKernelName(*module);
}

std::vector<std::string> Compilation::getDimNames() {
  return driver::getDimNames(*module);
}

NamedValues<int64_t> Compilation::getKnownDims() {
  NamedValues<int64_t> dims;
  SignatureAttr signature = getSignature();
  for (const std::string &name : driver::getDimNames(*module))
    if (std::optional<int64_t> size = signature.getDim(name))
      dims[name] = *size;
  return dims;
}

//===----------------------------------------------------------------------===//
// Loading
//===----------------------------------------------------------------------===//

LogicalResult Compilation::load() {
  return timed("read", [&] {
    FailureOr<Input> input =
        readInput(options.input, reporter, options.standardInput);
    if (failed(input))
      return failure();
    bool isModule = input->isModule;
    unsigned bufferId =
        sources.AddNewSourceBuffer(std::move(input->buffer), SMLoc());
    if (failed(isModule ? loadModule(bufferId) : loadSpec(bufferId)) ||
        failed(applyOptions(!isModule)))
      return failure();
    return dump();
  });
}

LogicalResult Compilation::loadSpec(unsigned bufferId) {
  std::unique_ptr<spec::Recurrence> recurrence = spec::parse(
      sources, bufferId, options.repeated ? nulls() : reporter.getStream());
  if (!recurrence)
    return failure();
  spec::ImportOptions import;
  if (options.dtype)
    import.dtype = runtime::nameOf(*options.dtype);
  SmallVector<std::pair<std::string, std::string>> dtypeOf;
  for (auto &[name, dtype] : options.dtypeOf)
    dtypeOf.emplace_back(name, runtime::nameOf(dtype));
  import.dtypeOf = dtypeOf;
  module = spec::importRecurrence(*recurrence, sources, &context, import);
  return success(static_cast<bool>(module));
}

LogicalResult Compilation::loadModule(unsigned bufferId) {
  module = mlir::parseSourceFile<mlir::ModuleOp>(sources, &context);
  if (!module)
    return failure();
  if (!mlir::delta::getStage(*module))
    return reporter.error("'" + options.input +
                          "' is not a module of this compiler: the "
                          "attributes '" +
                          mlir::delta::kStageAttr + "' and '" +
                          mlir::delta::kSignatureAttr + "' are missing");
  return success();
}

LogicalResult Compilation::applyOptions(bool fromSpec) {
  if (failed(fromSpec ? applyToSpec(*module, options, reporter)
                      : applyToModule(*module, options, reporter)))
    return failure();
  StringRef made = getSignature().getOption("fn");
  fn = options.fn.value_or(made == "decode"     ? Fn::Decode
                           : made == "backward" ? Fn::Backward
                                                : Fn::Forward);
  if (fn == Fn::Decode && options.chunk)
    return reporter.error("--chunk=" + Twine(*options.chunk) +
                          " means nothing with --fn=decode, which goes token "
                          "by token");
  if (fn == Fn::Decode && options.saveEvery)
    return reporter.error("--save-every means nothing with --fn=decode, which "
                          "has no chunks");
  if (fn != Fn::Backward && options.saveBudget)
    return reporter.error("--save-budget is for --fn=backward; --save-every=N "
                          "says what --fn=forward saves for it");
  target = options.target.value_or(
      getSignature().getOption("target", options.defaultTarget).str());
  if (failed(isForGpu() ? checkGpuOptions() : checkCpuOptions()))
    return failure();
  FailureOr<NamedValues<int64_t>> pinned =
      parseMapping(options.mapping, target, fn, options.beside, reporter);
  if (failed(pinned))
    return failure();
  mapping = std::move(*pinned);
  if (failed(checkMapping()))
    return failure();
  gpuMapping = {};
  gpuMapping.precision = options.precision.value_or("");
  gpuMapping.warps = mapping["warps"];
  gpuMapping.rows = mapping["rows"];
  gpuMapping.vsplit = mapping["vsplit"];
  gpuMapping.ksplit = mapping["ksplit"];
  gpuMapping.window = mapping["window"];
  gpuMapping.stages = mapping["stages"];
  gpuMapping.kernels = mapping["kernels"];
  gpuMapping.free = mapping["free"];
  gpuMapping.ctas = mapping["ctas"];
  gpuMapping.segment = mapping["segment"];
  if (options.assume.count("B") || options.assume.count("H")) {
    auto assumed = [&](const char *name) -> int64_t {
      auto it = options.assume.find(name);
      return it == options.assume.end() ? 1 : it->second;
    };
    gpuMapping.sequences = assumed("B") * assumed("H");
    if (options.assume.count("T"))
      gpuMapping.tokens = assumed("T");
  }
  return success();
}

/// A module that has been mapped says what was chosen.
LogicalResult Compilation::checkMapping() {
  if (getStage() < Stage::Mapped)
    return success();
  mlir::DictionaryAttr made;
  if (mlir::DictionaryAttr options = getSignature().getOptions())
    made = options.getAs<mlir::DictionaryAttr>("mapping");
  for (auto &[name, value] : mapping) {
    auto chosen =
        made ? made.getAs<mlir::IntegerAttr>(name) : mlir::IntegerAttr();
    if (!chosen || chosen.getInt() != value)
      return reporter.error("--mapping=" + name + "=" + Twine(value) +
                            " contradicts the module, which was mapped with " +
                            name + " = " +
                            (chosen ? Twine(chosen.getInt()).str() : "none"));
  }
  return success();
}

LogicalResult Compilation::checkCpuOptions() {
  if (options.precision && *options.precision != "f32" &&
      *options.precision != "f64")
    return reporter.error("--precision=" + *options.precision +
                          " is not available on target 'cpu'; expected f32 or "
                          "f64");
  // The host is asked for by no name, so that modules of the default compare
  // equal everywhere.
  std::string name =
      options.mcpu.value_or(getSignature().getOption("cpu", "native").str());
  Expected<cpu::CpuTarget> named = cpu::CpuTarget::get(name);
  if (!named)
    return reporter.error("--mcpu: " + toString(named.takeError()));
  cpuTarget = std::move(*named);
  return success();
}

LogicalResult Compilation::checkGpuOptions() {
  if (options.precision == "f64")
    return reporter.error("--precision=f64 is not available on target '" +
                          target +
                          "': a GPU computes in f32 or less; target 'cpu' has "
                          "f64");
  for (ArgAttr arg : getSignature().getAllArgs())
    if (arg.getKind() != ArgKind::Attr && arg.getType().isF64())
      return reporter.error("'" + arg.getName().getValue() +
                            "' has type f64, which target '" + target +
                            "' does not take; target 'cpu' does");
  if (fn != Fn::Decode && options.precision == "f32")
    return reporter.error("--precision=f32 is not available for --fn=" +
                          Twine(fn == Fn::Forward ? "forward" : "backward") +
                          " on target '" + target +
                          "', whose matrix products take tf32 operands, or "
                          "bf16x3 for f32's accuracy; expected bf16, f16, tf32 "
                          "or bf16x3");
  if (options.mcpu)
    return reporter.error("--mcpu is for target 'cpu', not for '" + target +
                          "'");
  return success();
}

LogicalResult Compilation::bindDims(const NamedValues<int64_t> &dims) {
  SignatureAttr signature = getSignature();
  for (const std::string &name : driver::getDimNames(*module)) {
    auto it = dims.find(name);
    if (it == dims.end())
      continue;
    std::optional<int64_t> bound = signature.getDim(name);
    if (bound && *bound != it->second)
      return reporter.error("dim '" + name + "' is " + Twine(*bound) +
                            " in the module, but " + Twine(it->second) +
                            " in the arrays");
    if (!bound)
      signature = signature.withDim(name, it->second);
  }
  mlir::delta::setSignature(*module, signature);
  return success();
}

//===----------------------------------------------------------------------===//
// Lowering
//===----------------------------------------------------------------------===//

/// The type computed in: that of the widest tensor, but at least f32.
static StringRef chooseCompute(SignatureAttr signature,
                               const CompilerOptions &options) {
  if (options.precision)
    return *options.precision;
  for (ArgAttr arg : signature.getAllArgs())
    if (arg.getKind() != ArgKind::Attr && arg.getType().isF64())
      return "f64";
  return "f32";
}

LogicalResult Compilation::requireDims(Stage next) {
  SignatureAttr signature = getSignature();
  SmallVector<StringRef> needed;
  if (next == Stage::Events) {
    // Micro-steps are unrolled here; the other dims stay symbolic.
    for (ArgAttr arg : signature.getAllArgs())
      if (arg.getFamily())
        needed.push_back(arg.getFamily().getValue());
  } else {
    for (mlir::StringAttr name : signature.getDimNames())
      needed.push_back(name.getValue());
  }
  for (StringRef name : needed)
    if (!signature.getDim(name))
      return reporter.error("stage '" + mlir::delta::stringifyStage(next) +
                            "' needs the size of dim '" + name + "'; give -D " +
                            name + "=SIZE");
  return success();
}

FailureOr<int64_t> Compilation::chooseChunk() {
  if (options.chunk)
    return *options.chunk;
  if (isForGpu())
    return 0; // the pass's choice
  FailureOr<int64_t> chosen = chooseCpuChunk();
  if (failed(chosen) || fn != Fn::Backward || !options.saveBudget)
    return chosen;
  // A larger chunk saves fewer states.
  while (*chosen < 64 && !fitsBudget(getSignature(), *chosen, options))
    *chosen *= 2;
  return chosen;
}

FailureOr<int64_t> Compilation::chooseCpuChunk() {
  auto assumed = [&](const char *name) -> std::optional<int64_t> {
    auto it = options.assume.find(name);
    if (it == options.assume.end())
      return std::nullopt;
    return it->second;
  };
  mlir::delta::CpuCostAssumptions assume{assumed("B"), assumed("T"),
                                         assumed("H")};
  SmallVector<mlir::delta::CpuCost> candidates;
  for (int64_t tokens : {16, 32, 64}) {
    mlir::OwningOpRef<mlir::ModuleOp> copy = module->clone();
    mlir::delta::DeltaChunkOptions chunk;
    chunk.chunk = tokens;
    chunk.compute = chooseCompute(getSignature(), options).str();
    mlir::PassManager pm(&context);
    pm.addPass(mlir::delta::createDeltaChunk(chunk));
    if (failed(pm.run(*copy)))
      return failure();
    candidates.push_back(
        mlir::delta::estimateCpuCost(*copy, cpuTarget, assume));
  }
  if (options.explain)
    mlir::delta::explainCpuChunk(candidates, reporter.getStream());
  return mlir::delta::chooseCpuChunk(candidates).tokens;
}

LogicalResult Compilation::lowerOnce(Stage next) {
  if (failed(requireDims(next)))
    return failure();
  // From here on the module is made for one function and one target.
  if (next > Stage::Events) {
    mlir::Builder builder(&context);
    SignatureAttr signature = getSignature();
    // A backward program is made of the forward one.
    Fn made = next == Stage::Chunk && fn == Fn::Backward ? Fn::Forward : fn;
    signature =
        signature.withOption("fn", builder.getStringAttr(stringifyFn(made)));
    mlir::delta::setSignature(
        *module, signature.withOption("target", builder.getStringAttr(target)));
    if (options.mcpu)
      mlir::delta::setSignature(
          *module, getSignature().withOption(
                       "cpu", builder.getStringAttr(cpuTarget.getCpu())));
  }
  mlir::PassManager pm(&context);
  if (options.obeysMlirFlags && failed(mlir::applyPassManagerCLOptions(pm)))
    return failure();
  switch (next) {
  case Stage::Step:
    llvm_unreachable("nothing lowers to the first stage");
  case Stage::Events:
    pm.addPass(mlir::delta::createDeltaStepToEvents());
    pm.addPass(mlir::delta::createDeltaSimplifyEvents());
    break;
  case Stage::Chunk: {
    mlir::delta::DeltaChunkOptions chunk;
    FailureOr<int64_t> tokens = chooseChunk();
    if (failed(tokens))
      return failure();
    chunk.chunk = *tokens;
    // On a GPU, precision is that of the matrix products' operands.
    chunk.compute =
        isForGpu() ? "f32" : chooseCompute(getSignature(), options).str();
    pm.addPass(mlir::delta::createDeltaChunk(chunk));
    break;
  }
  case Stage::Mapped: {
    if (fn == Fn::Decode && isForGpu()) {
      mlir::delta::GpuDecodeMapOptions decode;
      decode.target = target;
      pm.addPass(mlir::delta::createGpuDecodeMap(decode));
      break;
    }
    if (fn == Fn::Decode) {
      mlir::delta::DecodeMapOptions decode;
      decode.compute = chooseCompute(getSignature(), options).str();
      decode.targetCpu = options.mcpu.value_or("");
      pm.addPass(mlir::delta::createDecodeMap(decode));
      break;
    }
    if (isForGpu()) {
      mlir::delta::DeltaGpuMapOptions map;
      map.precision = gpuMapping.precision;
      map.warps = gpuMapping.warps;
      map.rows = gpuMapping.rows;
      map.vsplit = gpuMapping.vsplit;
      map.ksplit = gpuMapping.ksplit;
      map.window = gpuMapping.window;
      map.stages = gpuMapping.stages;
      map.ctas = gpuMapping.ctas;
      map.segment = gpuMapping.segment;
      map.sequences = gpuMapping.sequences;
      map.tokens = gpuMapping.tokens;
      map.kernels = gpuMapping.kernels;
      map.free = gpuMapping.free;
      pm.addPass(mlir::delta::createDeltaGpuMap(map));
      pm.addPass(mlir::delta::createDeltaPlaceShared());
      pm.addPass(mlir::delta::createDeltaInsertBarriers());
      break;
    }
    mlir::delta::DeltaCpuMapOptions map;
    map.vectorBits = cpuTarget.getVectorBits();
    map.registers = cpuTarget.getNumVectorRegisters();
    map.fma = cpuTarget.hasFma() ? "on" : "off";
    map.panel = mapping["panel"];
    map.rows = mapping["rows"];
    map.dotRows = mapping["dot_rows"];
    map.dotCols = mapping["dot_cols"];
    pm.addPass(mlir::delta::createDeltaCpuMap(map));
    break;
  }
  case Stage::LLVM:
    if (isForGpu())
      mlir::delta::buildGpuToLLVMPipeline(pm);
    else
      mlir::delta::buildCpuToLLVMPipeline(pm, cpuTarget);
    break;
  }
  if (failed(timed(mlir::delta::stringifyStage(next), [&] {
        return success(succeeded(pm.run(*module)) &&
                       (next != Stage::Chunk || succeeded(differentiate())));
      })))
    return failure();
  return dump();
}

/// Makes a chunk program the backward one, or one that saves its states.
LogicalResult Compilation::differentiate() {
  if (fn != Fn::Backward && !options.saveEvery)
    return success();
  FailureOr<SavePlan> plan = planSaves(getSignature(), options, reporter);
  if (failed(plan))
    return failure();
  mlir::PassManager pm(&context);
  if (options.obeysMlirFlags && failed(mlir::applyPassManagerCLOptions(pm)))
    return failure();
  // A forward that belongs to a backward has been explained with it.
  if (options.explain && (fn == Fn::Backward || !options.repeated))
    explainSaves(*plan, reporter.getStream());
  if (fn == Fn::Backward) {
    mlir::delta::DeltaDifferentiateOptions differentiate;
    differentiate.saveEvery = plan->every;
    pm.addPass(mlir::delta::createDeltaDifferentiate(differentiate));
  } else {
    mlir::delta::DeltaSaveStatesOptions save;
    save.every = plan->every;
    pm.addPass(mlir::delta::createDeltaSaveStates(save));
  }
  return pm.run(*module);
}

LogicalResult Compilation::lowerTo(Stage stage) {
  if (stage < getStage())
    return reporter.error("'" + options.input + "' is of stage '" +
                          mlir::delta::stringifyStage(getStage()) +
                          "' already, which is behind '" +
                          mlir::delta::stringifyStage(stage) + "'");
  if (fn == Fn::Decode && stage == Stage::Chunk)
    return reporter.error("there is no stage 'chunk' with --fn=decode, which "
                          "goes from 'events' to 'mapped'");
  while (getStage() < stage) {
    Stage next = static_cast<Stage>(static_cast<int>(getStage()) + 1);
    if (fn == Fn::Decode && next == Stage::Chunk)
      next = Stage::Mapped;
    if (failed(lowerOnce(next)))
      return failure();
  }
  return success();
}

} // namespace delta::driver
