//===- PlanProducts.cpp - Products of transposed copies -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// lhs * rhs^T is a tile of dot products, whose lanes have to be added up: half
// of the work where the contraction is 64 long. Rows of lhs and rhs that are
// few are cheap to transpose, and one copy serves several products:
//
//   x * y^T = matmul(x, transpose(y))                    y has the fewer rows
//   x * y^T = transpose(matmul(y, transpose(x)))         x has
//
// The larger operand, the state mostly, stays as it is.
//
//===----------------------------------------------------------------------===//

#include "Plan.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

void cpumap::transposeProducts(func::FuncOp function) {
  OpBuilder b(function.getContext());
  llvm::DenseMap<Value, Value> copies;
  auto exchanged = [&](Value value) -> Type {
    auto type = cast<RankedTensorType>(value.getType());
    return RankedTensorType::get({type.getDimSize(1), type.getDimSize(0)},
                                 type.getElementType());
  };
  auto transpose = [&](Value value) -> Value {
    Value &copy = copies[value];
    if (!copy) {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointAfterValue(value);
      copy = TransposeOp::create(b, value.getLoc(), exchanged(value), value);
    }
    return copy;
  };
  for (auto matmul : llvm::make_early_inc_range(function.getOps<MatmulOp>())) {
    Value lhs = matmul.getLhs(), rhs = matmul.getRhs();
    if (!matmul.getTransposeRhs() || matmul.getTransposeLhs())
      continue;
    int64_t rows = getShape(lhs).first, cols = getShape(rhs).first;
    b.setInsertionPoint(matmul);
    Location loc = matmul.getLoc();
    bool copyRhs =
        cols < rows ||
        (cols == rows && (copies.lookup(rhs) || !copies.lookup(lhs))) ||
        matmul.getTriangular();
    Value product;
    if (copyRhs) {
      product = MatmulOp::create(b, loc, matmul.getType(), lhs, transpose(rhs),
                                 matmul.getAcc(), UnitAttr(), UnitAttr(),
                                 matmul.getTriangularAttr());
    } else {
      auto type = RankedTensorType::get({cols, rows},
                                        matmul.getType().getElementType());
      Value flipped =
          MatmulOp::create(b, loc, type, rhs, transpose(lhs), Value(),
                           UnitAttr(), UnitAttr(), UnitAttr());
      product = TransposeOp::create(b, loc, matmul.getType(), flipped);
      if (matmul.getAcc())
        product = arith::AddFOp::create(b, loc, matmul.getAcc(), product);
    }
    matmul.getResult().replaceAllUsesWith(product);
    matmul.erase();
  }
}
