//===- EmitAccess.cpp - Numbers, arrays and buffers -----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Small builders, and every load and store: columns that do not exist are
// masked, rows behind the last token are never touched.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

/// Bytes that memory gives at a time.
static constexpr int64_t kLineBytes = 64;
/// Lines of one array that are asked for without a loop.
static constexpr int64_t kUnrolledLines = 4;

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

static std::optional<int64_t> getConstant(Value value) {
  auto constant = value.getDefiningOp<arith::ConstantIndexOp>();
  return constant ? std::optional<int64_t>(constant.value()) : std::nullopt;
}

Value Emitter::idx(int64_t value) {
  return arith::ConstantIndexOp::create(b, loc, value);
}

Value Emitter::add(Value a, Value c) {
  std::optional<int64_t> x = getConstant(a), y = getConstant(c);
  if (x && y)
    return idx(*x + *y);
  if (x == 0)
    return c;
  if (y == 0)
    return a;
  return arith::AddIOp::create(b, loc, a, c);
}

Value Emitter::sub(Value a, Value c) {
  std::optional<int64_t> x = getConstant(a), y = getConstant(c);
  if (x && y)
    return idx(*x - *y);
  return arith::SubIOp::create(b, loc, a, c);
}

Value Emitter::mul(Value a, Value c) {
  return arith::MulIOp::create(b, loc, a, c);
}

Value Emitter::mul(Value a, int64_t c) {
  if (c == 1)
    return a;
  if (std::optional<int64_t> x = getConstant(a))
    return idx(*x * c);
  return arith::MulIOp::create(b, loc, a, idx(c));
}

Value Emitter::div(Value a, int64_t c) {
  if (c == 1)
    return a;
  if (std::optional<int64_t> x = getConstant(a))
    return idx(*x / c);
  return arith::DivUIOp::create(b, loc, a, idx(c));
}

Value Emitter::min(Value a, Value c) {
  return arith::MinSIOp::create(b, loc, a, c);
}

Value Emitter::max(Value a, Value c) {
  return arith::MaxSIOp::create(b, loc, a, c);
}

Value Emitter::constantScalar(double value) {
  return arith::ConstantOp::create(b, loc, FloatAttr::get(g.compute, value));
}

Value Emitter::constantVector(double value) {
  return arith::ConstantOp::create(
      b, loc,
      DenseElementsAttr::get(vectorType(), FloatAttr::get(g.compute, value)));
}

Value Emitter::zeroVector() { return constantVector(0.0); }

Value Emitter::splat(Value scalar) {
  return vector::BroadcastOp::create(b, loc, vectorType(), scalar);
}

Value Emitter::fma(Value x, Value y, Value acc) {
  if (g.fma)
    return math::FmaOp::create(b, loc, x, y, acc);
  return addf(mulf(x, y), acc);
}

Value Emitter::mulf(Value x, Value y) {
  return arith::MulFOp::create(b, loc, x, y);
}

Value Emitter::addf(Value x, Value y) {
  return arith::AddFOp::create(b, loc, x, y);
}

Value Emitter::shuffle(Value x, Value y, ArrayRef<int64_t> lanes) {
  return vector::ShuffleOp::create(b, loc, x, y, lanes);
}

Value Emitter::convert(Value value, FloatType type) {
  Type from = getElementTypeOrSelf(value.getType()), to = type;
  if (from == to)
    return value;
  Type target = to;
  if (auto vector = dyn_cast<VectorType>(value.getType()))
    target = VectorType::get(vector.getShape(), to);
  if (from.getIntOrFloatBitWidth() < to.getIntOrFloatBitWidth())
    return arith::ExtFOp::create(b, loc, target, value);
  return arith::TruncFOp::create(b, loc, target, value);
}

Value Emitter::constantMask(int64_t count) {
  SmallVector<bool> bits(g.lanes, false);
  std::fill_n(bits.begin(), count, true);
  auto type = VectorType::get({g.lanes}, b.getI1Type());
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(type, bits));
}

Value Emitter::dynamicMask(Value bound, int64_t lanes) {
  return vector::CreateMaskOp::create(
      b, loc, VectorType::get({lanes}, b.getI1Type()), bound);
}

//===----------------------------------------------------------------------===//
// Loops
//===----------------------------------------------------------------------===//

SmallVector<Value> Emitter::loop(Value from, Value to, int64_t step,
                                 ValueRange carried, Body body) {
  auto op = scf::ForOp::create(b, loc, from, to, idx(step), carried);
  OpBuilder::InsertionGuard guard(b);
  // A loop without results comes with its terminator.
  if (carried.empty())
    op.getBody()->getTerminator()->erase();
  b.setInsertionPointToEnd(op.getBody());
  SmallVector<Value> next = body(op.getInductionVar(), op.getRegionIterArgs());
  scf::YieldOp::create(b, loc, next);
  return llvm::to_vector_of<Value>(op.getResults());
}

