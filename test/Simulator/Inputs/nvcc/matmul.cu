// C = A B on tensor cores: bf16 operands, two stages of cp.async, swizzled
// shared memory, ldmatrix and mma.sync; ragged edges are filled with zeros.
// A CTA of four warps makes 64 x 64. Compiled by
//   nvcc -arch=sm_80 -O3 -ptx matmul.cu

#include <cstdint>
#include <cuda_bf16.h>

constexpr int kTile = 64, kDepth = 32;

__device__ unsigned sharedAddress(const void *p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ void copy16(unsigned to, const void *from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
               "l"(from), "r"(inside ? 16 : 0)
               : "memory");
}

// Rows of `Columns` bf16 in segments of 16 bytes, which a row's number permutes.
template <int Columns> __device__ unsigned place(int row, int segment) {
  return row * Columns * 2 +
         ((segment ^ ((Columns == 32 ? row / 2 : row) & (Columns / 8 - 1))) * 16);
}

// N and K are multiples of 8, so that rows begin aligned.
extern "C" __global__ void __launch_bounds__(128)
    matmul(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c, int M,
           int N, int K) {
  extern __shared__ __align__(128) unsigned char memory[];
  constexpr int kA = kTile * kDepth * 2, kB = kDepth * kTile * 2;
  unsigned base = sharedAddress(memory);
  int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  int row0 = blockIdx.y * kTile, column0 = blockIdx.x * kTile;
  float sums[8][4] = {};

  auto fetch = [&](int step) {
    unsigned to = base + (step & 1) * (kA + kB);
    for (int i = thread; i < kTile * kDepth / 8; i += 128) {
      int r = i / (kDepth / 8), s = i % (kDepth / 8), k = step * kDepth + s * 8;
      bool inside = row0 + r < M && k < K;
      copy16(to + place<kDepth>(r, s),
             a + (inside ? size_t(row0 + r) * K + k : 0), inside);
    }
    for (int i = thread; i < kDepth * kTile / 8; i += 128) {
      int r = i / (kTile / 8), s = i % (kTile / 8), k = step * kDepth + r;
      bool inside = k < K && column0 + s * 8 < N;
      copy16(to + kA + place<kTile>(r, s),
             b + (inside ? size_t(k) * N + column0 + s * 8 : 0), inside);
    }
  };

  int steps = (K + kDepth - 1) / kDepth;
  fetch(0);
  asm volatile("cp.async.commit_group;" ::: "memory");
  for (int step = 0; step < steps; ++step) {
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    __syncthreads();
    if (step + 1 < steps)
      fetch(step + 1);
    asm volatile("cp.async.commit_group;" ::: "memory");
    unsigned from = base + (step & 1) * (kA + kB);
    for (int k = 0; k < kDepth; k += 16) {
      uint32_t x[4];
      asm volatile(
          "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
          : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
          : "r"(from + place<kDepth>(warp * 16 + lane % 16, k / 8 + lane / 16))
          : "memory");
      for (int n = 0; n < 8; n += 2) {
        uint32_t y[4];
        asm volatile(
            "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
            : "=r"(y[0]), "=r"(y[1]), "=r"(y[2]), "=r"(y[3])
            : "r"(from + kA + place<kTile>(k + lane % 16, n + lane / 16))
            : "memory");
        for (int half = 0; half < 2; ++half) {
          float *d = sums[n + half];
          asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                       "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                       : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                       : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]),
                         "r"(y[2 * half]), "r"(y[2 * half + 1]));
        }
      }
    }
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
  for (int n = 0; n < 8; ++n)
    for (int half = 0; half < 2; ++half) {
      int row = row0 + warp * 16 + lane / 4 + half * 8;
      int column = column0 + n * 8 + lane % 4 * 2;
      if (row < M && column < N)
        *reinterpret_cast<float2 *>(c + size_t(row) * N + column) =
            make_float2(sums[n][2 * half], sums[n][2 * half + 1]);
    }
}
