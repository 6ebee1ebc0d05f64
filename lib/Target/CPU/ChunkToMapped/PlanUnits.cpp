//===- PlanUnits.cpp - Pieces of a kernel
//-----------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loop nests are formed: chains of products with what follows them, elementwise
// values of one shape.
//
//===----------------------------------------------------------------------===//

#include "Plan.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

static unsigned
getPosition(Value value, const llvm::DenseMap<Operation *, unsigned> &order) {
  Operation *op = value.getDefiningOp();
  return op ? order.lookup(op) + 1 : 0;
}

/// The product that adds this one's result in registers, if any.
static MatmulOp getNextInChain(MatmulOp matmul, const Plan &plan) {
  if (!matmul.getResult().hasOneUse())
    return {};
  OpOperand &use = *matmul.getResult().getUses().begin();
  auto next = dyn_cast<MatmulOp>(use.getOwner());
  if (!next || next.getTransposeRhs() || next.getAcc() != matmul.getResult() ||
      use.getOperandNumber() != 2 ||
      plan.getSlice(next.getResult()) != plan.getSlice(matmul.getResult()))
    return {};
  return next;
}

static Unit makeElementwise(Root root, Slice slice, unsigned position) {
  Unit unit;
  unit.kind = Unit::Elementwise;
  unit.slice = slice;
  unit.position = position;
  Value shaped = root.value;
  if (root.kind == Root::Total)
    shaped = shaped.getDefiningOp()->getOperand(0);
  std::tie(unit.rows, unit.cols) = getShape(shaped);
  unit.roots.push_back(root);
  return unit;
}

