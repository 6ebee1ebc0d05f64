//===- EmitRepeat.cpp - One loop for many units ---------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Units that are alike run in one loop. Where its operands lie in each round is
// read from a constant table: buffers as offsets in the arena, micro-step
// inputs as the number of the micro-step.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

Value Emitter::lookUp(ArrayRef<int64_t> table, Value position) {
  if (llvm::all_equal(table))
    return idx(table.front());
  auto type =
      MemRefType::get({static_cast<int64_t>(table.size())}, b.getIndexType());
  Value &memref = tables[std::vector<int64_t>(table)];
  if (!memref) {
    OpBuilder::InsertionGuard guard(b);
    func::FuncOp source = plan.function;
    std::string name =
        (source.getName() + "_table_" + Twine(tables.size() - 1)).str();
    b.setInsertionPoint(kernel);
    auto values = DenseElementsAttr::get(
        RankedTensorType::get(type.getShape(), type.getElementType()), table);
    memref::GlobalOp::create(b, loc, name, b.getStringAttr("private"), type,
                             values, /*constant=*/true,
                             /*alignment=*/IntegerAttr());
    b.setInsertionPointToStart(&kernel.getBody().front());
    memref = memref::GetGlobalOp::create(b, loc, type, name);
  }
  return memref::LoadOp::create(b, loc, memref, position);
}

int64_t Emitter::offsetOf(const Buffer &buffer) const {
  return plan.slots[buffer.slot].offset + buffer.byteInSlot + arenaByte;
}

Value Emitter::viewAt(const Buffer &like, Value offset) {
  return memref::ViewOp::create(
      b, loc, MemRefType::get({like.rows, like.stride}, g.compute), arena,
      offset, ValueRange{});
}

bool Emitter::areAlike(ValueRange values) {
  const Buffer *first = plan.getBuffer(values.front());
  return first && llvm::all_of(values, [&](Value value) {
           const Buffer *buffer = plan.getBuffer(value);
           return buffer && buffer->rows == first->rows &&
                  buffer->cols == first->cols &&
                  buffer->stride == first->stride &&
                  buffer->panelLocal == first->panelLocal;
         });
}

Emitter::Operand Emitter::getOperandOf(ValueRange values, Value position,
                                       bool inPanel, bool columnwise) {
  Operand operand = getOperand(values.front(), inPanel, columnwise);
  SmallVector<int64_t> offsets;
  for (Value value : values)
    offsets.push_back(offsetOf(*plan.getBuffer(value)));
  if (!llvm::all_equal(offsets))
    operand.memref =
        viewAt(*plan.getBuffer(values.front()), lookUp(offsets, position));
  return operand;
}

int64_t Emitter::getMember(BlockArgument argument) const {
  func::FuncOp source = plan.function;
  auto member =
      source.getArgAttrOfType<IntegerAttr>(argument.getArgNumber(), kMicroAttr);
  return member ? member.getInt() : 0;
}

/// Binds `values[i]` in round `i` of a loop to the code of `values[0]`, and
/// restores what was bound when it goes.
void Emitter::bindInstance(ArrayRef<Value> values, Value round) {
  if (const Buffer *buffer = plan.getBuffer(values.front())) {
    SmallVector<int64_t> offsets;
    for (Value value : values)
      offsets.push_back(offsetOf(*plan.getBuffer(value)));
    if (!llvm::all_equal(offsets))
      bound[{buffer->slot, buffer->byteInSlot}] =
          viewAt(*buffer, lookUp(offsets, round));
  }
  auto argument = dyn_cast<BlockArgument>(values.front());
  if (!argument || llvm::all_equal(values))
    return;
  SmallVector<int64_t> members;
  for (Value value : values)
    members.push_back(getMember(cast<BlockArgument>(value)));
  arrayBase[argument] = getArgumentBase(argument, lookUp(members, round));
}

void Emitter::emitFamily(const Unit &unit) {
  SmallVector<const Unit *> members;
  unit.forEachMember([&](const Unit &member) { members.push_back(&member); });
  auto count = static_cast<int64_t>(members.size());
  Value base = firstStep;
  int64_t steps = getPrefetchSteps(unit);
  llvm::DenseMap<Value, Value> bases = arrayBase;
  loop(0, count, 1, [&](Value round) {
    for (size_t leaf = 0; leaf < unit.leaves.size(); ++leaf) {
      SmallVector<Value> values;
      for (const Unit *member : members)
        values.push_back(member->leaves[leaf]);
      bindInstance(values, round);
    }
    instance = round;
    if (steps)
      firstStep = add(base, mul(round, steps));
    emitUnit(unit);
  });
  instance = Value();
  bound.clear();
  arrayBase = std::move(bases);
  if (steps)
    firstStep = add(base, count * steps);
}
