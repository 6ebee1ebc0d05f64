//===- RowScan.h - Running sums with factors over rows ----------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// linear_scan over the 16 rows of a fragment or of a vector along rows, by log
// steps and without a division.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_ROWSCAN_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_ROWSCAN_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::delta::gpumap {

/// Whether a row's number has a bit, for values of a type.
using RowHas = llvm::function_ref<Value(int64_t bit, RankedTensorType like)>;

/// Sums over the rows before (reverse: behind) each in its block of 2^levels
/// rows, each times the factors of the rows between.
Value scanInBlock(ImplicitLocOpBuilder &b, Value x, Value factors, int levels,
                  bool reverse, RowHas rowHas);

/// The result of `op` for the given operands.
Value emitLinearScan(ImplicitLocOpBuilder &b, LinearScanOp op, Value x,
                     Value factors, RowHas rowHas);

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_ROWSCAN_H
