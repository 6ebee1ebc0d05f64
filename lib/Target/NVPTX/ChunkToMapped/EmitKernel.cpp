//===- EmitKernel.cpp - The frame of the forward kernel -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Who this CTA is, the window loop with its asynchronous loads, the state
// before the first and after the last token.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "llvm/Support/SaveAndRestore.h"

#include <numeric>

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

Emitter::Emitter(const Program &program, const GpuMapping &mapping,
                 const OperandPolicy &policy, const Arrays &arrays,
                 GpuKernel kernel, Location loc)
    : WarpBuilder(kernel.function, policy, loc), program(program),
      mapping(mapping), arrays(arrays), kernel(kernel) {
  slices = getPaddedChannels(program.stateRows) / 16;
  saveEvery = program.signature.getIntOption("save_every").value_or(1);
}

//===----------------------------------------------------------------------===//
// The frame
//===----------------------------------------------------------------------===//

Value Emitter::getStage(Value number, int64_t stages) {
  return stages == 1 ? index(0)
                     : b.createOrFold<arith::RemUIOp>(number, index(stages));
}

Value Emitter::getStageOf(const StagedInput &input) {
  return getStage(window, input.stages);
}

SmallVector<Value> Emitter::getTransferIndices() {
  if (mapping.isOverlapped() || mapping.slices == Slices::State)
    return {getStage(window, 2), chunk};
  return {chunk};
}

Value Emitter::getArray(ArgAttr arg) const {
  return kernel.getInput(program.signature, arg);
}

std::pair<Value, Value> Emitter::getTokenOffset(ArgAttr arg, int64_t micro,
                                                Value token) {
  int64_t width = 1, steps = 1;
  for (StringAttr axis : arg.getAxes())
    width *= *program.signature.getDim(axis);
  if (arg.getFamily())
    steps = *program.signature.getDim(arg.getFamily());
  // [B, T, n, H, width]
  if (firstToken)
    token = add(firstToken, token);
  Value tokens = add(mul(batch, kernel.T), token);
  Value rows = add(mul(tokens, steps), index(micro));
  Value offset = mul(add(mul(rows, kernel.H), head), width);
  Value stride = mul(kernel.H, steps * width);
  return {offset, stride};
}

Value Emitter::getChunkNumber(Value windowNumber, Value chunkOfWindow) {
  Value number = add(mul(windowNumber, mapping.window), chunkOfWindow);
  return segmentChunks ? turnRound(number) : number;
}

Value Emitter::getFirstToken(Value windowNumber, Value chunkOfWindow) {
  return mul(getChunkNumber(windowNumber, chunkOfWindow), program.chunk);
}

Value Emitter::getValidTokens(Value first, int64_t tokens) {
  Value left = arith::SubIOp::create(b, length, first);
  // Walked backwards, what follows the last chunk lies before the first token.
  if (segmentChunks)
    left = select(compare(arith::CmpIPredicate::slt, first, index(0)), index(0),
                  left);
  left = arith::MaxSIOp::create(b, left, index(0));
  return arith::MinSIOp::create(b, left,
                                index(tokens ? tokens : program.chunk));
}

Value Emitter::getWarpColumn(Value warp) {
  // Warps that only prepare have no columns, so any will do.
  if (mapping.isOverlapped())
    warp = arith::MaxSIOp::create(
        b, arith::SubIOp::create(b, warp, index(mapping.window)), index(0));
  return mul(warp, mapping.rowsPerWarp);
}

void Emitter::renewLanes(Value round) {
  if (!mapping.tight)
    return;
  warpId = warp::RenewLanesOp::create(b, b.getIndexType(), round,
                                      /*warp=*/Value());
  warpColumn = getWarpColumn(warpId);
}

