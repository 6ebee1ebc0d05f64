//===- Tape.cpp - A step made ready to be run in reverse ------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The rules of linear algebra and of events, and the loop that is unrolled;
// AdjointRules.cpp has the elementwise operations.
//
//===----------------------------------------------------------------------===//

#include "Tape.h"
#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace delta::reference;
using namespace mlir::delta;
using llvm::failure;
using llvm::LogicalResult;
using llvm::success;
using mlir::Operation;

/// lhs * rhs, either maybe transposed.
static Matrix orient(const Matrix &x, bool transpose) {
  return transpose ? x.transposed() : x;
}

std::optional<Tape::Rule> Tape::getLinearRule(Operation *op) {
  return llvm::TypeSwitch<Operation *, Maybe>(op)
      .Case<mlir::arith::ConstantOp, DimOp, EyeOp>(
          [](Operation *) -> Maybe { return Rule(); })
      .Case<MicroOp>([&](MicroOp op) -> Maybe {
        unsigned index = program.slot(op.getIndex());
        Operand family = operand(op.getFamily());
        return [=](const Frame &f, const Adjoint &g, Adjoints &d) {
          Matrix row = g.dense();
          Matrix all = Matrix::dense(f[family.slot].rows(), row.rows());
          for (int64_t i = 0; i < row.rows(); ++i)
            all(static_cast<int64_t>(f[index](0)), i) = row(i);
          d[family.slot].add(all);
        };
      })
      .Case<OuterOp>([&](OuterOp op) -> Maybe {
        Operand x = operand(op.getX()), y = operand(op.getY());
        return [=](const Frame &f, const Adjoint &g, Adjoints &d) {
          if (x.active)
            d[x.slot].add(g.times(f[y.slot]));
          if (y.active)
            d[y.slot].add(g.times(f[x.slot], /*transposed=*/true));
        };
      })
      .Case<MatvecOp>([&](MatvecOp op) -> Maybe {
        Operand m = operand(op.getMatrix()), x = operand(op.getX());
        bool transpose = op.getTranspose();
        return [=](const Frame &f, const Adjoint &g, Adjoints &d) {
          Matrix column = g.dense();
          if (m.active && transpose)
            d[m.slot].addProduct(f[x.slot], column);
          else if (m.active)
            d[m.slot].addProduct(column, f[x.slot]);
          if (x.active)
            d[x.slot].add(
                Matrix::product(orient(f[m.slot], !transpose), column));
        };
      })
      .Case<MatmulOp>([&](MatmulOp op) -> Maybe {
        Operand x = operand(op.getLhs()), y = operand(op.getRhs());
        std::optional<Operand> acc;
        if (op.getAcc())
          acc = operand(op.getAcc());
        bool transposeX = op.getTransposeLhs();
        bool transposeY = op.getTransposeRhs();
        auto addOriented = [](Adjoint &to, const Adjoint &what, bool flip) {
          if (flip)
            to.addTransposed(what);
          else
            to.add(what);
        };
        return [=](const Frame &f, const Adjoint &g, Adjoints &d) {
          if (acc && acc->active)
            d[acc->slot].add(g);
          if (x.active)
            addOriented(d[x.slot], g.pulledRight(orient(f[y.slot], transposeY)),
                        transposeX);
          if (y.active)
            addOriented(d[y.slot], g.pulledLeft(orient(f[x.slot], transposeX)),
                        transposeY);
        };
      })
      .Case<TransposeOp>([&](TransposeOp op) -> Maybe {
        Operand m = operand(op.getMatrix());
        return [=](const Frame &, const Adjoint &g, Adjoints &d) {
          d[m.slot].addTransposed(g);
        };
      })
      .Case<DiagOp>([&](DiagOp op) -> Maybe {
        Operand x = operand(op.getX());
        return [=](const Frame &, const Adjoint &g, Adjoints &d) {
          d[x.slot].add(g.diagonal());
        };
      })
      .Default([](Operation *) -> Maybe { return std::nullopt; });
}

