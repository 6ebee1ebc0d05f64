//===- PlanOrder.cpp - The order of a kernel's pieces ---------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Units run as soon as what they read is there, in as few loops as can be.
//
//===----------------------------------------------------------------------===//

#include "Plan.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

static bool writesState(const Unit &unit) {
  return llvm::any_of(
      unit.roots, [](const Root &root) { return root.kind == Root::State; });
}

/// true: last row first, false: first row first, nothing: either.
static std::optional<bool> getDirection(const Root &root) {
  if (root.kind != Root::Store)
    return std::nullopt;
  Operation *op = root.value.getDefiningOp();
  if (!op || !isRowScan(op))
    return std::nullopt;
  return op->hasAttr("reverse");
}

/// Orders the units of each slice: products and solves as soon as they can
/// run, elementwise values in the largest groups, the state's update last.
LogicalResult Plan::schedule() {
  std::vector<Unit> pending = std::move(units), ordered;
  units.clear();
  llvm::stable_sort(pending, [](const Unit &a, const Unit &b) {
    return std::tie(a.slice, a.position) < std::tie(b.slice, b.position);
  });
  llvm::DenseSet<Value> done;
  done.insert(state);
  llvm::SmallBitVector placed(pending.size());
  // What each unit reads, and which units are alike.
  std::vector<llvm::SetVector<Value>> readsOf(pending.size());
  SmallVector<unsigned> family(pending.size()), familySize(pending.size());
  {
    llvm::StringMap<unsigned> families;
    for (auto [index, unit] : llvm::enumerate(pending)) {
      collectUnitReads(unit, readsOf[index]);
      std::string structure = getStructure(unit, unit.leaves);
      if (structure.empty())
        structure = std::to_string(index);
      family[index] = families.try_emplace(structure, index).first->second;
      ++familySize[family[index]];
    }
  }
  auto isReady = [&](unsigned index, const llvm::DenseSet<Value> &more) {
    const Unit &unit = pending[index];
    return llvm::all_of(readsOf[index], [&](Value value) {
      return done.contains(value) || more.contains(value) ||
             (unit.kind == Unit::Matmul && value == unit.getChainResult());
    });
  };
  llvm::DenseSet<Value> none;
  auto place = [&](unsigned index) {
    collectProduced(pending[index], done);
    placed.set(index);
  };
  // Places the units among `candidates` that can run in one loop with
  // `first`, if there are enough of them.
  auto placeFamily = [&](unsigned first, ArrayRef<unsigned> candidates) {
    SmallVector<unsigned> members;
    for (unsigned index : candidates)
      if (family[index] == family[first] && isReady(index, none))
        members.push_back(index);
    if (members.size() < kLeastMembers)
      return false;
    for (unsigned index : members)
      place(index);
    Unit unit = pending[members.front()];
    for (unsigned index : ArrayRef(members).drop_front())
      unit.others.push_back(pending[index]);
    ordered.push_back(std::move(unit));
    return true;
  };

  for (Slice slice : {Slice::Hoisted, Slice::Free, Slice::Panel}) {
    auto candidates = [&](bool elementwise, bool last) {
      SmallVector<unsigned> indices;
      for (auto [index, unit] : llvm::enumerate(pending))
        if (!placed.test(index) && unit.slice == slice &&
            (unit.kind == Unit::Elementwise) == elementwise &&
            writesState(unit) == last)
          indices.push_back(index);
      return indices;
    };
    auto findReady =
        [&](ArrayRef<unsigned> indices) -> std::optional<unsigned> {
      for (unsigned index : indices)
        if (isReady(index, none))
          return index;
      return std::nullopt;
    };
    while (true) {
      SmallVector<unsigned> others = candidates(false, false);
      if (auto index = findReady(others)) {
        if (placeFamily(*index, others))
          continue;
        place(*index);
        ordered.push_back(pending[*index]);
        continue;
      }
      SmallVector<unsigned> roots = candidates(true, false);
      if (auto first = findReady(roots)) {
        if (placeFamily(*first, roots))
          continue;
        Unit group = pending[*first];
        std::optional<bool> direction = getDirection(group.roots[0]);
        llvm::DenseSet<Value> inGroup;
        collectProduced(group, inGroup);
        place(*first);
        for (bool changed = true; changed;) {
          changed = false;
          for (unsigned index : roots) {
            const Unit &unit = pending[index];
            if (placed.test(index) || unit.rows != group.rows ||
                unit.cols != group.cols || !isReady(index, inGroup))
              continue;
            // Those that have a loop of their own, or will.
            if (family[index] != family[*first] &&
                familySize[family[index]] >= kLeastMembers)
              continue;
            std::optional<bool> other = getDirection(unit.roots[0]);
            if (direction && other && *direction != *other)
              continue;
            // A total is complete only after the loop.
            if (llvm::any_of(group.roots, [&](const Root &root) {
                  return root.kind == Root::Total &&
                         readsOf[index].contains(root.value);
                }))
              continue;
            if (other)
              direction = other;
            group.roots.push_back(unit.roots[0]);
            collectProduced(unit, inGroup);
            place(index);
            changed = true;
          }
        }
        group.reverse = direction.value_or(false);
        ordered.push_back(group);
        continue;
      }
      SmallVector<unsigned> last = candidates(false, true);
      llvm::append_range(last, candidates(true, true));
      if (auto index = findReady(last)) {
        place(*index);
        ordered.push_back(pending[*index]);
        continue;
      }
      break;
    }
  }
  if (!placed.all())
    return function.emitError(
        "the CPU mapping found no order for the chunk program's operations");
  units = std::move(ordered);

  // Values that only their own loop nest reads need no memory.
  llvm::DenseSet<Value> readElsewhere;
  for (const Unit &unit : units) {
    llvm::SetVector<Value> reads;
    collectUnitReads(unit, reads);
    llvm::DenseSet<Value> own;
    if (unit.kind == Unit::Elementwise && unit.others.empty())
      collectProduced(unit, own);
    for (Value value : reads)
      if (!own.contains(value))
        readElsewhere.insert(value);
  }
  for (Unit &unit : units) {
    if (unit.kind != Unit::Elementwise || !unit.others.empty())
      continue;
    llvm::erase_if(unit.roots, [&](const Root &root) {
      if (root.kind != Root::Store || readElsewhere.contains(root.value))
        return false;
      stored.remove(root.value);
      return true;
    });
  }
  return success();
}
