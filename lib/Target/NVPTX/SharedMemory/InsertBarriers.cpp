//===- InsertBarriers.cpp - Order the accesses to shared memory -----------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A walk over structured control flow that keeps what has been touched since
// the last barrier.
//
//===----------------------------------------------------------------------===//

#include "Accesses.h"
#include "delta/Target/NVPTX/Kernel.h"
#include "delta/Target/NVPTX/SharedMemory/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Matchers.h"

namespace mlir::delta {
#define GEN_PASS_DEF_DELTAINSERTBARRIERS
#include "delta/Target/NVPTX/SharedMemory/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::sharedmemory;

namespace {

enum class Order { None, Warp, Block };

/// An access that a later one may have to wait for.
struct Pending {
  Access access;
  /// Of an earlier iteration of these loops: values defined in them are others.
  SmallVector<scf::ForOp> stale;
  /// A warp barrier has come since.
  bool warpOrdered = false;
};

class BarrierInserter {
public:
  explicit BarrierInserter(gpu::GPUFuncOp kernel) : kernel(kernel) {}

  LogicalResult run() {
    visit(kernel.getBody().front(), /*uniform=*/true);
    return failure(failed);
  }

private:
  /// Is the value the same in both accesses' iterations?
  static bool isFixed(Value value, const Pending &pending) {
    return llvm::none_of(pending.stale, [&](scf::ForOp loop) {
      return loop.getBody()->getParent()->isAncestor(value.getParentRegion());
    });
  }

  /// Different iterations of a stale loop that both index an axis with the
  /// loop's variable, by tiles not larger than its step, touch other places.
  static bool differByIteration(const Pending &pending, const Access &now) {
    for (scf::ForOp loop : pending.stale) {
      APInt step;
      if (!matchPattern(loop.getStep(), m_ConstantInt(&step)))
        continue;
      unsigned shared =
          std::min(now.indices.size(), pending.access.indices.size());
      int64_t rank =
          cast<warp::SharedType>(now.array.getResult().getType()).getRank();
      if (pending.access.array != now.array)
        continue;
      for (unsigned axis = 0; axis < shared; ++axis) {
        if (now.indices[axis] != loop.getInductionVar() ||
            pending.access.indices[axis] != loop.getInductionVar())
          continue;
        // The tile covers the last axes; an index alone is one place.
        auto size = [&](const Access &access) -> int64_t {
          int64_t fromEnd = rank - axis;
          int64_t given = access.extent.size();
          return fromEnd <= given ? access.extent[given - fromEnd] : 1;
        };
        if (std::max(size(now), size(pending.access)) <= step.getSExtValue())
          return true;
      }
    }
    return false;
  }

  static bool isConstant(Value value, int64_t &number) {
    APInt constant;
    if (!matchPattern(value, m_ConstantInt(&constant)))
      return false;
    number = constant.getSExtValue();
    return true;
  }

  /// Is the value the parity of one of the loops' iterations, or 1 minus it?
  static bool alternates(Value value, ArrayRef<scf::ForOp> loops) {
    int64_t number;
    if (auto difference = value.getDefiningOp<arith::SubIOp>())
      if (isConstant(difference.getLhs(), number) && number == 1)
        value = difference.getRhs();
    auto parity = value.getDefiningOp<arith::RemUIOp>();
    if (!parity || !isConstant(parity.getRhs(), number) || number != 2)
      return false;
    return llvm::any_of(loops, [&](scf::ForOp loop) {
      int64_t step;
      return parity.getLhs() == loop.getInductionVar() &&
             isConstant(loop.getStep(), step) && step % 2;
    });
  }

  /// Is one of them 1 minus the other?
  static bool areComplements(Value a, Value b) {
    for (auto [x, y] : {std::pair(a, b), std::pair(b, a)})
      if (auto difference = x.getDefiningOp<arith::SubIOp>()) {
        int64_t number;
        if (difference.getRhs() == y &&
            isConstant(difference.getLhs(), number) && number == 1)
          return true;
      }
    return false;
  }

