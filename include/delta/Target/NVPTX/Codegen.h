//===- Codegen.h - PTX and cubin of a GPU module ----------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// PTX is made in this process by LLVM's code generator; a cubin by ptxas, whose
// report on registers and spills comes back with it.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_NVPTX_CODEGEN_H
#define DELTA_TARGET_NVPTX_CODEGEN_H

#include "delta/Target/NVPTX/GpuTarget.h"
#include "delta/Target/NVPTX/Kernel.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/LLVM.h"

#include <string>
#include <vector>

namespace delta::gpu {

/// Makes the dialect translations known that emitPtx needs.
void registerTranslations(mlir::DialectRegistry &registry);

/// The PTX text of a GPU module of stage `mapped` (lowered on a copy) or
/// `llvm`, for the target in its signature. Errors are reported on `module`.
mlir::FailureOr<std::string> emitPtx(mlir::ModuleOp module);

/// The LLVM IR (optimised) of such a module, as text.
mlir::FailureOr<std::string> emitLLVMIRText(mlir::ModuleOp module);

/// What ptxas says of one kernel.
struct KernelReport {
  std::string kernel; // name of the entry
  int64_t registers = 0;
  int64_t stackBytes = 0;
  int64_t spillBytes = 0;  // stores and loads
  int64_t sharedBytes = 0; // static and dynamic
  int64_t ctasPerSM = 0;
};

/// "KERNEL arch=... registers=... stack_bytes=... spill_bytes=...
/// shared_bytes=... ctas_per_sm=...".
std::string formatReport(const KernelReport &report, const GpuTarget &target);

struct Cubin {
  std::string bytes;
  std::vector<KernelReport> kernels; // in the module's order
};

enum class AssembleResult { Ok, Failed, ToolAbsent };

/// Path of ptxas: on PATH, else under CUDA_HOME, CUDA_PATH or CUDA_ROOT, and
/// where none of these is set under /usr/local/cuda; empty when there is
/// none.
std::string findPtxas();

/// Assembles the PTX made from `module`, whose kernels' facts complete the
/// report. Errors, with the log of ptxas, are reported on `module`.
AssembleResult assemble(mlir::ModuleOp module, llvm::StringRef ptx,
                        Cubin &cubin);

} // namespace delta::gpu

#endif // DELTA_TARGET_NVPTX_CODEGEN_H
