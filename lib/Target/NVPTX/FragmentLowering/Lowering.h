//===- Lowering.h - State of the lowering of one kernel ---------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One walk over the kernel replaces every operation on tiles by operations on
// the registers of a lane; lane l = 4 r + c. Registers of a value:
//
//   fragment RxC, 32-bit or i1   scalar  ((i/8) C/8 + j/8) 2 + j%2
//   fragment RxC, 16-bit         i32     (i/8) C/8 + j/8, columns j, j+1 packed
//   along<rows>                  scalar  i/8
//   along<cols>                  scalar  (j/8) 2 + j%2
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_FRAGMENTLOWERING_LOWERING_H
#define DELTA_LIB_TARGET_NVPTX_FRAGMENTLOWERING_LOWERING_H

#include "delta/Dialect/Warp/IR/Warp.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/Allocator.h"

#include <array>
#include <map>
#include <tuple>

namespace mlir::delta {

using Registers = SmallVector<Value>;

/// Blocks of 8x8 elements in registers, and how one matrix instruction takes
/// them: which of the `count` matrices lies where.
struct MatrixGroup {
  /// In blocks, from the first: what bit 0 and bit 1 of a matrix's number add.
  int64_t rows[2], cols[2];
  int64_t count; // 1, 2 or 4
};

/// The part of a shared-memory address that a lane contributes.
struct LaneOffset {
  Value rowBytes; // row times bytes a row
  Value colBytes; // bytes from the row's start
  Value swizzle;  // exclusive-or on the column; null without swizzle
  Value combined; // rowBytes + (colBytes ^ swizzle)
  int64_t span;   // bytes of columns over which lanes spread, a power of two
};

/// Where a tile starts in shared memory, constants apart.
struct TilePosition {
  Value base;           // i32: shared memory, matrix and row
  int64_t constant = 0; // bytes
  /// Does 128 divide `base`? Then columns can be exclusive-or'd to the sum.
  bool aligned = true;
  Value column;            // i32 bytes, or null
  int64_t columnAlign = 0; // power of two that divides `column`
  int64_t columnConstant = 0;
};

class FragmentLowering {
public:
  FragmentLowering(gpu::GPUFuncOp kernel, LLVM::GlobalOp shared, int capability,
                   int64_t threads);

  LogicalResult run();

private:
  // LowerFragments.cpp: the walk, and what every operation needs.
  LogicalResult lowerBlock(Block &block);
  LogicalResult lowerOp(Operation *op);
  LogicalResult lowerFor(scf::ForOp op);
  LogicalResult lowerIf(scf::IfOp op);
  LogicalResult lowerYield(scf::YieldOp op);
  /// Types of the registers of a tile; the type itself for other values.
  SmallVector<Type> getRegisterTypes(Type type);
  static bool isSpread(Type type);
  /// Is it a fragment of packed 16-bit elements?
  static bool isPacked(Type type);
  /// Registers of a tile; the value itself for other values.
  ArrayRef<Value> get(Value value);
  void define(Value value, ArrayRef<Value> registers);
  void replaceScalar(Value from, Value to);

  // Arithmetic on i32, folded where it can be.
  Value i32(int64_t value);
  Value add(Value a, Value b);
  Value add(Value a, int64_t b);
  Value mul(Value a, int64_t b);
  Value bitAnd(Value a, int64_t b);
  Value bitXor(Value a, Value b);
  Value bitOr(Value a, Value b);
  Value shiftLeft(Value a, int64_t bits);
  Value shiftRight(Value a, int64_t bits);
  Value compare(arith::CmpIPredicate predicate, Value a, Value b);
  Value select(Value condition, Value a, Value b);
  Value zero(Type type);
  Value bitcast(Value value, Type type);
  /// index to i32.
  Value toI32(Value index);
  std::optional<int64_t> getConstant(Value value);
  /// A power of two that divides an index.
  static int64_t getDivisor(Value value, unsigned depth = 0);
  /// A number that an index is never below, or never above.
  std::optional<int64_t> getBound(Value value, bool upper, unsigned depth = 0);

  // Lanes.cpp. Lanes: computed once, at the kernel's entry or where they are
  // renewed.
  Value getThread();
  Value getLane();
  Value getR();
  Value getC();
  Value getWarp();
  Value getSharedBase();
  void lowerRenewLanes(warp::RenewLanesOp op);
  void lowerFollow(warp::FollowOp op);
  /// Runs `make` with the builder where lanes are computed, once a key.
  Value atEntry(std::tuple<int, int64_t, int64_t, int64_t, int64_t> key,
                function_ref<Value()> make);
  Value shuffle(Value value, Value offset, NVVM::ShflKind kind);
  Value shuffleXor(Value value, int64_t mask);
  Value shuffleFrom(Value value, Value lane);

  // 16-bit elements in 32-bit registers.
  Value pack(Value low, Value high, Type element); // of f32
  Value packBits(Value low, Value high);           // of the element type
  std::pair<Value, Value> unpack(Value packed, Type element);     // to f32
  std::pair<Value, Value> unpackBits(Value packed, Type element); // as they are
  Value transposeBlock(Value packed);