void Emitter::emitPrologue() {
  auto alloc = [&](warp::SharedType type) -> Value {
    return warp::AllocSharedOp::create(b, type, IntegerAttr());
  };
  for (const StagedInput &input : arrays.inputs)
    inputArrays.push_back(alloc(input.type));
  for (const StagedParam &param : arrays.params)
    paramArrays.push_back(alloc(param.type));
  for (const TransferPlace &place : arrays.transfers)
    transferArrays.push_back(place.over >= 0 ? inputArrays[place.over]
                                             : alloc(place.type));
  if (arrays.gram)
    gramArray = alloc(arrays.gram);
  for (const SystemPlace &system : arrays.systems) {
    systemSources.push_back(system.overGram ? gramArray
                            : system.source ? alloc(system.source)
                                            : Value());
    systemInverses.push_back(alloc(system.inverse));
  }
  for (const PartialPlace &partial : arrays.partials)
    partialArrays.push_back(alloc(partial.type));

  Value id = gpu::BlockIdOp::create(b, gpu::Dimension::x);
  if (mapping.slices == Slices::Free) {
    // A CTA is one window.
    Value pieces = arith::CeilDivUIOp::create(
        b, kernel.T, index(program.chunk * mapping.window));
    window = arith::RemUIOp::create(b, id, pieces);
    id = arith::DivUIOp::create(b, id, pieces);
  }
  block = b.createOrFold<arith::RemUIOp>(id, index(mapping.vBlocks));
  Value sequence = b.createOrFold<arith::DivUIOp>(id, index(mapping.vBlocks));
  length = kernel.T;
  if (savedStates) {
    const int64_t tokens = partChunks * program.chunk;
    Value parts = arith::CeilDivUIOp::create(b, kernel.T, index(tokens));
    Value part = arith::RemUIOp::create(b, sequence, parts);
    sequence = arith::DivUIOp::create(b, sequence, parts);
    firstToken = mul(part, tokens);
    length = arith::MinSIOp::create(
        b, arith::SubIOp::create(b, kernel.T, firstToken), index(tokens));
  }
  head = arith::RemUIOp::create(b, sequence, kernel.H);
  batch = arith::DivUIOp::create(b, sequence, kernel.H);
  warpId = kernelWarp = warp::WarpIdOp::create(b);
  firstColumn = mul(block, mapping.blockCols);
  if (mapping.isOverlapped())
    prepares =
        compare(arith::CmpIPredicate::ult, warpId, index(mapping.window));
  if (mapping.hasCopier())
    prepares = compare(arith::CmpIPredicate::uge, warpId, index(mapping.warps));
  warpColumn = getWarpColumn(warpId);
  windows = arith::CeilDivUIOp::create(b, length,
                                       index(program.chunk * mapping.window));
  if (segmentChunks)
    windows =
        arith::CeilDivUIOp::create(b, countWalked(), index(mapping.window));

  // Padding channels are never copied: they are zero from the start.
  for (auto [input, array] : llvm::zip_equal(arrays.inputs, inputArrays))
    if (input.type.getRank() == 4 && input.type.getShape()[3] > input.width)
      warp::FillSharedOp::create(b, array);
  for (auto [param, array] : llvm::zip_equal(arrays.params, paramArrays))
    if (param.type.getShape()[1] >
        cast<RankedTensorType>(param.argument.getType()).getDimSize(0))
      warp::FillSharedOp::create(b, array);
  // Levels write below the diagonal only; what is above is read, not used.
  if (gramArray)
    warp::FillSharedOp::create(b, gramArray);
}

void Emitter::emitLoads(Value number, InputFilter which) {
  // Chunk by chunk, addresses are further apart than copies that use them;
  // warps that would wait anyhow do with fewer instructions.
  bool any = false;
  const int64_t together = copyWarps && !segmentChunks ? mapping.window : 1;
  for (int64_t j = 0; j < mapping.window; j += together)
    any |= emitChunkLoads(number, index(j), which, together);
  if (any)
    warp::AsyncCommitOp::create(b);
}

bool Emitter::emitChunkLoads(Value windowNumber, Value number,
                             InputFilter which, int64_t chunks) {
  bool any = false;
  Value first = getFirstToken(windowNumber, number);
  for (auto [input, array] : llvm::zip_equal(arrays.inputs, inputArrays)) {
    if (!which(input))
      continue;
    any = true;
    ArgAttr arg = program.getArg(input.argument);
    bool vector = input.type.getRank() == 4;
    auto [offset, stride] =
        getTokenOffset(arg, getMicro(program.function, input.argument), first);
    int64_t alignment = 1;
    if (vector) {
      alignment =
          cast<RankedTensorType>(input.argument.getType()).getDimSize(1);
      if (input.ownColumns) {
        offset = add(offset, firstColumn);
        alignment = std::gcd(alignment, mapping.blockCols);
      }
    }
    warp::AsyncLoadOp::create(
        b, getArray(arg), offset, stride,
        getValidTokens(first, chunks * program.chunk), array,
        ValueRange{getStage(windowNumber, input.stages), number},
        chunks * program.chunk,
        vector ? b.getI64IntegerAttr(input.width) : IntegerAttr(), alignment,
        copyWarps, firstCopyWarp);
  }
  return any;
}

