//===- ColumnBlocks.cpp - CTAs that share a head's columns ----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Axes that operations have in common are united, which finds those along the
// state's columns; then a sum over columns is followed: what it goes into has
// to be linear in it, and must not have columns again.
//
// Test: test/Target/NVPTX/gpu-map-backward-vsplit.mlir
//
//===----------------------------------------------------------------------===//

#include "ColumnBlocks.h"
#include "Program.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/CSE.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

bool gpumap::hasColumns(SignatureAttr signature, ArgAttr arg) {
  return !arg.getAxes().empty() &&
         arg.getAxes().back() == signature.getState().getAxes()[1];
}

namespace {

/// An axis of a tensor.
using Axis = std::pair<Value, unsigned>;

class Columns {
public:
  Columns(func::FuncOp program, SignatureAttr signature)
      : program(program), signature(signature), where(program.getLoc()) {}

  LogicalResult findAxes();
  LogicalResult findSums();
  LogicalResult retype(int64_t cols);

  func::FuncOp program;
  SignatureAttr signature;
  std::string why;
  Location where;

private:
  enum Mark { Open, Column, Other };

  LogicalResult fail(Location at, const Twine &reason) {
    if (why.empty()) {
      why = reason.str();
      where = at;
    }
    return failure();
  }
  unsigned find(Axis axis);
  void unite(Axis a, Axis b, Operation *op);
  void mark(Axis axis, Mark mark);
  void seed(BlockArgument argument);
  void unite(Operation *op);
  bool isColumn(Value value, unsigned dim) {
    return marks[find({value, dim})] == Column;
  }
  bool hasColumn(Value value) {
    for (unsigned dim = 0; dim < getRank(value); ++dim)
      if (isColumn(value, dim))
        return true;
    return false;
  }
  bool sumsColumns(Operation *op);
  LogicalResult followSum(Operation *op);
  bool isSum(Value value) { return sums.contains(value); }
  /// A sum, or nothing.
  bool isSumOrZero(Value value) {
    return isSum(value) || VectorBuilder::isConstant(value, 0.0);
  }
  void separate();
  void seedResults();

  llvm::DenseMap<Axis, unsigned> numbers;
  SmallVector<unsigned> parents;
  SmallVector<Mark> marks;
  llvm::DenseSet<Value> sums;
};

} // namespace

//===----------------------------------------------------------------------===//
// Axes
//===----------------------------------------------------------------------===//

unsigned Columns::find(Axis axis) {
  auto [known, isNew] = numbers.insert({axis, parents.size()});
  if (isNew) {
    parents.push_back(known->second);
    marks.push_back(Open);
  }
  unsigned root = known->second;
  while (parents[root] != root)
    root = parents[root] = parents[parents[root]];
  return root;
}

void Columns::unite(Axis a, Axis b, Operation *op) {
  unsigned x = find(a), y = find(b);
  if (x == y)
    return;
  if (marks[x] != Open && marks[y] != Open && marks[x] != marks[y])
    (void)fail(op->getLoc(), "an axis is that of the state's columns and "
                             "another one here");
  parents[y] = x;
  if (marks[x] == Open)
    marks[x] = marks[y];
}

void Columns::mark(Axis axis, Mark mark) { marks[find(axis)] = mark; }

void Columns::seed(BlockArgument argument) {
  unsigned rank = getRank(argument);
  if (rank == 0)
    return;
  ArgAttr arg = lookupArg(signature, argument);
  if (!arg) {
    (void)fail(argument.getLoc(), "an argument is not in the signature");
    return;
  }
  // Saved states have their axes in another order in memory, not here.
  bool state =
      arg.getKind() == ArgKind::State || arg.getKind() == ArgKind::Checkpoint;
  bool columns = state || hasColumns(signature, arg);
  // The one axis of a scalar input counts the tokens.
  if (arg.getKind() == ArgKind::In && rank == 1)
    columns = false;
  for (unsigned dim = 0; dim + 1 < rank; ++dim)
    mark({argument, dim}, Other);
  mark({argument, rank - 1}, columns ? Column : Other);
}

