//===- GlobalAccess.cpp - Tiles between global memory and registers -------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Asynchronous copies of rows by the whole block, and loads and stores of tiles
// by a warp, in whole 32-byte sectors where alignment allows. Addresses are 64
// bits.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::warp;

/// Address space of global memory.
static constexpr unsigned kGlobal = 1;

//===----------------------------------------------------------------------===//
// Addresses
//===----------------------------------------------------------------------===//

Value FragmentLowering::i64(int64_t value) {
  return arith::ConstantOp::create(b, b.getI64IntegerAttr(value));
}

/// An index, or an i32 that is not negative, in 64 bits.
Value FragmentLowering::toI64(Value value) {
  if (std::optional<int64_t> number = getConstant(value))
    return i64(*number);
  if (value.getType().isIndex())
    return arith::IndexCastOp::create(b, b.getI64Type(), value);
  return arith::ExtUIOp::create(b, b.getI64Type(), value);
}

/// Address of element `offset` (an index) of a flat array.
Value FragmentLowering::getGlobalAddress(Value memref, Value offset) {
  int64_t bytes =
      cast<MemRefType>(memref.getType()).getElementTypeBitWidth() / 8;
  Value base = arith::IndexCastOp::create(
      b, b.getI64Type(),
      memref::ExtractAlignedPointerAsIndexOp::create(b, memref));
  return b.createOrFold<arith::AddIOp>(
      base, b.createOrFold<arith::MulIOp>(toI64(offset), i64(bytes)));
}

Value FragmentLowering::getGlobalPointer(Value address) {
  return LLVM::IntToPtrOp::create(
      b, LLVM::LLVMPointerType::get(b.getContext(), kGlobal), address);
}

Value FragmentLowering::getLimit(Value limit, int64_t size) {
  if (std::optional<int64_t> least = getBound(limit, /*upper=*/false))
    if (*least >= size)
      return Value();
  if (std::optional<int64_t> number = getConstant(limit))
    return i32(std::max<int64_t>(*number, 0));
  Value bound = arith::ConstantIndexOp::create(b, size);
  return arith::IndexCastOp::create(
      b, i32Type, b.createOrFold<arith::MinSIOp>(limit, bound));
}