std::optional<Tape::Rule> Tape::getEventRule(Operation *op) {
  return llvm::TypeSwitch<Operation *, Maybe>(op)
      .Case<DecayOp>([&](DecayOp op) -> Maybe {
        Operand state = operand(op.getState()), w = operand(op.getW());
        return [=](const Frame &f, const Adjoint &g, Adjoints &d) {
          if (state.active)
            d[state.slot].add(g.withScaledRows(f[w.slot].densified()));
          if (!w.active)
            return;
          if (f[w.slot].size() == 1)
            d[w.slot].add(Matrix::dense(1, 1, g.dot(f[state.slot])));
          else
            d[w.slot].add(g.pulledRight(f[state.slot].densified()).diagonal());
        };
      })
      .Case<ReadOp>([&](ReadOp op) -> Maybe {
        Operand state = operand(op.getState()), x = operand(op.getX());
        return [=](const Frame &f, const Adjoint &g, Adjoints &d) {
          Matrix column = g.dense();
          if (state.active)
            d[state.slot].addProduct(f[x.slot], column);
          if (x.active)
            d[x.slot].add(Matrix::product(f[state.slot], column));
        };
      })
      .Case<WriteOp>([&](WriteOp op) -> Maybe {
        Operand state = operand(op.getState()), y = operand(op.getY());
        Operand c = operand(op.getC());
        return [=](const Frame &f, const Adjoint &g, Adjoints &d) {
          if (state.active)
            d[state.slot].add(g);
          if (y.active)
            d[y.slot].add(g.times(f[c.slot]));
          if (c.active)
            d[c.slot].add(g.times(f[y.slot], /*transposed=*/true));
        };
      })
      .Default([](Operation *) -> Maybe { return std::nullopt; });
}

/// The state of every micro-step is the result of the one before.
LogicalResult Tape::unroll(Operation *op) {
  auto loop = mlir::cast<ForOp>(op);
  llvm::FailureOr<int64_t> count = program.getDim(op, loop.getDim());
  if (failed(count))
    return failure();
  mlir::Block &block = loop.getBody().front();
  unsigned state = program.slot(loop.getInit());
  for (int64_t j = 0; j < *count; ++j) {
    unsigned index = program.renew(block.getArgument(0));
    Matrix value = Matrix::dense(1, 1, static_cast<double>(j));
    forward.push_back([=](Frame &f) { f[index] = value; });
    program.assign(block.getArgument(1), state);
    for (Operation &inner : block.without_terminator()) {
      for (mlir::Value result : inner.getResults())
        program.renew(result);
      if (failed(compileOne(&inner)))
        return failure();
    }
    state = program.slot(block.getTerminator()->getOperand(0));
  }
  program.assign(loop.getResult(), state);
  return success();
}

LogicalResult Tape::compileOne(Operation *op) {
  if (mlir::isa<ForOp>(op))
    return unroll(op);
  if (failed(program.compile(op, forward)))
    return failure();
  if (llvm::none_of(op->getOperands(),
                    [&](mlir::Value value) { return operand(value).active; }))
    return success();
  Maybe rule = getElementwiseRule(op);
  if (!rule)
    rule = getLinearRule(op);
  if (!rule)
    rule = getEventRule(op);
  if (!rule)
    return op->emitOpError("has no gradient in the reference");
  unsigned result = program.slot(op->getResult(0));
  setActive(result);
  reverse.push_back({result, std::move(*rule)});
  return success();
}

LogicalResult Tape::compile(mlir::Block &block) {
  for (mlir::BlockArgument argument : block.getArguments())
    setActive(program.slot(argument));
  for (Operation &op : block.without_terminator())
    if (failed(compileOne(&op)))
      return failure();
  return success();
}

void Tape::runBack(const Frame &frame, Adjoints &adjoints) const {
  for (const Reverse &step : llvm::reverse(reverse)) {
    // The rule adds to other slots only, but all in one vector.
    Adjoint cotangent = std::move(adjoints[step.result]);
    adjoints[step.result].clear();
    if (!cotangent.isZero())
      step.rule(frame, cotangent, adjoints);
  }
}
