//===- BackwardForms.cpp - Kernels of a gradient by one choice ------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "BackwardForms.h"
#include "CotangentsKernel.h"
#include "PartialSums.h"
#include "StatesKernel.h"
#include "delta/Dialect/Delta/Transforms/Adjoint.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

func::FuncOp gpumap::getProgram(ModuleOp module) {
  return *module.getOps<func::FuncOp>().begin();
}

/// The name of the function that a module is for.
static StringRef getFunction(ModuleOp module) {
  return getSignature(module).getOption("fn", "forward");
}

FailureOr<Start> Start::get(ModuleOp module, const GpuMapOptions &options) {
  FailureOr<::delta::gpu::GpuTarget> target = getGpuTarget(module);
  FailureOr<std::pair<std::string, OperandPolicy>> precision =
      getPrecision(module, options);
  if (failed(target) || failed(precision))
    return failure();
  SignatureAttr signature = getSignature(module);
  int64_t every = signature.getIntOption("save_every").value_or(1);
  if (every > 1 && !getStatesProgram(module))
    return module.emitError()
           << "expects the program that computes states again, '"
           << getProgram(module).getSymName() << kStatesSuffix
           << "', as states are saved every " << every << " chunks";
  return Start{withSavedStates(signature, precision->second), *target,
               precision->first, precision->second,
               *module.getOps<func::FuncOp>().begin()};
}

LogicalResult Start::finish(
    ModuleOp module, const GpuMapOptions &options, const Launch &launch,
    llvm::function_ref<void(GpuKernel, const PartialSums &, Value)> emit) {
  Builder builder(module.getContext());
  auto number = [&](StringRef name, int64_t value) {
    return builder.getNamedAttr(name, builder.getI64IntegerAttr(value));
  };
  SmallVector<NamedAttribute> mapping{
      builder.getNamedAttr("form", builder.getStringAttr(launch.form)),
      number("warps", launch.warps), number("stages", launch.stages),
      number("ctas", launch.ctas)};
  if (launch.vBlocks > 1)
    mapping.push_back(number("vsplit", launch.vBlocks));
  if (launch.segment)
    mapping.push_back(number("segment", launch.segment));
  signature =
      signature.withOption("mapping", builder.getDictionaryAttr(mapping))
          .withOption("precision", builder.getStringAttr(precision));
  const std::string name =
      getGpuEntryName(function.getName(), getFunction(module));
  std::optional<StatesKernel> states;
  func::FuncOp statesProgram = getStatesProgram(module);
  if (statesProgram) {
    FailureOr<StatesKernel> made = StatesKernel::add(
        module, statesProgram, signature, policy, target, name + "_states");
    if (failed(made))
      return failure();
    states = *made;
  }
  std::optional<CotangentsKernel> cotangents;
  func::FuncOp cotangentsProgram = getCotangentsProgram(module);
  if (cotangentsProgram) {
    FailureOr<CotangentsKernel> made = CotangentsKernel::add(
        module, cotangentsProgram, signature, policy, target, options,
        launch.segment, name + "_cotangents");
    if (failed(made))
      return failure();
    cotangents = *made;
  }
  GpuKernelFacts facts;
  facts.name = name;
  facts.threads = 32 * launch.warps;
  facts.minCtas = launch.ctas;
  facts.vBlocks = launch.vBlocks;
  facts.tokens = kTokens * launch.segment;
  GpuKernel kernel =
      createGpuKernel(module, signature, function.getName(), facts, target);
  if (states)
    kernel.checkpoints = states->getStates(kernel);
  PartialSums partials(signature, launch.vBlocks, facts.tokens);
  partials.addWorkspace(module);
  emit(kernel, partials, cotangents ? cotangents->getStates(kernel) : Value());
  if (!partials.empty()) {
    GpuKernelFacts adding = PartialSums::getFacts(name);
    partials.emitAdding(
        createGpuKernel(module, signature, function.getName(), adding, target),
        adding);
  }
  if (statesProgram)
    statesProgram.erase();
  if (cotangentsProgram)
    cotangentsProgram.erase();
  finishMapped(module, function, signature);
  return success();
}

//===----------------------------------------------------------------------===//
// One form, one choice
//===----------------------------------------------------------------------===//

LogicalResult gpumap::mapTiled(ModuleOp module, const GpuMapOptions &options,
                               const TiledChoice &choice) {
  FailureOr<Start> start = Start::get(module, options);
  if (failed(start))
    return failure();
  FailureOr<TiledKernel> tiled = TiledKernel::build(
      start->function, start->signature, start->policy, choice);
  if (failed(tiled))
    return failure();
  return start->finish(
      module, options,
      {"tiled", choice.warps, choice.stages, choice.ctas, choice.vBlocks},
      [&](GpuKernel kernel, const PartialSums &partials, Value) {
        tiled->emit(kernel, partials);
      });
}

std::optional<LogicalResult> gpumap::mapSliced(ModuleOp module,
                                               const GpuMapOptions &options,
                                               const SlicedChoice &choice,
                                               std::string &why,
                                               SlicedChoice *found) {
  FailureOr<Start> start = Start::get(module, options);
  if (failed(start))
    return failure();
  std::optional<SlicedKernel> sliced = SlicedKernel::build(
      start->function, start->signature, start->policy, choice, why);
  if (!sliced)
    return std::nullopt;
  if (failed(start->finish(
          module, options,
          {"sliced", sliced->getWarps(), choice.stages, choice.ctas,
           choice.vBlocks, choice.segment},
          [&](GpuKernel kernel, const PartialSums &partials, Value behind) {
            sliced->emit(kernel, partials, behind);
          })))
    return failure();
  if (found) {
    found->doubled = sliced->getDoubled();
    found->read = sliced->getRead();
    found->lastInput = sliced->getLastInput();
  }
  return success();
}

Operation *gpumap::getMainKernel(ModuleOp mapped) {
  StringRef name = (*mapped.getOps<gpu::GPUModuleOp>().begin()).getName();
  std::string entry = getGpuEntryName(name, getFunction(mapped));
  for (Operation *op : getGpuKernels(mapped))
    if (SymbolTable::getSymbolName(op) == entry)
      return op;
  llvm_unreachable("a mapped module has one");
}
