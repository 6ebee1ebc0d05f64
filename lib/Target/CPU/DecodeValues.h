//===- DecodeValues.h - A token's values as code ----------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Builds what DecodePlan has planned, apart from the passes over the state:
// inputs, scalars, the loops over whole vectors, expressions over columns.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_CPU_DECODEVALUES_H
#define DELTA_LIB_TARGET_CPU_DECODEVALUES_H

#include "DecodePlan.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::delta {

/// Elements from `base` on of a flat memref.
struct ArraySlice {
  Value memref, base;
};

/// Arguments of the kernel, by what they are (stage mapped on the cpu).
struct KernelArgs {
  DenseMap<Value, Value> inputs; // arguments of the recurrence
  Value init, final, arena;
  SmallVector<Value> outs;
  Value B, T, H, hasInit, hasFinal, begin, end, vblocks;
};

/// Scalars of one token: values of the events as values of the kernel.
using Scalars = DenseMap<Value, Value>;

class DecodeValues {
public:
  DecodeValues(const DecodePlan &plan, ImplicitLocOpBuilder &b,
               const KernelArgs &args)
      : plan(plan), b(b), args(args) {}

  /// Begins a work item: index of sequence and head, is this the item that
  /// writes outs free of the columns.
  void startItem(Value sequence, Value head, Value isFirst);

  /// Evaluates a token's scalars and whole vectors, and stores the outs that
  /// are made of them. Returns all scalars.
  Scalars emitToken(Value token);

  /// A vector that the passes use: its buffer, or the input itself.
  ArraySlice getRows(Value vector, Value token);
  /// Offset of one micro-step, or of all of a token's value.
  Value getOffset(const InputRef &input, Value token);
  Value getOutOffset(unsigned position, Value token);

  // Small builders.
  Value index(int64_t value);
  Value add(Value x, Value y);
  Value mul(Value x, int64_t y);
  VectorType vectorOf(int64_t width);
  /// `width` elements from `base` on, in the computed type.
  Value load(Value memref, Value base, int64_t width);
  void store(Value vector, Value memref, Value base, bool streaming = false);
  Value loadScalar(Value memref, Value at);
  Value broadcast(Value scalar, int64_t width);
  /// A buffer of the arena as elements of the computed type.
  Value view(int64_t offset, int64_t elements);
  /// The vector at [offset, offset + width), memoised in `memo`. `level` >= 0:
  /// what is kept from a lower level is read from its buffer.
  Value evaluate(Value value, Value offset, int64_t width, Value token,
                 const Scalars &scalars, DenseMap<Value, Value> &memo,
                 int level);
  /// An elementwise operation on the computed type.
  Value cloneElementwise(Operation *op, ValueRange operands);
  Value isFirstItem() const { return isFirst; }

private:
  Value evaluateScalar(Value value, Value token, Scalars &scalars);
  void emitLoop(StringAttr dim, const DecodePlan::Loop &loop, unsigned level,
                Value token, Scalars &scalars);
  /// Body of a loop over a dim: `width` elements from `offset` on. Returns the
  /// sums' new partial sums.
  SmallVector<Value> emitLoopBody(const DecodePlan::Loop &loop, unsigned level,
                                  Value offset, int64_t width, Value token,
                                  const Scalars &scalars, ValueRange partial);
  Value bufferBase(Value vector, Value token);
  Value convert(Value value, Type element);

  const DecodePlan &plan;
  ImplicitLocOpBuilder &b;
  const KernelArgs &args;
  Value sequence, head, isFirst;
  Scalars uniform;
};

} // namespace mlir::delta

#endif // DELTA_LIB_TARGET_CPU_DECODEVALUES_H
