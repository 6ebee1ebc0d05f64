//===- delta-opt.cpp - Runs delta's and upstream's passes -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The usual MLIR driver over the dialects and passes of this project.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/Transforms/Adjoint.h"
#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Dialect/Delta/Transforms/Passes.h"
#include "delta/Dialect/Warp/IR/Warp.h"
#include "delta/Target/CPU/ChunkToMapped/Passes.h"
#include "delta/Target/CPU/Passes.h"
#include "delta/Target/NVPTX/ChunkToMapped/Passes.h"
#include "delta/Target/NVPTX/Codegen.h"
#include "delta/Target/NVPTX/FragmentLowering/Passes.h"
#include "delta/Target/NVPTX/Passes.h"
#include "delta/Target/NVPTX/SharedMemory/Passes.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/InitAllPasses.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  mlir::registerAllDialects(registry);
  mlir::registerAllExtensions(registry);
  registry.insert<mlir::delta::DeltaDialect, mlir::delta::warp::WarpDialect>();
  mlir::delta::registerAdjointModels(registry);
  mlir::registerAllPasses();
  mlir::delta::registerDeltaTransformsPasses();
  mlir::delta::registerCpuPasses();
  mlir::delta::registerDeltaCPUMappingPasses();
  mlir::delta::registerGpuPasses();
  mlir::delta::registerDeltaFragmentLoweringPasses();
  mlir::delta::registerDeltaGPUMappingPasses();
  mlir::delta::registerDeltaSharedMemoryPasses();
  return mlir::asMainReturnCode(mlir::MlirOptMain(
      argc, argv, "delta: a compiler for matrix-state recurrences\n",
      registry));
}
