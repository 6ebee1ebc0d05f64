//===- LinearForm.cpp - Column-side values as sums of reads ---------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// See the header.
//
//===----------------------------------------------------------------------===//

#include "delta/Analysis/LinearForm.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::delta;

bool mlir::delta::dependsOnRead(Value value) {
  SmallVector<Value> worklist{value};
  llvm::DenseSet<Value> seen;
  while (!worklist.empty()) {
    Operation *op = worklist.pop_back_val().getDefiningOp();
    if (!op)
      continue;
    if (isa<ReadOp>(op))
      return true;
    for (Value operand : op->getOperands())
      if (seen.insert(operand).second)
        worklist.push_back(operand);
  }
  return false;
}

/// The scalar behind a broadcast; null if `value` is none.
static Value getRepeatedScalar(Value value) {
  auto broadcast = value.getDefiningOp<BroadcastOp>();
  return broadcast && isa<FloatType>(broadcast.getInput().getType())
             ? broadcast.getInput()
             : Value();
}

LinearForm mlir::delta::computeLinearForm(Value value, OpBuilder &builder) {
  VectorBuilder vectors(builder);
  Location loc = value.getLoc();
  if (value.getDefiningOp<ReadOp>()) {
    LinearForm form;
    form.reads.insert({value, Value()});
    return form;
  }
  if (!dependsOnRead(value))
    return LinearForm{value, {}};
  auto scaled = [&](LinearForm form, Value s) {
    if (form.constant)
      form.constant = vectors.mul(loc, form.constant, s);
    for (auto &entry : form.reads)
      entry.second = vectors.mul(loc, entry.second, s);
    return form;
  };
  auto sum = [&](LinearForm a, const LinearForm &b) {
    if (b.constant)
      a.constant = a.constant ? vectors.add(loc, a.constant, b.constant) : b.constant;
    for (auto &[read, coefficient] : b.reads) {
      auto [it, inserted] = a.reads.insert({read, coefficient});
      if (!inserted)
        it->second = vectors.add(
            loc, it->second ? it->second : vectors.constant(loc, 1.0),
            coefficient ? coefficient : vectors.constant(loc, 1.0));
    }
    return a;
  };
  auto form = [&](Value operand) { return computeLinearForm(operand, builder); };
  auto minusOne = [&] { return vectors.constant(loc, -1.0); };
  return TypeSwitch<Operation *, LinearForm>(value.getDefiningOp())
      .Case<arith::AddFOp>([&](arith::AddFOp op) {
        return sum(form(op.getLhs()), form(op.getRhs()));
      })
      .Case<arith::SubFOp>([&](arith::SubFOp op) {
        return sum(form(op.getLhs()), scaled(form(op.getRhs()), minusOne()));
      })
      .Case<arith::NegFOp>([&](arith::NegFOp op) {
        return scaled(form(op.getOperand()), minusOne());
      })
      .Case<arith::MulFOp>([&](arith::MulFOp op) {
        if (Value s = getRepeatedScalar(op.getLhs()))
          return scaled(form(op.getRhs()), s);
        return scaled(form(op.getLhs()), getRepeatedScalar(op.getRhs()));
      })
      .Case<arith::DivFOp>([&](arith::DivFOp op) {
        Value s = getRepeatedScalar(op.getRhs());
        return scaled(form(op.getLhs()),
                      vectors.div(loc, vectors.constant(loc, 1.0), s));
      })
      .Default([&](Operation *) { return LinearForm{value, {}}; });
}

LogicalResult mlir::delta::checkColumnLinearity(RecurrenceOp events) {
  // Free of reads, linear with scalar coefficients, linear with vectors.
  enum Kind { Free, Scalar, Vector };
  llvm::DenseMap<Value, Kind> kinds;
  auto kindOf = [&](Value value) { return kinds.lookup(value); };
  for (Operation &op : *events.getBodyBlock()) {
    if (auto read = dyn_cast<ReadOp>(op)) {
      if (kindOf(read.getX()) != Free)
        return read.emitError("a read's vector depends on the state, so the "
                              "step is not affine in it; the vector may only "
                              "depend on this token's inputs");
      kinds[read.getResult()] = Scalar;
      continue;
    }
    if (auto decay = dyn_cast<DecayOp>(op)) {
      if (kindOf(decay.getW()) != Free)
        return decay.emitError("the decay depends on the state, so the step is "
                               "not affine in it");
      continue;
    }
    if (auto write = dyn_cast<WriteOp>(op)) {
      if (kindOf(write.getY()) != Free)
        return write.emitError("the rows' vector of a write depends on the "
                               "state; only its columns' vector may");
      if (kindOf(write.getC()) == Vector)
        return write.emitError("a write's coefficient multiplies a read "
                               "elementwise by a vector, which gives every "
                               "column of the state a transition of its own; "
                               "only scalars may multiply a read here");
      continue;
    }
    Kind kind = Free;
    unsigned dependent = 0;
    for (Value operand : op.getOperands())
      if (kindOf(operand) != Free) {
        kind = std::max(kind, kindOf(operand));
        ++dependent;
      }
    if (kind == Free || isa<YieldOp>(op))
      continue;
    bool linear = isa<arith::AddFOp, arith::SubFOp, arith::NegFOp>(op);
    if (isa<arith::MulFOp>(op) && dependent == 1) {
      linear = true;
      Value other = op.getOperand(kindOf(op.getOperand(0)) == Free ? 0 : 1);
      if (!getRepeatedScalar(other))
        kind = Vector;
    }
    if (isa<arith::DivFOp>(op) && kindOf(op.getOperand(1)) == Free) {
      linear = true;
      if (!getRepeatedScalar(op.getOperand(1)))
        kind = Vector;
    }
    if (!linear)
      return op.emitError()
             << "'" << op.getName()
             << "' is applied to a read of the state, so the step is not "
                "affine in it; reads may be added, negated and multiplied or "
                "divided by values free of the state";
    for (Value result : op.getResults())
      kinds[result] = kind;
  }
  return success();
}
