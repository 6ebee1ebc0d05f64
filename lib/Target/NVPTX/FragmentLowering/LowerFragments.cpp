//===- LowerFragments.cpp - From a warp's tiles to its lanes' registers ---===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One walk in program order gives every tile its registers. Structured control
// flow is rebuilt with registers in place of tiles; old operations are erased
// when the walk is over.
//
//   %0 = arith.addf %x, %y : tensor<8x8xf32, #delta_warp.fragment>
//   ->
//   %0 = arith.addf %x0, %y0 : f32
//   %1 = arith.addf %x1, %y1 : f32
//
// Test: test/Target/NVPTX/FragmentLowering/*.mlir.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "delta/Target/NVPTX/FragmentLowering/Passes.h"
#include "delta/Target/NVPTX/SharedMemory/Passes.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

#define DEBUG_TYPE "delta-lower-fragments"

namespace mlir::delta {
#define GEN_PASS_DEF_LOWERFRAGMENTS
#include "delta/Target/NVPTX/FragmentLowering/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::warp;

FragmentLowering::FragmentLowering(gpu::GPUFuncOp kernel, LLVM::GlobalOp shared,
                                   int capability, int64_t threads)
    : kernel(kernel), shared(shared), capability(capability), threads(threads),
      b(kernel.getLoc(), kernel.getContext()),
      firstOp(&kernel.getBody().front().front()) {
  own.first = firstOp;
  i32Type = b.getI32Type();
  f32Type = b.getF32Type();
}

LogicalResult FragmentLowering::run() {
  for (Type type : kernel.getArgumentTypes())
    if (isSpread(type) || isa<SharedType>(type))
      return kernel.emitOpError()
             << "expects no argument of type " << type << " for a kernel";
  if (failed(lowerBlock(kernel.getBody().front())))
    return failure();
  for (Operation *op : llvm::reverse(dead)) {
    op->dropAllUses();
    op->erase();
  }
  return success();
}

//===----------------------------------------------------------------------===//
// The walk
//===----------------------------------------------------------------------===//

LogicalResult FragmentLowering::lowerBlock(Block &block) {
  SmallVector<Operation *> ops;
  bool renews = false;
  for (Operation &op : block) {
    ops.push_back(&op);
    renews |= isa<RenewLanesOp>(op);
  }
  // What is computed anew holds up to the block's end.
  LaneValues before;
  if (renews)
    before = own;
  LogicalResult result = success();
  for (Operation *op : ops) {
    b.setInsertionPoint(op);
    b.setLoc(op->getLoc());
    result = lowerOp(op);
    if (failed(result))
      break;
  }
  if (renews)
    own = std::move(before);
  return result;
}

LogicalResult FragmentLowering::lowerOp(Operation *op) {
  if (auto loop = dyn_cast<scf::ForOp>(op))
    return lowerFor(loop);
  if (auto branch = dyn_cast<scf::IfOp>(op))
    return lowerIf(branch);
  if (auto yield = dyn_cast<scf::YieldOp>(op))
    return lowerYield(yield);
  bool spread = llvm::any_of(op->getOperandTypes(), isSpread) ||
                llvm::any_of(op->getResultTypes(), isSpread);
  if (!spread && !isa<WarpDialect>(op->getDialect())) {
    for (Region &region : op->getRegions())
      for (Block &block : region)
        for (Operation &nested : block)
          if (isa<WarpDialect>(nested.getDialect()) ||
              llvm::any_of(nested.getOperandTypes(), isSpread))
            return op->emitOpError()
                   << "cannot hold operations on tiles: of control flow only "
                      "scf.for and scf.if are lowered";
    return success();
  }
  dead.push_back(op);
  if (!isa<WarpDialect>(op->getDialect())) {
    if (auto constant = dyn_cast<arith::ConstantOp>(op))
      return lowerConstant(constant);
    return lowerElementwise(op);
  }
  if (isa<AllocSharedOp>(op))
    return success();
  if (auto renew = dyn_cast<RenewLanesOp>(op))
    return lowerRenewLanes(renew), success();
  if (auto follow = dyn_cast<FollowOp>(op))
    return lowerFollow(follow), success();
  if (auto load = dyn_cast<SharedLoadOp>(op))
    return lowerSharedLoad(load), success();
  if (auto store = dyn_cast<SharedStoreOp>(op))
    return lowerSharedStore(store), success();
  if (auto store = dyn_cast<StoreLevelOp>(op))
    return lowerStoreLevel(store), success();
  if (auto store = dyn_cast<StorePairsOp>(op))
    return lowerStorePairs(store), success();
  if (auto fill = dyn_cast<FillSharedOp>(op))
    return lowerFillShared(fill), success();
  if (auto mma = dyn_cast<MmaOp>(op))
    return lowerMma(mma), success();
  if (auto inverse = dyn_cast<InverseOp>(op))
    return lowerInverse(inverse), success();
  if (auto load = dyn_cast<AsyncLoadOp>(op))
    return lowerAsyncLoad(load);
  if (auto copy = dyn_cast<AsyncCopyOp>(op))
    return lowerAsyncCopy(copy), success();
  if (auto copy = dyn_cast<CopyOutOp>(op))
    return lowerCopyOut(copy), success();
  if (auto load = dyn_cast<GlobalLoadOp>(op))
    return lowerGlobalLoad(load), success();
  if (auto store = dyn_cast<GlobalStoreOp>(op))
    return lowerGlobalStore(store), success();
  return lowerLayout(op);
}

LogicalResult FragmentLowering::lowerFor(scf::ForOp op) {
  if (llvm::none_of(op.getResultTypes(), isSpread))
    return lowerBlock(*op.getBody());
  Registers inits;
  for (Value init : op.getInitArgs())
    llvm::append_range(inits, get(init));
  auto loop = scf::ForOp::create(b, op.getLowerBound(), op.getUpperBound(),
                                 op.getStep(), inits);
  loop->setDiscardableAttrs(op->getDiscardableAttrDictionary());
  dead.push_back(op);
  auto split = [&](ValueRange values, ValueRange parts) {
    size_t next = 0;
    for (Value value : values) {
      size_t count = getRegisterTypes(value.getType()).size();
      Registers slice(parts.slice(next, count));
      next += count;
      if (isSpread(value.getType()))
        define(value, slice);
      else
        replaceScalar(value, slice[0]);
    }
  };
  replaceScalar(op.getInductionVar(), loop.getInductionVar());
  split(op.getRegionIterArgs(), loop.getRegionIterArgs());
  Block *body = loop.getBody();
  // The builder leaves no terminator when there are values to carry.
  body->getOperations().splice(body->end(), op.getBody()->getOperations());
  if (failed(lowerBlock(*body)))
    return failure();
  split(op.getResults(), loop.getResults());
  return success();
}

LogicalResult FragmentLowering::lowerIf(scf::IfOp op) {
  if (llvm::none_of(op.getResultTypes(), isSpread)) {
    if (failed(lowerBlock(*op.thenBlock())))
      return failure();
    return op.elseBlock() ? lowerBlock(*op.elseBlock()) : success();
  }
  SmallVector<Type> types;
  for (Type type : op.getResultTypes())
    llvm::append_range(types, getRegisterTypes(type));
  auto branch = scf::IfOp::create(b, types, op.getCondition(),
                                  /*addThenBlock=*/true, /*addElseBlock=*/true);
  branch->setDiscardableAttrs(op->getDiscardableAttrDictionary());
  dead.push_back(op);
  for (auto [from, to] : {std::pair(op.thenBlock(), branch.thenBlock()),
                          std::pair(op.elseBlock(), branch.elseBlock())}) {
    to->getOperations().splice(to->end(), from->getOperations());
    if (failed(lowerBlock(*to)))
      return failure();
  }
  size_t next = 0;
  for (Value result : op.getResults()) {
    size_t count = getRegisterTypes(result.getType()).size();
    Registers slice(branch.getResults().slice(next, count));
    next += count;
    if (isSpread(result.getType()))
      define(result, slice);
    else
      replaceScalar(result, slice[0]);
  }
  return success();
}

LogicalResult FragmentLowering::lowerYield(scf::YieldOp op) {
  if (llvm::none_of(op.getOperandTypes(), isSpread))
    return success();
  Registers values;
  for (Value value : op.getOperands())
    llvm::append_range(values, get(value));
  op->setOperands(values);
  return success();
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

bool FragmentLowering::isSpread(Type type) {
  return isFragment(type) || getAlongAxis(type);
}

bool FragmentLowering::isPacked(Type type) {
  return isFragment(type) &&
         cast<RankedTensorType>(type).getElementTypeBitWidth() == 16;
}

SmallVector<Type> FragmentLowering::getRegisterTypes(Type type) {
  if (!isSpread(type))
    return {type};
  auto tensor = cast<RankedTensorType>(type);
  if (isPacked(type))
    return SmallVector<Type>(tensor.getNumElements() / 64, i32Type);
  int64_t count = isFragment(type) ? tensor.getNumElements() / 32
                  : getAlongAxis(type) == Axis::Rows
                      ? tensor.getNumElements() / 8
                      : tensor.getNumElements() / 4;
  return SmallVector<Type>(count, tensor.getElementType());
}

ArrayRef<Value> FragmentLowering::get(Value value) {
  auto found = registersOf.find(value);
  if (found != registersOf.end())
    return found->second;
  define(value, {value});
  return registersOf[value];
}

void FragmentLowering::define(Value value, ArrayRef<Value> registers) {
  registersOf[value] = registers.copy(allocator);
}

void FragmentLowering::replaceScalar(Value from, Value to) {
  from.replaceAllUsesWith(to);
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

Value FragmentLowering::i32(int64_t value) {
  Value &constant = constants[value];
  if (!constant) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(firstOp);
    constant = arith::ConstantOp::create(
        b, b.getI32IntegerAttr(static_cast<int32_t>(value)));
  }
  return constant;
}

std::optional<int64_t> FragmentLowering::getConstant(Value value) {
  return getConstantIntValue(OpFoldResult(value));
}

Value FragmentLowering::add(Value a, Value b2) {
  return b.createOrFold<arith::AddIOp>(a, b2);
}
Value FragmentLowering::add(Value a, int64_t value) {
  return value ? b.createOrFold<arith::AddIOp>(a, i32(value)) : a;
}
Value FragmentLowering::mul(Value a, int64_t value) {
  return value == 1 ? a : b.createOrFold<arith::MulIOp>(a, i32(value));
}
Value FragmentLowering::bitAnd(Value a, int64_t value) {
  return b.createOrFold<arith::AndIOp>(a, i32(value));
}
Value FragmentLowering::bitXor(Value a, Value b2) {
  return b.createOrFold<arith::XOrIOp>(a, b2);
}
Value FragmentLowering::bitOr(Value a, Value b2) {
  return b.createOrFold<arith::OrIOp>(a, b2);
}
Value FragmentLowering::shiftLeft(Value a, int64_t bits) {
  return bits ? b.createOrFold<arith::ShLIOp>(a, i32(bits)) : a;
}
Value FragmentLowering::shiftRight(Value a, int64_t bits) {
  return bits ? b.createOrFold<arith::ShRUIOp>(a, i32(bits)) : a;
}
Value FragmentLowering::compare(arith::CmpIPredicate predicate, Value a,
                                Value b2) {
  return b.createOrFold<arith::CmpIOp>(predicate, a, b2);
}
Value FragmentLowering::select(Value condition, Value a, Value b2) {
  return b.createOrFold<arith::SelectOp>(condition, a, b2);
}
Value FragmentLowering::zero(Type type) {
  if (type == i32Type)
    return i32(0);
  return arith::ConstantOp::create(b, b.getZeroAttr(type));
}
Value FragmentLowering::bitcast(Value value, Type type) {
  if (value.getType() == type)
    return value;
  if (isa<VectorType>(value.getType()) || isa<VectorType>(type))
    return LLVM::BitcastOp::create(b, type, value);
  return b.createOrFold<arith::BitcastOp>(type, value);
}
Value FragmentLowering::toI32(Value index) {
  if (std::optional<int64_t> value = getConstant(index))
    return i32(*value);
  return arith::IndexCastOp::create(b, i32Type, index);
}

int64_t FragmentLowering::getDivisor(Value value, unsigned depth) {
  constexpr int64_t most = 1 << 12;
  if (auto number = getConstantIntValue(OpFoldResult(value)))
    return *number ? std::min<int64_t>(most, *number & -*number) : most;
  if (depth > 6)
    return 1;
  if (auto arg = dyn_cast<BlockArgument>(value)) {
    auto loop = dyn_cast_or_null<scf::ForOp>(arg.getOwner()->getParentOp());
    if (loop && loop.getInductionVar() == value)
      return std::min(getDivisor(loop.getLowerBound(), depth + 1),
                      getDivisor(loop.getStep(), depth + 1));
    return 1;
  }
  Operation *op = value.getDefiningOp();
  if (isa<arith::AddIOp, arith::SubIOp, arith::MinSIOp, arith::MaxSIOp>(op))
    return std::min(getDivisor(op->getOperand(0), depth + 1),
                    getDivisor(op->getOperand(1), depth + 1));
  if (isa<arith::MulIOp>(op))
    return std::min(most, getDivisor(op->getOperand(0), depth + 1) *
                              getDivisor(op->getOperand(1), depth + 1));
  return 1;
}

std::optional<int64_t> FragmentLowering::getBound(Value value, bool upper,
                                                  unsigned depth) {
  if (auto number = getConstant(value))
    return number;
  if (value == own.warp)
    return upper ? threads / 32 - 1 : 0;
  Operation *op = value.getDefiningOp();
  if (!op || op->getNumOperands() != 2 || depth > 6)
    return std::nullopt;
  auto bound = [&](unsigned operand, bool above) {
    return getBound(op->getOperand(operand), above, depth + 1);
  };
  auto first = bound(0, upper);
  auto second = bound(1, isa<arith::SubIOp>(op) ? !upper : upper);
  // One side is enough for a minimum from above and a maximum from below.
  if (isa<arith::MinSIOp, arith::MaxSIOp>(op) &&
      isa<arith::MinSIOp>(op) == upper) {
    if (first && second)
      return upper ? std::min(*first, *second) : std::max(*first, *second);
    return first ? first : second;
  }
  if (!first || !second)
    return std::nullopt;
  constexpr int64_t large = int64_t(1) << 31;
  if (std::abs(*first) >= large || std::abs(*second) >= large)
    return std::nullopt;
  if (isa<arith::AddIOp>(op))
    return *first + *second;
  if (isa<arith::SubIOp>(op))
    return *first - *second;
  if (isa<arith::MinSIOp>(op))
    return std::min(*first, *second);
  if (isa<arith::MaxSIOp>(op))
    return std::max(*first, *second);
  // Products of numbers that are not negative.
  if (isa<arith::MulIOp>(op) && bound(0, false).value_or(-1) >= 0 &&
      bound(1, false).value_or(-1) >= 0)
    return *first * *second;
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

/// 80 for "sm_80", 90 for "sm_90a".
static int getCapability(gpu::GPUModuleOp module) {
  int capability = 80;
  if (ArrayAttr targets = module.getTargetsAttr())
    for (Attribute attribute : targets)
      if (auto target = dyn_cast<NVVM::NVVMTargetAttr>(attribute)) {
        StringRef chip = target.getChip();
        chip.consume_front("sm_");
        chip.consumeInteger(10, capability);
      }
  return capability;
}

namespace {
struct LowerFragmentsPass
    : mlir::delta::impl::LowerFragmentsBase<LowerFragmentsPass> {
  void runOnOperation() override {
    gpu::GPUModuleOp module = getOperation();
    int capability = getCapability(module);
    LLVM::GlobalOp shared;
    for (auto kernel : module.getOps<gpu::GPUFuncOp>()) {
      WalkResult alloc = kernel.walk([](AllocSharedOp op) {
        if (op.getOffset())
          return WalkResult::advance();
        op.emitOpError("expects an offset: delta-place-shared has to run "
                       "before delta-lower-fragments");
        return WalkResult::interrupt();
      });
      if (alloc.wasInterrupted())
        return signalPassFailure();
      bool uses = kernel
                      .walk([](Operation *op) {
                        return isa_and_nonnull<WarpDialect>(op->getDialect())
                                   ? WalkResult::interrupt()
                                   : WalkResult::advance();
                      })
                      .wasInterrupted();
      if (!uses)
        continue;
      if (!shared) {
        OpBuilder builder = OpBuilder::atBlockBegin(module.getBody());
        shared = LLVM::GlobalOp::create(
            builder, module.getLoc(),
            LLVM::LLVMArrayType::get(builder.getI8Type(), 0),
            /*isConstant=*/false, LLVM::Linkage::External, "delta_shared",
            Attribute(), /*alignment=*/128,
            /*addrSpace=*/static_cast<unsigned>(NVVM::NVVMMemorySpace::Shared));
      }
      int64_t threads = 32;
      if (auto facts = kernel->getAttrOfType<DictionaryAttr>("delta.kernel"))
        if (auto count = facts.getAs<IntegerAttr>("threads"))
          threads = count.getInt();
      if (threads < 32 || threads % 32) {
        kernel.emitOpError()
            << "expects a multiple of 32 threads, but got " << threads;
        return signalPassFailure();
      }
      if (failed(FragmentLowering(kernel, shared, capability, threads).run()))
        return signalPassFailure();
    }
  }
};
} // namespace

void mlir::delta::buildGpuMappedToLLVM(OpPassManager &pm) {
  pm.addPass(createDeltaPlaceShared());
  pm.addPass(createDeltaInsertBarriers());
  OpPassManager &module = pm.nest<gpu::GPUModuleOp>();
  module.addPass(createLowerFragments());
  module.addPass(createCSEPass());
}
