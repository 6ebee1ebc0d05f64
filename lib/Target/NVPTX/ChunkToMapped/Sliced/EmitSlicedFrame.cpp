//===- EmitSlicedFrame.cpp - The loop over chunks and its levels ----------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   state <- initial state or 0; sums <- 0; copies of the first two chunks
//   what does not depend on the state, for the first chunk
//   for each chunk (a backward program: from the last to the first):
//     for each interval between barriers: columns of the state, channels, one
//       warp's work; what does not depend on the state, for the next chunk;
//       behind the last one that reads this chunk's inputs, copies of the chunk
//       after the next into their places
//   final state <- state; sums
//
//===----------------------------------------------------------------------===//

#include "../ColumnBlocks.h"
#include "SlicedKernel.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

#include <numeric>

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

//===----------------------------------------------------------------------===//
// Intervals
//===----------------------------------------------------------------------===//

void SlicedKernel::emitAhead(int number, const ChunkContext &context) {
  interval = number;
  if (!firstRow)
    firstRow = w->mul(kernelWarp, 16);
  int wanted = number - getInterval(getFirst()) + getFirst();
  for (Side which : {Cols, Rows}) {
    if (!hasTasks(which, wanted))
      continue;
    inSlices(which, [&] {
      enter(context, wanted);
      emitSlicePass(which, wanted);
    });
  }
  for (auto [warp, mine] : llvm::enumerate(dealOut(wanted)))
    if (!mine.empty())
      inOneWarp(warp, [&, &mine = mine] {
        enter(context, wanted);
        for (const Task *task : mine)
          emitTask(*task);
      });
  forget();
}

bool SlicedKernel::hasTasks(Side which, int wanted) const {
  return llvm::any_of(tasks, [&](const Task &task) {
    return task.side == which && task.level == wanted;
  });
}

void SlicedKernel::enter(const ChunkContext &context, int nextLevel) {
  chunk = context.chunk;
  tokens = context.tokens;
  stageIndex = context.stage;
  level = nextLevel;
  forget();
}

void SlicedKernel::emitSlicePass(Side which, int wanted) {
  side = which;
  // Grams first, then tasks in the order in which the program has them, which
  // keeps the fewest values for later.
  SmallVector<const Task *> mine;
  for (const Task &task : tasks)
    if (task.side == which && task.level == wanted && isWanted(task))
      mine.push_back(&task);
  auto rank = [&](const Task *task) {
    Operation *op =
        task->value ? resolve(task->value).getDefiningOp() : nullptr;
    return std::make_pair(task->type != Task::Levels, op);
  };
  llvm::stable_sort(mine, [&](const Task *x, const Task *y) {
    auto [firstX, opX] = rank(x);
    auto [firstY, opY] = rank(y);
    if (firstX != firstY)
      return firstX < firstY;
    return opX && opY ? opX != opY && opX->isBeforeInBlock(opY) : !opX && opY;
  });
  bool started = false;
  for (const Task *task : mine) {
    if (task->type != Task::Levels && !started) {
      started = true;
      emitStateProducts(mine);
      // Columns' products depend on each other in long chains: side by side,
      // before one's store keeps another one's loads behind it.
      if (which == Cols)
        for (const Task *tile : mine)
          if (tile->type == Task::Tile)
            evalWide(tile->value);
    }
    emitTask(*task);
  }
  side = None;
}

