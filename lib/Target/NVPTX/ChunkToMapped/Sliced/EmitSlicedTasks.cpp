//===- EmitSlicedTasks.cpp - What is computed at a level ------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One task each, and the accesses to shared memory, which note the interval in
// which an array is used.
//
//===----------------------------------------------------------------------===//

#include "SlicedKernel.h"

#include <numeric>

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

//===----------------------------------------------------------------------===//
// Tasks
//===----------------------------------------------------------------------===//

void SlicedKernel::forget() {
  memo.clear();
  ownMemo.clear();
  stateMemo.clear();
  for (auto &known : vectorMemo)
    known.clear();
  tables.clear();
  inputMemo.clear();
  late = Value();
  for (Kept &entry : kept)
    for (Value &known : entry.loaded)
      known = Value();
}

void SlicedKernel::renewLanes() {
  warpId =
      warp::RenewLanesOp::create(w->b, w->b.getIndexType(), round, kernelWarp);
  w->lanes = warpId;
  firstRow = w->mul(warpId, 16);
  renewZero();
}

void SlicedKernel::renewZero() {
  // No sequence is as long, but compilers do not know.
  zero = arith::ShRUIOp::create(w->b, round, w->index(40));
}

Value SlicedKernel::renew(Value number) {
  return zero ? w->add(number, zero) : number;
}

