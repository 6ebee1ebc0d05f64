//===- PlanMemory.cpp - A kernel's arena, and the plan as a whole ---------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Values get arena memory by liveness once the order is known.
//
//===----------------------------------------------------------------------===//

#include "Plan.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

void Plan::allocate() {
  const Geometry &g = geometry;
  unsigned last = units.size();
  auto addSlot = [&](int64_t elements, unsigned begin, unsigned end) {
    Slot slot;
    slot.bytes = llvm::alignTo(elements * g.elementBytes(), 64);
    slot.begin = begin;
    slot.end = end;
    slots.push_back(slot);
    return static_cast<unsigned>(slots.size() - 1);
  };
  stateSlot = addSlot(g.panels() * g.stateRows * g.panelWidth(), 0, last);
  for (Value sum : sums) {
    Buffer buffer;
    std::tie(buffer.rows, buffer.cols) = getShape(sum);
    buffer.stride = g.roundUpToVector(buffer.cols);
    buffer.slot = addSlot(buffer.stride, 0, last);
    sumBuffers.push_back(buffer);
  }

  // When is each value read for the last time? Loops repeat: a value that an
  // inner loop reads lives until that loop has ended.
  llvm::DenseMap<Value, unsigned> lastRead;
  for (auto [index, unit] : llvm::enumerate(units)) {
    llvm::SetVector<Value> reads;
    collectUnitReads(unit, reads);
    for (Value value : reads) {
      bool outer = getSlice(value) != unit.slice;
      unsigned end = getSlice(value) == Slice::Hoisted || outer
                         ? last
                         : static_cast<unsigned>(index);
      lastRead[value] = std::max(lastRead.lookup(value), end);
    }
  }
  auto describe = [&](Value value) {
    Buffer buffer;
    std::tie(buffer.rows, buffer.cols) = getShape(value);
    buffer.panelLocal = getSlice(value) == Slice::Panel;
    buffer.stride = buffer.panelLocal ? g.panelWidth()
                    : buffer.cols == g.stateCols
                        ? g.paddedCols()
                        : g.roundUpToVector(buffer.cols);
    return buffer;
  };
  auto bind = [&](Value value, unsigned index) {
    Buffer buffer = describe(value);
    unsigned begin = getSlice(value) == Slice::Hoisted ? 0 : index;
    buffer.slot = addSlot(buffer.rows * buffer.stride, begin,
                          std::max(lastRead.lookup(value), index));
    buffers[value] = buffer;
  };

  auto allocateUnit = [&](Unit &unit, unsigned index) {
    for (const Root &root : unit.roots)
      if (root.kind == Root::Total ||
          (root.kind == Root::Store && stored.contains(root.value)))
        bind(root.value, index);
    for (const Unit &other : unit.beside)
      bind(other.roots[0].value, index);
    switch (unit.kind) {
    case Unit::Copy:
      bind(unit.value, index);
      break;
    case Unit::Dot:
    case Unit::Transpose:
    case Unit::Diagonal:
      bind(unit.op->getResult(0), index);
      break;
    case Unit::Sum:
    case Unit::VectorScan:
      if (getRank(unit.op->getResult(0)) == 1)
        bind(unit.op->getResult(0), index);
      break;
    case Unit::Solve:
      for (Value result : unit.op->getResults())
        bind(result, index);
      break;
    case Unit::Gram: {
      // The results lie behind each other, so that one loop nest can write
      // them all; beside them the scaled operands of one level.
      auto gram = cast<DecayGramOp>(unit.op);
      unsigned end = index;
      for (Value result : gram.getGrams())
        end = std::max(end, lastRead.lookup(result));
      Buffer first = describe(gram.getGrams()[0]);
      int64_t elements = first.rows * first.stride;
      unsigned slot = addSlot(elements * gram.getGrams().size(), index, end);
      for (auto [number, result] : llvm::enumerate(gram.getGrams())) {
        Buffer buffer = describe(result);
        buffer.slot = slot;
        buffer.byteInSlot = number * elements * g.elementBytes();
        buffers[result] = buffer;
      }
      int64_t width = describe(gram.getDecay()).stride;
      int64_t maxHalf = llvm::PowerOf2Ceil(g.tokens) / 2;
      unit.scratch = addSlot((gram.getRows().size() + gram.getCols().size()) *
                                 maxHalf * width,
                             index, index);
      break;
    }
    case Unit::GramAdjoint: {
      // Scaled operands of one level, and the factors they were scaled by.
      auto adjoint = cast<DecayGramAdjointOp>(unit.op);
      for (Value result : adjoint.getGradients())
        bind(result, index);
      int64_t maxHalf = llvm::PowerOf2Ceil(g.tokens) / 2;
      int64_t operands = adjoint.getRows().size() + adjoint.getCols().size();
      unit.scratch = addSlot((operands * maxHalf + 2 * (maxHalf + 1)) *
                                 describe(adjoint.getDecay()).stride,
                             index, index);
      break;
    }
    default:
      break;
    }
  };
  for (auto [position, unit] : llvm::enumerate(units)) {
    allocateUnit(unit, position);
    for (Unit &other : unit.others)
      allocateUnit(other, position);
  }

  // First fit, largest first.
  auto bySize = llvm::to_vector(llvm::seq<unsigned>(0, slots.size()));
  llvm::stable_sort(bySize, [&](unsigned a, unsigned b) {
    return slots[a].bytes > slots[b].bytes;
  });
  SmallVector<unsigned> fixed;
  for (unsigned current : bySize) {
    Slot &slot = slots[current];
    SmallVector<const Slot *> overlapping;
    for (unsigned other : fixed)
      if (slots[other].begin <= slot.end && slot.begin <= slots[other].end)
        overlapping.push_back(&slots[other]);
    llvm::sort(overlapping, [](const Slot *a, const Slot *b) {
      return a->offset < b->offset;
    });
    for (const Slot *other : overlapping)
      if (slot.offset + slot.bytes > other->offset)
        slot.offset = std::max(slot.offset, other->offset + other->bytes);
    arenaBytes = std::max(arenaBytes, slot.offset + slot.bytes);
    fixed.push_back(current);
  }
}

