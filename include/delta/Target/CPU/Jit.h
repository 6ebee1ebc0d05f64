//===- Jit.h - Kernels compiled in this process -----------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Compiles a module of stage `mapped` or `llvm` and loads it into this process.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_CPU_JIT_H
#define DELTA_TARGET_CPU_JIT_H

#include "delta/Target/CPU/CpuTarget.h"
#include "delta/Target/CPU/Launch.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/LLVM.h"

#include <memory>
#include <string>

namespace delta::cpu {

/// A kernel in memory. Its code lives as long as this object.
class JitKernel {
public:
  /// Compiles `module` (stage `mapped` or `llvm`) for `target`, which must run
  /// on this machine. Null after an error, which is reported on the module.
  static std::unique_ptr<JitKernel>
  compile(mlir::ModuleOp module, const CpuTarget &target = CpuTarget::host());

  ~JitKernel();
  JitKernel(const JitKernel &) = delete;
  JitKernel &operator=(const JitKernel &) = delete;

  /// What launch() and Launcher take.
  const KernelEntry &getEntry() const { return entry; }
  /// Address of the symbol of that suffix; null when there is none.
  void *lookup(llvm::StringRef suffix) const;

private:
  struct Impl;
  JitKernel();

  std::unique_ptr<Impl> impl;
  std::string name; // the prefix of its symbols
  KernelEntry entry;
};

} // namespace delta::cpu

#endif // DELTA_TARGET_CPU_JIT_H
