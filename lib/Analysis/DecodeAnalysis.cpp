//===- DecodeAnalysis.cpp - What a token's values depend on ---------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One walk over the events classifies every value; what is outside the form
// that runs by columns is reported where it stands.
//
//===----------------------------------------------------------------------===//

#include "delta/Analysis/DecodeAnalysis.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace mlir::delta;

StringAttr mlir::delta::getVectorAxis(Value value) {
  ArrayRef<StringAttr> names = mlir::delta::getDimNames(value.getType());
  return names.size() == 1 ? names[0] : StringAttr();
}

ArgAttr DecodeAnalysis::getArg(BlockArgument arg) const {
  unsigned position = 0;
  for (ArgAttr entry : signature.getAllArgs()) {
    if (entry.getKind() == ArgKind::Out || entry.getKind() == ArgKind::State)
      continue;
    if (position++ == arg.getArgNumber())
      return entry;
  }
  return signature.getState();
}

std::optional<InputRef> DecodeAnalysis::getInput(Value value) const {
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

namespace {

class Analyzer {
public:
  Analyzer(DecodeAnalysis &plan, StringRef target)
      : plan(plan), target(target) {}
  LogicalResult collectEvents();
  LogicalResult classify();

private:
  LogicalResult classify(Operation *op);
  /// The vector is needed whole by something at `level`.
  LogicalResult needWhole(Value vector, Operation *user, StringRef what);

  DecodeAnalysis &plan;
  StringRef target;
};

} // namespace

LogicalResult Analyzer::collectEvents() {
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

LogicalResult Analyzer::classify(Operation *op) {
  for (Value result : op->getResults()) {
    unsigned level = 0;
    for (Value operand : op->getOperands()) {
      level = std::max(level, plan.level.lookup(operand));
      if (plan.onState.contains(operand))
        plan.onState.insert(result);
      if (plan.varying.contains(operand))
        plan.varying.insert(result);
    }
    // Only plain arithmetic on scalars is taken out of the tokens' loop.
    if (!isa<FloatType>(result.getType()))
      plan.varying.insert(result);
    plan.level[result] = level;
  }
  if (isa<DecayOp, WriteOp, YieldOp>(op))
    return success();
  if (auto read = dyn_cast<ReadOp>(op)) {
    plan.onState.insert(read.getResult());
    return success();
  }
  if (auto sum = dyn_cast<SumOp>(op)) {
    if (plan.onState.contains(sum.getInput()))
      return op->emitError("sums over the state's columns, which are "
                           "independent of each other here");
    plan.level[sum.getResult()] += 1;
    plan.varying.insert(sum.getResult());
    return needWhole(sum.getInput(), op, "summed");
  }
  if (isa<MicroOp>(op)) {
    if (!plan.getInput(op->getResult(0)))
      return op->emitError("expects a constant micro-step of an input");
    plan.varying.insert(op->getResult(0));
    return success();
  }
  if (auto dim = dyn_cast<DimOp>(op);
      dim && !plan.signature.getDim(dim.getName()))
    return op->emitError() << "expects the size of dim '" << dim.getName()
                           << "', which the recurrent form on " << target
                           << " needs";
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

LogicalResult Analyzer::needWhole(Value vector, Operation *user,
                                  StringRef what) {
  if (plan.onState.contains(vector))
    return user->emitError() << "expects what is " << what
                             << " to be free of the state, but it depends on "
                                "a read";
  plan.whole.insert(vector);
  return success();
}

LogicalResult Analyzer::classify() {
  Block *body = plan.events.getBodyBlock();
  for (BlockArgument arg : body->getArguments())
    if (plan.getArg(arg).getKind() == ArgKind::In)
      plan.varying.insert(arg);
  for (Operation &op : *body)
    if (failed(classify(&op)))
      return failure();

  if (plan.decay) {
    if (plan.onState.contains(plan.decay))
      return plan.events.emitError("expects decays to be free of the state, "
                                   "but one depends on a read");
    if (getVectorAxis(plan.decay) &&
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
    StringAttr axis = getVectorAxis(out);
    if (!axis && plan.onState.contains(out))
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

LogicalResult mlir::delta::analyzeDecode(ModuleOp module, StringRef target,
                                         DecodeAnalysis &analysis) {
  analysis.events = getRecurrence(module);
  analysis.signature = getSignature(module);
  for (StringAttr dim : analysis.signature.getDimNames())
    if (!analysis.signature.getDim(dim))
      return module.emitError()
             << "expects the size of dim '" << dim.getValue()
             << "', which the recurrent form on " << target << " needs";
  ArgAttr state = analysis.signature.getState();
  analysis.rows = analysis.getSize(state.getAxes()[0]);
  analysis.columns = analysis.getSize(state.getAxes()[1]);
  analysis.columnDim = state.getAxes()[1];
  Analyzer analyzer(analysis, target);
  if (failed(analyzer.collectEvents()))
    return failure();
  return analyzer.classify();
}