/// Runs `body` under a condition; null is true.
void FragmentLowering::whenTrue(Value condition, function_ref<void()> body) {
  if (!condition)
    return body();
  auto branch = scf::IfOp::create(b, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(branch.thenBlock()->getTerminator());
  body();
}

//===----------------------------------------------------------------------===//
// Asynchronous copies
//===----------------------------------------------------------------------===//

/// Threads lie side by side along a row, then over rows; what one pass of the
/// block does not cover, the next ones do.
LogicalResult FragmentLowering::lowerAsyncLoad(AsyncLoadOp op) {
  auto type = cast<SharedType>(op.getArray().getType());
  int64_t bytes = type.getElementBytes(), rows = op.getRows();
  const int64_t threads =
      op.getWarps() ? static_cast<int64_t>(op.getWarps()) * 32 : this->threads;
  bool vector = !op.getWidth();
  if (vector && type.getSwizzle())
    return op.emitOpError("expects an array without swizzle when 'width' is "
                          "absent");
  int64_t rowBytes = vector ? bytes : type.getRowBytes();
  int64_t width = vector ? bytes : *op.getWidth() * bytes;
  int64_t chunk = 16;
  for (int64_t size : {int64_t(op.getAlignment()) * bytes, width, rowBytes})
    chunk = std::min(chunk, size & -size);
  int64_t chunks = width / chunk; // a row
  int64_t columnPasses = llvm::divideCeil(chunks, threads);
  int64_t rowsAPass =
      columnPasses > 1 ? 1 : std::min<int64_t>(threads / chunks, rows);
  int64_t active = columnPasses > 1 ? threads : rowsAPass * chunks;

  Value thread = getThread(), row, seg;
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(own.first);
    if (int64_t first = op.getFirstWarp())
      thread = add(thread, -32 * first);
    if (columnPasses > 1 || rowsAPass == 1) {
      row = i32(0);
      seg = thread;
    } else if (llvm::isPowerOf2_64(chunks)) {
      row = shiftRight(thread, llvm::Log2_64(chunks));
      seg = bitAnd(thread, chunks - 1);
    } else {
      row = b.createOrFold<arith::DivUIOp>(thread, i32(chunks));
      seg = b.createOrFold<arith::RemUIOp>(thread, i32(chunks));
    }
  }
  Value column = mul(seg, chunk);
  Value limit = getLimit(op.getValid(), rows);
  TilePosition position =
      getPosition(type, getOffset(op.getArray()), op.getIndices());
  Value stride =
      b.createOrFold<arith::MulIOp>(toI64(op.getStride()), i64(bytes));
  Value address = b.createOrFold<arith::AddIOp>(
      getGlobalAddress(op.getSource(), op.getOffset()), toI64(column));
  if (!getConstant(row))
    address = b.createOrFold<arith::AddIOp>(
        address, b.createOrFold<arith::MulIOp>(toI64(row), stride));
  Value step = b.createOrFold<arith::MulIOp>(stride, i64(rowsAPass));

  auto copy = [&](Value from, Value to, Value valid) {
    if (chunk >= 4) {
      Value size;
      if (valid)
        size = select(valid, i32(chunk), i32(0));
      NVVM::CpAsyncOp::create(b, getPointer(to), getGlobalPointer(from), chunk,
                              chunk == 16 ? NVVM::LoadCacheModifierKind::CG
                                          : NVVM::LoadCacheModifierKind::CA,
                              size);
      return;
    }
    Type half = b.getIntegerType(16);
    auto load = [&]() -> Value {
      return LLVM::LoadOp::create(b, half, getGlobalPointer(from), 2);
    };
    Value value;
    if (valid) {
      auto branch = scf::IfOp::create(b, half, valid, /*withElseRegion=*/true);
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToEnd(branch.thenBlock());
      scf::YieldOp::create(b, load());
      b.setInsertionPointToEnd(branch.elseBlock());
      scf::YieldOp::create(b, zero(half));
      value = branch.getResult(0);
    } else {
      value = load();
    }
    storeShared(to, value);
  };

  int64_t period = 1;
  if (type.getSwizzle()) {
    auto [divisor, modulus, factor] = type.getSwizzleTerms();
    period = divisor * modulus;
  }
  auto allPasses = [&] {
    Value from = address;
    for (int64_t first = 0; first < rows; first += rowsAPass) {
      Value here = add(row, first);
      Value valid;
      if (limit)
        valid = compare(arith::CmpIPredicate::slt, here, limit);
      Value inside;
      if (first + rowsAPass > rows)
        inside = compare(arith::CmpIPredicate::slt, here, i32(rows));
      for (int64_t pass = 0; pass < columnPasses; ++pass) {
        Value more = inside;
        int64_t done = pass * threads;
        if (columnPasses > 1 && done + threads > chunks)
          more = compare(arith::CmpIPredicate::slt, thread, i32(chunks - done));
        Value place = done ? add(column, done * chunk) : column;
        Value source = from;
        if (done)
          source = b.createOrFold<arith::AddIOp>(from, i64(done * chunk));
        // Rows at whole periods of the swizzle from the first have its
        // swizzle, and the rest of the address is a constant.
        Value to;
        if (!type.getSwizzle() || vector) {
          to = add(add(add(place, mul(row, rowBytes)), position.base),
                   position.constant + first * rowBytes);
        } else {
          int64_t whole = rowsAPass % period ? 0 : first;
          Value rowHere = add(row, first - whole);
          Value swizzled = place;
          if (Value swizzle = getSwizzle(type, rowHere))
            swizzled = bitXor(place, swizzle);
          to = add(add(add(swizzled, mul(rowHere, rowBytes)), position.base),
                   position.constant + whole * rowBytes);
        }
        whenTrue(more, [&] { copy(source, to, valid); });
      }
      if (first + rowsAPass < rows)
        from = b.createOrFold<arith::AddIOp>(from, step);
    }
  };
  whenTrue(active < threads
               ? compare(arith::CmpIPredicate::ult, thread, i32(active))
               : Value(),
           allPasses);
  return success();
}

//===----------------------------------------------------------------------===//
// Tiles and vectors
//===----------------------------------------------------------------------===//

namespace {
/// Where the elements of a lane are, along each axis of a tile: position
/// `own` + 8 block + e, for e below `perBlock`.
struct LaneAxis {
  Value own;
  int64_t blocks, perBlock;
};
} // namespace

