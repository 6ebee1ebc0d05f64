//===- Bench.cpp - measuring a kernel -------------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The median over as many calls as fit a second, beside the floors that the
// machine sets: the share is how near the kernel comes to the larger one.
//
//===----------------------------------------------------------------------===//

#include "Run.h"
#include "delta/Driver/Output.h"
#include "delta/Runtime/MachineLimits.h"

#include "llvm/Support/Format.h"

#include <algorithm>
#include <chrono>

using namespace llvm;

namespace delta::run {

LogicalResult bench(StringRef name, driver::KernelCall &call,
                    cpu::Launcher &launcher, double flops, bool f64,
                    runtime::ThreadPool &pool, driver::Reporter &reporter) {
  using Clock = std::chrono::steady_clock;
  constexpr double kBudget = 1.0;
  constexpr size_t kAtLeast = 5, kAtMost = 10000;
  std::vector<double> times;
  auto start = Clock::now();
  while (times.size() < kAtMost) {
    auto begin = Clock::now();
    if (failed(call.run(launcher, reporter)))
      return failure();
    auto end = Clock::now();
    times.push_back(std::chrono::duration<double>(end - begin).count());
    if (times.size() >= kAtLeast &&
        std::chrono::duration<double>(end - start).count() > kBudget)
      break;
  }
  std::sort(times.begin(), times.end());
  double median = times[times.size() / 2];

  runtime::MachineLimits limits = runtime::measureMachineLimits(pool, f64);
  double bytes = static_cast<double>(call.getBytes()), floor = 0;
  if (limits.bytesPerSecond > 0)
    floor = std::max(floor, bytes / limits.bytesPerSecond);
  if (limits.flopsPerSecond > 0)
    floor = std::max(floor, flops / limits.flopsPerSecond);
  outs() << format("bench %s median_s=%.6e bytes=%.0f gbps=%.2f gflops=%.2f "
                   "share=%.3f\n",
                   name.str().c_str(), median, bytes, bytes / median / 1e9,
                   flops / median / 1e9, floor / median);
  return driver::flushOutput(reporter);
}

} // namespace delta::run
