//===- EmitUnits.cpp - The steps of a tiled kernel and their frame --------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   state <- initial state or 0; sums <- 0; copies of the first chunk
//   for each chunk (a backward program: from the last to the first):
//     copies of the next chunk;  stored values in order;  outs;  sums;
//     the state's update
//   final state <- state; sums
//
// Barriers are placed by delta-insert-barriers.
//
//===----------------------------------------------------------------------===//

#include "../ColumnBlocks.h"
#include "../Program.h"
#include "TiledKernel.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

static constexpr int64_t kTokens = 16;

//===----------------------------------------------------------------------===//
// Work for warps
//===----------------------------------------------------------------------===//

void TiledKernel::forTiles(int64_t rows, int64_t cols,
                           llvm::function_ref<void(TileAt)> body) {
  rows = getPaddedChannels(rows);
  cols = getPaddedChannels(cols);
  auto run = [&](TileAt at) {
    tileMemo.clear();
    for (auto &memo : vectorMemo)
      memo.clear();
    body(at);
  };
  if (rows == 16 && cols == 16)
    return inOneWarp([&] { run({index(0), index(0)}); });
  // Along the longer side, so that no two warps share a tile.
  bool byRows = rows > cols || (rows == cols && rows > 16);
  auto loop = scf::ForOp::create(
      b, mul(warpId, 16), index(byRows ? rows : cols), index(16 * warps));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  Value outer = loop.getInductionVar();
  for (int64_t inner = 0; inner < (byRows ? cols : rows); inner += 16)
    run(byRows ? TileAt{outer, index(inner)} : TileAt{index(inner), outer});
}

