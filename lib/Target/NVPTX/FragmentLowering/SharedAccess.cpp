//===- SharedAccess.cpp - Tiles and vectors in shared memory --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loads and stores of what a warp holds; SharedAddresses.cpp says where it
// lies.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::warp;

//===----------------------------------------------------------------------===//
// Tiles of 16-bit elements
//===----------------------------------------------------------------------===//

/// Addresses for ldmatrix and stmatrix: lane l gives row l mod 8 of matrix
/// l / 8.
LaneOffset FragmentLowering::getMatrixLanes(SharedType type,
                                            const MatrixGroup &group) {
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(own.first);
  Value lane = getLane(), row = bitAnd(lane, 7), col = i32(0);
  int64_t span = 16;
  for (int64_t bit = 0; (2 << bit) <= group.count; ++bit) {
    Value on = bitAnd(shiftRight(lane, 3 + bit), 1);
    if (group.rows[bit])
      row = add(row, mul(on, 8 * group.rows[bit]));
    if (group.cols[bit]) {
      col = add(col, mul(on, 16 * group.cols[bit]));
      span = std::max<int64_t>(span, 32 * group.cols[bit]);
    }
  }
  return getLaneOffset(type, row, col, span);
}

/// Loads or stores R x C elements, block by block in groups of up to four.
/// `asOperandB`: the registers of one row block at two column blocks follow one
/// another, else those of two row blocks at one column block, as the operands
/// of mma want them.
void FragmentLowering::lowerMatrixTile(SharedType type, TilePosition position,
                                       int64_t rows, int64_t cols,
                                       bool transpose, bool asOperandB,
                                       bool store, Registers &registers) {
  int64_t rowBlocks = rows / 8, colBlocks = cols / 8;
  registers.resize(rowBlocks * colBlocks);
  // Blocks of the fragment are counted by (i, j); memory's rows are j with
  // `transpose`.
  auto access = [&](int64_t i, int64_t j, MatrixGroup group) {
    SmallVector<size_t, 4> blocks;
    for (int64_t matrix = 0; matrix < group.count; ++matrix) {
      int64_t di = 0, dj = 0;
      for (int64_t bit = 0; bit < 2; ++bit)
        if (matrix >> bit & 1) {
          di += group.rows[bit];
          dj += group.cols[bit];
        }
      blocks.push_back((i + di) * colBlocks + j + dj);
    }
    MatrixGroup memory = group;
    if (transpose) {
      std::swap(memory.rows, memory.cols);
      std::swap(i, j);
    }
    if (store && capability < 90) {
      // Block by block, each lane its own 32 bits.
      LaneOffset lanes;
      {
        OpBuilder::InsertionGuard guard(b);
        b.setInsertionPoint(own.first);
        lanes = getLaneOffset(type, getR(), shiftLeft(getC(), 2), 16);
      }
      for (auto [matrix, block] : llvm::enumerate(blocks)) {
        int64_t di = 0, dj = 0;
        for (int64_t bit = 0; bit < 2; ++bit)
          if (matrix >> bit & 1) {
            di += memory.rows[bit];
            dj += memory.cols[bit];
          }
        Value value = registers[block];
        if (transpose)
          value = transposeBlock(value);
        storeShared(
            getAddress(type, lanes, position, 8 * (i + di), 16 * (j + dj)),
            value);
      }
      return;
    }
    LaneOffset lanes = getMatrixLanes(type, memory);
    Value pointer =
        getPointer(getAddress(type, lanes, position, 8 * i, 16 * j));
    auto layout = transpose ? NVVM::MMALayout::col : NVVM::MMALayout::row;
    auto shape = NVVM::LdStMatrixShapeAttr::get(b.getContext(), 8, 8);
    if (store) {
      Registers values;
      for (size_t block : blocks)
        values.push_back(registers[block]);
      NVVM::StMatrixOp::create(b, pointer, values, layout, shape,
                               NVVM::LdStMatrixEltType::B16);
      return;
    }
    Type result = i32Type;
    if (group.count > 1)
      result = LLVM::LLVMStructType::getLiteral(
          b.getContext(), SmallVector<Type>(group.count, i32Type));
    Value loaded =
        NVVM::LdMatrixOp::create(b, result, pointer, group.count, layout, shape,
                                 NVVM::LdStMatrixEltType::B16);
    for (auto [index, block] : llvm::enumerate(blocks))
      registers[block] =
          group.count == 1
              ? loaded
              : Value(LLVM::ExtractValueOp::create(b, loaded, index));
  };

  const MatrixGroup square = asOperandB ? MatrixGroup{{0, 1}, {1, 0}, 4}
                                        : MatrixGroup{{1, 0}, {0, 1}, 4};
  int64_t pairedRows = rowBlocks & ~1, pairedCols = colBlocks & ~1;
  for (int64_t i = 0; i < pairedRows; i += 2) {
    for (int64_t j = 0; j < pairedCols; j += 2)
      access(i, j, square);
    if (pairedCols < colBlocks)
      access(i, pairedCols, MatrixGroup{{1, 0}, {0, 0}, 2});
  }
  if (pairedRows < rowBlocks) {
    int64_t j = 0;
    for (; j + 4 <= colBlocks; j += 4)
      access(pairedRows, j, MatrixGroup{{0, 0}, {1, 2}, 4});
    if (j + 2 <= colBlocks) {
      access(pairedRows, j, MatrixGroup{{0, 0}, {1, 0}, 2});
      j += 2;
    }
    if (j < colBlocks)
      access(pairedRows, j, MatrixGroup{{0, 0}, {0, 0}, 1});
  }
}

