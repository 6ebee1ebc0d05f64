//===- SlicedKernel.h - A chunk program in slices of channels ---*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The mapping of programs that go to and fro between channels and columns of
// the state, gradients above all. A matrix of C tokens x D channels is held
// turned, 16 channels (rows) x 16 tokens a warp: its *slice*. Everything
// elementwise, scans, products from the left with C x C matrices, and the
// columns of the state stay in a warp's registers; sums over channels and C x C
// matrices are one warp's work. What crosses from one to the other goes
// through shared memory, and the program is cut into levels there, with a
// barrier between two of them (delta-insert-barriers finds where). One warp's
// work is dealt out in units that share no product; what does not depend on the
// state is computed a chunk ahead, in the same intervals between barriers as
// what does.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_SLICED_SLICEDKERNEL_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_SLICED_SLICEDKERNEL_H

#include "../PartialSums.h"
#include "../Program.h"
#include "../WarpBuilder.h"
#include "delta/Target/NVPTX/Kernel.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "llvm/ADT/SmallSet.h"

#include <optional>
#include <string>

namespace mlir::delta::gpumap {

/// Tokens of a chunk.
inline constexpr int64_t kTokens = 16;
/// A slice wants the registers that eight warps leave each other.
inline constexpr int64_t kMaxWarps = 8;

struct SlicedChoice {
  /// CTAs that a multiprocessor shall hold.
  int64_t ctas = 1;
  /// Chunks whose inputs have a place: with 2, the next one's are on their way,
  /// and what does not depend on the state is computed for it already.
  int64_t stages = 2;
  /// CTAs that share a head's columns; the program is that of one block.
  int64_t vBlocks = 1;
  /// Chunks that a CTA walks, the state's cotangent behind which a kernel
  /// before has left; 0: all of a sequence.
  int64_t segment = 0;
  /// Whether a decay's products wait for the Gram's cotangents.
  bool keeps = true;
  /// Which arrays have a place for this chunk and for the next, in the order of
  /// getDoubled(): those that are written ahead while they are still read.
  std::vector<bool> doubled;
  /// Which arrays anybody reads, in the same order; empty: all.
  std::vector<bool> read;
  /// The last interval that reads a chunk's own inputs.
  int lastInput = 1000;
};

class SlicedKernel {
public:
  /// Analyses the program. None, with the reason in `why`, for one that has
  /// another structure than slices and one warp's work.
  static std::optional<SlicedKernel> build(func::FuncOp program,
                                           SignatureAttr signature,
                                           const OperandPolicy &policy,
                                           const SlicedChoice &choice,
                                           std::string &why);

  int64_t getWarps() const { return warps; }
  /// After emit(): the arrays that need two places, and those that are read.
  std::vector<bool> getDoubled() const;
  std::vector<bool> getRead() const;
  int getLastInput() const { return lastInput; }

  /// Fills the kernel's body. `behind`: the states that segments begin with,
  /// transposed.
  void emit(GpuKernel kernel, const PartialSums &partials, Value behind = {});

private:
  SlicedKernel() = default;

  /// What a value is; both sides of Wide are sliced.
  enum class Kind { Number, Tokens, Channels, Square, Wide, State, Any };
  /// Axes along which matrices are sliced: the state's rows or columns.
  enum Side { Rows = 0, Cols = 1, None = 2 };
  struct Shape {
    Kind kind = Kind::Any;
    Side side = None;
  };

  //===--------------------------------------------------------------------===//
  // SlicedProgram.cpp: shapes, the analysis; SlicedLevels.cpp: what is stored
  // when
  //===--------------------------------------------------------------------===//

