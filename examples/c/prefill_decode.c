/* Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Gated DeltaNet from C: a prompt goes through the chunked kernel, which is
 * linked into this program, and the tokens after it, one at a time, through the
 * recurrent kernel, which is in a shared library. The results are compared with
 * a plain loop in double.
 *
 *   delta-compile gated_delta_rule -D K=64 -D V=64 --emit=obj -o prefill.o
 *   delta-compile gated_delta_rule -D K=64 -D V=64 --emit=header -o prefill.h
 *   delta-compile gated_delta_rule -D K=64 -D V=64 --fn=decode --emit=so \
 *       -o libdecode.so
 *   cc -I. prefill_decode.c prefill.o -o prefill_decode -ldl -lm
 *   ./prefill_decode ./libdecode.so
 */
#include "prefill.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { B = 2, H = 3, K = 64, V = 64, PROMPT = 100, MORE = 7 };
enum { T = PROMPT + MORE };

/* The same type for both kernels. */
typedef int kernel_fn(const void *const *in, void *const *out,
                      const int64_t *dims, const double *attrs,
                      void *workspace, size_t workspace_bytes);
typedef size_t bytes_fn(void);

static float q[B * T * H * K], k[B * T * H * K], v[B * T * H * V];
static float g[B * T * H], beta[B * T * H];
static float state[B * H * K * V];
static double reference[B * T * H * V];

static double uniform(void) { return (double)rand() / RAND_MAX; }

static void make_inputs(void) {
  for (int i = 0; i < B * T * H; ++i) {
    double norm = 0;
    for (int d = 0; d < K; ++d) {
      q[i * K + d] = (float)(2 * uniform() - 1);
      k[i * K + d] = (float)(2 * uniform() - 1);
      norm += k[i * K + d] * k[i * K + d];
    }
    for (int d = 0; d < K; ++d)
      k[i * K + d] /= (float)sqrt(norm);
    for (int d = 0; d < V; ++d)
      v[i * V + d] = (float)(2 * uniform() - 1);
    g[i] = (float)log(uniform() + 1e-3);
    beta[i] = (float)uniform();
  }
}

/* S = exp(g) S; S = S + beta k (v - S^T k)^T; o = scale S^T q. */
static void run_reference(double scale) {
  static double S[K][V];
  for (int bh = 0; bh < B * H; ++bh) {
    memset(S, 0, sizeof S);
    for (int t = 0; t < T; ++t) {
      int i = (bh / H * T + t) * H + bh % H;
      for (int c = 0; c < V; ++c) {
        double z = 0, o = 0;
        for (int r = 0; r < K; ++r) {
          S[r][c] *= exp(g[i]);
          z += S[r][c] * k[i * K + r];
        }
        for (int r = 0; r < K; ++r) {
          S[r][c] += beta[i] * k[i * K + r] * (v[i * V + c] - z);
          o += S[r][c] * q[i * K + r];
        }
        reference[i * V + c] = scale * o;
      }
    }
  }
}

/* Tokens [from, from + count) of the arrays [B, T, H, dim], as arrays of their
 * own [B, count, H, dim]; with several sequences they are not contiguous. */
static float *slice(const float *array, int from, int count, int dim) {
  size_t row = (size_t)H * dim;
  float *part = malloc(B * count * row * sizeof *part);
  for (int b = 0; b < B; ++b)
    memcpy(part + b * count * row, array + ((size_t)b * T + from) * row,
           count * row * sizeof *part);
  return part;
}

/* Runs tokens [from, from + count) and returns the largest error. */
static double run(kernel_fn *kernel, void *workspace, size_t bytes, int from,
                  int count, int has_state) {
  float *parts[] = {slice(q, from, count, K), slice(k, from, count, K),
                    slice(v, from, count, V), slice(g, from, count, 1),
                    slice(beta, from, count, 1)};
  float *o = malloc(sizeof *o * B * count * H * V);
  const void *in[delta_gated_delta_rule_num_ins] = {0};
  void *out[delta_gated_delta_rule_num_outs];
  in[delta_gated_delta_rule_in_q] = parts[0];
  in[delta_gated_delta_rule_in_k] = parts[1];
  in[delta_gated_delta_rule_in_v] = parts[2];
  in[delta_gated_delta_rule_in_g] = parts[3];
  in[delta_gated_delta_rule_in_beta] = parts[4];
  /* The state is updated in place. */
  in[delta_gated_delta_rule_in_initial_state] = has_state ? state : NULL;
  out[delta_gated_delta_rule_out_o] = o;
  out[delta_gated_delta_rule_out_final_state] = state;
  int64_t dims[delta_gated_delta_rule_num_dims];
  dims[delta_gated_delta_rule_sequences] = B;
  dims[delta_gated_delta_rule_tokens] = count;
  dims[delta_gated_delta_rule_heads] = H;
  dims[delta_gated_delta_rule_dim_K] = K;
  dims[delta_gated_delta_rule_dim_V] = V;
  double attrs[delta_gated_delta_rule_num_attrs];
  attrs[delta_gated_delta_rule_attr_scale] = pow(K, -0.5);

  int status = kernel(in, out, dims, attrs, workspace, bytes);
  if (status != delta_gated_delta_rule_ok) {
    fprintf(stderr, "the kernel returned %d\n", status);
    exit(1);
  }
  double error = 0;
  for (int b = 0; b < B; ++b)
    for (int i = 0; i < count * H * V; ++i)
      error = fmax(error, fabs(o[b * count * H * V + i] -
                               reference[(b * T + from) * H * V + i]));
  for (int i = 0; i < 5; ++i)
    free(parts[i]);
  free(o);
  return error;
}

static void *allocate(size_t bytes) {
  return aligned_alloc(64, (bytes + 127) / 64 * 64);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s LIBRARY\n", argv[0]);
    return 1;
  }
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  /* Both kernels have the recurrence's name; dlsym tells them apart. */
  kernel_fn *decode;
  bytes_fn *decode_bytes;
  *(void **)&decode = dlsym(library, "delta_gated_delta_rule");
  *(void **)&decode_bytes =
      dlsym(library, "delta_gated_delta_rule_workspace_bytes");
  if (!decode || !decode_bytes) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }

  make_inputs();
  run_reference(pow(K, -0.5));
  size_t bytes = delta_gated_delta_rule_workspace_bytes();
  void *workspace = allocate(bytes);
  double prefill_error =
      run(delta_gated_delta_rule, workspace, bytes, 0, PROMPT, 0);
  free(workspace);

  bytes = decode_bytes();
  workspace = allocate(bytes);
  double decode_error = 0;
  for (int t = PROMPT; t < T; ++t)
    decode_error = fmax(decode_error, run(decode, workspace, bytes, t, 1, 1));
  free(workspace);
  dlclose(library);

  printf("prefill of %d tokens: largest error %.1e\n", PROMPT, prefill_error);
  printf("%d tokens one by one: largest error %.1e\n", MORE, decode_error);
  if (!(prefill_error < 1e-5 && decode_error < 1e-5)) {
    printf("too large\n");
    return 1;
  }
  return 0;
}
