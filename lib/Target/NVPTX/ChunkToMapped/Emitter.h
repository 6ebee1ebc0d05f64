//===- Emitter.h - Building the forward kernel ------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The builder of a mapped kernel: EmitKernel.cpp has the frame, EmitFree.cpp
// and EmitDecay.cpp the free slice, EmitState.cpp the state slice,
// EmitTwoKernels.cpp the frames where each has a kernel of its own,
// EmitSegments.cpp what is different where chunks are walked backwards.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_EMITTER_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_EMITTER_H

#include "Arrays.h"
#include "WarpBuilder.h"
#include "delta/Target/NVPTX/Kernel.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/SmallBitVector.h"

namespace mlir::delta::gpumap {

/// Products of w over parts of blocks of rows, level by level: before level s,
/// `before[s][i]` is the product over the rows of i's block of s that stand
/// before i, `behind[s][i]` over those behind it, both without row i. A null
/// value is 1. `total` is the product over all rows, in every row.
struct DyadicTables {
  Value before[5], behind[5]; // for s = 1, 2, 4, 8, 16
  Value w;                    // with 1 in padding channels
  Value total;
  int built = 0; // levels
};

/// The same for fragments, seen from the row: before level s, `active[s]` is
/// the product that the level asks for (of a row in the right half of its block
/// of 2s that over the rows before it, of a row in the left half that over the
/// rows behind it, both within the half) and `passive[s]` the other one. Both
/// go through the next level with one product. `before` and `behind` are those
/// over all 16 rows. A null value is 1.
struct DecayFactors {
  Value w, total;
  Value active[4], passive[4], before, behind;
  /// Is the row itself part of products before it, and of those behind it?
  bool rowsInclusive = false, colsInclusive = false;
  int built = -1; // the last level
};

class Emitter : WarpBuilder {
public:
  Emitter(const Program &program, const GpuMapping &mapping,
          const OperandPolicy &policy, const Arrays &arrays, GpuKernel kernel,
          Location loc);

  /// Fills the kernel's body.
  void emitKernel();
  /// Instead: each CTA begins with a state saved every `every` chunks, in
  /// `from`, and stores that of each chunk up to the next one.
  void emitStates(Value from, int64_t every);
  /// Instead: the chunks are walked from the last one on, `every` of which are
  /// a segment, and the state behind each segment is left in part `part` of the
  /// workspace (EmitSegments.cpp).
  void emitSegments(unsigned part, int64_t every);
  /// The part of the workspace that has the records; 0 else.
  void setRecordPart(unsigned part) { recordPart = part; }

private:
  // The frame (EmitKernel.cpp).
  void emitPrologue();
  /// Starts the copies of a window's chunks that `which` holds for, as one
  /// group.
  using InputFilter = llvm::function_ref<bool(const StagedInput &)>;
  void emitLoads(Value window, InputFilter which);
  /// Starts those of some chunks from one on; are there any?
  bool emitChunkLoads(Value window, Value number, InputFilter which,
                      int64_t chunks = 1);
  /// The loop's body where the slices take turns, and where they overlap.
  SmallVector<Value> emitInTurn(Value number, ValueRange state);
  /// From here to the end of the block, nothing that depends on lanes is kept
  /// in registers from before.
  void renewLanes(Value round);
  Value getWarpColumn(Value warp);
  SmallVector<Value> emitOverlapped(Value number, ValueRange state);
  /// The chunks of the current window that have tokens, one after the other.
  /// `refill`: started after each chunk.
  SmallVector<Value> emitChunks(ValueRange state,
                                llvm::function_ref<void()> refill);
  /// Starts the copies of what a head's params are.
  void emitParamLoads();
  SmallVector<Value> emitInitialState();
  SmallVector<Value> loadSavedState();
  void emitFinalState(ValueRange state);
  void storeFinalState(ValueRange state);
  /// Tokens from `first` on that exist, of a chunk's or of `tokens`.
  Value getValidTokens(Value first, int64_t tokens = 0);
  /// The number of a window's chunk in the sequence, and its first token.
  Value getChunkNumber(Value window, Value chunkOfWindow);
  Value getFirstToken(Value window, Value chunkOfWindow);
  /// How many of the warp's columns, of which `column` is the first, exist.
  Value getOwnColumns(Value column);
  /// Element offset of token `token` of an argument or out, and the distance
  /// to the next token's.
  std::pair<Value, Value> getTokenOffset(ArgAttr arg, int64_t micro,
                                         Value token);
  /// First index of an array with `stages` windows, for the given one.
  Value getStage(Value window, int64_t stages);
  /// That of the input's array for the window being worked on.
  Value getStageOf(const StagedInput &input);
  /// Indices of a chunk's transfers: the stage, if there are any, and the
  /// chunk.
  SmallVector<Value> getTransferIndices();
  /// The kernel's array for an `in` or `param`.
  Value getArray(ArgAttr arg) const;

