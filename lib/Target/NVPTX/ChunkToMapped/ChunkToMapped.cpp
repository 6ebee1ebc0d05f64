//===- ChunkToMapped.cpp - From the chunk program to a GPU kernel ---------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The entry of the mapping: analysis, choice, emission.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "MapBackward.h"
#include "delta/Target/NVPTX/ChunkToMapped/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/CSE.h"
#include "llvm/Support/Format.h"

namespace mlir::delta {
#define GEN_PASS_DEF_DELTAGPUMAP
#include "delta/Target/NVPTX/ChunkToMapped/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

void gpumap::finishMapped(ModuleOp module, func::FuncOp program,
                          SignatureAttr signature) {
  program.erase();
  setSignature(module, signature);
  setStage(module, Stage::Mapped);
  IRRewriter rewriter(module.getContext());
  DominanceInfo dominance;
  eliminateCommonSubExpressions(rewriter, dominance, module);
}

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

FailureOr<std::pair<std::string, OperandPolicy>>
gpumap::getPrecision(ModuleOp module, const GpuMapOptions &options) {
  SignatureAttr signature = getSignature(module);
  std::string precision = options.precision;
  if (precision.empty())
    precision = signature.getOption("precision", "").str();
  if (precision.empty())
    precision = getDefaultPrecision(signature).str();
  FailureOr<OperandPolicy> policy = OperandPolicy::get(module, precision);
  if (failed(policy))
    return failure();
  return std::make_pair(precision, *policy);
}

namespace {

/// What every choice starts from.
struct Setting {
  ::delta::gpu::GpuTarget target;
  std::string precision;
  OperandPolicy policy;
  Program program;

