/* Part of the delta project, under the Apache License v2.0 with LLVM
 * Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * runtime DEVICE BUNDLE: asks for everything there is to ask, launches the
 * bundle of gain.delta or gain.ptx, and tries what must be refused. Output is
 * compared by capi.test.
 */
#include "delta-c/Runtime.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  B = 2,
  T = 3,
  H = 2,
  K = 2,
  V = 32,
  TOKENS = B * T * H * V,
  STATES = B * H * K * V
};

static void require(delta_status status, char **error) {
  if (status == DELTA_OK && !*error)
    return;
  fprintf(stderr, "runtime: error: status %d: %s\n", (int)status,
          *error ? *error : "(no text)");
  exit(1);
}

static void refused(const char *what, delta_status status, char **error) {
  printf("%s: %d: %s\n", what, (int)status, *error ? *error : "(no text)");
  delta_free(*error);
}

static delta_device *device;
static delta_kernel *kernel;
static int64_t tokens[] = {B, T, H, V}, states[] = {B, H, K, V};

static void *on_device(size_t bytes, const char *name) {
  void *pointer;
  char *error;
  require(delta_device_allocate(device, bytes, name, &pointer, &error), &error);
  return pointer;
}

static void query(const delta_bundle *bundle) {
  char *error;
  size_t i, j;
  const char *name;
  int64_t size;
  delta_launch_info launch_info = {0};
  delta_kernel_info kernel_info = {0};
  delta_arg_info arg = {0};
  printf("%s, %d hexadecimal digits, compiler %s\n", delta_bundle_name(bundle),
         (int)strlen(delta_bundle_id(bundle)), delta_bundle_compiler(bundle));
  for (i = 0; i < delta_bundle_num_dims(bundle); ++i) {
    require(delta_bundle_get_dim(bundle, i, &name, &size, &error), &error);
    printf("dim %s=%d\n", name, (int)size);
  }
  refused("no dim", delta_bundle_get_dim(bundle, i, &name, &size, &error),
          &error);
  arg.struct_size = sizeof(arg);
  for (i = 0; i < delta_bundle_num_args(bundle); ++i) {
    require(delta_bundle_get_arg(bundle, i, &arg, &error), &error);
    printf("arg %s kind %d", arg.name, (int)arg.kind);
    if (arg.kind != DELTA_ATTR)
      printf(" dtype %d [", (int)arg.dtype);
    for (j = 0; j < arg.rank; ++j)
      printf("%s%s=%d", j ? " " : "", arg.axes[j], (int)arg.sizes[j]);
    if (arg.kind != DELTA_ATTR)
      printf("]");
    if (arg.has_default)
      printf(" default %s = %g", arg.default_text, arg.default_value);
    printf("\n");
  }
  refused("no arg", delta_bundle_get_arg(bundle, i, &arg, &error), &error);
  arg.struct_size = 0;
  refused("no size", delta_bundle_get_arg(bundle, 0, &arg, &error), &error);
  kernel_info.struct_size = sizeof(kernel_info);
  require(delta_bundle_get_kernel(bundle, 0, &kernel_info, &error), &error);
  printf("kernel %s %s alignment %d\n", kernel_info.target, kernel_info.fn,
         (int)kernel_info.alignment);
  name = delta_bundle_get_kernel_option(bundle, 0, "fn");
  printf("compiled with fn=%s\n", name ? name : "?");
  if (delta_bundle_get_kernel_option(bundle, 0, "colour") ||
      delta_bundle_get_kernel_option(bundle, 1, "fn"))
    exit(1);
  launch_info.struct_size = sizeof(launch_info);
  for (i = 0; i < kernel_info.num_launches; ++i) {
    require(delta_bundle_get_launch(bundle, 0, i, &launch_info, &error),
            &error);
    printf("launch %d of %d: %s threads %d v_blocks %d tokens %d\n", (int)i,
           (int)kernel_info.num_launches, launch_info.entry,
           (int)launch_info.threads, (int)launch_info.v_blocks,
           (int)launch_info.tokens);
  }
  refused("no launch",
          delta_bundle_get_launch(bundle, 0, i, &launch_info, &error), &error);
  refused("no kernel", delta_bundle_get_kernel(bundle, 1, &kernel_info, &error),
          &error);
}

/* Launches with gain (NaN: the default), and compares. */
static void run(delta_launch *launch, double gain, double expected) {
  static float v[TOKENS], o[TOKENS], first[STATES], last[STATES];
  delta_status status;
  char *error;
  size_t n;
  int i, bad = 0;
  for (i = 0; i < TOKENS; ++i)
    v[i] = (float)i;
  for (i = 0; i < STATES; ++i)
    first[i] = (float)-i;
  require(
      delta_device_copy_in(device, launch->inputs->data, v, sizeof(v), &error),
      &error);
  require(delta_device_copy_in(device, launch->initial_state->data, first,
                               sizeof(first), &error),
          &error);
  launch->attrs = &gain;
  launch->num_attrs = 1;
  status = delta_kernel_launch(kernel, launch, &error);
  if (status == DELTA_FINDING) {
    refused("finding", status, &error);
    for (n = 0; n < delta_device_num_findings(device); ++n)
      printf("found %s\n", delta_device_get_finding(device, n));
    exit(0);
  }
  require(status, &error);
  require(delta_device_synchronize(device, NULL, &error), &error);
  require(delta_device_copy_out(device, o, launch->outputs->data, sizeof(o),
                                &error),
          &error);
  require(delta_device_copy_out(device, last, launch->final_state->data,
                                sizeof(last), &error),
          &error);
  for (i = 0; i < TOKENS; ++i)
    bad += o[i] != (float)(v[i] * expected);
  for (i = 0; i < STATES; ++i)
    bad += last[i] != first[i];
  printf("%s: o = %g v\n", bad ? "wrong" : "all right", expected);
}