void Emitter::emitParamLoads() {
  if (arrays.params.empty())
    return;
  for (auto [param, array] : llvm::zip_equal(arrays.params, paramArrays)) {
    int64_t channels =
        cast<RankedTensorType>(param.argument.getType()).getDimSize(0);
    warp::AsyncLoadOp::create(b, getArray(program.getArg(param.argument)),
                              mul(head, channels), index(channels), index(1),
                              array, ValueRange{}, /*rows=*/1,
                              b.getI64IntegerAttr(channels), channels);
  }
  warp::AsyncCommitOp::create(b);
}

Value Emitter::getOwnColumns(Value column) {
  // Warps that are full, as all are where the tiling is exact, need no guard.
  if (mapping.blockCols % mapping.rowsPerWarp == 0)
    return index(mapping.rowsPerWarp);
  return arith::SubIOp::create(b, add(firstColumn, index(mapping.blockCols)),
                               column);
}

SmallVector<Value> Emitter::loadSavedState() {
  const int64_t A = program.stateRows;
  RankedTensorType type = fragment(mapping.rowsPerWarp, 16);
  Type element = cast<MemRefType>(savedStates.getType()).getElementType();
  Value number =
      arith::DivUIOp::create(b, firstToken, index(partChunks * program.chunk));
  Value base = getCheckpointBase(number, partChunks);
  SmallVector<Value> loaded;
  for (int64_t s = 0; s < slices; ++s)
    loaded.push_back(extend(warp::GlobalLoadOp::create(
        b, type.clone(element), savedStates, add(base, index(16 * s)),
        ValueRange{index(A), index(1)},
        ValueRange{getOwnColumns(add(firstColumn, warpColumn)),
                   index(std::min<int64_t>(16, A - 16 * s))})));
  return loaded;
}

SmallVector<Value> Emitter::emitInitialState() {
  if (savedStates)
    return loadSavedState();
  RankedTensorType type = fragment(mapping.rowsPerWarp, 16);
  SmallVector<Type> types(slices, type);
  const int64_t A = program.stateRows, B = program.stateCols;
  Value column = add(firstColumn, warpColumn);
  Value given = isNotNull(kernel.initialState);
  if (prepares)
    given = select(prepares, arith::ConstantIntOp::create(b, 0, 1), given);
  auto choice = scf::IfOp::create(b, types, given, /*withElseRegion=*/true);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(choice.thenBlock());
    Value sequence = add(mul(batch, kernel.H), head);
    Value base = add(mul(sequence, A * B), column);
    Type element =
        cast<MemRefType>(kernel.initialState.getType()).getElementType();
    Value left = getOwnColumns(column);
    SmallVector<Value> loaded;
    for (int64_t s = 0; s < slices; ++s) {
      Value part = warp::GlobalLoadOp::create(
          b, type.clone(element), kernel.initialState,
          add(base, index(s * 16 * B)), ValueRange{index(1), index(B)},
          ValueRange{left, index(std::min<int64_t>(16, A - 16 * s))});
      loaded.push_back(extend(part));
    }
    scf::YieldOp::create(b, loaded);
    b.setInsertionPointToStart(choice.elseBlock());
    Value zero = zeros(type);
    scf::YieldOp::create(b, SmallVector<Value>(slices, zero));
  }
  return choice.getResults();
}

