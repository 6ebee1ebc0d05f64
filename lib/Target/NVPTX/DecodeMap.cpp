//===- DecodeMap.cpp - The recurrent form on a GPU ------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Builds the kernel that runs token by token. With W warps in the CTA:
//
//   prepare tokens 0 .. W-1, one a warp;  S = initial state;  barrier
//   for windows of W tokens:
//     load the inputs of the next window's token of this warp
//     for the window's tokens:
//       z = S^T x, over this thread's rows, then over the lanes
//       c, outs = columns(z)
//       S = d .* S + y c^T
//     prepare the next window's token;  barrier
//   final state = S
//
// Windows alternate between two halves of shared memory, so one barrier keeps
// the half that is read apart from the half that is written.
//
// Test: test/Target/NVPTX/decode-map.mlir, decode-map-errors.mlir; numerics:
// test/python/test_gpu_decode.py.
//
//===----------------------------------------------------------------------===//

#include "DecodePlan.h"
#include "DecodeToken.h"
#include "delta/Target/CPU/Decode.h"
#include "delta/Target/NVPTX/Passes.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/CSE.h"

#define DEBUG_TYPE "delta-gpu-decode-map"

namespace mlir::delta {
#define GEN_PASS_DEF_GPUDECODEMAP
#include "delta/Target/NVPTX/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;

namespace {

class GpuDecodeMapper {
public:
  GpuDecodeMapper(const GpuDecodePlan &plan, const GpuKernel &kernel)
      : plan(plan), kernel(kernel), b(RecurrenceOp(plan.events).getLoc(),
                                      RecurrenceOp(plan.events).getContext()),
        token(plan, b, kernel) {}

  void build();

private:
  /// The thread's tile: rows of a quad within quads, columns fastest.
  using Tile = SmallVector<Value>;
  /// One value a column of the thread.
  using Columns = SmallVector<Value>;

  void placeThread();
  Tile emitInitialState();
  void emitFinalState(const Tile &state);
  Tile emitToken(Value at, Value base, Tile state);
  SmallVector<Columns> emitReads(Value base, const Tile &state);
  /// Prepares the warp's token of a window, if there is one.
  SmallVector<Value> emitLoads(Value at, Value isThere);
  void emitPrepare(Value at, Value isThere, ValueRange loads, Value half);

  /// Four elements of a vector over the rows.
  SmallVector<Value> loadQuad(Value base, Value vector, int64_t quad);
  size_t tileIndex(int64_t quad, int64_t row, int64_t column) const {
    return (quad * 4 + row) * plan.threadColumns + column;
  }
  size_t tileSize() const { return plan.quads * 4 * plan.threadColumns; }
  /// Row of the state that the thread holds there.
  Value getRow(int64_t quad, int64_t row) {
    return token.add(token.mul(rowLane, 4),
                     token.index(4 * plan.rowLanes * quad + row));
  }
  /// Can the row be beyond the state?
  bool isRagged(int64_t quad) const {
    return 4 * plan.rowLanes * (quad + 1) > plan.rows;
  }
  Value zero() { return arith::ConstantOp::create(b, b.getF32FloatAttr(0.0)); }
  Value land(Value x, Value y) {
    if (!x || !y)
      return x ? x : y;
    return arith::AndIOp::create(b, x, y);
  }
  Value tokenBase(Value half, Value slot) {
    Value tokens = token.add(token.mul(half, plan.warps), slot);
    return token.mul(tokens, plan.tokenFloats);
  }
  VectorType vectorOf(int64_t width, Type element) {
    return VectorType::get({width}, element);
  }

