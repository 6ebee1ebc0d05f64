//===- EmitKernel.cpp - The skeleton of a kernel --------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The loops around the units:
//
//   for item in [begin, end):              batch, head, block of panels
//     panels of the state <- initial state or 0;  hoisted units
//     for chunk in [0, ceil(T / C)):
//       free units
//       for panel of this block:  panel units
//     final state <- panels
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "delta/Target/CPU/KernelArrays.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

func::FuncOp Emitter::emitKernel() {
  SmallVector<Type> types;
  auto addArray = [&](ArgAttr arg) {
    types.push_back(MemRefType::get({ShapedType::kDynamic}, arg.getType()));
  };
  SignatureAttr signature = plan.signature;
  for (ArgAttr arg : getInputArrays(signature))
    addArray(arg);
  addArray(signature.getState());
  for (ArgAttr arg : getOutputArrays(signature))
    addArray(arg);
  addArray(signature.getState());
  types.append(signature.getArgs(ArgKind::Attr).size(), b.getF64Type());
  types.append(3, b.getIndexType());
  types.append(2, b.getI1Type());
  types.push_back(MemRefType::get({ShapedType::kDynamic}, b.getIntegerType(8)));
  types.append(3, b.getIndexType());

  func::FuncOp source = plan.function;
  loc = source.getLoc();
  kernel = func::FuncOp::create(b, loc, source.getSymName(),
                                b.getFunctionType(types, {}));
  kernel->setAttr("delta.workspace", b.getI64IntegerAttr(plan.arenaBytes));
  kernel->setAttr("delta.panels", b.getI64IntegerAttr(g.panels()));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(kernel.addEntryBlock());
  bindArguments();
  loop(begin, end, 1, ValueRange{},
       [&](Value item, ValueRange) -> SmallVector<Value> {
         emitItem(item);
         return {};
       });
  func::ReturnOp::create(b, loc);
  return kernel;
}

void Emitter::bindArguments() {
  SignatureAttr signature = plan.signature;
  unsigned next = 0;
  auto take = [&]() -> Value { return kernel.getArgument(next++); };
  for (ArgAttr arg : getInputArrays(signature))
    byName[arg.getName()] = take();
  init = take();
  for (unsigned i = 0; i < getOutputArrays(signature).size(); ++i)
    outArrays.push_back(take());
  final = take();
  for (ArgAttr arg : signature.getArgs(ArgKind::Attr))
    byName[arg.getName()] = convert(take(), g.compute);
  sequences = take();
  numTokens = take();
  heads = take();
  hasInit = take();
  hasFinal = take();
  arena = take();
  begin = take();
  end = take();
  vblocks = take();
  bindProgram();
  findStreams();
  if (plan.states) {
    states = std::make_unique<Emitter>(*plan.states, b, plan.statesByte);
    states->join(*this);
  }
}

void Emitter::join(const Emitter &main) {
  kernel = main.kernel;
  loc = main.loc;
  arena = main.arena;
  byName = main.byName;
  numTokens = main.numTokens;
  heads = main.heads;
  bindProgram();
}

void Emitter::bindProgram() {
  func::FuncOp source = plan.function;
  for (BlockArgument argument : source.getArguments()) {
    ArgAttr arg = plan.getArg(argument);
    if (!arg || argument == plan.state)
      continue;
    Value bound = byName.lookup(arg.getName());
    if (arg.getKind() == ArgKind::Attr)
      scalars[argument] = bound;
    else
      arrays[argument] = bound;
  }
}

void Emitter::emitUnits(Slice slice) {
  for (const Unit &unit : plan.units) {
    if (unit.slice != slice)
      continue;
    if (unit.others.empty())
      emitUnit(unit);
    else
      emitFamily(unit);
  }
}

int64_t Emitter::getPrefetchSteps(const Unit &unit) const {
  Slice slice = plan.isWhole ? Slice::Free : Slice::Panel;
  if (unit.kind != Unit::Matmul || unit.slice != slice)
    return 0;
  auto [rows, cols] = getShape(unit.getChainResult());
  int64_t tiles = rows / g.tileRows;
  return plan.isWhole ? tiles * (cols / (g.kFreeVectors * g.lanes)) : tiles;
}

void Emitter::emitUnit(const Unit &unit) {
  switch (unit.kind) {
  case Unit::Scalar:
    emitScalar(unit);
    break;
  case Unit::Copy:
    emitCopy(unit);
    break;
  case Unit::Elementwise:
    emitElementwise(unit);
    break;
  case Unit::Matmul:
    emitMatmul(unit);
    break;
  case Unit::Dot:
    emitDot(unit);
    break;
  case Unit::Gram:
    emitGram(unit);
    break;
  case Unit::Solve:
    emitSolve(unit);
    break;
  case Unit::Sum:
    emitSum(unit);
    break;
  case Unit::VectorScan:
    emitVectorScan(unit);
    break;
  case Unit::OutScalars:
    emitOutScalars(unit);
    break;
  case Unit::SumScalar:
    emitSumScalar(unit);
    break;
  case Unit::Transpose:
    emitTranspose(unit);
    break;
  case Unit::Diagonal:
    emitDiagonal(unit);
    break;
  case Unit::GramAdjoint:
    emitGramAdjoint(unit);
    break;
  }
}

