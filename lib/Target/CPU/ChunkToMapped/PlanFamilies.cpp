//===- PlanFamilies.cpp - Units that one loop can run ---------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// n micro-steps a token make n * n Gram matrices and n of everything else, all
// alike but for their operands. A unit's structure is its expressions with the
// operands numbered in order of first use: where two structures agree, the code
// of one does for the other once it finds its operands elsewhere.
//
//===----------------------------------------------------------------------===//

#include "Plan.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

namespace {

/// Writes a unit's structure.
class StructureWriter {
public:
  StructureWriter(const Plan &plan, const Unit &unit,
                  SmallVectorImpl<Value> &leaves)
      : plan(plan), unit(unit), leaves(leaves), os(text) {}

  std::string run();

private:
  void write(const Root &root);
  void write(Value value);
  void writeOperation(Operation *op);
  /// An operand that has a place of its own: a buffer, or an array's element.
  void writeLeaf(Value value);
  void writePointer(const void *pointer) { os << pointer << ' '; }

  const Plan &plan;
  const Unit &unit;
  SmallVectorImpl<Value> &leaves;
  llvm::DenseMap<Value, unsigned> ordinals, known;
  bool repeatable = true;
  std::string text;
  llvm::raw_string_ostream os;
};

} // namespace

void StructureWriter::writeLeaf(Value value) {
  auto [it, inserted] = ordinals.try_emplace(value, leaves.size());
  os << '$' << it->second << ' ';
  if (!inserted)
    return;
  leaves.push_back(value);
  os << static_cast<int>(plan.getSlice(value)) << ' ';
  writePointer(value.getType().getAsOpaquePointer());
  if (ArgAttr arg = plan.getArg(value))
    os << arg.getName().getValue() << ' ';
}

void StructureWriter::writeOperation(Operation *op) {
  os << op->getName() << ' ';
  writePointer(op->getAttrDictionary().getAsOpaquePointer());
  writePointer(op->getResult(0).getType().getAsOpaquePointer());
  os << '(';
  for (Value operand : op->getOperands())
    write(operand);
  os << ')';
}

void StructureWriter::write(Value value) {
  if (unit.kind == Unit::Matmul && value == unit.getChainResult()) {
    os << "acc ";
    return;
  }
  // Numbers and the state are the same for all units.
  if (getRank(value) == 0 || value == plan.state) {
    writePointer(value.getAsOpaquePointer());
    return;
  }
  if (auto [it, inserted] = known.try_emplace(value, known.size()); !inserted) {
    os << '#' << it->second << ' ';
    return;
  }
  if (plan.isStored(value) || isa<BlockArgument>(value))
    return writeLeaf(value);
  Operation *op = value.getDefiningOp();
  if (isa<arith::ConstantOp>(op) || plan.isInline(value))
    return writeOperation(op);
  repeatable = false;
}

void StructureWriter::write(const Root &root) {
  // Arrays written from several loops would need a place of their own each.
  if (root.kind != Root::Store) {
    repeatable = false;
    return;
  }
  writeLeaf(root.value);
  os << '=';
  if (unit.kind == Unit::Matmul && root.value == unit.getChainResult())
    os << "acc ";
  else if (Operation *op = root.value.getDefiningOp())
    writeOperation(op);
  os << ';';
}

std::string StructureWriter::run() {
  os << static_cast<int>(unit.kind) << ' ' << static_cast<int>(unit.slice)
     << ' ';
  switch (unit.kind) {
  case Unit::Copy:
    writeLeaf(unit.value);
    break;
  case Unit::Elementwise:
    for (const Root &root : unit.roots)
      write(root);
    break;
  case Unit::Matmul:
    for (MatmulOp link : unit.chain) {
      writePointer(link->getAttrDictionary().getAsOpaquePointer());
      write(link.getLhs());
      write(link.getRhs());
    }
    if (unit.getChainStart())
      write(unit.getChainStart());
    for (const Root &root : unit.roots)
      write(root);
    break;
  case Unit::Dot:
    os << Plan::isUsedBelowDiagonalOnly(unit.op->getResult(0)) << ' ';
    writeLeaf(unit.op->getResult(0));
    writeOperation(unit.op);
    break;
  case Unit::Transpose:
  case Unit::Diagonal:
    writeLeaf(unit.op->getResult(0));
    writeOperation(unit.op);
    break;
  case Unit::Sum:
    repeatable = getRank(unit.op->getOperand(0)) == 2;
    writeLeaf(unit.op->getResult(0));
    writeOperation(unit.op);
    break;
  case Unit::Scalar:
  case Unit::Gram:
  case Unit::GramAdjoint:
  case Unit::Solve:
  case Unit::VectorScan:
  case Unit::OutScalars:
  case Unit::SumScalar:
    repeatable = false;
    break;
  }
  return repeatable ? text : std::string();
}

std::string Plan::getStructure(const Unit &unit,
                               SmallVectorImpl<Value> &leaves) const {
  if (!unit.beside.empty())
    return {};
  return StructureWriter(*this, unit, leaves).run();
}
