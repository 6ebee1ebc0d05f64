// Transposition through shared memory, with and without a padded row: the same
// result, and bank conflicts that the counters show. Compiled by
//   nvcc -arch=sm_80 -O3 -ptx transpose.cu

template <int Padding>
__device__ void transpose(const float *x, float *y, int rows, int columns) {
  __shared__ float tile[32][32 + Padding];
  int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 32;
  for (int i = threadIdx.y; i < 32; i += blockDim.y)
    if (row + i < rows && column < columns)
      tile[i][threadIdx.x] = x[(row + i) * columns + column];
  __syncthreads();
  int to = blockIdx.y * 32 + threadIdx.x, from = blockIdx.x * 32;
  for (int i = threadIdx.y; i < 32; i += blockDim.y)
    if (from + i < columns && to < rows)
      y[(from + i) * rows + to] = tile[threadIdx.x][i];
}

extern "C" __global__ void transpose_padded(const float *x, float *y, int rows,
                                            int columns) {
  transpose<1>(x, y, rows, columns);
}

extern "C" __global__ void transpose_plain(const float *x, float *y, int rows,
                                           int columns) {
  transpose<0>(x, y, rows, columns);
}

// Bytes, by way of vectors and byte permutations.
extern "C" __global__ void reverse_bytes(const uint4 *x, uint4 *y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n)
    return;
  uint4 v = x[i];
  y[n - 1 - i] = make_uint4(
      __byte_perm(v.w, 0, 0x0123), __byte_perm(v.z, 0, 0x0123),
      __byte_perm(v.y, 0, 0x0123), __byte_perm(v.x, 0, 0x0123));
}