void SlicedKernel::emitInterval(int number, const ChunkContext &now,
                                const ChunkContext *next) {
  interval = number;
  renewLanes();
  // Levels of this interval, and the chunks they are for.
  SmallVector<std::pair<int, const ChunkContext *>> work{{number, &now}};
  if (next && number >= getInterval(getFirst()))
    work.push_back({number - getInterval(getFirst()) + getFirst(), next});
  if (getFirst() == 0)
    work.resize(1);

  for (Side which : {Cols, Rows}) {
    SmallVector<std::pair<int, const ChunkContext *>> mine;
    for (auto entry : work)
      if (hasTasks(which, entry.first))
        mine.push_back(entry);
    if (mine.empty())
      continue;
    bool updates = llvm::any_of(tasks, [&](const Task &task) {
      return task.type == Task::Next && task.side == which &&
             task.level == number;
    });
    auto emitAll = [&] {
      for (auto [levelNumber, context] : mine) {
        enter(*context, levelNumber);
        emitSlicePass(which, levelNumber);
      }
    };
    if (!updates) {
      inSlices(which, emitAll);
      continue;
    }
    if (countSlices(which) == warps) {
      emitAll();
      continue;
    }
    // Fewer slices than warps: the others' states stay.
    Value inside = w->compare(arith::CmpIPredicate::ult, kernelWarp,
                              w->index(countSlices(which)));
    SmallVector<Type> types(currentState.size(), w->square());
    auto branch = scf::IfOp::create(w->b, types, inside, true);
    {
      OpBuilder::InsertionGuard guard(w->b);
      w->b.setInsertionPointToStart(branch.thenBlock());
      emitAll();
      scf::YieldOp::create(w->b, nextState);
      w->b.setInsertionPointToStart(branch.elseBlock());
      scf::YieldOp::create(w->b, currentState);
    }
    nextState.assign(branch.getResults().begin(), branch.getResults().end());
  }
  // Those of the next chunk go to other warps than this one's, if there are.
  SmallVector<SmallVector<std::pair<const ChunkContext *, const Task *>>> dealt(
      warps);
  for (auto [number, entry] : llvm::enumerate(work))
    for (auto [warp, mine] : llvm::enumerate(dealOut(entry.first)))
      for (const Task *task : mine)
        dealt[number == 0 ? warp : warps - 1 - warp].push_back(
            {entry.second, task});
  for (auto [warp, mine] : llvm::enumerate(dealt)) {
    if (mine.empty())
      continue;
    inOneWarp(warp, [&, &mine = mine] {
      const ChunkContext *entered = nullptr;
      for (auto [context, task] : mine) {
        if (context != entered)
          enter(*context, task->level);
        entered = context;
        emitTask(*task);
      }
    });
  }
  forget();
}

//===----------------------------------------------------------------------===//
// The frame
//===----------------------------------------------------------------------===//

Value SlicedKernel::isNotNull(Value array) {
  Value address = memref::ExtractAlignedPointerAsIndexOp::create(w->b, array);
  return w->compare(arith::CmpIPredicate::ne, address, w->index(0));
}

/// Numbers of 32 bits: what lives as long as the kernel takes one register.
Value SlicedKernel::widened(Value number) {
  return arith::IndexCastUIOp::create(w->b, w->b.getIndexType(), number);
}

Value SlicedKernel::narrowed(Value number) {
  return widened(arith::IndexCastOp::create(w->b, w->b.getI32Type(), number));
}

Value SlicedKernel::getChunkOf(Value step) {
  return backward ? w->sub(w->sub(chunks, w->index(1)), step) : step;
}

Value SlicedKernel::getValidTokens(Value number) {
  Value left = w->sub(kernel.T, w->mul(number, kTokens));
  left = arith::MaxSIOp::create(w->b, left, w->index(0));
  return w->minimum(left, w->index(kTokens));
}

std::pair<Value, Value> SlicedKernel::getTokenOffset(ArgAttr arg, int64_t micro,
                                                     Value token) {
  int64_t width = 1, steps = 1;
  for (StringAttr axis : arg.getAxes())
    width *= *signature.getDim(axis);
  if (arg.getFamily())
    steps = *signature.getDim(arg.getFamily());
  // [B, T, n, H, width]
  Value heads = renew(kernel.H);
  Value row = w->add(w->mul(renew(batch), kernel.T), token);
  row = w->add(w->mul(row, steps), w->index(micro));
  Value offset = w->mul(w->add(w->mul(row, heads), renew(head)), width);
  if (block && hasColumns(signature, arg))
    offset = w->add(offset, getFirstCol());
  return {offset, w->mul(heads, steps * width)};
}

Value SlicedKernel::getParamOffset(ArgAttr arg, int64_t size) {
  // Params are read before the loop, where no zero is renewed.
  if (block && hasColumns(signature, arg))
    return w->add(w->mul(head, getAllCols()), getFirstCol());
  return w->mul(head, size);
}

void SlicedKernel::emitLoads(Value step, Value place) {
  // Behind the last step nothing is copied.
  Value number = getChunkOf(step);
  Value exists = w->compare(arith::CmpIPredicate::slt, step,
                            segment ? countSteps() : chunks);
  Value rows = w->select(exists, getValidTokens(number), w->index(0));
  for (const Input &input : inputs) {
    ArgAttr arg = getArg(input.argument);
    auto [offset, stride] = getTokenOffset(
        arg, getMicro(program, input.argument), w->mul(number, kTokens));
    IntegerAttr width;
    int64_t alignment = 1;
    if (getRank(input.argument) == 2) {
      alignment =
          cast<RankedTensorType>(input.argument.getType()).getDimSize(1);
      width = w->b.getI64IntegerAttr(alignment);
    }
    warp::AsyncLoadOp::create(w->b, kernel.getInput(signature, arg), offset,
                              stride, rows, input.array, ValueRange{place},
                              kTokens, width, alignment);
  }
  if (savedTile.array) {
    Value sequence = getSequence();
    Value saved = segment ? countChunks() : chunks;
    Value offset = w->mul(w->add(w->mul(sequence, saved), number),
                          stateRows * getAllCols());
    if (block)
      offset = w->add(offset, w->mul(getFirstCol(), stateRows));
    warp::AsyncLoadOp::create(
        w->b, kernel.checkpoints, offset, w->index(stateRows),
        w->select(exists, w->index(stateCols), w->index(0)), savedTile.array,
        ValueRange{place}, 16 * countSlices(Cols),
        w->b.getI64IntegerAttr(stateRows), stateRows);
  }
  warp::AsyncCommitOp::create(w->b);
}