  // Two kernels (EmitTwoKernels.cpp).
  /// The loop's body without a free slice.
  SmallVector<Value> emitStateWindow(Value number, ValueRange state);
  /// The kernel that prepares chunks for another one.
  void emitFreeKernel();
  /// First byte of a chunk's record in the workspace.
  Value getRecordBase(Value chunkNumber);
  /// Writes the record of the warp's chunk; starts the copies of that of a
  /// window's chunk.
  void emitRecordStores();
  void emitRecordLoads(Value window, Value chunkOfWindow);

  // The state's cotangents behind segments (EmitSegments.cpp).
  /// The chunk that is walked as number `step`, the last one being 0.
  Value turnRound(Value step);
  Value countSegments();
  /// Steps of the walk: those of all segments but the sequence's first.
  Value countWalked();
  /// Stores the state before a step with which a segment begins.
  void emitSegmentStore(Value step, ValueRange state);
  void emitLastStore(ValueRange state);
  /// Segment 0 is the sequence's last one.
  void storeSegment(Value segment, ValueRange state);

  // Values of both slices.
  Value number(double value);
  /// A uniform number: from parameters and attributes.
  Value getUniform(Value value);
  /// The operation on new operands, with a result of `type`'s shape.
  Value clonePointwise(Operation *op, ValueRange operands,
                       RankedTensorType type);
  Value zeros(RankedTensorType type) { return constant(0.0, type); }
  Value extract(Value value, ArrayRef<int64_t> offsets, RankedTensorType type);

  // The free slice (EmitFree.cpp).
  /// `beside`: for warps that share the channels, but are not needed behind the
  /// loops.
  void emitFreeSlice(llvm::function_ref<void()> beside = {});
  /// Sums over channels, and what their loop left of each.
  using ChannelSums = SmallVector<std::pair<Operation *, SmallVector<Value>>>;
  ChannelSums emitChannelLoop(int64_t channels, ArrayRef<Operation *> sums,
                              ArrayRef<const TransferPlace *> stores,
                              ArrayRef<unsigned> wideOuts);
  /// What a slice of 16 channels gives to sums (for each its operands), factors
  /// and outs: two halves of each.
  struct ChannelParts {
    SmallVector<SmallVector<Value>> operands[2];
    SmallVector<Value> factors[2], outs[2];
  };
  void emitParts(int64_t channels, ArrayRef<Operation *> sums,
                 ArrayRef<std::pair<unsigned, unsigned>> carried,
                 ArrayRef<const TransferPlace *> stores,
                 ArrayRef<unsigned> wideOuts, MutableArrayRef<Value> values,
                 ChannelParts &parts);
  void emitSlice(int64_t channels, ArrayRef<Operation *> sums,
                 ArrayRef<std::pair<unsigned, unsigned>> carried,
                 ArrayRef<const TransferPlace *> stores,
                 ArrayRef<unsigned> wideOuts, const ChannelParts &parts,
                 MutableArrayRef<Value> values);
  /// Where registers are short, factors are stored by halves, each behind its
  /// own loads: a factor may lie over its input.
  bool storesHalves() const;
  void storeFactor(const TransferPlace &place, Value value, Value channel);
  /// The operands of a sum over channels, for the current half of the slice.
  void getOperandParts(Operation *sum, SmallVectorImpl<Value> &parts);
  /// Two halves of a slice side by side.
  Value join(Value left, Value right);
  /// Forgets what belongs to the slice, or half, that is done.
  void dropSlice();
  Value getFirstChannel();
  Value getFree(Node node);
  Value computeFree(Node node);
  void storeNarrow(const TransferPlace &place);
  void storeSystem(unsigned index);
  void invertSystem(unsigned index);
  Value maskChannels(Value fragment, Value value, int64_t channels,
                     double fill);
  /// Keeps zero what the padding of the last slice must not add.
  Value getContracted(Value value, Value partner);
  void emitNarrow(int64_t phase);
  void finishSums(const ChannelSums &sums);
  void sendSums(const ChannelSums &sums);
  Value getPartialArray(Value value) const;