SmallVector<Value> Emitter::loop(int64_t from, int64_t to, int64_t step,
                                 ValueRange carried, Body body) {
  if (from >= to)
    return llvm::to_vector(carried);
  if (from + step >= to)
    return body(idx(from), carried);
  return loop(idx(from), idx(to), step, carried, body);
}

void Emitter::loop(int64_t from, int64_t to, int64_t step,
                   llvm::function_ref<void(Value)> body) {
  loop(from, to, step, ValueRange{},
       [&](Value i, ValueRange) -> SmallVector<Value> {
         body(i);
         return {};
       });
}

//===----------------------------------------------------------------------===//
// The arena
//===----------------------------------------------------------------------===//

Value Emitter::viewSlot(unsigned slot, int64_t byteInSlot, int64_t rows,
                        int64_t stride) {
  if (Value other = bound.lookup({slot, byteInSlot}))
    return other;
  int64_t offset = plan.slots[slot].offset + byteInSlot + arenaByte;
  Value &view = views[{offset, {rows, stride}}];
  if (!view) {
    // One view for each place, at the kernel's entry.
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&kernel.getBody().front());
    view = memref::ViewOp::create(b, loc,
                                  MemRefType::get({rows, stride}, g.compute),
                                  arena, idx(offset), ValueRange{});
  }
  return view;
}

Value Emitter::view(const Buffer &buffer) {
  return viewSlot(buffer.slot, buffer.byteInSlot, buffer.rows, buffer.stride);
}

Value Emitter::viewMatrix(Value array, Value base, int64_t rows,
                          int64_t stride) {
  auto layout = StridedLayoutAttr::get(b.getContext(), ShapedType::kDynamic,
                                       ArrayRef<int64_t>{stride, 1});
  auto type = MemRefType::get(
      {rows, stride}, cast<MemRefType>(array.getType()).getElementType(),
      layout);
  return memref::ReinterpretCastOp::create(
      b, loc, type, array, OpFoldResult(base),
      ArrayRef<OpFoldResult>{b.getIndexAttr(rows), b.getIndexAttr(stride)},
      ArrayRef<OpFoldResult>{b.getIndexAttr(stride), b.getIndexAttr(1)});
}

Emitter::Operand Emitter::getOperand(Value value, bool inPanel,
                                     bool columnwise) {
  Operand operand;
  if (value == plan.state) {
    operand.memref = stateView;
    operand.rows = g.stateRows;
    operand.stride = g.panelWidth();
    return operand;
  }
  if (value == plan.checkpoint && plan.readsCheckpointInPlace) {
    operand.memref = checkpointView;
    operand.rows = g.stateRows;
    operand.stride = g.roundUpToVector(g.stateCols);
    return operand;
  }
  const Buffer *buffer = plan.getBuffer(value);
  operand.memref = view(*buffer);
  operand.rows = buffer->rows;
  operand.stride = buffer->stride;
  if (inPanel && columnwise && !buffer->panelLocal)
    operand.colBase = colBase;
  return operand;
}

Value Emitter::loadVector(Value memref, Value row, Value col) {
  return vector::LoadOp::create(b, loc, vectorType(), memref,
                                ValueRange{row, col});
}

void Emitter::storeVector(Value vector, Value memref, Value row, Value col) {
  vector::StoreOp::create(b, loc, vector, memref, ValueRange{row, col});
}

Value Emitter::loadScalar(Value memref, Value row, Value col) {
  return memref::LoadOp::create(b, loc, memref, ValueRange{row, col});
}

Value Emitter::loadElement(Value vector, Value position) {
  if (const Buffer *buffer = plan.getBuffer(vector))
    return loadScalar(view(*buffer), idx(0), position);
  // A param: [H, D].
  Value array = arrays.lookup(vector);
  Value at = add(arrayBase.lookup(vector), position);
  return convert(memref::LoadOp::create(b, loc, array, at), g.compute);
}

//===----------------------------------------------------------------------===//
// Arrays
//===----------------------------------------------------------------------===//

Value Emitter::globalCol(const Cursor &cursor) {
  return cursor.panel ? add(colBase, cursor.col) : cursor.col;
}

