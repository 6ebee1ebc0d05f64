//===- DecodeToken.h - What of a token is free of the state -----*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Builds the code with which one warp prepares one token: inputs are loaded
// ahead, then expressions are evaluated element by element, one element a lane,
// sums by a butterfly over the lanes; results go to shared memory, outs that
// are free of the state to their arrays.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_DECODETOKEN_H
#define DELTA_LIB_TARGET_NVPTX_DECODETOKEN_H

#include "DecodePlan.h"
#include "delta/Target/NVPTX/Kernel.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

#include <vector>

namespace mlir::delta {

/// Values of the events as values of the kernel.
using ValueMap = DenseMap<Value, Value>;

/// Where a thread and its CTA stand.
struct DecodePosition {
  Value sequence, head, lane;
  Value blockColumn;  // first column of the CTA's block
  Value isFirstBlock; // does this CTA write outs free of the columns?
};

class DecodeToken {
public:
  DecodeToken(const GpuDecodePlan &plan, ImplicitLocOpBuilder &b,
              const GpuKernel &kernel);

  /// Evaluates what no token changes. Call it first, where its values dominate
  /// all others.
  void start(const DecodePosition &position);

  /// Loads made ahead for a token; their order is fixed.
  SmallVector<Type> getLoadTypes();
  SmallVector<Value> emitLoads(Value token);
  /// Prepares the token from its loads: its slots in `shared` from `base` on,
  /// and the outs that are made of them.
  void emitPrepare(Value token, ValueRange loads, Value shared, Value base);

  /// A scalar of the token whose slots begin at `base`.
  Value getScalar(Value scalar, Value shared, Value base, ValueMap &memo);
  Value getOutOffset(unsigned position, Value token);
  /// An elementwise operation on f32 scalars.
  Value cloneElementwise(Operation *op, ValueRange operands);
  /// `value` in f32, or from f32 in `element`.
  Value widen(Value value);
  Value narrow(Value value, Type element);

  // Small builders.
  Value index(int64_t value);
  Value add(Value x, Value y);
  Value mul(Value x, int64_t y);
  Value less(Value x, int64_t y);
  void emitIf(Value condition, function_ref<void()> body);

private:
  /// The elements that are evaluated together: of a dim, or of the block's
  /// part of the columns.
  struct Space {
    StringAttr dim;
    bool block = false;
    int64_t extent = 0;         // elements to evaluate, padding included
    SmallVector<Value> inputs;  // whose elements are needed
    SmallVector<Value> slots;   // that go to shared memory
    SmallVector<SumOp> sums;    // over its elements
    SmallVector<unsigned> outs; // that are stored
    int64_t getChunks() const { return llvm::divideCeil(extent, kWarpSize); }
  };
  /// Elements of one chunk: lane's index in the space, its index in memory,
  /// and whether it is there (null: always).
  struct Chunk {
    Value element, at, inside;
  };

  Space &getSpace(StringAttr dim, bool block);
  void addRoot(Space &space, Value value);
  Chunk getChunk(const Space &space, Value number);
  Value getInputOffset(const InputRef &input, Value token);
  Value loadElement(Value input, const Chunk &chunk, Value token);
  bool isAhead(const Space &space) const;
  Value evaluateScalar(Value value, Value token, ValueMap &scalars);
  Value evaluate(Value value, const Chunk &chunk, Value token,
                 ValueMap &scalars, ValueMap &memo);
  /// `f(chunk, memo, partial)` for all chunks of the space; returns the last
  /// partial sums.
  SmallVector<Value> forChunks(
      unsigned space, ValueRange sums,
      function_ref<SmallVector<Value>(const Chunk &, ValueMap &, ValueRange)>
          f);
  Value reduceWarp(Value partial);

  const GpuDecodePlan &plan;
  ImplicitLocOpBuilder &b;
  const GpuKernel &kernel;
  DecodePosition position;
  ValueMap inputs; // arguments of the recurrence as arguments of the kernel
  std::vector<Space> spaces;
  ValueMap uniform;
  /// Elements of params, loaded once: by space and chunk.
  SmallVector<SmallVector<ValueMap>> params;
  /// Elements known in the token being prepared.
  SmallVector<SmallVector<ValueMap>> memos;
  unsigned levels = 1;
};

} // namespace mlir::delta

#endif // DELTA_LIB_TARGET_NVPTX_DECODETOKEN_H
