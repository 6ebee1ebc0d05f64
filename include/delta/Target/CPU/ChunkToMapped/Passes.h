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
#include "llvm/Support/raw_ostream.h"

namespace mlir::delta {

/// What the mapping must know of the CPU.
struct CpuMapOptions {
  int64_t vectorBits = 512; // of a vector register: 128, 256 or 512
  int64_t registers = 32;   // vector registers
  bool fma = true;          // fused multiply-add in hardware

  // Choices that are pinned; 0 leaves them to the mapping. None of them changes
  // a bit of a result.
  int64_t panel = 0;                // columns of the state in a panel
  int64_t rows = 0;                 // rows of a matmul's register tile
  int64_t dotRows = 0, dotCols = 0; // of a dot-product tile

  static CpuMapOptions get(const ::delta::cpu::CpuTarget &target);
};

/// Takes a module from stage `chunk` to stage `mapped` in place: its function
/// is replaced by the kernel, which has the chunk function's name and the
/// attributes `delta.workspace` and `delta.panels`. Reports what cannot be
/// mapped at the operation concerned and leaves the module as it was.
LogicalResult mapChunkToCpu(ModuleOp module, const CpuMapOptions &options);

/// A line with the choices that a module of stage `mapped` was made with, by
/// the names that pin them.
void explainCpuMapping(ModuleOp module, llvm::raw_ostream &os);

#define GEN_PASS_DECL
#include "delta/Target/CPU/ChunkToMapped/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "delta/Target/CPU/ChunkToMapped/Passes.h.inc"

} // namespace mlir::delta

#endif // DELTA_TARGET_CPU_CHUNKTOMAPPED_PASSES_H
