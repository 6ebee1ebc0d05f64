//===- Module.cpp - PTX modules for the simulator -------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Parsing and decoding of all kernels of a file.
//
//===----------------------------------------------------------------------===//

#include "delta/Simulator/Module.h"
#include "Decoder.h"
#include "Inliner.h"

#include <cstdlib>

namespace delta::sim {

using runtime::Expected;
using runtime::Status;

Module::Module(std::unique_ptr<Program> program) : impl(std::move(program)) {}
Module::Module(Module &&) noexcept = default;
Module &Module::operator=(Module &&) noexcept = default;
Module::~Module() = default;

Expected<Module> Module::parse(std::string_view text, std::string name) {
  Expected<std::unique_ptr<ptx::File>> file = ptx::parse(text, std::move(name));
  if (!file)
    return file.error();
  auto program = std::make_unique<Program>();
  program->file = std::move(*file);
  for (const ptx::Function &function : program->file->functions) {
    if (!function.isEntry)
      continue;
    program->kernels.emplace_back();
    const ptx::Function *source = &function;
    if (ptx::hasCalls(function)) {
      auto flat = std::make_unique<ptx::Function>();
      if (Status status = ptx::inlineCalls(*program->file, function, *flat);
          !status.ok())
        return status;
      source = flat.get();
      program->inlined.push_back(std::move(flat));
    }
    Decoder decoder(*program->file, *source);
    if (Status status = decoder.decode(program->kernels.back()); !status.ok())
      return status;
    program->infos.push_back(program->kernels.back().info);
  }
  return Module(std::move(program));
}

const std::vector<KernelInfo> &Module::kernels() const { return impl->infos; }

const KernelInfo *Module::findKernel(std::string_view name) const {
  for (const KernelInfo &info : impl->infos)
    if (info.name == name)
      return &info;
  return nullptr;
}

const std::string &Module::name() const { return impl->file->name; }

const OpSelectors &opSelectors() {
#ifdef DELTA_SIM_HAS_AVX2
  // Tests compare the two.
  const char *isa = std::getenv("DELTA_SIM_ISA");
  bool base = isa && std::string_view(isa) == "base";
  if (!base && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return opSelectorsAvx2();
#endif
  return opSelectorsBase();
}

} // namespace delta::sim
