/* Part of the delta project, under the Apache License v2.0 with LLVM
 * Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * launches DEVICE BUNDLE: launches the bundle of gain.ptx with every array in
 * turn at an odd address, in the host's memory and on another device. Nothing
 * of it must reach the device; launches.test compares.
 */
#include "delta-c/Runtime.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { B = 2, T = 3, H = 2, K = 2, V = 32, WORKSPACE = 256 };
static const char *names[] = {"v", "initial_state", "o", "final_state"};
static const size_t sizes[] = {B * T * H * V, B * H * K *V, B * T * H *V,
                               B * H * K *V};

static void require(delta_status status, char **error) {
  if (status == DELTA_OK)
    return;
  fprintf(stderr, "launches: error: status %d: %s\n", (int)status, *error);
  exit(1);
}

static void *allocate(delta_device *device, size_t bytes, const char *name) {
  void *pointer;
  char *error;
  require(delta_device_allocate(device, bytes, name, &pointer, &error), &error);
  return pointer;
}

int main(int argc, char **argv) {
  delta_device *device, *other = NULL;
  delta_bundle *bundle;
  delta_kernel *kernel;
  delta_array arrays[4];
  delta_launch launch = {0};
  int64_t tokens[] = {B, T, H, V}, states[] = {B, H, K, V};
  static float zeros[B * T * H * V];
  char *error, *host = aligned_alloc(256, 4096);
  int i, way;
  if (argc != 3 || !host)
    return 1;
  require(delta_device_open(argv[1], 0, 1, &device, &error), &error);
  if (strcmp(argv[1], "cuda") == 0)
    require(delta_device_open(argv[1], 1, 1, &other, &error), &error);
  printf("%s\n", delta_device_describe(device));
  require(delta_bundle_open(argv[2], &bundle, &error), &error);
  require(delta_kernel_load(bundle, device, "forward", &kernel, &error),
          &error);
  for (i = 0; i < 4; ++i) {
    size_t bytes = sizes[i] * sizeof(float);
    arrays[i].dtype = DELTA_F32;
    arrays[i].rank = 4;
    arrays[i].shape = i % 2 ? states : tokens;
    arrays[i].data = allocate(device, bytes, names[i]);
    require(delta_device_copy_in(device, arrays[i].data, zeros, bytes, &error),
            &error);
  }
  launch.struct_size = sizeof(launch);
  launch.inputs = &arrays[0];
  launch.num_inputs = 1;
  launch.initial_state = &arrays[1];
  launch.outputs = &arrays[2];
  launch.num_outputs = 1;
  launch.final_state = &arrays[3];
  launch.workspace = allocate(device, WORKSPACE, "workspace");
  launch.workspace_bytes = WORKSPACE;
  require(delta_kernel_launch(kernel, &launch, &error), &error);
  printf("launched\n");
  for (way = 0; way < (other ? 3 : 2); ++way)
    for (i = 0; i <= 4; ++i) {
      void **place = i < 4 ? &arrays[i].data : &launch.workspace,
           *right = *place;
      *place = way == 0   ? (char *)right + 4
               : way == 1 ? host
                          : allocate(other, 4096, "elsewhere");
      if (delta_kernel_launch(kernel, &launch, &error) == DELTA_OK)
        printf("wrong: launched\n");
      else
        printf("refused: %s\n", error);
      delta_free(error);
      *place = right;
    }
  require(delta_kernel_launch(kernel, &launch, &error), &error);
  printf("launched\n");
  delta_kernel_close(kernel);
  delta_bundle_close(bundle);
  delta_device_close(device);
  if (other)
    delta_device_close(other);
  free(host);
  return 0;
}