void SlicedKernel::inOneWarp(int64_t number, llvm::function_ref<void()> body) {
  Value mine =
      w->compare(arith::CmpIPredicate::eq, kernelWarp, w->index(number));
  auto branch = scf::IfOp::create(w->b, mine, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(w->b);
  w->b.setInsertionPointToStart(branch.thenBlock());
  forget();
  // Addresses that several bodies have in common would be computed before them
  // all and wait. Registers are not short here with decay-Grams over channels,
  // nor where blocks of several steps have intervals of their own.
  auto isPlain = [](const System &system) { return system.blocks.size() == 1; };
  Value oldWarp = warpId, oldLanes = w->lanes, oldRow = firstRow,
        oldZero = zero;
  if (zero && pairs.empty() &&
      (getFirst() < 0 || llvm::all_of(systems, isPlain)))
    renewLanes();
  body();
  forget();
  warpId = oldWarp;
  w->lanes = oldLanes;
  firstRow = oldRow;
  zero = oldZero;
}

void SlicedKernel::inSlices(Side which, llvm::function_ref<void()> body) {
  if (countSlices(which) == warps)
    return body();
  if (countSlices(which) > warps) {
    // A warp has several slices, one after the other.
    Value ownWarp = warpId, ownRow = firstRow;
    auto loop =
        scf::ForOp::create(w->b, firstRow, w->index(16 * countSlices(which)),
                           w->index(16 * warps));
    OpBuilder::InsertionGuard guard(w->b);
    w->b.setInsertionPointToStart(loop.getBody());
    firstRow = loop.getInductionVar();
    warpId = arith::DivUIOp::create(w->b, firstRow, w->index(16));
    body();
    warpId = ownWarp;
    firstRow = ownRow;
    return;
  }
  Value mine = w->compare(arith::CmpIPredicate::ult, kernelWarp,
                          w->index(countSlices(which)));
  auto branch = scf::IfOp::create(w->b, mine, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(w->b);
  w->b.setInsertionPointToStart(branch.thenBlock());
  body();
}

SmallVector<Value> SlicedKernel::at(const Place &place,
                                    ArrayRef<Value> indices) {
  SmallVector<Value> result(indices);
  if (place.doubled)
    result.insert(result.begin(), stageIndex);
  return result;
}

void SlicedKernel::noteRead(Place &place) {
  place.everRead = true;
  if (level >= 0)
    place.lastRead = std::max(place.lastRead, interval);
}

Value SlicedKernel::read(Place &place, ArrayRef<Value> indices,
                         RankedTensorType type, bool transpose) {
  noteRead(place);
  return w->load(place.array, at(place, indices), type, transpose);
}

SmallVector<Value> SlicedKernel::writeAt(Place &place,
                                         ArrayRef<Value> indices) {
  if (level < 0 && place.written < 0)
    place.written = interval;
  return at(place, indices);
}

void SlicedKernel::write(Value value, Place &place, ArrayRef<Value> indices,
                         bool transpose) {
  w->store(value, place.array, writeAt(place, indices), transpose);
}

void SlicedKernel::emitOut(const Task &task) {
  const bool vector = getRank(task.value) == 1;
  Value value =
      vector ? evalVector(task.value, Axis::Rows) : evalWide(task.value);
  Value token = w->mul(renew(chunk), kTokens);
  auto [offset, stride] = getTokenOffset(task.arg, task.micro, token);
  Value target = kernel.outs[task.number];
  Type element = task.arg.getType();
  if (!partials->empty()) {
    Value all = w->add(w->mul(renew(batch), kernel.T), token);
    Value row = w->add(w->mul(all, renew(kernel.H)), renew(head));
    if (std::optional<PartialPlace> place = partials->getPlace(
            w->b, kernel, task.arg, task.micro, block, row)) {
      target = place->array;
      offset = place->offset;
      stride = place->stride;
      element = w->b.getF32Type();
    }
  }
  value = w->toElement(value, element);
  if (vector) {
    warp::GlobalStoreOp::create(w->b, value, target, offset, ValueRange{stride},
                                ValueRange{tokens}, 1);
    return;
  }
  int64_t size = getSize(side);
  Value left = size % 16 ? w->sub(w->index(size), firstRow) : w->index(16);
  warp::GlobalStoreOp::create(w->b, value, target, w->add(offset, firstRow),
                              ValueRange{w->index(1), stride},
                              ValueRange{left, tokens},
                              std::gcd(size, int64_t(16)));
}

void SlicedKernel::emitSum(const Task &task) {
  Value array = sumArrays[task.number];
  if (getRank(task.value) == 0) {
    Value sum = w->load(array, {w->index(0)}, w->along(Axis::Cols));
    w->store(
        w->addf(sum, w->splat(evalNumber(task.value), w->along(Axis::Cols))),
        array, {w->index(0)});
    return;
  }
  int64_t size = cast<RankedTensorType>(task.value.getType()).getDimSize(0);
  for (int64_t first = 0; first < size; first += 16) {
    Value sum = w->load(array, {w->index(first)}, w->along(Axis::Cols));
    w->store(w->addf(sum, evalVector(task.value, Axis::Cols, first)), array,
             {w->index(first)});
  }
}

/// In shared memory, a number a channel: the assembler would spill registers
/// that live as long.
void SlicedKernel::emitRowSum(const Task &task) {
  RankedTensorType type = w->along(Axis::Rows);
  Value array = sumArrays[task.number];
  Value sum = warp::SumOp::create(w->b, type,
                                  maskRows(evalWide(task.value), task.value));
  w->store(w->addf(w->load(array, {firstRow}, type), sum), array, {firstRow});
}

void SlicedKernel::emitTask(const Task &task) {
  switch (task.type) {
  case Task::Tile:
    write(maskRows(evalWide(task.value), task.value),
          tiles.find(task.value)->second, {w->index(0), firstRow},
          /*transpose=*/true);
    return;
  case Task::StateTile:
    for (int64_t part = 0; part < countSlices(Rows); ++part)
      write(currentState[part], stateTile, {firstRow, w->index(16 * part)});
    return;
  case Task::Levels:
    return emitLevels(levelTiles[task.number]);
  case Task::SquareTile:
    write(evalSquare(task.value), squares.find(task.value)->second,
          {w->index(0), w->index(0)});
    return;
  case Task::Grams:
    return emitGrams(task);
  case Task::Pairs:
    return emitPairs(task);
  case Task::System: {
    System &system = systems[task.number];
    int64_t steps = cast<TriSolveOp>(task.op).getRhs().size();
    Place *source = findGram(system);
    if (source) {
      noteRead(*source);
    } else {
      source = &system.source;
      for (auto [number, block] : llvm::enumerate(system.blocks))
        write(evalSquare(block), *source,
              {w->index(number / steps), w->index(0),
               w->index(number % steps * kTokens)});
    }
    warp::InverseOp::create(w->b, source->array, at(*source, {}),
                            system.inverse.array, writeAt(system.inverse, {}),
                            steps);
    return;
  }
  case Task::Vector: {
    Place &place = vectors.find(task.value)->second;
    Value input = task.op->getOperand(0);
    if (side == None) {
      Value vector =
          getRank(task.value) == 0
              ? w->splat(evalNumber(task.value), w->along(Axis::Cols))
              : evalVector(task.value, Axis::Rows);
      write(vector, place, {w->index(0), w->index(0)});
      return;
    }
    if (getShape(input).kind == Kind::State && side == Cols) {
      for (int64_t part = 0; part < countSlices(Rows); ++part)
        write(warp::SumOp::create(w->b, w->along(Axis::Cols),
                                  maskRows(evalState(input, part), Value())),
              place, {warpId, w->index(16 * part)});
      return;
    }
    if (isa<SumOp>(task.op) && getShape(input).kind == Kind::Wide)
      write(warp::SumOp::create(w->b, w->along(Axis::Cols),
                                maskRows(evalWide(input), input)),
            place, {warpId, w->index(0)});
    else
      write(evalOwn(task.value), place, {w->index(0), firstRow});
    return;
  }
  case Task::Out:
    return emitOut(task);
  case Task::Sum:
    return emitSum(task);
  case Task::RowSum:
    return emitRowSum(task);
  case Task::Next:
    for (int64_t part = 0; part < countSlices(Rows); ++part) {
      // Operands of two parts are on their way: those of all would fill the
      // registers.
      if (part >= 2)
        firstToken = warp::FollowOp::create(w->b, w->index(0).getType(),
                                            w->index(0), nextState[part - 2]);
      nextState[part] = evalState(task.value, part);
    }
    firstToken = Value();
    return;
  }
}
