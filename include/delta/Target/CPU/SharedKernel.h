//===- SharedKernel.h - CPU kernels in shared objects ----------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Loads a kernel from the bytes of a shared object, without a file and without
// the compiler.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_TARGET_CPU_SHAREDKERNEL_H
#define DELTA_TARGET_CPU_SHAREDKERNEL_H

#include "delta/Runtime/Bundle.h"
#include "delta/Runtime/Status.h"
#include "delta/Target/CPU/Launch.h"

#include <memory>

namespace delta::cpu {

/// A kernel in memory. Its code lives as long as this object.
class SharedKernel {
public:
  /// Loads a kernel for the CPU from a bundle. Errors: another architecture, an
  /// instruction set extension that this machine lacks, a shared object that
  /// the system does not load or that lacks an entry point.
  static runtime::Expected<std::unique_ptr<SharedKernel>>
  load(const runtime::BundleKernel &kernel);

  ~SharedKernel();
  SharedKernel(const SharedKernel &) = delete;
  SharedKernel &operator=(const SharedKernel &) = delete;

  /// What Launcher takes.
  const KernelEntry &entry() const { return kernelEntry; }

private:
  SharedKernel() = default;

  int file = -1;
  void *library = nullptr;
  KernelEntry kernelEntry;
};

/// Verifies that this machine can run a kernel for the CPU.
runtime::Status checkMachine(const runtime::BundleKernel &kernel);

} // namespace delta::cpu

#endif // DELTA_TARGET_CPU_SHAREDKERNEL_H
