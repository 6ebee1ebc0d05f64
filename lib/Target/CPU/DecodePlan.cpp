//===- DecodePlan.cpp - Where the values of a token are evaluated ---------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Finds out what depends on the state, which vectors are needed whole, in which
// order loops must run, and how wide a panel of the state is.
//
//===----------------------------------------------------------------------===//

#include "DecodePlan.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace mlir::delta;

/// The axis of a vector; null for a scalar.
static StringAttr getAxis(Value value) {
  ArrayRef<StringAttr> names = mlir::delta::getDimNames(value.getType());
  return names.size() == 1 ? names[0] : StringAttr();
}

ArgAttr DecodePlan::getArg(BlockArgument arg) const {
  unsigned position = 0;
  for (ArgAttr entry : signature.getAllArgs()) {
    if (entry.getKind() == ArgKind::Out || entry.getKind() == ArgKind::State)
      continue;
    if (position++ == arg.getArgNumber())
      return entry;
  }
  return signature.getState();
}

std::optional<InputRef> DecodePlan::getInput(Value value) const {
  if (auto arg = dyn_cast<BlockArgument>(value)) {
    if (arg == RecurrenceOp(events).getStateArgument())
      return std::nullopt;
    return InputRef{arg, -1};
  }
  auto micro = value.getDefiningOp<MicroOp>();
  APInt index;
  if (!micro || !matchPattern(micro.getIndex(), m_ConstantInt(&index)))
    return std::nullopt;
  if (auto arg = dyn_cast<BlockArgument>(micro.getFamily()))
    return InputRef{arg, index.getSExtValue()};
  return std::nullopt;
}

bool DecodePlan::isReadInPlace(Value vector) const {
  std::optional<InputRef> input = getInput(vector);
  return input && getArg(input->arg).getType() == computeType;
}

namespace {

class Planner {
public:
  Planner(DecodePlan &plan, const ::delta::cpu::CpuTarget &target)
      : plan(plan), target(target) {}
  LogicalResult run();

private:
  LogicalResult collectEvents();
  LogicalResult classify();
  LogicalResult classify(Operation *op);
  /// The vector is needed whole by something at `level`.
  LogicalResult needWhole(Value vector, Operation *user, StringRef what);
  void expandWhole();
  void expandColumns();
  void chooseShape();

  DecodePlan &plan;
  const ::delta::cpu::CpuTarget &target;
  DenseSet<Value> onState;      // values that depend on the state
  DenseSet<Value> varying;      // scalars and vectors that depend on the token
  llvm::SetVector<Value> whole; // vectors evaluated in loops
  llvm::SetVector<Value> buffered;
};

} // namespace

LogicalResult Planner::collectEvents() {
  Value state = plan.events.getStateArgument();
  // Walk back from the yielded state: writes, then a decay, then the argument.
  Value at = plan.events.getYield().getValues()[0];
  while (auto write = at.getDefiningOp<WriteOp>()) {
    plan.writes.push_back(write);
    at = write.getState();
  }
  std::reverse(plan.writes.begin(), plan.writes.end());
  if (auto decay = at.getDefiningOp<DecayOp>()) {
    plan.decay = decay.getW();
    at = decay.getState();
  }
  if (at != state)
    return plan.events.emitError("expects all reads before one decay and then "
                                 "the writes; run delta-decode-hoist-reads");
  for (ReadOp read : plan.events.getBodyBlock()->getOps<ReadOp>()) {
    if (read.getState() != state)
      return read.emitError("expects all reads to be of the state before the "
                            "token; run delta-decode-hoist-reads");
    plan.reads.push_back(read);
  }
  return success();
}