  /// Something that is computed at a level and stored.
  struct Task {
    enum Type {
      Tile,      // a slice's part of an operand: tokens x channels
      StateTile, // the state, rounded: columns x rows
      Levels,    // operands of a decay-Gram, level by level
      Vector,    // a sum, or a vector's part
      SquareTile,
      Grams,
      System,
      Pairs, // cotangents of decay-Grams, level by level
      Out,
      Sum,
      RowSum, // a slice's part of a sum of all elements, kept by channels
      Next
    } type;
    Value value;
    Operation *op = nullptr;
    Side side = None;    // None: one warp's work
    int level = 0;       // from kAhead on: computed a chunk ahead
    unsigned number = 0; // of an out, a sum, an entry of levelTiles
    /// Grams: first of two rows, and the level. Pairs: row and column.
    unsigned first = 0, second = 0;
    int64_t micro = 0;
    ArgAttr arg;
  };
  /// An array, and when it is used.
  struct Place {
    warp::SharedType type;
    Value array;
    bool doubled = false, wanted = true, everRead = false;
    int written = -1, lastRead = -1; // intervals; -1: not ahead, not behind
  };
  struct Stored : Place {
    int level = 0;
    Side side = None;
    /// Of a vector that slices sum up: how many parts it has.
    int64_t parts = 1;
  };
  struct Input {
    BlockArgument argument;
    warp::SharedType type; // [stages, 16, width] or [stages, 16]
    Value array;
  };
  struct System {
    SmallVector<Value> blocks;
    Place source, inverse; // no source where it is a Gram as it was stored
    int level = 0;
  };
  /// Operands of a decay-Gram, scaled for each level; tokens are split_cols'
  /// slots.
  struct LevelTiles {
    SmallVector<Value> rows, cols;
    SmallVector<bool> rowAfter, colBefore;
    Value decay;
    Side side = None;
    int level = 0;
    Place rowTile, colTile; // [4, 8 rows, D], [4, 8 cols, D]
    /// Pairs with a diagonal that is no product of tiles: sums over channels,
    /// in parts.
    SmallVector<std::pair<unsigned, unsigned>> diagonals;
    SmallVector<bool> ownDecay;
    Place diagonal; // [diagonals, parts, 16]
  };
  struct Pairs {
    int level = 0;
    unsigned tiles = 0;
    Place tile;     // [n, n, 4, 16, 16], n: more of rows and columns
    Place diagonal; // [diagonals, 16]
  };

  /// Levels of what does not depend on the state start here.
  static constexpr int kAhead = -100;
  int getFirst() const { return choice.stages == 2 ? kAhead : 0; }
  /// The interval between barriers in which a level's tasks run: those of the
  /// next chunk stand beside the second level of this one.
  int getInterval(int level) const {
    return level < 0 ? level - kAhead + 1 : level;
  }
  void forEachPlace(llvm::function_ref<void(Place &)> fn);

  LogicalResult analyse();
  LogicalResult fail(const Twine &reason);
  Shape getShape(Value value);
  Shape computeShape(Operation *op, Value result);
  ArgAttr getArg(Value value) const { return facts.getArg(value); }
  Value resolve(Value value) const { return facts.resolve(value); }
  int64_t getSize(Side side) const {
    return side == Rows ? stateRows : stateCols;
  }
  int64_t countSlices(Side side) const {
    return getPaddedChannels(getSize(side)) / 16;
  }
  /// Level at which a value can be computed in its slice.
  int levelInSlice(Value value, bool state, Side side);
  int computeLevelInSlice(Value value, bool state, Side side);
  int levelOfOwn(Value value, Side side);
  /// The same for a C x C matrix, by one warp.
  int levelInOne(Value value);
  int computeLevelInOne(Value value);
  int levelOfVector(Value value, bool inOne);
  /// First level at which it can be read from shared memory.
  int levelOfTile(Value value);
  int levelOfStateTile(Value value);
  int levelOfSquareTile(Value value);
  int levelOfSystem(TriSolveOp op);
  /// The Gram that is the system's only block; null: there is none.
  Stored *findGram(const System &system);
  int levelOfGram(DecayGramOp op);
  /// Is the value a tile in shared memory as it was copied?
  bool isCopiedTile(Value value);
  /// A matrix, and the number it is multiplied by; null: none.
  std::pair<Value, Value> splitNumber(Value value);
  /// The number that multiplies a tile as it was copied: products with the tile
  /// are exact, and multiplied then. Null: none.
  Value getTileNumber(Value value);
  /// acc + number * value; a null number is 1.
  Value addScaled(Value acc, Value value, Value number);
  /// Is the number a sum of all elements of matrices? Adds these to `wide`.
  bool isRowSum(Value number, SmallVectorImpl<Value> &wide);
  int levelOfPairs(DecayGramAdjointOp op);
  int storeVector(Value value);
  /// Is it the carried state times the saved one, element by element?
  bool isStatesProduct(Value value);
  unsigned getLevelTiles(OperandRange rows, OperandRange cols, Value decay,
                         ArrayRef<int32_t> rowPositions,
                         ArrayRef<int32_t> colPositions);
  void stage(Value argument);
  Task &addTask(Task::Type type, Value value, Operation *op, Side side,
                int level);
  void needScans() { scans = true; }

