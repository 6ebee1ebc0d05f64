//===- Ptx.cpp - From stage llvm to PTX -----------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// LLVM's own passes at -O3, but without unrolling and vectorisation: a kernel
// arrives unrolled as far as its mapping wants it, and registers are counted.
//
//===----------------------------------------------------------------------===//

#include "delta/Target/NVPTX/Codegen.h"
#include "delta/Target/NVPTX/Passes.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/GPU/GPUToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/IntrinsicsNVPTX.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"

using namespace mlir;
using mlir::delta::Stage;

namespace delta::gpu {

void registerTranslations(DialectRegistry &registry) {
  registerBuiltinDialectTranslation(registry);
  registerGPUDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  registerNVVMDialectTranslation(registry);
}

/// Packed conversions of constants, which LLVM and the assembler leave as they
/// are: each of them would hold a register.
static void foldPackedConstants(llvm::Module &module) {
  for (llvm::Intrinsic::ID id : {llvm::Intrinsic::nvvm_ff2bf16x2_rn,
                                 llvm::Intrinsic::nvvm_ff2f16x2_rn}) {
    llvm::Function *function =
        llvm::Intrinsic::getDeclarationIfExists(&module, id);
    if (!function)
      continue;
    for (llvm::User *user : llvm::make_early_inc_range(function->users())) {
      auto *call = llvm::cast<llvm::CallInst>(user);
      auto *high = llvm::dyn_cast<llvm::ConstantFP>(call->getArgOperand(0));
      auto *low = llvm::dyn_cast<llvm::ConstantFP>(call->getArgOperand(1));
      if (!high || !low)
        continue;
      llvm::Type *element = call->getType()->getScalarType();
      auto round = [&](llvm::ConstantFP *number) -> llvm::Constant * {
        llvm::APFloat value = number->getValueAPF();
        bool inexact;
        value.convert(element->getFltSemantics(),
                      llvm::APFloat::rmNearestTiesToEven, &inexact);
        return llvm::ConstantFP::get(element, value);
      };
      call->replaceAllUsesWith(
          llvm::ConstantVector::get({round(low), round(high)}));
      call->eraseFromParent();
    }
  }
}

static void optimise(llvm::Module &module, llvm::TargetMachine &machine) {
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = false;
  tuning.SLPVectorization = false;
  tuning.LoopInterleaving = false;
  tuning.LoopUnrolling = false;
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager graph;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(&machine, tuning);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(graph);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, graph, modules);
  llvm::ModulePassManager passes =
      builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O3);
  passes.run(module, modules);
  foldPackedConstants(module);
}

/// Optimised LLVM IR of a module of stage `mapped` (lowered on a copy) or
/// `llvm`. Null after an error.
static std::unique_ptr<llvm::Module> translate(ModuleOp module,
                                               llvm::LLVMContext &context,
                                               llvm::TargetMachine &machine) {
  OwningOpRef<ModuleOp> copy;
  std::optional<Stage> stage = mlir::delta::getStage(module);
  if (stage == Stage::Mapped) {
    copy = module.clone();
    if (failed(mlir::delta::lowerMappedGpuToLLVM(*copy)))
      return nullptr;
    module = *copy;
  } else if (stage != Stage::LLVM) {
    module.emitError() << "expects a module of stage mapped or llvm, but got "
                       << (stage ? mlir::delta::stringifyStage(*stage)
                                 : "one without a stage");
    return nullptr;
  }
  auto devices = module.getOps<mlir::gpu::GPUModuleOp>();
  if (!llvm::hasSingleElement(devices)) {
    module.emitError() << "expects one 'gpu.module', which holds the kernels";
    return nullptr;
  }
  DialectRegistry registry;
  registerTranslations(registry);
  module.getContext()->appendDialectRegistry(registry);
  mlir::gpu::GPUModuleOp device = *devices.begin();
  std::unique_ptr<llvm::Module> result =
      translateModuleToLLVMIR(device, context, device.getName());
  if (!result)
    return nullptr;
  result->setTargetTriple(machine.getTargetTriple());
  result->setDataLayout(machine.createDataLayout());
  optimise(*result, machine);
  return result;
}

/// Translates for the target that the signature names, and hands the result to
/// `body`.
static LogicalResult withLLVMIR(
    ModuleOp module,
    llvm::function_ref<LogicalResult(llvm::Module &, llvm::TargetMachine &)>
        body) {
  FailureOr<GpuTarget> target = mlir::delta::getGpuTarget(module);
  if (failed(target))
    return failure();
  llvm::Expected<std::unique_ptr<llvm::TargetMachine>> machine =
      target->createTargetMachine();
  if (!machine)
    return module.emitError() << llvm::toString(machine.takeError());
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> ir = translate(module, context, **machine);
  if (!ir)
    return failure();
  return body(*ir, **machine);
}

FailureOr<std::string> emitPtx(ModuleOp module) {
  llvm::SmallString<0> text;
  llvm::raw_svector_ostream stream(text);
  if (failed(withLLVMIR(
          module,
          [&](llvm::Module &ir, llvm::TargetMachine &machine) -> LogicalResult {
            llvm::legacy::PassManager codegen;
            if (machine.addPassesToEmitFile(
                    codegen, stream, nullptr,
                    llvm::CodeGenFileType::AssemblyFile))
              return module.emitError() << "cannot emit PTX for "
                                        << machine.getTargetTriple().str();
            codegen.run(ir);
            return success();
          })))
    return failure();
  return text.str().str();
}

FailureOr<std::string> emitLLVMIRText(ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  if (failed(withLLVMIR(module, [&](llvm::Module &ir, llvm::TargetMachine &) {
        ir.print(stream, nullptr);
        return success();
      })))
    return failure();
  return text;
}

} // namespace delta::gpu
