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

/// Without outs, what they read is nobody's: pairs of decay-Grams, rows of
/// them.
void gpumap::dropUnusedPairs(func::FuncOp states) {
  for (auto gram :
       llvm::make_early_inc_range(states.front().getOps<DecayGramOp>())) {
    OpBuilder builder(gram);
    unsigned rows = gram.getRows().size(), cols = gram.getCols().size();
    auto isUsed = [&](unsigned a, unsigned b) {
      Value result = gram.getGram(a, b);
      return result && !result.use_empty();
    };
    SmallVector<unsigned> keptRows, keptCols;
    for (unsigned a = 0; a < rows; ++a)
      if (llvm::any_of(llvm::seq(cols),
                       [&](unsigned b) { return isUsed(a, b); }))
        keptRows.push_back(a);
    for (unsigned b = 0; b < cols; ++b)
      if (llvm::any_of(llvm::seq(rows),
                       [&](unsigned a) { return isUsed(a, b); }))
        keptCols.push_back(b);
    if (keptRows.empty()) {
      gram.erase();
      continue;
    }
    SmallVector<Value> x, y, results;
    SmallVector<int32_t> xAt, yAt;
    SmallVector<StringRef> masks;
    for (unsigned a : keptRows) {
      x.push_back(gram.getRows()[a]);
      xAt.push_back(gram.getRowPositions()[a]);
      for (unsigned b : keptCols) {
        masks.push_back(isUsed(a, b) ? gram.getMask(a, b) : "none");
        if (isUsed(a, b))
          results.push_back(gram.getGram(a, b));
      }
    }
    for (unsigned b : keptCols) {
      y.push_back(gram.getCols()[b]);
      yAt.push_back(gram.getColPositions()[b]);
    }
    auto smaller = DecayGramOp::create(
        builder, gram.getLoc(), ValueRange(results).getTypes(), x, y,
        gram.getDecay(), xAt, yAt, builder.getStrArrayAttr(masks),
        gram.getLeaf(), gram.getScheme());
    for (auto [from, to] : llvm::zip_equal(results, smaller.getGrams()))
      from.replaceAllUsesWith(to);
    gram.erase();
  }
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
  dropUnusedPairs(states);
  FailureOr<Program> program = Program::build(states, signature.withArgs(args));
  if (failed(program))
    return failure();
  // Its parts are many: one kernel makes them all at once.
  GpuMapOptions options;
  options.kernels = 1;
  FailureOr<GpuMapping> mapping =
      chooseMapping(*program, policy, target, options);
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

Value gpumap::viewStates(const GpuKernel &kernel, unsigned part, int64_t tokens,
                         int64_t stateSize, Type element) {
  gpu::GPUFuncOp function = kernel.function;
  ImplicitLocOpBuilder b(function.getLoc(), function.getContext());
  b.setInsertionPointToStart(&function.getBody().front());
  Value count = arith::CeilDivUIOp::create(
      b, kernel.T, arith::ConstantIndexOp::create(b, tokens));
  Value size = arith::MulIOp::create(
      b, arith::MulIOp::create(b, kernel.B, kernel.H),
      arith::MulIOp::create(b, count,
                            arith::ConstantIndexOp::create(b, stateSize)));
  return memref::ViewOp::create(
      b, MemRefType::get({ShapedType::kDynamic}, element), kernel.workspace,
      kernel.getWorkspaceOffset(b, part), size);
}

Value StatesKernel::getStates(const GpuKernel &kernel) const {
  return viewStates(kernel, part, 16, stateSize, element);
}
