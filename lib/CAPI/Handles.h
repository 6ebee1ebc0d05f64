//===- Handles.h - what the run time's handles hold -------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The structures behind the pointers of delta-c/Runtime.h, and how errors leave
// its functions. No exception does: what could throw is caught at the border.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_CAPI_HANDLES_H
#define DELTA_LIB_CAPI_HANDLES_H

#include "delta-c/Runtime.h"

#include "Arguments.h"
#include "LaunchPlan.h"

#include "delta/Runtime/Device.h"
#include "delta/Runtime/ThreadPool.h"
#include "delta/Target/CPU/SharedKernel.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <vector>

namespace delta::capi {

/// A bundle and what the questions about it are answered with.
struct LoadedBundle {
  runtime::Bundle bundle;
  std::vector<ArgTexts> args;
  std::vector<std::pair<std::string, int64_t>> dims;

  explicit LoadedBundle(runtime::Bundle contents)
      : bundle(std::move(contents)) {
    const runtime::Signature &signature = bundle.signature;
    dims.assign(signature.dims.begin(), signature.dims.end());
    args = makeTexts(signature);
  }
};

/// A device, or the CPU when `gpu` is null.
struct OpenedDevice {
  std::unique_ptr<runtime::Device> gpu;
  runtime::SimulatedDevice *simulator = nullptr;
  std::unique_ptr<runtime::ThreadPool> pool;
  std::string description;
  /// The simulator's memory is used by one thread at a time.
  std::mutex mutex;
};

inline char *copyText(const std::string &text) {
  char *copy = static_cast<char *>(std::malloc(text.size() + 1));
  if (copy)
    std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

inline delta_status fail(char **error, const std::string &message,
                         delta_status status = DELTA_ERROR) {
  if (error)
    *error = copyText(message);
  return status;
}

/// Calls `body`, which returns a delta_status and may throw.
template <typename Body> delta_status guarded(char **error, Body body) {
  if (error)
    *error = nullptr;
  try {
    return body();
  } catch (const std::bad_alloc &) {
    return fail(error, "out of memory");
  } catch (const std::exception &exception) {
    return fail(error, exception.what());
  }
}

/// Writes as much of `info` as the caller's structure has room for.
template <typename Info>
delta_status writeInfo(Info *info, Info &&values, char **error) {
  if (info->struct_size < sizeof(size_t))
    return fail(error, "struct_size is not set");
  size_t size = std::min(info->struct_size, sizeof(Info));
  values.struct_size = info->struct_size;
  std::memcpy(info, &values, size);
  return DELTA_OK;
}

inline delta_kernel_info describe(const runtime::BundleKernel &kernel) {
  delta_kernel_info info = {};
  info.target = kernel.target.c_str();
  info.fn = kernel.fn.c_str();
  info.entry = kernel.entry.c_str();
  info.compute = kernel.compute.c_str();
  info.flops_per_token = kernel.flopsPerToken;
  info.alignment = kernel.isCpu() ? 0 : runtime::kGpuAlignment;
  info.v_blocks = 1;
  info.num_launches = kernel.launches.size();
  if (kernel.launches.empty())
    return info;
  const runtime::KernelLaunch &last = kernel.launches.back();
  info.threads = last.threads;
  info.shared_bytes = last.sharedBytes;
  info.v_blocks = last.vBlocks;
  for (const runtime::WorkspacePart &part : kernel.workspace) {
    bool ofCta = kernel.launches.size() == 1 && part.ofB && part.ofH &&
                 part.tokens == 0 && part.bytes % last.vBlocks == 0;
    if (!ofCta) {
      info.workspace_bytes = -1;
      break;
    }
    info.workspace_bytes += part.bytes / last.vBlocks;
  }
  return info;
}

inline delta_launch_info describe(const runtime::KernelLaunch &launch) {
  delta_launch_info info = {};
  info.entry = launch.entry.c_str();
  info.threads = launch.threads;
  info.shared_bytes = launch.sharedBytes;
  info.v_blocks = launch.vBlocks;
  info.tokens = launch.tokens;
  return info;
}

} // namespace delta::capi

// Handles share what they refer to, so that the order of closing is free.
struct delta_bundle {
  std::shared_ptr<const delta::capi::LoadedBundle> loaded;
};

struct delta_device {
  std::shared_ptr<delta::capi::OpenedDevice> opened;
};

struct delta_kernel {
  // Destroyed in reverse order: a loaded kernel before its device.
  std::shared_ptr<const delta::capi::LoadedBundle> bundle;
  std::shared_ptr<delta::capi::OpenedDevice> device;
  const delta::runtime::BundleKernel *kernel = nullptr;
  std::unique_ptr<delta::cpu::SharedKernel> cpuKernel;
  std::unique_ptr<delta::cpu::Launcher> launcher;
  std::unique_ptr<delta::runtime::DeviceKernel> gpuKernel;
  std::optional<delta::capi::LaunchPlan> plan;
  std::mutex mutex;
  // What a launch on the CPU passes on, kept from one to the next; guarded by
  // the mutex.
  std::vector<const void *> in;
  std::vector<void *> out;
  std::vector<int64_t> dims;
  std::vector<double> attrs;
};

#endif // DELTA_LIB_CAPI_HANDLES_H
