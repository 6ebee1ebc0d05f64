//===- MatrixForms.cpp - A step's matrices in symbolic form ---------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Sums and products of forms, and forms times vectors: what makes a step leave
// the class is found here.
//
//===----------------------------------------------------------------------===//

#include "EventBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::events;

Value EventBuilder::getBroadcastScalar(Value matrix) {
  auto broadcast = matrix.getDefiningOp<BroadcastOp>();
  if (!broadcast || !isa<FloatType>(broadcast.getInput().getType()))
    return {};
  return mapping.lookupOrNull(broadcast.getInput());
}

MatrixForm EventBuilder::getForm(Value matrix) {
  Value s = getBroadcastScalar(matrix);
  if (!s)
    return forms.lookup(matrix);
  // One number everywhere is the dyad (s 1) 1^T. It is built only where it is
  // not merely a factor.
  Location loc = matrix.getLoc();
  ArrayRef<StringAttr> names = mlir::delta::getDimNames(matrix.getType());
  MLIRContext *context = builder.getContext();
  MatrixForm form;
  form.dyads.push_back(
      {vectors.broadcast(loc, s, getSymbolicType(context, names[0])),
       vectors.splat(loc, 1.0, getSymbolicType(context, names[1]))});
  return form;
}

FailureOr<MatrixForm> EventBuilder::computeMatrix(Operation *op) {
  Location loc = op->getLoc();
  auto scaled = [&](MatrixForm form, Value s) {
    for (auto &term : form.states)
      term.weight = vectors.mul(loc, term.weight, s);
    if (form.diagonal)
      form.diagonal = vectors.mul(loc, form.diagonal, s);
    for (auto &dyad : form.dyads)
      dyad.y = vectors.mul(loc, dyad.y, s);
    return form;
  };
  auto sum = [&](MatrixForm a, MatrixForm b,
                 bool negate) -> FailureOr<MatrixForm> {
    if (a.transposed != b.transposed) {
      // Only a state-free dyad sum can simply be turned around.
      MatrixForm &turned = b.dependsOnState() ? a : b;
      if (turned.dependsOnState()) {
        outside(op) << "the state and its transpose are added; only the state "
                       "itself may stand in a sum";
        return failure();
      }
      for (auto &dyad : turned.dyads)
        std::swap(dyad.x, dyad.y);
      turned.transposed = !turned.transposed;
    }
    if (negate)
      b = scaled(b, vectors.constant(loc, -1.0));
    for (auto &term : b.states) {
      auto *same = llvm::find_if(
          a.states, [&](auto &other) { return other.state == term.state; });
      if (same == a.states.end())
        a.states.push_back(term);
      else
        same->weight = vectors.add(
            loc, same->weight ? same->weight : vectors.constant(loc, 1.0),
            term.weight ? term.weight : vectors.constant(loc, 1.0));
    }
    if (b.diagonal)
      a.diagonal =
          a.diagonal ? vectors.add(loc, a.diagonal, b.diagonal) : b.diagonal;
    llvm::append_range(a.dyads, b.dyads);
    return a;
  };
  return TypeSwitch<Operation *, FailureOr<MatrixForm>>(op)
      .Case<DiagOp>([&](DiagOp diag) {
        MatrixForm form;
        form.diagonal = mapping.lookup(diag.getX());
        return form;
      })
      .Case<EyeOp>([&](EyeOp) {
        MatrixForm form;
        form.diagonal = vectors.constant(loc, 1.0);
        return form;
      })
      .Case<OuterOp>([&](OuterOp outer) {
        MatrixForm form;
        form.dyads.push_back(
            {mapping.lookup(outer.getX()), mapping.lookup(outer.getY())});
        return form;
      })
      .Case<TransposeOp>([&](TransposeOp transpose) {
        MatrixForm form = getForm(transpose.getMatrix());
        form.transposed = !form.transposed;
        return form;
      })
      .Case<arith::AddFOp>([&](arith::AddFOp add) -> FailureOr<MatrixForm> {
        return sum(getForm(add.getLhs()), getForm(add.getRhs()), false);
      })
      .Case<arith::SubFOp>([&](arith::SubFOp sub) -> FailureOr<MatrixForm> {
        return sum(getForm(sub.getLhs()), getForm(sub.getRhs()), true);
      })
      .Case<arith::NegFOp>([&](arith::NegFOp neg) {
        return scaled(getForm(neg.getOperand()), vectors.constant(loc, -1.0));
      })
      .Case<arith::MulFOp>([&](arith::MulFOp mul) -> FailureOr<MatrixForm> {
        if (Value s = getBroadcastScalar(mul.getLhs()))
          return scaled(getForm(mul.getRhs()), s);
        if (Value s = getBroadcastScalar(mul.getRhs()))
          return scaled(getForm(mul.getLhs()), s);
        FailureOr<MatrixForm> form = multiplyElementwise(
            op, forms.lookup(mul.getLhs()), forms.lookup(mul.getRhs()));
        return form;
      })
      .Case<arith::DivFOp>([&](arith::DivFOp div) -> FailureOr<MatrixForm> {
        if (Value s = getBroadcastScalar(div.getRhs()))
          return scaled(getForm(div.getLhs()),
                        vectors.div(loc, vectors.constant(loc, 1.0), s));
        outside(op) << "a division by a matrix";
        return failure();
      })
      .Case<MatmulOp>([&](MatmulOp matmul) { return multiply(matmul); })
      .Default([&](Operation *) -> FailureOr<MatrixForm> {
        outside(op) << "'" << op->getName()
                    << "' on a matrix; accepted are sums, products with "
                       "scalars, diag(...), eye(...) and outer products";
        return failure();
      });
}

