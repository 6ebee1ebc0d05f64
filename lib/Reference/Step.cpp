//===- Step.cpp - Operations of the stage step ----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The linear algebra of one token as it was written, micro-steps included.
//
//===----------------------------------------------------------------------===//

#include "Program.h"
#include "delta/Dialect/Delta/IR/Delta.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace delta::reference;
using namespace mlir::delta;
using llvm::failure;
using llvm::success;
using mlir::Operation;

std::optional<llvm::LogicalResult> Program::compileStep(Operation *op,
                                                        Code &code) {
  return llvm::TypeSwitch<Operation *, Maybe>(op)
      .Case<OuterOp>([&](OuterOp op) -> Maybe {
        unsigned x = slot(op.getX()), y = slot(op.getY());
        unsigned result = slot(op.getResult());
        code.push_back(
            [=](Frame &f) { f[result] = Matrix::outer(f[x], f[y]); });
        return success();
      })
      .Case<MatvecOp>([&](MatvecOp op) -> Maybe {
        unsigned m = slot(op.getMatrix()), x = slot(op.getX());
        unsigned result = slot(op.getResult());
        bool transpose = op.getTranspose();
        code.push_back([=](Frame &f) {
          // x^T M, or M x: a column times the matrix from its own side.
          f[result] =
              transpose ? Matrix::product(f[x].transposed(), f[m]).transposed()
                        : Matrix::product(f[m], f[x]);
        });
        return success();
      })
      .Case<TransposeOp>([&](TransposeOp op) -> Maybe {
        unsigned m = slot(op.getMatrix()), result = slot(op.getResult());
        code.push_back([=](Frame &f) { f[result] = f[m].transposed(); });
        return success();
      })
      .Case<DiagOp>([&](DiagOp op) -> Maybe {
        unsigned x = slot(op.getX()), result = slot(op.getResult());
        code.push_back([=](Frame &f) { f[result] = Matrix::diagonal(f[x]); });
        return success();
      })
      .Case<EyeOp>([&](EyeOp op) -> Maybe {
        auto shape = getShape(op, op.getResult().getType());
        if (failed(shape))
          return failure();
        unsigned result = slot(op.getResult());
        int64_t size = (*shape)[0];
        code.push_back([=](Frame &f) {
          f[result] = Matrix::diagonal(Matrix::dense(size, 1, 1));
        });
        return success();
      })
      .Case<ForOp>([&](ForOp op) -> Maybe {
        mlir::FailureOr<int64_t> count = getDim(op, op.getDim());
        if (failed(count))
          return failure();
        mlir::Block &block = op.getBody().front();
        Code body;
        if (failed(compile(block, body)))
          return failure();
        unsigned init = slot(op.getInit()), result = slot(op.getResult());
        unsigned index = slot(block.getArgument(0));
        unsigned state = slot(block.getArgument(1));
        unsigned next = slot(block.getTerminator()->getOperand(0));
        code.push_back([=, n = *count](Frame &f) {
          f[result] = f[init];
          for (int64_t j = 0; j < n; ++j) {
            f[index] = Matrix::dense(1, 1, static_cast<double>(j));
            f[state] = f[result];
            run(body, f);
            f[result] = f[next];
          }
        });
        return success();
      })
      .Default([](Operation *) -> Maybe { return std::nullopt; });
}