Value Emitter::loadArgument(BlockArgument argument, Cursor &cursor) {
  Value array = arrays.lookup(argument);
  auto type =
      cast<FloatType>(cast<MemRefType>(array.getType()).getElementType());
  Value at = add(arrayBase.lookup(argument), globalCol(cursor));
  if (argument == plan.checkpoint) {
    at = add(at, mul(cursor.row, arrayRowStride.lookup(argument)));
  } else if (getRank(argument) == 2) {
    // Rows behind the last token read the last token: never out of bounds.
    Value row = min(cursor.row, sub(valid, idx(1)));
    at = add(at, mul(row, arrayRowStride.lookup(argument)));
  }
  auto vector = VectorType::get({g.lanes}, type);
  Value loaded;
  if (cursor.mask) {
    Value zero = arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(vector, FloatAttr::get(type, 0.0)));
    loaded = vector::MaskedLoadOp::create(b, loc, vector, array, at,
                                          cursor.mask, zero);
  } else {
    loaded = vector::LoadOp::create(b, loc, vector, array, at);
  }
  return convert(loaded, g.compute);
}

/// [B, T, (n,) H, (D)]
Value Emitter::getArgumentBase(BlockArgument argument, Value member) {
  ArgAttr arg = plan.getArg(argument);
  Value at = chunkRow;
  if (arg.getFamily()) {
    int64_t family = plan.signature.getDim(arg.getFamily()).value_or(1);
    at = add(mul(at, family), member);
  }
  at = add(mul(at, heads), headIndex);
  return mul(at, getRank(argument) == 2 ? getShape(argument).second : 1);
}

/// Asks for a share of the next chunk's inputs: lines [step, step + 1) * n of
/// each array's C rows. Inputs are strided by the number of heads, which
/// hardware does not foresee; asked for all at once they would only queue.
void Emitter::emitPrefetch(Value step) {
  auto askFor = [&](int64_t share, llvm::function_ref<void(Value)> ask) {
    if (share > kUnrolledLines) {
      loop(0, share, 1, ask);
      return;
    }
    for (int64_t n = 0; n < share; ++n)
      ask(idx(n));
  };
  func::FuncOp source = plan.function;
  llvm::SmallDenseSet<StringAttr> seen;
  for (BlockArgument argument : source.getArguments()) {
    ArgAttr arg = plan.getArg(argument);
    if (!arg || arg.getKind() != ArgKind::In ||
        !seen.insert(arg.getName()).second)
      continue;
    // The micro-steps of a token stand behind each other: rows like others.
    int64_t steps = arg.getFamily()
                        ? plan.signature.getDim(arg.getFamily()).value_or(1)
                        : 1;
    Value base = getArgumentBase(argument, idx(0));
    int64_t size = getRank(argument) == 2 ? getShape(argument).second : 1;
    int64_t inLine = kLineBytes * 8 / arg.getType().getIntOrFloatBitWidth();
    // An array need not begin with a line: a row may end in one line more.
    int64_t lines = llvm::divideCeil(size - 1, inLine) + 1;
    int64_t share = llvm::divideCeil(g.tokens * steps * lines, prefetchSteps);
    Value first = mul(step, share);
    auto ask = [&](Value n) {
      Value line = add(first, n);
      Value row = div(line, lines);
      Value col = min(mul(sub(line, mul(row, lines)), inLine), idx(size - 1));
      if (isBackward()) // the chunk before is next
        row = max(sub(row, idx(g.tokens * steps)), mul(firstToken, -steps));
      else
        row =
            min(add(row, g.tokens * steps), sub(mul(remaining, steps), idx(1)));
      Value at = add(base, add(mul(row, mul(heads, size)), col));
      memref::PrefetchOp::create(b, loc, arrays.lookup(argument), at,
                                 /*isWrite=*/false, /*localityHint=*/2,
                                 /*isDataCache=*/true);
    };
    askFor(share, ask);
  }
  if (!plan.checkpoint || getSaveEvery() > 1)
    return;
  // The state at the start of the chunk before.
  int64_t size = g.stateRows * g.stateCols;
  int64_t inLine = kLineBytes / g.elementBytes();
  int64_t share =
      llvm::divideCeil(llvm::divideCeil(size, inLine), prefetchSteps);
  Value first = mul(step, share);
  askFor(share, [&](Value n) {
    Value at = min(mul(add(first, n), inLine), idx(size - 1));
    at = add(sub(arrayBase.lookup(plan.checkpoint), idx(size)), at);
    memref::PrefetchOp::create(b, loc, arrays.lookup(plan.checkpoint),
                               max(at, idx(0)), /*isWrite=*/false,
                               /*localityHint=*/2, /*isDataCache=*/true);
  });
}

