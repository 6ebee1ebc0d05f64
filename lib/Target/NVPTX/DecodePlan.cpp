//===- DecodePlan.cpp - The recurrent form on a GPU, planned --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Chooses how the state is spread over threads, and what goes through shared
// memory. The choice depends on the recurrence and its sizes only.
//
//===----------------------------------------------------------------------===//

#include "DecodePlan.h"

using namespace mlir;
using namespace mlir::delta;
using ::delta::gpu::GpuTarget;

namespace {

/// Registers a thread may fill with the state and with what is summed over it;
/// some forty more hold addresses and operands.
constexpr int64_t kTileRegisters = 64;
constexpr int64_t kMostRegisters = 168;
/// Threads a CTA: enough to share the preparation of tokens.
constexpr int64_t kMostWarps = 4;

class Planner {
public:
  Planner(GpuDecodePlan &plan, const GpuTarget &target)
      : plan(plan), target(target) {}
  LogicalResult run();

private:
  void collectScalars();
  /// What the columns' expressions take from shared memory.
  void collectColumnLeaves();
  LogicalResult chooseTile();
  LogicalResult chooseWarps();
  /// Lays out a token in shared memory.
  void placeSlots();

  GpuDecodePlan &plan;
  const GpuTarget &target;
  llvm::SetVector<Value> rowVectors, columnVectors, scalars;
};

} // namespace

void Planner::collectScalars() {
  Block *body = plan.events.getBodyBlock();
  auto add = [&](Value value) {
    if (isa<FloatType>(value.getType()))
      (plan.varying.contains(value) ? plan.tokenScalars : plan.uniformScalars)
          .push_back(value);
  };
  for (BlockArgument arg : body->getArguments())
    add(arg);
  for (Operation &op : *body)
    for (Value result : op.getResults())
      add(result);
}

void Planner::collectColumnLeaves() {
  auto addScalar = [&](Value scalar) {
    if (plan.varying.contains(scalar))
      scalars.insert(scalar);
  };
  llvm::SetVector<Value> worklist;
  for (WriteOp write : plan.writes)
    worklist.insert(write.getC());
  ValueRange outs = plan.events.getYield().getValues().drop_front();
  for (unsigned position : plan.columnOuts)
    worklist.insert(outs[position]);
  for (unsigned index = 0; index < worklist.size(); ++index) {
    Value value = worklist[index];
    Operation *op = value.getDefiningOp();
    if (auto broadcast = dyn_cast_or_null<BroadcastOp>(op)) {
      addScalar(broadcast.getInput());
      continue;
    }
    if (!plan.onState.contains(value)) {
      columnVectors.insert(value);
      continue;
    }
    if (isa<ReadOp>(op))
      continue;
    for (Value operand : op->getOperands())
      worklist.insert(operand);
  }
  for (ReadOp read : plan.reads)
    rowVectors.insert(read.getX());
  for (WriteOp write : plan.writes)
    rowVectors.insert(write.getY());
  if (plan.decay && getVectorAxis(plan.decay))
    rowVectors.insert(plan.decay);
  else if (plan.decay)
    addScalar(plan.decay);
}

