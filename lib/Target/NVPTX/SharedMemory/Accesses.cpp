//===- Accesses.cpp - Who touches which shared array ----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reads the operands of every operation of the warp dialect that touches
// shared memory.
//
//===----------------------------------------------------------------------===//

#include "Accesses.h"
#include "delta/Target/NVPTX/Kernel.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::sharedmemory;

static Access make(Operation *op, Value array, ValueRange indices, bool write) {
  Access access;
  access.op = op;
  access.array = array.getDefiningOp<warp::AllocSharedOp>();
  access.indices = SmallVector<Value>(indices);
  for (Value &index : access.indices)
    if (auto follow = index.getDefiningOp<warp::FollowOp>())
      index = follow.getValue();
  access.write = write;
  return access;
}

/// Sizes of the tile that `value` is, as the array sees it.
static SmallVector<int64_t> getExtent(Value value, bool transpose) {
  SmallVector<int64_t> extent(
      cast<RankedTensorType>(value.getType()).getShape());
  if (transpose)
    std::swap(extent[0], extent[1]);
  return extent;
}

SmallVector<Access> sharedmemory::getAccesses(Operation *op) {
  SmallVector<Access> result;
  TypeSwitch<Operation *>(op)
      .Case<warp::SharedLoadOp>([&](warp::SharedLoadOp load) {
        result.push_back(make(op, load.getArray(), load.getIndices(), false));
        result.back().extent = getExtent(load.getResult(), load.getTranspose());
      })
      .Case<warp::SharedStoreOp>([&](warp::SharedStoreOp store) {
        result.push_back(make(op, store.getArray(), store.getIndices(), true));
        result.back().extent =
            getExtent(store.getValue(), store.getTranspose());
      })
      .Case<warp::StoreLevelOp>([&](warp::StoreLevelOp store) {
        result.push_back(make(op, store.getArray(), store.getIndices(), true));
        result.back().extent = {16, 16};
      })
      .Case<warp::StorePairsOp>([&](warp::StorePairsOp store) {
        result.push_back(make(op, store.getArray(), store.getIndices(), true));
      })
      .Case<warp::InverseOp>([&](warp::InverseOp inverse) {
        result.push_back(
            make(op, inverse.getSource(), inverse.getSourceIndices(), false));
        result.push_back(
            make(op, inverse.getTarget(), inverse.getTargetIndices(), true));
      })
      .Case<warp::FillSharedOp>([&](warp::FillSharedOp fill) {
        result.push_back(make(op, fill.getArray(), {}, true));
        result.back().block = true;
      })
      .Case<warp::CopyOutOp>([&](warp::CopyOutOp copy) {
        result.push_back(make(op, copy.getArray(), copy.getIndices(), false));
      })
      .Case<warp::AsyncCopyOp, warp::AsyncLoadOp>([&](auto copy) {
        result.push_back(make(op, copy.getArray(), copy.getIndices(), true));
        result.back().block = true;
        result.back().async = true;
      });
  return result;
}

/// The warp's own number.
static bool isWarpId(Value value) {
  return isa_and_nonnull<warp::WarpIdOp, warp::RenewLanesOp>(
      value.getDefiningOp());
}

/// The variable of a loop from a warp's own number, in steps that lead over all
/// warps' numbers: no two warps ever have the same one.
static bool isWarpIteration(Value value, int64_t *width = nullptr) {
  auto argument = dyn_cast<BlockArgument>(value);
  auto loop = argument
                  ? dyn_cast<scf::ForOp>(argument.getOwner()->getParentOp())
                  : scf::ForOp();
  if (!loop || loop.getInductionVar() != value)
    return false;
  auto first = loop.getLowerBound().getDefiningOp<arith::MulIOp>();
  auto kernel = loop->getParentOfType<gpu::GPUFuncOp>();
  APInt step, factor;
  if (!first || !kernel || !isWarpId(first.getLhs()) ||
      !matchPattern(first.getRhs(), m_ConstantInt(&factor)) ||
      !matchPattern(loop.getStep(), m_ConstantInt(&step)))
    return false;
  FailureOr<GpuKernelFacts> facts = GpuKernelFacts::get(kernel);
  if (width)
    *width = factor.getSExtValue();
  return succeeded(facts) && factor.getSExtValue() > 0 &&
         step.getSExtValue() == factor.getSExtValue() * facts->threads / 32;
}

bool sharedmemory::isWarpNumber(Value value) {
  if (isWarpId(value) || isWarpIteration(value))
    return true;
  if (auto difference = value.getDefiningOp<arith::SubIOp>())
    return matchPattern(difference.getRhs(), m_Constant()) &&
           isWarpNumber(difference.getLhs());
  if (auto quotient = value.getDefiningOp<arith::DivUIOp>()) {
    // The number of the iteration.
    APInt divisor;
    int64_t width;
    return matchPattern(quotient.getRhs(), m_ConstantInt(&divisor)) &&
           isWarpIteration(quotient.getLhs(), &width) &&
           divisor.getSExtValue() == width;
  }
  if (auto product = value.getDefiningOp<arith::MulIOp>()) {
    APInt factor;
    if (matchPattern(product.getRhs(), m_ConstantInt(&factor)))
      return !factor.isZero() && isWarpNumber(product.getLhs());
    if (matchPattern(product.getLhs(), m_ConstantInt(&factor)))
      return !factor.isZero() && isWarpNumber(product.getRhs());
  }
  return false;
}