//===----------------------------------------------------------------------===//
// Plan::build
//===----------------------------------------------------------------------===//

LogicalResult Plan::addStates(func::FuncOp function,
                              const CpuMapOptions &options) {
  SmallVector<ArgAttr> args;
  for (ArgAttr arg : signature.getAllArgs())
    if (arg.getKind() != ArgKind::Out && arg.getKind() != ArgKind::Sum &&
        arg.getKind() != ArgKind::Checkpoint)
      args.push_back(arg);
  FailureOr<Plan> plan =
      build(function,
            signature.withArgs(args).withOption(
                "fn", StringAttr::get(signature.getContext(), "forward")),
            options);
  if (failed(plan))
    return failure();
  states = std::make_shared<Plan>(std::move(*plan));
  statesByte = llvm::alignTo(arenaBytes, 64);
  savedByte = statesByte + llvm::alignTo(states->arenaBytes, 64);
  const Geometry &g = states->geometry;
  arenaBytes = savedByte + signature.getIntOption("save_every").value_or(1) *
                               g.stateRows * g.paddedCols() * g.elementBytes();
  return success();
}

FailureOr<Plan> Plan::build(func::FuncOp function, SignatureAttr signature,
                            const CpuMapOptions &options) {
  Plan plan;
  plan.function = function;
  plan.signature = signature;
  plan.isWhole = signature.getOption("fn") == "backward";
  if (failed(plan.checkProgram()))
    return failure();
  if (plan.isWhole)
    transposeProducts(function);
  for (Operation &op :
       llvm::make_early_inc_range(llvm::reverse(function.front())))
    if (isOpTriviallyDead(&op))
      op.erase();
  if (failed(plan.chooseGeometry(options)) || failed(plan.findSlices()))
    return failure();
  plan.findStored();
  plan.buildUnits();
  if (plan.isWhole)
    plan.joinProducts();
  if (failed(plan.schedule()))
    return failure();
  plan.allocate();
  return plan;
}
