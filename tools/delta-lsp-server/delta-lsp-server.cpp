//===- delta-lsp-server.cpp - Language server for delta's IR --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// MLIR's language server with this project's dialects: diagnostics, hover and
// definitions for .mlir files of any stage.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Dialect/Warp/IR/Warp.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/Tools/mlir-lsp-server/MlirLspServerMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  mlir::registerAllDialects(registry);
  mlir::registerAllExtensions(registry);
  registry.insert<mlir::delta::DeltaDialect, mlir::delta::warp::WarpDialect>();
  return mlir::failed(mlir::MlirLspServerMain(argc, argv, registry));
}
