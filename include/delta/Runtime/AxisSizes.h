//===- AxisSizes.h - sizes that arrays agree on ----------------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every axis of an argument has a name (B, T, H, a dim). The first array that
// has an axis fixes its size, and the others must agree, so that a message can
// say where the expectation comes from.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_AXISSIZES_H
#define DELTA_RUNTIME_AXISSIZES_H

#include "delta/Runtime/Signature.h"

#include <optional>
#include <string>
#include <utility>

namespace delta::runtime {

/// Sizes by axis name, with what fixed them. The batch, token and head axes are
/// kept apart from dims, which may have the same names as them.
class AxisSizes {
public:
  /// Fixes dims; `source` says by what, in messages.
  void setDims(const NamedValues<int64_t> &dims, const std::string &source);

  /// The size of B, T or H, or of a dim; nothing when it is not known.
  std::optional<int64_t> lookup(const std::string &axis, bool dim) const;

  /// Compares the shape of an array with the argument's axes, and learns sizes
  /// from it. The error goes on after "array 'NAME' ".
  Status fit(const Argument &arg, const std::string &name, const Shape &shape);

  /// "(B=1, T, H=2, K=64)": the shape wanted, with sizes where they are known.
  std::string describeExpected(const Argument &arg) const;

private:
  struct Entry {
    int64_t size;
    std::string source;
  };
  const Entry *find(const std::string &axis, bool dim) const;

  std::map<std::pair<bool, std::string>, Entry> entries;
};

} // namespace delta::runtime

#endif // DELTA_RUNTIME_AXISSIZES_H