//===----------------------------------------------------------------------===//
// Tiles of 32-bit elements
//===----------------------------------------------------------------------===//

void FragmentLowering::lowerWordTile(SharedType type, TilePosition position,
                                     int64_t rows, int64_t cols, bool transpose,
                                     bool store, Registers &registers) {
  Type element = type.getElementType();
  registers.resize(rows * cols / 32);
  LaneOffset lanes[2];
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(own.first);
    if (!transpose)
      lanes[0] = getLaneOffset(type, getR(), shiftLeft(getC(), 3), 32);
    else
      for (int64_t e : {0, 1})
        lanes[e] = getLaneOffset(type, add(shiftLeft(getC(), 1), e),
                                 shiftLeft(getR(), 2), 32);
  }
  for (int64_t i = 0; i < rows / 8; ++i)
    for (int64_t j = 0; j < cols / 8; ++j) {
      Value *pair = &registers[(i * (cols / 8) + j) * 2];
      if (transpose) {
        for (int64_t e : {0, 1}) {
          Value address = getAddress(type, lanes[e], position, 8 * j, 32 * i);
          if (store)
            storeShared(address, pair[e]);
          else
            pair[e] = loadShared(address, element, 4);
        }
        continue;
      }
      Value address = getAddress(type, lanes[0], position, 8 * i, 32 * j);
      if (store) {
        storeShared(address, {pair[0], pair[1]});
        continue;
      }
      Value loaded = loadShared(address, VectorType::get({2}, element), 8);
      for (int64_t e : {0, 1})
        pair[e] = LLVM::ExtractElementOp::create(b, loaded, i32(e));
    }
}

//===----------------------------------------------------------------------===//
// Vectors
//===----------------------------------------------------------------------===//

