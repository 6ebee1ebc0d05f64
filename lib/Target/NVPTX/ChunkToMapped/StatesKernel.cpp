//===- StatesKernel.cpp - States between saved ones, again ----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Test: test/Target/NVPTX/ChunkToMapped/save-every.test
//
//===----------------------------------------------------------------------===//

#include "StatesKernel.h"
#include "Emitter.h"
#include "delta/Dialect/Delta/Transforms/Adjoint.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

func::FuncOp gpumap::getStatesProgram(ModuleOp module) {
  auto functions = module.getOps<func::FuncOp>();
  std::string name = ((*functions.begin()).getSymName() + kStatesSuffix).str();
  for (func::FuncOp function : functions)
    if (function.getSymName() == name)
      return function;
  return {};
}

FailureOr<StatesKernel> StatesKernel::add(ModuleOp module, func::FuncOp states,
                                          SignatureAttr signature,
                                          const OperandPolicy &policy,
                                          const ::delta::gpu::GpuTarget &target,
                                          StringRef name) {
  // What the program does not return is none of its outs.
  SmallVector<ArgAttr> args;
  for (ArgAttr arg : signature.getAllArgs())
    if (arg.getKind() != ArgKind::Out && arg.getKind() != ArgKind::Sum)
      args.push_back(arg);
  FailureOr<Program> program = Program::build(states, signature.withArgs(args));
  if (failed(program))
    return failure();
  FailureOr<GpuMapping> mapping =
      chooseMapping(*program, policy, target, GpuMapOptions());
  if (failed(mapping))
    return failure();

  const int64_t every = signature.getIntOption("save_every").value_or(1);
  GpuKernelFacts facts;
  facts.name = name.str();
  facts.threads = mapping->getThreads();
  facts.vBlocks = mapping->vBlocks;
  facts.tokens = every * program->chunk;
  GpuKernel kernel = createGpuKernel(
      module, signature, (*module.getOps<func::FuncOp>().begin()).getSymName(),
      facts, target);
  StatesKernel result;
  result.mapping = *mapping;
  result.element = policy.type;
  result.stateSize = program->stateRows * program->stateCols;
  GpuWorkspacePart space;
  space.tokens = program->chunk;
  space.bytes = llvm::alignTo(
      result.stateSize * policy.type.getIntOrFloatBitWidth() / 8, 16);
  result.part = addGpuWorkspacePart(module, space);

  Value saved = kernel.checkpoints;
  kernel.checkpoints = result.getStates(kernel);
  Arrays arrays(*program, *mapping, policy);
  Emitter(*program, *mapping, policy, arrays, kernel, states.getLoc())
      .emitStates(saved, every);
  return result;
}

Value StatesKernel::getStates(const GpuKernel &kernel) const {
  gpu::GPUFuncOp function = kernel.function;
  ImplicitLocOpBuilder b(function.getLoc(), function.getContext());
  b.setInsertionPointToStart(&function.getBody().front());
  Value chunks = arith::CeilDivUIOp::create(
      b, kernel.T, arith::ConstantIndexOp::create(b, 16));
  Value size = arith::MulIOp::create(
      b, arith::MulIOp::create(b, kernel.B, kernel.H),
      arith::MulIOp::create(b, chunks,
                            arith::ConstantIndexOp::create(b, stateSize)));
  return memref::ViewOp::create(
      b, MemRefType::get({ShapedType::kDynamic}, element), kernel.workspace,
      kernel.getWorkspaceOffset(b, part), size);
}
