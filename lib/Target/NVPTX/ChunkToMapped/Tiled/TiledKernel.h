//===- TiledKernel.h - A chunk program by tiles in shared memory -*- C++
//-*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The general mapping of a chunk program: products, Grams and sums leave their
// results in shared memory, everything elementwise is computed where it is
// used, and each of these steps is spread over the CTA's warps by tiles of
// 16 x 16. Nothing of the program's structure is asked for, so it serves every
// program that fits, backward ones above all. One CTA works on one head.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_TILED_TILEDKERNEL_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_TILED_TILEDKERNEL_H

#include "../PartialSums.h"
#include "../WarpBuilder.h"
#include "delta/Target/NVPTX/Kernel.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "llvm/ADT/MapVector.h"

namespace mlir::delta::gpumap {

/// Where a tile lies in a matrix, or a part of 16 in a vector: its first row
/// and column (index values).
struct TileAt {
  Value row, col;
};

/// How much of a kernel's work is kept in shared memory rather than done again.
struct TiledChoice {
  int64_t warps = 4;
  /// CTAs that a multiprocessor shall hold.
  int64_t ctas = 1;
  /// Chunks whose inputs have a place: with 2, the next one's are on their way.
  int64_t stages = 2;
  /// CTAs that share a head's columns; the program is that of one block.
  int64_t vBlocks = 1;
  /// Are scans and functions with several readers stored?
  bool keepsShared = true;
  /// Is the saved state copied, with the inputs?
  bool copiesCheckpoint = true;
};

class TiledKernel : WarpBuilder {
public:
  /// Checks that the program can be mapped, and which values are stored.
  static FailureOr<TiledKernel> build(func::FuncOp program,
                                      SignatureAttr signature,
                                      const OperandPolicy &policy,
                                      const TiledChoice &choice);

  /// Fills the kernel's body.
  void emit(GpuKernel kernel, const PartialSums &partials);

private:
  /// Products and sums are rounded each.
  TiledKernel(const OperandPolicy &policy, Location loc)
      : WarpBuilder({}, policy, loc, arith::FastMathFlags::none) {}

  struct System {
    SmallVector<Value> blocks;
    warp::SharedType sourceType, inverseType;
    Value source, inverse;
    bool done = false; // in the current chunk's code
  };

  //===--------------------------------------------------------------------===//
  // TiledProgram.cpp: what is stored
  //===--------------------------------------------------------------------===//

  LogicalResult checkProgram();
  void findStored();
  /// Is the product computed where its only user is?
  bool isInline(MatmulOp op) const;
  bool isStored(Value value) const { return arrays.contains(value); }
  ArgAttr getArg(Value value) const;
  warp::SharedType getArrayType(Value value) const;
  /// Is the value read by matrix instructions only?
  static bool isOperandOnly(Value value);

  //===--------------------------------------------------------------------===//
  // EmitTiles.cpp: values at a tile
  //===--------------------------------------------------------------------===//

  Value evalMatrix(Value value, TileAt at);
  Value computeMatrix(Value value, TileAt at);
  /// The same for a value that is stored, from its operands.
  Value computeStored(Value value, TileAt at);
  /// 16 elements from `first` on, along one axis of a fragment.
  Value evalVector(Value value, warp::Axis axis, Value first);
  Value computeVector(Value value, warp::Axis axis, Value first);
  Value evalScalar(Value value);
  /// The tile of the saved state, from global memory, where it is transposed.
  Value loadCheckpoint(Value row, Value col, bool transpose);
  /// The matrix's 16 x 16 at (row, col), or its transpose, as an operand.
  Value loadOperand(Value value, Value row, Value col, bool transpose);
  /// Zero (or `fill`) beyond the columns that the value has.
  Value maskColumns(Value tile, Value value, Value firstCol, double fill = 0);
  Value emitProduct(MatmulOp op, TileAt at);
  /// Inclusive or exclusive running products or sums over the 16 rows, of a
  /// fragment or a vector along rows.
  Value emitScan(Value x, bool product, bool exclusive, bool reverse);
  Value emitLinearScan(LinearScanOp op, Value x, Value factors);
  /// The pairs within the block of tokens that begins with `first`.
  Value emitDecayMask(DecayMaskOp op, Value first);

  //===--------------------------------------------------------------------===//
  // EmitTiledGram.cpp
  //===--------------------------------------------------------------------===//

  /// Products of w over the rows before (behind) each in its block of 1, 2, 4
  /// and 8 rows; null is 1.
  struct Levels {
    Value before[4], behind[4];
  };
  Levels getLevels(Value w);
  /// Pairs of rows (or, turned, columns) whose highest different bit is that
  /// of the level, the row behind the column.
  Value getLevelMask(int level, bool turned);
  void emitGram(DecayGramOp op);
  void emitGramAdjoint(DecayGramAdjointOp op);
  /// Sums over the rows before (behind) each in its block of 2^level rows.
  Value sumInBlock(Value x, int level, bool behind);

