//===- LlvmLowering.cpp - From stage mapped to stage llvm -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checks that a module is a mapped CPU kernel and runs upstream's conversions
// on it, between our expansion of elementary functions and our entry points.
//
// Test: test/Target/CPU/cpu-to-llvm.mlir, cpu-to-llvm-errors.mlir.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Target/CPU/KernelArrays.h"
#include "delta/Target/CPU/Passes.h"
#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/ConvertToLLVM/ToLLVMPass.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVMPass.h"
#include "mlir/Conversion/VectorToSCF/VectorToSCF.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"

#define DEBUG_TYPE "delta-cpu-to-llvm"

using namespace mlir;
using namespace mlir::delta;

/// The argument types that a mapped kernel with this signature has.
static SmallVector<Type> getKernelTypes(SignatureAttr signature) {
  MLIRContext *context = signature.getContext();
  Builder builder(context);
  SmallVector<Type> types;
  auto array = [&](ArgAttr arg) {
    types.push_back(MemRefType::get({ShapedType::kDynamic}, arg.getType()));
  };
  for (ArgAttr arg : getInputArrays(signature))
    array(arg);
  array(signature.getState());
  for (ArgAttr arg : getOutputArrays(signature))
    array(arg);
  array(signature.getState());
  types.append(signature.getArgs(ArgKind::Attr).size(), builder.getF64Type());
  types.append(3, builder.getIndexType());
  types.append(2, builder.getI1Type());
  types.push_back(
      MemRefType::get({ShapedType::kDynamic}, builder.getIntegerType(8)));
  types.append(3, builder.getIndexType());
  return types;
}

LogicalResult mlir::delta::verifyMappedKernel(ModuleOp module) {
  std::optional<Stage> stage = getStage(module);
  if (stage != Stage::Mapped)
    return module.emitError()
           << "expects a module of stage mapped, but got "
           << (stage ? stringifyStage(*stage) : "one without a stage");
  SignatureAttr signature = getSignature(module);
  StringRef target = signature.getOption("target", "cpu");
  if (target != "cpu")
    return module.emitError()
           << "expects a kernel mapped for the cpu, but got one for " << target;
  for (StringAttr dim : signature.getDimNames())
    if (!signature.getDim(dim))
      return module.emitError() << "expects the size of dim '" << dim.getValue()
                                << "' in '" << kSignatureAttr << "'";

  func::FuncOp kernel;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (!function.isPublic())
      continue;
    if (kernel)
      return function.emitError() << "expects one public function, the kernel, "
                                     "but there is '@"
                                  << kernel.getName() << "' too";
    kernel = function;
  }
  if (!kernel || kernel.isExternal())
    return module.emitError() << "expects a public function, the kernel";
  for (StringRef name : {"delta.workspace", "delta.panels"}) {
    auto value = kernel->getAttrOfType<IntegerAttr>(name);
    int64_t least = name == "delta.panels" ? 1 : 0;
    if (!value || value.getInt() < least)
      return kernel.emitError() << "expects the attribute '" << name
                                << "' to be an integer of at least " << least;
  }
  SmallVector<Type> expected = getKernelTypes(signature);
  if (kernel.getNumArguments() != expected.size())
    return kernel.emitError() << "expects " << expected.size()
                              << " arguments for the signature, but has "
                              << kernel.getNumArguments();
  for (auto [index, type] : llvm::enumerate(expected))
    if (kernel.getArgument(index).getType() != type)
      return kernel.emitError()
             << "expects argument " << index << " to be of type " << type
             << ", but it has type " << kernel.getArgument(index).getType();
  if (kernel.getNumResults() != 0)
    return kernel.emitError() << "expects a kernel without results, but it has "
                              << kernel.getNumResults();
  return success();
}

