//===- ChunkToMapped.cpp - From the chunk program to CPU loops ------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Replaces the chunk function by a kernel over work items: a plan decides
// (Plan.h), an emitter builds the loops (Emitter.h).
//
//   func.func @f(%q: tensor<16x64xf32>, ...)   =>   func.func @f(%q:
//   memref<?xf32>,
//                                                     ..., %begin, %end,
//                                                     %vblocks)
//
// Test: test/Target/CPU/chunk-to-mapped.mlir, chunk-to-mapped-errors.mlir.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "Plan.h"
#include "delta/Dialect/Delta/Transforms/Adjoint.h"
#include "delta/Target/CPU/ChunkToMapped/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/CSE.h"

#define DEBUG_TYPE "delta-cpu-map"

namespace mlir::delta {
#define GEN_PASS_DEF_DELTACPUMAP
#include "delta/Target/CPU/ChunkToMapped/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

CpuMapOptions CpuMapOptions::get(const ::delta::cpu::CpuTarget &target) {
  CpuMapOptions options;
  options.vectorBits = target.getVectorBits();
  options.registers = target.getNumVectorRegisters();
  options.fma = target.hasFma();
  return options;
}

LogicalResult mlir::delta::mapChunkToCpu(ModuleOp module,
                                         const CpuMapOptions &options) {
  if (getStage(module) != Stage::Chunk)
    return module.emitError("expects a module of stage chunk");
  SignatureAttr signature = getSignature(module);
  auto function = *module.getOps<func::FuncOp>().begin();
  FailureOr<Plan> plan = Plan::build(function, signature, options);
  if (failed(plan))
    return failure();
  func::FuncOp states;
  if (signature.getOption("fn") == "backward" &&
      signature.getIntOption("save_every").value_or(1) > 1) {
    std::string name = (function.getSymName() + kStatesSuffix).str();
    states = module.lookupSymbol<func::FuncOp>(name);
    if (!states)
      return module.emitError()
             << "expects the program '@" << name
             << "' that computes the states between two checkpoints";
    if (failed(plan->addStates(states, options)))
      return failure();
  }
  OpBuilder builder(function);
  Emitter(*plan, builder).emitKernel();
  function.erase();
  if (states)
    states.erase();

  const Geometry &g = plan->geometry;
  auto decision = [&](StringRef name, int64_t value) {
    return builder.getNamedAttr(name, builder.getI64IntegerAttr(value));
  };
  setSignature(
      module,
      signature.withOption(
          "mapping",
          builder.getDictionaryAttr(
              {decision("panel", g.panelWidth()),
               decision("panels", g.panels()), decision("rows", g.tileRows),
               decision("dot_rows", g.dotRows), decision("dot_cols", g.dotCols),
               decision("vector_bits", options.vectorBits)})));
  setStage(module, Stage::Mapped);
  IRRewriter rewriter(module.getContext());
  DominanceInfo dominance;
  eliminateCommonSubExpressions(rewriter, dominance, module);
  return success();
}

void mlir::delta::explainCpuMapping(ModuleOp module, llvm::raw_ostream &os) {
  DictionaryAttr options = getSignature(module).getOptions();
  auto mapping =
      options ? options.getAs<DictionaryAttr>("mapping") : DictionaryAttr();
  if (!mapping)
    return;
  os << "mapping";
  for (StringRef name :
       {"panel", "rows", "dot_rows", "dot_cols", "vector_bits", "panels"})
    if (auto value = mapping.getAs<IntegerAttr>(name))
      os << ' ' << name << '=' << value.getInt();
  for (auto function : module.getOps<func::FuncOp>())
    if (auto bytes = function->getAttrOfType<IntegerAttr>("delta.workspace"))
      os << " workspace_bytes=" << bytes.getInt();
  os << '\n';
}

namespace {

struct CpuMap : mlir::delta::impl::DeltaCpuMapBase<CpuMap> {
  using Base::Base;
  void runOnOperation() override {
    CpuMapOptions options = CpuMapOptions::get(::delta::cpu::CpuTarget::host());
    if (vectorBits) {
      if (vectorBits != 128 && vectorBits != 256 && vectorBits != 512) {
        getOperation().emitError()
            << "expects vector-bits to be 128, 256 or 512, but got "
            << vectorBits;
        return signalPassFailure();
      }
      options.vectorBits = vectorBits;
      options.registers = vectorBits == 512 ? 32 : 16;
    }
    if (registers)
      options.registers = registers;
    if (fma != "host" && fma != "on" && fma != "off") {
      getOperation().emitError()
          << "expects fma to be on, off or host, but got '" << fma << "'";
      return signalPassFailure();
    }
    if (fma != "host")
      options.fma = fma == "on";
    options.panel = panel;
    options.rows = rows;
    options.dotRows = dotRows;
    options.dotCols = dotCols;
    if (failed(mapChunkToCpu(getOperation(), options)))
      signalPassFailure();
  }
};

} // namespace
