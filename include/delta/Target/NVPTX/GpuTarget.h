//===- GpuTarget.h - What the GPU being compiled for can do -----*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A GPU by architecture, its budgets, and how many CTAs fit on a
// multiprocessor. Nothing here looks at a device.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_NVPTX_GPUTARGET_H
#define DELTA_TARGET_NVPTX_GPUTARGET_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <memory>

namespace llvm {
class TargetMachine;
} // namespace llvm

namespace delta::gpu {

/// An architecture that kernels are made for. Copyable; compares by value.
class GpuTarget {
public:
  /// The names that get() knows: "sm_80", "sm_90a".
  static llvm::ArrayRef<llvm::StringRef> getNames();
  static bool isKnown(llvm::StringRef name);

  /// The architecture of that name. An unknown name is an error that lists the
  /// known ones.
  static llvm::Expected<GpuTarget> get(llvm::StringRef name);

  llvm::StringRef getName() const;
  /// Compute capability times ten: 80, 90.
  int getCapability() const;
  /// LLVM's features: the PTX version.
  llvm::StringRef getFeatures() const;
  llvm::StringRef getTriple() const { return "nvptx64-nvidia-cuda"; }

  // Budgets. Bytes of shared memory, 32-bit registers.
  int64_t getSharedPerCta() const; ///< most that a launch can ask for
  int64_t getSharedPerSM() const;
  int64_t getReservedSharedPerCta() const { return 1024; } ///< the system's
  int64_t getSharedAllocationUnit() const { return 128; }
  int64_t getRegistersPerSM() const { return 65536; }
  int64_t getRegistersPerThread() const { return 255; }
  int64_t getThreadsPerSM() const { return 2048; }
  int64_t getThreadsPerCta() const { return 1024; }
  int64_t getCtasPerSM() const { return 32; }
  int64_t getNumSMs() const; ///< of the data-centre part: A100, H100 and H200

  /// CTAs that a multiprocessor holds at once, from their threads, registers
  /// a thread and shared bytes (static and dynamic together); 0 when one does
  /// not fit. Registers are given to warps in units of 256, from a quarter of
  /// the file each.
  int64_t getOccupancy(int64_t threads, int64_t registers,
                       int64_t sharedBytes) const;
  /// Most registers a thread (a multiple of 8) with which `ctas` CTAs fit.
  int64_t getRegisterBudget(int64_t threads, int64_t ctas) const;
  /// Most shared bytes a CTA with which `ctas` CTAs fit.
  int64_t getSharedBudget(int64_t ctas) const;

  /// LLVM's code generator for this GPU. Separate multiplications and additions
  /// are not contracted.
  llvm::Expected<std::unique_ptr<llvm::TargetMachine>>
  createTargetMachine() const;

  bool operator==(const GpuTarget &other) const { return index == other.index; }

private:
  explicit GpuTarget(unsigned index) : index(index) {}
  unsigned index;
};

} // namespace delta::gpu

#endif // DELTA_TARGET_NVPTX_GPUTARGET_H
