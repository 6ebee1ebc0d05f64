/* Part of the delta project, under the Apache License v2.0 with LLVM
 * Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * compiler FILE: compiles specs to bundles, writes one to FILE, and tries what
 * must be refused. Output is compared by capi.test.
 */
#include "delta-c/Compiler.h"

#include <stdio.h>
#include <string.h>

static const char *const spec = "recurrence mine {\n"
                                "  in q: K, k: K, v: V\n"
                                "  attr gain in [0, 1]\n"
                                "  state S: K x V\n"
                                "  S = S + gain * k * v^T\n"
                                "  out o = S^T * q\n"
                                "}\n";

static void refused(const char *what, const char *name, const char *text,
                    const delta_option *options, size_t count) {
  void *bytes;
  size_t size;
  char *error;
  delta_status status =
      text ? delta_compile_text(text, options, count, &bytes, &size, &error)
           : delta_compile(name, options, count, &bytes, &size, &error);
  printf("%s: %d: %s\n", what, (int)status, error ? error : "(no text)");
  delta_free(error);
}

/* The interface of a spec, with what is known before it is compiled. */
static void describe(const char *name, const delta_option *options,
                     size_t count) {
  delta_spec *spec;
  delta_arg_info arg = {0};
  char *error;
  size_t i, j;
  if (delta_spec_open(name, options, count, &spec, &error)) {
    printf("no interface: %s\n", error);
    delta_free(error);
    return;
  }
  printf("%s has the dims", delta_spec_name(spec));
  for (i = 0; i < delta_spec_num_dims(spec); ++i)
    printf(" %s", delta_spec_get_dim(spec, i));
  printf("\n");
  arg.struct_size = sizeof(arg);
  for (i = 0; i < delta_spec_num_args(spec); ++i) {
    if (delta_spec_get_arg(spec, i, &arg, &error))
      return;
    printf("  %s %d %d", arg.name, (int)arg.kind, (int)arg.dtype);
    for (j = 0; j < arg.rank; ++j)
      printf(" %s=%d", arg.axes[j], (int)arg.sizes[j]);
    if (arg.kind == DELTA_ATTR)
      printf(" %s = %g", arg.default_text, arg.default_value);
    printf("\n");
  }
  if (delta_spec_get_arg(spec, i, &arg, &error)) {
    printf("  %s\n", error);
    delta_free(error);
  }
  delta_spec_close(spec);
}

static void emit(const char *artefact, const delta_option *options,
                 size_t count) {
  void *data = NULL;
  size_t size = 0;
  char *explanation = NULL, *error;
  if (delta_emit("gla", artefact, options, count, &data, &size, &explanation,
                 &error)) {
    printf("not emitted: %s\n", error);
    delta_free(error);
    return;
  }
  printf("%s: %s, explained: %s\n", artefact ? artefact : "nothing",
         size ? "some bytes" : "no bytes",
         strstr(explanation, "transition: diagonal decay") ? "yes" : "no");
  delta_free(data);
  delta_free(explanation);
}

int main(int argc, char **argv) {
  delta_option options[] = {
      {"D", "K=16"},
      {"D", "V=8"},
      {"dtype", "bf16"},
      {"fn", "forward,decode,backward"}};
  delta_option unknown = {"dtypes", "bf16"}, empty = {"fn", NULL};
  delta_bundle *bundle, *part;
  const char *fns[] = {"forward", "backward", "decode"};
  delta_arg_info arg = {0};
  void *bytes = NULL;
  size_t size = 0, i;
  char *error;
  FILE *file;
  if (argc != 2)
    return 1;
  if (delta_compile_text(spec, options, 4, &bytes, &size, &error)) {
    fprintf(stderr, "%s\n", error);
    return 1;
  }
  if (delta_bundle_read(bytes, size, "mine", &bundle, &error))
    return 1;
  printf("%s has %d kernels\n", delta_bundle_name(bundle),
         (int)delta_bundle_num_kernels(bundle));
  arg.struct_size = sizeof(arg);
  for (i = 0; i < delta_bundle_num_args(bundle); ++i)
    if (!delta_bundle_get_arg(bundle, i, &arg, NULL) && arg.kind == DELTA_ATTR)
      printf("attr %s range %d [%g, %g] default %d\n", arg.name, arg.has_range,
             arg.lo, arg.hi, arg.has_default);
  printf("%d gradients, for %s, and %s\n",
         (int)delta_bundle_num_gradients(bundle),
         delta_bundle_get_gradient_target(bundle, 0),
         delta_bundle_get_gradient_target(bundle, 1) ? "more" : "no more");
  for (i = 0; i < 4; ++i) {
    if (delta_bundle_open_gradient(bundle, i / 3, fns[i % 3], &part, &error)) {
      printf("no gradient: %s\n", error);
      delta_free(error);
      continue;
    }
    printf("gradient %s with %d arguments\n", fns[i],
           (int)delta_bundle_num_args(part));
    delta_bundle_close(part);
  }
  delta_bundle_close(bundle);
  file = fopen(argv[1], "wb");
  if (!file || fwrite(bytes, 1, size, file) != size || fclose(file))
    return 1;
  delta_free(bytes);

  refused("unknown spec", "gaa", NULL, NULL, 0);
  refused("unknown option", "gla", NULL, &unknown, 1);
  refused("no value", "gla", NULL, &empty, 1);
  refused("no dim", "gla", NULL, NULL, 0);
  refused("stdin", "-", NULL, NULL, 0);
  refused("bad spec", NULL, "recurrence r { out o = 1 }", options, 2);

  describe("gla", options, 1);
  describe("gla", options, 3);
  describe("nobody", NULL, 0);
  emit("llvm", options, 2);
  emit("ptx", options, 2);
  emit(NULL, NULL, 0);
  emit("bundle", options, 2);
  emit("leaf", options, 2);
  if (strlen(delta_build_id()) < 40 || !*delta_host_cpu())
    return 1;
  if (delta_target_multiprocessors("sm_80") != 108 ||
      delta_target_multiprocessors("sm_90a") != 132 ||
      delta_target_multiprocessors("cpu") != 0)
    return 1;

  printf("%d specs, the first is %s\n", (int)delta_num_library_specs(),
         delta_get_library_spec_name(0));
  if (!strstr(delta_get_library_spec("gla"), "recurrence gla") ||
      delta_get_library_spec("none") || delta_get_library_spec_name(1000))
    return 1;
  return 0;
}