LogicalResult Planner::classify(Operation *op) {
  for (Value result : op->getResults()) {
    unsigned level = 0;
    for (Value operand : op->getOperands()) {
      level = std::max(level, plan.level.lookup(operand));
      if (onState.contains(operand))
        onState.insert(result);
      if (varying.contains(operand))
        varying.insert(result);
    }
    // Only plain arithmetic on scalars is taken out of the tokens' loop.
    if (!isa<FloatType>(result.getType()))
      varying.insert(result);
    plan.level[result] = level;
  }
  if (isa<DecayOp, WriteOp, YieldOp>(op))
    return success();
  if (auto read = dyn_cast<ReadOp>(op)) {
    onState.insert(read.getResult());
    return success();
  }
  if (auto sum = dyn_cast<SumOp>(op)) {
    if (onState.contains(sum.getInput()))
      return op->emitError("sums over the state's columns, which are "
                           "independent of each other here");
    plan.level[sum.getResult()] += 1;
    varying.insert(sum.getResult());
    return needWhole(sum.getInput(), op, "summed");
  }
  if (isa<MicroOp>(op)) {
    if (!plan.getInput(op->getResult(0)))
      return op->emitError("expects a constant micro-step of an input");
    varying.insert(op->getResult(0));
    return success();
  }
  if (auto dim = dyn_cast<DimOp>(op);
      dim && !plan.signature.getDim(dim.getName()))
    return op->emitError() << "expects the size of dim '" << dim.getName()
                           << "', which the recurrent form on the cpu needs";
  if (isa<BroadcastOp, DimOp, SigmoidOp, SoftplusOp>(op) ||
      op->hasTrait<OpTrait::ConstantLike>())
    return success();
  if (!OpTrait::hasElementwiseMappableTraits(op) || op->getNumResults() != 1)
    return op->emitError() << "'" << op->getName()
                           << "' is neither an event nor elementwise";
  bool hasTensor = isa<TensorType>(op->getResult(0).getType());
  for (Value operand : op->getOperands())
    if (isa<TensorType>(operand.getType()) != hasTensor)
      return op->emitError("mixes scalars and vectors; expects "
                           "'delta.broadcast' between them");
  return success();
}

LogicalResult Planner::needWhole(Value vector, Operation *user,
                                 StringRef what) {
  if (onState.contains(vector))
    return user->emitError() << "expects what is " << what
                             << " to be free of the state, but it depends on "
                                "a read";
  whole.insert(vector);
  return success();
}

LogicalResult Planner::classify() {
  Block *body = plan.events.getBodyBlock();
  for (BlockArgument arg : body->getArguments())
    if (plan.getArg(arg).getKind() == ArgKind::In)
      varying.insert(arg);
  for (Operation &op : *body)
    if (failed(classify(&op)))
      return failure();

  if (plan.decay) {
    if (onState.contains(plan.decay))
      return plan.events.emitError("expects decays to be free of the state, "
                                   "but one depends on a read");
    if (getAxis(plan.decay) &&
        failed(needWhole(plan.decay, plan.events, "a decay")))
      return failure();
  }
  for (ReadOp read : plan.reads)
    if (failed(needWhole(read.getX(), read, "read with")))
      return failure();
  for (WriteOp write : plan.writes)
    if (failed(needWhole(write.getY(), write, "written along")))
      return failure();

  ValueRange outs = plan.events.getYield().getValues().drop_front();
  for (auto [position, out] : llvm::enumerate(outs)) {
    StringAttr axis = getAxis(out);
    if (!axis && onState.contains(out))
      return plan.events.emitError("expects a scalar out to be free of the "
                                   "state, but it depends on a read");
    if (!axis)
      plan.scalarOuts.push_back(position);
    else if (axis == plan.columnDim)
      plan.columnOuts.push_back(position);
    else if (failed(needWhole(out, plan.events, "given out")))
      return failure();
  }
  return success();
}

/// What vectors needed whole are made of is evaluated in their loops; what is
/// of a lower level is kept by that level's loop.
void Planner::expandWhole() {
  auto keep = [&](Value vector) {
    if (!plan.isReadInPlace(vector))
      buffered.insert(vector);
  };
  for (ReadOp read : plan.reads)
    keep(read.getX());
  for (WriteOp write : plan.writes)
    keep(write.getY());
  if (plan.decay && getAxis(plan.decay))
    keep(plan.decay);
  // The set grows while it is walked.
  for (unsigned index = 0; index < whole.size(); ++index) {
    Value vector = whole[index];
    Operation *op = vector.getDefiningOp();
    if (!op || plan.getInput(vector))
      continue;
    for (Value operand : op->getOperands()) {
      if (!getAxis(operand))
        continue;
      whole.insert(operand);
      // Inputs and repeated scalars are as cheap to make again.
      bool cheap = plan.getInput(operand) ||
                   operand.getDefiningOp<BroadcastOp>() != nullptr;
      if (plan.level.lookup(operand) < plan.level.lookup(vector) && !cheap)
        buffered.insert(operand);
    }
  }

  for (auto [value, level] : plan.level)
    plan.levels = std::max(plan.levels, level + 1);
  plan.loops.resize(plan.levels);
  auto loopOf = [&](Value vector) -> DecodePlan::Loop & {
    return plan.loops[plan.level.lookup(vector)][getAxis(vector)];
  };
  for (Value vector : buffered)
    loopOf(vector).buffered.push_back(vector);
  for (SumOp sum : plan.events.getBodyBlock()->getOps<SumOp>())
    loopOf(sum.getInput()).sums.push_back(sum);
  ValueRange outs = plan.events.getYield().getValues().drop_front();
  for (auto [position, out] : llvm::enumerate(outs))
    if (StringAttr axis = getAxis(out); axis && axis != plan.columnDim)
      loopOf(out).outs.push_back(position);
}

