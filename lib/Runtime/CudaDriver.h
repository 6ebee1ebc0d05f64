//===- CudaDriver.h - the CUDA driver's functions --------------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The part of the driver interface that is used, looked up in the driver's
// library when it is first wanted. The types and numbers are those of the
// interface, which is stable.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_RUNTIME_CUDADRIVER_H
#define DELTA_LIB_RUNTIME_CUDADRIVER_H

#include "delta/Runtime/Status.h"

#include <cstddef>
#include <cstdint>
#include <string>

namespace delta::runtime::cuda {

using Result = int; ///< CUresult; 0 is success
using DeviceId = int;
using Context = void *;
using ModuleHandle = void *;
using Function = void *;
using Stream = void *;
using Event = void *;
using Address = unsigned long long;

// Values of the interface's enumerations.
constexpr int kMajor = 75, kMinor = 76;      // CU_DEVICE_ATTRIBUTE_...
constexpr int kMaxSharedOptin = 97;          // of a CTA, opted in
constexpr int kFunctionMaxDynamicShared = 8; // CU_FUNC_ATTRIBUTE_...
constexpr int kFunctionMaxThreads = 0;
constexpr int kJitErrorLog = 5, kJitErrorLogSize = 6; // CU_JIT_...
constexpr int kPointerMemoryType = 2,
              kPointerDeviceOrdinal = 9; // CU_POINTER_ATTRIBUTE_...
constexpr unsigned kMemoryDevice = 2;    // CU_MEMORYTYPE_DEVICE

// name, parameters: all return a CUresult.
#define DELTA_CUDA_FUNCTIONS(X)                                                \
  X(cuInit, (unsigned))                                                        \
  X(cuDriverGetVersion, (int *))                                               \
  X(cuGetErrorName, (Result, const char **))                                   \
  X(cuGetErrorString, (Result, const char **))                                 \
  X(cuDeviceGetCount, (int *))                                                 \
  X(cuDeviceGet, (DeviceId *, int))                                            \
  X(cuDeviceGetName, (char *, int, DeviceId))                                  \
  X(cuDeviceGetAttribute, (int *, int, DeviceId))                              \
  X(cuDevicePrimaryCtxRetain, (Context *, DeviceId))                           \
  X(cuDevicePrimaryCtxRelease_v2, (DeviceId))                                  \
  X(cuCtxPushCurrent_v2, (Context))                                            \
  X(cuCtxPopCurrent_v2, (Context *))                                           \
  X(cuModuleLoadDataEx,                                                        \
    (ModuleHandle *, const void *, unsigned, int *, void **))                  \
  X(cuModuleUnload, (ModuleHandle))                                            \
  X(cuModuleGetFunction, (Function *, ModuleHandle, const char *))             \
  X(cuFuncGetAttribute, (int *, int, Function))                                \
  X(cuFuncSetAttribute, (Function, int, int))                                  \
  X(cuLaunchKernel, (Function, unsigned, unsigned, unsigned, unsigned,         \
                     unsigned, unsigned, unsigned, Stream, void **, void **))  \
  X(cuMemAlloc_v2, (Address *, size_t))                                        \
  X(cuMemFree_v2, (Address))                                                   \
  X(cuMemcpyHtoD_v2, (Address, const void *, size_t))                          \
  X(cuMemcpyDtoH_v2, (void *, Address, size_t))                                \
  X(cuMemcpyDtoDAsync_v2, (Address, Address, size_t, Stream))                  \
  X(cuPointerGetAttribute, (void *, int, Address))                             \
  X(cuStreamSynchronize, (Stream))                                             \
  X(cuEventCreate, (Event *, unsigned))                                        \
  X(cuEventDestroy_v2, (Event))                                                \
  X(cuEventRecord, (Event, Stream))                                            \
  X(cuEventSynchronize, (Event))                                               \
  X(cuEventElapsedTime, (float *, Event, Event))

/// The driver, loaded once a process and never unloaded.
struct Driver {
#define DELTA_CUDA_MEMBER(NAME, PARAMETERS) Result(*NAME) PARAMETERS = nullptr;
  DELTA_CUDA_FUNCTIONS(DELTA_CUDA_MEMBER)
#undef DELTA_CUDA_MEMBER

  /// Loads libcuda.so.1 and initialises it; the error says why there is none.
  static Expected<const Driver *> get();

  /// Success, or "WHAT: CUDA_ERROR_NAME (its description)".
  Status check(Result result, const std::string &what) const;
};

} // namespace delta::runtime::cuda

#endif // DELTA_LIB_RUNTIME_CUDADRIVER_H
