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
// The same holds for a number for each row. Where all that is made of a read's
// vector x is multiplied by s in the end, decayed and in Grams, x itself is:
//
//   s (x .* p) S + s G(x, y) R   =>   ((s x) .* p) S + G(s x, y) R
//
// and the number's gradient is the inner product of x with its cotangent.
//
// Test: test/Dialect/Delta/Transforms/differentiate.mlir
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/Transforms/Adjoint.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/SetVector.h"

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

/// Finds the multiplications by `number` to which all paths of linear
/// operations from `x` lead; false if one leads elsewhere.
static bool findMultiplications(Value x, Value number,
                                SmallVectorImpl<arith::MulFOp> &found) {
  const bool isNumber = !isa<RankedTensorType>(number.getType());
  llvm::DenseSet<Value> seen{x};
  SmallVector<Value> open{x};
  while (!open.empty()) {
    Value value = open.pop_back_val();
    for (OpOperand &use : value.getUses()) {
      Operation *op = use.getOwner();
      SmallVector<Value> results(op->getResults());
      if (auto product = dyn_cast<arith::MulFOp>(op)) {
        if (getFactor(product.getOperand(1 - use.getOperandNumber())) ==
            number) {
          found.push_back(product);
          continue;
        }
      } else if (auto matmul = dyn_cast<MatmulOp>(op)) {
        bool left = use.getOperandNumber() == 0;
        if (value == matmul.getAcc() ||
            !(isNumber || (left && !matmul.getTransposeLhs())))
          return false;
      } else if (auto gram = dyn_cast<DecayGramOp>(op)) {
        // Only the Grams of this row operand.
        auto row = llvm::find(gram.getRows(), value);
        if (row == gram.getRows().end() ||
            llvm::is_contained(gram.getCols(), value) ||
            value == gram.getDecay())
          return false;
        results.clear();
        for (unsigned b = 0; b < gram.getCols().size(); ++b)
          if (Value result = gram.getGram(row - gram.getRows().begin(), b))
            results.push_back(result);
      } else if (auto rows = dyn_cast<IdentityRowsOp>(op)) {
        if (!rows.getValue().isZero())
          return false;
      } else if (auto sum = dyn_cast<SumOp>(op)) {
        if (!isNumber && !isa<RankedTensorType>(sum.getType()))
          return false;
      } else if (!isa<CausalMaskOp>(op)) {
        return false;
      }
      // What is reached twice is no linear function of x, or has it twice.
      for (Value result : results)
        if (!seen.insert(result).second)
          return false;
      llvm::append_range(open, results);
    }
  }
  return !found.empty();
}

/// Multiplies a read's vector by the number that multiplies all it gives.
static void moveToRows(func::FuncOp function) {
  OpBuilder b(function.getContext());
  llvm::SetVector<Value> numbers;
  for (auto product : function.getOps<arith::MulFOp>())
    for (Value operand : product->getOperands())
      if (Value number = getFactor(operand))
        numbers.insert(number);
  for (auto x : llvm::make_early_inc_range(function.getOps<IdentityRowsOp>()))
    for (Value number : numbers) {
      Operation *definition = number.getDefiningOp();
      SmallVector<arith::MulFOp> products;
      if (!isa<RankedTensorType>(x.getType()) || !x.getValue().isZero() ||
          (definition && !definition->isBeforeInBlock(x)) ||
          !findMultiplications(x, number, products))
        continue;
      Value scaled = scale(b, x->getNextNode(), x, number);
      x.getResult().replaceAllUsesExcept(scaled, scaled.getDefiningOp());
      for (arith::MulFOp product : products) {
        bool first = getFactor(product.getLhs()) != number;
        product.replaceAllUsesWith(first ? product.getLhs() : product.getRhs());
        product.erase();
      }
      break;
    }
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
  moveToRows(function);
}
