//===- MappingKeys.cpp - what --mapping can pin ---------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The tables, and the reading of values by them.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/MappingKeys.h"

#include "delta/Runtime/Suggest.h"

#include "llvm/ADT/StringExtras.h"

#include <vector>

using namespace llvm;

namespace delta::driver {

static constexpr MappingKey kCpuForward[] = {
    {"panel", "a multiple of a vector's elements",
     "columns of the state worked on at a time"},
    {"rows", "1 to 16", "rows of a product's register tile"},
    {"dot_rows", "1, 2 or 4", "rows of a dot-product tile"},
    {"dot_cols", "1, 2 or 4", "columns of a dot-product tile"},
};

static constexpr MappingKey kGpuForward[] = {
    {"warps", "a positive number", "warps of a CTA"},
    {"rows", "16 or 32", "columns of the state that a warp holds"},
    {"vsplit", "a positive number", "CTAs that share a head's columns"},
    {"ksplit", "1 or 2", "warps that share a chunk's channels"},
    {"window", "a positive number", "chunks between two barriers"},
    {"stages", "1, 2 or 3",
     "windows in shared memory; with 3 the slices overlap"},
    {"kernels", "1 or 2",
     "kernels; with 2 the free slice has one of its own, and the other choices "
     "are those of the state slice's"},
    {"free", "1, 2, 4 or 8",
     "chunks a CTA of the free slice's kernel, one a warp"},
};

static constexpr MappingKey kGpuBackward[] = {
    {"warps", "a positive number", "warps of a CTA, which works by tiles"},
    {"stages", "1 or 2", "chunks whose inputs have a place"},
    {"ctas", "a positive number", "CTAs that a multiprocessor shall hold"},
    {"vsplit", "a positive number", "CTAs that share a head's columns"},
    {"segment", "a positive number",
     "chunks that a CTA walks; the state's cotangent behind each segment comes "
     "from a kernel before"},
};

ArrayRef<MappingKey> getMappingKeys(StringRef target, Fn fn) {
  if (fn == Fn::Decode)
    return {};
  // On the CPU the backward is mapped as the forward is.
  if (fn == Fn::Backward && target != "cpu")
    return kGpuBackward;
  return target == "cpu" ? ArrayRef<MappingKey>(kCpuForward)
                         : ArrayRef<MappingKey>(kGpuForward);
}

static std::string describe(ArrayRef<MappingKey> keys) {
  std::string text;
  for (auto [i, key] : enumerate(keys)) {
    if (i)
      text += "; ";
    text += (key.name + " (" + key.values + "), " + key.description).str();
  }
  return text;
}

std::string describeMappingKeys() {
  return "cpu: " + describe(kCpuForward) + ". GPU: " + describe(kGpuForward) +
         ". GPU, backward: " + describe(kGpuBackward);
}

FailureOr<NamedValues<int64_t>>
parseMapping(const NamedValues<std::string> &mapping, StringRef target, Fn fn,
             std::optional<Fn> beside, Reporter &reporter) {
  NamedValues<int64_t> values;
  ArrayRef<MappingKey> keys = getMappingKeys(target, fn);
  std::vector<std::string> names;
  for (const MappingKey &key : keys)
    names.push_back(key.name.str());
  if (beside)
    for (const MappingKey &key : getMappingKeys(target, *beside))
      if (!is_contained(names, key.name))
        names.push_back(key.name.str());
  for (auto &[name, text] : mapping) {
    const MappingKey *key =
        find_if(keys, [&](const MappingKey &key) { return key.name == name; });
    if (key == keys.end() && beside &&
        any_of(getMappingKeys(target, *beside),
               [&](const MappingKey &key) { return key.name == name; }))
      continue;
    if (key == keys.end()) {
      std::string expected =
          names.empty() ? "" : "; expected " + join(names, ", ");
      return reporter.error("--mapping: --fn=" + stringifyFn(fn) +
                            " on target '" + target + "' has no choice '" +
                            name + "' to pin" + expected +
                            runtime::didYouMean(name, names));
    }
    int64_t value;
    if (StringRef(text).getAsInteger(10, value) || value < 1 || value > kMaxDim)
      return reporter.error("--mapping: expected " + key->values + " for '" +
                            name + "', but got '" + text + "'");
    values[name] = value;
  }
  return values;
}

} // namespace delta::driver
