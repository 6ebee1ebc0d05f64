/* Part of the delta project, under the Apache License v2.0 with LLVM
 * Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Loads a bundle, says what is in it, and runs its forward kernel on the CPU:
 * first on all tokens at once, then in two parts with the state handed over.
 * Works for every bundle whose arrays are f32.
 *
 *   delta-compile gated_delta_rule --emit=bundle -D K=64 -D V=64 -o gdn.bundle
 *   cmake -S examples/c -B build-example && cmake --build build-example
 *   build-example/run_bundle gdn.bundle
 */
#include "delta-c/Runtime.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { kMaxArgs = 32, kB = 2, kT = 40, kH = 3 };

/* Ends the program when a call failed. */
static void check(delta_status status, char **error) {
  if (status == DELTA_OK)
    return;
  fprintf(stderr, "run_bundle: error: %s\n", *error);
  delta_free(*error);
  exit((int)status);
}

/* An array of an argument for `tokens` tokens. */
struct tensor {
  delta_array array;
  int64_t shape[8];
  size_t count;
};

static void allocate(struct tensor *tensor, const delta_arg_info *arg,
                     int64_t tokens) {
  size_t i;
  tensor->count = 1;
  for (i = 0; i < arg->rank; ++i) {
    int64_t size = arg->sizes[i];
    if (size < 0)
      size = arg->axes[i][0] == 'B' ? kB : arg->axes[i][0] == 'T' ? tokens : kH;
    tensor->shape[i] = size;
    tensor->count *= (size_t)size;
  }
  tensor->array.dtype = arg->dtype;
  tensor->array.rank = arg->rank;
  tensor->array.shape = tensor->shape;
  tensor->array.data = calloc(tensor->count, sizeof(float));
}

/* Small numbers; below zero where the range says so, as for a log-decay. */
static void fill(struct tensor *tensor, const delta_arg_info *arg) {
  float *data = (float *)tensor->array.data;
  unsigned state = 12345;
  size_t i;
  for (i = 0; i < tensor->count; ++i) {
    state = state * 1664525u + 1013904223u;
    data[i] = (float)(state >> 8) / (float)(1 << 24) * 0.25f;
    if (arg->has_range && arg->hi <= 0)
      data[i] = -data[i];
  }
}

/* The tokens from `first` on. The batch must be taken apart, since a batch's
 * tokens follow one another: this copies [B, T, ...] to [B, count, ...]. */
static void copy_tokens(struct tensor *to, const struct tensor *from,
                        int64_t first) {
  size_t row = from->count / (kB * kT), b, i;
  size_t count = (size_t)to->shape[1];
  for (b = 0; b < kB; ++b)
    for (i = 0; i < count * row; ++i)
      ((float *)to->array.data)[b * count * row + i] =
          ((const float *)from->array.data)[(b * kT + (size_t)first) * row + i];
}

int main(int argc, char **argv) {
  delta_bundle *bundle;
  delta_device *device;
  delta_kernel *kernel;
  delta_arg_info args[kMaxArgs];
  struct tensor whole[kMaxArgs], part[kMaxArgs], state;
  delta_array inputs[kMaxArgs], outputs[kMaxArgs];
  delta_launch launch = {0};
  size_t num_args, num_inputs = 0, num_outputs = 0, i, j;
  int64_t first = 0;
  double worst = 0;
  char *error;

  if (argc != 2) {
    fprintf(stderr, "usage: run_bundle FILE\n");
    return 1;
  }
  check(delta_bundle_open(argv[1], &bundle, &error), &error);
  check(delta_device_open("cpu", 0, 0, &device, &error), &error);
  check(delta_kernel_load(bundle, device, "forward", &kernel, &error), &error);

  num_args = delta_bundle_num_args(bundle);
  printf("%s:\n", delta_bundle_name(bundle));
  for (i = 0; i < num_args && i < kMaxArgs; ++i) {
    static const char *const kinds[] = {"in", "param", "attr", "state", "out"};
    args[i].struct_size = sizeof(args[i]);
    check(delta_bundle_get_arg(bundle, i, &args[i], &error), &error);
    printf("  %-5s %s", kinds[args[i].kind], args[i].name);
    for (j = 0; j < args[i].rank; ++j)
      printf("%s%s", j ? ", " : " [", args[i].axes[j]);
    printf(args[i].rank ? "]\n" : " = %g\n", args[i].default_value);
    if (args[i].kind == DELTA_ATTR)
      continue;
    if (args[i].dtype != DELTA_F32) {
      fprintf(stderr, "run_bundle: error: '%s' is not f32\n", args[i].name);
      return 1;
    }
    allocate(&whole[i], &args[i], kT);
    if (args[i].kind == DELTA_STATE) {
      allocate(&state, &args[i], kT);
    } else if (args[i].kind == DELTA_OUT) {
      outputs[num_outputs++] = whole[i].array;
    } else {
      fill(&whole[i], &args[i]);
      inputs[num_inputs++] = whole[i].array;
    }
  }

  /* All tokens at once. */
  launch.struct_size = sizeof(launch);
  launch.inputs = inputs;
  launch.num_inputs = num_inputs;
  launch.outputs = outputs;
  launch.num_outputs = num_outputs;
  check(delta_kernel_launch(kernel, &launch, &error), &error);

  /* Two parts; the state goes from one to the next in one array. */
  while (first < kT) {
    int64_t count = first == 0 ? 25 : kT - first;
    num_inputs = num_outputs = 0;
    for (i = 0; i < num_args; ++i) {
      if (args[i].kind == DELTA_PARAM)
        inputs[num_inputs++] = whole[i].array;
      if (args[i].kind != DELTA_IN && args[i].kind != DELTA_OUT)
        continue;
      allocate(&part[i], &args[i], count);
      if (args[i].kind == DELTA_IN) {
        copy_tokens(&part[i], &whole[i], first);
        inputs[num_inputs++] = part[i].array;
      } else {
        outputs[num_outputs++] = part[i].array;
      }
    }
    launch.initial_state = first == 0 ? NULL : &state.array;
    launch.final_state = &state.array;
    check(delta_kernel_launch(kernel, &launch, &error), &error);
    for (i = 0; i < num_args; ++i) {
      struct tensor expected;
      if (args[i].kind == DELTA_OUT) {
        allocate(&expected, &args[i], count);
        copy_tokens(&expected, &whole[i], first);
        for (j = 0; j < expected.count; ++j) {
          double difference = fabs((double)((float *)expected.array.data)[j] -
                                   (double)((float *)part[i].array.data)[j]);
          if (!(difference <= worst))
            worst = difference;
        }
        free(expected.array.data);
      }
      if (args[i].kind == DELTA_IN || args[i].kind == DELTA_OUT)
        free(part[i].array.data);
    }
    first += count;
  }
  printf("in two parts: largest difference %.1e\n", worst);

  for (i = 0; i < num_args; ++i)
    if (args[i].kind != DELTA_ATTR)
      free(whole[i].array.data);
  free(state.array.data);
  delta_kernel_close(kernel);
  delta_device_close(device);
  delta_bundle_close(bundle);
  return worst < 1e-4 ? 0 : 2;
}