//===----------------------------------------------------------------------===//
// Panels and the state
//===----------------------------------------------------------------------===//

void Emitter::forEachPanel(llvm::function_ref<void()> body) {
  int64_t bytes = g.stateRows * g.panelWidth() * g.elementBytes();
  loop(firstPanel, lastPanel, 1, ValueRange{},
       [&](Value panel, ValueRange) -> SmallVector<Value> {
         colBase = mul(panel, g.panelWidth());
         Value shift = add(mul(panel, bytes),
                           plan.slots[plan.stateSlot].offset + arenaByte);
         stateView = memref::ViewOp::create(
             b, loc, MemRefType::get({g.stateRows, g.panelWidth()}, g.compute),
             arena, shift, ValueRange{});
         body();
         return {};
       });
  colBase = stateView = Value();
}

/// Calls `body(row, column in the panel, element of the array, mask)` for each
/// vector of the state; the mask is null when all lanes exist. The state begins
/// at element `base` of the array.
void Emitter::emitStateRows(
    Value base, llvm::function_ref<void(Value, Value, Value, Value)> body) {
  forEachPanel([&]() {
    SmallVector<Value> masks(g.panelVectors);
    if (g.hasPartialPanel())
      for (int64_t v = 0; v < g.panelVectors; ++v)
        masks[v] = dynamicMask(sub(idx(g.stateCols), add(colBase, v * g.lanes)),
                               g.lanes);
    loop(0, g.stateRows, 1, [&](Value row) {
      Value at = add(add(base, mul(row, g.stateCols)), colBase);
      for (int64_t v = 0; v < g.panelVectors; ++v)
        body(row, idx(v * g.lanes), add(at, v * g.lanes), masks[v]);
    });
  });
}

Value Emitter::getStateBase() {
  Value item = add(mul(batchIndex, heads), headIndex);
  return mul(item, g.stateRows * g.stateCols);
}

