//===- WorkCount.cpp - Matrix products of a chunk program -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products are told apart by what their axes count, which is followed from the
// arguments on: sizes may be equal.
//
//===----------------------------------------------------------------------===//

#include "delta/Analysis/WorkCount.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/TypeSwitch.h"

#include <array>

using namespace mlir;
using namespace mlir::delta;

double WorkCount::inverseFlops() const {
  double n = static_cast<double>(tokens) * solve;
  return solve ? 2.0 * n * (n * n - 1.0) / 3.0 : 0.0;
}

double WorkCount::flops() const {
  double c = tokens, k = rows, v = columns;
  return 2 * c * c * k * g + 2 * c * c * v * s + 2 * c * k * v * h +
         inverseFlops();
}

namespace {

/// What an axis of a value counts.
enum class Axis { Unknown, Token, Row, Column };

/// Goes over a chunk program from its arguments on, with the axes of every
/// value and whether a cotangent is in it.
class WorkCounter {
public:
  explicit WorkCounter(ModuleOp module);
  WorkCount run();

private:
  using Axes = std::array<Axis, 2>; // only the first of a vector

  void visitArgument(BlockArgument argument);
  void visit(Operation *op);
  Axes getResultAxes(Operation *op, Value result) const;
  Axes getAxes(Value value, bool transposed = false) const;
  /// Fills in what only one axis has the size of.
  Axes resolve(Axes axes, Type type) const;
  void addMatmul(MatmulOp op);
  /// Adds to the counts that an operation belongs to.
  void add(Operation *op, int64_t ProductCount::*unit, int64_t number);

  SignatureAttr signature;
  func::FuncOp function;
  WorkCount count;
  llvm::DenseMap<Value, Axes> axesOf;
  llvm::DenseSet<Value> hasCotangent;
  llvm::DenseSet<Value> systems; // first blocks of those that were counted
};

} // namespace

static unsigned getRank(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor ? tensor.getRank() : 0;
}

WorkCounter::WorkCounter(ModuleOp module)
    : signature(getSignature(module)),
      function(*module.getOps<func::FuncOp>().begin()) {
  count.tokens = signature.getIntOption("chunk").value_or(0);
  ArrayRef<StringAttr> axes = signature.getState().getAxes();
  count.rows = signature.getDim(axes[0]).value_or(0);
  count.columns = signature.getDim(axes[1]).value_or(0);
  count.isBackward = signature.getOption("fn") == "backward";
}

WorkCount WorkCounter::run() {
  for (BlockArgument argument : function.getArguments())
    visitArgument(argument);
  for (Operation &op : function.front().without_terminator())
    visit(&op);
  return count;
}

void WorkCounter::visitArgument(BlockArgument argument) {
  ArgAttr arg = lookupArg(signature, argument);
  if (!arg)
    return;
  auto state = signature.getState().getAxes();
  SmallVector<Axis> axes;
  if (arg.getKind() == ArgKind::In)
    axes.push_back(Axis::Token);
  for (StringAttr axis : arg.getAxes())
    axes.push_back(axis == state[0] && axes.size() != 1 ? Axis::Row
                   : axis == state[1]                   ? Axis::Column
                   : axis == state[0]                   ? Axis::Row
                                                        : Axis::Unknown);
  axes.resize(2, Axis::Unknown);
  axesOf[argument] = resolve({axes[0], axes[1]}, argument.getType());
  if (!count.isBackward)
    return;
  // Every input of the forward has a gradient; what has none is a cotangent.
  bool hasGradient = arg.getKind() == ArgKind::Checkpoint ||
                     signature.lookup(("d_" + arg.getName().getValue()).str());
  if (arg.getKind() == ArgKind::State || !hasGradient)
    hasCotangent.insert(argument);
}

WorkCounter::Axes WorkCounter::getAxes(Value value, bool transposed) const {
  Axes axes = axesOf.lookup(value);
  if (transposed)
    std::swap(axes[0], axes[1]);
  return axes;
}

WorkCounter::Axes WorkCounter::resolve(Axes axes, Type type) const {
  auto tensor = dyn_cast<RankedTensorType>(type);
  for (int64_t i = 0; tensor && i < std::min<int64_t>(tensor.getRank(), 2);
       ++i) {
    if (axes[i] != Axis::Unknown)
      continue;
    int64_t size = tensor.getDimSize(i);
    SmallVector<Axis> fitting;
    for (auto [axis, other] : {std::pair(Axis::Token, count.tokens),
                               std::pair(Axis::Row, count.rows),
                               std::pair(Axis::Column, count.columns)})
      if (size == other)
        fitting.push_back(axis);
    if (fitting.size() == 1)
      axes[i] = fitting.front();
  }
  return axes;
}

