//===- Events.cpp - Operations of the stage events ------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Decay, read and write, with plain loops from their definitions.
//
//===----------------------------------------------------------------------===//

#include "Program.h"
#include "delta/Dialect/Delta/IR/Delta.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace delta::reference;
using namespace mlir::delta;
using llvm::success;
using mlir::Operation;

std::optional<llvm::LogicalResult> Program::compileEvents(Operation *op,
                                                          Code &code) {
  return llvm::TypeSwitch<Operation *, Maybe>(op)
      .Case<DecayOp>([&](DecayOp op) -> Maybe {
        unsigned state = slot(op.getState()), w = slot(op.getW());
        unsigned result = slot(op.getResult());
        bool isVector = mlir::isa<mlir::RankedTensorType>(op.getW().getType());
        code.push_back([=](Frame &f) {
          Matrix S = f[state].densified(), decay = f[w].densified();
          for (int64_t i = 0; i < S.rows(); ++i)
            for (int64_t j = 0; j < S.cols(); ++j)
              S(i, j) *= decay(isVector ? i : 0);
          f[result] = std::move(S);
        });
        return success();
      })
      .Case<ReadOp>([&](ReadOp op) -> Maybe {
        unsigned state = slot(op.getState()), x = slot(op.getX());
        unsigned result = slot(op.getResult());
        code.push_back([=](Frame &f) {
          Matrix S = f[state].densified(), probe = f[x].densified();
          Matrix value = Matrix::dense(S.cols(), 1);
          for (int64_t i = 0; i < S.rows(); ++i)
            for (int64_t j = 0; j < S.cols(); ++j)
              value(j) += S(i, j) * probe(i);
          f[result] = std::move(value);
        });
        return success();
      })
      .Case<WriteOp>([&](WriteOp op) -> Maybe {
        unsigned state = slot(op.getState()), y = slot(op.getY());
        unsigned c = slot(op.getC()), result = slot(op.getResult());
        code.push_back([=](Frame &f) {
          Matrix S = f[state].densified();
          Matrix key = f[y].densified(), value = f[c].densified();
          for (int64_t i = 0; i < S.rows(); ++i)
            for (int64_t j = 0; j < S.cols(); ++j)
              S(i, j) += key(i) * value(j);
          f[result] = std::move(S);
        });
        return success();
      })
      .Default([](Operation *) -> Maybe { return std::nullopt; });
}