void Emitter::emitLoadState() {
  auto type = cast<FloatType>(plan.signature.getState().getType());
  auto vector = VectorType::get({g.lanes}, type);
  auto branch = scf::IfOp::create(b, loc, hasInit, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(branch.thenBlock()->getTerminator());
  emitStateRows(getStateBase(), [&](Value row, Value col, Value at,
                                    Value mask) {
    Value loaded;
    if (mask) {
      Value zero = arith::ConstantOp::create(
          b, loc, DenseElementsAttr::get(vector, FloatAttr::get(type, 0.0)));
      loaded =
          vector::MaskedLoadOp::create(b, loc, vector, init, at, mask, zero);
    } else {
      loaded = vector::LoadOp::create(b, loc, vector, init, at);
    }
    storeVector(convert(loaded, g.compute), stateView, row, col);
  });
  b.setInsertionPoint(branch.elseBlock()->getTerminator());
  emitStateRows(getStateBase(), [&](Value row, Value col, Value, Value) {
    storeVector(zeroVector(), stateView, row, col);
  });
}

void Emitter::emitStoreState() {
  auto type = cast<FloatType>(plan.signature.getState().getType());
  auto branch = scf::IfOp::create(b, loc, hasFinal, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(branch.thenBlock()->getTerminator());
  emitStateRows(
      getStateBase(), [&](Value row, Value col, Value at, Value mask) {
        Value vector = convert(loadVector(stateView, row, col), type);
        if (mask)
          vector::MaskedStoreOp::create(b, loc, final, at, mask, vector);
        else
          vector::StoreOp::create(b, loc, vector, final, at);
      });
}

/// Forward: stores the state at the start of every `save_every`-th chunk.
void Emitter::emitSaveState(Value chunk) {
  int64_t every = getSaveEvery();
  Value array = outArrays.back();
  auto type =
      cast<FloatType>(cast<MemRefType>(array.getType()).getElementType());
  OpBuilder::InsertionGuard guard(b);
  if (every > 1) {
    Value rest = arith::RemUIOp::create(b, loc, chunk, idx(every));
    Value isSaved =
        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, rest, idx(0));
    auto branch = scf::IfOp::create(b, loc, isSaved, /*withElseRegion=*/false);
    b.setInsertionPoint(branch.thenBlock()->getTerminator());
  }
  Value base = getCheckpointBase(chunk);
  emitStateRows(base, [&](Value row, Value col, Value at, Value mask) {
    Value vector = convert(loadVector(stateView, row, col), type);
    if (mask)
      vector::MaskedStoreOp::create(b, loc, array, at, mask, vector);
    else
      storeStreamed(vector, array, at);
  });
}

Value Emitter::getCheckpointBase(Value chunk) {
  int64_t every = getSaveEvery();
  Value count = div(add(numChunks, every - 1), every);
  Value at = mul(add(mul(batchIndex, heads), headIndex), count);
  return mul(add(at, div(chunk, every)), g.stateRows * g.stateCols);
}

/// What was summed over the chunks goes to arrays [B, H, (D)].
void Emitter::emitStoreSums() {
  unsigned first = plan.signature.getArgs(ArgKind::Out).size();
  Value item = add(mul(batchIndex, heads), headIndex);
  for (auto [index, buffer] : llvm::enumerate(plan.sumBuffers)) {
    Value array = outArrays[first + index], memref = view(buffer);
    auto type =
        cast<FloatType>(cast<MemRefType>(array.getType()).getElementType());
    int64_t size = buffer.cols;
    loop(0, size, 1, [&](Value i) {
      Value number = convert(loadScalar(memref, idx(0), i), type);
      memref::StoreOp::create(b, loc, number, array, add(mul(item, size), i));
    });
  }
}

//===----------------------------------------------------------------------===//
// Work items and chunks
//===----------------------------------------------------------------------===//

void Emitter::emitItem(Value item) {
  block = arith::RemSIOp::create(b, loc, item, vblocks);
  Value pair = arith::DivSIOp::create(b, loc, item, vblocks);
  headIndex = arith::RemSIOp::create(b, loc, pair, heads);
  batchIndex = arith::DivSIOp::create(b, loc, pair, heads);
  auto panelOf = [&](Value number) -> Value {
    return arith::DivSIOp::create(b, loc, mul(number, g.panels()), vblocks);
  };
  firstPanel = panelOf(block);
  lastPanel = panelOf(add(block, 1));

  startItem();
  if (states) {
    states->batchIndex = batchIndex;
    states->headIndex = headIndex;
    states->block = block;
    states->firstPanel = idx(0);
    states->lastPanel = idx(states->g.panels());
    states->startItem();
    states->emitUnits(Slice::Hoisted);
  }
  emitLoadState();
  for (const Buffer &buffer : plan.sumBuffers)
    emitZeroColumns(buffer, 0);
  if (plan.isWhole)
    stateView = viewSlot(plan.stateSlot, 0, g.stateRows, g.panelWidth());
  emitUnits(Slice::Hoisted);
  numChunks = arith::CeilDivSIOp::create(b, loc, numTokens, idx(g.tokens));
  if (states) {
    emitSegments();
  } else {
    // The adjoint of the state goes from the last chunk to the first.
    loop(idx(0), numChunks, 1, ValueRange{},
         [&](Value chunk, ValueRange) -> SmallVector<Value> {
           emitChunk(isBackward() ? sub(sub(numChunks, idx(1)), chunk) : chunk);
           return {};
         });
  }
  emitStoreSums();
  emitStoreState();
}

/// Segments of chunks from one checkpoint to the next, the last first: forwards
/// for the states, which are kept in the arena, then backwards.
void Emitter::emitSegments() {
  int64_t every = getSaveEvery();
  auto saved =
      MemRefType::get({g.stateRows, states->g.paddedCols()}, g.compute);
  Value segments = div(add(numChunks, every - 1), every);
  loop(idx(0), segments, 1, ValueRange{},
       [&](Value i, ValueRange) -> SmallVector<Value> {
         Value first = mul(sub(sub(segments, idx(1)), i), every);
         Value count = min(sub(numChunks, first), idx(every));
         emitSegmentStates(first, count);
         loop(idx(0), count, 1, ValueRange{},
              [&](Value j, ValueRange) -> SmallVector<Value> {
                Value number = sub(sub(count, idx(1)), j);
                checkpointView = viewSaved(number, saved);
                emitChunk(add(first, number));
                return {};
              });
         return {};
       });
}

Value Emitter::viewSaved(Value number, MemRefType type) {
  int64_t bytes = type.getNumElements() * g.elementBytes();
  return memref::ViewOp::create(b, loc, type, arena,
                                add(mul(number, bytes), plan.savedByte),
                                ValueRange{});
}

void Emitter::emitSegmentStates(Value first, Value count) {
  Value array = byName.lookup(plan.getArg(plan.checkpoint).getName());
  auto type =
      cast<FloatType>(cast<MemRefType>(array.getType()).getElementType());
  auto vector = VectorType::get({g.lanes}, type);
  states->emitStateRows(getCheckpointBase(first), [&](Value row, Value col,
                                                      Value at, Value mask) {
    Value loaded;
    if (mask) {
      Value zero = arith::ConstantOp::create(
          b, loc, DenseElementsAttr::get(vector, FloatAttr::get(type, 0.0)));
      loaded =
          vector::MaskedLoadOp::create(b, loc, vector, array, at, mask, zero);
    } else {
      loaded = vector::LoadOp::create(b, loc, vector, array, at);
    }
    states->storeVector(convert(loaded, g.compute), states->stateView, row,
                        col);
  });
  auto saved =
      MemRefType::get({g.stateRows, states->g.paddedCols()}, g.compute);
  loop(idx(0), count, 1, ValueRange{},
       [&](Value number, ValueRange) -> SmallVector<Value> {
         Value target = viewSaved(number, saved);
         states->emitStateRows(idx(0), [&](Value row, Value col, Value, Value) {
           Value state = states->loadVector(states->stateView, row, col);
           storeVector(state, target, row, add(states->colBase, col));
         });
         // The last one's end is the next segment's start.
         Value goesOn = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt,
                                              add(number, 1), count);
         auto branch =
             scf::IfOp::create(b, loc, goesOn, /*withElseRegion=*/false);
         OpBuilder::InsertionGuard guard(b);
         b.setInsertionPoint(branch.thenBlock()->getTerminator());
         states->emitChunk(add(first, number));
         return {};
       });
}

