//===- MachineLimits.cpp - what this machine can do at most ---------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Twelve independent accumulators keep two multiply-add units busy over a
// latency of up to six cycles. This file is compiled with contraction, so that
// a * b + c is one instruction where there is one.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/MachineLimits.h"

#include "delta/Runtime/NdArray.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

namespace delta::runtime {

namespace {

constexpr int kAccumulators = 12;

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

template <typename T, int Bytes> struct VectorOf {
  typedef T type __attribute__((vector_size(Bytes)));
};

/// `rounds` multiply-adds on every accumulator; the sum keeps them alive. The
/// accumulators are twelve variables and no array, which would stay in memory,
/// and begin with different values, so that none can stand for another.
template <typename T, int Bytes>
__attribute__((always_inline)) inline double multiplyAdd(int64_t rounds) {
  using V = typename VectorOf<T, Bytes>::type;
  V factor{}, term{};
  factor += static_cast<T>(0.999);
  term += static_cast<T>(0.001);
  asm volatile("" : "+m"(factor), "+m"(term));
  V a0 = term, a1 = a0 + term, a2 = a1 + term, a3 = a2 + term;
  V a4 = a3 + term, a5 = a4 + term, a6 = a5 + term, a7 = a6 + term;
  V a8 = a7 + term, a9 = a8 + term, a10 = a9 + term, a11 = a10 + term;
  for (int64_t i = 0; i < rounds; ++i) {
    a0 = a0 * factor + term, a1 = a1 * factor + term;
    a2 = a2 * factor + term, a3 = a3 * factor + term;
    a4 = a4 * factor + term, a5 = a5 * factor + term;
    a6 = a6 * factor + term, a7 = a7 * factor + term;
    a8 = a8 * factor + term, a9 = a9 * factor + term;
    a10 = a10 * factor + term, a11 = a11 * factor + term;
  }
  V total = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7)) +
            ((a8 + a9) + (a10 + a11));
  return static_cast<double>(total[0] + total[1]);
}

/// A function for each vector width; the widest the machine has is called.
struct FlopsKernel {
  double (*run)(int64_t rounds);
  int bytes;
};

#ifdef __x86_64__
template <typename T>
__attribute__((target("avx512f"))) double runAvx512(int64_t rounds) {
  return multiplyAdd<T, 64>(rounds);
}
template <typename T>
__attribute__((target("avx2,fma"))) double runAvx2(int64_t rounds) {
  return multiplyAdd<T, 32>(rounds);
}
#endif
template <typename T> double runPlain(int64_t rounds) {
  return multiplyAdd<T, 16>(rounds);
}

template <typename T> FlopsKernel pickFlopsKernel() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f"))
    return {runAvx512<T>, 64};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return {runAvx2<T>, 32};
#endif
  return {runPlain<T>, 16};
}

double measureFlops(ThreadPool &pool, bool f64) {
  constexpr int64_t kRounds = 100000;
  FlopsKernel kernel =
      f64 ? pickFlopsKernel<double>() : pickFlopsKernel<float>();
  double lanes = kernel.bytes / (f64 ? 8 : 4);
  unsigned threads = pool.numThreads();
  double best = 0;
  std::vector<double> sinks(threads);
  for (int repeat = 0; repeat < 20; ++repeat) {
    auto begin = Clock::now();
    pool.parallelFor(threads, [&](int64_t, int64_t, unsigned thread) {
      sinks[thread] += kernel.run(kRounds);
    });
    double flops = 2 * lanes * kAccumulators * double(kRounds) * threads;
    best = std::max(best, flops / secondsSince(begin));
  }
  return best;
}

double measureBytes(ThreadPool &pool) {
  // Far beyond the caches of one thread's share.
  constexpr int64_t kBytes = int64_t(1) << 26;
  Expected<NdArray> from = NdArray::zeros(DType::U8, {kBytes});
  Expected<NdArray> to = NdArray::zeros(DType::U8, {kBytes});
  if (!from || !to)
    return 0;
  double best = 0;
  for (int repeat = 0; repeat < 4; ++repeat) {
    auto begin = Clock::now();
    pool.parallelFor(kBytes >> 12, [&](int64_t first, int64_t last, unsigned) {
      std::memcpy(to->as<char>() + (first << 12),
                  from->as<char>() + (first << 12),
                  static_cast<size_t>(last - first) << 12);
    });
    best = std::max(best, 2 * double(kBytes) / secondsSince(begin));
  }
  return best;
}

} // namespace

MachineLimits measureMachineLimits(ThreadPool &pool, bool f64) {
  return {measureBytes(pool), measureFlops(pool, f64)};
}

} // namespace delta::runtime
