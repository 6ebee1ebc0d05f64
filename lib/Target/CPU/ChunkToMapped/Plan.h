//===- Plan.h - What a chunk program's kernel consists of -------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The decisions between a chunk program and its loops: which values depend on
// which loop (slices), which are stored and which are recomputed in registers,
// in what order the pieces run, and where each stored value lies in the arena.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_CPU_CHUNKTOMAPPED_PLAN_H
#define DELTA_LIB_TARGET_CPU_CHUNKTOMAPPED_PLAN_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Target/CPU/ChunkToMapped/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <memory>
#include <vector>

namespace mlir::delta::cpumap {

/// The loop that a value is computed in. A later slice reads the earlier ones.
enum class Slice {
  Hoisted, // once per (batch, head): depends on params and attrs only
  Free,    // once per chunk: does not depend on the state's columns
  Panel,   // once per chunk and panel of the state's columns
};

/// Sizes that everything shares.
struct Geometry {
  int64_t tokens = 0;               // C
  int64_t stateRows = 0;            // A
  int64_t stateCols = 0;            // B
  FloatType compute;                // element type computed in
  int64_t lanes = 0;                // elements a vector register
  int64_t panelVectors = 0;         // vectors across a panel
  int64_t tileRows = 0;             // rows of a matmul's register tile
  int64_t dotRows = 0, dotCols = 0; // of a dot-product tile
  bool fma = true;

  int64_t bits() const { return FloatType(compute).getWidth(); }
  int64_t elementBytes() const { return bits() / 8; }
  int64_t panelWidth() const { return panelVectors * lanes; }
  int64_t panels() const {
    return (stateCols + panelWidth() - 1) / panelWidth();
  }
  int64_t paddedCols() const { return panels() * panelWidth(); }
  /// The last panel has columns that do not exist.
  bool hasPartialPanel() const { return stateCols % panelWidth() != 0; }
  /// Vectors across a register tile of a product in the free slice.
  static constexpr int64_t kFreeVectors = 2;
  int64_t roundUpToVector(int64_t n) const {
    return (n + lanes - 1) / lanes * lanes;
  }
};

/// A range of arena bytes, alive from one unit to another.
struct Slot {
  int64_t bytes = 0;
  unsigned begin = 0, end = 0; // in units, both included
  int64_t offset = 0;
};

/// Where a value lies: `rows` rows of `stride` elements. The columns from the
/// value's last to the stride are zero.
struct Buffer {
  unsigned slot = 0;
  int64_t byteInSlot = 0;
  int64_t rows = 0, cols = 0, stride = 0;
  bool panelLocal = false; // holds one panel's columns only
};

/// A value that an elementwise loop or a matmul's epilogue writes somewhere.
struct Root {
  enum Kind {
    Store, // to its buffer
    Total, // total_product, token_sum: its buffer, after the loop
    Out,   // to an out's array
    State, // to the state's panel
    Sum,   // added to a sum's buffer
  };
  Kind kind;
  Value value;
  unsigned out = 0; // index among the outs or the sums
};

/// A result of the chunk program that goes to an array, token by token.
struct OutPlace {
  unsigned array = 0; // index among the kernel's output arrays
  int64_t member = 0; // of a family of micro-steps
  int64_t family = 1; // their number
};

/// A piece of the kernel: one loop nest.
struct Unit {
  enum Kind {
    Scalar,      // an operation on numbers
    Copy,        // a per-token scalar input into a buffer
    Elementwise, // roots of one shape
    Matmul,      // a chain of products and what is computed from its result
    Dot,         // lhs * rhs^T
    Gram,        // decay_gram
    Solve,       // tri_solve
    Sum,         // over the last axis
    VectorScan,  // running or total product or sum of one number a token
    OutScalars,  // a per-token scalar out
    SumScalar,   // a number added to a sum's buffer
    Transpose,   // rows become columns
    Diagonal,    // of a matrix
    GramAdjoint, // decay_gram_adjoint
  };
  Kind kind;
  Slice slice;
  unsigned position = 0;       // of the operation in the program
  Operation *op = nullptr;     // Scalar, Dot, Gram, Solve, Sum, VectorScan
  Value value;                 // Copy, OutScalars, SumScalar
  unsigned out = 0;            // OutScalars, SumScalar
  SmallVector<MatmulOp> chain; // Matmul: from the first product to the last
  SmallVector<Root> roots;     // Elementwise, Matmul
  bool reverse = false;        // Elementwise: from the last row to the first
  int64_t rows = 0, cols = 0;  // Elementwise
  std::optional<unsigned> scratch; // slot used within the unit only
  /// Units that differ from this one only in where their operands lie: all run
  /// in one loop, which has this unit's code. `leaves` of each are the
  /// operands, in the same order.
  std::vector<Unit> others;
  SmallVector<Value> leaves;
  /// Matmul: products of the same left operand, each one vector across, whose
  /// columns stand beside this one's in a tile: a number that is loaded is
  /// multiplied by all of them.
  std::vector<Unit> beside;

