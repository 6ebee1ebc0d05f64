//===- Cotangents.cpp - Cotangents while differentiating ------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// See Adjoint.h.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/Transforms/Adjoint.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

#include "delta/Dialect/Delta/IR/AdjointInterface.cpp.inc"

using namespace mlir;
using namespace mlir::delta;

Value Cotangents::getOrZero(Location loc, Value value) {
  Value cotangent = get(value);
  return cotangent ? cotangent : vectors.zero(loc, value.getType());
}

void Cotangents::setOperation(Operation *op) {
  fromUnmasked =
      llvm::any_of(op->getResults(), [&](Value v) { return isUnmasked(v); });
}

Value Cotangents::masked(Location loc, Value value, Value term) {
  // Zero times anything is not zero: it is selected.
  if (!fromUnmasked || isUnmasked(value) ||
      !isa<RankedTensorType>(term.getType()))
    return term;
  return IdentityRowsOp::create(builder, loc, term.getType(), term, valid,
                                builder.getF64FloatAttr(0.0));
}

Value Cotangents::accumulate(Location loc, Value sum, Value term) {
  return sum ? vectors.add(loc, sum, term) : term;
}

void Cotangents::add(Location loc, Value value, Value term) {
  if (VectorBuilder::isConstant(term, 0.0))
    return;
  Value &sum = plain[value];
  sum = accumulate(loc, sum, masked(loc, value, term));
}

void Cotangents::addLog(Location loc, Value value, Value term) {
  Value &sum = logarithmic[value];
  sum = accumulate(loc, sum, masked(loc, value, term));
}

void Cotangents::addMatmul(Location loc, Value value, Value lhs, Value rhs,
                           bool transposeLhs, bool transposeRhs,
                           bool triangular) {
  triangular |= isa_and_nonnull<CausalMaskOp>(lhs.getDefiningOp());
  Value &sum = plain[value];
  sum = MatmulOp::create(builder, loc, value.getType(), lhs, rhs, sum,
                         transposeLhs, transposeRhs, triangular);
}

bool Cotangents::isLogarithmic(Value decay) {
  if (auto it = logarithmicDecays.find(decay); it != logarithmicDecays.end())
    return it->second;
  bool result = false;
  Operation *op = decay.getDefiningOp();
  if (isa_and_nonnull<arith::ConstantOp>(op)) {
    result = true;
  } else if (auto rule = dyn_cast_or_null<AdjointInterface>(op)) {
    std::optional<SmallVector<Value>> operands = rule.getLogOperands();
    result = operands && llvm::all_of(*operands, [&](Value operand) {
               return isLogarithmic(operand);
             });
  }
  return logarithmicDecays[decay] = result;
}

void Cotangents::addDecay(Location loc, Value decay,
                          llvm::function_ref<Value()> makeLog,
                          llvm::function_ref<Value()> makePlain) {
  if (isLogarithmic(decay))
    addLog(loc, decay, makeLog());
  else
    add(loc, decay, makePlain());
}
