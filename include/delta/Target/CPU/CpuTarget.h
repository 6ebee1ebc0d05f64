//===- CpuTarget.h - What the CPU being compiled for can do -----*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A CPU by name and features, and the questions that mapping and code
// generation ask about it. Nothing here looks at the machine except host().
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_CPU_CPUTARGET_H
#define DELTA_TARGET_CPU_CPUTARGET_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <memory>
#include <string>
#include <string>

namespace llvm {
class TargetMachine;
} // namespace llvm

namespace delta::cpu {

/// A CPU that kernels are made for. Copyable; compares by value.
class CpuTarget {
public:
  /// The machine this process runs on.
  static CpuTarget host();

  /// A CPU by LLVM's name ("x86-64-v3", "znver4", ...) for the host's
  /// architecture and system; "native" or "" is host(). An unknown name is an
  /// error that says where names are listed.
  static llvm::Expected<CpuTarget> get(llvm::StringRef name);

  llvm::StringRef getTriple() const { return triple; }
  llvm::StringRef getCpu() const { return cpu; }
  llvm::StringRef getFeatures() const { return features; }

  bool isX86() const;
  /// Whether the CPU has the extension of LLVM's name ("avx2").
  bool has(llvm::StringRef feature) const;
  /// An extension that this CPU has and the machine has not; empty if kernels
  /// for it run here.
  std::string findMissingHere() const;
  /// Widest vector register, in bits: 512, 256 or 128.
  unsigned getVectorBits() const { return vectorBits; }
  /// Number of vector registers.
  unsigned getNumVectorRegisters() const;
  /// Fused multiply-add in hardware.
  bool hasFma() const { return fma; }
  /// Conversions between f32 and bf16 (f16) in hardware.
  bool hasBf16Conversion() const { return bf16; }
  bool hasF16Conversion() const { return f16; }

  /// LLVM's code generator for this CPU: position-independent code, no
  /// contraction of separate multiplications and additions.
  llvm::Expected<std::unique_ptr<llvm::TargetMachine>>
  createTargetMachine() const;

  bool operator==(const CpuTarget &other) const {
    return triple == other.triple && cpu == other.cpu &&
           features == other.features;
  }

private:
  CpuTarget(std::string triple, std::string cpu, std::string features);

  std::string triple, cpu, features;
  unsigned vectorBits = 128;
  bool fma = false, bf16 = false, f16 = false;
};

} // namespace delta::cpu

#endif // DELTA_TARGET_CPU_CPUTARGET_H
