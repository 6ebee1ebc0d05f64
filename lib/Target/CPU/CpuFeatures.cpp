//===- CpuFeatures.cpp - what this CPU can do -----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The compiler's builtin reads CPUID and knows what the system saves and
// restores; it takes literals only, hence the table.
//
//===----------------------------------------------------------------------===//

#include "delta/Target/CPU/CpuFeatures.h"

namespace delta::cpu {

namespace {
struct Feature {
  const char *name;
  bool (*present)();
};
} // namespace

#if defined(__x86_64__)
#define DELTA_FEATURE(NAME)                                                    \
  {NAME, [] { return __builtin_cpu_supports(NAME) != 0; }}
static const Feature kFeatures[] = {
    DELTA_FEATURE("sse3"),         DELTA_FEATURE("ssse3"),
    DELTA_FEATURE("sse4.1"),       DELTA_FEATURE("sse4.2"),
    DELTA_FEATURE("popcnt"),       DELTA_FEATURE("avx"),
    DELTA_FEATURE("avx2"),         DELTA_FEATURE("fma"),
    DELTA_FEATURE("f16c"),         DELTA_FEATURE("bmi"),
    DELTA_FEATURE("bmi2"),         DELTA_FEATURE("lzcnt"),
    DELTA_FEATURE("movbe"),        DELTA_FEATURE("avx512f"),
    DELTA_FEATURE("avx512cd"),     DELTA_FEATURE("avx512bw"),
    DELTA_FEATURE("avx512dq"),     DELTA_FEATURE("avx512vl"),
    DELTA_FEATURE("avx512ifma"),   DELTA_FEATURE("avx512vbmi"),
    DELTA_FEATURE("avx512vbmi2"),  DELTA_FEATURE("avx512vnni"),
    DELTA_FEATURE("avx512bitalg"), DELTA_FEATURE("avx512vpopcntdq"),
    DELTA_FEATURE("avx512bf16"),   DELTA_FEATURE("avxvnni"),
    DELTA_FEATURE("gfni"),         DELTA_FEATURE("vpclmulqdq"),
};
#undef DELTA_FEATURE
#else
static const Feature kFeatures[] = {{"", [] { return false; }}};
#endif

const std::vector<std::string> &knownFeatures() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> result;
    for (const Feature &feature : kFeatures)
      if (feature.name[0])
        result.emplace_back(feature.name);
    return result;
  }();
  return names;
}

std::optional<bool> hasFeature(std::string_view name) {
  for (const Feature &feature : kFeatures)
    if (name == feature.name && !name.empty())
      return feature.present();
  return std::nullopt;
}

std::string_view architecture() {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "";
#endif
}

} // namespace delta::cpu