  static FailureOr<Setting> get(ModuleOp module, const GpuMapOptions &options) {
    if (getStage(module) != Stage::Chunk)
      return module.emitError("expects a module of stage chunk");
    SignatureAttr signature = getSignature(module);
    FailureOr<::delta::gpu::GpuTarget> target = getGpuTarget(module);
    if (failed(target))
      return failure();
    FailureOr<std::pair<std::string, OperandPolicy>> precision =
        getPrecision(module, options);
    if (failed(precision))
      return failure();
    FailureOr<Program> program =
        Program::build(*module.getOps<func::FuncOp>().begin(), signature);
    if (failed(program))
      return failure();
    return Setting{*target, precision->first, precision->second,
                   std::move(*program)};
  }
};

} // namespace

/// Why a forward program is mapped by tiles instead of as the fused kernel;
/// empty when it is not.
static std::string findObstacle(ModuleOp module, const GpuMapOptions &options) {
  if (getStage(module) != Stage::Chunk)
    return "";
  if (int64_t tokens = getChunkTokens(module); tokens != 16)
    return "it takes chunks of 16 tokens, and these have " +
           std::to_string(tokens);
  if (isPinned(options))
    return "";
  // What else is wrong is reported by who maps it.
  ScopedDiagnosticHandler silent(module.getContext(),
                                 [](Diagnostic &) { return success(); });
  FailureOr<Setting> setting = Setting::get(module, options);
  if (failed(setting) ||
      hasMapping(setting->program, setting->policy, setting->target, options))
    return "";
  return fitsTiles(module, options) ? "no mapping holds the state in registers"
                                    : "";
}

/// The signature with saved states as GPU kernels keep them: rounded as
/// operands are, and transposed, as the forward kernel holds the state.
SignatureAttr gpumap::withSavedStates(SignatureAttr signature,
                                      const OperandPolicy &policy) {
  SmallVector<ArgAttr> args(signature.getAllArgs());
  for (ArgAttr &arg : args)
    if (arg.getKind() == ArgKind::Checkpoint)
      arg = ArgAttr::get(
          arg.getContext(), arg.getKind(), arg.getName(), policy.type,
          llvm::to_vector(llvm::reverse(arg.getAxes())), arg.getFamily(),
          arg.getRange(), arg.getDefaultValue());
  return signature.withArgs(args);
}

int64_t mlir::delta::getGpuSavedBytes(SignatureAttr signature,
                                      StringRef precision) {
  if (precision.empty())
    precision = signature.getOption("precision");
  if (precision.empty())
    precision = getDefaultPrecision(signature);
  return precision == "bf16" || precision == "f16" ? 2 : 4;
}

LogicalResult mlir::delta::explainGpuMapping(ModuleOp module,
                                             const GpuMapOptions &options,
                                             raw_ostream &os) {
  module.getContext()->getOrLoadDialect<warp::WarpDialect>();
  if (isBackward(module))
    return explainBackward(module, options, os);
  if (std::string why = findObstacle(module, options); !why.empty()) {
    os << "  by tiles, not by the fused kernel: " << why << "\n";
    return explainBackward(module, options, os);
  }
  FailureOr<Setting> setting = Setting::get(module, options);
  if (failed(setting))
    return failure();
  FailureOr<GpuMapping> chosen = chooseMapping(
      setting->program, setting->policy, setting->target, options);
  if (failed(chosen))
    return failure();
  SmallVector<Candidate> candidates = enumerateMappings(
      setting->program, setting->policy, setting->target, options);
  llvm::stable_sort(candidates, [](const Candidate &a, const Candidate &b) {
    return std::make_pair(a.ctas == 0, a.cost) <
           std::make_pair(b.ctas == 0, b.cost);
  });
  os << "  mapping to " << setting->target.getName() << ", operands in "
     << setting->precision << ": " << candidates.size()
     << " candidates, the best first (estimated cycles of a multiprocessor for "
        "one chunk of one head";
  if (options.sequences > 0)
    os << ", of " << options.sequences << " in all";
  if (options.tokens > 0)
    os << " with " << options.tokens << " tokens each";
  os << ")\n";
  for (const Candidate &candidate : ArrayRef(candidates).take_front(6)) {
    const GpuMapping &m = candidate.mapping;
    os << "    warps=" << m.warps << " rows=" << m.rowsPerWarp
       << " vsplit=" << m.vBlocks << " ksplit=" << m.kSplit
       << " window=" << m.window << " stages=" << m.stages;
    if (m.kernels == 2)
      os << " kernels=2 free=" << m.freeWindow
         << " free_shared_bytes=" << candidate.freeSharedBytes;
    os << " shared_bytes=" << m.sharedBytes
       << " registers=" << candidate.registers
       << " ctas_per_sm=" << candidate.ctas;
    if (candidate.ctas == 0) {
      os << " does not fit\n";
      continue;
    }
    os << llvm::format(" issue=%.0f shared=%.0f latency=%.0f", candidate.issue,
                       candidate.shared, candidate.latency);
    if (m.kernels == 2)
      os << llvm::format(" free_kernel=%.0f record_bytes=%lld", candidate.free,
                         static_cast<long long>(candidate.recordBytes));
    os << llvm::format(" cost=%.0f\n", candidate.cost);
  }
  os << "mapping warps=" << chosen->warps << " rows=" << chosen->rowsPerWarp
     << " vsplit=" << chosen->vBlocks << " ksplit=" << chosen->kSplit
     << " window=" << chosen->window << " stages=" << chosen->stages
     << " kernels=" << chosen->kernels;
  if (chosen->kernels == 2)
    os << " free=" << chosen->freeWindow << " workspace_bytes_per_chunk="
       << Arrays(setting->program,
                 chosen->getFreeMapping(setting->program.stateCols),
                 setting->policy)
              .recordBytes;
  os << " mma_flops_per_chunk="
     << countMmaFlops(setting->program, setting->policy, *chosen) << "\n";
  return success();
}

LogicalResult mlir::delta::mapChunkToGpu(ModuleOp module,
                                         const GpuMapOptions &options) {
  if (isBackward(module) || !findObstacle(module, options).empty())
    return mapBackward(module, options);
  FailureOr<Setting> setting = Setting::get(module, options);
  if (failed(setting))
    return failure();
  const Program *program = &setting->program;
  const OperandPolicy *policy = &setting->policy;
  const ::delta::gpu::GpuTarget *target = &setting->target;
  StringRef precision = setting->precision;
  SignatureAttr signature = program->signature;
  func::FuncOp function = program->function;
  FailureOr<GpuMapping> mapping =
      chooseMapping(*program, *policy, *target, options);
  if (failed(mapping))
    return failure();

  Builder builder(module.getContext());
  signature =
      signature.withOption("mapping", mapping->getAttr(module.getContext()));
  signature =
      signature.withOption("precision", builder.getStringAttr(precision));
  signature = withSavedStates(signature, *policy);
  StringRef fn = signature.getOption("fn", "forward");
  const std::string entry = getGpuEntryName(function.getName(), fn);
  auto emit = [&](const GpuMapping &mapping, GpuKernelFacts facts) {
    facts.threads = mapping.getThreads();
    facts.vBlocks = mapping.vBlocks;
    GpuKernel kernel =
        createGpuKernel(module, signature, function.getName(), facts, *target);
    Arrays arrays(*program, mapping, *policy);
    if (mapping.slices == Slices::Free)
      addGpuWorkspacePart(module, {arrays.recordBytes, /*ofB=*/true,
                                   /*ofH=*/true, program->chunk});
    Emitter(*program, mapping, *policy, arrays, kernel, function.getLoc())
        .emitKernel();
  };
  GpuKernelFacts facts;
  facts.name = entry;
  if (mapping->kernels == 2) {
    GpuKernelFacts first;
    first.name = entry + "_free";
    first.minCtas = mapping->freeCtas;
    first.tokens = program->chunk * mapping->freeWindow;
    emit(mapping->getFreeMapping(program->stateCols), first);
    facts.name = entry + "_state";
    emit(mapping->getStateMapping(), facts);
  } else {
    emit(*mapping, facts);
  }
  finishMapped(module, function, signature);
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
    options.ksplit = ksplit;
    options.window = window;
    options.stages = stages;
    options.kernels = kernels;
    options.free = free;
    options.ctas = ctas;
    options.segment = segment;
    options.sequences = sequences;
    options.tokens = tokens;
    if (failed(mapChunkToGpu(module, options)))
      signalPassFailure();
  }
};

} // namespace
