//===- ChunkToMapped.cpp - From the chunk program to a GPU kernel ----------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The entry of the mapping: analysis, choice, emission.
//
//===----------------------------------------------------------------------===//

#include "delta/Target/NVPTX/ChunkToMapped/Passes.h"
#include "Emitter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/CSE.h"

namespace mlir::delta {
#define GEN_PASS_DEF_DELTAGPUMAP
#include "delta/Target/NVPTX/ChunkToMapped/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

/// The default precision of a GPU's matrix products, by the type of the
/// vector inputs.
static StringRef getDefaultPrecision(SignatureAttr signature) {
  for (ArgAttr arg : signature.getArgs(ArgKind::Out)) {
    if (arg.getType().isBF16())
      return "bf16";
    if (arg.getType().isF16())
      return "tf32";
  }
  return "bf16x3";
}

LogicalResult mlir::delta::mapChunkToGpu(ModuleOp module,
                                         const GpuMapOptions &options) {
  if (getStage(module) != Stage::Chunk)
    return module.emitError("expects a module of stage chunk");
  SignatureAttr signature = getSignature(module);
  FailureOr<::delta::gpu::GpuTarget> target = getGpuTarget(module);
  if (failed(target))
    return failure();
  auto function = *module.getOps<func::FuncOp>().begin();
  std::string precision = options.precision;
  if (precision.empty())
    precision = signature.getOption("precision", "").str();
  if (precision.empty())
    precision = getDefaultPrecision(signature).str();
  FailureOr<OperandPolicy> policy = OperandPolicy::get(module, precision);
  if (failed(policy))
    return failure();
  FailureOr<Program> program = Program::build(function, signature);
  if (failed(program))
    return failure();
  FailureOr<GpuMapping> mapping =
      chooseMapping(*program, *policy, *target, options);
  if (failed(mapping))
    return failure();

  Builder builder(module.getContext());
  signature = signature.withOption("mapping",
                                   mapping->getAttr(module.getContext()));
  signature = signature.withOption("precision",
                                   builder.getStringAttr(precision));
  GpuKernelFacts facts;
  StringRef fn = signature.getOption("fn", "forward");
  facts.name = getGpuEntryName(function.getName(), fn);
  facts.threads = mapping->getThreads();
  facts.vBlocks = mapping->vBlocks;
  GpuKernel kernel = createGpuKernel(
      module, signature, (function.getName() + "_kernels").str(), facts,
      *target);
  Arrays arrays(*program, *mapping, *policy);
  Emitter(*program, *mapping, *policy, arrays, kernel, function.getLoc())
      .emitKernel();
  function.erase();
  setSignature(module, signature);
  setStage(module, Stage::Mapped);
  IRRewriter rewriter(module.getContext());
  DominanceInfo dominance;
  eliminateCommonSubExpressions(rewriter, dominance, module);
  return success();
}

namespace {

struct GpuMap : mlir::delta::impl::DeltaGpuMapBase<GpuMap> {
  using Base::Base;
  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (!target.empty())
      if (SignatureAttr signature = getSignature(module))
        setSignature(module,
                     signature.withOption(
                         "target", StringAttr::get(&getContext(), target)));
    GpuMapOptions options;
    options.precision = precision;
    options.warps = warps;
    options.rows = rows;
    options.vsplit = vsplit;
    options.window = window;
    options.stages = stages;
    if (failed(mapChunkToGpu(module, options)))
      signalPassFailure();
  }
};

} // namespace
