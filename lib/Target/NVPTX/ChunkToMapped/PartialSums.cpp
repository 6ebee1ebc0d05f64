//===- PartialSums.cpp - Sums over CTAs, by way of the workspace ----------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PartialSums.h"
#include "ColumnBlocks.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

/// Tokens for which the workspace grows at once.
static constexpr int64_t kTokens = 16;

PartialSums::PartialSums(SignatureAttr signature, int64_t blocks)
    : blocks(blocks) {
  if (blocks == 1)
    return;
  for (ArgKind kind : {ArgKind::Out, ArgKind::Sum})
    for (auto [number, arg] : llvm::enumerate(signature.getArgs(kind))) {
      if (hasColumns(signature, arg))
        continue;
      Part part;
      part.arg = arg;
      part.result = number;
      part.ofTokens = kind == ArgKind::Out;
      for (StringAttr axis : arg.getAxes())
        part.elements *= *signature.getDim(axis);
      if (arg.getFamily())
        part.elements *= *signature.getDim(arg.getFamily());
      parts.push_back(part);
    }
}

void PartialSums::addWorkspace(ModuleOp module) {
  for (Part &part : parts) {
    GpuWorkspacePart space;
    space.tokens = part.ofTokens ? kTokens : 0;
    space.bytes = llvm::alignTo(
        4 * blocks * part.elements * (part.ofTokens ? kTokens : 1), 16);
    part.number = addGpuWorkspacePart(module, space);
  }
}

Value PartialSums::getSize(ImplicitLocOpBuilder &b, const GpuKernel &kernel,
                           const Part &part) {
  Value size = arith::ConstantIndexOp::create(b, part.elements);
  size = arith::MulIOp::create(b, size, kernel.B);
  size = arith::MulIOp::create(b, size, kernel.H);
  return part.ofTokens ? Value(arith::MulIOp::create(b, size, kernel.T)) : size;
}

Value PartialSums::getView(ImplicitLocOpBuilder &b, const GpuKernel &kernel,
                           const Part &part, Value size) const {
  Value all =
      arith::MulIOp::create(b, size, arith::ConstantIndexOp::create(b, blocks));
  return memref::ViewOp::create(
      b, MemRefType::get({ShapedType::kDynamic}, b.getF32Type()),
      kernel.workspace, kernel.getWorkspaceOffset(b, part.number), all);
}

std::pair<Value, Value> PartialSums::getArray(ImplicitLocOpBuilder &b,
                                              const GpuKernel &kernel,
                                              ArgAttr arg, Value block) const {
  for (const Part &part : parts)
    if (part.arg == arg) {
      Value size = getSize(b, kernel, part);
      return {getView(b, kernel, part, size),
              arith::MulIOp::create(b, block, size)};
    }
  return {};
}

GpuKernelFacts PartialSums::getFacts(StringRef name) {
  GpuKernelFacts facts;
  facts.name = (name + "_sum").str();
  facts.threads = 256;
  facts.vBlocks = 16; // CTAs for a head
  return facts;
}

/// All threads of the grid go through each array in turn, side by side.
void PartialSums::emitAdding(GpuKernel kernel,
                             const GpuKernelFacts &facts) const {
  ImplicitLocOpBuilder b(kernel.function.getLoc(),
                         kernel.function.getContext());
  b.setInsertionPoint(kernel.function.getBody().front().getTerminator());
  auto index = [&](int64_t value) -> Value {
    return arith::ConstantIndexOp::create(b, value);
  };
  Value threads = index(facts.threads);
  Value first = arith::AddIOp::create(
      b,
      arith::MulIOp::create(b, gpu::BlockIdOp::create(b, gpu::Dimension::x),
                            threads),
      gpu::ThreadIdOp::create(b, gpu::Dimension::x));
  Value heads = arith::MulIOp::create(b, kernel.B, kernel.H);
  Value step =
      arith::MulIOp::create(b, heads, index(facts.vBlocks * facts.threads));
  for (const Part &part : parts) {
    Value size = getSize(b, kernel, part);
    Value view = getView(b, kernel, part, size);
    auto loop = scf::ForOp::create(b, first, size, step);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value at = loop.getInductionVar(), sum;
    for (int64_t block = 0; block < blocks; ++block) {
      Value from = arith::AddIOp::create(
          b, at, arith::MulIOp::create(b, size, index(block)));
      Value addend = memref::LoadOp::create(b, view, from);
      sum = sum ? Value(arith::AddFOp::create(b, sum, addend)) : addend;
    }
    Value target = (part.ofTokens ? kernel.outs : kernel.sums)[part.result];
    if (!part.arg.getType().isF32())
      sum = arith::TruncFOp::create(b, part.arg.getType(), sum);
    memref::StoreOp::create(b, sum, target, at);
  }
}
