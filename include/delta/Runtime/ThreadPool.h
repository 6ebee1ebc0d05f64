//===- ThreadPool.h - persistent worker threads -----------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A pool that splits a range of independent items over threads, always in the
// same way: which items a thread gets depends on the counts alone.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_THREADPOOL_H
#define DELTA_RUNTIME_THREADPOOL_H

#include <cstdint>
#include <functional>
#include <memory>

namespace delta::runtime {

/// The number of processors this process may run on: its affinity mask, at
/// least 1.
unsigned availableThreads();

class ThreadPool {
public:
  /// The work of one thread: items [begin, end) as thread number `thread`.
  using Work = std::function<void(int64_t begin, int64_t end, unsigned thread)>;

  /// A pool of `numThreads` threads, the caller's included; 0 stands for
  /// availableThreads(). When the system refuses threads, the pool has fewer.
  explicit ThreadPool(unsigned numThreads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  unsigned numThreads() const;

  /// Calls `work` on at most numThreads() contiguous parts of [0, numItems)
  /// whose sizes differ by at most one, and returns when all are done. The
  /// calling thread takes part 0. `work` must not throw, nor call parallelFor
  /// on the same pool; calls from several threads run one after the other.
  void parallelFor(int64_t numItems, const Work &work);

  /// The same, but the items are handed out in pieces, a few for each thread,
  /// to whoever is free: a thread may be called several times, or never.
  void share(int64_t numItems, const Work &work);

private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

} // namespace delta::runtime

#endif // DELTA_RUNTIME_THREADPOOL_H
