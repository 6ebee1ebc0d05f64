/* Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Calls a kernel that was compiled ahead of time: final = exp(gain) * initial,
 * o = v. Every misuse that the entry points can see must be refused.
 */
#include "scaled.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { B = 2, T = 3, H = 2, K = 2, V = 16 };

static int failures = 0;

static void expect(int condition, const char *what) {
  if (!condition) {
    printf("failed: %s\n", what);
    ++failures;
  }
}

int main(void) {
  static float v[B * T * H * V], p[H], o[B * T * H * V];
  static float initial[B * H * K * V], final[B * H * K * V];
  for (int i = 0; i < B * T * H * V; ++i)
    v[i] = 0.5f * (float)i;
  for (int i = 0; i < B * H * K * V; ++i)
    initial[i] = 1.0f + (float)i;

  const void *in[delta_scaled_num_ins];
  void *out[delta_scaled_num_outs];
  int64_t dims[delta_scaled_num_dims];
  double attrs[delta_scaled_num_attrs];
  in[delta_scaled_in_v] = v;
  in[delta_scaled_in_p] = p;
  in[delta_scaled_in_initial_state] = initial;
  out[delta_scaled_out_o] = o;
  out[delta_scaled_out_final_state] = final;
  dims[delta_scaled_sequences] = B;
  dims[delta_scaled_tokens] = T;
  dims[delta_scaled_heads] = H;
  dims[delta_scaled_dim_K] = K;
  dims[delta_scaled_dim_V] = V;
  attrs[delta_scaled_attr_gain] = 0.25;
  size_t bytes = delta_scaled_workspace_bytes();
  char *workspace = aligned_alloc(64, (bytes + 127) / 64 * 64);

  expect(delta_scaled(in, out, dims, attrs, workspace, bytes) ==
             delta_scaled_ok,
         "status");
  double error = 0;
  for (int i = 0; i < B * H * K * V; ++i)
    error = fmax(error, fabs(final[i] / (initial[i] * exp(0.25)) - 1));
  expect(error < 1e-6, "final state");
  expect(memcmp(o, v, sizeof v) == 0, "out");

  /* In parts, in the wrong order, in place. */
  memset(o, 0, sizeof o);
  out[delta_scaled_out_final_state] = initial;
  for (int item = B * H; item-- > 0;)
    expect(delta_scaled_range(in, out, dims, attrs, workspace, bytes, item,
                              item + 1, delta_scaled_panels()) == 0,
           "status of a part");
  expect(memcmp(initial, final, sizeof final) == 0, "in place");
  expect(memcmp(o, v, sizeof v) == 0, "out, in parts");

  /* No final state wanted, none given; no sequences; no tokens. */
  out[delta_scaled_out_final_state] = NULL;
  in[delta_scaled_in_initial_state] = NULL;
  expect(delta_scaled(in, out, dims, attrs, workspace, bytes) == 0,
         "no states");
  dims[delta_scaled_sequences] = 0;
  expect(delta_scaled(in, out, dims, attrs, workspace, bytes) == 0, "B = 0");
  dims[delta_scaled_sequences] = B;
  dims[delta_scaled_tokens] = 0;
  in[delta_scaled_in_v] = NULL;
  out[delta_scaled_out_final_state] = final;
  expect(delta_scaled(in, out, dims, attrs, workspace, bytes) == 0, "T = 0");
  expect(final[5] == 0, "zero initial state");

  /* What is refused. */
  dims[delta_scaled_tokens] = T;
  expect(delta_scaled(in, out, dims, attrs, workspace, bytes) ==
             delta_scaled_bad_pointer,
         "null input");
  in[delta_scaled_in_v] = v;
  dims[delta_scaled_tokens] = -1;
  expect(delta_scaled(in, out, dims, attrs, workspace, bytes) ==
             delta_scaled_bad_dims,
         "negative T");
  dims[delta_scaled_tokens] = T;
  dims[delta_scaled_dim_V] = V + 1;
  expect(delta_scaled(in, out, dims, attrs, workspace, bytes) ==
             delta_scaled_bad_dims,
         "another V");
  dims[delta_scaled_dim_V] = V;
  expect(delta_scaled(in, out, dims, attrs, workspace, bytes - 1) ==
             delta_scaled_bad_workspace,
         "small workspace");
  expect(delta_scaled(in, out, dims, attrs, workspace + 4, bytes) ==
             delta_scaled_bad_workspace,
         "misaligned workspace");
  expect(delta_scaled(in, out, dims, attrs, NULL, bytes) ==
             delta_scaled_bad_workspace,
         "no workspace");
  expect(delta_scaled_range(in, out, dims, attrs, workspace, bytes, 0,
                            B * H + 1, 1) == delta_scaled_bad_range,
         "too many items");
  expect(delta_scaled_range(in, out, dims, attrs, workspace, bytes, -1, 1, 1) ==
             delta_scaled_bad_range,
         "negative item");
  expect(delta_scaled_range(in, out, dims, attrs, workspace, bytes, 0, 1,
                            delta_scaled_panels() + 1) ==
             delta_scaled_bad_range,
         "too many blocks");
  free(workspace);
  if (!failures)
    printf("all right, error %.1e\n", error);
  return failures != 0;
}
