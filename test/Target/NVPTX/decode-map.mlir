// RUN: delta-compile kda --fn=decode -D K=64 -D V=64 --dtype=bf16 --emit=events | delta-opt --delta-gpu-decode-map=target=sm_80 | FileCheck %s
// RUN: delta-compile kda --fn=decode -D K=60 -D V=62 --emit=events | delta-opt --delta-gpu-decode-map | FileCheck %s --check-prefix=RAGGED
// RUN: delta-compile kda --fn=decode -D K=256 -D V=256 --emit=events | delta-opt --delta-gpu-decode-map | FileCheck %s --check-prefix=LARGE

// One kernel with the arguments of the signature; two warps of 32 columns, and
// windows of two tokens in the halves of shared memory.
// CHECK: module attributes
// CHECK-SAME: compute = "f32", fn = "decode", target = "sm_80"
// CHECK-SAME: delta.stage = "mapped"
// CHECK: gpu.module @kda [#nvvm.target<O = 3, chip = "sm_80", features = "+ptx80">]
// CHECK: gpu.func @delta_kda_decode(%{{.*}}: memref<?xbf16>
// CHECK-SAME: min_ctas = 1 : i64, name = "delta_kda_decode", shared_bytes = 5184 : i64, threads = 64 : i64, v_blocks = 1 : i64

// The state's rows are loaded four columns at a time, or zero.
// CHECK: scf.if
// CHECK-COUNT-16: vector.load {{.*}} {alignment = 16 : i64} : memref<?xf32>, vector<4xf32>
// CHECK-NOT: vector.load {{.*}} : memref<?xf32>
// Sums over the rows of four lanes: two butterfly steps a column and read.
// CHECK: gpu.barrier
// CHECK: scf.for
// CHECK: scf.for
// CHECK-NOT: gpu.barrier
// CHECK-COUNT-16: gpu.shuffle xor
// CHECK-NOT: gpu.shuffle
// CHECK: vector.store {{.*}} {alignment = 8 : i64} : memref<?xbf16>, vector<4xbf16>
// CHECK: gpu.barrier
// CHECK-NOT: gpu.barrier
// CHECK: gpu.return

// Two columns at a time where four would straddle rows; what is beyond the
// state is read from within it and selected to zero.
// RAGGED: gpu.func @delta_kda_decode
// RAGGED: arith.minui
// RAGGED: vector.load {{.*}} {alignment = 8 : i64} : memref<?xf32>, vector<2xf32>
// RAGGED: arith.select

// A CTA has four warps at most; blocks share a head.
// LARGE: shared_bytes = {{[0-9]+}} : i64, threads = 128 : i64, v_blocks = 8 : i64
