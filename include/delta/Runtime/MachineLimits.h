//===- MachineLimits.h - what this machine can do at most -------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The two floors under any kernel's time, measured: bytes over the copy
// bandwidth, and multiply-adds over the peak of the vector units.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_MACHINELIMITS_H
#define DELTA_RUNTIME_MACHINELIMITS_H

#include "delta/Runtime/ThreadPool.h"

namespace delta::runtime {

struct MachineLimits {
  double bytesPerSecond = 0; ///< read plus written, by all threads
  double flopsPerSecond = 0; ///< in registers, by all threads

  /// The seconds that `bytes` and `flops` need at least.
  double floor(double bytes, double flops) const {
    double seconds = 0;
    if (bytesPerSecond > 0)
      seconds = bytes / bytesPerSecond;
    if (flopsPerSecond > 0 && flops / flopsPerSecond > seconds)
      seconds = flops / flopsPerSecond;
    return seconds;
  }
};

/// Measures for about 0.1 s on the pool's threads, in f64 or f32. A limit that
/// cannot be measured (no memory) is 0.
MachineLimits measureMachineLimits(ThreadPool &pool, bool f64);

} // namespace delta::runtime

#endif // DELTA_RUNTIME_MACHINELIMITS_H
