//===- Emitter.h - Builds a kernel's loops from its plan --------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One class whose member functions are spread over the Emit*.cpp files: the
// kernel's skeleton, access to arrays and buffers, and one file for each kind
// of unit.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_CPU_CHUNKTOMAPPED_EMITTER_H
#define DELTA_LIB_TARGET_CPU_CHUNKTOMAPPED_EMITTER_H

#include "Plan.h"
#include "mlir/IR/Builders.h"

#include <map>
#include <vector>

namespace mlir::delta::cpumap {

/// A place in an elementwise loop: `lanes` columns of one row.
struct Cursor {
  Value row;          // index; 0 for vectors
  Value col;          // first column; within the panel in a panel loop
  Value mask;         // lanes that exist; null when all do
  bool panel = false; // in a panel loop
  /// What has been computed here.
  llvm::SmallDenseMap<Value, Value> known;
  /// Scans: the running value before this row, by the scan's key.
  llvm::SmallDenseMap<Value, Value> before, after;
};

class Emitter {
public:
  /// The plan's arena begins at byte `arenaByte` of the kernel's.
  Emitter(const Plan &plan, OpBuilder &builder, int64_t arenaByte = 0)
      : plan(plan), g(plan.geometry), b(builder), loc(builder.getUnknownLoc()),
        arenaByte(arenaByte) {}

  /// Builds the kernel of the plan's function, before which it is inserted.
  func::FuncOp emitKernel();

private:
  //===--------------------------------------------------------------------===//
  // EmitKernel.cpp: the skeleton
  //===--------------------------------------------------------------------===//

  bool isBackward() const {
    return plan.signature.getOption("fn") == "backward";
  }
  /// Chunks from one checkpoint to the next.
  int64_t getSaveEvery() const {
    return plan.signature.getIntOption("save_every").value_or(1);
  }
  void bindArguments();
  void bindProgram();
  /// Emits into the kernel of `main`, whose arguments it shares.
  void join(const Emitter &main);
  void startItem();
  void emitItem(Value item);
  void emitChunk(Value chunk);
  void emitUnits(Slice slice);
  void emitUnit(const Unit &unit);
  /// Tiles of a unit that each ask for a share of the next chunk's inputs.
  int64_t getPrefetchSteps(const Unit &unit) const;
  /// Runs `body` with the panel's state and columns bound, for each panel.
  void forEachPanel(llvm::function_ref<void()> body);
  void emitLoadState();
  void emitStoreState();
  void emitSaveState(Value chunk);
  void emitSegments();
  void emitSegmentStates(Value first, Value count);
  /// The state at the start of a segment's chunk `number`, in the arena.
  Value viewSaved(Value number, MemRefType type);
  void emitStoreSums();
  Value getStateBase();
  void emitStateRows(
      Value base,
      llvm::function_ref<void(Value row, Value col, Value at, Value mask)>
          body);

  //===--------------------------------------------------------------------===//
  // EmitAccess.cpp: numbers, arrays and buffers
  //===--------------------------------------------------------------------===//

  Value idx(int64_t value);
  Value add(Value a, Value b);
  Value add(Value a, int64_t b) { return b ? add(a, idx(b)) : a; }
  Value sub(Value a, Value b);
  Value mul(Value a, Value b);
  Value mul(Value a, int64_t b);
  Value div(Value a, int64_t b); // of a number that is not negative
  Value min(Value a, Value b);
  Value max(Value a, Value b);
  VectorType vectorType() { return vectorType(g.lanes); }
  VectorType vectorType(int64_t lanes) {
    return VectorType::get({lanes}, g.compute);
  }
  Value zeroVector();
  Value splat(Value scalar);
  Value constantVector(double value);
  Value constantScalar(double value);
  Value fma(Value a, Value b, Value acc);
  Value mulf(Value a, Value b);
  Value addf(Value a, Value b);
  Value shuffle(Value a, Value b, ArrayRef<int64_t> lanes);
  Value convert(Value value, FloatType type);
  /// Constant mask of the first `count` lanes.
  Value constantMask(int64_t count);
  /// Mask of lanes below `bound` (any integer).
  Value dynamicMask(Value bound, int64_t lanes);

  using Body = llvm::function_ref<SmallVector<Value>(Value, ValueRange)>;
  /// scf.for over [begin, end) with values carried from round to round.
  SmallVector<Value> loop(Value begin, Value end, int64_t step, ValueRange init,
                          Body body);
  /// The same without values; bounds known. A single round is no loop.
  void loop(int64_t begin, int64_t end, int64_t step,
            llvm::function_ref<void(Value)> body);
  SmallVector<Value> loop(int64_t begin, int64_t end, int64_t step,
                          ValueRange init, Body body);

