//===- NvvmLowering.cpp - From stage mapped to stage llvm on a GPU --------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Gives kernels their calling convention and runs upstream's conversions on
// what is left when a warp's values are its lanes' own.
//
// Test: test/Target/NVPTX/gpu-to-llvm.mlir, gpu-to-llvm-errors.mlir.
//
//===----------------------------------------------------------------------===//

#include "delta/Target/NVPTX/FragmentLowering/Passes.h"
#include "delta/Target/NVPTX/Kernel.h"
#include "delta/Target/NVPTX/Passes.h"
#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVM.h"
#include "mlir/Conversion/GPUToNVVM/GPUToNVVMPass.h"
#include "mlir/Conversion/IndexToLLVM/IndexToLLVM.h"
#include "mlir/Conversion/LLVMCommon/ConversionTarget.h"
#include "mlir/Conversion/LLVMCommon/MemRefBuilder.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/NVGPUToNVVM/NVGPUToNVVM.h"
#include "mlir/Conversion/NVVMToLLVM/NVVMToLLVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/UBToLLVM/UBToLLVM.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Conversion/VectorToSCF/VectorToSCF.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Dialect/NVGPU/IR/NVGPUDialect.h"
#include "mlir/Dialect/Vector/Transforms/VectorRewritePatterns.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/DialectConversion.h"
#include "mlir/Transforms/Passes.h"

#define DEBUG_TYPE "delta-gpu-to-llvm"

namespace mlir::delta {
#define GEN_PASS_DEF_GPUTONVVM
#include "delta/Target/NVPTX/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;

//===----------------------------------------------------------------------===//
// Calling convention
//===----------------------------------------------------------------------===//

/// Address space of global memory.
static constexpr unsigned kGlobal = 1;

/// Rewrites the signature of a kernel: every memref<?xT> becomes a pointer to
/// global memory. In the body a descriptor, of which only the pointer matters,
/// takes its place; SROA removes it.
static void makePointersBare(gpu::GPUFuncOp kernel,
                             const LLVMTypeConverter &converter) {
  MLIRContext *context = kernel.getContext();
  Block *body = &kernel.getBody().front();
  ImplicitLocOpBuilder b(kernel.getLoc(), context);
  b.setInsertionPointToStart(body);
  auto pointer = LLVM::LLVMPointerType::get(context, kGlobal);
  SmallVector<Type> types;
  for (BlockArgument arg : body->getArguments()) {
    auto memref = dyn_cast<MemRefType>(arg.getType());
    if (!memref) {
      types.push_back(arg.getType());
      continue;
    }
    types.push_back(pointer);
    arg.setType(pointer);
    unsigned space = *converter.getMemRefAddressSpace(memref);
    Value base = arg;
    if (space != kGlobal)
      base = LLVM::AddrSpaceCastOp::create(
          b, LLVM::LLVMPointerType::get(context, space), arg);
    auto descriptor =
        MemRefDescriptor::poison(b, b.getLoc(), converter.convertType(memref));
    Value zero = LLVM::ConstantOp::create(b, b.getI64IntegerAttr(0));
    Value one = LLVM::ConstantOp::create(b, b.getI64IntegerAttr(1));
    descriptor.setAllocatedPtr(b, b.getLoc(), base);
    descriptor.setAlignedPtr(b, b.getLoc(), base);
    descriptor.setOffset(b, b.getLoc(), zero);
    descriptor.setStride(b, b.getLoc(), 0, one);
    // Nobody asks for the size: flat arrays come without one.
    descriptor.setSize(b, b.getLoc(), 0, zero);
    Value array = UnrealizedConversionCastOp::create(
                      b, memref, static_cast<Value>(descriptor))
                      .getResult(0);
    arg.replaceUsesWithIf(array, [&](OpOperand &use) {
      return use.getOwner() != base.getDefiningOp() &&
             !isa<LLVM::InsertValueOp>(use.getOwner());
    });
  }
  kernel.setFunctionType(FunctionType::get(context, types, {}));
}

/// Attributes that LLVM's code generator and ptxas go by.
static LogicalResult setKernelAttributes(LLVM::LLVMFuncOp kernel,
                                         SignatureAttr signature) {
  FailureOr<GpuKernelFacts> facts = GpuKernelFacts::get(kernel);
  if (failed(facts))
    return failure();
  Builder builder(kernel.getContext());
  kernel->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(),
                  builder.getUnitAttr());
  kernel->setAttr(
      NVVM::NVVMDialect::getMaxntidAttrName(),
      builder.getDenseI32ArrayAttr({static_cast<int32_t>(facts->threads)}));
  kernel->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(),
                  builder.getI32IntegerAttr(facts->minCtas));
  // The states may be one array, updated in place; all others are apart.
  size_t inputs = signature.getArgs(ArgKind::In).size() +
                  signature.getArgs(ArgKind::Param).size();
  size_t outs = signature.getArgs(ArgKind::Out).size();
  for (size_t i = 0; i < kernel.getNumArguments(); ++i) {
    if (!isa<LLVM::LLVMPointerType>(kernel.getArgument(i).getType()))
      continue;
    kernel.setArgAttr(i, LLVM::LLVMDialect::getAlignAttrName(),
                      builder.getI64IntegerAttr(16));
    bool input = i<inputs, out = i> inputs && i <= inputs + outs;
    if (input || out)
      kernel.setArgAttr(i, LLVM::LLVMDialect::getNoAliasAttrName(),
                        builder.getUnitAttr());
    if (input)
      kernel.setArgAttr(i, LLVM::LLVMDialect::getReadonlyAttrName(),
                        builder.getUnitAttr());
  }
  return success();
}

