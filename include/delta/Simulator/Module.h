//===- Module.h - PTX modules for the simulator -----------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A Module is parsed and decoded PTX, ready to launch kernels from. Everything
// the simulator cannot execute is an error here, before anything runs.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_SIMULATOR_MODULE_H
#define DELTA_SIMULATOR_MODULE_H

#include "delta/Runtime/Status.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace delta::sim {

struct Program;

/// One parameter of a kernel.
struct ParamInfo {
  std::string name;
  uint32_t bytes = 0;
  uint32_t alignment = 0;
  std::string type; ///< "u64", "f32"...; "b8[72]" for an aggregate
};

/// What a kernel's header says.
struct KernelInfo {
  std::string name;
  std::vector<ParamInfo> params;
  uint32_t staticSharedBytes = 0;
  bool usesDynamicShared = false;
  uint32_t localBytes = 0;                 ///< a thread
  uint32_t maxThreads[3] = {0, 0, 0};      ///< .maxntid; 0 when not given
  uint32_t requiredThreads[3] = {0, 0, 0}; ///< .reqntid; 0 when not given
  uint32_t numInstructions = 0;
};

/// Decoded PTX. Cheap to move; safe to launch from several threads.
class Module {
public:
  /// Parses a whole PTX file. The error is worded "NAME:LINE:COL: error: ..."
  /// and says which instruction or directive is not understood.
  static runtime::Expected<Module> parse(std::string_view text,
                                         std::string name = "<ptx>");

  Module(Module &&) noexcept;
  Module &operator=(Module &&) noexcept;
  ~Module();

  /// The kernels (.entry functions) in the file's order.
  const std::vector<KernelInfo> &kernels() const;

  /// Null when there is none of that name.
  const KernelInfo *findKernel(std::string_view name) const;

  /// The name given to parse, for messages.
  const std::string &name() const;

  const Program &program() const { return *impl; }

private:
  explicit Module(std::unique_ptr<Program> program);
  std::unique_ptr<Program> impl;
};

} // namespace delta::sim

#endif // DELTA_SIMULATOR_MODULE_H
