//===- CpuTarget.cpp - What the CPU being compiled for can do -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Asks LLVM's subtarget tables, so that a named CPU is answered for in the
// same way as the host.
//
//===----------------------------------------------------------------------===//

#include "delta/Target/CPU/CpuTarget.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/SubtargetFeature.h"
#include "llvm/TargetParser/Triple.h"

#include <algorithm>
#include <vector>

using namespace delta::cpu;

/// Registers LLVM's backend for the host once.
static void initializeBackend() {
  static const bool done = [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    llvm::InitializeNativeTargetAsmParser();
    return true;
  }();
  (void)done;
}

static std::unique_ptr<llvm::MCSubtargetInfo>
getSubtarget(const std::string &tripleText, llvm::StringRef cpu,
             llvm::StringRef features) {
  initializeBackend();
  llvm::Triple triple(tripleText);
  std::string error;
  const llvm::Target *target =
      llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target)
    return nullptr;
  return std::unique_ptr<llvm::MCSubtargetInfo>(
      target->createMCSubtargetInfo(triple, cpu, features));
}

CpuTarget::CpuTarget(std::string tripleText, std::string cpuName,
                     std::string featureText)
    : triple(std::move(tripleText)), cpu(std::move(cpuName)),
      features(std::move(featureText)) {
  std::unique_ptr<llvm::MCSubtargetInfo> info =
      getSubtarget(triple, cpu, features);
  if (!info)
    return;
  auto has = [&](const char *feature) { return info->checkFeatures(feature); };
  if (isX86()) {
    bool avx512 = has("+avx512f") && has("+avx512vl") && has("+avx512dq") &&
                  has("+avx512bw");
    vectorBits = avx512 ? 512 : has("+avx") ? 256 : 128;
    fma = has("+fma");
    bf16 = avx512 && has("+avx512bf16");
    f16 = has("+f16c");
    return;
  }
  if (llvm::Triple(triple).isAArch64()) {
    fma = true;
    f16 = true;
    bf16 = has("+bf16");
  }
}

CpuTarget CpuTarget::host() {
  llvm::StringMap<bool> map = llvm::sys::getHostCPUFeatures();
  // A StringMap has no order of its own; the text must not vary.
  std::vector<std::string> names;
  for (auto &entry : map)
    names.push_back((entry.second ? "+" : "-") + entry.first().str());
  std::sort(names.begin(), names.end(),
            [](const std::string &a, const std::string &b) {
              return a.compare(1, a.npos, b, 1, b.npos) < 0;
            });
  llvm::SubtargetFeatures features;
  for (const std::string &name : names)
    features.AddFeature(name);
  return CpuTarget(llvm::sys::getProcessTriple(),
                   llvm::sys::getHostCPUName().str(), features.getString());
}

llvm::Expected<CpuTarget> CpuTarget::get(llvm::StringRef name) {
  if (name.empty() || name == "native")
    return host();
  std::string triple = llvm::sys::getProcessTriple();
  std::unique_ptr<llvm::MCSubtargetInfo> info = getSubtarget(triple, "", "");
  if (!info || !info->isCPUStringValid(name))
    return llvm::createStringError(
        "unknown CPU '" + name.str() + "' for " + triple +
        "; expected \"native\" or a name that 'llc -mcpu=help' lists");
  return CpuTarget(triple, name.str(), "");
}

bool CpuTarget::has(llvm::StringRef feature) const {
  std::unique_ptr<llvm::MCSubtargetInfo> info =
      getSubtarget(triple, cpu, features);
  return info && info->checkFeatures(("+" + feature).str());
}

std::string CpuTarget::findMissingHere() const {
  std::unique_ptr<llvm::MCSubtargetInfo> info =
      getSubtarget(triple, cpu, features);
  std::vector<std::string> missing;
  for (auto &entry : llvm::sys::getHostCPUFeatures())
    if (!entry.second && info && info->checkFeatures("+" + entry.first().str()))
      missing.push_back(entry.first().str());
  return missing.empty() ? ""
                         : *std::min_element(missing.begin(), missing.end());
}

bool CpuTarget::isX86() const { return llvm::Triple(triple).isX86(); }

unsigned CpuTarget::getNumVectorRegisters() const {
  return isX86() && vectorBits < 512 ? 16 : 32;
}

llvm::Expected<std::unique_ptr<llvm::TargetMachine>>
CpuTarget::createTargetMachine() const {
  initializeBackend();
  llvm::Triple parsed(triple);
  std::string error;
  const llvm::Target *target =
      llvm::TargetRegistry::lookupTarget(parsed, error);
  if (!target)
    return llvm::createStringError("no code generator for " + triple + ": " +
                                   error);
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard;
  std::unique_ptr<llvm::TargetMachine> machine(target->createTargetMachine(
      parsed, cpu, features, options, llvm::Reloc::PIC_, std::nullopt,
      llvm::CodeGenOptLevel::Default));
  if (!machine)
    return llvm::createStringError("no target machine for " + triple);
  return machine;
}