namespace {

//===----------------------------------------------------------------------===//
// Passes
//===----------------------------------------------------------------------===//

struct GpuToNVVMPass : mlir::delta::impl::GpuToNVVMBase<GpuToNVVMPass> {
  void runOnOperation() override {
    gpu::GPUModuleOp device = getOperation();
    MLIRContext *context = &getContext();
    SignatureAttr signature =
        mlir::delta::getSignature(device->getParentOfType<ModuleOp>());
    if (!signature) {
      device.emitError() << "expects '" << kSignatureAttr
                         << "' on the module around it";
      return signalPassFailure();
    }
    LowerToLLVMOptions options(context);
    options.overrideIndexBitwidth(64);
    LLVMTypeConverter converter(context, options);
    configureGpuToNVVMTypeConverter(converter);
    for (auto kernel : device.getOps<gpu::GPUFuncOp>())
      if (kernel.isKernel())
        makePointersBare(kernel, converter);

    RewritePatternSet patterns(context);
    arith::populateCeilFloorDivExpandOpsPatterns(patterns);
    arith::populateArithToLLVMConversionPatterns(converter, patterns);
    cf::populateControlFlowToLLVMConversionPatterns(converter, patterns);
    index::populateIndexToLLVMConversionPatterns(converter, patterns);
    populateFuncToLLVMConversionPatterns(converter, patterns);
    // Before the calls of a device library that gpu-to-nvvm would make.
    populateMathToLLVMConversionPatterns(converter, patterns,
                                         /*approximateLog1p=*/false,
                                         /*benefit=*/2);
    populateFinalizeMemRefToLLVMConversionPatterns(converter, patterns);
    ub::populateUBToLLVMConversionPatterns(converter, patterns);
    vector::populateVectorFromElementsUnrollPatterns(patterns);
    vector::populateVectorToElementsUnrollPatterns(patterns);
    populateVectorToLLVMConversionPatterns(converter, patterns);
    populateGpuToNVVMConversionPatterns(converter, patterns);
    populateNVGPUToNVVMConversionPatterns(converter, patterns);

    LLVMConversionTarget target(*context);
    configureGpuToNVVMConversionLegality(target);
    target.addLegalDialect<NVVM::NVVMDialect>();
    target.addLegalOp<gpu::GPUModuleOp>();
    // Upstream would rather call a library; these have instructions.
    target.addLegalOp<LLVM::FAbsOp, LLVM::FCeilOp, LLVM::FFloorOp,
                      LLVM::FTruncOp, LLVM::RoundEvenOp>();
    if (failed(applyFullConversion(device, target, std::move(patterns))))
      return signalPassFailure();
    // Dynamic shared memory has no size: a definition would have one.
    for (auto global : device.getOps<LLVM::GlobalOp>())
      if (auto type = dyn_cast<LLVM::LLVMArrayType>(global.getType());
          type && type.getNumElements() == 0)
        global.setLinkage(LLVM::Linkage::External);
    for (auto kernel : device.getOps<LLVM::LLVMFuncOp>())
      if (kernel->hasAttr(kKernelAttr) &&
          failed(setKernelAttributes(kernel, signature)))
        return signalPassFailure();
  }
};

/// First step of the pipeline.
struct CheckMappedGpuPass
    : PassWrapper<CheckMappedGpuPass, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(CheckMappedGpuPass)
  StringRef getArgument() const override { return "delta-gpu-check-mapped"; }
  StringRef getDescription() const override {
    return "Check that a module is a mapped GPU module";
  }
  void runOnOperation() override {
    if (failed(verifyMappedGpuModule(getOperation())))
      return signalPassFailure();
    // From here on the module is between two stages.
    getOperation()->removeAttr(kStageAttr);
  }
};

