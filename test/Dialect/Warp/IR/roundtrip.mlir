// RUN: delta-opt %s | delta-opt | FileCheck %s
// RUN: delta-opt %s --mlir-print-op-generic | delta-opt | FileCheck %s

!frag = tensor<16x16xf32, #delta_warp.fragment>
!half = tensor<16x16xbf16, #delta_warp.fragment>
!slots = tensor<8x16xbf16, #delta_warp.fragment>
!level = tensor<8x8xf32, #delta_warp.fragment>
!rows = tensor<16xf32, #delta_warp.along<rows>>
!cols = tensor<16xf32, #delta_warp.along<cols>>
!tile = !delta_warp.shared<2x16x64xbf16, swizzle>
!gram = !delta_warp.shared<16x16xbf16>
!system = !delta_warp.shared<2x2x16x32xf32>
!inverse = !delta_warp.shared<2x2x16x32xbf16, swizzle>
!padded = !delta_warp.shared<16x16xf32, pad 4>
!vector = !delta_warp.shared<64xf32>

// CHECK-LABEL: func @layouts
func.func @layouts(%x: f32, %f: !frag, %r: !rows, %c: !cols) {
  // CHECK: delta_warp.warp_id
  %warp = delta_warp.warp_id
  // CHECK: delta_warp.positions : tensor<16xi32, #delta_warp.along<rows>>
  %i = delta_warp.positions : tensor<16xi32, #delta_warp.along<rows>>
  // CHECK: delta_warp.splat %{{.*}} : f32 -> tensor<16x16xf32, #delta_warp.fragment>
  %s = delta_warp.splat %x : f32 -> !frag
  // CHECK: delta_warp.expand %{{.*}} : tensor<16xf32, #delta_warp.along<rows>> -> tensor<16x16xf32, #delta_warp.fragment>
  %e = delta_warp.expand %r : !rows -> !frag
  // CHECK: delta_warp.expand %{{.*}} : tensor<16xf32, #delta_warp.along<cols>> -> tensor<16x16xf32, #delta_warp.fragment>
  %g = delta_warp.expand %c : !cols -> !frag
  // CHECK: delta_warp.convert %{{.*}} : tensor<16xf32, #delta_warp.along<rows>> -> tensor<16xf32, #delta_warp.along<cols>>
  %v = delta_warp.convert %r : !rows -> !cols
  // CHECK: delta_warp.sum %{{.*}} : tensor<16x16xf32, #delta_warp.fragment> -> tensor<16xf32, #delta_warp.along<rows>>
  %t = delta_warp.sum %f : !frag -> !rows
  // CHECK: delta_warp.element %{{.*}}[15] : tensor<16xf32, #delta_warp.along<rows>> -> f32
  %n = delta_warp.element %r[15] : !rows -> f32
  // CHECK: delta_warp.follow %{{.*}}, %{{.*}} : tensor<16xf32, #delta_warp.along<rows>>, tensor<16x16xf32, #delta_warp.fragment>
  %l = delta_warp.follow %r, %f : !rows, !frag
  // CHECK: delta_warp.follow %{{.*}}, %{{.*}} : index, tensor<16x16xf32, #delta_warp.fragment>
  %w = delta_warp.follow %warp, %f : index, !frag
  return
}

// CHECK-LABEL: func @columns
func.func @columns(%f: !frag, %pairs: !delta_warp.shared<2x4x16x16xbf16>, %i: index) {
  // CHECK: delta_warp.shuffle_cols %{{.*}} by 4 : tensor<16x16xf32, #delta_warp.fragment>
  %0 = delta_warp.shuffle_cols %f by 4 : !frag
  // CHECK: %[[RIGHT:.*]], %[[LEFT:.*]] = delta_warp.split_cols %{{.*}} by 2 : tensor<16x16xf32, #delta_warp.fragment> -> tensor<16x8xf32, #delta_warp.fragment>
  %right, %left = delta_warp.split_cols %f by 2 : !frag -> tensor<16x8xf32, #delta_warp.fragment>
  // CHECK: delta_warp.merge_cols %[[RIGHT]], %[[LEFT]] by 2 : tensor<16x8xf32, #delta_warp.fragment> -> tensor<16x16xf32, #delta_warp.fragment>
  %1 = delta_warp.merge_cols %right, %left by 2 : tensor<16x8xf32, #delta_warp.fragment> -> !frag
  // CHECK: delta_warp.sum %{{.*}} : tensor<16x16xf32, #delta_warp.fragment> -> tensor<16xf32, #delta_warp.along<cols>>
  %2 = delta_warp.sum %f : !frag -> tensor<16xf32, #delta_warp.along<cols>>
  // CHECK: delta_warp.store_pairs %{{.*}}, %{{.*}}[%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}] : tensor<16x16xf32, #delta_warp.fragment>, !delta_warp.shared<2x4x16x16xbf16>
  delta_warp.store_pairs %f, %pairs[%i, %i, %i, %i] : !frag, !delta_warp.shared<2x4x16x16xbf16>
  // CHECK: delta_warp.store_pairs %{{.*}}, %{{.*}}[%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}] transpose :
  delta_warp.store_pairs %f, %pairs[%i, %i, %i, %i] transpose : !frag, !delta_warp.shared<2x4x16x16xbf16>
  return
}