WorkCounter::Axes WorkCounter::getResultAxes(Operation *op,
                                             Value result) const {
  Axis unknown = Axis::Unknown;
  Value first = op->getNumOperands() ? op->getOperand(0) : Value();
  return TypeSwitch<Operation *, Axes>(op)
      .Case([&](MatmulOp op) -> Axes {
        return {getAxes(op.getLhs(), op.getTransposeLhs())[0],
                getAxes(op.getRhs(), op.getTransposeRhs())[1]};
      })
      .Case([&](TransposeOp) { return getAxes(first, true); })
      .Case([&](BroadcastOp op) -> Axes {
        if (getRank(first.getType()) != 1)
          return {unknown, unknown};
        Axis axis = getAxes(first)[0];
        return op.getDim() == 0 ? Axes{axis, unknown} : Axes{unknown, axis};
      })
      .Case<SumOp, DiagonalOp>(
          [&](auto) -> Axes { return {getAxes(first)[0], unknown}; })
      .Case<TotalProductOp, TokenSumOp>(
          [&](auto) -> Axes { return {getAxes(first)[1], unknown}; })
      .Case<DecayMaskOp, DecayGramOp>(
          [&](auto) -> Axes { return {Axis::Token, Axis::Token}; })
      .Case([&](DecayGramAdjointOp op) { return getAxes(op.getDecay()); })
      .Case([&](TriSolveOp op) {
        unsigned number = cast<OpResult>(result).getResultNumber();
        return getAxes(op.getRhs()[number]);
      })
      .Default([&](Operation *op) {
        Axes axes = {unknown, unknown};
        for (Value operand : op->getOperands()) {
          if (getRank(operand.getType()) != getRank(result.getType()))
            continue;
          Axes other = getAxes(operand);
          for (int i : {0, 1})
            if (axes[i] == unknown)
              axes[i] = other[i];
        }
        return axes;
      });
}

void WorkCounter::visit(Operation *op) {
  bool dependent = llvm::any_of(op->getOperands(), [&](Value operand) {
    return hasCotangent.contains(operand);
  });
  for (Value result : op->getResults()) {
    axesOf[result] = resolve(getResultAxes(op, result), result.getType());
    if (dependent)
      hasCotangent.insert(result);
  }
  if (auto gram = dyn_cast<DecayGramOp>(op)) {
    add(op, &ProductCount::g, gram.getGrams().size());
  } else if (auto adjoint = dyn_cast<DecayGramAdjointOp>(op)) {
    add(op, &ProductCount::g, 2 * adjoint.getCotangents().size());
  } else if (auto solve = dyn_cast<TriSolveOp>(op)) {
    int64_t unknowns = solve.getRhs().size();
    add(op, &ProductCount::s, unknowns * unknowns); // the inverse applied
    // The transposed system has the same inverse.
    if (systems.insert(solve.getBlocks().front()).second)
      count.solve += unknowns;
  } else if (auto matmul = dyn_cast<MatmulOp>(op)) {
    addMatmul(matmul);
  }
}

void WorkCounter::addMatmul(MatmulOp op) {
  Axes lhs = getAxes(op.getLhs(), op.getTransposeLhs());
  Axes rhs = getAxes(op.getRhs(), op.getTransposeRhs());
  std::array<Axis, 3> axes = {lhs[0], lhs[1] == Axis::Unknown ? rhs[0] : lhs[1],
                              rhs[1]};
  int64_t tokens = llvm::count(axes, Axis::Token);
  bool hasRow = llvm::is_contained(axes, Axis::Row);
  bool hasColumn = llvm::is_contained(axes, Axis::Column);
  if (tokens == 2 && (hasRow || hasColumn))
    add(op, hasRow ? &ProductCount::g : &ProductCount::s, 1);
  else if (tokens == 1 && hasRow && hasColumn)
    add(op, &ProductCount::h, 1);
  else // by how it is written
    add(op,
        op.getTransposeRhs() ? &ProductCount::g
        : op.getTriangular() ? &ProductCount::s
                             : &ProductCount::h,
        1);
}

void WorkCounter::add(Operation *op, int64_t ProductCount::*unit,
                      int64_t number) {
  count.*unit += number;
  if (count.isBackward && !hasCotangent.contains(op->getResult(0)))
    count.recomputed.*unit += number;
}

double mlir::delta::getBytesPerToken(SignatureAttr signature) {
  double bytes = 0;
  for (ArgAttr arg : signature.getAllArgs()) {
    if (arg.getKind() != ArgKind::In && arg.getKind() != ArgKind::Out)
      continue;
    double elements = 1;
    for (StringAttr axis : arg.getAxes())
      elements *= signature.getDim(axis).value_or(1);
    if (arg.getFamily())
      elements *= signature.getDim(arg.getFamily()).value_or(1);
    bytes += elements * arg.getType().getIntOrFloatBitWidth() / 8;
  }
  return bytes;
}

WorkCount mlir::delta::countWork(ModuleOp chunk) {
  return WorkCounter(chunk).run();
}