void FragmentLowering::lowerGlobalLoad(GlobalLoadOp op) {
  auto type = cast<RankedTensorType>(op.getResult().getType());
  Type element = type.getElementType();
  bool packed = isPacked(type);
  int64_t bytes = type.getElementTypeBitWidth() / 8;
  Value base = getGlobalAddress(op.getSource(), op.getOffset());
  auto strideOf = [&](unsigned axis) {
    return b.createOrFold<arith::MulIOp>(toI64(op.getStrides()[axis]),
                                         i64(bytes));
  };
  auto timesOwn = [&](Value own, Value stride) {
    return b.createOrFold<arith::MulIOp>(toI64(own), stride);
  };
  auto move = [&](Value address, Value stride, int64_t count) {
    return count
               ? b.createOrFold<arith::AddIOp>(
                     address, b.createOrFold<arith::MulIOp>(stride, i64(count)))
               : address;
  };
  // Results of `load`, or zeros where `condition` (null: true) does not hold.
  auto guarded = [&](Value condition, size_t count,
                     function_ref<Registers()> load) -> Registers {
    if (!condition)
      return load();
    SmallVector<Type> types(count, element);
    auto branch = scf::IfOp::create(b, types, condition, /*addThenBlock=*/true,
                                    /*addElseBlock=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToEnd(branch.thenBlock());
    scf::YieldOp::create(b, load());
    b.setInsertionPointToEnd(branch.elseBlock());
    Value nothing = arith::ConstantOp::create(b, b.getZeroAttr(element));
    scf::YieldOp::create(b, Registers(count, nothing));
    return Registers(branch.getResults());
  };
  // The elements along the last axis, which spans `blocks` blocks.
  auto loadLine = [&](Value address, Value own, int64_t blocks,
                      int64_t perBlock, Value limit, Value stride,
                      bool adjacent) {
    Registers line;
    for (int64_t block = 0; block < blocks; ++block) {
      if (!limit && adjacent && perBlock == 2 && bytes == 4) {
        Value pair = LLVM::LoadOp::create(
            b, VectorType::get({2}, element),
            getGlobalPointer(move(address, stride, 8 * block)), 8);
        for (int64_t e : {0, 1})
          line.push_back(LLVM::ExtractElementOp::create(b, pair, i32(e)));
        continue;
      }
      for (int64_t e = 0; e < perBlock; ++e) {
        Value inside;
        if (limit)
          inside = compare(arith::CmpIPredicate::slt, add(own, 8 * block + e),
                           limit);
        llvm::append_range(
            line, guarded(inside, 1, [&]() -> Registers {
              return {LLVM::LoadOp::create(
                  b, element,
                  getGlobalPointer(move(address, stride, 8 * block + e)),
                  bytes)};
            }));
      }
    }
    return line;
  };
  Registers registers;
  if (!isFragment(type)) {
    bool rows = getAlongAxis(type) == Axis::Rows;
    Value own = rows ? getR() : shiftLeft(getC(), 1), stride = strideOf(0);
    Value address = b.createOrFold<arith::AddIOp>(base, timesOwn(own, stride));
    registers = loadLine(address, own, type.getDimSize(0) / 8, rows ? 1 : 2,
                         getLimit(op.getValid()[0], type.getDimSize(0)), stride,
                         /*adjacent=*/false);
    define(op.getResult(), registers);
    return;
  }
  int64_t colBlocks = type.getDimSize(1) / 8;
  Value rowStride = strideOf(0), colStride = strideOf(1);
  Value row = getR(), col = shiftLeft(getC(), 1);
  Value address = b.createOrFold<arith::AddIOp>(
      b.createOrFold<arith::AddIOp>(base, timesOwn(row, rowStride)),
      timesOwn(col, colStride));
  Value rowLimit = getLimit(op.getValid()[0], type.getDimSize(0));
  Value colLimit = getLimit(op.getValid()[1], type.getDimSize(1));
  for (int64_t i = 0; i < type.getDimSize(0) / 8; ++i) {
    Value inside;
    if (rowLimit)
      inside = compare(arith::CmpIPredicate::slt, add(row, 8 * i), rowLimit);
    Registers line = guarded(inside, 2 * colBlocks, [&] {
      return loadLine(move(address, rowStride, 8 * i), col, colBlocks, 2,
                      colLimit, colStride, /*adjacent=*/false);
    });
    if (!packed) {
      registers.append(line);
      continue;
    }
    for (int64_t j = 0; j < colBlocks; ++j)
      registers.push_back(packBits(line[2 * j], line[2 * j + 1]));
  }
  define(op.getResult(), registers);
}

