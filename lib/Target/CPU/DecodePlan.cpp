//===- DecodePlan.cpp - Where the values of a token are evaluated ---------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Decides in which order loops must run, what the workspace keeps, and how wide
// a panel of the state is.
//
//===----------------------------------------------------------------------===//

#include "DecodePlan.h"

using namespace mlir;
using namespace mlir::delta;

bool DecodePlan::isReadInPlace(Value vector) const {
  std::optional<InputRef> input = getInput(vector);
  return input && getArg(input->arg).getType() == computeType;
}

namespace {

class Planner {
public:
  Planner(DecodePlan &plan, const ::delta::cpu::CpuTarget &target)
      : plan(plan), target(target) {}
  void run();

private:
  void expandWhole();
  void expandColumns();
  void chooseShape();

  DecodePlan &plan;
  const ::delta::cpu::CpuTarget &target;
  llvm::SetVector<Value> whole; // vectors evaluated in loops
  llvm::SetVector<Value> buffered;
};

} // namespace

/// What vectors needed whole are made of is evaluated in their loops; what is
/// of a lower level is kept by that level's loop.
void Planner::expandWhole() {
  whole = plan.whole;
  auto keep = [&](Value vector) {
    if (!plan.isReadInPlace(vector))
      buffered.insert(vector);
  };
  for (ReadOp read : plan.reads)
    keep(read.getX());
  for (WriteOp write : plan.writes)
    keep(write.getY());
  if (plan.decay && getVectorAxis(plan.decay))
    keep(plan.decay);
  // The set grows while it is walked.
  for (unsigned index = 0; index < whole.size(); ++index) {
    Value vector = whole[index];
    Operation *op = vector.getDefiningOp();
    if (!op || plan.getInput(vector))
      continue;
    for (Value operand : op->getOperands()) {
      if (!getVectorAxis(operand))
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
    return plan.loops[plan.level.lookup(vector)][getVectorAxis(vector)];
  };
  for (Value vector : buffered)
    loopOf(vector).buffered.push_back(vector);
  for (SumOp sum : plan.events.getBodyBlock()->getOps<SumOp>())
    loopOf(sum.getInput()).sums.push_back(sum);
  ValueRange outs = plan.events.getYield().getValues().drop_front();
  for (auto [position, out] : llvm::enumerate(outs))
    if (StringAttr axis = getVectorAxis(out); axis && axis != plan.columnDim)
      loopOf(out).outs.push_back(position);
}

/// Scalars, and which of them are used beside the columns.
void Planner::expandColumns() {
  Block *body = plan.events.getBodyBlock();
  auto addScalar = [&](Value value) {
    if (!isa<FloatType>(value.getType()))
      return;
    (plan.varying.contains(value) ? plan.tokenScalars : plan.uniformScalars)
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
        if (plan.varying.contains(operand))
          carried.insert(operand);
      } else {
        columns.insert(operand);
      }
    }
  }
  if (plan.decay && !getVectorAxis(plan.decay) &&
      plan.varying.contains(plan.decay))
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
    int64_t size =
        llvm::alignTo(plan.getSize(getVectorAxis(vector)), 64 / bytes);
    plan.bufferOffset[vector] = reserve(2 * size);
  }
}

void Planner::run() {
  expandWhole();
  expandColumns();
  chooseShape();
}

FailureOr<DecodePlan>
mlir::delta::planDecode(ModuleOp module, const ::delta::cpu::CpuTarget &target,
                        StringRef compute) {
  DecodePlan plan;
  if (failed(analyzeDecode(module, "the cpu", plan)))
    return failure();
  Builder builder(module.getContext());
  bool wide = compute == "f64";
  if (compute.empty())
    wide = llvm::any_of(plan.signature.getAllArgs(), [](ArgAttr arg) {
      return arg.getKind() != ArgKind::Attr && arg.getType().isF64();
    });
  plan.computeType = wide ? Type(builder.getF64Type()) : builder.getF32Type();
  Planner(plan, target).run();
  return plan;
}
