//===- Launch.h - Running a CPU kernel on a thread pool ---------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The C interface of a compiled kernel and the launcher over it. Run-time code:
// it knows nothing of how the kernel was made.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_CPU_LAUNCH_H
#define DELTA_TARGET_CPU_LAUNCH_H

#include "delta/Runtime/Invocation.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace delta::runtime {
class ThreadPool;
} // namespace delta::runtime

namespace delta::cpu {

/// What the entry points return.
enum KernelStatus : int {
  kOk = 0,
  /// A negative B, T or H, or a size that differs from the compiled one.
  kBadDims = 1,
  /// Too few bytes, or not aligned to 64.
  kBadWorkspace = 2,
  /// Work items outside [0, B*H*vblocks), or vblocks outside [1, panels].
  kBadRange = 3,
  /// A null pointer for an array that is not optional.
  kBadPointer = 4,
};

/// Says in words what a status means.
const char *describeStatus(int status);

/// Alignment of a workspace, in bytes.
constexpr size_t kWorkspaceAlignment = 64;

/// `delta_NAME_range`: work items [begin, end) of B * H * vblocks.
///
/// `in`: the ins and params in declared order, then the initial state (null:
/// zero). `out`: the outs in declared order, then the final state (null: not
/// wanted), which may be the initial state's array. All arrays are row-major
/// and contiguous: tokens [B, T, (n,) H, (dim)], params [H, (dim)], states
/// [B, H, A, B']. `dims`: B, T, H, then every other dim of the signature in
/// order of first use. `attrs`: in declared order.
using RangeFunction = int (*)(const void *const *in, void *const *out,
                              const int64_t *dims, const double *attrs,
                              void *workspace, size_t workspaceBytes,
                              int64_t begin, int64_t end, int64_t vblocks);

/// A kernel's entry point and what its callers must know.
struct KernelEntry {
  RangeFunction range = nullptr;
  /// Bytes of workspace that each thread needs.
  size_t workspaceBytes = 0;
  /// Column panels of the state: the most blocks it can be split into.
  int64_t panels = 1;
};

/// Calls a kernel on the threads of a pool, again and again: the workspaces,
/// one a thread, are allocated once. Not for use by several threads at a time.
class Launcher {
public:
  /// `pool` must outlive the launcher.
  Launcher(const KernelEntry &entry, runtime::ThreadPool &pool);
  ~Launcher();
  Launcher(const Launcher &) = delete;
  Launcher &operator=(const Launcher &) = delete;

  /// Runs all work items and returns when they are done: kOk, or the first
  /// status that is not. The arguments are those of RangeFunction. The split
  /// over threads never changes a result. With `serial` only the calling thread
  /// works.
  int operator()(const void *const *in, void *const *out, const int64_t *dims,
                 const double *attrs, bool serial = false);

private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

/// Runs a kernel on the arrays of an invocation.
class Runner final : public runtime::Runner {
public:
  /// `sizes` are those of the dims that arrays have, in order of first use;
  /// `pool` must outlive the runner.
  Runner(const KernelEntry &entry, std::vector<int64_t> sizes,
         runtime::ThreadPool &pool);
  ~Runner() override;

  runtime::Status launch(const runtime::Invocation &invocation) override;

private:
  Launcher launcher;
  std::vector<int64_t> sizes;
};

/// One call; the workspaces live only as long as it does.
int launch(const KernelEntry &entry, const void *const *in, void *const *out,
           const int64_t *dims, const double *attrs, runtime::ThreadPool &pool);

} // namespace delta::cpu

#endif // DELTA_TARGET_CPU_LAUNCH_H
