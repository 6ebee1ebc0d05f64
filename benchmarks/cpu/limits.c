/* Part of the delta project, under the Apache License v2.0 with LLVM
 * Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * The machine's own limits, compiled with -march=native when a benchmark
 * starts: how fast one core does fused multiply-adds out of registers.
 */

typedef float vector_t __attribute__((vector_size(VECTOR_BYTES)));

enum { LANES = VECTOR_BYTES / sizeof(float) };

/* Independent accumulators hide the latency of one chain. 12 are more than
 * latency x throughput of today's cores needs, and fit 16 registers. */
#define EACH(STEP)                                                             \
  STEP(0)                                                                      \
  STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9)      \
      STEP(10) STEP(11)

/* Returns the floating-point operations done; `sink` keeps them alive. */
double fma_peak(long iterations, float *sink) {
  vector_t factor, term;
  for (int lane = 0; lane < LANES; ++lane) {
    factor[lane] = 0.999f;
    term[lane] = 0.001f;
  }
#define DECLARE(i) vector_t acc##i = term * (float)(i + 1);
  EACH(DECLARE)
  for (long n = 0; n < iterations; ++n) {
#define MULTIPLY_ADD(i) acc##i = acc##i * factor + term;
    EACH(MULTIPLY_ADD)
#define OPAQUE(i) __asm__ volatile("" : REGISTER(acc##i));
    EACH(OPAQUE)
  }
  vector_t sum = term;
#define ADD(i) sum += acc##i;
  EACH(ADD)
  for (int lane = 0; lane < LANES; ++lane)
    *sink += sum[lane];
  return 2.0 * 12 * LANES * (double)iterations;
}