void TiledKernel::inOneWarp(llvm::function_ref<void()> body) {
  Value mine =
      compare(arith::CmpIPredicate::eq, warpId, index(nextWarp++ % warps));
  auto branch = scf::IfOp::create(b, mine, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(branch.thenBlock());
  tileMemo.clear();
  for (auto &memo : vectorMemo)
    memo.clear();
  body();
}

void TiledKernel::storeTile(Value tile, Value value, TileAt at) {
  auto stored = arrays.find(value);
  if (stored != arrays.end())
    store(maskColumns(tile, value, at.col), stored->second.array,
          {at.row, at.col});
}

void TiledKernel::storeVector(Value vector, Value value, Value first) {
  store(vector, arrays.find(value)->second.array, {first});
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

static std::pair<int64_t, int64_t> getShape(Value value) {
  auto shape = cast<RankedTensorType>(value.getType()).getShape();
  return {shape[0], shape[1]};
}

void TiledKernel::emitSolve(TriSolveOp op) {
  System *system = nullptr;
  for (System &candidate : systems)
    if (llvm::equal(candidate.blocks, op.getBlocks()))
      system = &candidate;
  if (isLong())
    return emitLongSolve(op, *system);
  int64_t steps = op.getRhs().size();
  if (!system->done) {
    system->done = true;
    inOneWarp([&] {
      for (auto [number, block] : llvm::enumerate(system->blocks)) {
        tileMemo.clear();
        store(
            evalMatrix(block, {index(0), index(0)}), system->source,
            {index(number / steps), index(0), index(number % steps * kTokens)});
      }
      warp::InverseOp::create(b, system->source, ValueRange{}, system->inverse,
                              ValueRange{}, steps);
    });
  }
  for (int64_t j = 0; j < steps; ++j) {
    Value unknown = op.getUnknowns()[j];
    if (!isStored(unknown))
      continue;
    auto [rows, cols] = getShape(unknown);
    forTiles(rows, cols, [&](TileAt at) {
      Value sum = constant(0.0, square());
      for (int64_t l = 0; l < steps; ++l) {
        bool turned = op.getTranspose();
        Value inverse = toOperand(load(system->inverse,
                                       {index(turned ? l : j), index(0),
                                        index((turned ? j : l) * kTokens)},
                                       square(), turned));
        sum = mma(inverse,
                  loadOperand(op.getRhs()[l], index(0), at.col,
                              /*transpose=*/true),
                  sum);
      }
      storeTile(sum, unknown, at);
    });
  }
}

void TiledKernel::emitOp(Operation *op) {
  if (auto gram = dyn_cast<DecayGramOp>(op))
    return emitGram(gram);
  if (auto gram = dyn_cast<DecayGramAdjointOp>(op))
    return emitGramAdjoint(gram);
  if (auto solve = dyn_cast<TriSolveOp>(op))
    return emitSolve(solve);
  Value value = op->getResult(0);
  if (!isStored(value))
    return;
  if (isLong()) {
    if (isa<PrefixProductOp, PrefixSumOp>(op))
      return emitLongScan(op);
    if (isa<TotalProductOp, TokenSumOp>(op))
      return emitLongTotal(op);
    if (auto mask = dyn_cast<DecayMaskOp>(op))
      return emitLongMask(mask);
  }
  if (auto sum = dyn_cast<SumOp>(op)) {
    Value input = sum.getInput();
    if (getRank(input) == 1) { // all elements of a vector
      int64_t size = cast<RankedTensorType>(input.getType()).getDimSize(0);
      return inOneWarp([&] {
        Value total;
        for (int64_t first = 0; first < size; first += 16) {
          Value part = evalVector(input, Axis::Rows, index(first));
          if (size - first < 16) {
            Value inside =
                compare(arith::CmpIPredicate::slt, positions(Axis::Rows),
                        integers(size - first, along(Axis::Rows)));
            part = select(inside, part, constant(0.0, along(Axis::Rows)));
          }
          total = addf(total, part);
        }
        for (int64_t distance = 1; distance < 16; distance *= 2)
          total = addf(total, shuffle(total, distance));
        storeVector(total, value, index(0));
      });
    }
    auto [rows, cols] = getShape(input);
    return forTiles(rows, 16, [&, cols = cols](TileAt at) {
      Value total;
      for (int64_t col = 0; col < cols; col += 16) {
        tileMemo.clear();
        total = addf(total, maskColumns(evalMatrix(input, {at.row, index(col)}),
                                        input, index(col)));
      }
      storeVector(warp::SumOp::create(b, along(Axis::Rows), total), value,
                  at.row);
    });
  }
  if (isa<TokenSumOp, TotalProductOp>(op)) {
    Value input = op->getOperand(0);
    bool product = isa<TotalProductOp>(op);
    auto join = [&](Value x, Value y) {
      return product ? mulf(x, y) : addf(x, y);
    };
    if (getRank(input) == 1)
      return inOneWarp([&] {
        Value all = evalVector(input, Axis::Rows, index(0));
        for (int64_t distance = 1; distance < 16; distance *= 2)
          all = join(all, shuffle(all, distance));
        storeVector(all, value, index(0));
      });
    return forTiles(kTokens, getShape(input).second, [&](TileAt at) {
      Value all = evalMatrix(input, at);
      for (int64_t distance = 1; distance < 16; distance *= 2)
        all = join(all, shuffle(all, distance));
      storeVector(warp::CollapseOp::create(b, along(Axis::Cols), all), value,
                  at.col);
    });
  }
  if (auto diagonal = dyn_cast<DiagonalOp>(op)) {
    for (int64_t part = 0; part < getBlocks(); ++part)
      inOneWarp([&] {
        Value first = index(16 * part);
        Value pairs = select(
            compare(arith::CmpIPredicate::eq, rowNumbers(), colNumbers()),
            evalMatrix(diagonal.getInput(), {first, first}),
            constant(0.0, square()));
        storeVector(warp::SumOp::create(b, along(Axis::Rows), pairs), value,
                    first);
      });
    return;
  }
  // Anything else is computed as it would be where it is used.
  if (getRank(value) == 2) {
    auto [rows, cols] = getShape(value);
    return forTiles(rows, cols, [&](TileAt at) {
      storeTile(computeStored(value, at), value, at);
    });
  }
}

std::pair<Value, Value> TiledKernel::getTokenOffset(ArgAttr arg, int64_t micro,
                                                    Value token) {
  int64_t width = 1, steps = 1;
  for (StringAttr axis : arg.getAxes())
    width *= *signature.getDim(axis);
  if (arg.getFamily())
    steps = *signature.getDim(arg.getFamily());
  // [B, T, n, H, width]
  Value row = add(mul(batch, kernel.T), token);
  row = add(mul(row, steps), index(micro));
  Value offset = mul(add(mul(row, kernel.H), head), width);
  if (block && hasColumns(signature, arg))
    offset = add(offset, getFirstCol());
  return {offset, mul(kernel.H, steps * width)};
}

void TiledKernel::emitOut(unsigned number, ArgAttr arg, int64_t micro,
                          Value value) {
  auto [offset, stride] = getTokenOffset(arg, micro, mul(chunk, chunkTokens));
  Value target = kernel.outs[number];
  Type element = arg.getType();
  if (!partials->empty()) {
    Value token = add(mul(batch, kernel.T), mul(chunk, kTokens));
    Value row = add(mul(token, kernel.H), head);
    if (std::optional<PartialPlace> place =
            partials->getPlace(b, kernel, arg, micro, block, row)) {
      target = place->array;
      offset = place->offset;
      stride = place->stride;
      element = b.getF32Type();
    }
  }
  if (getRank(value) == 1)
    return inOneWarp([&, offset = offset, stride = stride] {
      for (int64_t first = 0; first < chunkTokens; first += 16)
        warp::GlobalStoreOp::create(
            b, toElement(evalVector(value, Axis::Rows, index(first)), element),
            target, add(offset, mul(stride, first)), ValueRange{stride},
            ValueRange{getTokensBehind(index(first))}, 1);
    });
  int64_t cols = getShape(value).second;
  forTiles(chunkTokens, cols, [&, offset = offset, stride = stride](TileAt at) {
    Value left = arith::SubIOp::create(b, index(cols), at.col);
    Value first = isLong() ? add(offset, mul(stride, at.row)) : offset;
    warp::GlobalStoreOp::create(
        b, toElement(evalMatrix(value, at), element), target,
        add(first, at.col), ValueRange{stride, index(1)},
        ValueRange{getTokensBehind(at.row), left}, cols % 16 ? 1 : 16);
  });
}

void TiledKernel::emitSum(ArgAttr, Value array, Value value) {
  inOneWarp([&] {
    if (getRank(value) == 0) {
      Value sum = load(array, {index(0)}, along(Axis::Cols));
      store(addf(sum, splat(evalScalar(value), along(Axis::Cols))), array,
            {index(0)});
      return;
    }
    int64_t size = cast<RankedTensorType>(value.getType()).getDimSize(0);
    for (int64_t first = 0; first < size; first += 16) {
      Value sum = load(array, {index(first)}, along(Axis::Cols));
      store(addf(sum, evalVector(value, Axis::Cols, index(first))), array,
            {index(first)});
    }
  });
}

//===----------------------------------------------------------------------===//
// The frame
//===----------------------------------------------------------------------===//

Value TiledKernel::getChunkOf(Value step) {
  if (!backward)
    return step;
  Value last = arith::SubIOp::create(b, chunks, index(1));
  return arith::SubIOp::create(b, last, step);
}

Value TiledKernel::getValidTokens(Value number) {
  Value left = arith::SubIOp::create(b, kernel.T, mul(number, chunkTokens));
  left = arith::MaxSIOp::create(b, left, index(0));
  return arith::MinSIOp::create(b, left, index(chunkTokens));
}

Value TiledKernel::getTokensBehind(Value first) {
  return isLong() ? Value(arith::SubIOp::create(b, tokens, first)) : tokens;
}

void TiledKernel::emitLoads(Value step, Value place) {
  if (!hasCopies())
    return;
  // Behind the last step nothing is copied.
  Value number = getChunkOf(step);
  Value exists = compare(arith::CmpIPredicate::slt, step, chunks);
  Value rows = select(exists, getValidTokens(number), index(0));
  for (const Input &input : inputs) {
    ArgAttr arg = getArg(input.argument);
    auto [offset, stride] = getTokenOffset(
        arg, getMicro(program, input.argument), mul(number, chunkTokens));
    IntegerAttr width;
    int64_t alignment = 1;
    if (getRank(input.argument) == 2) {
      alignment = getShape(input.argument).second;
      width = b.getI64IntegerAttr(alignment);
    }
    warp::AsyncLoadOp::create(b, kernel.getInput(signature, arg), offset,
                              stride, rows, input.array, ValueRange{place},
                              chunkTokens, width, alignment);
  }
  if (auto copy = arrays.find(checkpoint); copy != arrays.end()) {
    Value sequence = add(mul(batch, kernel.H), head);
    Value offset =
        mul(add(mul(sequence, chunks), number), stateRows * getAllCols());
    if (block)
      offset = add(offset, mul(getFirstCol(), stateRows));
    warp::AsyncLoadOp::create(b, kernel.checkpoints, offset, index(stateRows),
                              select(exists, index(stateCols), index(0)),
                              copy->second.array, ValueRange{place},
                              getPaddedChannels(stateCols),
                              b.getI64IntegerAttr(stateRows), stateRows);
  }
  warp::AsyncCommitOp::create(b);
}

void TiledKernel::emitState(bool loads) {
  Value array = loads ? kernel.initialState : kernel.finalState;
  Type element = cast<MemRefType>(array.getType()).getElementType();
  Value sequence = add(mul(batch, kernel.H), head);
  Value base = mul(sequence, stateRows * getAllCols());
  if (block)
    base = add(base, getFirstCol());
  auto forAll =
      [&](llvm::function_ref<void(TileAt, Value, ValueRange, ValueRange)>
              body) {
        forTiles(stateRows, stateCols, [&](TileAt at) {
          Value offset = add(base, add(mul(at.row, getAllCols()), at.col));
          Value rows = arith::SubIOp::create(b, index(stateRows), at.row);
          Value cols = arith::SubIOp::create(b, index(stateCols), at.col);
          body(at, offset, {index(getAllCols()), index(1)}, {rows, cols});
        });
      };
  auto branch = scf::IfOp::create(b, isNotNull(array), loads);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(branch.thenBlock());
  forAll([&](TileAt at, Value offset, ValueRange strides, ValueRange limits) {
    RankedTensorType type = square();
    if (loads) {
      Value tile = warp::GlobalLoadOp::create(b, type.clone(element), array,
                                              offset, strides, limits);
      store(extend(tile), stateArray, {at.row, at.col});
    } else {
      Value tile = load(stateArray, {at.row, at.col}, type);
      warp::GlobalStoreOp::create(b, toElement(tile, element), array, offset,
                                  strides, limits, stateCols % 16 ? 1 : 16);
    }
  });
  if (!loads)
    return;
  b.setInsertionPointToStart(branch.elseBlock());
  forTiles(stateRows, stateCols, [&](TileAt at) {
    store(constant(0.0, square()), stateArray, {at.row, at.col});
  });
}

void TiledKernel::emitPrologue() {
  auto alloc = [&](warp::SharedType type) -> Value {
    return warp::AllocSharedOp::create(b, type, IntegerAttr());
  };
  stateArray = alloc(getTileType({}, getPaddedChannels(stateRows),
                                 getPaddedChannels(stateCols), b.getF32Type()));
  for (auto &[value, stored] : arrays)
    stored.array = alloc(stored.type);
  for (Input &input : inputs)
    input.array = alloc(input.type);
  for (System &system : systems) {
    system.source = alloc(system.sourceType);
    system.inverse = alloc(system.inverseType);
    system.done = false;
  }
  for (warp::SharedType type : sumTypes)
    sumArrays.push_back(alloc(type));
  if (scratchType)
    scratch = alloc(scratchType);
  Value id = gpu::BlockIdOp::create(b, gpu::Dimension::x);
  if (choice.vBlocks > 1) {
    Value count = index(choice.vBlocks);
    block = arith::RemUIOp::create(b, id, count);
    id = arith::DivUIOp::create(b, id, count);
  }
  head = arith::RemUIOp::create(b, id, kernel.H);
  batch = arith::DivUIOp::create(b, id, kernel.H);
  warpId = warp::WarpIdOp::create(b);
  chunks = arith::CeilDivUIOp::create(b, kernel.T, index(chunkTokens));
  for (const Input &input : inputs)
    if (getRank(input.argument) == 2 &&
        getShape(input.argument).second % 16 != 0)
      warp::FillSharedOp::create(b, input.array);
  if (auto copy = arrays.find(checkpoint);
      copy != arrays.end() && stateRows % 16 != 0)
    warp::FillSharedOp::create(b, copy->second.array);
  for (Value array : sumArrays)
    warp::FillSharedOp::create(b, array);
}

void TiledKernel::emitChunk() {
  tokens = getValidTokens(chunk);
  if (!backward && kernel.checkpoints)
    emitSavedState();
  Block &body = program.front();
  for (Operation &op : body.without_terminator())
    emitOp(&op);
  Operation *terminator = body.getTerminator();
  unsigned result = 1, out = 0;
  for (ArgAttr arg : signature.getArgs(ArgKind::Out)) {
    int64_t family = arg.getFamily() ? *signature.getDim(arg.getFamily()) : 1;
    for (int64_t j = 0; j < family; ++j)
      emitOut(out, arg, j, terminator->getOperand(result++));
    ++out;
  }
  for (auto [arg, array] :
       llvm::zip(signature.getArgs(ArgKind::Sum), sumArrays))
    emitSum(arg, array, terminator->getOperand(result++));
  // Every other reader of the old state has its tiles by now.
  Value next = terminator->getOperand(0);
  if (next != state)
    forTiles(stateRows, stateCols, [&](TileAt at) {
      store(evalMatrix(next, at), stateArray, {at.row, at.col});
    });
}

void TiledKernel::emitSumStores() {
  Value sequence = add(mul(batch, kernel.H), head);
  for (auto [number, arg] : llvm::enumerate(signature.getArgs(ArgKind::Sum))) {
    int64_t size = 1;
    for (StringAttr axis : arg.getAxes())
      size *= *signature.getDim(axis);
    Value array = sumArrays[number], target = kernel.sums[number];
    inOneWarp([&, arg = arg, type = arg.getType()]() mutable {
      Value base = mul(sequence, size);
      if (std::optional<PartialPlace> place =
              partials->getPlace(b, kernel, arg, 0, block, sequence)) {
        target = place->array;
        base = place->offset;
        type = b.getF32Type();
      } else if (block) {
        base = add(base, getFirstCol());
        size = stateCols;
      }
      for (int64_t first = 0; first < size; first += 16)
        warp::GlobalStoreOp::create(
            b, toElement(load(array, {index(first)}, along(Axis::Cols)), type),
            target, add(base, index(first)), ValueRange{index(1)},
            ValueRange{index(std::min<int64_t>(16, size - first))}, 1);
    });
  }
}

void TiledKernel::emit(GpuKernel built, const PartialSums &sums) {
  kernel = built;
  partials = &sums;
  kernelFunction = built.function;
  b.setInsertionPoint(kernel.function.getBody().front().getTerminator());
  emitPrologue();
  if (choice.stages == 2)
    emitLoads(index(0), index(0));
  emitState(/*loads=*/true);
  auto loop = scf::ForOp::create(b, index(0), chunks, index(1));
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value step = loop.getInductionVar();
    chunk = getChunkOf(step);
    const bool doubled = choice.stages == 2;
    stage = doubled ? arith::RemUIOp::create(b, step, index(2)) : index(0);
    if (!doubled)
      emitLoads(step, index(0));
    if (hasCopies())
      warp::AsyncWaitOp::create(b, 0);
    if (doubled)
      emitLoads(add(step, index(1)), arith::SubIOp::create(b, index(1), stage));
    emitChunk();
  }
  warp::AsyncWaitOp::create(b, 0);
  emitSumStores();
  emitState(/*loads=*/false);
}