  //===--------------------------------------------------------------------===//
  // EmitLongChunk.cpp: chunks of several blocks of 16 tokens
  //===--------------------------------------------------------------------===//

  int64_t getBlocks() const { return chunkTokens / 16; }
  bool isLong() const { return chunkTokens > 16; }
  /// Before values are computed at another tile.
  void forgetTiles();
  /// The product or sum of all 16 rows, in each of them.
  Value joinRows(Value x, bool product);
  /// Products of w over the rows before, or behind, each and over all 16.
  struct WholeBlock {
    Value before, behind, all;
  };
  WholeBlock getWholeBlock(Value w);
  /// Products of w from the block `middle`, where the right half of a level
  /// begins, to each row of a block in it, or behind each one of a block in the
  /// left half.
  Value getPairFactor(int64_t part, int64_t middle, bool isRow,
                      llvm::function_ref<Value(int64_t)> getW);
  void emitLongScan(Operation *op);
  void emitLongTotal(Operation *op);
  void emitLongMask(DecayMaskOp op);
  void emitLongSolve(TriSolveOp op, System &system);
  /// Zeros in the tiles above the diagonal.
  void storeZeros(Value value);
  /// A Gram's tile of pairs of two blocks, `row` behind `col`.
  void emitGramBetween(DecayGramOp op, int64_t row, int64_t col);
  /// Adds what pairs with other blocks give to the gradients of a block's rows
  /// (or columns), and to those of the decays of all blocks.
  void addAdjointBetween(DecayGramAdjointOp op, int64_t part, bool isRow,
                         Value channel, MutableArrayRef<Value> gradients,
                         MutableArrayRef<Value> decays);
  /// The state before a chunk, for a backward kernel.
  void emitSavedState();

  //===--------------------------------------------------------------------===//
  // EmitUnits.cpp: the steps and the frame
  //===--------------------------------------------------------------------===//

  void emitPrologue();
  void emitLoads(Value step, Value stage);
  void emitState(bool load);
  void emitChunk();
  void emitOp(Operation *op);
  void emitSolve(TriSolveOp op);
  void emitOut(unsigned number, ArgAttr arg, int64_t micro, Value value);
  void emitSum(ArgAttr arg, Value array, Value value);
  void emitSumStores();
  /// Runs `body` for each tile of a rows x cols matrix, spread over warps.
  void forTiles(int64_t rows, int64_t cols,
                llvm::function_ref<void(TileAt)> body);
  /// Runs `body` in one warp, another one at each call.
  void inOneWarp(llvm::function_ref<void()> body);
  void storeTile(Value tile, Value value, TileAt at);
  void storeVector(Value vector, Value value, Value first);
  /// Are arrays copied to shared memory before a chunk begins?
  bool hasCopies() const { return !inputs.empty() || isStored(checkpoint); }
  Value getChunkOf(Value step);
  Value getValidTokens(Value chunkNumber);
  /// Those of the chunk from the row `first` on.
  Value getTokensBehind(Value first);
  std::pair<Value, Value> getTokenOffset(ArgAttr arg, int64_t micro,
                                         Value token);
  /// Columns of the state that all blocks have, and the first of this one's.
  int64_t getAllCols() const { return stateCols * choice.vBlocks; }
  Value getFirstCol() { return mul(block, stateCols); }

  //===--------------------------------------------------------------------===//
  // Small change (EmitTiles.cpp)
  //===--------------------------------------------------------------------===//

  using WarpBuilder::colNumbers;
  using WarpBuilder::rowNumbers;
  /// The same for a tile of a matrix of several.
  Value rowNumbers(TileAt at);
  Value colNumbers(TileAt at);
  Value shuffle(Value x, int64_t distance);

  struct Stored {
    warp::SharedType type;
    Value array;
  };
  struct Input {
    BlockArgument argument;
    warp::SharedType type; // [stages, 16, width] or [stages, 16]
    Value array;
  };

  func::FuncOp program;
  SignatureAttr signature;
  TiledChoice choice;
  int64_t warps = 4;
  int64_t chunkTokens = 16;
  bool backward = false;
  Value state, valid, checkpoint; // the program's arguments
  int64_t stateRows = 0, stateCols = 0;
  llvm::MapVector<Value, Stored> arrays;
  SmallVector<Input> inputs;
  SmallVector<System> systems;
  SmallVector<warp::SharedType> sumTypes;
  warp::SharedType scratchType; // null: no Gram's cotangents

  // While emitting.
  GpuKernel kernel;
  const PartialSums *partials = nullptr;
  Value block; // null with one
  Value warpId, batch, head, chunks, chunk, stage, tokens, stateArray, scratch;
  SmallVector<Value> sumArrays;
  llvm::DenseMap<Value, Value> tileMemo;
  llvm::DenseMap<std::pair<Value, Value>, Value> vectorMemo[2];
  unsigned nextWarp = 0;
};

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_TILED_TILEDKERNEL_H