void Columns::unite(Operation *op) {
  auto same = [&](Value a, Value b) {
    for (unsigned dim = 0; dim < std::min(getRank(a), getRank(b)); ++dim)
      unite({a, dim}, {b, dim}, op);
  };
  auto square = [&](Value value) {
    for (unsigned dim = 0; dim < getRank(value); ++dim)
      if (marks[find({value, dim})] == Column)
        (void)fail(op->getLoc(), "an axis is that of the state's columns and "
                                 "of the tokens here");
      else
        mark({value, dim}, Other);
  };
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    if (getRank(broadcast.getInput()) == 1)
      unite({broadcast.getInput(), 0},
            {broadcast.getResult(), broadcast.getDim().value_or(0)}, op);
    return;
  }
  if (auto matmul = dyn_cast<MatmulOp>(op)) {
    bool tl = matmul.getTransposeLhs(), tr = matmul.getTransposeRhs();
    Value lhs = matmul.getLhs(), rhs = matmul.getRhs();
    unite({lhs, tl ? 0 : 1}, {rhs, tr ? 1 : 0}, op);
    unite({lhs, tl ? 1 : 0}, {matmul.getResult(), 0}, op);
    unite({rhs, tr ? 0 : 1}, {matmul.getResult(), 1}, op);
    if (matmul.getAcc())
      same(matmul.getAcc(), matmul.getResult());
    return;
  }
  if (auto solve = dyn_cast<TriSolveOp>(op)) {
    for (Value block : solve.getBlocks())
      square(block);
    for (auto [rhs, unknown] : llvm::zip(solve.getRhs(), solve.getUnknowns()))
      same(rhs, unknown);
    return;
  }
  if (auto gram = dyn_cast<DecayGramOp>(op)) {
    for (Value operand : op->getOperands())
      same(operand, gram.getDecay());
    for (Value result : op->getResults())
      square(result);
    return;
  }
  if (auto gram = dyn_cast<DecayGramAdjointOp>(op)) {
    for (Value operand : gram.getCotangents())
      square(operand);
    for (auto group : {gram.getRows(), gram.getCols()})
      for (Value operand : group)
        same(operand, gram.getDecay());
    for (Value result : op->getResults())
      same(result, gram.getDecay());
    return;
  }
  if (auto mask = dyn_cast<DecayMaskOp>(op))
    return square(op->getResult(0));
  if (isa<DiagonalOp>(op)) {
    square(op->getOperand(0));
    return square(op->getResult(0));
  }
  if (isa<CausalMaskOp, SetDiagonalOp>(op)) {
    square(op->getOperand(0));
    return square(op->getResult(0));
  }
  if (isa<TokenSumOp, TotalProductOp>(op)) {
    if (getRank(op->getOperand(0)) == 2)
      unite({op->getOperand(0), 1}, {op->getResult(0), 0}, op);
    return;
  }
  if (isa<SumOp>(op)) {
    if (getRank(op->getOperand(0)) == 2)
      unite({op->getOperand(0), 0}, {op->getResult(0), 0}, op);
    return;
  }
  if (isa<arith::ConstantOp>(op))
    return;
  if (isPointwise(op) ||
      isa<IdentityRowsOp, PrefixProductOp, PrefixSumOp, LinearScanOp>(op)) {
    for (Value operand : op->getOperands())
      if (getRank(operand) == getRank(op->getResult(0)))
        same(operand, op->getResult(0));
    return;
  }
  (void)fail(op->getLoc(),
             "'" + op->getName().getStringRef() + "' is not known to be split");
}