/// Scalars, and which of them are used beside the columns.
void Planner::expandColumns() {
  Block *body = plan.events.getBodyBlock();
  auto addScalar = [&](Value value) {
    if (!isa<FloatType>(value.getType()))
      return;
    (varying.contains(value) ? plan.tokenScalars : plan.uniformScalars)
        .push_back(value);
  };
  for (BlockArgument arg : body->getArguments())
    addScalar(arg);
  for (Operation &op : *body)
    for (Value result : op.getResults())
      addScalar(result);

  llvm::SetVector<Value> columns, carried;
  for (WriteOp write : plan.writes)
    columns.insert(write.getC());
  ValueRange outs = plan.events.getYield().getValues().drop_front();
  for (unsigned position : plan.columnOuts)
    columns.insert(outs[position]);
  for (unsigned index = 0; index < columns.size(); ++index) {
    Operation *op = columns[index].getDefiningOp();
    if (!op || isa<ReadOp, MicroOp>(op))
      continue;
    for (Value operand : op->getOperands()) {
      if (isa<FloatType>(operand.getType())) {
        if (varying.contains(operand))
          carried.insert(operand);
      } else {
        columns.insert(operand);
      }
    }
  }
  if (plan.decay && !getAxis(plan.decay) && varying.contains(plan.decay))
    carried.insert(plan.decay);
  plan.carried = carried.takeVector();
}

/// Blocks of columns are made of narrow panels, so that few heads can be split
/// over many threads; where there are enough of them, several are done at once,
/// which reads longer pieces of memory and evaluates whole vectors less often.
/// Columns are independent: the bits do not depend on which is which.
void Planner::chooseShape() {
  unsigned bytes = plan.computeType.getIntOrFloatBitWidth() / 8;
  plan.lanes = target.getVectorBits() / 8 / bytes;
  int64_t narrow = 2 * plan.lanes;
  plan.panelColumns = std::min(narrow, plan.columns);
  plan.panels = llvm::divideCeil(plan.columns, plan.panelColumns);

  // Every vector of columns keeps an accumulator a read in a register (what is
  // written can come from memory), and the rows should stay in a core's cache.
  constexpr int64_t kPanelBytes = 256 * 1024;
  int64_t reads = plan.reads.size();
  int64_t registers = target.getNumVectorRegisters() - 4;
  plan.wideColumns = plan.panelColumns;
  for (int64_t columns = narrow;
       columns <= 8 * plan.lanes && columns <= plan.columns; columns *= 2)
    if (columns / plan.lanes * reads <= registers &&
        columns * bytes * plan.rows <= kPanelBytes)
      plan.wideColumns = columns;

  auto reserve = [&](int64_t elements) {
    int64_t offset = plan.workspace;
    plan.workspace += llvm::alignTo(elements * bytes, 64);
    return offset;
  };
  reserve(plan.rows * plan.wideColumns);
  for (Value vector : buffered) {
    // Whole vectors of lanes, so that both copies stay aligned.
    int64_t size = llvm::alignTo(plan.getSize(getAxis(vector)), 64 / bytes);
    plan.bufferOffset[vector] = reserve(2 * size);
  }
}

LogicalResult Planner::run() {
  if (failed(collectEvents()) || failed(classify()))
    return failure();
  expandWhole();
  expandColumns();
  chooseShape();
  return success();
}

FailureOr<DecodePlan>
mlir::delta::planDecode(ModuleOp module, const ::delta::cpu::CpuTarget &target,
                        StringRef compute) {
  DecodePlan plan;
  plan.events = getRecurrence(module);
  plan.signature = getSignature(module);
  for (StringAttr dim : plan.signature.getDimNames())
    if (!plan.signature.getDim(dim)) {
      module.emitError() << "expects the size of dim '" << dim.getValue()
                         << "', which the recurrent form on the cpu needs";
      return failure();
    }
  Builder builder(module.getContext());
  bool wide = compute == "f64";
  if (compute.empty())
    wide = llvm::any_of(plan.signature.getAllArgs(), [](ArgAttr arg) {
      return arg.getKind() != ArgKind::Attr && arg.getType().isF64();
    });
  plan.computeType = wide ? Type(builder.getF64Type()) : builder.getF32Type();
  ArgAttr state = plan.signature.getState();
  plan.rows = plan.getSize(state.getAxes()[0]);
  plan.columns = plan.getSize(state.getAxes()[1]);
  plan.columnDim = state.getAxes()[1];
  if (failed(Planner(plan, target).run()))
    return failure();
  return plan;
}
