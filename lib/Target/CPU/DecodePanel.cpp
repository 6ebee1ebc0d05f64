//===- DecodePanel.cpp - Passes over a panel of the state -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One pass goes over the rows of a panel, whose columns are in vectors: it
// updates the state, reads the next token's reads from it, and stores it. What
// is computed for the columns between two passes stays in registers.
//
//===----------------------------------------------------------------------===//

#include "DecodeMapper.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace mlir::delta;

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

SmallVector<Value>
DecodeMapper::emitIf(Value condition, TypeRange types,
                     function_ref<SmallVector<Value>()> thenBody,
                     function_ref<SmallVector<Value>()> elseBody) {
  auto op = scf::IfOp::create(b, types, condition, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.thenBlock());
  SmallVector<Value> results = thenBody();
  if (!types.empty())
    scf::YieldOp::create(b, results);
  b.setInsertionPointToStart(op.elseBlock());
  results = elseBody();
  if (!types.empty())
    scf::YieldOp::create(b, results);
  return llvm::to_vector_of<Value>(op.getResults());
}

void DecodeMapper::emitIf(Value condition, function_ref<void()> thenBody,
                          function_ref<void()> elseBody) {
  auto withoutResults = [](function_ref<void()> body) {
    return [body]() -> SmallVector<Value> {
      body();
      return {};
    };
  };
  emitIf(condition, {}, withoutResults(thenBody), withoutResults(elseBody));
}

void DecodeMapper::emitIf(Value condition, function_ref<void()> body) {
  auto op = scf::IfOp::create(b, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.thenBlock());
  body();
}

void DecodeMapper::emitFor(Value from, Value to,
                           function_ref<void(Value)> body) {
  auto op = scf::ForOp::create(b, from, to, values.index(1));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.getBody());
  body(op.getInductionVar());
}

SmallVector<Value> DecodeMapper::flatten(ArrayRef<Columns> reads,
                                         const Scalars *scalars) {
  SmallVector<Value> flat;
  for (const Columns &read : reads)
    flat.append(read.begin(), read.end());
  if (scalars)
    for (Value value : plan.carried)
      flat.push_back(scalars->lookup(value));
  return flat;
}

SmallVector<DecodeMapper::Columns>
DecodeMapper::unflattenReads(ValueRange flat) {
  SmallVector<Columns> reads;
  for (unsigned read = 0; read < plan.reads.size(); ++read)
    reads.push_back(llvm::to_vector_of<Value>(
        flat.slice(read * slices.size(), slices.size())));
  return reads;
}

Scalars DecodeMapper::unflattenScalars(ValueRange flat, const Scalars &like) {
  Scalars scalars = like;
  ValueRange tail = flat.take_back(plan.carried.size());
  for (auto [value, carried] : llvm::zip(plan.carried, tail))
    scalars[value] = carried;
  return scalars;
}

//===----------------------------------------------------------------------===//
// Passes over the panel
//===----------------------------------------------------------------------===//

