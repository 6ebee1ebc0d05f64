//===- CotangentsKernel.cpp - The state's cotangent, segment by segment ---===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Test: test/Target/NVPTX/ChunkToMapped/segments.test
//
//===----------------------------------------------------------------------===//

#include "CotangentsKernel.h"
#include "Emitter.h"
#include "StatesKernel.h"
#include "delta/Dialect/Delta/Transforms/Adjoint.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

static constexpr llvm::StringLiteral kSuffix = "_cotangents";

func::FuncOp gpumap::getCotangentsProgram(ModuleOp module) {
  auto functions = module.getOps<func::FuncOp>();
  std::string name = ((*functions.begin()).getSymName() + kSuffix).str();
  for (func::FuncOp function : functions)
    if (function.getSymName() == name)
      return function;
  return {};
}

static void eraseDeadOps(func::FuncOp program) {
  for (Operation &op :
       llvm::make_early_inc_range(llvm::reverse(program.front())))
    if (isOpTriviallyDead(&op))
      op.erase();
}

LogicalResult gpumap::addCotangentsProgram(ModuleOp module) {
  func::FuncOp backward = *module.getOps<func::FuncOp>().begin();
  OpBuilder builder(module.getContext());
  builder.setInsertionPointToEnd(module.getBody());
  auto program = cast<func::FuncOp>(builder.clone(*backward));
  program.setSymName((backward.getSymName() + kSuffix).str());
  Operation *terminator = program.front().getTerminator();
  terminator->setOperands(terminator->getOperand(0));
  program.setFunctionType(FunctionType::get(program.getContext(),
                                            program.getArgumentTypes(),
                                            terminator->getOperandTypes()));
  program.setAllResultAttrs(
      ArrayRef<DictionaryAttr>(builder.getDictionaryAttr({})));
  eraseDeadOps(program);
  dropUnusedPairs(program);
  eraseDeadOps(program);
  // The saved states, which the cotangent of a linear update does not want.
  for (unsigned number = program.getNumArguments(); number-- > 0;) {
    auto name = program.getArgAttrOfType<StringAttr>(number, kArgNameAttr);
    ArgAttr arg =
        name ? getSignature(module).lookup(name.getValue()) : ArgAttr();
    if (!arg || arg.getKind() != ArgKind::Checkpoint)
      continue;
    if (!program.getArgument(number).use_empty())
      return program.emitError(
          "the state's cotangent depends on the states before it");
    if (failed(program.eraseArgument(number)))
      return failure();
  }
  return success();
}

/// The signature with what the program reads and returns.
static SignatureAttr getSignatureOf(SignatureAttr signature) {
  SmallVector<ArgAttr> args;
  for (ArgAttr arg : signature.getAllArgs())
    if (arg.getKind() != ArgKind::Out && arg.getKind() != ArgKind::Sum &&
        arg.getKind() != ArgKind::Checkpoint)
      args.push_back(arg);
  return signature.withArgs(args);
}

static FailureOr<Candidate> chooseFor(const Program &program,
                                      const OperandPolicy &policy,
                                      const ::delta::gpu::GpuTarget &target,
                                      const GpuMapOptions &options) {
  GpuMapOptions free;
  free.sequences = options.sequences;
  free.tokens = options.tokens;
  return chooseCandidate(program, policy, target, free);
}

FailureOr<Candidate>
CotangentsKernel::choose(func::FuncOp cotangents, SignatureAttr signature,
                         const OperandPolicy &policy,
                         const ::delta::gpu::GpuTarget &target,
                         const GpuMapOptions &options) {
  FailureOr<Program> program =
      Program::build(cotangents, getSignatureOf(signature));
  if (failed(program))
    return failure();
  return chooseFor(*program, policy, target, options);
}

FailureOr<CotangentsKernel> CotangentsKernel::add(
    ModuleOp module, func::FuncOp cotangents, SignatureAttr signature,
    const OperandPolicy &policy, const ::delta::gpu::GpuTarget &target,
    const GpuMapOptions &options, int64_t segment, StringRef name) {
  FailureOr<Program> program =
      Program::build(cotangents, getSignatureOf(signature));
  if (failed(program))
    return failure();
  FailureOr<Candidate> chosen = chooseFor(*program, policy, target, options);
  if (failed(chosen))
    return failure();

  CotangentsKernel result;
  result.stateSize = program->stateRows * program->stateCols;
  result.tokens = segment * program->chunk;
  unsigned records = 0;
  bool isFirst = true;
  auto emit = [&](const GpuMapping &mapping, GpuKernelFacts facts) {
    facts.threads = mapping.getThreads();
    facts.vBlocks = mapping.vBlocks;
    GpuKernel kernel = createGpuKernel(
        module, signature,
        (*module.getOps<func::FuncOp>().begin()).getSymName(), facts, target);
    // States are read by the kernel behind these, and saved by none.
    kernel.checkpoints = {};
    if (isFirst)
      result.part = addGpuWorkspacePart(
          module,
          {static_cast<int64_t>(llvm::alignTo(4 * result.stateSize, 16)),
           /*ofB=*/true, /*ofH=*/true, result.tokens});
    isFirst = false;
    Arrays arrays(*program, mapping, policy);
    if (mapping.slices == Slices::Free)
      records = addGpuWorkspacePart(module, {arrays.recordBytes, /*ofB=*/true,
                                             /*ofH=*/true, program->chunk});
    Emitter emitter(*program, mapping, policy, arrays, kernel,
                    cotangents.getLoc());
    emitter.setRecordPart(records);
    if (mapping.slices == Slices::Free)
      emitter.emitKernel();
    else
      emitter.emitSegments(result.part, segment);
  };
  const GpuMapping &mapping = chosen->mapping;
  GpuKernelFacts facts;
  facts.name = name.str();
  if (mapping.kernels == 2) {
    GpuKernelFacts first;
    first.name = (name + "_free").str();
    first.minCtas = mapping.freeCtas;
    first.tokens = program->chunk * mapping.freeWindow;
    emit(mapping.getFreeMapping(program->stateCols), first);
    emit(mapping.getStateMapping(), facts);
  } else {
    emit(mapping, facts);
  }
  return result;
}

Value CotangentsKernel::getStates(const GpuKernel &kernel) const {
  return viewStates(kernel, part, tokens, stateSize,
                    Float32Type::get(kernel.T.getContext()));
}