/// A number that is spread over two matrices may be one value: each use gets
/// its own, since they may have different axes.
void Columns::separate() {
  llvm::DenseSet<Axis> known;
  auto isKnown = [&](Value value, unsigned dim) {
    return isa<BlockArgument>(value) || known.contains({value, dim});
  };
  SmallVector<Operation *> open;
  for (Operation &op : program.front().without_terminator()) {
    bool all = true;
    for (Value result : op.getResults())
      for (unsigned dim = 0; dim < getRank(result); ++dim) {
        bool is;
        if (auto broadcast = dyn_cast<BroadcastOp>(op))
          is = getRank(broadcast.getInput()) == 1 &&
               broadcast.getDim().value_or(0) == dim &&
               isKnown(broadcast.getInput(), 0);
        else if (isa<arith::ConstantOp>(op))
          is = false;
        else if (isPointwise(&op) || isa<IdentityRowsOp, PrefixProductOp,
                                         PrefixSumOp, LinearScanOp>(op))
          is = llvm::any_of(op.getOperands(), [&](Value operand) {
            return getRank(operand) == getRank(result) && isKnown(operand, dim);
          });
        else
          is = true;
        if (is)
          known.insert({result, dim});
        all &= is;
      }
    if (!all)
      open.push_back(&op);
  }
  OpBuilder builder(program.getContext());
  for (Operation *op : llvm::reverse(open)) {
    SmallVector<OpOperand *> uses;
    for (OpOperand &use : op->getUses())
      uses.push_back(&use);
    builder.setInsertionPointAfter(op);
    for (OpOperand *use : ArrayRef(uses).drop_front(!uses.empty()))
      use->set(builder.clone(*op)->getResult(0));
  }
}

void Columns::seedResults() {
  Operation *terminator = program.front().getTerminator();
  unsigned number = 0;
  auto take = [&](bool columns) {
    Value value = terminator->getOperand(number++);
    unsigned rank = getRank(value);
    for (unsigned dim = 0; dim < rank; ++dim) {
      Mark wanted = columns && dim + 1 == rank ? Column : Other;
      Mark known = marks[find({value, dim})];
      if (known != Open && known != wanted)
        (void)fail(value.getLoc(), "a result has the state's columns where its "
                                   "array does not, or the other way round");
      mark({value, dim}, wanted);
    }
  };
  take(/*columns=*/true);
  for (ArgKind kind : {ArgKind::Out, ArgKind::Sum})
    for (ArgAttr arg : signature.getArgs(kind)) {
      int64_t family = arg.getFamily() ? *signature.getDim(arg.getFamily()) : 1;
      for (int64_t j = 0; j < family; ++j)
        take(hasColumns(signature, arg));
    }
}

LogicalResult Columns::findAxes() {
  auto axes = signature.getState().getAxes();
  if (axes[0] == axes[1])
    return fail(program.getLoc(), "rows and columns of the state are one axis");
  separate();
  for (BlockArgument argument : program.getArguments())
    seed(argument);
  for (Operation &op : program.front().without_terminator())
    unite(&op);
  seedResults();
  return success(why.empty());
}

//===----------------------------------------------------------------------===//
// Sums over columns
//===----------------------------------------------------------------------===//

bool Columns::sumsColumns(Operation *op) {
  if (auto matmul = dyn_cast<MatmulOp>(op))
    return isColumn(matmul.getLhs(), matmul.getTransposeLhs() ? 0 : 1);
  if (isa<SumOp>(op))
    return isColumn(op->getOperand(0), getRank(op->getOperand(0)) - 1);
  return false;
}