int main(int argc, char **argv) {
  delta_bundle *bundle;
  delta_array v, o, initial, final, odd;
  delta_launch launch = {0}, changed;
  char *error = (char *)"unset";
  int64_t none[] = {B, 0, H, V}, wrong[] = {B, T, H, V + 1}, bytes, same;
  double two[2] = {0, 0};
  static float storage[TOKENS + 4];
  char *aligned = (char *)storage + (16 - (uintptr_t)storage % 16) % 16;
  float ignored;
  size_t i;
  if (argc != 3)
    return 1;
  if (delta_api_version() != DELTA_API_VERSION || !*delta_version())
    return 1;

  refused("no device", delta_device_open("tpu", 0, 1, &device, &error), &error);
  refused("no file", delta_bundle_open("/none", &bundle, &error), &error);
  refused("no bundle", delta_bundle_read("text", 4, "mine", &bundle, &error),
          &error);
  if (delta_bundle_open("/none", &bundle, NULL) != DELTA_ERROR)
    return 1;
  delta_free(NULL);

  require(delta_device_open(argv[1], 0, 2, &device, &error), &error);
  printf("device: %s\n", delta_device_describe(device));
  require(delta_bundle_open(argv[2], &bundle, &error), &error);
  query(bundle);
  refused("no function",
          delta_kernel_load(bundle, device, "decode", &kernel, &error), &error);
  require(delta_kernel_load(bundle, device, "forward", &kernel, &error),
          &error);
  /* A kernel keeps what it needs. */
  delta_bundle_close(bundle);

  v.data = on_device(TOKENS * sizeof(float), "v");
  v.dtype = DELTA_F32;
  v.rank = 4;
  v.shape = tokens;
  o = v;
  o.data = on_device(TOKENS * sizeof(float), "o");
  initial = v;
  initial.shape = states;
  initial.data = on_device(STATES * sizeof(float), "initial_state");
  final = initial;
  final.data = on_device(STATES * sizeof(float), "final_state");
  launch.struct_size = sizeof(launch);
  launch.inputs = &v;
  launch.num_inputs = 1;
  launch.initial_state = &initial;
  launch.outputs = &o;
  launch.num_outputs = 1;
  launch.final_state = &final;
  require(delta_kernel_get_workspace(kernel, B, T, H, &bytes, &error), &error);
  printf("workspace: %d\n", (int)bytes);
  if (delta_kernel_workspace_bytes(kernel, B, H, &same, &error) != DELTA_OK) {
    printf("without T: %s\n", error);
    delta_free(error);
  } else if (same != bytes) {
    return 1;
  }
  if (bytes > 0) {
    refused("no workspace", delta_kernel_launch(kernel, &launch, &error),
            &error);
    launch.workspace = on_device((size_t)bytes, "workspace");
    launch.workspace_bytes = (size_t)bytes;
  }

  run(&launch, NAN, 0.5);
  run(&launch, 3, 3);

  /* Without tokens, without states. */
  changed = launch;
  odd = v;
  odd.shape = none;
  odd.data = NULL;
  changed.inputs = changed.outputs = &odd;
  changed.initial_state = changed.final_state = NULL;
  changed.attrs = NULL;
  require(delta_kernel_launch(kernel, &changed, &error), &error);
  printf("no tokens: all right\n");

  changed = launch;
  changed.struct_size = 8;
  refused("struct", delta_kernel_launch(kernel, &changed, &error), &error);
  changed = launch;
  changed.num_inputs = 0;
  refused("inputs", delta_kernel_launch(kernel, &changed, &error), &error);
  changed = launch;
  changed.outputs = &odd;
  odd = o;
  odd.shape = wrong;
  refused("shape", delta_kernel_launch(kernel, &changed, &error), &error);
  odd = o;
  odd.shape = none;
  refused("tokens", delta_kernel_launch(kernel, &changed, &error), &error);
  odd = o;
  odd.dtype = DELTA_BF16;
  refused("type", delta_kernel_launch(kernel, &changed, &error), &error);
  odd = o;
  odd.dtype = (delta_dtype)77;
  refused("unknown", delta_kernel_launch(kernel, &changed, &error), &error);
  odd = o;
  odd.data = NULL;
  refused("data", delta_kernel_launch(kernel, &changed, &error), &error);
  odd = o;
  odd.data = (char *)o.data + 2;
  refused("alignment", delta_kernel_launch(kernel, &changed, &error), &error);
  if (strcmp(argv[1], "cuda") == 0) {
    odd = o;
    odd.data = aligned;
    refused("host", delta_kernel_launch(kernel, &changed, &error), &error);
  }
  changed = launch;
  changed.final_state = &odd;
  odd = initial;
  odd.shape = tokens;
  refused("state", delta_kernel_launch(kernel, &changed, &error), &error);
  changed = launch;
  changed.attrs = two;
  changed.num_attrs = 2;
  refused("attrs", delta_kernel_launch(kernel, &changed, &error), &error);

  if (strcmp(argv[1], "sim") == 0)
    refused("outside",
            delta_device_copy_out(device, &ignored, (char *)o.data + 99999, 4,
                                  &error),
            &error);
  else
    refused("stats", delta_device_write_stats(device, "/none/x", &error),
            &error);
  for (i = 0; i < 1 && strcmp(argv[1], "cpu") == 0; ++i) {
    delta_device_release(device, v.data);
    delta_device_release(device, o.data);
    delta_device_release(device, initial.data);
    delta_device_release(device, final.data);
  }
  delta_device_close(device);
  delta_kernel_close(kernel);
  return 0;
}