  /// memref<rows x stride> of a buffer.
  Value view(const Buffer &buffer);
  Value viewSlot(unsigned slot, int64_t byteInSlot, int64_t rows,
                 int64_t stride);
  /// memref<rows x stride> from element `base` of an array on.
  Value viewMatrix(Value array, Value base, int64_t rows, int64_t stride);
  /// A stored value or the state, as products read it.
  struct Operand {
    Value memref;
    Value colBase; // column offset of the current panel; null for 0
    int64_t rows = 0, stride = 0;
  };
  Operand getOperand(Value value, bool panel, bool columnwise);
  Value loadVector(Value memref, Value row, Value col);
  void storeVector(Value vector, Value memref, Value row, Value col);
  Value loadScalar(Value memref, Value row, Value col);
  Value loadOperand(const Operand &operand, Value row, Value col) {
    return loadVector(operand.memref, row,
                      operand.colBase ? add(operand.colBase, col) : col);
  }
  /// Element of a vector (rank 1) for the current item.
  Value loadElement(Value vector, Value position);

  /// Column of the whole matrix that a cursor stands at.
  Value globalCol(const Cursor &cursor);
  Value loadArgument(BlockArgument argument, Cursor &cursor);
  /// First element of an argument for the current item and chunk.
  Value getArgumentBase(BlockArgument argument, Value member);
  /// First element of the current item's state at the start of a chunk.
  Value getCheckpointBase(Value chunk);
  void emitPrefetch(Value step);
  void emitOutPrefetch(unsigned out, Value row, int64_t rows, Value col,
                       int64_t vectors, bool inPanel);
  /// Finds the arrays that may be written past the caches, and computes
  /// whether they are: when so much is written that it would only push other
  /// data out of the caches.
  void findStreams();
  /// Stores a whole vector of an out or a saved state, past the caches if it
  /// goes to one of these.
  void storeStreamed(Value value, Value array, Value at);
  void storeOut(unsigned out, Value vector, const Cursor &cursor);

  //===--------------------------------------------------------------------===//
  // EmitRepeat.cpp: units in a loop
  //===--------------------------------------------------------------------===//

  /// `table[position]`, from a constant of the kernel's.
  Value lookUp(ArrayRef<int64_t> table, Value position);
  int64_t offsetOf(const Buffer &buffer) const;
  /// A buffer of the shape of `like` at a byte of the arena.
  Value viewAt(const Buffer &like, Value offset);
  /// Do the values lie in buffers of one shape?
  bool areAlike(ValueRange values);
  /// The one of `values`, which are alike, that `position` says.
  Operand getOperandOf(ValueRange values, Value position, bool panel,
                       bool columnwise);
  /// Number of the micro-step that an argument belongs to.
  int64_t getMember(BlockArgument argument) const;
  void bindInstance(ArrayRef<Value> values, Value round);
  /// The loop over a unit and those like it.
  void emitFamily(const Unit &unit);

  //===--------------------------------------------------------------------===//
  // EmitElementwise.cpp
  //===--------------------------------------------------------------------===//

  /// The value's lanes at the cursor: known, loaded or computed.
  Value eval(Value value, Cursor &cursor);
  Value compute(Value value, Cursor &cursor);
  Value evalScan(Operation *op, Cursor &cursor);
  Value evalTrueBelow(Cursor &cursor, bool diagonal);
  Value evalBroadcast(BroadcastOp op, Cursor &cursor);
  /// Writes what the roots hold at the cursor.
  void emitRoots(ArrayRef<Root> roots, Cursor &cursor);
  void emitElementwise(const Unit &unit);
  void emitSum(const Unit &unit);
  void emitSumScalar(const Unit &unit);
  void emitDiagonal(const Unit &unit);
  void emitVectorScan(const Unit &unit);
  void emitScalar(const Unit &unit);
  void emitCopy(const Unit &unit);
  void emitOutScalars(const Unit &unit);
  Value getScalar(Value value);
  void emitZeroColumns(const Buffer &buffer, int64_t begin);

  //===--------------------------------------------------------------------===//
  // EmitMatmul.cpp
  //===--------------------------------------------------------------------===//

  /// acc[r * vectors + v] of a register tile.
  using Tile = SmallVector<Value>;
  void emitMatmul(const Unit &unit);
  void emitMatmulTile(const Unit &unit, Value row, int64_t rows, Value col,
                      int64_t vectors, Cursor &origin);
  /// A row of a product's left operand: element k is memref[row, k], or
  /// memref[k, row] of the transposed one.
  struct LeftRow {
    Value memref, row;
    bool transposed = false;
  };
  /// tile[r] += left[r][k] * rhs[k] for k in [begin, end), which is `count`
  /// long if that is known; `end` is then not needed. Otherwise the length is
  /// a multiple of `unroll`.
  Tile accumulate(Tile tile, ArrayRef<LeftRow> left, ArrayRef<Operand> rhs,
                  Value col, int64_t vectors, Value begin, Value end,
                  std::optional<int64_t> count, int64_t unroll);
  /// Products of a unit's chain from `first` on that one loop can add up.
  size_t countAlike(const Unit &unit, size_t first);
  /// A unit with others beside it.
  void emitJoined(const Unit &unit);
  void emitDot(const Unit &unit);
  void emitScalarDot(MatmulOp matmul, const Operand &lhs, const Operand &rhs,
                     Value result, Value addend);
  /// Dot products of `rows` rows of x and `cols` rows of y, in row-major order.
  SmallVector<Value> emitDotTile(Value x, ArrayRef<Value> xRows, Value y,
                                 ArrayRef<Value> yRows, int64_t width);
  /// Horizontal sums: lane l of result q is the sum of vectors[q * lanes + l];
  /// null vectors are zero.
  SmallVector<Value> sumLanes(ArrayRef<Value> vectors);
  /// Writes rows x cols sums (as sumLanes gives them) to a matrix.
  void storeSums(ArrayRef<Value> sums, int64_t rows, int64_t cols, Value memref,
                 ArrayRef<Value> atRows, Value atCol, Value addend);
  void fillZero(Value memref, int64_t rows, int64_t stride);

