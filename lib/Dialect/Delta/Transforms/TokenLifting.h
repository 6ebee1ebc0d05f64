//===- TokenLifting.h - One token's values for C tokens ---------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Lifts the elementwise part of a step to a chunk: a value that varies with
// the token gets a leading axis of C tokens, a value that does not (params,
// attrs and what is computed from them) stays as it is, so that it can be
// computed once a head.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_DIALECT_DELTA_TRANSFORMS_TOKENLIFTING_H
#define DELTA_LIB_DIALECT_DELTA_TRANSFORMS_TOKENLIFTING_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace mlir::delta {

/// The empty function of a chunk program: arguments as documented in
/// docs/Rationale.md (ins with families spread, params, attrs, state, valid).
func::FuncOp createChunkFunction(OpBuilder &builder, RecurrenceOp events,
                                 SignatureAttr signature, int64_t tokens,
                                 FloatType compute);

/// Does the operation's result reach an out of the recurrence other than
/// through the state?
bool reachesOut(Operation *op);

class TokenLifting {
public:
  TokenLifting(OpBuilder &builder, int64_t tokens, FloatType compute,
               SignatureAttr signature)
      : builder(builder), vectors(builder), tokens(tokens), compute(compute),
        signature(signature) {}

  /// Maps the recurrence's arguments to those of the chunk function.
  void bindArguments(RecurrenceOp events, Block::BlockArgListType arguments);
  /// Says what a read's value is for C tokens.
  void bind(Value value, Value chunk) { lifted[value] = chunk; }
  /// The value for the chunk: with a token axis if it varies with the token.
  FailureOr<Value> lift(Value value);
  /// Repeats a lifted value along the tokens if it does not vary with them.
  /// `tokenType` is its type for one token.
  Value toTokens(Value value, Type tokenType);

private:
  SmallVector<int64_t> getShape(Type tokenType);
  bool varies(Value chunk, Type tokenType);

  OpBuilder &builder;
  VectorBuilder vectors;
  int64_t tokens;
  FloatType compute;
  SignatureAttr signature;
  llvm::DenseMap<Value, Value> lifted;
  llvm::DenseMap<Value, SmallVector<Value>> families;
};

} // namespace mlir::delta

#endif // DELTA_LIB_DIALECT_DELTA_TRANSFORMS_TOKENLIFTING_H
