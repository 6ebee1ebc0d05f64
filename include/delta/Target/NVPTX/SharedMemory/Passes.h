//===- Passes.h - Shared memory of GPU kernels ------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Placement of shared arrays, and the barriers between their accesses.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_NVPTX_SHAREDMEMORY_PASSES_H
#define DELTA_TARGET_NVPTX_SHAREDMEMORY_PASSES_H

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace mlir::delta {

#define GEN_PASS_DECL
#include "delta/Target/NVPTX/SharedMemory/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "delta/Target/NVPTX/SharedMemory/Passes.h.inc"

} // namespace mlir::delta

#endif // DELTA_TARGET_NVPTX_SHAREDMEMORY_PASSES_H