void FragmentLowering::lowerVector(SharedType type, TilePosition position,
                                   RankedTensorType vector, Value rowIndex,
                                   bool store, Registers &registers) {
  Type element = type.getElementType();
  bool alongRows = getAlongAxis(vector) == Axis::Rows;
  int64_t bytes = type.getElementBytes(), size = vector.getDimSize(0);
  // Pairs of columns are one access where they are aligned.
  bool pairs = !alongRows && position.columnConstant % (2 * bytes) == 0 &&
               (!position.column || position.columnAlign >= 2 * bytes) &&
               type.getRowBytes() % (2 * bytes) == 0;
  int64_t perBlock = alongRows ? 1 : 2;
  registers.resize(size / 8 * perBlock);
  // A vector's row is any row of its matrix, and has the swizzle of that row.
  Value swizzle;
  if (type.getSwizzle() && rowIndex)
    swizzle = getSwizzle(type, toI32(rowIndex));
  Value own = alongRows ? mul(getR(), bytes) : mul(getC(), 2 * bytes);
  auto addressOf = [&](int64_t elementOffset) {
    Value column = own;
    if (position.column)
      column = add(column, position.column);
    int64_t constant = position.columnConstant + elementOffset * bytes;
    if (swizzle)
      return add(add(bitXor(add(column, constant), swizzle), position.base),
                 position.constant);
    return add(add(column, position.base), position.constant + constant);
  };
  auto access = [&] {
    for (int64_t block = 0; block < size / 8; ++block) {
      if (pairs) {
        Value *pair = &registers[2 * block];
        Value address = addressOf(8 * block);
        if (store) {
          if (bytes == 2)
            storeShared(address, packBits(pair[0], pair[1]));
          else
            storeShared(address, {pair[0], pair[1]});
        } else if (bytes == 2) {
          std::tie(pair[0], pair[1]) =
              unpackBits(loadShared(address, i32Type, 4), element);
        } else {
          Value loaded = loadShared(address, VectorType::get({2}, element), 8);
          for (int64_t e : {0, 1})
            pair[e] = LLVM::ExtractElementOp::create(b, loaded, i32(e));
        }
        continue;
      }
      for (int64_t e = 0; e < perBlock; ++e) {
        Value &value = registers[perBlock * block + e];
        Value address = addressOf(8 * block + e);
        if (store)
          storeShared(address, value);
        else
          value = loadShared(address, element, bytes);
      }
    }
  };
  if (!store)
    return access();
  // One lane of those that hold an element writes it.
  Value writes =
      compare(arith::CmpIPredicate::eq, alongRows ? getC() : getR(), i32(0));
  auto branch = scf::IfOp::create(b, writes, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(branch.thenBlock()->getTerminator());
  access();
}

//===----------------------------------------------------------------------===//
// Operations
//===----------------------------------------------------------------------===//

/// Is the value a right operand of matrix products, as it is?
static bool isOperandB(Value value) {
  for (Operation *user : value.getUsers()) {
    if (auto mma = dyn_cast<MmaOp>(user)) {
      if (mma.getRhs() == value && mma.getLhs() != value)
        return true;
      continue;
    }
    if (isa<ExtractOp, ConcatOp>(user) && isOperandB(user->getResult(0)))
      return true;
  }
  return false;
}

/// The index of the rows' axis; null for an array of one axis.
static Value getRowIndex(ValueRange indices) {
  return indices.size() > 1 ? indices[indices.size() - 2] : Value();
}

void FragmentLowering::lowerSharedLoad(SharedLoadOp op) {
  auto type = cast<SharedType>(op.getArray().getType());
  auto tile = cast<RankedTensorType>(op.getResult().getType());
  TilePosition position =
      getPosition(type, getOffset(op.getArray()), op.getIndices());
  Registers registers;
  if (!isFragment(tile))
    lowerVector(type, position, tile, getRowIndex(op.getIndices()),
                /*store=*/false, registers);
  else if (type.getElementBytes() == 2)
    lowerMatrixTile(type, position, tile.getDimSize(0), tile.getDimSize(1),
                    op.getTranspose(), isOperandB(op.getResult()),
                    /*store=*/false, registers);
  else
    lowerWordTile(type, position, tile.getDimSize(0), tile.getDimSize(1),
                  op.getTranspose(), /*store=*/false, registers);
  define(op.getResult(), registers);
}

void FragmentLowering::lowerSharedStore(SharedStoreOp op) {
  auto type = cast<SharedType>(op.getArray().getType());
  auto tile = cast<RankedTensorType>(op.getValue().getType());
  TilePosition position =
      getPosition(type, getOffset(op.getArray()), op.getIndices());
  Registers registers(get(op.getValue()));
  if (!isFragment(tile))
    lowerVector(type, position, tile, getRowIndex(op.getIndices()),
                /*store=*/true, registers);
  else if (type.getElementBytes() == 2)
    lowerMatrixTile(type, position, tile.getDimSize(0), tile.getDimSize(1),
                    op.getTranspose(), isOperandB(op.getValue()),
                    /*store=*/true, registers);
  else
    lowerWordTile(type, position, tile.getDimSize(0), tile.getDimSize(1),
                  op.getTranspose(), /*store=*/true, registers);
}

void FragmentLowering::lowerStoreLevel(StoreLevelOp op) {
  auto type = cast<SharedType>(op.getArray().getType());
  Type element = type.getElementType();
  int64_t distance = op.getDistance(), bytes = type.getElementBytes();
  TilePosition position =
      getPosition(type, getOffset(op.getArray()), op.getIndices());
  // The matrix is the array's: its first row and column are 0.
  position.constant += position.columnConstant;
  if (position.column)
    position.base = add(position.base, position.column);
  position.column = Value();
  position.columnConstant = 0;

  // Rows: of this lane's slot r; columns: of slots 2 c and 2 c + 1.
  Value row, columns[2];
  LaneOffset lanes[2];
  Value valid[2];
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(own.first);
    auto upper = [&](Value slot) { // 8 where slot & distance, else 0
      return shiftLeft(bitAnd(shiftRight(slot, llvm::Log2_64(distance)), 1), 3);
    };
    if (distance == 8) {
      row = add(getR(), 8);
    } else {
      Value bit = upper(getR());
      row = add(bitOr(getR(), i32(distance)), bitXor(bit, i32(8)));
    }
    for (int64_t e : {0, 1}) {
      Value slot = add(shiftLeft(getC(), 1), e);
      columns[e] =
          distance == 8 ? slot : add(bitAnd(slot, ~distance), upper(slot));
      lanes[e] = getLaneOffset(type, row, mul(columns[e], bytes), 32);
      int64_t shift = llvm::Log2_64(2 * distance);
      if (distance < 8)
        valid[e] = compare(arith::CmpIPredicate::eq, shiftRight(row, shift),
                           shiftRight(columns[e], shift));
    }
  }
  auto when = [&](Value condition, function_ref<void()> body) {
    if (!condition)
      return body();
    auto branch = scf::IfOp::create(b, condition, /*withElseRegion=*/false);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(branch.thenBlock()->getTerminator());
    body();
  };
  ArrayRef<Value> values = get(op.getValue());
  Value packed;
  if (bytes == 2)
    packed = pack(values[0], values[1], element);
  auto addressOf = [&](int64_t e) {
    return getAddress(type, lanes[e], position, 0, 0);
  };
  if (distance > 1) {
    when(valid[0], [&] {
      if (bytes == 2)
        storeShared(addressOf(0), packed);
      else
        storeShared(addressOf(0), {values[0], values[1]});
    });
    return;
  }
  std::pair<Value, Value> halves;
  if (bytes == 2)
    halves = unpackBits(packed, element);
  for (int64_t e : {0, 1})
    when(valid[e], [&] {
      Value half = e ? halves.second : halves.first;
      storeShared(addressOf(e), bytes == 2 ? half : values[e]);
    });
}