LogicalResult Planner::chooseTile() {
  int64_t rowQuads = llvm::divideCeil(plan.rows, 4);
  // Sums of reads and coefficients of writes live beside the state, a column
  // each.
  int64_t perColumn = plan.reads.size() + plan.writes.size();
  auto quadsFor = [&](int64_t lanes) {
    return llvm::divideCeil(rowQuads, lanes);
  };
  int64_t least = std::min<int64_t>(
      4, llvm::PowerOf2Ceil(static_cast<uint64_t>(plan.columns)));
  for (int64_t columns = least; columns >= 1; columns /= 2) {
    plan.threadColumns = columns;
    plan.rowLanes = 1;
    auto tile = [&] { return 4 * plan.quads * columns; };
    plan.quads = quadsFor(1);
    while (tile() > kTileRegisters && plan.rowLanes < kWarpSize)
      plan.quads = quadsFor(plan.rowLanes *= 2);
    // Many events leave less for the rows.
    while (columns == 1 && plan.quads > 1 && plan.rowLanes < kWarpSize &&
           tile() + perColumn > kMostRegisters)
      plan.quads = quadsFor(plan.rowLanes *= 2);
    if (tile() <= kTileRegisters &&
        tile() + perColumn * columns <= kMostRegisters)
      break;
    if (columns > 1)
      continue;
    if (tile() > kTileRegisters)
      return plan.events.emitError()
             << "a state of " << plan.rows << " rows takes " << tile()
             << " registers a thread when each of a warp's " << kWarpSize
             << " lanes holds rows of one column; at most "
             << kTileRegisters * kWarpSize << " rows fit on "
             << target.getName();
    return plan.events.emitError()
           << plan.reads.size() << " reads and " << plan.writes.size()
           << " writes a token take " << tile() + perColumn
           << " registers a thread beside the addresses; at most "
           << kMostRegisters << " fit on " << target.getName();
  }
  // Lanes without columns take rows instead.
  while (plan.rowLanes < kWarpSize && plan.rowLanes * 2 <= rowQuads &&
         kWarpSize / plan.rowLanes / 2 * plan.threadColumns >= plan.columns)
    plan.quads = quadsFor(plan.rowLanes *= 2);
  plan.columnLanes = kWarpSize / plan.rowLanes;
  plan.stateWidth = plan.threadColumns;
  while (plan.columns % plan.stateWidth != 0)
    plan.stateWidth /= 2;
  return success();
}

void Planner::placeSlots() {
  plan.rowSlots.clear();
  plan.columnSlots.clear();
  plan.scalarSlots.clear();
  plan.tokenFloats = 0;
  // Vector loads want 16 bytes.
  auto reserve = [&](int64_t floats) {
    int64_t offset = plan.tokenFloats;
    plan.tokenFloats += llvm::alignTo(floats, 4);
    return offset;
  };
  for (Value vector : rowVectors)
    plan.rowSlots[vector] = reserve(plan.getPaddedRows());
  for (Value vector : columnVectors)
    plan.columnSlots[vector] = reserve(plan.getBlockColumns());
  int64_t next = reserve(scalars.size());
  for (Value scalar : scalars)
    plan.scalarSlots[scalar] = next++;
}

LogicalResult Planner::chooseWarps() {
  // As many warps as there are columns for; fewer where a window of so many
  // tokens leaves no room for a second CTA.
  plan.warps = kMostWarps;
  while (plan.warps > 1 &&
         (plan.warps - 1) * plan.getWarpColumns() >= plan.columns)
    --plan.warps;
  placeSlots();
  while (plan.warps > 1 && plan.getSharedBytes() > target.getSharedBudget(2)) {
    plan.warps /= 2;
    placeSlots();
  }
  if (plan.getSharedBytes() > target.getSharedPerCta())
    return plan.events.emitError()
           << "two tokens of " << plan.rowSlots.size() << " vectors of "
           << plan.rows << " rows take " << plan.getSharedBytes()
           << " bytes of shared memory; " << target.getName() << " has "
           << target.getSharedPerCta() << " a CTA";
  plan.vBlocks = llvm::divideCeil(plan.columns, plan.getBlockColumns());
  return success();
}

LogicalResult Planner::run() {
  collectScalars();
  collectColumnLeaves();
  if (failed(chooseTile()))
    return failure();
  return chooseWarps();
}

FailureOr<GpuDecodePlan> mlir::delta::planGpuDecode(ModuleOp module,
                                                    const GpuTarget &target) {
  GpuDecodePlan plan;
  if (failed(analyzeDecode(module, target.getName(), plan)))
    return failure();
  for (ArgAttr arg : plan.signature.getAllArgs())
    if (arg.getKind() != ArgKind::Attr && arg.getType().isF64())
      return module.emitError()
             << "'" << arg.getName().getValue()
             << "' has type f64, which a GPU kernel does not take";
  if (failed(Planner(plan, target).run()))
    return failure();
  return plan;
}
