//===- LaunchCheck.h - arrays of a launch ----------------------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Verifies what a caller gives to a kernel before it is launched.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_LAUNCHCHECK_H
#define DELTA_RUNTIME_LAUNCHCHECK_H

#include "delta/Runtime/Signature.h"

#include <optional>
#include <vector>

namespace delta::runtime {

/// An array of a caller, wherever it lies.
struct ArrayView {
  void *data = nullptr;
  DType dtype = DType::F32;
  Shape shape;
};

/// The arrays of a launch, in declared order.
struct LaunchArrays {
  std::vector<ArrayView> inputs;
  std::optional<ArrayView> initialState;
  std::vector<ArrayView> outputs;
  std::vector<ArrayView> sums;
  std::optional<ArrayView> checkpoints;
  std::optional<ArrayView> finalState;
};

struct LaunchSizes {
  int64_t B = 0, T = 0, H = 0;
};

/// Compares numbers, types and shapes of the arrays with the signature, and
/// with one another; data that are missing although there are elements, or not
/// at a multiple of `alignment` (0: of an element's size), are errors.
Expected<LaunchSizes> checkLaunch(const Signature &signature,
                                  const LaunchArrays &arrays, size_t alignment);

/// Fills in defaults where `values` has a NaN, and checks ranges. `values` may
/// be null: all defaults.
Expected<std::vector<double>> completeAttrs(const Signature &signature,
                                            const double *values, size_t count);

} // namespace delta::runtime

#endif // DELTA_RUNTIME_LAUNCHCHECK_H
