/* Part of the delta project, under the Apache License v2.0 with LLVM
 * Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * A CUDA driver with two devices (compute capability 8.0) that have memory and
 * execute nothing: each launch prints its grid.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long address;

enum { MAX = 256, INVALID = 1 };
static struct {
  char *begin;
  size_t bytes;
  int device;
} allocations[MAX];
static int count, current;
static char contexts[2], handle;

int cuInit(unsigned flags) { return (int)flags; }
int cuDriverGetVersion(int *version) { return *version = 12000, 0; }
int cuGetErrorName(int code, const char **text) {
  return *text = code == INVALID ? "CUDA_ERROR_INVALID_VALUE" : "?", 0;
}
int cuGetErrorString(int code, const char **text) {
  return *text = code ? "invalid argument" : "no error", 0;
}
int cuDeviceGetCount(int *devices) { return *devices = 2, 0; }
int cuDeviceGet(int *device, int index) { return *device = index, 0; }
int cuDeviceGetName(char *text, int bytes, int device) {
  return snprintf(text, (size_t)bytes, "Fake %d", device), 0;
}
int cuDeviceGetAttribute(int *value, int which, int device) {
  (void)device;
  return *value = which == 75 ? 8 : which == 76 ? 0 : 166912, 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
  return *context = &contexts[device], 0;
}
int cuDevicePrimaryCtxRelease_v2(int device) { return device * 0; }
int cuCtxPushCurrent_v2(void *context) {
  return current = (int)((char *)context - contexts), 0;
}
int cuCtxPopCurrent_v2(void **context) { return *context = NULL, 0; }
int cuModuleLoadDataEx(void **module, const void *image, unsigned options,
                       int *names, void **values) {
  (void)image, (void)options, (void)names, (void)values;
  return *module = &handle, 0;
}
int cuModuleUnload(void *module) { return module != &handle; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
  (void)module, (void)name;
  return *function = &handle, 0;
}
int cuFuncGetAttribute(int *value, int which, void *function) {
  (void)which, (void)function;
  return *value = 1024, 0;
}
int cuFuncSetAttribute(void *function, int which, int value) {
  (void)function, (void)which, (void)value;
  return 0;
}
int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z,
                   unsigned threads, unsigned threadsY, unsigned threadsZ,
                   unsigned shared, void *stream, void **params, void **extra) {
  (void)function, (void)threadsY, (void)threadsZ, (void)shared, (void)stream;
  (void)params, (void)extra;
  printf("launched on device %d: grid %u %u %u, %u threads\n", current, x, y, z,
         threads);
  return 0;
}
int cuMemAlloc_v2(address *pointer, size_t bytes) {
  char *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!memory || count == MAX)
    return INVALID;
  allocations[count].begin = memory;
  allocations[count].bytes = bytes;
  allocations[count++].device = current;
  return *pointer = (uintptr_t)memory, 0;
}
int cuMemFree_v2(address pointer) {
  int i;
  for (i = 0; i < count; ++i)
    if ((uintptr_t)allocations[i].begin == pointer)
      allocations[i].bytes = 0;
  return free((void *)(uintptr_t)pointer), 0;
}
int cuMemcpyHtoD_v2(address to, const void *from, size_t bytes) {
  return memcpy((void *)(uintptr_t)to, from, bytes), 0;
}
int cuMemcpyDtoH_v2(void *to, address from, size_t bytes) {
  return memcpy(to, (void *)(uintptr_t)from, bytes), 0;
}
int cuMemcpyDtoDAsync_v2(address to, address from, size_t bytes, void *stream) {
  (void)stream;
  return memcpy((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes), 0;
}
int cuPointerGetAttribute(void *value, int which, address pointer) {
  int i;
  for (i = 0; i < count; ++i)
    if (pointer - (uintptr_t)allocations[i].begin < allocations[i].bytes)
      return *(int *)value = which == 2 ? 2 : allocations[i].device, 0;
  return INVALID;
}
int cuStreamSynchronize(void *stream) { return (void)stream, 0; }
int cuEventCreate(void **event, unsigned flags) {
  return *event = &handle, (int)flags;
}
int cuEventDestroy_v2(void *event) { return event != &handle; }
int cuEventRecord(void *event, void *stream) {
  return (void)stream, event != &handle;
}
int cuEventSynchronize(void *event) { return event != &handle; }
int cuEventElapsedTime(float *milliseconds, void *begin, void *end) {
  return *milliseconds = 1, begin != end;
}