SmallVector<Value> SlicedKernel::loadSegmentState() {
  const int64_t A = stateRows;
  Value number = w->add(w->mul(getSequence(), countSegments()), segment);
  Value column = w->mul(kernelWarp, 16), first = column;
  if (block)
    first = w->add(first, getFirstCol());
  Value base = w->add(w->mul(number, A * getAllCols()), w->mul(first, A));
  SmallVector<Value> loaded;
  for (int64_t part = 0; part < countSlices(Rows); ++part)
    loaded.push_back(warp::GlobalLoadOp::create(
        w->b, w->square(), behind, w->add(base, w->index(16 * part)),
        ValueRange{w->index(A), w->index(1)},
        ValueRange{w->sub(w->index(stateCols), column),
                   w->index(std::min<int64_t>(16, A - 16 * part))}));
  return loaded;
}

SmallVector<Value> SlicedKernel::emitInitialState() {
  if (segment)
    return loadSegmentState();
  const int64_t parts = countSlices(Rows), A = stateRows, B = getAllCols();
  RankedTensorType type = w->square();
  SmallVector<Type> types(parts, type);
  auto given = scf::IfOp::create(w->b, types, isNotNull(kernel.initialState),
                                 /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(w->b);
  w->b.setInsertionPointToStart(given.thenBlock());
  Value sequence = getSequence();
  Value column = w->mul(kernelWarp, 16);
  Value base = w->add(w->mul(sequence, A * B), column);
  if (block)
    base = w->add(base, getFirstCol());
  Type element =
      cast<MemRefType>(kernel.initialState.getType()).getElementType();
  SmallVector<Value> loaded;
  for (int64_t part = 0; part < parts; ++part)
    loaded.push_back(w->extend(warp::GlobalLoadOp::create(
        w->b, type.clone(element), kernel.initialState,
        w->add(base, w->index(16 * part * B)),
        ValueRange{w->index(1), w->index(B)},
        ValueRange{w->sub(w->index(stateCols), column),
                   w->index(std::min<int64_t>(16, A - 16 * part))})));
  scf::YieldOp::create(w->b, loaded);
  w->b.setInsertionPointToStart(given.elseBlock());
  scf::YieldOp::create(w->b, SmallVector<Value>(parts, w->constant(0.0, type)));
  return given.getResults();
}

void SlicedKernel::emitFinalState(ValueRange final) {
  Value asked = isNotNull(kernel.finalState);
  if (segment)
    asked = arith::AndIOp::create(w->b, asked,
                                  w->compare(arith::CmpIPredicate::ule, chunks,
                                             w->index(choice.segment)));
  auto wanted = scf::IfOp::create(w->b, asked, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(w->b);
  w->b.setInsertionPointToStart(wanted.thenBlock());
  const int64_t A = stateRows, B = getAllCols();
  Value column = w->mul(kernelWarp, 16);
  Value base = w->add(w->mul(getSequence(), A * B), column);
  if (block)
    base = w->add(base, getFirstCol());
  Type element = cast<MemRefType>(kernel.finalState.getType()).getElementType();
  for (auto [part, value] : llvm::enumerate(final))
    warp::GlobalStoreOp::create(
        w->b, w->toElement(value, element), kernel.finalState,
        w->add(base, w->index(16 * part * B)),
        ValueRange{w->index(1), w->index(B)},
        ValueRange{w->sub(w->index(stateCols), column),
                   w->index(std::min<int64_t>(16, A - 16 * part))},
        std::gcd(stateCols, int64_t(16)));
}

/// rhs[t, u] of products that sum over tokens u: for levels 1 to 3, the tokens
/// of a right half that stand behind t in it, of a left half before t; then
/// all tokens before t, and all behind it.
void SlicedKernel::emitScanMatrices() {
  inOneWarp(0, [&] {
    RankedTensorType type = w->square();
    Value t = w->rowNumbers(), u = w->colNumbers();
    Value one = w->constant(1.0, type), zero = w->constant(0.0, type);
    Value before = w->compare(arith::CmpIPredicate::slt, u, t);
    Value behind = w->compare(arith::CmpIPredicate::sgt, u, t);
    auto put = [&](int64_t number, Value where) {
      w->store(w->select(where, one, zero), scanArray,
               {w->index(number), w->index(0), w->index(0)});
    };
    for (int level = 1; level < 4; ++level) {
      Value shift = w->integers(level, type);
      Value same = w->compare(arith::CmpIPredicate::eq,
                              arith::ShRUIOp::create(w->b, t, shift),
                              arith::ShRUIOp::create(w->b, u, shift));
      Value right = w->has(int64_t(1) << level, Axis::Cols, type);
      Value spanned = w->select(right, behind, before);
      put(level - 1, arith::AndIOp::create(w->b, same, spanned));
    }
    put(3, before);
    put(4, behind);
  });
}

void SlicedKernel::emitPrologue() {
  auto alloc = [&](warp::SharedType type) -> Value {
    return type ? Value(warp::AllocSharedOp::create(w->b, type, IntegerAttr()))
                : Value();
  };
  auto fill = [&](Value array) { warp::FillSharedOp::create(w->b, array); };
  forEachPlace([&](Place &place) { place.array = alloc(place.type); });
  savedTile.array = alloc(savedTile.type);
  for (Input &input : inputs)
    input.array = alloc(input.type);
  for (warp::SharedType type : sumTypes)
    sumArrays.push_back(alloc(type));
  for (Kept &entry : kept) {
    if (entry.level >= 0)
      continue;
    int64_t channels = 16 * countSlices(entry.side);
    entry.array =
        alloc(getTileType({Kept::kCount}, kTokens, channels, policy.type));
    entry.totals = alloc(warp::SharedType::get(
        program.getContext(), {2, channels}, w->b.getF32Type(), false, 0));
  }
  if (scans)
    scanArray = alloc(getTileType({5}, kTokens, kTokens, policy.type));

  Type narrow = w->b.getI32Type();
  Value id = arith::IndexCastOp::create(
      w->b, narrow, gpu::BlockIdOp::create(w->b, gpu::Dimension::x));
  // The rest, of which the quotient remains to be divided.
  auto takeRest = [&](Value count) {
    count = arith::IndexCastOp::create(w->b, narrow, count);
    Value rest = widened(arith::RemUIOp::create(w->b, id, count));
    id = arith::DivUIOp::create(w->b, id, count);
    return rest;
  };
  if (choice.vBlocks > 1)
    block = takeRest(w->index(choice.vBlocks));
  if (choice.segment)
    segment = takeRest(countSegments());
  sequence = widened(id);
  batch = widened(arith::DivUIOp::create(
      w->b, id, arith::IndexCastOp::create(w->b, narrow, kernel.H)));
  head = narrowed(w->sub(sequence, w->mul(batch, kernel.H)));
  warpId = kernelWarp = warp::WarpIdOp::create(w->b);
  chunks = entry = countChunks();
  // Segments are counted from the end.
  if (segment)
    chunks = narrowed(w->sub(chunks, w->mul(segment, choice.segment)));

  // Padding channels are never copied, what is beside a level's pairs is never
  // written, and rows of a missing operand are read with those of the other.
  for (const Input &input : inputs)
    if (getRank(input.argument) == 2 &&
        cast<RankedTensorType>(input.argument.getType()).getDimSize(1) % 16)
      fill(input.array);
  if (savedTile.array && stateRows % 16)
    fill(savedTile.array);
  for (LevelTiles &tiles : levelTiles)
    if (tiles.rows.size() % 2)
      fill(tiles.rowTile.array);
  for (auto &[op, entry] : pairs)
    fill(entry.tile.array);
  for (auto &[value, stored] : grams)
    fill(stored.array);
  for (Value array : sumArrays)
    fill(array);
  if (scanArray)
    emitScanMatrices();
}

/// Adds up what the channels of all slices have.
void SlicedKernel::emitRowSumStore(Value array, Value target, ArgAttr arg) {
  Value sequence = getSequence();
  inOneWarp(0, [&, type = arg.getType()]() mutable {
    if (std::optional<PartialPlace> place = partials->getPlace(
            w->b, kernel, arg, 0, block, sequence, segment)) {
      target = place->array;
      sequence = place->offset;
      type = w->b.getF32Type();
    }
    const int64_t parts =
        cast<warp::SharedType>(array.getType()).getShape()[0] / 16;
    RankedTensorType rows = w->along(Axis::Rows);
    Value sum;
    for (int64_t part = 0; part < parts; ++part)
      sum = w->addf(sum, w->load(array, {w->index(16 * part)}, rows));
    for (int64_t distance = 1; distance < 16; distance *= 2)
      sum =
          w->addf(sum, warp::ShuffleRowsOp::create(w->b, rows, sum, distance));
    warp::GlobalStoreOp::create(w->b, w->toElement(sum, type), target, sequence,
                                ValueRange{w->index(1)},
                                ValueRange{w->index(1)}, 1);
  });
}

void SlicedKernel::emitSumStores() {
  Value sequence = getSequence();
  for (auto [number, arg] : llvm::enumerate(signature.getArgs(ArgKind::Sum))) {
    int64_t size = 1;
    for (StringAttr axis : arg.getAxes())
      size *= *signature.getDim(axis);
    Value array = sumArrays[number], target = kernel.sums[number];
    if (rowSums.contains(number)) {
      emitRowSumStore(array, target, arg);
      continue;
    }
    inOneWarp(0, [&, arg = arg, type = arg.getType()]() mutable {
      Value base = w->mul(sequence, size);
      if (std::optional<PartialPlace> place = partials->getPlace(
              w->b, kernel, arg, 0, block, sequence, segment)) {
        target = place->array;
        base = place->offset;
        type = w->b.getF32Type();
      }
      if (block && hasColumns(signature, arg)) {
        base = w->add(base, getFirstCol());
        size = stateCols;
      }
      for (int64_t first = 0; first < size; first += 16)
        warp::GlobalStoreOp::create(
            w->b,
            w->toElement(
                w->load(array, {w->index(first)}, w->along(Axis::Cols)), type),
            target, w->add(base, w->index(first)), ValueRange{w->index(1)},
            ValueRange{w->index(std::min<int64_t>(16, size - first))}, 1);
    });
  }
}

void SlicedKernel::emit(GpuKernel built, const PartialSums &sums,
                        Value states) {
  kernel = built;
  partials = &sums;
  behind = states;
  w.emplace(kernel.function, policy, program.getLoc());
  w->b.setInsertionPoint(kernel.function.getBody().front().getTerminator());
  emitPrologue();
  const bool ahead = getFirst() < 0;
  Value first = w->index(0);
  round = first;
  auto contextOf = [&](Value step, Value stage) -> ChunkContext {
    Value number = narrowed(getChunkOf(renew(step)));
    return {number, narrowed(getValidTokens(number)), stage};
  };
  if (ahead) {
    emitLoads(first, first);
    warp::AsyncWaitOp::create(w->b, 0);
    emitLoads(w->index(1), w->index(1));
    ChunkContext context = contextOf(first, first);
    for (int number = getInterval(getFirst()); number <= lastInterval; ++number)
      emitAhead(number, context);
  }
  SmallVector<Value> initial = emitInitialState();
  Value steps = segment ? countSteps() : chunks;
  auto loop =
      scf::ForOp::create(w->b, w->index(0), steps, w->index(1), initial);
  {
    OpBuilder::InsertionGuard guard(w->b);
    w->b.setInsertionPointToStart(loop.getBody());
    Value step = loop.getInductionVar();
    // The length is any number to compilers, and a step one below it.
    round = w->add(step, kernel.T);
    renewZero();
    Value stage =
        ahead ? Value(arith::RemUIOp::create(w->b, step, w->index(2))) : first;
    ChunkContext now = contextOf(step, stage), next;
    if (ahead)
      next = contextOf(w->add(step, w->index(1)), w->sub(w->index(1), stage));
    currentState.assign(loop.getRegionIterArgs().begin(),
                        loop.getRegionIterArgs().end());
    nextState = currentState;
    if (!ahead) {
      renewLanes();
      emitLoads(step, first);
      warp::AsyncWaitOp::create(w->b, 0);
    }
    for (int number = 0; number <= lastInterval; ++number) {
      // The next chunk's copies have had time from the last chunk on.
      if (ahead && number == getInterval(getFirst()))
        warp::AsyncWaitOp::create(w->b, 0);
      emitInterval(number, now, ahead ? &next : nullptr);
      // This chunk's places are free behind the last interval that reads them.
      if (ahead && number == std::min(lastInterval, choice.lastInput))
        emitLoads(w->add(step, w->index(2)), stage);
    }
    scf::YieldOp::create(w->b, nextState);
  }
  warp::AsyncWaitOp::create(w->b, 0);
  // What the stores want is not to be kept from before the loop.
  round = kernel.T;
  renewLanes();
  kernelWarp = warpId;
  emitSumStores();
  emitFinalState(loop.getResults());
}
