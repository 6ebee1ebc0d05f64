//===- DecodeMapper.h - Building the recurrent form -------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_TARGET_CPU_DECODEMAPPER_H
#define DELTA_LIB_TARGET_CPU_DECODEMAPPER_H

#include "DecodePlan.h"
#include "DecodeValues.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace mlir::delta {

/// A state's panel in memory: row i starts at memref[base + i * stride].
struct Panel {
  Value memref, base;
  int64_t stride;
};

class DecodeMapper {
public:
  DecodeMapper(const DecodePlan &plan, ModuleOp module)
      : plan(plan), module(module),
        b(plan.events->getLoc(), module.getContext()), values(plan, b, args) {}

  func::FuncOp build();

private:
  /// A slice of the panel's columns that one vector register holds.
  struct Slice {
    int64_t offset, width;
  };
  /// Vectors, one a slice.
  using Columns = SmallVector<Value>;

  // DecodeMap.cpp: the kernel, its items, panels and tokens.
  func::FuncOp createFunction();
  void emitItem(Value item);
  void emitPanel(Value state, Value column, int64_t width);
  void emitTokens(const Panel &init, const Panel &final, const Panel &arena);
  void emitNoTokens(const Panel &init, const Panel &final);

  // DecodePanel.cpp: passes over a panel, and control flow.
  /// Coefficients of the writes; stores the outs over columns.
  SmallVector<Columns> emitColumns(Value token, ArrayRef<Columns> reads,
                                   const Scalars &scalars);

  /// What one pass over the panel does.
  struct Pass {
    const Panel *from = nullptr; // null: the state is zero
    const Panel *to = nullptr;   // null: it is not stored
    bool streaming = false;
    Value updateToken; // null: no update
    const Scalars *scalars = nullptr;
    ArrayRef<Columns> coefficients;
    Value readToken; // null: no reads
  };
  SmallVector<Columns> emitPass(const Pass &pass);
  /// A pass into the final state, past the caches where that pays.
  void emitFinalPass(Pass pass);

  // Values that structured control flow carries.
  SmallVector<Value> flatten(ArrayRef<Columns> reads, const Scalars *scalars);
  SmallVector<Columns> unflattenReads(ValueRange flat);
  Scalars unflattenScalars(ValueRange flat, const Scalars &like);

  Value cmp(arith::CmpIPredicate predicate, Value x, Value y) {
    return arith::CmpIOp::create(b, predicate, x, y);
  }
  Value land(Value x, Value y) { return arith::AndIOp::create(b, x, y); }
  /// if (condition) thenBody else elseBody, both returning values of `types`.
  SmallVector<Value> emitIf(Value condition, TypeRange types,
                            function_ref<SmallVector<Value>()> thenBody,
                            function_ref<SmallVector<Value>()> elseBody);
  void emitIf(Value condition, function_ref<void()> thenBody,
              function_ref<void()> elseBody);
  void emitIf(Value condition, function_ref<void()> body);
  void emitFor(Value from, Value to, function_ref<void(Value)> body);

  const DecodePlan &plan;
  ModuleOp module;
  ImplicitLocOpBuilder b;
  KernelArgs args;
  DecodeValues values;
  Value streaming; // i1: store the final state past the caches
  Value column;    // first column of the panel
  SmallVector<Slice> slices;
};

} // namespace mlir::delta

#endif // DELTA_LIB_TARGET_CPU_DECODEMAPPER_H
