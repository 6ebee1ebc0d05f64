//===- AxisSizes.cpp - sizes that arrays agree on -------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Fitting the shapes of arrays to one another.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/AxisSizes.h"

namespace delta::runtime {

const AxisSizes::Entry *AxisSizes::find(const std::string &axis,
                                        bool dim) const {
  auto it = entries.find({dim, axis});
  return it == entries.end() ? nullptr : &it->second;
}

void AxisSizes::setDims(const NamedValues<int64_t> &dims,
                        const std::string &source) {
  for (auto &[name, size] : dims)
    entries.try_emplace({true, name}, Entry{size, source});
}

std::optional<int64_t> AxisSizes::lookup(const std::string &axis,
                                         bool dim) const {
  if (const Entry *entry = find(axis, dim))
    return entry->size;
  return std::nullopt;
}

std::string AxisSizes::describeExpected(const Argument &arg) const {
  std::vector<std::string> axes = arg.arrayAxes();
  std::string text = "(";
  for (size_t i = 0; i < axes.size(); ++i) {
    if (i)
      text += ", ";
    text += axes[i];
    if (const Entry *entry = find(axes[i], arg.isDim(i)))
      text += "=" + std::to_string(entry->size);
  }
  return text + ")";
}

Status AxisSizes::fit(const Argument &arg, const std::string &name,
                      const Shape &shape) {
  std::vector<std::string> axes = arg.arrayAxes();
  auto mismatch = [&](const std::string &reason) {
    return Status::error("has shape ", toString(shape), "; expected ",
                         describeExpected(arg), reason);
  };
  if (shape.size() != axes.size())
    return mismatch("");
  for (size_t i = 0; i < axes.size(); ++i) {
    const Entry *entry = find(axes[i], arg.isDim(i));
    if (entry && entry->size != shape[i])
      return mismatch(", where " + axes[i] + " comes from " + entry->source);
    // Empty batches and sequences are fine, empty vectors are not.
    if (arg.isDim(i) && (shape[i] < 1 || shape[i] > kMaxDim))
      return mismatch(", where " + axes[i] + " is between 1 and " +
                      std::to_string(kMaxDim));
  }
  for (size_t i = 0; i < axes.size(); ++i)
    entries.try_emplace({arg.isDim(i), axes[i]},
                        Entry{shape[i], "array '" + name + "'"});
  return {};
}

} // namespace delta::runtime
