//===- ThreadPool.cpp - persistent worker threads -------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Workers sleep on a condition variable between jobs. A job is a generation
// number: a worker runs each generation once, its own part of the range, or as
// many pieces of a shared range as it gets. Of a shared job nobody waits for a
// worker that has not begun: on a busy machine it may not run for long.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/ThreadPool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace delta::runtime {

unsigned availableThreads() {
#ifdef __linux__
  // Machines with more processors than a fixed cpu_set_t holds need a larger
  // mask; the kernel says EINVAL until it is large enough.
  for (int processors = CPU_SETSIZE; processors <= 1 << 16; processors *= 2) {
    cpu_set_t *mask = CPU_ALLOC(processors);
    if (!mask)
      break;
    size_t size = CPU_ALLOC_SIZE(processors);
    int count =
        sched_getaffinity(0, size, mask) == 0 ? CPU_COUNT_S(size, mask) : 0;
    CPU_FREE(mask);
    if (count > 0)
      return static_cast<unsigned>(count);
  }
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

struct ThreadPool::Impl {
  std::mutex callers; ///< one job at a time
  std::mutex mutex;   ///< guards everything below
  std::condition_variable wake, done;
  uint64_t generation = 0;
  bool stop = false;
  const Work *work = nullptr;
  int64_t numItems = 0;
  unsigned parts = 0;   ///< threads with something to do in this job
  unsigned pending = 0; ///< workers that have not finished it
  int64_t piece = 0;    ///< items taken at once from a shared range; 0: parts
  bool open = false;    ///< whether workers may join a shared job
  std::atomic<int64_t> next{0}; ///< first item of it that nobody took
  std::vector<std::thread> workers;

  void runPieces(const Work &work, int64_t numItems, int64_t piece,
                 unsigned thread) {
    int64_t begin;
    while ((begin = next.fetch_add(piece)) < numItems)
      work(begin, std::min(begin + piece, numItems), thread);
  }

  static void runPart(const Work &work, int64_t numItems, unsigned parts,
                      unsigned part) {
    int64_t each = numItems / parts, extra = numItems % parts;
    int64_t begin = part * each + std::min<int64_t>(part, extra);
    work(begin, begin + each + (part < extra ? 1 : 0), part);
  }

  void loop(unsigned thread) {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex);
    while (true) {
      wake.wait(lock, [&] { return stop || generation != seen; });
      if (stop)
        return;
      seen = generation;
      if (thread >= parts || (piece && !open))
        continue;
      const Work &current = *work;
      int64_t items = numItems, taken = piece;
      unsigned count = parts;
      pending += taken ? 1 : 0;
      lock.unlock();
      if (taken)
        runPieces(current, items, taken, thread);
      else
        runPart(current, items, count, thread);
      lock.lock();
      if (--pending == 0)
        done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(unsigned numThreads) : impl(std::make_unique<Impl>()) {
  if (numThreads == 0)
    numThreads = availableThreads();
  for (unsigned thread = 1; thread < numThreads; ++thread) {
    try {
      impl->workers.emplace_back([this, thread] { impl->loop(thread); });
    } catch (const std::system_error &) {
      break; // the system has no more threads: go on with what we have
    }
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(impl->mutex);
    impl->stop = true;
  }
  impl->wake.notify_all();
  for (std::thread &worker : impl->workers)
    worker.join();
}

unsigned ThreadPool::numThreads() const {
  return static_cast<unsigned>(impl->workers.size()) + 1;
}

void ThreadPool::parallelFor(int64_t numItems, const Work &work) {
  if (numItems <= 0)
    return;
  unsigned parts =
      static_cast<unsigned>(std::min<int64_t>(numItems, numThreads()));
  if (parts == 1) {
    work(0, numItems, 0);
    return;
  }
  std::lock_guard<std::mutex> caller(impl->callers);
  {
    std::lock_guard<std::mutex> lock(impl->mutex);
    impl->work = &work;
    impl->numItems = numItems;
    impl->parts = parts;
    impl->piece = 0;
    impl->pending = parts - 1;
    ++impl->generation;
  }
  impl->wake.notify_all();
  Impl::runPart(work, numItems, parts, 0);
  std::unique_lock<std::mutex> lock(impl->mutex);
  impl->done.wait(lock, [&] { return impl->pending == 0; });
}

void ThreadPool::share(int64_t numItems, const Work &work) {
  constexpr int64_t kPiecesPerThread = 4;
  if (numItems <= 0)
    return;
  if (numItems == 1 || numThreads() == 1) {
    work(0, numItems, 0);
    return;
  }
  int64_t pieces = kPiecesPerThread * numThreads();
  std::lock_guard<std::mutex> caller(impl->callers);
  {
    std::lock_guard<std::mutex> lock(impl->mutex);
    impl->work = &work;
    impl->numItems = numItems;
    impl->parts = numThreads();
    impl->piece = (numItems + pieces - 1) / pieces;
    impl->open = true;
    impl->next = 0;
    impl->pending = 0;
    ++impl->generation;
  }
  impl->wake.notify_all();
  impl->runPieces(work, numItems, impl->piece, 0);
  std::unique_lock<std::mutex> lock(impl->mutex);
  impl->open = false;
  impl->done.wait(lock, [&] { return impl->pending == 0; });
}

} // namespace delta::runtime