LogicalResult Columns::followSum(Operation *op) {
  auto nonlinear = [&] {
    return fail(op->getLoc(), "this is not linear in a sum over the columns "
                              "of the state");
  };
  if (sumsColumns(op)) {
    auto matmul = dyn_cast<MatmulOp>(op);
    if (matmul && matmul.getAcc() && !isSumOrZero(matmul.getAcc()))
      return nonlinear();
    sums.insert(op->getResult(0));
    return success();
  }
  if (llvm::none_of(op->getOperands(),
                    [&](Value operand) { return isSum(operand); }))
    return success();
  for (Value result : op->getResults())
    if (hasColumn(result))
      return fail(op->getLoc(), "a sum over all columns of the state is needed "
                                "for each of them");
  auto sum = [&](unsigned number) { return isSum(op->getOperand(number)); };
  auto sumOrZero = [&](unsigned number) {
    return isSumOrZero(op->getOperand(number));
  };
  bool linear = false;
  if (isa<arith::AddFOp, arith::SubFOp>(op))
    linear = sumOrZero(0) && sumOrZero(1);
  else if (isa<arith::MulFOp>(op))
    linear = sum(0) != sum(1);
  else if (isa<arith::DivFOp, LinearScanOp>(op))
    linear = !sum(1);
  else if (isa<arith::SelectOp>(op))
    linear = !sum(0) && sumOrZero(1) && sumOrZero(2);
  else if (isa<SetDiagonalOp>(op))
    linear = sumOrZero(0) && sumOrZero(1);
  else if (auto rows = dyn_cast<IdentityRowsOp>(op))
    linear = rows.getValue().isZero();
  else if (auto matmul = dyn_cast<MatmulOp>(op))
    linear = isSum(matmul.getLhs()) != isSum(matmul.getRhs()) &&
             (!matmul.getAcc() || isSumOrZero(matmul.getAcc()));
  else if (auto solve = dyn_cast<TriSolveOp>(op))
    linear = llvm::all_of(solve.getRhs(),
                          [&](Value rhs) { return isSumOrZero(rhs); }) &&
             llvm::none_of(solve.getBlocks(),
                           [&](Value block) { return isSum(block); });
  else if (auto gram = dyn_cast<DecayGramAdjointOp>(op))
    linear = llvm::all_of(gram.getCotangents(),
                          [&](Value h) { return isSumOrZero(h); }) &&
             llvm::none_of(gram.getRows(), [&](Value x) { return isSum(x); }) &&
             llvm::none_of(gram.getCols(), [&](Value x) { return isSum(x); }) &&
             !isSum(gram.getDecay());
  else
    linear = isa<arith::NegFOp, BroadcastOp, CausalMaskOp, DiagonalOp,
                 PrefixSumOp, TokenSumOp, SumOp>(op);
  if (!linear)
    return nonlinear();
  for (Value result : op->getResults())
    sums.insert(result);
  return success();
}

LogicalResult Columns::findSums() {
  for (Operation &op : program.front().without_terminator())
    if (failed(followSum(&op)))
      return failure();
  Operation *terminator = program.front().getTerminator();
  for (Value value : terminator->getOperands().drop_front())
    if (!hasColumn(value) && !isSumOrZero(value))
      return fail(value.getLoc(), "a result is no sum over the columns of the "
                                  "state, and has no index along them");
  return success();
}

//===----------------------------------------------------------------------===//
// A block's program
//===----------------------------------------------------------------------===//

LogicalResult Columns::retype(int64_t cols) {
  auto change = [&](Value value) {
    auto type = dyn_cast<RankedTensorType>(value.getType());
    if (!type || !hasColumn(value))
      return;
    SmallVector<int64_t> shape(type.getShape());
    for (unsigned dim = 0; dim < shape.size(); ++dim)
      if (isColumn(value, dim))
        shape[dim] = cols;
    auto changed = RankedTensorType::get(shape, type.getElementType());
    if (auto constant = value.getDefiningOp<arith::ConstantOp>()) {
      auto elements = dyn_cast<SplatElementsAttr>(constant.getValue());
      if (!elements)
        return (void)fail(value.getLoc(), "a constant differs from column to "
                                          "column");
      constant.setValueAttr(
          SplatElementsAttr::get(changed, elements.getSplatValue<Attribute>()));
    }
    value.setType(changed);
  };
  for (BlockArgument argument : program.getArguments())
    change(argument);
  for (Operation &op : program.front())
    for (Value result : op.getResults())
      change(result);
  program.setFunctionType(FunctionType::get(
      program.getContext(), program.front().getArgumentTypes(),
      program.front().getTerminator()->getOperandTypes()));
  // What was separated may be one again.
  IRRewriter rewriter(program.getContext());
  DominanceInfo dominance;
  eliminateCommonSubExpressions(rewriter, dominance, program);
  return success(why.empty());
}

LogicalResult gpumap::splitColumns(func::FuncOp program,
                                   SignatureAttr signature, int64_t count,
                                   std::string &why, Location &where) {
  Columns columns(program, signature);
  std::optional<int64_t> all =
      signature.getDim(signature.getState().getAxes()[1]);
  bool done = false;
  if (!all || *all % count != 0)
    columns.why =
        ("there are " + Twine(all.value_or(0)) +
         " columns of the state, which " + Twine(count) + " does not divide")
            .str();
  else
    done = succeeded(columns.findAxes()) && succeeded(columns.findSums()) &&
           succeeded(columns.retype(*all / count));
  if (!done) {
    why = columns.why;
    where = columns.where;
    return failure();
  }
  return success();
}
