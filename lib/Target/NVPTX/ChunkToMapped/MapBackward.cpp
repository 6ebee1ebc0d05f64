//===- MapBackward.cpp - Mapping of gradients' chunk programs -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MapBackward.h"
#include "Sliced/SlicedKernel.h"
#include "Tiled/TiledKernel.h"
#include "delta/Target/NVPTX/SharedMemory/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/CSE.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

bool gpumap::isBackward(ModuleOp module) {
  return getStage(module) == Stage::Chunk &&
         getSignature(module).getOption("fn") == "backward";
}

namespace {

/// What every mapping of a module starts from.
struct Start {
  SignatureAttr signature;
  ::delta::gpu::GpuTarget target;
  std::string precision;
  OperandPolicy policy;
  func::FuncOp function;

  static FailureOr<Start> get(ModuleOp module, const GpuMapOptions &options) {
    FailureOr<::delta::gpu::GpuTarget> target = getGpuTarget(module);
    FailureOr<std::pair<std::string, OperandPolicy>> precision =
        getPrecision(module, options);
    if (failed(target) || failed(precision))
      return failure();
    return Start{withSavedStates(getSignature(module), precision->second),
                 *target, precision->first, precision->second,
                 *module.getOps<func::FuncOp>().begin()};
  }

  /// Makes the kernel's module; `emit` fills it.
  void finish(ModuleOp module, StringRef form, int64_t warps, int64_t stages,
              int64_t ctas, llvm::function_ref<void(GpuKernel)> emit) {
    Builder builder(module.getContext());
    auto number = [&](StringRef name, int64_t value) {
      return builder.getNamedAttr(name, builder.getI64IntegerAttr(value));
    };
    signature =
        signature
            .withOption(
                "mapping",
                builder.getDictionaryAttr(
                    {builder.getNamedAttr("form", builder.getStringAttr(form)),
                     number("warps", warps), number("stages", stages),
                     number("ctas", ctas)}))
            .withOption("precision", builder.getStringAttr(precision));
    GpuKernelFacts facts;
    facts.name = getGpuEntryName(function.getName(), signature.getOption("fn"));
    facts.threads = 32 * warps;
    facts.minCtas = ctas;
    emit(createGpuKernel(module, signature, function.getName(), facts, target));
    function.erase();
    setSignature(module, signature);
    setStage(module, Stage::Mapped);
    IRRewriter rewriter(module.getContext());
    DominanceInfo dominance;
    eliminateCommonSubExpressions(rewriter, dominance, module);
  }
};

} // namespace

/// The mapping by tiles with one choice of what is kept.
static LogicalResult mapTiled(ModuleOp module, const GpuMapOptions &options,
                              const TiledChoice &choice) {
  FailureOr<Start> start = Start::get(module, options);
  if (failed(start))
    return failure();
  FailureOr<TiledKernel> tiled = TiledKernel::build(
      start->function, start->signature, start->policy, choice);
  if (failed(tiled))
    return failure();
  start->finish(module, "tiled", choice.warps, choice.stages, choice.ctas,
                [&](GpuKernel kernel) { tiled->emit(kernel); });
  return success();
}

/// Bytes of shared memory of a mapped module's kernel, its arrays placed.
static FailureOr<int64_t> measureShared(ModuleOp module) {
  OwningOpRef<ModuleOp> copy = module.clone();
  PassManager pm(module.getContext());
  pm.addPass(createDeltaPlaceShared());
  // That it does not fit is what is to be found out.
  ScopedDiagnosticHandler silent(module.getContext(),
                                 [](Diagnostic &) { return success(); });
  if (failed(pm.run(*copy)))
    return failure();
  for (Operation *op : getGpuKernels(*copy)) {
    FailureOr<GpuKernelFacts> facts = GpuKernelFacts::get(op);
    if (succeeded(facts))
      return facts->sharedBytes;
  }
  return failure();
}

/// The mapping by tiles: as much is kept as the shared memory holds.
static LogicalResult mapTiled(ModuleOp module, const GpuMapOptions &options) {
  FailureOr<::delta::gpu::GpuTarget> target = getGpuTarget(module);
  if (failed(target))
    return failure();
  auto functions = module.getOps<func::FuncOp>();
  func::FuncOp function = *functions.begin();
  if (function.getNumArguments() < 2)
    return function.emitOpError("expects the state and the number of tokens as "
                                "its last arguments");
  auto state = dyn_cast<RankedTensorType>(
      function.getArgumentTypes()[function.getNumArguments() - 2]);
  if (!state || state.getRank() != 2)
    return function.emitOpError("expects the state and the number of tokens as "
                                "its last arguments");
  TiledChoice choice;
  choice.warps = options.warps ? options.warps
                 : std::max(state.getDimSize(0), state.getDimSize(1)) > 64 ? 8
                                                                           : 4;
  if (32 * choice.warps > target->getThreadsPerCta())
    return module.emitError()
           << "warps=" << choice.warps << " is more than a CTA of "
           << target->getName() << " has; expected 1 to "
           << target->getThreadsPerCta() / 32;
  // Small kernels wait for each other's steps: two of them fill the waits.
  SmallVector<TiledChoice> choices;
  for (int64_t ctas : {2, 1})
    for (int step = 0; step < 4; ++step) {
      choice.ctas = ctas;
      choice.stages = step < 1 ? 2 : 1;
      choice.keepsShared = step < 2;
      choice.copiesCheckpoint = step < 3;
      if (ctas == 1 || choice.warps <= 4)
        choices.push_back(choice);
    }
  for (const TiledChoice &candidate : ArrayRef(choices).drop_back()) {
    OwningOpRef<ModuleOp> attempt = module.clone();
    if (failed(mapTiled(*attempt, options, candidate)))
      return failure();
    FailureOr<int64_t> bytes = measureShared(*attempt);
    if (succeeded(bytes) && *bytes <= target->getSharedBudget(candidate.ctas))
      return mapTiled(module, options, candidate);
  }
  return mapTiled(module, options, choices.back());
}