  // Decay (EmitDecay.cpp).
  /// With the products of that many levels.
  const DyadicTables &getTables(Node decay, int levels = 4);
  /// Those of the current half of a slice, up to that level; 4: all rows.
  const DecayFactors &getFactors(Value decay, int level);
  /// What scales a row operand and a column operand in one fragment at a level:
  /// right rows by the products before them, left ones by those behind. Null
  /// for 1.
  Value getScale(Value decay, int level, bool rowInclusive, bool colInclusive);
  /// `value * factor` as operand of a matrix instruction. An input that has the
  /// operands' type is scaled in it.
  Value scaleOperand(Value value, Value factor);
  /// An input times the product of the decays before it, both as operands; null
  /// for another value.
  Value getScaledInput(Value value);
  /// The operand's type, of an input that already has it; null for other
  /// values.
  Value getNarrow(Value value);
  Value getPrefix(PrefixProductOp op, Node node);
  Value getDecayMask(DecayMaskOp op);
  /// Accumulators of a decay-Gram over the channels.
  SmallVector<RankedTensorType> getGramAccumulators(DecayGramOp op);
  /// A decay-Gram's operands for the current half of the slice, in the order in
  /// which accumulateGram takes them.
  void getGramParts(DecayGramOp op, SmallVectorImpl<Value> &parts);
  void accumulateGram(DecayGramOp op, ArrayRef<Value> operands,
                      MutableArrayRef<Value> accumulators);
  void accumulateDiagonals(DecayGramOp op, MutableArrayRef<Value> accumulators);
  void forEachGram(DecayGramOp op, ValueRange accumulators,
                   llvm::function_ref<void(Value gram, unsigned row,
                                           unsigned col, Value anchored)>
                       fn);
  /// Stores the levels of a row and a column, in an array other than
  /// `gramArray` the rest too; returns the diagonal, zero elsewhere.
  Value finishLevels(DecayGramOp op, ValueRange accumulators, unsigned row,
                     unsigned col, Value array, ValueRange at);
  void finishGram(DecayGramOp op, ValueRange accumulators);
  /// The second warp's part of a decay-Gram, to where the first one finds it.
  void sendGram(DecayGramOp op, ValueRange accumulators, Value place);
  bool isAnchored(DecayGramOp op) const;

  // The state slice (EmitState.cpp).
  SmallVector<Value> emitStateSlice(ValueRange state);
  /// First element of the warp's part of checkpoint `number`, one of which
  /// there is for `every` chunks.
  Value getCheckpointBase(Value number, int64_t every = 1);
  /// Stores a slice of the state as it is before the chunk's update, at its
  /// first use as an operand.
  void saveSlice(int64_t part);
  void emitOuts();
  Value getTurned(Value value);
  /// Computes the product with the state, and all others with the same state.
  void readState(MatmulOp wanted);
  Value getStateSlice(Value value, int64_t slice);
  Value getVector(Value value, Form form, int64_t slice = 0);
  Value getColumns(Value value);
  /// The operand tile of a transfer or staged input: rows are tokens, or
  /// channels with `transpose`.
  Value loadFactor(Value value, int64_t slice, bool transpose);
  Value loadSquare(Value value, bool transpose);
  /// The value as an operand, rounded once.
  Value operandOf(Value turned);

  const Program &program;
  const GpuMapping &mapping;
  const Arrays &arrays;
  GpuKernel kernel;

  // Set by the prologue.
  Value batch, head, block, warpId, windows, firstColumn, warpColumn;
  /// The warp's number, for all of the kernel; `warpId` is the same, renewed.
  Value kernelWarp;
  /// Where not all warps hold the state: does the warp prepare chunks, or copy
  /// them?
  Value prepares;
  SmallVector<Value> inputArrays, paramArrays, transferArrays, systemSources,
      systemInverses, partialArrays;
  Value gramArray;
  int64_t slices = 0; // of the state's rows

  /// Warps that copy, from number `firstCopyWarp` on; 0 for the whole block.
  int64_t copyWarps = 0, firstCopyWarp = 0;

  // The window being worked on, the chunk in it.
  Value window, chunk, valid;
  // First of the 16 channels in the current loop, and which 8 of them: 0 or 1,
  // or -1 for all.
  Value slice;
  int half = -1;
  /// Is what is emitted now computed once, for all windows?
  bool beforeWindows = false;
  llvm::DenseMap<Value, Value> tiles; // loaded in the current slice

  llvm::DenseMap<Node, Value> memo;           // free slice, one chunk
  SmallVector<Node> sliceMemo;                // entries to drop after a slice
  llvm::DenseMap<Value, DyadicTables> tables; // of the current slice
  llvm::DenseMap<Value, DecayFactors> factors;
  llvm::DenseMap<Value, Value> uniforms, columns;
  llvm::DenseMap<std::pair<Value, int64_t>, Value> stateMemo;
  llvm::DenseMap<Value, Value> operandMemo;
  SmallVector<Value> currentState;
  // Where the checkpoint of the current chunk begins, and which slices of it
  // are stored.
  Value checkpointBase;
  llvm::SmallBitVector saved;
  /// States are saved every so many chunks.
  int64_t saveEvery = 1;
  // Of the CTA's part of a sequence: its tokens, the first of them (null: 0),
  // and the saved states that it begins with (null: the initial state).
  Value length, firstToken, savedStates;
  /// Is the chunk's state saved? Null: all are.
  Value savesNow;
  int64_t partChunks = 0;
  /// Chunks of a segment, where the chunks are walked backwards; else 0.
  int64_t segmentChunks = 0;
  unsigned segmentPart = 0, recordPart = 0; // of the workspace
};

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_EMITTER_H