SmallVector<DecodeMapper::Columns> DecodeMapper::emitPass(const Pass &pass) {
  unsigned numReads = pass.readToken ? plan.reads.size() : 0;
  SmallVector<Value> zeros;
  for (unsigned read = 0; read < numReads; ++read)
    for (Slice slice : slices)
      zeros.push_back(arith::ConstantOp::create(
          b, b.getZeroAttr(values.vectorOf(slice.width))));

  // The rows' factors, by where they lie.
  SmallVector<ArraySlice> reads, writes;
  std::optional<ArraySlice> decay;
  Value scalarDecay;
  if (pass.readToken)
    for (ReadOp read : plan.reads)
      reads.push_back(values.getRows(read.getX(), pass.readToken));
  if (pass.updateToken) {
    for (WriteOp write : plan.writes)
      writes.push_back(values.getRows(write.getY(), pass.updateToken));
    if (plan.decay && isa<FloatType>(plan.decay.getType()))
      scalarDecay = pass.scalars->lookup(plan.decay);
    else if (plan.decay)
      decay = values.getRows(plan.decay, pass.updateToken);
  }

  auto loop = scf::ForOp::create(b, values.index(0), values.index(plan.rows),
                                 values.index(1), zeros);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  Value row = loop.getInductionVar();
  auto factor = [&](const ArraySlice &rows) {
    return values.loadScalar(rows.memref, values.add(rows.base, row));
  };
  if (decay)
    scalarDecay = factor(*decay);
  SmallVector<Value> writeFactors, readFactors;
  for (const ArraySlice &rows : writes)
    writeFactors.push_back(factor(rows));
  for (const ArraySlice &rows : reads)
    readFactors.push_back(factor(rows));

  auto at = [&](const Panel &panel, int64_t offset) {
    Value start = values.add(panel.base, values.mul(row, panel.stride));
    return values.add(start, values.index(offset));
  };
  SmallVector<Value> sums(loop.getRegionIterArgs().begin(),
                          loop.getRegionIterArgs().end());
  for (auto [position, slice] : llvm::enumerate(slices)) {
    Value m;
    if (pass.from)
      m = values.load(pass.from->memref, at(*pass.from, slice.offset),
                      slice.width);
    else
      m = arith::ConstantOp::create(
          b, b.getZeroAttr(values.vectorOf(slice.width)));
    if (scalarDecay)
      m = arith::MulFOp::create(b, m,
                                values.broadcast(scalarDecay, slice.width));
    for (auto [index, y] : llvm::enumerate(writeFactors))
      m = math::FmaOp::create(b, values.broadcast(y, slice.width),
                              pass.coefficients[index][position], m);
    if (pass.to)
      values.store(m, pass.to->memref, at(*pass.to, slice.offset),
                   pass.streaming);
    for (auto [index, x] : llvm::enumerate(readFactors)) {
      Value &sum = sums[index * slices.size() + position];
      sum = math::FmaOp::create(b, values.broadcast(x, slice.width), m, sum);
    }
  }
  if (!sums.empty())
    scf::YieldOp::create(b, sums);
  if (!pass.readToken)
    return {};
  return unflattenReads(loop.getResults());
}

void DecodeMapper::emitFinalPass(Pass pass) {
  // Streaming stores need vectors that never straddle their own alignment, and
  // pay only in long pieces.
  int64_t width = slices.back().offset + slices.back().width;
  if (plan.columns % plan.lanes != 0 || width < plan.wideColumns) {
    emitPass(pass);
    return;
  }
  emitIf(
      streaming,
      [&] {
        pass.streaming = true;
        emitPass(pass);
      },
      [&] {
        pass.streaming = false;
        emitPass(pass);
      });
}

SmallVector<DecodeMapper::Columns>
DecodeMapper::emitColumns(Value token, ArrayRef<Columns> reads,
                          const Scalars &scalars) {
  SmallVector<Columns> coefficients(plan.writes.size());
  ValueRange outs = RecurrenceOp(plan.events).getYield().getValues();
  for (auto [position, slice] : llvm::enumerate(slices)) {
    DenseMap<Value, Value> memo;
    for (auto [index, read] : llvm::enumerate(plan.reads))
      memo[ReadOp(read).getResult()] = reads[index][position];
    Value first = values.add(column, values.index(slice.offset));
    auto get = [&](Value vector) {
      return values.evaluate(vector, first, slice.width, token, scalars, memo,
                             /*level=*/-1);
    };
    for (auto [index, write] : llvm::enumerate(plan.writes))
      coefficients[index].push_back(get(WriteOp(write).getC()));
    for (unsigned out : plan.columnOuts) {
      Value at = values.add(values.getOutOffset(out, token), first);
      values.store(get(outs[out + 1]), args.outs[out], at);
    }
  }
  return coefficients;
}
