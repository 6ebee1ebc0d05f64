//===- Launch.cpp - Running a CPU kernel on a thread pool -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Splits batch x heads x column blocks over the threads of a pool. The number
// of column blocks is the smallest that gives every thread an item, because
// what does not depend on the columns is computed once a block.
//
//===----------------------------------------------------------------------===//

#include "delta/Target/CPU/Launch.h"
#include "delta/Runtime/ThreadPool.h"

#include <algorithm>
#include <atomic>
#include <new>

using namespace delta::cpu;

const char *delta::cpu::describeStatus(int status) {
  switch (status) {
  case kOk:
    return "ok";
  case kBadDims:
    return "a dim is negative or differs from the size compiled for";
  case kBadWorkspace:
    return "the workspace is too small or not aligned to 64 bytes";
  case kBadRange:
    return "the range of work items or the number of column blocks is wrong";
  case kBadPointer:
    return "an array that is not optional is missing";
  default:
    return "unknown status";
  }
}

struct Launcher::Impl {
  KernelEntry entry;
  runtime::ThreadPool &pool;
  size_t stride = 0; // bytes from one thread's workspace to the next
  char *workspaces = nullptr;

  Impl(const KernelEntry &entry, runtime::ThreadPool &pool)
      : entry(entry), pool(pool) {
    // A page apart, so that threads share neither lines nor prefetches.
    stride = (std::max<size_t>(entry.workspaceBytes, 1) + 4095) / 4096 * 4096;
    workspaces = static_cast<char *>(::operator new(
        stride * pool.numThreads(), std::align_val_t(kWorkspaceAlignment)));
  }
  ~Impl() {
    ::operator delete(workspaces, std::align_val_t(kWorkspaceAlignment));
  }
};

Launcher::Launcher(const KernelEntry &entry, runtime::ThreadPool &pool)
    : impl(std::make_unique<Impl>(entry, pool)) {}

Launcher::~Launcher() = default;

int Launcher::operator()(const void *const *in, void *const *out,
                         const int64_t *dims, const double *attrs,
                         bool serial) {
  const KernelEntry &entry = impl->entry;
  int64_t heads = 0; // sequences times heads
  if (dims[0] < 0 || dims[1] < 0 || dims[2] < 0 ||
      __builtin_mul_overflow(dims[0], dims[2], &heads))
    return kBadDims;
  if (serial)
    return entry.range(in, out, dims, attrs, impl->workspaces, impl->stride, 0,
                       heads, 1);
  int64_t threads = impl->pool.numThreads();
  int64_t vblocks = 1;
  if (heads > 0 && heads < threads)
    vblocks = std::clamp<int64_t>((threads + heads - 1) / heads, 1,
                                  std::max<int64_t>(entry.panels, 1));
  // No items: one call all the same, so that the arguments are checked.
  if (heads == 0)
    return entry.range(in, out, dims, attrs, impl->workspaces, impl->stride, 0,
                       0, vblocks);
  std::atomic<int> status{kOk};
  impl->pool.share(
      heads * vblocks, [&](int64_t begin, int64_t end, unsigned thread) {
        int code = entry.range(in, out, dims, attrs,
                               impl->workspaces + thread * impl->stride,
                               impl->stride, begin, end, vblocks);
        int expected = kOk;
        if (code != kOk)
          status.compare_exchange_strong(expected, code);
      });
  return status;
}

Runner::Runner(const KernelEntry &entry, std::vector<int64_t> sizes,
               runtime::ThreadPool &pool)
    : launcher(entry, pool), sizes(std::move(sizes)) {}

Runner::~Runner() = default;

delta::runtime::Status Runner::launch(const runtime::Invocation &invocation) {
  std::vector<const void *> in;
  std::vector<void *> out;
  std::vector<int64_t> dims;
  for (const runtime::Part &part : invocation.parts()) {
    in.clear();
    out.clear();
    for (const runtime::Part::Region &region : part.in)
      in.push_back(region.data);
    for (const runtime::Part::Region &region : part.out)
      out.push_back(region.data);
    dims = {part.B, part.T, part.H};
    dims.insert(dims.end(), sizes.begin(), sizes.end());
    if (int status = launcher(in.data(), out.data(), dims.data(),
                              invocation.attrs().data()))
      return runtime::Status::error("the kernel refused its arguments: ",
                                    describeStatus(status));
  }
  return {};
}

int delta::cpu::launch(const KernelEntry &entry, const void *const *in,
                       void *const *out, const int64_t *dims,
                       const double *attrs, runtime::ThreadPool &pool) {
  return Launcher(entry, pool)(in, out, dims, attrs);
}