void FragmentLowering::lowerGlobalStore(GlobalStoreOp op) {
  auto type = cast<RankedTensorType>(op.getValue().getType());
  Type element = type.getElementType();
  int64_t bytes = type.getElementTypeBitWidth() / 8;
  if (isPacked(type))
    for (unsigned axis : {0, 1})
      if (getConstant(op.getStrides()[axis]) == 1 && op.getAlignment() % 2 == 0)
        return storeContiguous(op, axis);

  ArrayRef<Value> registers = get(op.getValue());
  Value base = getGlobalAddress(op.getTarget(), op.getOffset());
  SmallVector<LaneAxis, 2> axes;
  SmallVector<Value, 2> strides, limits;
  auto addAxis = [&](unsigned axis, bool rows) {
    Value own = rows ? getR() : shiftLeft(getC(), 1);
    axes.push_back({own, type.getDimSize(axis) / 8, rows ? 1 : 2});
    strides.push_back(b.createOrFold<arith::MulIOp>(
        toI64(op.getStrides()[axis]), i64(bytes)));
    limits.push_back(getLimit(op.getValid()[axis], type.getDimSize(axis)));
    base = b.createOrFold<arith::AddIOp>(
        base, b.createOrFold<arith::MulIOp>(toI64(own), strides.back()));
  };
  auto insideOf = [&](unsigned axis, int64_t place) {
    return limits[axis] ? compare(arith::CmpIPredicate::slt,
                                  add(axes[axis].own, place), limits[axis])
                        : Value();
  };
  auto move = [&](Value address, Value stride, int64_t count) {
    return count
               ? b.createOrFold<arith::AddIOp>(
                     address, b.createOrFold<arith::MulIOp>(stride, i64(count)))
               : address;
  };
  auto put = [&](Value value, Value address) {
    LLVM::StoreOp::create(b, value, getGlobalPointer(address), bytes);
  };
  if (!isFragment(type)) {
    bool rows = getAlongAxis(type) == Axis::Rows;
    addAxis(0, rows);
    Value first =
        compare(arith::CmpIPredicate::eq, rows ? getC() : getR(), i32(0));
    whenTrue(first, [&] {
      for (auto [index, value] : llvm::enumerate(registers)) {
        int64_t perBlock = axes[0].perBlock;
        int64_t place = 8 * (index / perBlock) + index % perBlock;
        Value kept = value;
        whenTrue(insideOf(0, place),
                 [&] { put(kept, move(base, strides[0], place)); });
      }
    });
    return;
  }
  addAxis(0, true);
  addAxis(1, false);
  int64_t colBlocks = axes[1].blocks;
  bool pairs = bytes == 4 && getConstant(op.getStrides()[1]) == 1 &&
               op.getAlignment() % 2 == 0 && !limits[1];
  for (int64_t i = 0; i < axes[0].blocks; ++i)
    whenTrue(insideOf(0, 8 * i), [&] {
      Value line = move(base, strides[0], 8 * i);
      for (int64_t j = 0; j < colBlocks; ++j) {
        size_t block = i * colBlocks + j;
        Value pair[2];
        if (isPacked(type))
          std::tie(pair[0], pair[1]) = unpackBits(registers[block], element);
        else
          std::copy_n(&registers[2 * block], 2, pair);
        if (pairs) {
          auto vector = VectorType::get({2}, element);
          Value value = LLVM::UndefOp::create(b, vector);
          for (int64_t e : {0, 1})
            value = LLVM::InsertElementOp::create(b, value, pair[e], i32(e));
          LLVM::StoreOp::create(
              b, value, getGlobalPointer(move(line, strides[1], 8 * j)), 8);
          continue;
        }
        for (int64_t e : {0, 1})
          whenTrue(insideOf(1, 8 * j + e),
                   [&] { put(pair[e], move(line, strides[1], 8 * j + e)); });
      }
    });
}

