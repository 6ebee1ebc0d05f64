//===- Aot.h - Kernels compiled ahead of time -------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Object file, shared library and C header of a kernel. They need nothing of
// delta: libc and libm are all they are linked with.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_CPU_AOT_H
#define DELTA_TARGET_CPU_AOT_H

#include "delta/Target/CPU/CpuTarget.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/LLVM.h"

namespace delta::cpu {

/// How an artefact came out; the numbers are exit statuses.
enum class EmitResult : int {
  Ok = 0,
  /// An error in the module or in linking, reported.
  Failed = 1,
  /// No linker on PATH, reported.
  ToolAbsent = 3,
};

/// Writes the object file of a module of stage `mapped` or `llvm`. Whether the
/// stream took it is the caller's to check.
EmitResult emitObject(mlir::ModuleOp module, const CpuTarget &target,
                      llvm::raw_ostream &stream);

/// Writes a shared library to `path`, linked by `cc`, `gcc` or `clang`, or by
/// `ld.lld` when the kernel needs no library. After an error there is no file
/// at `path`.
EmitResult emitSharedLibrary(mlir::ModuleOp module, const CpuTarget &target,
                             llvm::StringRef path);

/// Writes the C header that declares the kernel's entry points and documents
/// its arrays.
EmitResult emitHeader(mlir::ModuleOp module, llvm::raw_ostream &stream);

} // namespace delta::cpu

#endif // DELTA_TARGET_CPU_AOT_H
