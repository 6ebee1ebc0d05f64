// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A forward that saves states and its backward, both linked into one program.
// The outs are linear in v, so <o, do> is <v, d_v>.

#include "backward.h"
#include "forward.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { B = 2, T = 37, H = 3, K = 16, V = 16, CHUNK = 16 };

static float *make(size_t count, float scale) {
  float *x = malloc(count * sizeof(float));
  for (size_t i = 0; i < count; ++i)
    x[i] = scale * (rand() / (float)RAND_MAX - 0.5f);
  return x;
}

static double dot(const float *x, const float *y, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; ++i)
    sum += (double)x[i] * y[i];
  return sum;
}

int main(void) {
  size_t tokens = (size_t)B * T * H, states = (size_t)B * H * K * V;
  size_t saved = states * ((T + CHUNK - 1) / CHUNK);
  float *q = make(tokens * K, 1), *k = make(tokens * K, 1);
  float *v = make(tokens * V, 1), *g = make(tokens * K, 0.2f);
  for (size_t i = 0; i < tokens * K; ++i)
    g[i] = -fabsf(g[i]);
  float *o = make(tokens * V, 0), *d_o = make(tokens * V, 1);
  float *checkpoints = make(saved, 0);
  float *d_q = make(tokens * K, 0), *d_k = make(tokens * K, 0);
  float *d_v = make(tokens * V, 0), *d_g = make(tokens * K, 0);
  float *d_scale = make(B * H, 0);

  const int64_t dims[] = {B, T, H, K, V};
  const double attrs[] = {0.25};
  size_t bytes = delta_gla_workspace_bytes();
  if (bytes < delta_gla_backward_workspace_bytes())
    bytes = delta_gla_backward_workspace_bytes();
  bytes = (bytes + 63) / 64 * 64;
  void *workspace = aligned_alloc(64, bytes);

  const void *in[delta_gla_num_ins] = {0};
  in[delta_gla_in_q] = q;
  in[delta_gla_in_k] = k;
  in[delta_gla_in_v] = v;
  in[delta_gla_in_g] = g;
  void *out[delta_gla_num_outs] = {0};
  out[delta_gla_out_o] = o;
  out[delta_gla_out_checkpoints] = checkpoints;
  int status = delta_gla(in, out, dims, attrs, workspace, bytes);

  const void *back_in[delta_gla_backward_num_ins] = {0};
  back_in[delta_gla_backward_in_q] = q;
  back_in[delta_gla_backward_in_k] = k;
  back_in[delta_gla_backward_in_v] = v;
  back_in[delta_gla_backward_in_g] = g;
  back_in[delta_gla_backward_in_do] = d_o;
  back_in[delta_gla_backward_in_checkpoints] = checkpoints;
  void *back_out[delta_gla_backward_num_outs] = {0};
  back_out[delta_gla_backward_out_d_q] = d_q;
  back_out[delta_gla_backward_out_d_k] = d_k;
  back_out[delta_gla_backward_out_d_v] = d_v;
  back_out[delta_gla_backward_out_d_g] = d_g;
  back_out[delta_gla_backward_out_d_scale] = d_scale;
  int back =
      delta_gla_backward(back_in, back_out, dims, attrs, workspace, bytes);

  double left = dot(o, d_o, tokens * V), right = dot(v, d_v, tokens * V);
  printf("status %d %d, outs %s, difference %s\n", status, back,
         left != 0 ? "computed" : "zero",
         fabs(left - right) < 1e-5 * fabs(left) + 1e-5 ? "small" : "large");
  return 0;
}
