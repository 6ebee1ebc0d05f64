//===- Program.h - What a chunk program asks of each slice --*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A chunk program read from its results backwards: which values are wanted, in
// which form, by the free slice (one warp a chunk, rows are tokens) and by the
// state slice (every warp its columns of the state, which are rows there).
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_PROGRAM_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_PROGRAM_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

#include <optional>

namespace mlir::delta::gpumap {

/// The form in which a value is wanted. One value may be wanted in several.
enum class Form {
  // Free slice: rows are tokens.
  Number,   // the same for the whole chunk
  Tokens,   // one number a token
  Channels, // one number a channel, in slices of 16
  Square,   // C x C
  Wide,     // C x D, in slices of 16 channels
  // State slice: rows are the state's columns.
  StateNumber,
  StateTokens,
  StateChannels, // one number a row of the state, in slices of 16
  Columns,       // one number a column of the state
  Turned,        // C x B, held B x C
  State,         // A x B, held B x A, in slices of 16 rows of the state
};

/// Is the form one of the free slice?
inline bool isFree(Form form) { return form <= Form::Wide; }

/// A value in a form.
struct Node {
  Value value;
  Form form;
  bool operator==(const Node &o) const {
    return value == o.value && form == o.form;
  }
  bool operator!=(const Node &o) const { return !(*this == o); }
};

} // namespace mlir::delta::gpumap

template <> struct llvm::DenseMapInfo<mlir::delta::gpumap::Node> {
  using Node = mlir::delta::gpumap::Node;
  using Form = mlir::delta::gpumap::Form;
  static Node getEmptyKey() {
    return {DenseMapInfo<mlir::Value>::getEmptyKey(), Form::Number};
  }
  static Node getTombstoneKey() {
    return {DenseMapInfo<mlir::Value>::getTombstoneKey(), Form::Number};
  }
  static unsigned getHashValue(const Node &node) {
    return llvm::hash_combine(mlir::hash_value(node.value),
                              static_cast<int>(node.form));
  }
  static bool isEqual(const Node &a, const Node &b) { return a == b; }
};

namespace mlir::delta::gpumap {

/// What the free slice leaves in shared memory for the state slice.
struct Transfer {
  Value value;
  Form form; // Number, Tokens, Channels, Square or Wide
};

class Program {
public:
  /// Analyses the chunk program of a module; what cannot be mapped is reported
  /// at the operation concerned.
  static FailureOr<Program> build(func::FuncOp function,
                                  SignatureAttr signature);

  mutable func::FuncOp function;
  SignatureAttr signature;
  BlockArgument state, valid;
  SmallVector<Value> outs;
  int64_t chunk = 0;     // tokens
  int64_t stateRows = 0; // A
  int64_t stateCols = 0; // B

  /// The outs that the free slice writes (they do not depend on the state and
  /// are not as wide as its columns), and those of the state slice.
  SmallVector<unsigned> freeOuts, stateOuts;

  /// Everything that the free slice leaves for the state slice: operand tiles
  /// (Wide, Square), vectors and numbers.
  llvm::SetVector<Node> transfers;
  /// Systems whose inverse the free slice makes.
  llvm::SetVector<Operation *> systems;
  /// Everything wanted, operands before users.
  llvm::SetVector<Node> nodes;
  /// Arguments whose tokens are read, by either slice.
  llvm::SetVector<BlockArgument> staged;
  /// Staged arguments that the state slice reads itself.
  llvm::DenseSet<Value> stagedForState;

  /// The loop over channels (0, 1, ...) in which a Wide or Channels node is
  /// available, or before which a narrow node of the free slice is.
  int64_t getPhase(Node node) const { return phases.lookup(node); }
  int64_t numPhases() const { return phaseCount; }
  /// The last loop over channels that computes a Wide or Channels node: each
  /// loop computes anew what it needs of earlier ones.
  int64_t getLastLoop(Node node) const { return lastLoops.lookup(node); }

  /// Skips maskings that change nothing: rows behind the end hold the masked
  /// value already, since the arrays' copies are filled with zeros.
  Value resolve(Value value) const;
  /// The value of padding (rows behind the end, or channels behind the last),
  /// where every token's number is zero; none when it is not known.
  /// `channels`: parameters along the channels are zero there too.
  std::optional<double> getPadding(Value value, bool channels) const;

  ArgAttr getArg(Value value) const;
  bool dependsOnState(Value value) const { return dependent.contains(value); }
  /// Is the value the same for all tokens of a head (parameters and
  /// attributes)?
  bool isUniform(Value value) const { return !perToken.contains(value); }
  /// The input of one number a token and the constant of a value that is their
  /// product, which the state slice computes itself.
  std::optional<std::pair<BlockArgument, double>>
  getConstantMultiple(Value value) const;
  /// Is the value the state, or of its shape and computed from it?
  bool isStateShaped(Value value) const { return stateShaped.contains(value); }

private:
  LogicalResult checkShapes();
  void findDependences();
  LogicalResult want(Node node);
  LogicalResult wantOperands(Operation *op, Form form);
  LogicalResult wantTransfer(Value value, Form form);
  LogicalResult reject(Value value, Form form);
  void findPhases();
  /// Calls `fn` for the nodes that `node` is computed from.
  void forEachSource(Node node, llvm::function_ref<void(Node)> fn) const;

  llvm::DenseSet<Value> dependent, stateShaped, perToken;
  llvm::DenseMap<Node, int64_t> phases, lastLoops;
  int64_t phaseCount = 0;
  mutable llvm::DenseMap<std::pair<Value, int>, std::optional<double>> padding;
};

/// Axes of a tensor; 0 for a number.
unsigned getRank(Value value);

/// The micro-step that an argument of a program belongs to; 0 without steps.
int64_t getMicro(func::FuncOp program, Value argument);

/// Is the operation computed position by position from operands of its shape?
bool isPointwise(Operation *op);

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_PROGRAM_H
