//===- LlvmCodegen.cpp - From stage llvm to machine code ------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The passes over LLVM IR are few, chosen for compile time: a kernel arrives
// vectorised and unrolled, so what is left to do is to clean up addresses, to
// keep values in registers and to hoist what does not vary.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Target/CPU/Codegen.h"
#include "delta/Target/CPU/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/Analysis/TargetTransformInfo.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/SmallVectorMemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"

#define DEBUG_TYPE "delta-cpu-codegen"

using namespace mlir;

namespace delta::cpu {

void registerTranslations(DialectRegistry &registry) {
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
}

std::string getKernelName(ModuleOp module) {
  for (Operation &op : module.getOps())
    if (op.hasAttr("delta.workspace"))
      if (auto name = op.getAttrOfType<StringAttr>("sym_name"))
        return name.getValue().str();
  return {};
}

std::string getEntryName(ModuleOp module) {
  mlir::delta::SignatureAttr signature = mlir::delta::getSignature(module);
  bool backward = signature && signature.getOption("fn") == "backward";
  return "delta_" + getKernelName(module) + (backward ? "_backward" : "");
}

/// Without fused multiply-add in hardware llvm.fma is a call of libm for each
/// lane; nothing in a kernel depends on the single rounding.
static void relaxFma(llvm::Module &module) {
  for (llvm::Function &function : module)
    for (llvm::BasicBlock &block : function)
      for (llvm::Instruction &inst : llvm::make_early_inc_range(block)) {
        auto *call = llvm::dyn_cast<llvm::IntrinsicInst>(&inst);
        if (!call || call->getIntrinsicID() != llvm::Intrinsic::fma)
          continue;
        llvm::IRBuilder<> builder(call);
        llvm::Value *product =
            builder.CreateFMul(call->getArgOperand(0), call->getArgOperand(1));
        llvm::Value *sum = builder.CreateFAdd(product, call->getArgOperand(2));
        call->replaceAllUsesWith(sum);
        call->eraseFromParent();
      }
}

static LogicalResult optimise(llvm::Module &module,
                              llvm::TargetMachine &machine) {
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
  llvm::ModulePassManager passes;
  const char *pipeline =
      "function(sroa,early-cse<memssa>,simplifycfg,instcombine<no-verify-"
      "fixpoint>,loop-mssa(loop-rotate,licm),gvn,dse,"
      "loop-mssa(licm),instcombine<no-verify-fixpoint>,simplifycfg,adce)";
  if (llvm::Error error = builder.parsePassPipeline(passes, pipeline)) {
    llvm::consumeError(std::move(error));
    return failure();
  }
  passes.run(module, modules);
  return success();
}

std::unique_ptr<llvm::Module> translateToLLVMIR(ModuleOp module,
                                                llvm::LLVMContext &context,
                                                const CpuTarget &target,
                                                llvm::TargetMachine &machine) {
  OwningOpRef<ModuleOp> copy;
  std::optional<mlir::delta::Stage> stage = mlir::delta::getStage(module);
  if (stage == mlir::delta::Stage::Mapped) {
    copy = module.clone();
    if (failed(mlir::delta::lowerMappedToLLVM(*copy, target)))
      return nullptr;
    module = *copy;
  } else if (stage != mlir::delta::Stage::LLVM) {
    module.emitError() << "expects a module of stage mapped or llvm, but got "
                       << (stage ? mlir::delta::stringifyStage(*stage)
                                 : "one without a stage");
    return nullptr;
  }
  DialectRegistry registry;
  registerTranslations(registry);
  module.getContext()->appendDialectRegistry(registry);
  std::unique_ptr<llvm::Module> result =
      translateModuleToLLVMIR(module, context, getKernelName(module));
  if (!result)
    return nullptr;
  result->setTargetTriple(machine.getTargetTriple());
  result->setDataLayout(machine.createDataLayout());
  if (!target.hasFma())
    relaxFma(*result);
  if (failed(optimise(*result, machine))) {
    module.emitError() << "this LLVM does not know the optimisations asked for";
    return nullptr;
  }
  return result;
}

/// Runs `use` on the optimised LLVM IR of a module and its machine.
static LogicalResult withLLVMIR(
    ModuleOp module, const CpuTarget &target,
    llvm::function_ref<LogicalResult(llvm::Module &, llvm::TargetMachine &)>
        use) {
  llvm::Expected<std::unique_ptr<llvm::TargetMachine>> machine =
      target.createTargetMachine();
  if (!machine)
    return module.emitError() << llvm::toString(machine.takeError());
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> ir =
      translateToLLVMIR(module, context, target, **machine);
  return ir ? use(*ir, **machine) : failure();
}

/// Runs the code generator into `stream`.
static LogicalResult emit(ModuleOp module, const CpuTarget &target,
                          llvm::CodeGenFileType type,
                          llvm::raw_pwrite_stream &stream) {
  return withLLVMIR(
      module, target,
      [&](llvm::Module &ir, llvm::TargetMachine &machine) -> LogicalResult {
        llvm::legacy::PassManager codegen;
        if (machine.addPassesToEmitFile(codegen, stream, nullptr, type))
          return module.emitError()
                 << "cannot emit code for " << machine.getTargetTriple().str();
        codegen.run(ir);
        return success();
      });
}

FailureOr<llvm::SmallVector<char, 0>> compileToObject(ModuleOp module,
                                                      const CpuTarget &target) {
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  if (failed(emit(module, target, llvm::CodeGenFileType::ObjectFile, stream)))
    return failure();
  return bytes;
}

FailureOr<std::string> compileToAssembly(ModuleOp module,
                                         const CpuTarget &target) {
  llvm::SmallString<0> text;
  llvm::raw_svector_ostream stream(text);
  if (failed(emit(module, target, llvm::CodeGenFileType::AssemblyFile, stream)))
    return failure();
  return text.str().str();
}

FailureOr<std::string> compileToLLVMIRText(ModuleOp module,
                                           const CpuTarget &target) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  if (failed(withLLVMIR(module, target,
                        [&](llvm::Module &ir, llvm::TargetMachine &) {
                          ir.print(stream, nullptr);
                          return success();
                        })))
    return failure();
  return text;
}

} // namespace delta::cpu