  //===--------------------------------------------------------------------===//
  // EmitDecayGram.cpp, EmitGramAdjoint.cpp, EmitSolve.cpp, EmitTranspose.cpp
  //===--------------------------------------------------------------------===//

  void emitGram(const Unit &unit);
  void emitGramNode(const Unit &unit, Value lo, int64_t left, int64_t right);
  void emitGramLeaf(const Unit &unit, Value lo);
  void emitGramAdjoint(const Unit &unit);
  void emitAdjointLeaf(DecayGramAdjointOp op, Value lo, Value at);
  /// A node's scaled operands and the factors of each, in scratch rows.
  struct AdjointNode {
    Value lo, mid;
    int64_t left, right;
    Value scratch;
    int64_t cols, before, after; // first rows of what is not a row operand
  };
  void emitAdjointNode(const Unit &unit, Value lo, int64_t left, int64_t right);
  void emitAdjointScale(DecayGramAdjointOp op, const AdjointNode &node,
                        Value at);
  /// Gradients of row or column operand `number` in `vectors` columns.
  void emitAdjointProducts(DecayGramAdjointOp op, const AdjointNode &node,
                           int64_t number, bool isRow, Value at,
                           int64_t vectors);
  void emitSolve(const Unit &unit);
  /// Exchanges rows and columns of a block of vectors.
  void transposeBlock(MutableArrayRef<Value> rows);
  void emitTranspose(const Unit &unit);
  void emitLongSolve(TriSolveOp solve, Value col, int64_t vectors,
                     bool inPanel);
  /// A tile of a solve's right-hand sides: by token, then unknown, then vector.
  Tile loadSolveTile(TriSolveOp solve, Value token, int64_t tokens, Value col,
                     int64_t vectors, bool inPanel);
  void storeSolveTile(const Tile &tile, TriSolveOp solve, Value token,
                      int64_t tokens, Value col, int64_t vectors, bool inPanel);
  void emitSolveTile(TriSolveOp solve, Value token, int64_t tokens, Value col,
                     int64_t vectors, bool inPanel);
  void emitTransposedTile(TriSolveOp solve, Value token, int64_t tokens,
                          Value col, int64_t vectors, bool inPanel);

  const Plan &plan;
  const Geometry &g;
  OpBuilder &b;
  Location loc;
  int64_t arenaByte;
  std::unique_ptr<Emitter> states; // of the plan's program between checkpoints
  llvm::DenseMap<StringAttr, Value> byName; // arrays and numbers

  func::FuncOp kernel;
  llvm::DenseMap<Value, Value> arrays;  // chunk argument -> memref
  llvm::DenseMap<Value, Value> scalars; // numbers, by the chunk's value
  SmallVector<Value> outArrays;         // outs, sums, checkpoints
  Value init, final, hasInit, hasFinal, arena;
  Value sequences, numTokens, heads, vblocks; // sizes
  llvm::SetVector<Value> streamed;            // arrays: see findStreams
  Value streams;                      // a flag; null when there are none
  Value begin, end;                   // of the work items
  Value batchIndex, headIndex, block; // of the current item
  Value firstPanel, lastPanel;        // its panels, the last excluded
  Value firstToken;                   // of the current chunk
  Value remaining;                    // tokens from the current chunk on
  Value valid;                        // tokens of the current chunk
  Value ownedRows;      // the same, 0 when another block writes shared outs
  Value colBase;        // first column of the current panel
  Value stateView;      // the panel's part of the state
  Value checkpointView; // the state at the chunk's start, where it lies
  /// Tiles of a chunk's products that each ask for a share of the next chunk's
  /// inputs, and the first one of the current unit.
  int64_t prefetchSteps = 0;
  Value firstStep;
  /// First element for the current item and chunk, and from token to token.
  llvm::DenseMap<Value, Value> arrayBase, arrayRowStride;
  SmallVector<Value> outBase, outRowStride; // of each out
  Value numChunks;
  llvm::DenseMap<std::pair<int64_t, std::pair<int64_t, int64_t>>, Value> views;
  Value chunkRow; // B * T index of the chunk's first token
  /// In a loop over units: the round, and the buffers that are another one's in
  /// each, by slot and byte in it.
  Value instance;
  llvm::DenseMap<std::pair<unsigned, int64_t>, Value> bound;
  std::map<std::vector<int64_t>, Value> tables;
};

} // namespace mlir::delta::cpumap

#endif // DELTA_LIB_TARGET_CPU_CHUNKTOMAPPED_EMITTER_H