  /// Do both stand in a branch that one warp alone takes?
  static bool inOneWarp(Operation *before, Operation *now) {
    for (auto branch = now->getParentOfType<scf::IfOp>(); branch;
         branch = branch->getParentOfType<scf::IfOp>()) {
      Region &taken = branch.getThenRegion();
      if (!taken.isAncestor(before->getParentRegion()) ||
          !taken.isAncestor(now->getParentRegion()))
        continue;
      auto compare = branch.getCondition().getDefiningOp<arith::CmpIOp>();
      int64_t number;
      if (compare && compare.getPredicate() == arith::CmpIPredicate::eq &&
          compare.getLhs().getDefiningOp<warp::WarpIdOp>() &&
          isConstant(compare.getRhs(), number))
        return true;
    }
    return false;
  }

  Order getOrder(const Pending &pending, const Access &now) {
    const Access &before = pending.access;
    if (!before.write && !now.write)
      return Order::None;
    auto getRange = [](const Access &access) {
      int64_t offset = access.array.getOffset().value_or(0);
      auto type = cast<warp::SharedType>(access.array.getResult().getType());
      return std::make_pair(offset, offset + type.getBytes());
    };
    auto [beforeBegin, beforeEnd] = getRange(before);
    auto [nowBegin, nowEnd] = getRange(now);
    if (beforeEnd <= nowBegin || nowEnd <= beforeBegin)
      return Order::None;
    if (inOneWarp(before.op, now.op))
      return pending.warpOrdered ? Order::None : Order::Warp;
    bool samePlace = before.array == now.array ||
                     (beforeBegin == nowBegin &&
                      before.array.getType() == now.array.getType());
    if (!samePlace)
      return Order::Block;
    if (before.array == now.array) {
      if (differByIteration(pending, now))
        return Order::None;
      // Levels of one Gram have places of their own.
      auto levelBefore = dyn_cast<warp::StoreLevelOp>(before.op);
      auto levelNow = dyn_cast<warp::StoreLevelOp>(now.op);
      if (levelBefore && levelNow && before.indices == now.indices &&
          levelBefore.getDistance() != levelNow.getDistance() &&
          pending.stale.empty())
        return Order::None;
      // So have pairs of different rows and columns, below the diagonal or, with
      // transpose, above it.
      auto pairsBefore = dyn_cast<warp::StorePairsOp>(before.op);
      auto pairsNow = dyn_cast<warp::StorePairsOp>(now.op);
      if (pairsBefore && pairsNow) {
        if (pairsBefore.getTranspose() != pairsNow.getTranspose())
          return Order::None;
        int64_t x, y;
        for (auto [a, b] : llvm::zip_equal(before.indices, now.indices))
          if (isConstant(a, x) && isConstant(b, y) && x != y)
            return Order::None;
      }
      // Constant indices that differ along the leading axes.
      unsigned lead =
          cast<warp::SharedType>(now.array.getResult().getType()).getRank();
      lead = lead > 2 ? lead - 2 : lead - 1;
      for (unsigned axis = 0;
           axis < std::min<size_t>({lead, before.indices.size(),
                                    now.indices.size()});
           ++axis) {
        int64_t x, y;
        if (isConstant(before.indices[axis], x) &&
            isConstant(now.indices[axis], y) && x != y)
          return Order::None;
      }
      // Two stages in turn: x and 1 - x of the same iteration.
      if (!before.indices.empty() && !now.indices.empty() &&
          pending.stale.empty() &&
          areComplements(before.indices[0], now.indices[0]))
        return Order::None;
      // The same index an iteration later is the other one. (A copy is waited
      // for in every iteration, so it is from the last one.)
      if (before.async && !before.indices.empty() && !now.indices.empty() &&
          before.indices[0] == now.indices[0] &&
          alternates(before.indices[0], pending.stale))
        return Order::None;
      // A copy goes to a stage that nobody reads before it is waited for.
      bool stages = cast<warp::SharedType>(now.array.getResult().getType())
                        .getShape()[0] > 1;
      if ((before.async || now.async) && stages && !before.indices.empty() &&
          !now.indices.empty() && before.indices[0] != now.indices[0] &&
          isFixed(before.indices[0], pending))
        return Order::None;
      // Two copies of one group never meet: they have places of their own.
      if (before.async && now.async && pending.stale.empty())
        return Order::None;
    }
    // The same warp: the same index, made from the warp's number.
    bool sameWarp = false;
    if (!before.block && !now.block) {
      sameWarp = isSameWarpTile(before, now);
      for (unsigned axis = 0;
           axis < std::min(before.indices.size(), now.indices.size()); ++axis)
        sameWarp |= isSameWarpNumber(before.indices[axis], now.indices[axis]);
    }
    if (!sameWarp)
      return Order::Block;
    // ldmatrix has read before the warp goes on.
    if (!before.write && isa<warp::SharedLoadOp>(before.op) &&
        getElementTypeOrSelf(before.op->getResult(0).getType())
                .getIntOrFloatBitWidth() == 16)
      return Order::None;
    return pending.warpOrdered ? Order::None : Order::Warp;
  }

