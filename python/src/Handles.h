//===- Handles.h - bundles, devices and kernels -----------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The handles of delta-c/Runtime.h with an owner.
//
//===----------------------------------------------------------------------===//

#ifndef DELTAC_HANDLES_H
#define DELTAC_HANDLES_H

#include "Common.h"

#include <memory>

namespace deltac {

struct Bundle {
  std::unique_ptr<delta_bundle, void (*)(delta_bundle *)> handle;

  explicit Bundle(delta_bundle *bundle) : handle(bundle, delta_bundle_close) {}
};

struct Device {
  std::unique_ptr<delta_device, void (*)(delta_device *)> handle;
  std::string kind;

  Device(const std::string &name, int index, unsigned threads)
      : handle(nullptr, delta_device_close), kind(name) {
    delta_device *device = nullptr;
    char *error = nullptr;
    check(delta_device_open(name.c_str(), index, threads, &device, &error),
          &error);
    handle.reset(device);
  }
};

struct Kernel {
  std::unique_ptr<delta_kernel, void (*)(delta_kernel *)> handle;
  std::shared_ptr<Bundle> bundle;
  std::shared_ptr<Device> device;
  std::string fn;

  Kernel(std::shared_ptr<Bundle> bundle, std::shared_ptr<Device> device,
         const std::string &fn)
      : handle(nullptr, delta_kernel_close), bundle(std::move(bundle)),
        device(std::move(device)), fn(fn) {
    delta_kernel *kernel = nullptr;
    char *error = nullptr;
    check(delta_kernel_load(this->bundle->handle.get(),
                            this->device->handle.get(), fn.c_str(), &kernel,
                            &error),
          &error);
    handle.reset(kernel);
  }
};

} // namespace deltac

#endif // DELTAC_HANDLES_H
