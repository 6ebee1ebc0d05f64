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

#include <numeric>

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

/// Tokens for which the workspace grows at once.
static constexpr int64_t kTokens = 16;

PartialSums::PartialSums(SignatureAttr signature, int64_t blocks,
                         int64_t segmentTokens)
    : blocks(blocks), segmentTokens(segmentTokens) {
  for (ArgKind kind : {ArgKind::Out, ArgKind::Sum})
    for (auto [number, arg] : llvm::enumerate(signature.getArgs(kind))) {
      Part part;
      part.arg = arg;
      part.result = number;
      part.ofTokens = kind == ArgKind::Out;
      part.ofBlocks = blocks > 1 && !hasColumns(signature, arg);
      if (!part.ofBlocks && (part.ofTokens || !segmentTokens))
        continue;
      for (StringAttr axis : arg.getAxes())
        part.width *= *signature.getDim(axis);
      if (arg.getFamily())
        part.family = *signature.getDim(arg.getFamily());
      // Stores are as wide as the channels allow.
      Record &record = records[part.ofTokens];
      part.slot = llvm::alignTo(record.size, std::gcd(part.width, int64_t(16)));
      record.size = part.slot + part.family * part.width;
      parts.push_back(part);
    }
  int64_t alignment = 1;
  for (const Part &part : parts)
    if (part.ofTokens)
      alignment = std::max(alignment, std::gcd(part.width, int64_t(16)));
  records[1].size = llvm::alignTo(records[1].size, alignment);
}

void PartialSums::addWorkspace(ModuleOp module) {
  for (bool ofTokens : {true, false}) {
    Record &record = records[ofTokens];
    if (!record.size)
      continue;
    GpuWorkspacePart space;
    space.tokens = ofTokens ? kTokens : segmentTokens;
    space.bytes =
        llvm::alignTo(4 * blocks * record.size * (ofTokens ? kTokens : 1), 16);
    record.number = addGpuWorkspacePart(module, space);
  }
}

Value PartialSums::countRows(ImplicitLocOpBuilder &b, const GpuKernel &kernel,
                             const Part &part) {
  Value rows = arith::MulIOp::create(b, kernel.B, kernel.H);
  return part.ofTokens ? Value(arith::MulIOp::create(b, rows, kernel.T)) : rows;
}

Value PartialSums::countSegments(ImplicitLocOpBuilder &b,
                                 const GpuKernel &kernel,
                                 const Part &part) const {
  if (part.ofTokens || !segmentTokens)
    return {};
  return arith::CeilDivUIOp::create(
      b, kernel.T, arith::ConstantIndexOp::create(b, segmentTokens));
}

Value PartialSums::getView(ImplicitLocOpBuilder &b, const GpuKernel &kernel,
                           const Part &part, Value block) const {
  auto index = [&](int64_t value) -> Value {
    return arith::ConstantIndexOp::create(b, value);
  };
  const Record &record = getRecord(part);
  Value rows = countRows(b, kernel, part);
  if (Value segments = countSegments(b, kernel, part))
    rows = arith::MulIOp::create(b, rows, segments);
  Value size = arith::MulIOp::create(b, rows, index(record.size));
  Value first = kernel.getWorkspaceOffset(b, record.number);
  if (block)
    first = arith::AddIOp::create(
        b, first,
        arith::MulIOp::create(b, arith::MulIOp::create(b, block, size),
                              index(4)));
  else
    size = arith::MulIOp::create(b, size, index(blocks));
  return memref::ViewOp::create(
      b, MemRefType::get({ShapedType::kDynamic}, b.getF32Type()),
      kernel.workspace, first, size);
}

std::optional<PartialPlace> PartialSums::getPlace(ImplicitLocOpBuilder &b,
                                                  const GpuKernel &kernel,
                                                  ArgAttr arg, int64_t micro,
                                                  Value block, Value row,
                                                  Value segment) const {
  for (const Part &part : parts)
    if (part.arg == arg) {
      auto index = [&](int64_t value) -> Value {
        return arith::ConstantIndexOp::create(b, value);
      };
      int64_t size = getRecord(part).size;
      if (Value segments = countSegments(b, kernel, part))
        row = arith::AddIOp::create(b, arith::MulIOp::create(b, row, segments),
                                    segment);
      if (!part.ofBlocks)
        block = {};
      Value offset =
          arith::AddIOp::create(b, arith::MulIOp::create(b, row, index(size)),
                                index(part.slot + micro * part.width));
      return PartialPlace{getView(b, kernel, part, block), offset,
                          arith::MulIOp::create(b, kernel.H, index(size))};
    }
  return std::nullopt;
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
  auto remainder = [&](Value &value, Value divisor) -> Value {
    Value rest = arith::RemUIOp::create(b, value, divisor);
    value = arith::DivUIOp::create(b, value, divisor);
    return rest;
  };
  for (const Part &part : parts) {
    const int64_t size = getRecord(part).size;
    Value rows = countRows(b, kernel, part);
    Value all = getView(b, kernel, part, /*block=*/Value());
    Value count =
        arith::MulIOp::create(b, rows, index(part.family * part.width));
    auto loop = scf::ForOp::create(b, first, count, step);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    // [B, T, n, H, width] here, [B, T, H, n, width] there.
    Value row = loop.getInductionVar();
    Value at = remainder(row, index(part.width));
    if (part.family > 1) {
      Value head = remainder(row, kernel.H);
      at = arith::AddIOp::create(
          b, at,
          arith::MulIOp::create(b, remainder(row, index(part.family)),
                                index(part.width)));
      row = arith::AddIOp::create(b, arith::MulIOp::create(b, row, kernel.H),
                                  head);
    }
    at = arith::AddIOp::create(b, at, index(part.slot));
    Value segments = countSegments(b, kernel, part);
    if (segments) {
      rows = arith::MulIOp::create(b, rows, segments);
      row = arith::MulIOp::create(b, row, segments);
    }
    at = arith::AddIOp::create(b, at,
                               arith::MulIOp::create(b, row, index(size)));
    Value blockSize = arith::MulIOp::create(b, rows, index(size));
    auto addBlocks = [&](Value sum, Value first) {
      for (int64_t block = 0; block < countBlocks(part); ++block) {
        Value from = arith::AddIOp::create(
            b, first, arith::MulIOp::create(b, blockSize, index(block)));
        Value addend = memref::LoadOp::create(b, all, from);
        sum = sum ? Value(arith::AddFOp::create(b, sum, addend)) : addend;
      }
      return sum;
    };
    Value sum;
    if (segments) {
      Value zero = arith::ConstantOp::create(b, b.getF32FloatAttr(0.0f));
      auto each = scf::ForOp::create(b, index(0), segments, index(1), zero);
      OpBuilder::InsertionGuard inner(b);
      b.setInsertionPointToStart(each.getBody());
      Value from = arith::AddIOp::create(
          b, at, arith::MulIOp::create(b, each.getInductionVar(), index(size)));
      scf::YieldOp::create(b, addBlocks(each.getRegionIterArg(0), from));
      sum = each.getResult(0);
    } else {
      sum = addBlocks({}, at);
    }
    Value target = (part.ofTokens ? kernel.outs : kernel.sums)[part.result];
    if (!part.arg.getType().isF32())
      sum = arith::TruncFOp::create(b, part.arg.getType(), sum);
    memref::StoreOp::create(b, sum, target, loop.getInductionVar());
  }
}