void Emitter::emitFinalState(ValueRange state) {
  if (savedStates)
    return;
  if (segmentChunks)
    return emitLastStore(state);
  Value asked = isNotNull(kernel.finalState);
  if (prepares)
    asked = select(prepares, arith::ConstantIntOp::create(b, 0, 1), asked);
  auto wanted = scf::IfOp::create(b, asked, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(wanted.thenBlock());
  storeFinalState(state);
}

void Emitter::storeFinalState(ValueRange state) {
  const int64_t A = program.stateRows, B = program.stateCols;
  Value column = add(firstColumn, warpColumn);
  Value base = add(mul(add(mul(batch, kernel.H), head), A * B), column);
  Value left = getOwnColumns(column);
  Type element = cast<MemRefType>(kernel.finalState.getType()).getElementType();
  for (auto [s, part] : llvm::enumerate(state))
    warp::GlobalStoreOp::create(
        b, toElement(part, element), kernel.finalState,
        add(base, index(s * 16 * B)), ValueRange{index(1), index(B)},
        ValueRange{left, index(std::min<int64_t>(16, A - 16 * s))},
        std::gcd(B, mapping.blockCols));
}

SmallVector<Value> Emitter::emitChunks(ValueRange state,
                                       llvm::function_ref<void()> refill) {
  Value all =
      segmentChunks
          ? countWalked()
          : Value(arith::CeilDivUIOp::create(b, length, index(program.chunk)));
  Value left = arith::SubIOp::create(b, all, mul(window, mapping.window));
  Value count = arith::MinSIOp::create(b, left, index(mapping.window));
  if (segmentChunks && segmentChunks % mapping.window == 0)
    emitSegmentStore(mul(window, mapping.window), state);
  SmallVector<Value> initial(state);
  // Goes from chunk to chunk: it takes fewer registers than what it is made of.
  const bool saves = static_cast<bool>(kernel.checkpoints);
  if (saves && saveEvery == 1) {
    Value first = mul(window, mapping.window);
    if (firstToken)
      first = add(arith::DivUIOp::create(b, firstToken, index(program.chunk)),
                  first);
    initial.push_back(getCheckpointBase(first));
  }
  // One chunk; `carried` is what it begins with.
  auto emitChunk = [&](Value number, ValueRange carried) {
    chunk = number;
    if (saves && saveEvery == 1) {
      checkpointBase = carried.back();
    } else if (saves) {
      Value at = add(mul(window, mapping.window), chunk);
      Value every = index(saveEvery);
      checkpointBase =
          getCheckpointBase(arith::DivUIOp::create(b, at, every), saveEvery);
      savesNow = compare(arith::CmpIPredicate::eq,
                         arith::RemUIOp::create(b, at, every), index(0));
    }
    SmallVector<Value> next = emitStateSlice(carried.take_front(state.size()));
    refill();
    if (saves && saveEvery == 1)
      next.push_back(
          add(carried.back(), index(program.stateRows * program.stateCols)));
    return next;
  };
  // Where nothing else runs beside them, two chunks in a row: what one ends
  // with fills gaps in the other's chain.
  const int64_t together =
      mapping.slices == Slices::State && mapping.window % 2 == 0 ? 2 : 1;
  Value whole = count;
  if (together > 1)
    whole = arith::SubIOp::create(
        b, count, arith::RemUIOp::create(b, count, index(together)));
  auto chunks =
      scf::ForOp::create(b, index(0), whole, index(together), initial);
  {
    OpBuilder::InsertionGuard inner(b);
    b.setInsertionPointToStart(chunks.getBody());
    SmallVector<Value> next(chunks.getRegionIterArgs());
    for (int64_t i = 0; i < together; ++i)
      next = emitChunk(add(chunks.getInductionVar(), index(i)), next);
    scf::YieldOp::create(b, next);
  }
  if (together == 1)
    return chunks.getResults().take_front(state.size());
  auto last =
      scf::IfOp::create(b, TypeRange(ValueRange(initial)),
                        compare(arith::CmpIPredicate::ult, whole, count),
                        /*withElseRegion=*/true);
  OpBuilder::InsertionGuard inner(b);
  b.setInsertionPointToStart(last.thenBlock());
  scf::YieldOp::create(b, emitChunk(whole, chunks.getResults()));
  b.setInsertionPointToStart(last.elseBlock());
  scf::YieldOp::create(b, chunks.getResults());
  return last.getResults().take_front(state.size());
}

SmallVector<Value> Emitter::emitInTurn(Value number, ValueRange state) {
  auto early = [](const StagedInput &input) { return !input.late; };
  auto late = [](const StagedInput &input) { return input.late; };
  window = number;
  Value next = add(window, index(1));
  const bool doubled = mapping.stages == 2;
  warp::AsyncWaitOp::create(b, 0);
  renewLanes(number);
  if (mapping.kSplit > 1) {
    // Copied by the warps that have nothing else to do at the end of the slice.
    emitFreeSlice([&] {
      llvm::SaveAndRestore some(copyWarps, mapping.window);
      llvm::SaveAndRestore from(firstCopyWarp, mapping.window);
      renewLanes(number);
      emitLoads(next, [&](const StagedInput &input) {
        return doubled || input.late;
      });
    });
    renewLanes(number);
  } else {
    if (doubled)
      emitLoads(next, early);
    emitFreeSlice();
    renewLanes(number);
    emitLoads(next, late);
  }
  return emitChunks(state, [&] {
    // With one stage, a chunk's place is refilled as soon as all warps have
    // left it, while the window's other chunks go on.
    if (!doubled && emitChunkLoads(next, chunk, early))
      warp::AsyncCommitOp::create(b);
  });
}

SmallVector<Value> Emitter::emitOverlapped(Value number, ValueRange state) {
  // Window `number` is prepared, the one before it is worked on.
  warp::AsyncWaitOp::create(b, 0);
  renewLanes(number);
  emitLoads(number,
            [](const StagedInput &input) { return input.forStateOnly; });
  emitLoads(add(number, index(1)),
            [](const StagedInput &input) { return !input.forStateOnly; });
  auto role = scf::IfOp::create(b, TypeRange(state), prepares,
                                /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(role.thenBlock());
  window = number;
  auto some =
      scf::IfOp::create(b, compare(arith::CmpIPredicate::ult, number, windows),
                        /*withElseRegion=*/false);
  {
    OpBuilder::InsertionGuard inner(b);
    b.setInsertionPointToStart(some.thenBlock());
    emitFreeSlice();
  }
  // No state here, so that it takes no registers.
  Value zero = zeros(fragment(mapping.rowsPerWarp, 16));
  scf::YieldOp::create(b, SmallVector<Value>(state.size(), zero));

  b.setInsertionPointToStart(role.elseBlock());
  window = arith::SubIOp::create(b, number, index(1));
  auto started = scf::IfOp::create(
      b, TypeRange(state), compare(arith::CmpIPredicate::ugt, number, index(0)),
      /*withElseRegion=*/true);
  {
    OpBuilder::InsertionGuard inner(b);
    b.setInsertionPointToStart(started.thenBlock());
    renewLanes(number);
    scf::YieldOp::create(b, emitChunks(state, [] {}));
    b.setInsertionPointToStart(started.elseBlock());
    scf::YieldOp::create(b, state);
  }
  scf::YieldOp::create(b, started.getResults());
  return role.getResults();
}

void Emitter::emitStates(Value from, int64_t every) {
  savedStates = from;
  partChunks = every;
  saveEvery = 1;
  emitKernel();
}

void Emitter::emitKernel() {
  Block *body = &kernel.function.getBody().front();
  b.setInsertionPoint(body->getTerminator());
  emitPrologue();
  if (mapping.slices == Slices::Free)
    return emitFreeKernel();
  const bool hasFree = mapping.slices == Slices::Both;
  if (!hasFree) {
    for (int64_t j = 0; j < mapping.window; ++j)
      emitRecordLoads(index(0), index(j));
    warp::AsyncCommitOp::create(b);
  }
  const bool overlapped = mapping.isOverlapped();
  emitParamLoads();
  emitLoads(index(0), [&](const StagedInput &input) {
    return !input.late && !input.forStateOnly;
  });
  emitLoads(index(0), [](const StagedInput &input) { return input.late; });
  SmallVector<Value> initial = emitInitialState();

  Value rounds = overlapped ? add(windows, index(1)) : windows;
  auto loop =
      scf::ForOp::create(b, index(0), rounds, index(1), ValueRange(initial));
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value number = loop.getInductionVar();
    ValueRange state = loop.getRegionIterArgs();
    SmallVector<Value> next = overlapped ? emitOverlapped(number, state)
                              : hasFree  ? emitInTurn(number, state)
                                         : emitStateWindow(number, state);
    scf::YieldOp::create(b, next);
  }
  warpId = kernelWarp;
  warpColumn = getWarpColumn(warpId);
  // Copies of a window that does not come are still under way.
  warp::AsyncWaitOp::create(b, 0);
  emitFinalState(loop.getResults());
}
