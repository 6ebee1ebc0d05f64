//===- LaunchPlan.h - checking launches without allocating ------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A launch of one token costs microseconds, and so did the checks that can word
// every mistake. A plan only answers whether a launch is right; what it does
// not accept goes through checkLaunch, which says why.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_CAPI_LAUNCHPLAN_H
#define DELTA_LIB_CAPI_LAUNCHPLAN_H

#include "delta-c/Runtime.h"

#include "delta/Runtime/LaunchCheck.h"

#include <array>
#include <optional>
#include <vector>

namespace delta::capi {

class LaunchPlan {
public:
  /// `alignment` is as for checkLaunch.
  LaunchPlan(const runtime::Signature &signature, size_t alignment);

  /// The sizes of a launch that is right; none when it is wrong, or when only
  /// checkLaunch can tell.
  std::optional<runtime::LaunchSizes> check(const delta_launch &launch) const;

  /// The launch's attrs with defaults filled in, into `values`; false when a
  /// value is missing, out of its range, or needs an evaluation.
  bool completeAttrs(const delta_launch &launch,
                     std::vector<double> &values) const;

private:
  static constexpr size_t kMaxRank = 8;
  struct Array {
    delta_dtype dtype;
    size_t rank = 0;
    /// A size, or -1 - i for number i of B, T, H.
    std::array<int64_t, kMaxRank> sizes;
  };
  struct Attr {
    double value; ///< the default; a NaN: there is none
    double lo, hi;
  };
  bool add(const runtime::Signature &signature, const runtime::Argument &arg,
           std::vector<Array> &arrays);
  bool fits(const Array &expected, const delta_array &array,
            std::array<int64_t, 3> &sizes) const;

  bool usable = true;
  size_t alignment;
  std::vector<Array> inputs, outs, state;
  std::vector<Attr> attrs;
};

} // namespace delta::capi

#endif // DELTA_LIB_CAPI_LAUNCHPLAN_H