  Order getOrder(ArrayRef<Access> accesses, Operation *&blocked) {
    Order order = Order::None;
    for (const Access &now : accesses)
      for (const Pending &before : pending) {
        Order needed = getOrder(before, now);
        if (needed == Order::Block && before.access.async) {
          blocked = now.op;
          continue;
        }
        order = std::max(order, needed);
      }
    return order;
  }

  void clear() {
    llvm::erase_if(pending, [](const Pending &p) { return !p.access.async; });
  }

  void insert(Order order, Operation *before) {
    OpBuilder builder(before);
    if (order == Order::Block) {
      if (!dry)
        gpu::BarrierOp::create(builder, before->getLoc());
      clear();
    } else if (order == Order::Warp) {
      if (!dry)
        warp::WarpBarrierOp::create(builder, before->getLoc());
      for (Pending &p : pending)
        p.warpOrdered = true;
    }
  }

  void record(const Access &access) { pending.push_back({access, {}, false}); }

  /// Some warps take one branch while others take the other: nothing orders
  /// them, so what one writes must be nobody else's.
  void checkSideBySide(scf::IfOp branch) {
    auto collect = [](Region &region) {
      SmallVector<Access> accesses;
      region.walk([&](Operation *op) {
        llvm::append_range(accesses, getAccesses(op));
      });
      return accesses;
    };
    SmallVector<Access> others = collect(branch.getElseRegion());
    for (const Access &mine : collect(branch.getThenRegion()))
      for (const Access &other : others) {
        if (getOrder({mine, {}, false}, other) != Order::Block)
          continue;
        // Different windows' places.
        auto type = cast<warp::SharedType>(mine.array.getResult().getType());
        if (mine.array == other.array && type.getShape()[0] > 1 &&
            !mine.indices.empty() && !other.indices.empty() &&
            mine.indices[0] != other.indices[0])
          continue;
        return error(other.op, "touches shared memory that warps in the other "
                               "branch touch at the same time");
      }
  }

  void error(Operation *op, const char *what) {
    if (!failed)
      op->emitError() << what;
    failed = true;
  }