/// The mapping in slices with one choice; none, with the reason, where the
/// program has another structure. `found`
/// receives what is known of the arrays then.
static std::optional<LogicalResult> mapSliced(ModuleOp module,
                                              const GpuMapOptions &options,
                                              const SlicedChoice &choice,
                                              std::string &why,
                                              SlicedChoice *found = nullptr) {
  FailureOr<Start> start = Start::get(module, options);
  if (failed(start))
    return failure();
  std::optional<SlicedKernel> sliced = SlicedKernel::build(
      start->function, start->signature, start->policy, choice, why);
  if (!sliced)
    return std::nullopt;
  start->finish(module, "sliced", sliced->getWarps(), choice.stages,
                choice.ctas, [&](GpuKernel kernel) { sliced->emit(kernel); });
  if (found) {
    found->doubled = sliced->getDoubled();
    found->read = sliced->getRead();
    found->lastInput = sliced->getLastInput();
  }
  return success();
}

/// Tries the choices for slices, those that hold more warps first. Success with
/// `why` means that tiles are to be taken.
static LogicalResult mapInSlices(ModuleOp module, const GpuMapOptions &options,
                                 std::string &why) {
  FailureOr<::delta::gpu::GpuTarget> target = getGpuTarget(module);
  if (failed(target))
    return failure();
  if (options.warps) {
    why = "the number of warps is pinned, which slices do not leave open";
    return success();
  }
  SmallVector<SlicedChoice> choices;
  for (int64_t ctas : {2, 1})
    for (int64_t stages : {2, 1}) {
      SlicedChoice choice;
      choice.ctas = options.ctas ? options.ctas : ctas;
      choice.stages = options.stages ? options.stages : stages;
      choices.push_back(choice);
    }
  for (const SlicedChoice &choice : choices) {
    // What is read behind the interval in which it is written ahead is known
    // once the kernel has been written down.
    SlicedChoice found = choice;
    OwningOpRef<ModuleOp> draft = module.clone();
    std::optional<LogicalResult> mapped =
        mapSliced(*draft, options, choice, why, &found);
    if (!mapped)
      return success();
    OwningOpRef<ModuleOp> attempt = module.clone();
    if (failed(*mapped) || failed(*mapSliced(*attempt, options, found, why)))
      return failure();
    int64_t threads = 0;
    for (Operation *op : getGpuKernels(*attempt))
      threads = GpuKernelFacts::get(op)->threads;
    // A slice wants some 200 registers.
    if (!options.ctas && choice.ctas > 1 &&
        target->getRegisterBudget(threads, choice.ctas) < 192)
      continue;
    FailureOr<int64_t> bytes = measureShared(*attempt);
    if (failed(bytes) || *bytes > target->getSharedBudget(choice.ctas))
      continue;
    return *mapSliced(module, options, found, why);
  }
  why = "they do not fit the shared memory of " + target->getName().str();
  return success();
}

LogicalResult gpumap::mapBackward(ModuleOp module,
                                  const GpuMapOptions &options) {
  std::string why;
  if (failed(mapInSlices(module, options, why)))
    return failure();
  return why.empty() ? success() : mapTiled(module, options);
}

LogicalResult gpumap::explainBackward(ModuleOp module,
                                      const GpuMapOptions &options,
                                      raw_ostream &os) {
  OwningOpRef<ModuleOp> mapped = module.clone();
  std::string why;
  if (failed(mapInSlices(*mapped, options, why)))
    return failure();
  if (!why.empty()) {
    os << "  by tiles, not in slices: " << why << "\n";
    if (failed(mapTiled(*mapped, options)))
      return failure();
  }
  auto mapping =
      cast<DictionaryAttr>(getSignature(*mapped).getOptions().get("mapping"));
  FailureOr<int64_t> bytes = measureShared(*mapped);
  auto number = [&](StringRef name) {
    return cast<IntegerAttr>(mapping.get(name)).getInt();
  };
  os << "mapping form=" << cast<StringAttr>(mapping.get("form")).getValue()
     << " warps=" << number("warps") << " stages=" << number("stages")
     << " ctas=" << number("ctas");
  if (succeeded(bytes))
    os << " shared_bytes=" << *bytes;
  os << " kernels=1\n";
  return success();
}