void Plan::buildUnits() {
  llvm::DenseMap<Operation *, unsigned> order;
  for (auto [index, op] : llvm::enumerate(function.front()))
    order[&op] = index;
  auto add = [&](Unit::Kind kind, Operation *op) {
    Unit unit;
    unit.kind = kind;
    unit.op = op;
    unit.slice = getSlice(op->getResult(0));
    unit.position = order[op] + 1;
    units.push_back(unit);
  };
  auto addRoot = [&](Root root, Slice slice) {
    units.push_back(
        makeElementwise(root, slice, getPosition(root.value, order)));
  };

  for (BlockArgument argument : function.getArguments()) {
    if (!stored.contains(argument))
      continue;
    if (getRank(argument) == 2) {
      addRoot({Root::Store, argument}, getSlice(argument));
      continue;
    }
    Unit unit;
    unit.kind = Unit::Copy;
    unit.slice = Slice::Free;
    unit.value = argument;
    units.push_back(unit);
  }
  for (Operation &op : function.front().without_terminator()) {
    Value result = op.getResult(0);
    if (isa<arith::ConstantOp>(op)) {
      if (stored.contains(result))
        addRoot({Root::Store, result}, getSlice(result));
    } else if (isa<SumOp>(op)) {
      add(Unit::Sum, &op);
    } else if (isa<PrefixProductOp, TotalProductOp, PrefixSumOp, LinearScanOp>(
                   op) &&
               getRank(op.getOperand(0)) == 1) {
      add(Unit::VectorScan, &op);
    } else if (isa<TotalProductOp, TokenSumOp>(op)) {
      addRoot({Root::Total, result}, getSlice(result));
    } else if (isa<DecayGramOp>(op)) {
      add(Unit::Gram, &op);
    } else if (isa<TriSolveOp>(op)) {
      add(Unit::Solve, &op);
    } else if (isa<TransposeOp>(op)) {
      add(Unit::Transpose, &op);
    } else if (isa<DiagonalOp>(op)) {
      add(Unit::Diagonal, &op);
    } else if (isa<DecayGramAdjointOp>(op)) {
      add(Unit::GramAdjoint, &op);
    } else if (auto matmul = dyn_cast<MatmulOp>(op)) {
      if (matmul.getTransposeRhs()) {
        add(Unit::Dot, &op);
        continue;
      }
      if (getNextInChain(matmul, *this)) {
        stored.remove(result);
        continue;
      }
      add(Unit::Matmul, &op);
      SmallVector<MatmulOp> &chain = units.back().chain;
      for (MatmulOp link = matmul; link;) {
        chain.insert(chain.begin(), link);
        auto before = link.getAcc() ? link.getAcc().getDefiningOp<MatmulOp>()
                                    : MatmulOp();
        link = before && !before.getTransposeRhs() &&
                       getNextInChain(before, *this) == link
                   ? before
                   : MatmulOp();
      }
    } else if (getRank(result) == 0) {
      add(Unit::Scalar, &op);
    } else if (stored.contains(result)) {
      addRoot({Root::Store, result}, getSlice(result));
    }
  }

  Value newState = function.front().getTerminator()->getOperand(0);
  if (newState != state)
    addRoot({Root::State, newState}, getSlice(state));
  for (auto [index, out] : llvm::enumerate(outs)) {
    Slice slice = std::max(getSlice(out), Slice::Free);
    if (getRank(out) == 2) {
      addRoot({Root::Out, out, static_cast<unsigned>(index)}, slice);
      continue;
    }
    Unit unit;
    unit.kind = Unit::OutScalars;
    unit.slice = slice;
    unit.position = getPosition(out, order);
    unit.value = out;
    unit.out = index;
    units.push_back(unit);
  }
  for (auto [index, sum] : llvm::enumerate(sums)) {
    if (getRank(sum) == 1) {
      addRoot({Root::Sum, sum, static_cast<unsigned>(index)}, Slice::Free);
      continue;
    }
    Unit unit;
    unit.kind = Unit::SumScalar;
    unit.slice = Slice::Free;
    unit.position = getPosition(sum, order);
    unit.value = sum;
    unit.out = index;
    units.push_back(unit);
  }

  // What follows a product is computed from its accumulators if that is all
  // the product is used for.
  llvm::SmallBitVector erased(units.size());
  llvm::DenseMap<Value, SmallVector<unsigned>> readersOf;
  for (auto [index, unit] : llvm::enumerate(units)) {
    llvm::SetVector<Value> reads;
    collectUnitReads(unit, reads);
    for (Value value : reads)
      readersOf[value].push_back(index);
  }
  llvm::DenseMap<unsigned, unsigned> mergedInto;
  for (auto [position, unit] : llvm::enumerate(units)) {
    if (unit.kind != Unit::Matmul)
      continue;
    Value result = unit.getChainResult();
    bool readsWholeState = llvm::any_of(unit.chain, [&](MatmulOp link) {
      return link.getLhs() == state || link.getRhs() == state;
    });
    bool others = false; // readers that need the buffer
    SmallVector<unsigned> readers;
    for (unsigned index : readersOf.lookup(result)) {
      if (auto merged = mergedInto.find(index); merged != mergedInto.end())
        index = merged->second;
      if (index == position)
        continue;
      const Unit &other = units[index];
      bool fits = other.kind == Unit::Elementwise && other.roots.size() == 1 &&
                  other.slice == unit.slice &&
                  other.roots[0].kind != Root::Total &&
                  std::make_pair(other.rows, other.cols) == getShape(result) &&
                  !(other.roots[0].kind == Root::Store &&
                    (isRowScan(other.roots[0].value.getDefiningOp()))) &&
                  !(other.roots[0].kind == Root::State && readsWholeState);
      if (fits)
        readers.push_back(index);
      else
        others = true;
    }
    bool direct = llvm::all_of(readers, [&](unsigned index) {
      return units[index].roots[0].value == result &&
             units[index].roots[0].kind == Root::Out;
    });
    if (!others && (readers.size() == 1 || direct) && !readers.empty()) {
      stored.remove(result);
    } else {
      unit.roots.push_back({Root::Store, result});
      llvm::erase_if(readers, [&](unsigned index) {
        return units[index].roots[0].value != result ||
               units[index].roots[0].kind != Root::Out;
      });
    }
    for (unsigned index : readers) {
      unit.roots.push_back(units[index].roots[0]);
      erased.set(index);
      mergedInto[index] = position;
    }
  }
  std::vector<Unit> kept;
  for (auto [index, unit] : llvm::enumerate(units))
    if (!erased.test(index))
      kept.push_back(std::move(unit));
  units = std::move(kept);
}