  //===--------------------------------------------------------------------===//
  // EmitSlices.cpp: values in a slice
  //===--------------------------------------------------------------------===//

  Value evalWide(Value value);
  Value computeWide(Value value);
  Value evalState(Value value, int64_t part);
  Value computeState(Value value, int64_t part);
  /// The slice's own numbers of a vector of channels, along rows.
  Value evalOwn(Value value);
  Value computeOwn(Value value);
  /// Inputs are widened anew behind `earlier`: until then they wait as they
  /// are.
  void readAnew(Value earlier);
  Value emitProduct(MatmulOp op);
  Value emitSolve(TriSolveOp op, Value unknown);
  /// 16 x 16 of a wide operand's tile: tokens x channels from `channel` on, or
  /// transposed.
  Value loadTile(Value value, Value channel, bool transpose);
  /// 16 rows of a state, of the slice, and 16 columns of it: as rows here.
  Value loadStateRows(Value value, int64_t part);
  /// Products with the transposed states that some tasks need, and sums of the
  /// states' products, 16 columns of the states at a time.
  void emitStateProducts(ArrayRef<const Task *> tasks);
  bool isStateProduct(Operation *op);
  /// Zero in rows that the slice's matrix does not have.
  Value maskRows(Value fragment, Value value);
  Value emitScan(Value x, bool exclusive, bool reverse);
  /// Whether the token along the axis is one that the sequence has.
  Value hasToken(warp::Axis axis);

  //===--------------------------------------------------------------------===//
  // EmitSlicedGram.cpp: decay products, Grams and their cotangents
  //===--------------------------------------------------------------------===//

  /// Products of w over the tokens before (behind) each in its block of 2^l
  /// tokens, without its own; null is 1. `total`: over the block so far.
  struct Tables {
    Value w, total;
    Value before[5], behind[5];
    int built = 0;
  };
  const Tables &getTables(Value decay, int levels);
  /// What the pass that scales a Gram's operands leaves to that of its
  /// cotangents: a decay's products, rounded as operands. Where the first works
  /// a chunk ahead they wait in shared memory until it writes the next ones, so
  /// that no two chunks' are in registers, and are read when they are wanted.
  struct Kept {
    Value decay;
    Side side;
    int level; // of the first
    /// Level factors 2 and 3, before[4], behind[4], w.
    SmallVector<Value> values;
    Value total;         // along rows
    Value array, totals; // [kCount, 16, channels], [2, channels]
    static constexpr int kBefore = 2, kBehind = 3, kW = 4, kCount = 5;
    Value loaded[kCount]; // what the pass has read of the array
  };
  void findKept();
  /// Those of the decay for the chunk and side at hand; null: none.
  Kept *getKept(Value decay);
  Value readKept(Kept &entry, int number);
  void keepTables(Value decay);
  /// Products over all tokens before, or behind, each one.
  Value getProducts(Value decay, bool behind);
  /// before in right halves of the level's blocks, behind in left ones.
  Value getLevelFactor(Value decay, int level);
  /// Row operands in right halves of the level's blocks and column operands in
  /// left ones, scaled: one for each number. Both, and the factor, are rounded
  /// as operands are, so that 16-bit numbers are scaled two at once.
  SmallVector<Value> scaleLevel(ArrayRef<Value> x, ArrayRef<Value> y,
                                Value factor, int level);
  void emitLevels(LevelTiles &tiles);
  void emitGrams(const Task &task);
  Value emitGramSquare(DecayGramOp op, Value gram);
  void emitPairs(const Task &task);
  void emitGramAdjoint(DecayGramAdjointOp op);
  /// The sum of a gradient and of what is known at this level without it, the
  /// terms; the gradient itself where there are none.
  Value getGradientSum(DecayGramAdjointOp op, Value gradient,
                       SmallVectorImpl<Value> *terms = nullptr);
  /// The operation of which `sum` is such a sum; null: none.
  DecayGramAdjointOp findGradientIn(Value sum);
  Value addHalf(Value total, Value value, Value factor, int64_t distance,
                bool right);