  void visit(Block &block, bool uniform) {
    for (Operation &op : llvm::make_early_inc_range(block)) {
      if (failed)
        return;
      if (isa<gpu::BarrierOp>(op)) {
        clear();
        continue;
      }
      if (isa<warp::WarpBarrierOp>(op)) {
        for (Pending &p : pending)
          p.warpOrdered = true;
        continue;
      }
      if (auto wait = dyn_cast<warp::AsyncWaitOp>(op)) {
        if (wait.getPending() == 0)
          for (Pending &p : pending)
            p.access.async = false;
        continue;
      }
      if (op.getNumRegions() == 0) {
        SmallVector<Access> accesses = getAccesses(&op);
        Operation *blocked = nullptr;
        Order order = getOrder(accesses, blocked);
        if (blocked)
          return error(blocked, "touches shared memory that an asynchronous "
                                "copy still writes; it needs an async_wait "
                                "before");
        if (order == Order::Block && !uniform)
          return error(&op, "needs a barrier of the whole block where not all "
                            "of its warps come");
        insert(order, &op);
        for (const Access &access : accesses)
          record(access);
        continue;
      }

      // What comes before the region is ordered before it: a barrier in a loop
      // would run once an iteration.
      SmallVector<Access> inner;
      bool waits = false;
      op.walk([&](Operation *nested) {
        waits |= isa<warp::AsyncWaitOp>(nested);
        if (!waits)
          llvm::append_range(inner, getAccesses(nested));
      });
      Operation *blocked = nullptr;
      Order order = getOrder(inner, blocked);
      if (order == Order::Block) {
        if (uniform)
          insert(order, &op);
        else
          return error(&op, "needs a barrier of the whole block where not all "
                            "of its warps come");
      }
      if (auto loop = dyn_cast<scf::ForOp>(op)) {
        bool inside = uniform && !dependsOnWarp(loop.getLowerBound()) &&
                      !dependsOnWarp(loop.getUpperBound());
        SmallVector<Pending> before = pending;
        auto visitOnce = [&](bool isDry) {
          bool wasDry = std::exchange(dry, dry || isDry);
          visit(*loop.getBody(), inside);
          dry = wasDry;
          for (Pending &p : pending)
            if (loop->isProperAncestor(p.access.op))
              p.stale.push_back(loop);
          pending.append(before.begin(), before.end());
          deduplicate();
        };
        // What an iteration leaves behind comes first, so that a barrier that
        // it needs at the top serves all; then for good, and once more to see
        // that nothing is missing.
        visitOnce(/*isDry=*/true);
        visitOnce(/*isDry=*/false);
        visitOnce(/*isDry=*/false);
        continue;
      }
      bool inside = uniform;
      if (auto branch = dyn_cast<scf::IfOp>(op)) {
        inside &= !dependsOnWarp(branch.getCondition());
        if (isSideBySide(branch))
          checkSideBySide(branch);
      }
      SmallVector<Pending> entry = pending, merged;
      for (Region &region : op.getRegions())
        for (Block &nested : region) {
          pending = entry;
          visit(nested, inside);
          merged.append(pending.begin(), pending.end());
        }
      // A region may not have run: what came before still stands.
      merged.append(entry.begin(), entry.end());
      pending = std::move(merged);
      deduplicate();
    }
  }

  /// One entry for each operation, array and age.
  void deduplicate() {
    SmallVector<Pending> unique;
    for (Pending &p : pending) {
      llvm::sort(p.stale, [](scf::ForOp a, scf::ForOp b) {
        return a.getAsOpaquePointer() < b.getAsOpaquePointer();
      });
      p.stale.erase(llvm::unique(p.stale), p.stale.end());
      bool known = false;
      for (Pending &other : unique)
        if (other.access.op == p.access.op &&
            other.access.array == p.access.array && other.stale == p.stale &&
            other.access.async == p.access.async) {
          known = true;
          other.warpOrdered &= p.warpOrdered;
        }
      if (!known)
        unique.push_back(p);
    }
    pending = std::move(unique);
  }

  gpu::GPUFuncOp kernel;
  SmallVector<Pending> pending;
  /// Barriers are only thought of.
  bool dry = false;
  bool failed = false;
};

struct InsertBarriers
    : mlir::delta::impl::DeltaInsertBarriersBase<InsertBarriers> {
  void runOnOperation() override {
    for (Operation *op : getGpuKernels(getOperation()))
      if (auto kernel = dyn_cast<gpu::GPUFuncOp>(op))
        if (mlir::failed(BarrierInserter(kernel).run()))
          return signalPassFailure();
  }
};

} // namespace