/// Last step of the pipeline.
struct FinishGpuPass : PassWrapper<FinishGpuPass, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(FinishGpuPass)
  StringRef getArgument() const override { return "delta-gpu-finish-llvm"; }
  StringRef getDescription() const override {
    return "Check that only the LLVM and NVVM dialects are left, and set the "
           "stage";
  }
  void runOnOperation() override {
    WalkResult result = getOperation().walk([](Operation *op) {
      if (isa<ModuleOp, gpu::GPUModuleOp>(op) ||
          isa<LLVM::LLVMDialect, NVVM::NVVMDialect>(op->getDialect()))
        return WalkResult::advance();
      op->emitError() << "'" << op->getName()
                      << "' cannot be lowered to NVVM: the stage mapped on a "
                         "GPU is made of arith, math, scf, vector, memref, "
                         "gpu, nvgpu, nvvm and delta's fragments";
      return WalkResult::interrupt();
    });
    if (result.wasInterrupted())
      return signalPassFailure();
    setStage(getOperation(), Stage::LLVM);
  }
};

} // namespace

void mlir::delta::buildGpuToLLVMPipeline(OpPassManager &pm) {
  pm.addPass(std::make_unique<CheckMappedGpuPass>());
  buildGpuMappedToLLVM(pm);
  OpPassManager &device = pm.nest<gpu::GPUModuleOp>();
  device.addPass(createGpuExpandMath());
  device.addPass(createConvertVectorToSCFPass());
  device.addPass(memref::createExpandStridedMetadataPass());
  device.addPass(createLowerAffinePass());
  device.addPass(createSCFToControlFlowPass());
  device.addPass(createGpuToNVVM());
  device.addPass(createConvertNVVMToLLVMPass());
  device.addPass(createReconcileUnrealizedCastsPass());
  pm.addPass(std::make_unique<FinishGpuPass>());
}

LogicalResult mlir::delta::lowerMappedGpuToLLVM(ModuleOp module) {
  PassManager pm(module.getContext(), ModuleOp::getOperationName());
  buildGpuToLLVMPipeline(pm);
  return pm.run(module);
}

void mlir::delta::registerGpuPasses() {
  registerDeltaNVPTXPasses();
  PassPipelineRegistration<>(
      "delta-gpu-to-llvm",
      "Lower a mapped GPU module to the LLVM and NVVM dialects",
      [](OpPassManager &pm) { buildGpuToLLVMPipeline(pm); });
}
