//===- EventBuilder.h - From a step to a chain of events --------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The matrices of a step in symbolic form, and the walk that makes events of
// them.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_DIALECT_DELTA_TRANSFORMS_EVENTBUILDER_H
#define DELTA_LIB_DIALECT_DELTA_TRANSFORMS_EVENTBUILDER_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "mlir/IR/IRMapping.h"

namespace mlir::delta::events {

/// A matrix as sum_b diag(w_b) S_b + diag(d) + sum_i x_i y_i^T. The S_b are
/// states of the chain. w and d are vectors over the rows or scalars.
struct MatrixForm {
  struct StateTerm {
    Value state;
    Value weight; // null: 1
  };
  struct Dyad {
    Value x, y;
  };
  SmallVector<StateTerm> states;
  Value diagonal; // null: none
  SmallVector<Dyad> dyads;
  /// The form describes the transposed matrix.
  bool transposed = false;

  bool dependsOnState() const { return !states.empty(); }
};

class EventBuilder {
public:
  EventBuilder(SignatureAttr signature, RecurrenceOp step, OpBuilder &builder)
      : signature(signature), step(step), builder(builder), vectors(builder) {}

  /// Rebuilds the step's body at the builder's insertion point; `args` are the
  /// new block's arguments. Returns the values to yield.
  FailureOr<SmallVector<Value>> run(ValueRange args);

private:
  /// Processes one block on the chain state `state`; returns its yielded
  /// values, the state first (as a state of the chain).
  FailureOr<SmallVector<Value>>
  processBlock(Block &block, BlockArgument stateArg, Value state);
  LogicalResult processOp(Operation *op);
  LogicalResult processFor(ForOp op);
  /// A micro-step's index must lie below its family's dim.
  LogicalResult checkMicroIndex(MicroOp op);
  FailureOr<MatrixForm> computeMatrix(Operation *op);
  FailureOr<MatrixForm> multiply(MatmulOp op);
  FailureOr<MatrixForm> multiplyElementwise(Operation *op, MatrixForm a,
                                            MatrixForm b);
  FailureOr<Value> applyTransposed(Operation *op, const MatrixForm &form,
                                   Value x);
  FailureOr<Value> apply(Operation *op, const MatrixForm &form, Value x);
  /// The scalar s of an operand that is `delta.broadcast s`.
  Value getBroadcastScalar(Value matrix);
  /// The form of a matrix that has been processed.
  MatrixForm getForm(Value matrix);
  /// Emits the events of `form` and returns the chain's new state.
  FailureOr<Value> emitEvents(Operation *op, const MatrixForm &form);

  bool isMatrix(Value value) {
    return mlir::delta::getDimNames(value.getType()).size() == 2 &&
           isa<RankedTensorType>(value.getType()) && !families.contains(value);
  }
  InFlightDiagnostic outside(Operation *op) {
    return op->emitError() << "the step leaves the class of recurrences "
                              "S = D S + x y^T: ";
  }

  SignatureAttr signature;
  RecurrenceOp step;
  OpBuilder &builder;
  VectorBuilder vectors;
  IRMapping mapping;                       // scalars, vectors, families
  llvm::DenseMap<Value, MatrixForm> forms; // matrices
  llvm::DenseSet<Value> families;
  Value chainState; // the newest state of the chain
};

} // namespace mlir::delta::events

#endif // DELTA_LIB_DIALECT_DELTA_TRANSFORMS_EVENTBUILDER_H