void Emitter::startItem() {
  func::FuncOp source = plan.function;
  for (BlockArgument argument : source.getArguments()) {
    ArgAttr arg = plan.getArg(argument);
    if (!arg || arg.getKind() != ArgKind::Param)
      continue;
    int64_t size = getShape(argument).second;
    arrayBase[argument] = mul(headIndex, size);
    if (getRank(argument) == 0)
      scalars[argument] = convert(
          memref::LoadOp::create(b, loc, arrays.lookup(argument), headIndex),
          g.compute);
  }
}

void Emitter::emitChunk(Value chunk) {
  firstToken = mul(chunk, g.tokens);
  remaining = sub(numTokens, firstToken);
  valid = min(remaining, idx(g.tokens));
  Value owns =
      arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, block, idx(0));
  ownedRows = arith::SelectOp::create(b, loc, owns, valid, idx(0));
  scalars[plan.valid] = valid;
  chunkRow = add(mul(batchIndex, numTokens), firstToken);
  func::FuncOp source = plan.function;
  for (BlockArgument argument : source.getArguments()) {
    ArgAttr arg = plan.getArg(argument);
    if (argument == plan.checkpoint && !states) {
      arrayBase[argument] = getCheckpointBase(chunk);
      arrayRowStride[argument] = idx(g.stateCols);
      if (plan.readsCheckpointInPlace)
        checkpointView =
            viewMatrix(arrays.lookup(argument), arrayBase.lookup(argument),
                       g.stateRows, g.stateCols);
    }
    if (!arg || arg.getKind() != ArgKind::In)
      continue;
    int64_t size = getRank(argument) == 2 ? getShape(argument).second : 1;
    int64_t family = arg.getFamily()
                         ? plan.signature.getDim(arg.getFamily()).value_or(1)
                         : 1;
    arrayBase[argument] = getArgumentBase(argument, idx(getMember(argument)));
    arrayRowStride[argument] = mul(heads, family * size);
  }
  outBase.clear();
  outRowStride.clear();
  for (auto [out, place] : llvm::zip(plan.outs, plan.outPlaces)) {
    int64_t size = getRank(out) == 2 ? getShape(out).second : 1;
    Value at = add(mul(chunkRow, place.family), place.member);
    outBase.push_back(mul(add(mul(at, heads), headIndex), size));
    outRowStride.push_back(mul(heads, place.family * size));
  }
  if (!isBackward() && !plan.signature.getArgs(ArgKind::Checkpoint).empty())
    emitSaveState(chunk);
  if (plan.isWhole) {
    prefetchSteps = 0;
    for (const Unit &unit : plan.units)
      prefetchSteps += getPrefetchSteps(unit) * (1 + unit.others.size());
    firstStep = idx(0);
    emitUnits(Slice::Free);
    return;
  }
  prefetchSteps = 0;
  emitUnits(Slice::Free);
  // Steps are counted over all panels; a block that owns a part of them asks
  // for that part of the next inputs.
  prefetchSteps = 0;
  bool hasPanelUnits = false;
  for (const Unit &unit : plan.units) {
    if (unit.slice != Slice::Panel)
      continue;
    hasPanelUnits = true;
    prefetchSteps += getPrefetchSteps(unit) * (1 + unit.others.size());
  }
  int64_t perPanel = prefetchSteps;
  prefetchSteps *= g.panels();
  if (!hasPanelUnits)
    return;
  forEachPanel([&]() {
    firstStep = mul(div(colBase, g.panelWidth()), perPanel);
    emitUnits(Slice::Panel);
  });
}
