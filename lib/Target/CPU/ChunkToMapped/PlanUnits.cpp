//===- PlanUnits.cpp - Pieces of a kernel, their order and their memory ---===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The second half of the plan: loop nests are formed (chains of products with
// what follows them, elementwise values of one shape), put in an order, and
// given arena memory by liveness.
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

//===----------------------------------------------------------------------===//
// Forming units
//===----------------------------------------------------------------------===//

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

/// What a unit computes and others read.
static void collectProduced(const Unit &unit, llvm::DenseSet<Value> &values) {
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

//===----------------------------------------------------------------------===//
// Order
//===----------------------------------------------------------------------===//

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

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

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