  // Layouts.cpp
  LogicalResult lowerLayout(Operation *op);
  void lowerConvert(warp::ConvertOp op);
  void lowerSum(warp::SumOp op);
  void lowerSplitRows(warp::SplitRowsOp op);
  void lowerShuffleCols(warp::ShuffleColsOp op);
  void lowerSplitCols(warp::SplitColsOp op);
  void lowerMergeCols(warp::MergeColsOp op);
  /// Does the lane hold right columns of blocks of 2 * distance (2 or 4)?
  Value holdsRightCols(int64_t distance);

  // Elementwise.cpp
  LogicalResult lowerConstant(arith::ConstantOp op);
  LogicalResult lowerElementwise(Operation *op);
  bool lowerTruncatedChoice(arith::TruncFOp op);
  Value applyScalar(Operation *op, ValueRange operands, Type type);

  // Products.cpp
  void lowerMma(warp::MmaOp op);
  void multiply(MutableArrayRef<Value> acc, ArrayRef<Value> a,
                ArrayRef<Value> b, Type element);

  // SharedAddresses.cpp
  int64_t getOffset(Value array);
  TilePosition getPosition(warp::SharedType type, int64_t offset,
                           ValueRange indices);
  Value getSwizzle(warp::SharedType type, Value row);
  LaneOffset getLaneOffset(warp::SharedType type, Value row, Value col,
                           int64_t span);
  Value getAddress(warp::SharedType type, const LaneOffset &lane,
                   const TilePosition &position, int64_t rows,
                   int64_t colBytes);
  Value getPointer(Value address);
  Value loadShared(Value address, Type type, int64_t alignment);
  void storeShared(Value address, ArrayRef<Value> values);

  // SharedAccess.cpp
  LaneOffset getMatrixLanes(warp::SharedType type, const MatrixGroup &group);
  void lowerSharedLoad(warp::SharedLoadOp op);
  void lowerSharedStore(warp::SharedStoreOp op);
  void lowerStoreLevel(warp::StoreLevelOp op);
  void lowerStorePairs(warp::StorePairsOp op);
  void lowerFillShared(warp::FillSharedOp op);
  void lowerMatrixTile(warp::SharedType type, TilePosition position,
                       int64_t rows, int64_t cols, bool transpose,
                       bool asOperandB, bool store, Registers &registers);
  void lowerWordTile(warp::SharedType type, TilePosition position, int64_t rows,
                     int64_t cols, bool transpose, bool store,
                     Registers &registers);
  void lowerVector(warp::SharedType type, TilePosition position,
                   RankedTensorType vector, Value rowIndex, bool store,
                   Registers &registers);

  // Inverse.cpp
  /// An 8 x 8 block of f32.
  using Pair = std::array<Value, 2>;
  void lowerInverse(warp::InverseOp op);
  void invertByHalves(warp::InverseOp op, const TilePosition &source,
                      const TilePosition &target);
  void invertInRegisters(warp::InverseOp op, Value source, Value target);
  void invertInPlace(warp::InverseOp op, Value source, Value target);
  Value getHiddenLane();
  Pair multiplyBlocks(const Pair &lhs, const Pair &rhs);
  Pair transposeWords(const Pair &block);
  Value getElementAddress(warp::SharedType type, Value matrix, Value row,
                          Value colBytes);

  // GlobalAccess.cpp
  Value getGlobalAddress(Value memref, Value offset);
  Value getGlobalPointer(Value address);
  Value i64(int64_t value);
  Value toI64(Value value);
  /// min(limit, size) in 32 bits; null when the limit is known not to be below.
  Value getLimit(Value limit, int64_t size);
  void storeContiguous(warp::GlobalStoreOp op, unsigned contiguous);
  void whenTrue(Value condition, function_ref<void()> body);
  LogicalResult lowerAsyncLoad(warp::AsyncLoadOp op);
  void lowerAsyncCopy(warp::AsyncCopyOp op);
  void lowerCopyOut(warp::CopyOutOp op);
  void copyRaw(warp::SharedType type, const TilePosition &position,
               unsigned lead, Value start, Value thread, int64_t threads,
               function_ref<void(Value shared, Value global)> copy);
  void lowerGlobalLoad(warp::GlobalLoadOp op);
  void lowerGlobalStore(warp::GlobalStoreOp op);

  gpu::GPUFuncOp kernel;
  LLVM::GlobalOp shared;
  int capability;
  int64_t threads;
  ImplicitLocOpBuilder b;
  Operation *firstOp;
  llvm::DenseMap<Value, ArrayRef<Value>> registersOf;
  llvm::BumpPtrAllocator allocator;
  SmallVector<Operation *> dead;
  llvm::DenseMap<int64_t, Value> constants;
  /// What is computed from the thread's number, in front of `first`.
  struct LaneValues {
    Operation *first = nullptr;
    Value thread, lane, r, c, warp;
    Value zero; // null: none that compilers do not see
    std::map<std::tuple<int, int64_t, int64_t, int64_t, int64_t>, Value>
        entries;
  };
  LaneValues own;
  Value sharedBase, kernelThread;
  int64_t renewals = 0;
  Type i32Type, f32Type;
};

} // namespace mlir::delta

#endif // DELTA_LIB_TARGET_NVPTX_FRAGMENTLOWERING_LOWERING_H
