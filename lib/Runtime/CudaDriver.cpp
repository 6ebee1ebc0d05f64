//===- CudaDriver.cpp - the CUDA driver's functions -----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The library belongs to the driver, not to a toolkit: where there is a working
// GPU, there it is.
//
//===----------------------------------------------------------------------===//

#include "CudaDriver.h"

#include <dlfcn.h>

namespace delta::runtime::cuda {

static Expected<Driver> loadDriver() {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *why = dlerror();
    return Status::error("no CUDA driver is installed (",
                         why ? why : "libcuda.so.1 was not found", ")");
  }
  Driver driver;
#define DELTA_CUDA_LOOKUP(NAME, PARAMETERS)                                    \
  driver.NAME =                                                                \
      reinterpret_cast<decltype(driver.NAME)>(dlsym(library, #NAME));          \
  if (!driver.NAME)                                                            \
    return Status::error("the CUDA driver is too old: it has no " #NAME);
  DELTA_CUDA_FUNCTIONS(DELTA_CUDA_LOOKUP)
#undef DELTA_CUDA_LOOKUP
  if (Status status =
          driver.check(driver.cuInit(0), "the CUDA driver cannot be used");
      !status.ok())
    return status;
  return driver;
}

Expected<const Driver *> Driver::get() {
  static const Expected<Driver> driver = loadDriver();
  if (!driver)
    return driver.error();
  return &*driver;
}

Status Driver::check(Result result, const std::string &what) const {
  if (result == 0)
    return {};
  const char *name = nullptr, *text = nullptr;
  cuGetErrorName(result, &name);
  cuGetErrorString(result, &text);
  return Status::error(what, ": ", name ? name : "unknown CUDA error ",
                       name ? "" : std::to_string(result), " (",
                       text ? text : "no description", ")");
}

} // namespace delta::runtime::cuda
