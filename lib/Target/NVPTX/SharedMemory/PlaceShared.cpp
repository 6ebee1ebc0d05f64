//===- PlaceShared.cpp - Give every shared array its place ----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Liveness over the kernel's operations in order, with the loop's body as a
// circle, and first fit by size.
//
//===----------------------------------------------------------------------===//

#include "Accesses.h"
#include "delta/Target/NVPTX/Kernel.h"
#include "delta/Target/NVPTX/SharedMemory/Passes.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

namespace mlir::delta {
#define GEN_PASS_DEF_DELTAPLACESHARED
#include "delta/Target/NVPTX/SharedMemory/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::sharedmemory;

namespace {

constexpr int64_t kAlignment = 128;

/// Positions, both included.
using Range = std::pair<int64_t, int64_t>;

struct Array {
  mutable warp::AllocSharedOp op;
  SmallVector<Range> live;
  bool warpPrivate = false;
  int64_t offset = 0;

  int64_t getBytes() const {
    int64_t bytes = cast<warp::SharedType>(op.getResult().getType()).getBytes();
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
};

/// Numbers the kernel's operations in order; finds the outermost loops.
class Liveness {
public:
  explicit Liveness(gpu::GPUFuncOp kernel) {
    kernel.walk<WalkOrder::PreOrder>([&](Operation *op) {
      first[op] = last[op] = next++;
      for (Operation *parent = op->getParentOp(); parent && parent != kernel;
           parent = parent->getParentOp())
        last[parent] = next - 1;
    });
  }

  SmallVector<Range> getLive(warp::AllocSharedOp array) {
    SmallVector<Access> accesses;
    for (Operation *user : array->getUsers())
      for (const Access &access : getAccesses(user))
        if (access.array == array)
          accesses.push_back(access);
    if (accesses.empty())
      return {};
    llvm::sort(accesses, [&](const Access &a, const Access &b) {
      return first[a.op] < first[b.op];
    });
    // The outermost loop that has any of them.
    Operation *loop = nullptr;
    for (const Access &access : accesses)
      if (Operation *outer = getOutermostLoop(access.op)) {
        loop = outer;
        break;
      }
    if (!loop)
      return {{first[accesses.front().op], last[accesses.back().op]}};

    SmallVector<Range> inside;
    bool carried = false, outside = false;
    const Access *copy = nullptr;
    int64_t lastPlain = -1, firstInside = -1, lastInside = -1;
    bool firstIsWrite = false;
    for (const Access &access : accesses) {
      if (!loop->isProperAncestor(access.op)) {
        outside = true;
        continue;
      }
      auto [begin, end] = getSpan(access.op, loop);
      if (firstInside < 0) {
        firstInside = begin;
        firstIsWrite = access.write && !access.async;
      }
      lastInside = std::max(lastInside, end);
      if (access.async) {
        carried = true;
        // Copies of one place stand together; later ones are part of it.
        if (!copy)
          copy = &access;
      } else {
        lastPlain = std::max(lastPlain, end);
      }
    }
    carried |= outside || !firstIsWrite;
    int64_t begin = std::min(first[accesses.front().op], first[loop]);
    int64_t end = std::max(last[accesses.back().op], last[loop]);
    if (!carried)
      return {{firstInside, lastInside}};
    // Refilled after its last use: free in between, unless another stage holds
    // what is wanted next.
    bool single =
        cast<warp::SharedType>(array.getResult().getType()).getShape()[0] == 1;
    if (copy && single && lastPlain >= 0 &&
        getSpan(copy->op, loop).first > lastPlain &&
        last[accesses.back().op] <= last[loop])
      return {{begin, lastPlain}, {getSpan(copy->op, loop).first, end}};
    return {{begin, end}};
  }

private:
  Operation *getOutermostLoop(Operation *op) {
    Operation *loop = nullptr;
    for (Operation *parent = op->getParentOp(); parent;
         parent = parent->getParentOp())
      if (isa<scf::ForOp, scf::WhileOp>(parent))
        loop = parent;
    return loop;
  }

