//===- Codegen.h - From stage llvm to machine code --------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Translation of a module of stage `llvm` to LLVM IR, its optimisation and the
// emission of object code, all in this process.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_CPU_CODEGEN_H
#define DELTA_TARGET_CPU_CODEGEN_H

#include "delta/Target/CPU/CpuTarget.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/LLVM.h"
#include "llvm/ADT/SmallVector.h"

#include <memory>
#include <string>

namespace llvm {
class LLVMContext;
class Module;
class TargetMachine;
} // namespace llvm

namespace delta::cpu {

/// Makes the dialect translations known that translateToLLVMIR needs.
void registerTranslations(mlir::DialectRegistry &registry);

/// The name of the kernel in a module of stage `mapped` or `llvm`, without
/// "delta_"; empty when there is none.
std::string getKernelName(mlir::ModuleOp module);

/// The prefix of its symbols: "delta_NAME", and "delta_NAME_backward" of a
/// backward kernel, which stands beside the forward one in a program.
std::string getEntryName(mlir::ModuleOp module);

/// LLVM IR, optimised for `target`, of a module of stage `mapped` (lowered on
/// a copy) or `llvm`. Null after an error, which is reported on `module`.
std::unique_ptr<llvm::Module> translateToLLVMIR(mlir::ModuleOp module,
                                                llvm::LLVMContext &context,
                                                const CpuTarget &target,
                                                llvm::TargetMachine &machine);

/// The object file of a module of stage `mapped` or `llvm`.
mlir::FailureOr<llvm::SmallVector<char, 0>>
compileToObject(mlir::ModuleOp module, const CpuTarget &target);

/// The LLVM IR (optimised) or assembly of such a module, as text.
mlir::FailureOr<std::string> compileToLLVMIRText(mlir::ModuleOp module,
                                                 const CpuTarget &target);
mlir::FailureOr<std::string> compileToAssembly(mlir::ModuleOp module,
                                               const CpuTarget &target);

} // namespace delta::cpu

#endif // DELTA_TARGET_CPU_CODEGEN_H