/// `value` = warp mod `divisor`?
static bool isWarpRemainder(Value value, APInt &divisor) {
  auto remainder = value.getDefiningOp<arith::RemUIOp>();
  return remainder && isWarpId(remainder.getLhs()) &&
         matchPattern(remainder.getRhs(), m_ConstantInt(&divisor));
}

/// The variable of a loop from (warp / `divisor`) * `width`, in steps over all
/// such quotients, and a constant.
static bool isQuotientIteration(Value value, int64_t divisor, int64_t &width,
                                int64_t &constant) {
  constant = 0;
  APInt number;
  if (auto sum = value.getDefiningOp<arith::AddIOp>()) {
    if (!matchPattern(sum.getRhs(), m_ConstantInt(&number)))
      return false;
    constant = number.getSExtValue();
    value = sum.getLhs();
  }
  auto argument = dyn_cast<BlockArgument>(value);
  auto loop = argument
                  ? dyn_cast<scf::ForOp>(argument.getOwner()->getParentOp())
                  : scf::ForOp();
  if (!loop || loop.getInductionVar() != value)
    return false;
  auto first = loop.getLowerBound().getDefiningOp<arith::MulIOp>();
  auto quotient =
      first ? first.getLhs().getDefiningOp<arith::DivUIOp>() : arith::DivUIOp();
  auto kernel = loop->getParentOfType<gpu::GPUFuncOp>();
  APInt step;
  if (!quotient || !kernel || !isWarpId(quotient.getLhs()) ||
      !matchPattern(quotient.getRhs(), m_ConstantInt(&number)) ||
      number.getSExtValue() != divisor ||
      !matchPattern(loop.getStep(), m_ConstantInt(&step)) ||
      !matchPattern(first.getRhs(), m_ConstantInt(&number)))
    return false;
  width = number.getSExtValue();
  FailureOr<GpuKernelFacts> facts = GpuKernelFacts::get(kernel);
  return succeeded(facts) && width > 0 &&
         step.getSExtValue() == width * facts->threads / 32 / divisor;
}

bool sharedmemory::isSameWarpTile(const Access &a, const Access &b) {
  if (a.array != b.array || a.extent.empty() || b.extent.empty() ||
      a.indices.size() < 2 || a.indices.size() != b.indices.size())
    return false;
  // Columns that a warp has to itself, of a matrix that it shares.
  auto getWidth = [](const Access &access, int64_t divisor) -> int64_t {
    int64_t width, constant;
    if (!isQuotientIteration(access.indices.back(), divisor, width, constant) ||
        constant < 0 || constant + access.extent.back() > width)
      return 0;
    return width;
  };
  for (auto [x, y] : llvm::zip_equal(ArrayRef(a.indices).drop_back(),
                                     ArrayRef(b.indices).drop_back())) {
    APInt divisor, other;
    if (!isWarpRemainder(x, divisor) || !isWarpRemainder(y, other) ||
        divisor != other)
      continue;
    int64_t width = getWidth(a, divisor.getSExtValue());
    return width && width == getWidth(b, divisor.getSExtValue());
  }
  return false;
}

bool sharedmemory::isSameWarpNumber(Value a, Value b) {
  if ((a == b && isWarpNumber(a)) || (isWarpId(a) && isWarpId(b)))
    return true;
  // The same multiple of the number, renewed in between.
  auto x = a.getDefiningOp<arith::MulIOp>(),
       y = b.getDefiningOp<arith::MulIOp>();
  APInt p, q;
  return x && y && isWarpId(x.getLhs()) && isWarpId(y.getLhs()) &&
         matchPattern(x.getRhs(), m_ConstantInt(&p)) &&
         matchPattern(y.getRhs(), m_ConstantInt(&q)) && p == q && !p.isZero();
}

bool sharedmemory::isWarpPrivate(warp::AllocSharedOp array) {
  for (Operation *user : array->getUsers())
    for (const Access &access : getAccesses(user))
      if (access.array == array && (access.block || access.indices.empty() ||
                                    !isWarpId(access.indices[0])))
        return false;
  return true;
}

bool sharedmemory::dependsOnWarp(Value value, unsigned depth) {
  Operation *op = value.getDefiningOp();
  if (!op || depth > 8)
    return false;
  if (isa<warp::WarpIdOp, warp::RenewLanesOp, gpu::ThreadIdOp>(op))
    return true;
  return llvm::any_of(op->getOperands(), [&](Value operand) {
    return dependsOnWarp(operand, depth + 1);
  });
}

bool sharedmemory::isSideBySide(Operation *op) {
  auto branch = dyn_cast<scf::IfOp>(op);
  return branch && !branch.getElseRegion().empty() &&
         dependsOnWarp(branch.getCondition());
}