void FragmentLowering::lowerFillShared(FillSharedOp op) {
  auto type = cast<SharedType>(op.getArray().getType());
  int64_t offset = getOffset(op.getArray()), bytes = type.getBytes();
  int64_t wide = bytes & ~15;
  Value start = add(getSharedBase(), offset);
  auto put = [&](Value address, int64_t width) {
    if (width == 16)
      storeShared(address, Registers(4, i32(0)));
    else
      storeShared(address,
                  width == 4 ? i32(0) : Value(zero(b.getIntegerType(16))));
  };
  // Whole rounds of the block, then what is left.
  auto cover = [&](int64_t from, int64_t to, int64_t width) {
    int64_t round = threads * width, rounds = (to - from) / round;
    Value mine = add(start, mul(getThread(), width));
    if (rounds > 2) {
      auto loop =
          scf::ForOp::create(b, i32(0), i32(rounds * round), i32(round));
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(loop.getBody());
      put(add(add(mine, loop.getInductionVar()), from), width);
    } else {
      for (int64_t i = 0; i < rounds; ++i)
        put(add(mine, from + i * round), width);
    }
    from += rounds * round;
    if (from == to)
      return;
    Value inside = compare(arith::CmpIPredicate::ult, getThread(),
                           i32((to - from) / width));
    auto branch = scf::IfOp::create(b, inside, /*withElseRegion=*/false);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(branch.thenBlock()->getTerminator());
    put(add(mine, from), width);
  };
  if (wide)
    cover(0, wide, 16);
  if (wide < bytes)
    cover(wide, bytes, bytes % 4 ? 2 : 4);
}