// CHECK-LABEL: func @rows
func.func @rows(%f: !half, %r: !rows) {
  // CHECK: delta_warp.shuffle_rows %{{.*}} by 4 : tensor<16x16xbf16, #delta_warp.fragment>
  %a = delta_warp.shuffle_rows %f by 4 : !half
  // CHECK: delta_warp.shuffle_rows %{{.*}} by 8 : tensor<16xf32, #delta_warp.along<rows>>
  %b = delta_warp.shuffle_rows %r by 8 : !rows
  // CHECK: %[[RIGHT:.*]], %[[LEFT:.*]] = delta_warp.split_rows %{{.*}} by 2 : tensor<16x16xbf16, #delta_warp.fragment> -> tensor<8x16xbf16, #delta_warp.fragment>
  %right, %left = delta_warp.split_rows %f by 2 : !half -> !slots
  // CHECK: delta_warp.extract %{{.*}} [8, 0] : tensor<16x16xbf16, #delta_warp.fragment> -> tensor<8x16xbf16, #delta_warp.fragment>
  %c = delta_warp.extract %f [8, 0] : !half -> !slots
  // CHECK: delta_warp.concat axis 0 %[[RIGHT]], %[[LEFT]] : tensor<8x16xbf16, #delta_warp.fragment>, tensor<8x16xbf16, #delta_warp.fragment> -> tensor<16x16xbf16, #delta_warp.fragment>
  %d = delta_warp.concat axis 0 %right, %left : !slots, !slots -> !half
  return
}

// CHECK-LABEL: func @products
func.func @products(%f: !half, %g: !frag) {
  // CHECK: delta_warp.mma %{{.*}}, %{{.*}}, %{{.*}} : tensor<16x16xbf16, #delta_warp.fragment>, tensor<16x16xbf16, #delta_warp.fragment>, tensor<16x16xf32, #delta_warp.fragment>
  %0 = delta_warp.mma %f, %f, %g : !half, !half, !frag
  // CHECK: delta_warp.mma %{{.*}}, %{{.*}}, %{{.*}} tf32 :
  %1 = delta_warp.mma %g, %g, %g tf32 : !frag, !frag, !frag
  // CHECK: delta_warp.mma %{{.*}}, %{{.*}}, %{{.*}} bf16x3 :
  %2 = delta_warp.mma %g, %g, %g bf16x3 : !frag, !frag, !frag
  return
}

// CHECK-LABEL: func @shared
func.func @shared(%i: index, %f: !half, %r: !rows, %l: !level) {
  // CHECK: %[[TILE:.*]] = delta_warp.alloc_shared : !delta_warp.shared<2x16x64xbf16, swizzle>
  %tile = delta_warp.alloc_shared : !tile
  // CHECK: delta_warp.alloc_shared at 4096 : !delta_warp.shared<64xf32>
  %vector = delta_warp.alloc_shared at 4096 : !vector
  // CHECK: %[[GRAM:.*]] = delta_warp.alloc_shared : !delta_warp.shared<16x16xbf16>
  %gram = delta_warp.alloc_shared : !gram
  // CHECK: delta_warp.alloc_shared : !delta_warp.shared<16x16xf32, pad 4>
  %padded = delta_warp.alloc_shared : !padded
  %system = delta_warp.alloc_shared : !system
  %inverse = delta_warp.alloc_shared : !inverse
  // CHECK: delta_warp.shared_load %[[TILE]][%{{.*}}, %{{.*}}, %{{.*}}] : !delta_warp.shared<2x16x64xbf16, swizzle> -> tensor<16x16xbf16, #delta_warp.fragment>
  %0 = delta_warp.shared_load %tile[%i, %i, %i] : !tile -> !half
  // CHECK: delta_warp.shared_load %[[TILE]][%{{.*}}, %{{.*}}, %{{.*}}] transpose :
  %1 = delta_warp.shared_load %tile[%i, %i, %i] transpose : !tile -> !half
  // CHECK: delta_warp.shared_store %{{.*}}, %[[TILE]][%{{.*}}, %{{.*}}, %{{.*}}] transpose : tensor<16x16xbf16, #delta_warp.fragment>, !delta_warp.shared<2x16x64xbf16, swizzle>
  delta_warp.shared_store %f, %tile[%i, %i, %i] transpose : !half, !tile
  delta_warp.shared_store %r, %vector[%i] : !rows, !vector
  // CHECK: delta_warp.store_level %{{.*}}, %[[GRAM]][%{{.*}}, %{{.*}}] by 4 : tensor<8x8xf32, #delta_warp.fragment>, !delta_warp.shared<16x16xbf16>
  delta_warp.store_level %l, %gram[%i, %i] by 4 : !level, !gram
  // CHECK: delta_warp.inverse %{{.*}}[%{{.*}}] to %{{.*}}[%{{.*}}] steps 2 : !delta_warp.shared<2x2x16x32xf32>, !delta_warp.shared<2x2x16x32xbf16, swizzle>
  delta_warp.inverse %system[%i] to %inverse[%i] steps 2 : !system, !inverse
  // CHECK: delta_warp.fill_shared %[[GRAM]] : !delta_warp.shared<16x16xbf16>
  delta_warp.fill_shared %gram : !gram
  // CHECK: delta_warp.warp_barrier
  delta_warp.warp_barrier
  return
}

