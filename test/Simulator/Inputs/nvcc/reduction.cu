// Sums of rows: a warp sums with shuffles, the warps through shared memory, and
// the CTAs of a row with an atomic addition. Compiled by
//   nvcc -arch=sm_80 -O3 -ptx reduction.cu

extern "C" __global__ void row_sums(const float *x, float *sums, int columns) {
  __shared__ float parts[32];
  const float *row = x + size_t(blockIdx.y) * columns;
  float sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < columns;
       i += gridDim.x * blockDim.x)
    sum += row[i];
  for (int offset = 16; offset > 0; offset /= 2)
    sum += __shfl_down_sync(0xffffffffu, sum, offset);
  if (threadIdx.x % 32 == 0)
    parts[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x >= 32)
    return;
  sum = threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0;
  for (int offset = 16; offset > 0; offset /= 2)
    sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  if (threadIdx.x == 0)
    atomicAdd(sums + blockIdx.y, sum);
}

// Softmax of rows in double, one warp a row, with the library's exp.
extern "C" __global__ void softmax(const double *x, double *y, int columns) {
  int lane = threadIdx.x;
  const double *row = x + size_t(blockIdx.x) * columns;
  double largest = -1e300, sum = 0;
  for (int i = lane; i < columns; i += 32)
    largest = row[i] > largest ? row[i] : largest;
  for (int offset = 16; offset > 0; offset /= 2) {
    double other = __shfl_xor_sync(0xffffffffu, largest, offset);
    largest = other > largest ? other : largest;
  }
  for (int i = lane; i < columns; i += 32)
    sum += exp(row[i] - largest);
  for (int offset = 16; offset > 0; offset /= 2)
    sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  for (int i = lane; i < columns; i += 32)
    y[size_t(blockIdx.x) * columns + i] = exp(row[i] - largest) / sum;
}

// A histogram with 64-bit indices, integer division and shared atomics.
extern "C" __global__ void histogram(const long long *x, unsigned *counts,
                                     long long n, long long width) {
  __shared__ unsigned bins[64];
  if (threadIdx.x < 64)
    bins[threadIdx.x] = 0;
  __syncthreads();
  for (long long i = threadIdx.x; i < n; i += blockDim.x) {
    long long bin = x[i] / width;
    switch (bin < 0 ? 0 : bin < 62 ? 1 : bin % 3 ? 2 : 0) {
    case 0:
      bin = 63;
      break;
    case 1:
      break;
    default:
      bin = 62;
      break;
    }
    atomicAdd(bins + bin, 1u);
  }
  __syncthreads();
  if (threadIdx.x < 64)
    counts[threadIdx.x] = bins[threadIdx.x];
}

// A function that stays one, called in a loop, with a structure by value and
// another as the result.
struct Pair {
  float sum, largest;
};
__device__ __noinline__ Pair combine(Pair a, Pair b) {
  if (b.largest > a.largest)
    return {a.sum + b.sum, b.largest};
  return {a.sum + b.sum, a.largest};
}
extern "C" __global__ void sum_and_largest(const float *x, float *out, int n) {
  Pair p = {0, -1e30f};
  for (int i = threadIdx.x; i < n; i += blockDim.x)
    p = combine(p, {x[i], x[i]});
  for (int offset = 16; offset > 0; offset /= 2)
    p = combine(p, {__shfl_xor_sync(0xffffffffu, p.sum, offset),
                    __shfl_xor_sync(0xffffffffu, p.largest, offset)});
  if (threadIdx.x == 0) {
    out[0] = p.sum;
    out[1] = p.largest;
  }
}
