//===- GpuTarget.cpp - What the GPU being compiled for can do -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Figures of the compute capabilities, from the CUDA programming guide's table
// of technical specifications.
//
//===----------------------------------------------------------------------===//

#include "delta/Target/NVPTX/GpuTarget.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Triple.h"

#include <algorithm>

using namespace delta::gpu;

namespace {
struct Architecture {
  llvm::StringLiteral name;
  int capability;
  llvm::StringLiteral features;
  int64_t sharedPerCta, sharedPerSM;
  int64_t numSMs;
};
} // namespace

/// PTX 8.0 is what CUDA 12.0 drivers assemble, and the first with sm_90a.
static constexpr Architecture kArchitectures[] = {
    {"sm_80", 80, "+ptx80", 163 * 1024, 164 * 1024, 108},
    {"sm_90a", 90, "+ptx80", 227 * 1024, 228 * 1024, 132},
};

llvm::ArrayRef<llvm::StringRef> GpuTarget::getNames() {
  static const llvm::StringRef names[] = {kArchitectures[0].name,
                                          kArchitectures[1].name};
  return names;
}

bool GpuTarget::isKnown(llvm::StringRef name) {
  return llvm::is_contained(getNames(), name);
}

llvm::Expected<GpuTarget> GpuTarget::get(llvm::StringRef name) {
  for (auto [index, known] : llvm::enumerate(getNames()))
    if (name == known)
      return GpuTarget(index);
  return llvm::createStringError("unknown GPU architecture '" + name.str() +
                                 "'; expected " +
                                 llvm::join(getNames(), " or "));
}

llvm::StringRef GpuTarget::getName() const {
  return kArchitectures[index].name;
}
int GpuTarget::getCapability() const {
  return kArchitectures[index].capability;
}
llvm::StringRef GpuTarget::getFeatures() const {
  return kArchitectures[index].features;
}
int64_t GpuTarget::getSharedPerCta() const {
  return kArchitectures[index].sharedPerCta;
}
int64_t GpuTarget::getSharedPerSM() const {
  return kArchitectures[index].sharedPerSM;
}
int64_t GpuTarget::getNumSMs() const { return kArchitectures[index].numSMs; }

/// A multiprocessor has four schedulers with a register file each; a warp
/// lives on one of them, and gets its registers in units of 256.
static constexpr int64_t kSchedulers = 4;
static constexpr int64_t kRegisterUnit = 256;
static constexpr int64_t kLanes = 32;

int64_t GpuTarget::getOccupancy(int64_t threads, int64_t registers,
                                int64_t sharedBytes) const {
  if (threads < 1 || threads > getThreadsPerCta() ||
      registers > getRegistersPerThread() || sharedBytes > getSharedPerCta())
    return 0;
  int64_t warps = llvm::divideCeil(threads, kLanes);
  int64_t ctas = std::min(getCtasPerSM(), getThreadsPerSM() / (warps * kLanes));
  if (registers > 0) {
    int64_t perWarp = llvm::alignTo(registers * kLanes, kRegisterUnit);
    int64_t resident =
        getRegistersPerSM() / kSchedulers / perWarp * kSchedulers;
    ctas = std::min(ctas, resident / warps);
  }
  int64_t shared = llvm::alignTo(sharedBytes + getReservedSharedPerCta(),
                                 getSharedAllocationUnit());
  return std::min(ctas, getSharedPerSM() / shared);
}

int64_t GpuTarget::getRegisterBudget(int64_t threads, int64_t ctas) const {
  int64_t registers = getRegistersPerThread() / 8 * 8;
  while (registers > 0 && getOccupancy(threads, registers, 0) < ctas)
    registers -= 8;
  return registers;
}

int64_t GpuTarget::getSharedBudget(int64_t ctas) const {
  int64_t unit = getSharedAllocationUnit();
  int64_t bytes = getSharedPerSM() / std::max<int64_t>(ctas, 1) / unit * unit;
  return std::min(bytes - getReservedSharedPerCta(), getSharedPerCta());
}

llvm::Expected<std::unique_ptr<llvm::TargetMachine>>
GpuTarget::createTargetMachine() const {
  static const bool done = [] {
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
    return true;
  }();
  (void)done;
  llvm::Triple triple(getTriple());
  std::string error;
  const llvm::Target *target =
      llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target)
    return llvm::createStringError("this LLVM has no code generator for " +
                                   getTriple().str() + ": " + error);
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard;
  std::unique_ptr<llvm::TargetMachine> machine(target->createTargetMachine(
      triple, getName(), getFeatures(), options, std::nullopt, std::nullopt,
      llvm::CodeGenOptLevel::Aggressive));
  if (!machine)
    return llvm::createStringError("no target machine for " + getName().str());
  return machine;
}