namespace {

/// First step of the pipeline. A pipeline cannot refuse its options, so this
/// pass reports those too.
struct CheckMappedPass : PassWrapper<CheckMappedPass, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(CheckMappedPass)
  explicit CheckMappedPass(std::string badOption = "")
      : badOption(std::move(badOption)) {}
  StringRef getArgument() const override { return "delta-cpu-check-mapped"; }
  StringRef getDescription() const override {
    return "Check that a module is a mapped CPU kernel";
  }
  void runOnOperation() override {
    if (!badOption.empty()) {
      getOperation().emitError() << badOption;
      return signalPassFailure();
    }
    if (failed(verifyMappedKernel(getOperation())))
      return signalPassFailure();
    // From here on the module is between two stages.
    getOperation()->removeAttr(kStageAttr);
  }

private:
  std::string badOption;
};

/// Last step of the pipeline.
struct FinishPass : PassWrapper<FinishPass, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(FinishPass)
  StringRef getArgument() const override { return "delta-cpu-finish-llvm"; }
  StringRef getDescription() const override {
    return "Check that only the LLVM dialect is left, and set the stage";
  }
  void runOnOperation() override {
    WalkResult result = getOperation().walk([](Operation *op) {
      if (isa<ModuleOp>(op) || isa<LLVM::LLVMDialect>(op->getDialect()))
        return WalkResult::advance();
      op->emitError() << "cannot be lowered to LLVM: the stage mapped is made "
                         "of scf, arith, math, memref, vector and index";
      return WalkResult::interrupt();
    });
    if (result.wasInterrupted())
      return signalPassFailure();
    setStage(getOperation(), Stage::LLVM);
  }
};

} // namespace

void mlir::delta::buildCpuToLLVMPipeline(
    OpPassManager &pm, const ::delta::cpu::CpuTarget &target) {
  pm.addPass(std::make_unique<CheckMappedPass>());
  pm.addPass(createExpandMath());
  ExpandNarrowFloatsOptions narrow;
  narrow.f16 = !target.hasF16Conversion();
  narrow.bf16 = !target.hasBf16Conversion();
  pm.addPass(createExpandNarrowFloats(narrow));
  pm.addPass(createConvertVectorToSCFPass());
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(createSCFToControlFlowPass());
  ConvertVectorToLLVMPassOptions vectorOptions;
  vectorOptions.vectorContractLowering =
      vector::VectorContractLowering::OuterProduct;
  vectorOptions.vectorTransposeLowering =
      vector::VectorTransposeLowering::Shuffle1D;
  pm.addPass(createConvertVectorToLLVMPass(vectorOptions));
  pm.addPass(createConvertToLLVMPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
  CpuEntryOptions entryOptions;
  entryOptions.targetCpu = target.getCpu().str();
  pm.addPass(createCpuEntry(entryOptions));
  pm.addPass(std::make_unique<FinishPass>());
}

LogicalResult
mlir::delta::lowerMappedToLLVM(ModuleOp module,
                               const ::delta::cpu::CpuTarget &target) {
  PassManager pm(module.getContext(), ModuleOp::getOperationName());
  buildCpuToLLVMPipeline(pm, target);
  return pm.run(module);
}

namespace {
struct CpuToLLVMOptions : PassPipelineOptions<CpuToLLVMOptions> {
  Option<std::string> targetCpu{
      *this, "target-cpu",
      llvm::cl::desc("LLVM's name of the CPU; empty or \"native\" for this "
                     "machine"),
      llvm::cl::init("")};
};
} // namespace

void mlir::delta::registerCpuPasses() {
  registerDeltaCPUPasses();
  PassPipelineRegistration<CpuToLLVMOptions>(
      "delta-cpu-to-llvm", "Lower a mapped CPU kernel to the LLVM dialect",
      [](OpPassManager &pm, const CpuToLLVMOptions &options) {
        llvm::Expected<::delta::cpu::CpuTarget> target =
            ::delta::cpu::CpuTarget::get(options.targetCpu);
        if (target)
          buildCpuToLLVMPipeline(pm, *target);
        else
          pm.addPass(std::make_unique<CheckMappedPass>(
              llvm::toString(target.takeError())));
      });
}