/// 16-bit elements with stride 1 along axis `contiguous`. Blocks that lie the
/// other way are transposed; then a lane has two elements in a row at line
/// r, and two lanes exchange so that each has four: of two blocks side by side,
/// even lanes take the first and odd lanes the second, four lanes a sector.
void FragmentLowering::storeContiguous(GlobalStoreOp op, unsigned contiguous) {
  auto type = cast<RankedTensorType>(op.getValue().getType());
  unsigned across = 1 - contiguous;
  ArrayRef<Value> registers = get(op.getValue());
  int64_t colBlocks = type.getDimSize(1) / 8;
  int64_t lineBlocks = type.getDimSize(across) / 8; // of 8 lines
  int64_t blocks = type.getDimSize(contiguous) / 8; // along a line
  auto blockAt = [&](int64_t line, int64_t block) {
    Value value = contiguous == 0 ? registers[block * colBlocks + line]
                                  : registers[line * colBlocks + block];
    return contiguous == 0 ? transposeBlock(value) : value;
  };
  Value limit = getLimit(op.getValid()[contiguous], 8 * blocks);
  Value lineLimit = getLimit(op.getValid()[across], 8 * lineBlocks);
  // A limit in the middle of four, or of two, needs narrower stores.
  std::optional<int64_t> width = getConstant(op.getValid()[contiguous]);
  int64_t unit = op.getAlignment() % 4 ? 2 : 4;
  if (limit)
    unit = std::min(unit, getDivisor(op.getValid()[contiguous]));
  Value stride =
      b.createOrFold<arith::MulIOp>(toI64(op.getStrides()[across]), i64(2));
  Value base = getGlobalAddress(op.getTarget(), op.getOffset());
  // With lines at a known distance, a lane's place is one 32-bit number.
  std::optional<int64_t> distance = getConstant(op.getStrides()[across]);
  Value lane;
  if (distance && *distance < (1 << 24))
    lane = mul(getR(), 2 * *distance);
  else
    base = b.createOrFold<arith::AddIOp>(
        base, b.createOrFold<arith::MulIOp>(toI64(getR()), stride));
  Value odd = atEntry({3, 0, 0, 0, 0}, [&] {
    return compare(arith::CmpIPredicate::ne, bitAnd(getThread(), 1), i32(0));
  });
  // First element of this lane's four among the 16 of two blocks.
  Value four = atEntry({3, 1, 0, 0, 0}, [&] {
    Value even = shiftLeft(getC(), 1);
    return select(odd, add(even, 6), even);
  });
  Value two = shiftLeft(getC(), 1);

  for (int64_t line = 0; line < lineBlocks; ++line) {
    Registers words;
    for (int64_t block = 0; block < blocks; ++block)
      words.push_back(blockAt(line, block));
    int64_t paired = unit == 4 ? blocks & ~1 : 0;
    for (int64_t block = 0; block < paired; block += 2) {
      Value first = words[block], second = words[block + 1];
      Value other = shuffleXor(select(odd, first, second), 1);
      words[block] = select(odd, other, first);
      words[block + 1] = select(odd, second, other);
    }
    Value inside;
    if (lineLimit)
      inside =
          compare(arith::CmpIPredicate::slt, add(getR(), 8 * line), lineLimit);
    Value address = base;
    if (line)
      address = b.createOrFold<arith::AddIOp>(
          base, b.createOrFold<arith::MulIOp>(stride, i64(8 * line)));
    whenTrue(inside, [&] {
      auto at = [&](Value own, int64_t place) {
        Value mine = shiftLeft(own, 1);
        if (lane)
          mine = add(lane, mine);
        return getGlobalPointer(b.createOrFold<arith::AddIOp>(
            b.createOrFold<arith::AddIOp>(address, toI64(mine)),
            i64(2 * place)));
      };
      // Is the element at `place` from this lane's first below the limit?
      auto below = [&](Value own, int64_t place, int64_t lastOwn) {
        if (!limit || (width && place + lastOwn < *width))
          return Value();
        return compare(arith::CmpIPredicate::slt, add(own, place), limit);
      };
      for (int64_t block = 0; block < paired; block += 2)
        whenTrue(below(four, 8 * block, 15), [&] {
          auto vector = VectorType::get({2}, i32Type);
          Value value = LLVM::UndefOp::create(b, vector);
          for (int64_t e : {0, 1})
            value = LLVM::InsertElementOp::create(b, value, words[block + e],
                                                  i32(e));
          LLVM::StoreOp::create(b, value, at(four, 8 * block), 8);
        });
      for (int64_t block = paired; block < blocks; ++block) {
        if (unit >= 2) {
          whenTrue(below(two, 8 * block, 7), [&] {
            LLVM::StoreOp::create(b, words[block], at(two, 8 * block), 4);
          });
          continue;
        }
        auto [low, high] = unpackBits(words[block], type.getElementType());
        Value halves[2] = {low, high};
        for (int64_t e : {0, 1})
          whenTrue(below(two, 8 * block + e, 7), [&] {
            LLVM::StoreOp::create(b, halves[e], at(two, 8 * block + e), 2);
          });
      }
    });
  }
}
