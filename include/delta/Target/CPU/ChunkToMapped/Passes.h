//===- Passes.h - From the chunk program to CPU loops -----------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The pass delta-cpu-map and the library function behind it.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_CPU_CHUNKTOMAPPED_PASSES_H
#define DELTA_TARGET_CPU_CHUNKTOMAPPED_PASSES_H

#include "delta/Target/CPU/CpuTarget.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace mlir::delta {

/// What the mapping must know of the CPU.
struct CpuMapOptions {
  int64_t vectorBits = 512; // of a vector register: 128, 256 or 512
  int64_t registers = 32;   // vector registers
  bool fma = true;          // fused multiply-add in hardware

  static CpuMapOptions get(const ::delta::cpu::CpuTarget &target);
};

/// Takes a module from stage `chunk` to stage `mapped` in place: its function
/// is replaced by the kernel, which has the chunk function's name and the
/// attributes `delta.workspace` and `delta.panels`. Reports what cannot be
/// mapped at the operation concerned and leaves the module as it was.
LogicalResult mapChunkToCpu(ModuleOp module, const CpuMapOptions &options);

#define GEN_PASS_DECL
#include "delta/Target/CPU/ChunkToMapped/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "delta/Target/CPU/ChunkToMapped/Passes.h.inc"

} // namespace mlir::delta

#endif // DELTA_TARGET_CPU_CHUNKTOMAPPED_PASSES_H
