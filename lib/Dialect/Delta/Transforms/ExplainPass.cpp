//===- ExplainPass.cpp - The report of --explain as a pass ----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs the explanation of a stage in delta-opt.
//
//===----------------------------------------------------------------------===//

#include "delta/Analysis/Explain.h"
#include "delta/Dialect/Delta/Transforms/Passes.h"

namespace mlir::delta {
#define GEN_PASS_DEF_DELTAEXPLAIN
#include "delta/Dialect/Delta/Transforms/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;

namespace {

struct ExplainPass : delta::impl::DeltaExplainBase<ExplainPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    LogicalResult result = failure();
    if (getStage(module) == Stage::Events)
      result = explainEvents(module, llvm::errs());
    else if (getStage(module) == Stage::Chunk)
      result = explainChunk(module, llvm::errs());
    else
      module.emitError("expects a module of stage events or chunk");
    if (failed(result))
      return signalPassFailure();
    markAllAnalysesPreserved();
  }
};

} // namespace