/// Asks for the lines of an out that a tile is about to write, so that its
/// stores do not queue for them.
void Emitter::emitOutPrefetch(unsigned out, Value row, int64_t rows, Value col,
                              int64_t vectors, bool inPanel) {
  Value array = outArrays[plan.outPlaces[out].array];
  Type type = cast<MemRefType>(array.getType()).getElementType();
  int64_t cols = getShape(plan.outs[out]).second;
  int64_t inLine = kLineBytes * 8 / type.getIntOrFloatBitWidth();
  OpBuilder::InsertionGuard guard(b);
  if (streamed.contains(array)) {
    auto branch = scf::IfOp::create(b, loc, streams, /*withElseRegion=*/true);
    b.setInsertionPoint(branch.elseBlock()->getTerminator());
  }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < vectors * g.lanes; c += inLine) {
      Value at = add(inPanel ? add(colBase, col) : col, c);
      at = min(at, idx(cols - 1));
      Value token = min(add(row, r), sub(valid, idx(1)));
      at = add(add(outBase[out], mul(token, outRowStride[out])), at);
      memref::PrefetchOp::create(b, loc, array, at, /*isWrite=*/true,
                                 /*localityHint=*/3, /*isDataCache=*/true);
    }
}

void Emitter::storeOut(unsigned out, Value value, const Cursor &cursor) {
  Value array = outArrays[plan.outPlaces[out].array];
  auto type =
      cast<FloatType>(cast<MemRefType>(array.getType()).getElementType());
  Value at = add(add(outBase[out], mul(cursor.row, outRowStride[out])),
                 globalCol(cursor));
  Value limit = cursor.panel ? valid : ownedRows;
  Value exists = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt,
                                       cursor.row, limit);
  auto guarded = scf::IfOp::create(b, loc, exists, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(guarded.thenBlock()->getTerminator());
  value = convert(value, type);
  if (cursor.mask)
    vector::MaskedStoreOp::create(b, loc, array, at, cursor.mask, value);
  else
    storeStreamed(value, array, at);
}

/// Bytes from which on what a kernel writes is left out of the caches: more
/// than a core's own hold, several times over.
static constexpr int64_t kStreamedBytes = 8 << 20;

void Emitter::findStreams() {
  int64_t tokenBytes = 0, chunkBytes = 0;
  auto add = [&](Value array, int64_t elements, int64_t &bytes) {
    Type type = cast<MemRefType>(array.getType()).getElementType();
    int64_t row = elements * type.getIntOrFloatBitWidth() / 8;
    // Rows of whole lines. LLVM has no such stores of 16-bit floats where the
    // CPU has none of these.
    if (row % kLineBytes == 0 && type.getIntOrFloatBitWidth() >= 32 &&
        streamed.insert(array))
      bytes += row;
  };
  if (isBackward()) {
    for (auto [out, place] : llvm::zip(plan.outs, plan.outPlaces))
      if (getRank(out) == 2)
        add(outArrays[place.array], getShape(out).second, tokenBytes);
  } else if (!plan.signature.getArgs(ArgKind::Checkpoint).empty()) {
    // Only what a backward reads, much later.
    if (g.stateCols % g.lanes == 0)
      add(outArrays.back(), g.stateRows * g.stateCols, chunkBytes);
  }
  if (streamed.empty())
    return;
  Value rows = mul(mul(sequences, numTokens), heads);
  Value bytes =
      mul(rows, tokenBytes + chunkBytes / (g.tokens * getSaveEvery()));
  auto compare = [&](arith::CmpIPredicate predicate, Value x, int64_t y) {
    return arith::CmpIOp::create(b, loc, predicate, x, idx(y));
  };
  streams = compare(arith::CmpIPredicate::sge, bytes, kStreamedBytes);
  for (Value array : streamed) {
    Value address =
        memref::ExtractAlignedPointerAsIndexOp::create(b, loc, array);
    Value rest = arith::AndIOp::create(b, loc, address, idx(kLineBytes - 1));
    Value aligned = compare(arith::CmpIPredicate::eq, rest, 0);
    streams = arith::AndIOp::create(b, loc, streams, aligned);
  }
}

void Emitter::storeStreamed(Value value, Value array, Value at) {
  if (!streamed.contains(array)) {
    vector::StoreOp::create(b, loc, value, array, at);
    return;
  }
  auto type = cast<VectorType>(value.getType());
  llvm::MaybeAlign alignment(type.getNumElements() *
                             type.getElementTypeBitWidth() / 8);
  auto branch = scf::IfOp::create(b, loc, streams, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(branch.thenBlock()->getTerminator());
  vector::StoreOp::create(b, loc, value, array, ValueRange{at},
                          /*nontemporal=*/true, alignment);
  b.setInsertionPoint(branch.elseBlock()->getTerminator());
  vector::StoreOp::create(b, loc, value, array, at);
}
