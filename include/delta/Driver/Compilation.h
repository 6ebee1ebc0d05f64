//===- Compilation.h - from a spec to a kernel ------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One input on its way through the stages, with the dumps, times and
// explanations that were asked for.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_DRIVER_COMPILATION_H
#define DELTA_DRIVER_COMPILATION_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Driver/Options.h"
#include "delta/Driver/Report.h"
#include "delta/Target/CPU/CpuTarget.h"
#include "delta/Target/NVPTX/ChunkToMapped/Passes.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Support/Timing.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/Support/SourceMgr.h"

#include <memory>

namespace mlir {
class SourceMgrDiagnosticHandler;
} // namespace mlir

namespace delta::driver {

/// Registers and allows the dialects that any stage uses.
void registerDialects(mlir::DialectRegistry &registry);

class Compilation {
public:
  /// `options` and `reporter` must outlive the compilation.
  Compilation(const CompilerOptions &options, Reporter &reporter);
  ~Compilation();

  /// Reads the input, whatever it is, and applies the options to its signature:
  /// types, dims, attrs. Options that contradict a module are errors.
  llvm::LogicalResult load();

  /// Fixes dims, as found in arrays. A contradiction is an error.
  llvm::LogicalResult bindDims(const NamedValues<int64_t> &dims);

  /// Runs the passes up to `stage`. An error when the module is behind it, or
  /// when there is no such stage for the function.
  llvm::LogicalResult lowerTo(mlir::delta::Stage stage);

  /// With --explain, goes on as far as there is something to explain. Call it
  /// when the module is not needed any more.
  llvm::LogicalResult explainFurther();

  /// Useful FLOPs of a token and head: of the chunk form with 16 tokens, or of
  /// the events for decode. Lowers as far as it takes; 0 for a module that is
  /// behind that already.
  llvm::FailureOr<double> countFlopsPerToken();

  mlir::ModuleOp getModule() { return *module; }
  mlir::delta::Stage getStage();
  mlir::delta::SignatureAttr getSignature();
  /// The recurrence's name.
  std::string getName();
  Fn getFn() const { return fn; }
  /// "cpu", or the name of a GPU.
  llvm::StringRef getTarget() const { return target; }
  bool isForGpu() const { return target != "cpu"; }
  /// The CPU that code is made for on target "cpu".
  const cpu::CpuTarget &getCpuTarget() const { return cpuTarget; }
  bool wantsExplanation() const { return options.explain; }

  /// Every dim that the module needs the size of.
  std::vector<std::string> getDimNames();
  /// Sizes that the module's signature fixes.
  NamedValues<int64_t> getKnownDims();

  /// Whether all vector inputs and outs are given a type by the options, which
  /// decides in what type the reference takes its arrays.
  bool hasExplicitTypes() const {
    return options.dtype || !options.dtypeOf.empty();
  }

  /// Runs `body` as the stage `name` for --timing.
  llvm::LogicalResult timed(llvm::StringRef name,
                            llvm::function_ref<llvm::LogicalResult()> body);

  /// Prints the times taken so far, with --timing.
  void printTiming();

private:
  llvm::LogicalResult loadSpec(unsigned bufferId);
  llvm::LogicalResult loadModule(unsigned bufferId);
  llvm::LogicalResult applyOptions(bool fromSpec);
  llvm::LogicalResult checkCpuOptions();
  llvm::LogicalResult checkGpuOptions();
  llvm::LogicalResult checkMapping();
  /// Runs one step of the pipeline and dumps its result.
  llvm::LogicalResult lowerOnce(mlir::delta::Stage next);
  /// Tokens of a chunk, by the cost model of the target.
  llvm::FailureOr<int64_t> chooseChunk();
  llvm::FailureOr<int64_t> chooseCpuChunk();
  llvm::LogicalResult differentiate();
  llvm::LogicalResult requireDims(mlir::delta::Stage next);
  llvm::LogicalResult dump();
  llvm::LogicalResult explain();

  const CompilerOptions &options;
  Reporter &reporter;
  llvm::SourceMgr sources;
  mlir::MLIRContext context;
  std::unique_ptr<mlir::SourceMgrDiagnosticHandler> handler;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  Fn fn = Fn::Forward;
  mlir::delta::GpuMapOptions gpuMapping;
  std::string target = "cpu";
  cpu::CpuTarget cpuTarget = cpu::CpuTarget::host();
  NamedValues<int64_t> mapping; ///< the choices pinned
  std::vector<std::pair<std::string, double>> times;
};

} // namespace delta::driver

#endif // DELTA_DRIVER_COMPILATION_H