  //===--------------------------------------------------------------------===//
  // EmitOneWarp.cpp: C x C matrices, vectors, numbers
  //===--------------------------------------------------------------------===//

  Value evalSquare(Value value);
  /// acc + the sum over `parts` of products that `make` adds to what it gets,
  /// in two chains where there are many: one warp has nothing else to do while
  /// a product waits for the one before.
  Value sumProducts(int64_t parts, Value acc,
                    llvm::function_ref<Value(int64_t, Value)> make);
  Value computeSquare(Value value);
  Value emitDecayMask(DecayMaskOp op);
  Value emitLinearScan(LinearScanOp op, Value x, Value factors);
  /// Running products or sums over 16 rows.
  Value emitRowScan(Value x, bool product, bool exclusive, bool reverse);
  Value evalVector(Value value, warp::Axis axis, int64_t first = 0);
  Value computeVector(Value value, warp::Axis axis, int64_t first);
  Value evalNumber(Value value);
  Value computeNumber(Value value);
  /// A sum or diagonal that one warp makes, from its operand.
  Value reduceInOne(Value value);
  /// Zero beside the diagonal.
  Value keepDiagonal(Value square);

  //===--------------------------------------------------------------------===//
  // EmitSlicedFrame.cpp
  //===--------------------------------------------------------------------===//

  void emitPrologue();
  void emitScanMatrices();
  void emitLoads(Value step, Value stage);
  SmallVector<Value> emitInitialState();
  SmallVector<Value> loadSegmentState();
  void emitFinalState(ValueRange state);
  /// The chunk that tasks are for.
  struct ChunkContext {
    Value chunk, tokens, stage;
  };
  void enter(const ChunkContext &context, int level);
  /// All tasks of some levels that one interval has.
  void emitInterval(int interval, const ChunkContext &now,
                    const ChunkContext *next);
  /// Those of the first chunk, before the loop.
  void emitAhead(int interval, const ChunkContext &context);
  void emitSlicePass(Side side, int level);
  /// The units of one warp's work at a level, for each warp.
  SmallVector<SmallVector<const Task *>> dealOut(int level);
  /// A product that the task's value is made from; null: none.
  Operation *findProduct(Value value);
  bool isWanted(const Task &task);
  bool hasTasks(Side side, int level) const;
  void renewLanes();
  void renewZero();
  /// The same number, computed anew: what comes from it is not kept in
  /// registers from chunk to chunk.
  Value renew(Value number);
  void emitTask(const Task &task);
  // Accesses to places, which note when they are.
  SmallVector<Value> at(const Place &place, ArrayRef<Value> indices);
  void noteRead(Place &place);
  Value read(Place &place, ArrayRef<Value> indices, RankedTensorType type,
             bool transpose = false);
  void write(Value value, Place &place, ArrayRef<Value> indices,
             bool transpose = false);
  SmallVector<Value> writeAt(Place &place, ArrayRef<Value> indices);
  void emitOut(const Task &task);
  void emitSum(const Task &task);
  void emitRowSum(const Task &task);
  void emitSumStores();
  void emitRowSumStore(Value array, Value target, ArgAttr arg);
  void inOneWarp(int64_t number, llvm::function_ref<void()> body);
  void inSlices(Side side, llvm::function_ref<void()> body);
  void forget();
  /// batch * H + head.
  Value getSequence() { return renew(sequence); }
  Value widened(Value number);
  Value narrowed(Value number);
  Value getChunkOf(Value step);
  Value countSegments() {
    return arith::CeilDivUIOp::create(w->b, kernel.T,
                                      w->index(kTokens * choice.segment));
  }
  /// Chunks of the segment.
  Value countSteps() {
    return w->minimum(renew(chunks), w->index(choice.segment));
  }
  /// Without ceildivui's case for zero, which would be kept beside the number.
  Value countChunks() {
    return narrowed(arith::DivUIOp::create(
        w->b, w->add(renew(kernel.T), w->index(kTokens - 1)),
        w->index(kTokens)));
  }
  Value getValidTokens(Value chunkNumber);
  std::pair<Value, Value> getTokenOffset(ArgAttr arg, int64_t micro,
                                         Value token);
  /// Columns of the state that all blocks have, and the first of this one's.
  int64_t getAllCols() const { return stateCols * choice.vBlocks; }
  Value getFirstCol() { return w->mul(block, stateCols); }
  Value getParamOffset(ArgAttr arg, int64_t size);
  Value isNotNull(Value array);
  Value getInputArray(Value argument, Value &stageIndex);

