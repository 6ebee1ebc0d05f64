//===- CpuFeatures.h - what this CPU can do --------------------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Instruction set extensions by the names that GCC and LLVM share, so that a
// kernel made for another machine is refused rather than killed by an illegal
// instruction.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_TARGET_CPU_CPUFEATURES_H
#define DELTA_TARGET_CPU_CPUFEATURES_H

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace delta::cpu {

/// The extensions that a kernel may need and that can be asked for.
const std::vector<std::string> &knownFeatures();

/// Whether this machine has the extension; nothing for one that is not known.
std::optional<bool> hasFeature(std::string_view name);

/// "x86_64", "aarch64": the architecture that this program was built for, as
/// triples begin.
std::string_view architecture();

} // namespace delta::cpu

#endif // DELTA_TARGET_CPU_CPUFEATURES_H