void cpumap::collectProduced(const Unit &unit, llvm::DenseSet<Value> &values) {
  if (unit.op && unit.kind != Unit::Matmul)
    values.insert(unit.op->result_begin(), unit.op->result_end());
  if (unit.kind == Unit::Copy)
    values.insert(unit.value);
  for (const Root &root : unit.roots)
    if (root.kind == Root::Store || root.kind == Root::Total)
      values.insert(root.value);
  for (const Unit &other : unit.beside)
    collectProduced(other, values);
}

/// Joins products of one left operand where neither needs the other. Many such
/// are better off as a loop.
void Plan::joinProducts() {
  auto fits = [&](const Unit &unit) {
    if (unit.kind != Unit::Matmul || unit.chain.size() != 1 ||
        unit.roots.size() != 1 || unit.roots[0].kind != Root::Store)
      return false;
    MatmulOp product = unit.chain.front();
    return !product.getAcc() && !product.getTransposeLhs() &&
           !product.getTriangular() &&
           unit.roots[0].value == product.getResult() &&
           getShape(product.getResult()).second <= geometry.lanes;
  };
  llvm::MapVector<Value, SmallVector<unsigned>> byOperand;
  llvm::DenseMap<Value, unsigned> producer;
  for (auto [index, unit] : llvm::enumerate(units)) {
    llvm::DenseSet<Value> produced;
    collectProduced(unit, produced);
    for (Value value : produced)
      producer[value] = index;
    if (fits(unit))
      byOperand[unit.chain.front().getLhs()].push_back(index);
  }
  llvm::DenseMap<unsigned, unsigned> partner;
  auto needsEither = [&](unsigned a, unsigned b) {
    SmallVector<unsigned> pending = {a, b};
    llvm::SmallBitVector seen(units.size());
    while (!pending.empty()) {
      llvm::SetVector<Value> reads;
      collectUnitReads(units[pending.pop_back_val()], reads);
      for (Value value : reads) {
        auto it = producer.find(value);
        if (it == producer.end() || seen.test(it->second))
          continue;
        if (it->second == a || it->second == b)
          return true;
        seen.set(it->second);
        pending.push_back(it->second);
        if (auto other = partner.find(it->second); other != partner.end())
          pending.push_back(other->second);
      }
    }
    return false;
  };
  for (auto &[operand, candidates] : byOperand) {
    if (candidates.size() >= kLeastMembers)
      continue;
    for (size_t i = 0; i < candidates.size(); ++i)
      for (size_t j = i + 1; j < candidates.size(); ++j) {
        unsigned a = candidates[i], b = candidates[j];
        if (partner.count(a) || partner.count(b) ||
            units[a].chain[0].getType() != units[b].chain[0].getType() ||
            needsEither(a, b))
          continue;
        partner[a] = b;
        partner[b] = a;
      }
  }
  std::vector<Unit> joined;
  for (auto [index, unit] : llvm::enumerate(units)) {
    auto it = partner.find(index);
    if (it != partner.end() && it->second < index)
      continue;
    joined.push_back(unit);
    if (it != partner.end())
      joined.back().beside.push_back(units[it->second]);
  }
  units = std::move(joined);
}

void Plan::collectUnitReads(const Unit &unit,
                            llvm::SetVector<Value> &reads) const {
  for (const Unit &other : unit.others)
    collectUnitReads(other, reads);
  for (const Unit &other : unit.beside)
    collectUnitReads(other, reads);
  auto ofOperands = [&](Value value) {
    if (Operation *op = value.getDefiningOp())
      for (Value operand : op->getOperands())
        collectReads(operand, reads);
  };
  if (unit.op && unit.kind != Unit::Matmul)
    ofOperands(unit.op->getResult(0));
  if (unit.kind == Unit::OutScalars || unit.kind == Unit::SumScalar)
    collectReads(unit.value, reads);
  for (MatmulOp link : unit.chain) {
    collectReads(link.getLhs(), reads);
    collectReads(link.getRhs(), reads);
  }
  if (!unit.chain.empty() && unit.getChainStart())
    collectReads(unit.getChainStart(), reads);
  for (const Root &root : unit.roots) {
    if (root.kind == Root::Store || root.kind == Root::Total)
      ofOperands(root.value);
    else
      collectReads(root.value, reads);
  }
}