/// Turns the dyads around if the form describes a transpose.
static void straighten(MatrixForm &form) {
  if (!form.transposed)
    return;
  for (auto &dyad : form.dyads)
    std::swap(dyad.x, dyad.y);
  form.transposed = false;
}

/// (x y^T) .* (a b^T) = (x .* a)(y .* b)^T, and only the diagonal of the other
/// factor meets a diagonal matrix.
FailureOr<MatrixForm>
EventBuilder::multiplyElementwise(Operation *op, MatrixForm a, MatrixForm b) {
  if (a.dependsOnState() || b.dependsOnState()) {
    outside(op) << "an elementwise product of matrices; only scalars, "
                   "diag(...) and rank-one terms may multiply the state";
    return failure();
  }
  Location loc = op->getLoc();
  straighten(a);
  straighten(b);
  MatrixForm form;
  auto addDiagonal = [&](Value term) {
    form.diagonal =
        form.diagonal ? vectors.add(loc, form.diagonal, term) : term;
  };
  for (auto &p : a.dyads)
    for (auto &q : b.dyads)
      form.dyads.push_back(
          {vectors.mul(loc, p.x, q.x), vectors.mul(loc, p.y, q.y)});
  for (auto &[diagonal, dyads] :
       {std::pair(a.diagonal, b.dyads), std::pair(b.diagonal, a.dyads)})
    if (diagonal)
      for (auto &dyad : dyads)
        addDiagonal(
            vectors.mul(loc, diagonal, vectors.mul(loc, dyad.x, dyad.y)));
  if (a.diagonal && b.diagonal)
    addDiagonal(vectors.mul(loc, a.diagonal, b.diagonal));
  return form;
}

FailureOr<MatrixForm> EventBuilder::multiply(MatmulOp op) {
  Location loc = op.getLoc();
  MatrixForm lhs = getForm(op.getLhs()), rhs = getForm(op.getRhs());
  if (lhs.dependsOnState()) {
    outside(op) << "the state is multiplied from the right; a transition may "
                   "only act from the left, on the state's rows";
    return failure();
  }
  if (rhs.dependsOnState() && rhs.transposed) {
    outside(op) << "the transposed state is multiplied by a matrix; only "
                   "vectors may be read with it";
    return failure();
  }
  straighten(lhs);
  straighten(rhs);
  MatrixForm form;
  if (lhs.diagonal) {
    for (auto &term : rhs.states)
      form.states.push_back(
          {term.state, vectors.mul(loc, term.weight, lhs.diagonal)});
    if (rhs.diagonal)
      form.diagonal = vectors.mul(loc, lhs.diagonal, rhs.diagonal);
    for (auto &dyad : rhs.dyads)
      form.dyads.push_back({vectors.mul(loc, dyad.x, lhs.diagonal), dyad.y});
  }
  // x y^T M = x (M^T y)^T.
  for (auto &dyad : lhs.dyads) {
    FailureOr<Value> y = applyTransposed(op, rhs, dyad.y);
    if (failed(y))
      return failure();
    if (*y)
      form.dyads.push_back({dyad.x, *y});
  }
  return form;
}

/// M^T x; a null value for a zero M.
FailureOr<Value>
EventBuilder::applyTransposed(Operation *op, const MatrixForm &form, Value x) {
  Location loc = op->getLoc();
  if (form.transposed) {
    MatrixForm straight = form;
    straight.transposed = false;
    return apply(op, straight, x);
  }
  Value result;
  auto accumulate = [&](Value term) {
    result = result ? vectors.add(loc, result, term) : term;
  };
  for (auto &term : form.states) {
    Type columns = getSymbolicType(
        builder.getContext(), getDimNames(term.state.getType()).drop_front());
    accumulate(ReadOp::create(builder, loc, columns, term.state,
                              vectors.mul(loc, x, term.weight)));
  }
  if (form.diagonal)
    accumulate(vectors.mul(loc, x, form.diagonal));
  for (auto &dyad : form.dyads)
    accumulate(vectors.mul(loc, dyad.y, vectors.dot(loc, dyad.x, x)));
  return result;
}

/// M x.
FailureOr<Value> EventBuilder::apply(Operation *op, const MatrixForm &form,
                                     Value x) {
  Location loc = op->getLoc();
  if (form.transposed) {
    MatrixForm straight = form;
    straight.transposed = false;
    return applyTransposed(op, straight, x);
  }
  if (form.dependsOnState()) {
    outside(op) << "the state is read from the other side, S x; a read is "
                   "S^T x with x over the state's rows";
    return failure();
  }
  Value result;
  auto accumulate = [&](Value term) {
    result = result ? vectors.add(loc, result, term) : term;
  };
  if (form.diagonal)
    accumulate(vectors.mul(loc, x, form.diagonal));
  for (auto &dyad : form.dyads)
    accumulate(vectors.mul(loc, dyad.x, vectors.dot(loc, dyad.y, x)));
  return result;
}