  /// Positions of `op`, widened to the loop directly under `loop` it is in, and
  /// to branches that warps take side by side.
  Range getSpan(Operation *op, Operation *loop) {
    Range span{first[op], last[op]};
    for (Operation *parent = op->getParentOp(); parent && parent != loop;
         parent = parent->getParentOp())
      if (isa<scf::ForOp, scf::WhileOp>(parent) || isSideBySide(parent))
        span = {first[parent], last[parent]};
    return span;
  }

  llvm::DenseMap<Operation *, int64_t> first, last;
  int64_t next = 0;
};

bool overlap(ArrayRef<Range> a, ArrayRef<Range> b) {
  for (auto [aFirst, aLast] : a)
    for (auto [bFirst, bLast] : b)
      if (aFirst <= bLast && bFirst <= aLast)
        return true;
  return false;
}

/// First fit in the given order; returns the bytes used.
int64_t place(MutableArrayRef<Array> arrays, bool anyOverlap) {
  int64_t used = 0;
  for (size_t i = 0; i < arrays.size(); ++i) {
    Array &array = arrays[i];
    int64_t offset = 0;
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t j = 0; j < i; ++j) {
        const Array &other = arrays[j];
        if (offset >= other.offset + other.getBytes() ||
            other.offset >= offset + array.getBytes())
          continue;
        bool mayShare =
            !overlap(array.live, other.live) &&
            (anyOverlap ||
             (offset == other.offset && array.warpPrivate &&
              other.warpPrivate && array.op.getType() == other.op.getType()));
        if (mayShare)
          continue;
        offset = other.offset + other.getBytes();
        moved = true;
      }
    }
    array.offset = offset;
    used = std::max(used, offset + array.getBytes());
  }
  return used;
}

struct PlaceShared : mlir::delta::impl::DeltaPlaceSharedBase<PlaceShared> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<::delta::gpu::GpuTarget> target = getGpuTarget(module);
    if (failed(target))
      return signalPassFailure();
    for (Operation *op : getGpuKernels(module)) {
      auto kernel = dyn_cast<gpu::GPUFuncOp>(op);
      if (kernel && failed(placeIn(kernel, *target)))
        return signalPassFailure();
    }
  }

  LogicalResult placeIn(gpu::GPUFuncOp kernel,
                        const ::delta::gpu::GpuTarget &target) {
    FailureOr<GpuKernelFacts> facts = GpuKernelFacts::get(kernel);
    if (failed(facts))
      return failure();
    Liveness liveness(kernel);
    SmallVector<Array> arrays;
    kernel.walk([&](warp::AllocSharedOp op) {
      Array array;
      array.op = op;
      array.live = liveness.getLive(op);
      array.warpPrivate = isWarpPrivate(op);
      arrays.push_back(array);
    });
    if (arrays.empty())
      return success();
    llvm::stable_sort(arrays, [](const Array &a, const Array &b) {
      return a.getBytes() > b.getBytes();
    });
    int64_t limit = target.getSharedPerCta();
    int64_t used = place(arrays, /*anyOverlap=*/false);
    // What several CTAs share a multiprocessor for is worth some barriers.
    if (used > std::min(limit, target.getSharedBudget(facts->minCtas)))
      used = place(arrays, /*anyOverlap=*/true);
    facts->sharedBytes = used;
    kernel->setAttr(kKernelAttr, facts->getAttr(kernel.getContext()));
    if (used > limit)
      return kernel.emitError()
             << "needs " << used << " bytes of shared memory a CTA, and "
             << target.getName() << " has " << limit
             << "; a smaller window, fewer stages or smaller dims would fit";
    for (Array &array : arrays)
      array.op.setOffset(array.offset);
    return success();
  }
};

} // namespace
