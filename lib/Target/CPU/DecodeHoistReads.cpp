//===- DecodeHoistReads.cpp - All reads of a token first ------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every state of a token is s diag(d) S + sum_j y_j c_j^T, S the state before
// the token, so a read of it is a read of S and some products of vectors:
//
//   (s diag(d) S + sum_j y_j c_j^T)^T x = s S^T (d .* x) + sum_j (y_j . x) c_j
//
// With all reads done by one pass over S and the update by another, a state
// element is touched twice a token, or once when the update's pass does the
// next token's reads as well. Nothing is divided or subtracted.
//
//   %1 = delta.decay %S, %w                 %wk = arith.mulf %w, %k
//   %z = delta.read %1, %k                  %z  = delta.read %S, %wk
//   %2 = delta.write %1, %k, %c      ==>    %zq = delta.read %S, %wq
//   %o = delta.read %2, %q                  %o  = %zq + (k . q) c
//                                           %1  = delta.decay %S, %w
//                                           %2  = delta.write %1, %k, %c
//
// Test: test/Target/CPU/decode-hoist-reads.mlir.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "delta/Target/CPU/Decode.h"
#include "delta/Target/CPU/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/CSE.h"

#define DEBUG_TYPE "delta-decode-hoist-reads"

namespace mlir::delta {
#define GEN_PASS_DEF_DECODEHOISTREADS
#include "delta/Target/CPU/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;

namespace {
/// A state as s diag(d) S + sum_j y_j c_j^T; a null s or d is 1.
struct StateForm {
  struct Dyad {
    Value y, c;
    Location loc;
  };
  Value scalar, diagonal;
  SmallVector<Dyad> writes;
};
} // namespace

LogicalResult mlir::delta::hoistReads(RecurrenceOp events) {
  Block *body = events.getBodyBlock();
  YieldOp yield = events.getYield();
  Value state = events.getStateArgument();
  IRRewriter rewriter(events.getContext());
  VectorBuilder vectors(rewriter);
  DenseMap<Value, StateForm> forms;
  forms[state];
  auto lookup = [&](Operation *op, Value value) -> StateForm * {
    auto form = forms.find(value);
    if (form != forms.end())
      return &form->second;
    op->emitError("the state it works on does not come from an event of this "
                  "token");
    return nullptr;
  };

  SmallVector<Operation *> old;
  for (Operation &op : llvm::make_early_inc_range(*body)) {
    Location loc = op.getLoc();
    rewriter.setInsertionPoint(&op);
    if (auto decay = dyn_cast<DecayOp>(op)) {
      StateForm *before = lookup(&op, decay.getState());
      if (!before)
        return failure();
      StateForm form = *before;
      Value w = decay.getW();
      // A scalar goes to the columns' side, where vectors are in registers.
      bool isScalar = isa<FloatType>(w.getType());
      Value &factor = isScalar ? form.scalar : form.diagonal;
      factor = vectors.mul(loc, factor, w);
      for (StateForm::Dyad &dyad : form.writes) {
        Value &side = isScalar ? dyad.c : dyad.y;
        side = vectors.mul(loc, w, side);
      }
      forms[decay.getResult()] = std::move(form);
      old.push_back(&op);
    } else if (auto write = dyn_cast<WriteOp>(op)) {
      StateForm *before = lookup(&op, write.getState());
      if (!before)
        return failure();
      StateForm form = *before;
      form.writes.push_back({write.getY(), write.getC(), loc});
      forms[write.getResult()] = std::move(form);
      old.push_back(&op);
    } else if (auto read = dyn_cast<ReadOp>(op)) {
      StateForm *form = lookup(&op, read.getState());
      if (!form)
        return failure();
      Value x = vectors.mul(loc, form->diagonal, read.getX());
      Value z = ReadOp::create(rewriter, loc, read.getType(), state, x);
      z = vectors.mul(loc, form->scalar, z);
      for (const StateForm::Dyad &dyad : form->writes) {
        Value product = vectors.dot(loc, dyad.y, read.getX());
        z = vectors.add(loc, z, vectors.mul(loc, product, dyad.c));
      }
      rewriter.replaceAllUsesWith(read.getResult(), z);
      // The forms kept so far may use the value as well.
      for (auto &entry : forms) {
        if (entry.second.diagonal == read.getResult())
          entry.second.diagonal = z;
        for (StateForm::Dyad &dyad : entry.second.writes)
          for (Value *side : {&dyad.y, &dyad.c})
            if (*side == read.getResult())
              *side = z;
      }
      old.push_back(&op);
    }
  }

  rewriter.setInsertionPoint(yield);
  StateForm *form = lookup(yield, yield.getValues()[0]);
  if (!form)
    return failure();
  Value w = vectors.mul(yield.getLoc(), form->scalar, form->diagonal);
  Value result = state;
  if (w)
    result = DecayOp::create(rewriter, yield.getLoc(), result, w);
  for (const StateForm::Dyad &dyad : form->writes)
    result = WriteOp::create(rewriter, dyad.loc, result, dyad.y, dyad.c);
  yield->setOperand(0, result);
  for (Operation *op : llvm::reverse(old))
    rewriter.eraseOp(op);

  DominanceInfo dominance(events);
  eliminateCommonSubExpressions(rewriter, dominance, events);
  return success();
}

namespace {
struct DecodeHoistReadsPass
    : mlir::delta::impl::DecodeHoistReadsBase<DecodeHoistReadsPass> {
  void runOnOperation() override {
    std::optional<Stage> stage = getStage(getOperation());
    RecurrenceOp events = getRecurrence(getOperation());
    if (stage != Stage::Events || !events) {
      getOperation().emitError()
          << "expects a module of stage events, but got "
          << (stage ? stringifyStage(*stage) : "one without a stage");
      return signalPassFailure();
    }
    if (failed(hoistReads(events)))
      signalPassFailure();
  }
};
} // namespace