  func::FuncOp program;
  SignatureAttr signature;
  OperandPolicy policy;
  SlicedChoice choice;
  Program facts; // paddings and arguments
  std::string why;
  int64_t warps = 1;
  bool backward = false, scans = false, copiesCheckpoint = false;
  Value state, valid, checkpoint; // the program's arguments
  int64_t stateRows = 0, stateCols = 0;
  int lastInterval = 0, lastInput = 0;
  void noteInput() {
    if (level >= 0)
      lastInput = std::max(lastInput, interval);
  }
  llvm::DenseMap<Value, Shape> shapes;
  llvm::DenseMap<std::pair<Value, int>, int> levels;
  std::vector<Task> tasks;
  llvm::MapVector<Value, Stored> tiles, squares, vectors;
  Place stateTile, savedTile;
  bool hasStateTile = false;
  llvm::MapVector<Operation *, Pairs> pairs;
  llvm::MapVector<Value, Stored> grams; // f32
  llvm::DenseMap<Operation *, unsigned> tilesOf;
  llvm::DenseMap<Operation *, int> gramLevels;
  std::vector<LevelTiles> levelTiles;
  std::vector<Kept> kept;
  SmallVector<Input> inputs;
  SmallVector<System> systems;
  SmallVector<warp::SharedType> sumTypes;
  llvm::SmallSet<unsigned, 4> rowSums; // those that channels keep

  // While emitting.
  std::optional<WarpBuilder> w;
  GpuKernel kernel;
  const PartialSums *partials = nullptr;
  Value block;           // null with one
  Value segment, behind; // null where one CTA walks all chunks
  Value warpId;          // renewed with every pass
  Value kernelWarp, round, zero;
  Value sequence, batch, head, chunk, stageIndex, tokens, scanArray;
  Value chunks; // behind the last one that is walked: how many are before
  Value entry;  // something before the chunks' loop
  SmallVector<Value> sumArrays, currentState, nextState;
  // The pass being emitted.
  int level = 0, interval = 0;
  Side side = None;
  Value firstRow; // of the slice
  llvm::DenseMap<Value, Value> memo, ownMemo, paramMemo;
  llvm::MapVector<Value, Value> inputMemo; // as they were copied
  Value firstToken; // 0, as tiles are loaded; null: at once
  Value late;       // inputs are not widened before it; null: anywhere
  llvm::DenseMap<std::pair<Value, int64_t>, Value> stateMemo, vectorMemo[2];
  llvm::DenseMap<Value, Tables> tables;
};

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_SLICED_SLICEDKERNEL_H