// CHECK-LABEL: func @global
func.func @global(%m: memref<?xbf16>, %n: memref<?xf32>, %w: memref<?xi8>, %i: index, %f: !half, %r: !rows) {
  %tile = delta_warp.alloc_shared : !tile
  %vector = delta_warp.alloc_shared : !vector
  // CHECK: delta_warp.async_load %{{.*}}[%{{.*}}] stride %{{.*}} valid %{{.*}} to %{{.*}}[%{{.*}}] rows 16 width 60 alignment 8 : memref<?xbf16>, !delta_warp.shared<2x16x64xbf16, swizzle>
  delta_warp.async_load %m[%i] stride %i valid %i to %tile[%i] rows 16 width 60 alignment 8 : memref<?xbf16>, !tile
  // CHECK: delta_warp.async_load %{{.*}} rows 32 width 64 alignment 8 warps 2 from 4 : memref<?xbf16>, !delta_warp.shared<2x16x64xbf16, swizzle>
  %first = arith.constant 0 : index
  delta_warp.async_load %m[%i] stride %i valid %i to %tile[%first] rows 32 width 64 alignment 8 warps 2 from 4 : memref<?xbf16>, !tile
  // CHECK: delta_warp.async_load %{{.*}}[%{{.*}}] stride %{{.*}} valid %{{.*}} to %{{.*}}[] rows 64 alignment 1 : memref<?xf32>, !delta_warp.shared<64xf32>
  delta_warp.async_load %n[%i] stride %i valid %i to %vector[] rows 64 alignment 1 : memref<?xf32>, !vector
  // CHECK: delta_warp.async_copy %{{.*}}[%{{.*}}] present %{{.*}} to %{{.*}}[%{{.*}}] : memref<?xi8>, !delta_warp.shared<2x16x64xbf16, swizzle>
  delta_warp.async_copy %w[%i] present %i to %tile[%i] : memref<?xi8>, !tile
  // CHECK: delta_warp.async_copy %{{.*}}[%{{.*}}] present %{{.*}} to %{{.*}}[] warps 2 from 4 : memref<?xi8>, !delta_warp.shared<64xf32>
  delta_warp.async_copy %w[%i] present %i to %vector[] warps 2 from 4 : memref<?xi8>, !vector
  // CHECK: delta_warp.copy_out %{{.*}}[%{{.*}}] to %{{.*}}[%{{.*}}] : !delta_warp.shared<2x16x64xbf16, swizzle>, memref<?xi8>
  delta_warp.copy_out %tile[%i] to %w[%i] : !tile, memref<?xi8>
  // CHECK: delta_warp.async_commit
  delta_warp.async_commit
  // CHECK: delta_warp.async_wait 1
  delta_warp.async_wait 1
  // CHECK: delta_warp.global_load %{{.*}}[%{{.*}}] strides(%{{.*}}, %{{.*}}) valid(%{{.*}}, %{{.*}}) : memref<?xbf16> -> tensor<16x16xbf16, #delta_warp.fragment>
  %0 = delta_warp.global_load %m[%i] strides(%i, %i) valid(%i, %i) : memref<?xbf16> -> !half
  // CHECK: delta_warp.global_store %{{.*}}, %{{.*}}[%{{.*}}] strides(%{{.*}}, %{{.*}}) valid(%{{.*}}, %{{.*}}) {alignment = 8 : i64} :
  delta_warp.global_store %f, %m[%i] strides(%i, %i) valid(%i, %i) {alignment = 8} : !half, memref<?xbf16>
  delta_warp.global_store %r, %n[%i] strides(%i) valid(%i) : !rows, memref<?xf32>
  return
}
