//===- ScalarFactors.cpp - Factors of products move to their operands -----===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The gradient of a number s that multiplies a sum of products is the inner
// product of the result's cotangent with the sum, which would have to be
// computed again. With the number on the left operands
//
//   s (L1 R1 + L2 R2)   =>   (s L1) R1 + (s L2) R2
//
// it is that of the operands with their cotangents, which are needed anyway.
// The same holds for a number for each row.
//
// Test: test/Dialect/Delta/Transforms/differentiate.mlir
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/Transforms/Adjoint.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::delta;

/// The number that a value has everywhere, or the vector of those of its rows;
/// null if it is constant or anything else.
static Value getFactor(Value value) {
  auto broadcast = value.getDefiningOp<BroadcastOp>();
  if (!broadcast)
    return {};
  Value input = broadcast.getInput();
  if (isa<RankedTensorType>(input.getType()) && broadcast.getDim() != 0)
    return {};
  Operation *source = input.getDefiningOp();
  return source && source->hasTrait<OpTrait::ConstantLike>() ? Value() : input;
}

/// factor * value, in front of `before`.
static Value scale(OpBuilder &b, Operation *before, Value value, Value factor) {
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(before);
  Location loc = before->getLoc();
  IntegerAttr dim;
  if (isa<RankedTensorType>(factor.getType()))
    dim = b.getI64IntegerAttr(0);
  Value all = BroadcastOp::create(b, loc, value.getType(), factor, dim);
  return arith::MulFOp::create(b, loc, value, all);
}

void mlir::delta::moveScalarFactors(func::FuncOp function) {
  OpBuilder b(function.getContext());
  for (auto product :
       llvm::make_early_inc_range(function.getOps<arith::MulFOp>())) {
    for (auto [sum, factor] :
         {std::make_pair(product.getLhs(), product.getRhs()),
          std::make_pair(product.getRhs(), product.getLhs())}) {
      Value number = getFactor(factor);
      auto last = sum.getDefiningOp<MatmulOp>();
      if (!number || !last || !sum.hasOneUse())
        continue;
      // What is defined behind the products cannot stand before them.
      Operation *definition = number.getDefiningOp();
      Value rest = sum;
      MatmulOp first = last;
      bool isNumber = number && !isa<RankedTensorType>(number.getType());
      bool keepsRows = true;
      while (auto link = rest.getDefiningOp<MatmulOp>()) {
        if (!rest.hasOneUse())
          break;
        keepsRows &= isNumber || !link.getTransposeLhs();
        first = link;
        if (!link.getAcc())
          break;
        rest = link.getAcc();
      }
      if (!keepsRows || (definition && !definition->isBeforeInBlock(first)))
        continue;
      for (MatmulOp link = last; link;) {
        link.getLhsMutable().assign(scale(b, link, link.getLhs(), number));
        Value acc = link.getAcc();
        if (!acc || link == first) {
          if (acc)
            link.getAccMutable().assign(scale(b, link, acc, number));
          break;
        }
        link = acc.getDefiningOp<MatmulOp>();
      }
      product.getResult().replaceAllUsesWith(sum);
      product.erase();
      break;
    }
  }
}