  /// The product's result, whose uses may lie in `roots`.
  Value getChainResult() const { return MatmulOp(chain.back()).getResult(); }
  /// What the accumulators start with; null for zero.
  Value getChainStart() const { return MatmulOp(chain.front()).getAcc(); }
  /// Calls `fn` for this unit and those in its loop.
  void forEachMember(llvm::function_ref<void(const Unit &)> fn) const {
    fn(*this);
    for (const Unit &other : others)
      fn(other);
  }
};

/// From this many units on that are alike, they become a loop.
constexpr size_t kLeastMembers = 4;

/// The plan of one kernel.
class Plan {
public:
  /// Analyses a chunk program; reports what it cannot map.
  static FailureOr<Plan> build(func::FuncOp function, SignatureAttr signature,
                               const CpuMapOptions &options);
  /// Adds the program `states` between checkpoints.
  LogicalResult addStates(func::FuncOp states, const CpuMapOptions &options);

  Geometry geometry;
  func::FuncOp function;
  SignatureAttr signature;
  BlockArgument state, valid;
  BlockArgument checkpoint; // the state at the chunk's start; backward only
  /// The checkpoint is what a buffer of it would be, so it needs none.
  bool readsCheckpointInPlace = false;
  /// The whole matrix is one panel, and what depends on the state's columns is
  /// in the free slice: for programs that combine columns of the state.
  bool isWhole = false;
  SmallVector<Value> outs; // the function's results by token
  SmallVector<OutPlace> outPlaces;
  SmallVector<Value> sums; // its results that are summed over the chunks
  SmallVector<Buffer> sumBuffers;
  std::vector<Unit> units; // hoisted, then free, then panel slice
  std::vector<Slot> slots;
  unsigned stateSlot = 0;
  int64_t arenaBytes = 0;
  /// Backward, where not every chunk has a checkpoint: the program that goes
  /// on from one to the chunks behind it. Its arena lies behind this one's, and
  /// behind that the states it has computed.
  std::shared_ptr<Plan> states;
  int64_t statesByte = 0, savedByte = 0;

  Slice getSlice(Value value) const { return slices.lookup(value); }
  /// The value's buffer; null when it has none.
  const Buffer *getBuffer(Value value) const {
    auto it = buffers.find(value);
    return it == buffers.end() ? nullptr : &it->second;
  }
  /// Does the value have a buffer, or will it once there are any?
  bool isStored(Value value) const { return stored.contains(value); }
  /// Is the value computed where it is used?
  bool isInline(Value value) const;
  /// Buffers and scalars that evaluating `value` reads.
  void collectReads(Value value, llvm::SetVector<Value> &reads) const;
  /// Is what lies above the diagonal never looked at?
  static bool isUsedBelowDiagonalOnly(Value value);
  /// Signature entry of a token, param or attr argument.
  ArgAttr getArg(Value value) const;

private:
  Plan() = default;
  LogicalResult checkProgram();
  LogicalResult checkResults();
  LogicalResult findSlices();
  void sinkIntoPanels();
  void findStored();
  void buildUnits();
  void joinProducts();
  void collectUnitReads(const Unit &unit, llvm::SetVector<Value> &reads) const;
  /// A text that two units share when one loop can do the work of both, and the
  /// operands in which they may differ. Empty: only alone.
  std::string getStructure(const Unit &unit,
                           SmallVectorImpl<Value> &leaves) const;
  LogicalResult schedule();
  void allocate();
  LogicalResult chooseGeometry(const CpuMapOptions &options);

  llvm::DenseMap<Value, Slice> slices;
  llvm::DenseMap<Value, Buffer> buffers;
  /// Values that have a buffer; buffers themselves come with allocate().
  llvm::SetVector<Value> stored;
  /// Products whose result stays in registers.
  llvm::DenseSet<Value> fused;
};

/// Number of rows and columns of a tensor; a vector is one row.
std::pair<int64_t, int64_t> getShape(Value value);
/// Rank of a tensor, 0 for a number.
unsigned getRank(Value value);
/// Is the operation computed position by position (masks and broadcasts
/// included, scans not)?
bool isElementwise(Operation *op);
/// Running products and sums of a matrix, decay_mask: one row from the row
/// before.
bool isRowScan(Operation *op);
/// What stands for a scan's running value: one for all that share it.
Value getScanKey(Operation *op);
/// What a unit computes and others read.
void collectProduced(const Unit &unit, llvm::DenseSet<Value> &values);
/// Replaces each product lhs * rhs^T by one of transposed copies, which are
/// shared: horizontal sums cost more than a copy of the smaller operand.
void transposeProducts(func::FuncOp function);
/// Calls `fn(operand, columnwise)`: columnwise when column j of the result
/// needs only column j of the operand.
void forEachOperand(Operation *op,
                    llvm::function_ref<void(OpOperand &, bool)> fn);

} // namespace mlir::delta::cpumap

#endif // DELTA_LIB_TARGET_CPU_CHUNKTOMAPPED_PLAN_H