  const GpuDecodePlan &plan;
  const GpuKernel &kernel;
  ImplicitLocOpBuilder b;
  DecodeToken token;
  DecodePosition position;
  Value warp, rowLane;
  Value shared;
  Value localColumn; // first of the thread's columns in the block
  Value column;      // the same in the state
  Value stateBase;   // offset of the head's state
};

} // namespace

//===----------------------------------------------------------------------===//
// Threads
//===----------------------------------------------------------------------===//

void GpuDecodeMapper::placeThread() {
  Value thread = gpu::ThreadIdOp::create(b, gpu::Dimension::x);
  Value block = gpu::BlockIdOp::create(b, gpu::Dimension::x);
  position.lane = arith::RemUIOp::create(b, thread, token.index(kWarpSize));
  warp = arith::DivUIOp::create(b, thread, token.index(kWarpSize));
  rowLane =
      arith::DivUIOp::create(b, position.lane, token.index(plan.columnLanes));
  Value columnLane =
      arith::RemUIOp::create(b, position.lane, token.index(plan.columnLanes));
  // block = (sequence * H + head) * vBlocks + part
  Value pair = arith::DivUIOp::create(b, block, token.index(plan.vBlocks));
  Value part = arith::RemUIOp::create(b, block, token.index(plan.vBlocks));
  position.sequence = arith::DivUIOp::create(b, pair, kernel.H);
  position.head = arith::RemUIOp::create(b, pair, kernel.H);
  position.blockColumn = token.mul(part, plan.getBlockColumns());
  position.isFirstBlock =
      arith::CmpIOp::create(b, arith::CmpIPredicate::eq, part, token.index(0));
  localColumn =
      token.mul(token.add(token.mul(warp, plan.columnLanes), columnLane),
                plan.threadColumns);
  column = token.add(position.blockColumn, localColumn);
  stateBase = token.mul(pair, plan.rows * plan.columns);

  if (plan.tokenFloats == 0)
    return;
  auto space =
      gpu::AddressSpaceAttr::get(b.getContext(), gpu::AddressSpace::Workgroup);
  auto bytes = MemRefType::get({ShapedType::kDynamic}, b.getI8Type(),
                               MemRefLayoutAttrInterface(), space);
  auto floats = MemRefType::get({plan.getSharedBytes() / 4}, b.getF32Type(),
                                MemRefLayoutAttrInterface(), space);
  Value all = gpu::DynamicSharedMemoryOp::create(b, bytes);
  shared = memref::ViewOp::create(b, floats, all, token.index(0), ValueRange());
}

//===----------------------------------------------------------------------===//
// The state
//===----------------------------------------------------------------------===//

GpuDecodeMapper::Tile GpuDecodeMapper::emitInitialState() {
  Value address =
      memref::ExtractAlignedPointerAsIndexOp::create(b, kernel.initialState);
  Value isThere = arith::CmpIOp::create(b, arith::CmpIPredicate::ne, address,
                                        token.index(0));
  SmallVector<Type> types(tileSize(), b.getF32Type());
  auto choice = scf::IfOp::create(b, types, isThere, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(choice.elseBlock());
  scf::YieldOp::create(b, SmallVector<Value>(tileSize(), zero()));

  b.setInsertionPointToStart(choice.thenBlock());
  Type element = plan.signature.getState().getType();
  int64_t width = plan.stateWidth;
  Tile tile(tileSize());
  for (int64_t first = 0; first < plan.threadColumns; first += width) {
    // What is beyond the state is read from within, and zero.
    Value at = token.add(column, token.index(first)), columnInside;
    if (plan.getBlockColumns() * plan.vBlocks > plan.columns) {
      columnInside = token.less(at, plan.columns);
      at = arith::MinUIOp::create(b, at, token.index(plan.columns - width));
    }
    at = token.add(stateBase, at);
    for (int64_t quad = 0; quad < plan.quads; ++quad)
      for (int64_t r = 0; r < 4; ++r) {
        Value row = getRow(quad, r), inside = columnInside;
        if (isRagged(quad)) {
          inside = land(inside, token.less(row, plan.rows));
          row = arith::MinUIOp::create(b, row, token.index(plan.rows - 1));
        }
        Value offset = token.add(at, token.mul(row, plan.columns));
        auto load =
            vector::LoadOp::create(b, vectorOf(width, element),
                                   kernel.initialState, ValueRange(offset));
        load.setAlignment(width * element.getIntOrFloatBitWidth() / 8);
        for (int64_t c = 0; c < width; ++c) {
          Value value =
              token.widen(vector::ExtractOp::create(b, load.getResult(), c));
          if (inside)
            value = arith::SelectOp::create(b, inside, value, zero());
          tile[tileIndex(quad, r, first + c)] = value;
        }
      }
  }
  scf::YieldOp::create(b, tile);
  return llvm::to_vector_of<Value>(choice.getResults());
}

void GpuDecodeMapper::emitFinalState(const Tile &state) {
  Value address =
      memref::ExtractAlignedPointerAsIndexOp::create(b, kernel.finalState);
  Value isWanted = arith::CmpIOp::create(b, arith::CmpIPredicate::ne, address,
                                         token.index(0));
  Type element = plan.signature.getState().getType();
  int64_t width = plan.stateWidth;
  token.emitIf(isWanted, [&] {
    for (int64_t first = 0; first < plan.threadColumns; first += width) {
      Value at = token.add(column, token.index(first)), columnInside;
      if (plan.getBlockColumns() * plan.vBlocks > plan.columns)
        columnInside = token.less(at, plan.columns);
      token.emitIf(columnInside, [&] {
        for (int64_t quad = 0; quad < plan.quads; ++quad)
          for (int64_t r = 0; r < 4; ++r) {
            Value row = getRow(quad, r), inside;
            if (isRagged(quad))
              inside = token.less(row, plan.rows);
            token.emitIf(inside, [&] {
              SmallVector<Value> values;
              for (int64_t c = 0; c < width; ++c)
                values.push_back(token.narrow(
                    state[tileIndex(quad, r, first + c)], element));
              Value vector = vector::FromElementsOp::create(
                  b, vectorOf(width, element), values);
              Value offset = token.add(token.add(stateBase, at),
                                       token.mul(row, plan.columns));
              auto store = vector::StoreOp::create(b, vector, kernel.finalState,
                                                   ValueRange(offset));
              store.setAlignment(width * element.getIntOrFloatBitWidth() / 8);
            });
          }
      });
    }
  });
}

//===----------------------------------------------------------------------===//
// One token
//===----------------------------------------------------------------------===//

SmallVector<Value> GpuDecodeMapper::loadQuad(Value base, Value vector,
                                             int64_t quad) {
  int64_t slot = plan.rowSlots.find(vector)->second;
  Value at = token.add(token.add(base, token.mul(rowLane, 4)),
                       token.index(slot + 4 * plan.rowLanes * quad));
  auto load = vector::LoadOp::create(b, vectorOf(4, b.getF32Type()), shared,
                                     ValueRange(at));
  load.setAlignment(16);
  SmallVector<Value> values;
  for (int64_t r = 0; r < 4; ++r)
    values.push_back(vector::ExtractOp::create(b, load.getResult(), r));
  return values;
}

SmallVector<GpuDecodeMapper::Columns>
GpuDecodeMapper::emitReads(Value base, const Tile &state) {
  SmallVector<Columns> sums(plan.reads.size(),
                            Columns(plan.threadColumns, Value()));
  for (int64_t quad = 0; quad < plan.quads; ++quad)
    for (auto [read, sum] : llvm::zip(plan.reads, sums)) {
      SmallVector<Value> x = loadQuad(base, ReadOp(read).getX(), quad);
      for (int64_t r = 0; r < 4; ++r)
        for (int64_t c = 0; c < plan.threadColumns; ++c) {
          Value s = state[tileIndex(quad, r, c)];
          sum[c] = sum[c] ? math::FmaOp::create(b, x[r], s, sum[c]).getResult()
                          : arith::MulFOp::create(b, x[r], s).getResult();
        }
    }
  // Over the lanes that hold other rows of these columns; both partners of a
  // step add the same two numbers, so all of them agree.
  Value width = arith::ConstantIntOp::create(b, kWarpSize, 32);
  for (int64_t step = plan.columnLanes; step < kWarpSize; step *= 2) {
    Value offset = arith::ConstantIntOp::create(b, step, 32);
    for (Columns &sum : sums)
      for (Value &value : sum) {
        Value other = gpu::ShuffleOp::create(b, value, offset, width,
                                             gpu::ShuffleMode::XOR)
                          .getShuffleResult();
        value = arith::AddFOp::create(b, value, other);
      }
  }
  return sums;
}

GpuDecodeMapper::Tile GpuDecodeMapper::emitToken(Value at, Value base,
                                                 Tile state) {
  SmallVector<Columns> reads = emitReads(base, state);
  // Expressions over the columns: from reads, from shared memory, and what is
  // made of them.
  ValueMap scalars;
  SmallVector<ValueMap> memo(plan.threadColumns);
  for (auto [read, sums] : llvm::zip(plan.reads, reads))
    for (int64_t c = 0; c < plan.threadColumns; ++c)
      memo[c][ReadOp(read).getResult()] = sums[c];
  for (auto [vector, slot] : plan.columnSlots) {
    Value offset = token.add(base, token.add(localColumn, token.index(slot)));
    auto load =
        vector::LoadOp::create(b, vectorOf(plan.threadColumns, b.getF32Type()),
                               shared, ValueRange(offset));
    load.setAlignment(4 * plan.threadColumns);
    for (int64_t c = 0; c < plan.threadColumns; ++c)
      memo[c][vector] = vector::ExtractOp::create(b, load.getResult(), c);
  }
  std::function<Value(Value, int64_t)> evaluate = [&](Value value,
                                                      int64_t c) -> Value {
    if (Value known = memo[c].lookup(value))
      return known;
    if (auto broadcast = value.getDefiningOp<BroadcastOp>())
      return token.getScalar(broadcast.getInput(), shared, base, scalars);
    Operation *op = value.getDefiningOp();
    SmallVector<Value> operands;
    for (Value operand : op->getOperands())
      operands.push_back(evaluate(operand, c));
    return memo[c][value] = token.cloneElementwise(op, operands);
  };
  SmallVector<Columns> coefficients(plan.writes.size());
  for (auto [write, values] : llvm::zip(plan.writes, coefficients))
    for (int64_t c = 0; c < plan.threadColumns; ++c)
      values.push_back(evaluate(WriteOp(write).getC(), c));

  // One lane of those that share the columns stores the outs.
  ValueRange outs = RecurrenceOp(plan.events).getYield().getValues();
  SmallVector<Columns> given;
  for (unsigned out : plan.columnOuts) {
    Columns &values = given.emplace_back();
    for (int64_t c = 0; c < plan.threadColumns; ++c)
      values.push_back(evaluate(outs[out + 1], c));
  }
  int64_t width = plan.stateWidth;
  Value isFirst = arith::CmpIOp::create(b, arith::CmpIPredicate::eq, rowLane,
                                        token.index(0));
  if (!given.empty())
    for (int64_t first = 0; first < plan.threadColumns; first += width) {
      Value from = token.add(column, token.index(first)), stores = isFirst;
      if (plan.getBlockColumns() * plan.vBlocks > plan.columns)
        stores = land(stores, token.less(from, plan.columns));
      token.emitIf(stores, [&] {
        for (auto [out, values] : llvm::zip(plan.columnOuts, given)) {
          Value array = kernel.outs[out];
          Type element = cast<MemRefType>(array.getType()).getElementType();
          SmallVector<Value> narrow;
          for (int64_t c = 0; c < width; ++c)
            narrow.push_back(token.narrow(values[first + c], element));
          Value vector = vector::FromElementsOp::create(
              b, vectorOf(width, element), narrow);
          Value offset = token.add(token.getOutOffset(out, at), from);
          auto store =
              vector::StoreOp::create(b, vector, array, ValueRange(offset));
          store.setAlignment(width * element.getIntOrFloatBitWidth() / 8);
        }
      });
    }

  // The update.
  Value scalarDecay;
  if (plan.decay && isa<FloatType>(plan.decay.getType()))
    scalarDecay = token.getScalar(plan.decay, shared, base, scalars);
  for (int64_t quad = 0; quad < plan.quads; ++quad) {
    SmallVector<Value> decay(4, scalarDecay);
    if (plan.decay && !scalarDecay)
      decay = loadQuad(base, plan.decay, quad);
    SmallVector<SmallVector<Value>> factors;
    for (WriteOp write : plan.writes)
      factors.push_back(loadQuad(base, write.getY(), quad));
    for (int64_t r = 0; r < 4; ++r)
      for (int64_t c = 0; c < plan.threadColumns; ++c) {
        Value &s = state[tileIndex(quad, r, c)];
        if (plan.decay)
          s = arith::MulFOp::create(b, s, decay[r]);
        for (auto [y, values] : llvm::zip(factors, coefficients))
          s = math::FmaOp::create(b, y[r], values[c], s);
      }
  }
  return state;
}

//===----------------------------------------------------------------------===//
// Tokens
//===----------------------------------------------------------------------===//

SmallVector<Value> GpuDecodeMapper::emitLoads(Value at, Value isThere) {
  SmallVector<Type> types = token.getLoadTypes();
  if (types.empty())
    return {};
  auto choice = scf::IfOp::create(b, types, isThere, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(choice.elseBlock());
  SmallVector<Value> zeros;
  for (Type type : types)
    zeros.push_back(arith::ConstantOp::create(b, b.getZeroAttr(type)));
  scf::YieldOp::create(b, zeros);
  b.setInsertionPointToStart(choice.thenBlock());
  scf::YieldOp::create(b, token.emitLoads(at));
  return llvm::to_vector_of<Value>(choice.getResults());
}

void GpuDecodeMapper::emitPrepare(Value at, Value isThere, ValueRange loads,
                                  Value half) {
  token.emitIf(isThere, [&] {
    token.emitPrepare(at, loads, shared, tokenBase(half, warp));
  });
}

void GpuDecodeMapper::build() {
  using P = arith::CmpIPredicate;
  gpu::GPUFuncOp function = kernel.function;
  b.setInsertionPoint(function.getBody().front().getTerminator());
  placeThread();
  token.start(position);
  Value zeroIndex = token.index(0), one = token.index(1);
  Value window = token.index(plan.warps);

  Value isThere = arith::CmpIOp::create(b, P::ult, warp, kernel.T);
  SmallVector<Value> loads = emitLoads(warp, isThere);
  Tile state = emitInitialState();
  emitPrepare(warp, isThere, loads, zeroIndex);
  gpu::BarrierOp::create(b);

  SmallVector<Value> carried = state;
  carried.push_back(zeroIndex); // the half of shared memory
  auto windows = scf::ForOp::create(b, zeroIndex, kernel.T, window, carried);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(windows.getBody());
    Value first = windows.getInductionVar();
    Value half = windows.getRegionIterArgs().back();
    Value otherHalf = arith::XOrIOp::create(b, half, one);
    Value end = token.add(first, window);
    Value next = token.add(end, warp);
    Value nextIsThere = arith::CmpIOp::create(b, P::ult, next, kernel.T);
    SmallVector<Value> nextLoads = emitLoads(next, nextIsThere);

    Value stop = arith::MinUIOp::create(b, end, kernel.T);
    auto tokens = scf::ForOp::create(b, first, stop, one,
                                     windows.getRegionIterArgs().drop_back());
    {
      OpBuilder::InsertionGuard inner(b);
      b.setInsertionPointToStart(tokens.getBody());
      Value at = tokens.getInductionVar();
      Value base =
          tokenBase(half, arith::SubIOp::create(b, at, first).getResult());
      Tile tile = emitToken(
          at, base, llvm::to_vector_of<Value>(tokens.getRegionIterArgs()));
      scf::YieldOp::create(b, tile);
    }
    emitPrepare(next, nextIsThere, nextLoads, otherHalf);
    gpu::BarrierOp::create(b);
    SmallVector<Value> results = llvm::to_vector_of<Value>(tokens.getResults());
    results.push_back(otherHalf);
    scf::YieldOp::create(b, results);
  }
  emitFinalState(llvm::to_vector_of<Value>(windows.getResults().drop_back()));
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

LogicalResult
mlir::delta::convertEventsToGpuDecode(ModuleOp module,
                                      const ::delta::gpu::GpuTarget &target) {
  std::optional<Stage> stage = getStage(module);
  RecurrenceOp events = getRecurrence(module);
  if (stage != Stage::Events || !events)
    return module.emitError()
           << "expects a module of stage events, but got "
           << (stage ? stringifyStage(*stage) : "one without a stage");
  if (failed(hoistReads(events)))
    return failure();
  FailureOr<GpuDecodePlan> plan = planGpuDecode(module, target);
  if (failed(plan))
    return failure();

  Builder builder(module.getContext());
  SignatureAttr signature = plan->signature;
  for (auto [name, value] : {std::pair<StringRef, StringRef>{"fn", "decode"},
                             {"target", target.getName()},
                             {"compute", "f32"}})
    signature = signature.withOption(name, builder.getStringAttr(value));
  GpuKernelFacts facts;
  facts.name = getGpuEntryName(events.getSymName(), "decode");
  facts.threads = plan->getThreads();
  facts.sharedBytes = plan->getSharedBytes();
  facts.vBlocks = plan->vBlocks;
  GpuKernel kernel =
      createGpuKernel(module, signature, events.getSymName(), facts, target);
  GpuDecodeMapper(*plan, kernel).build();
  events.erase();
  setSignature(module, signature);
  setStage(module, Stage::Mapped);

  IRRewriter rewriter(module.getContext());
  DominanceInfo dominance(kernel.function);
  eliminateCommonSubExpressions(rewriter, dominance, kernel.function);
  return success();
}

namespace {
struct GpuDecodeMapPass
    : mlir::delta::impl::GpuDecodeMapBase<GpuDecodeMapPass> {
  using GpuDecodeMapBase::GpuDecodeMapBase;
  void runOnOperation() override {
    llvm::Expected<::delta::gpu::GpuTarget> found =
        ::delta::gpu::GpuTarget::get(target);
    if (!found) {
      getOperation().emitError() << llvm::toString(found.takeError());
      return signalPassFailure();
    }
    if (failed(convertEventsToGpuDecode(getOperation(), *found)))
      signalPassFailure();
  }
};
} // namespace
