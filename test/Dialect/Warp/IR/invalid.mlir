// RUN: delta-opt %s --split-input-file --verify-diagnostics

// expected-error @below {{expects a tensor of rank 2 for #delta_warp.fragment, but got rank 1}}
func.func private @fragment_rank(tensor<16xf32, #delta_warp.fragment>)

// -----

// expected-error @below {{expects sizes that are multiples of 8 for #delta_warp.along, but got 12}}
func.func private @along_size(tensor<12xf32, #delta_warp.along<rows>>)

// -----

// expected-error @below {{expects sizes that are multiples of 8 for #delta_warp.fragment, but got ?}}
func.func private @fragment_size(tensor<?x8xf32, #delta_warp.fragment>)

// -----

// expected-error @below {{expects elements f32, bf16, f16, i32 or i1 for #delta_warp.fragment, but got 'f64'}}
func.func private @fragment_element(tensor<8x8xf64, #delta_warp.fragment>)

// -----

// expected-error @below {{expects elements f32, bf16, f16 or i32, but got 'f64'}}
func.func private @shared_c1(!delta_warp.shared<16xf64>)

// -----

// expected-error @below {{expects positive sizes with a product of at most 2147483648}}
func.func private @shared_c1_size(!delta_warp.shared<0x16xf32>)

// -----

// expected-error @below {{expects swizzled rows of a power of two of bytes, at least 32, but got 24}}
func.func private @shared_c2(!delta_warp.shared<16x12xbf16, swizzle>)

// -----

func.func @splat_c1(%x: i32) {
  // expected-error @below {{expects the number to be 'f32', but got 'i32'}}
  %0 = delta_warp.splat %x : i32 -> tensor<8x8xf32, #delta_warp.fragment>
  return
}

// -----

func.func @expand_c1(%x: tensor<16xf32, #delta_warp.along<rows>>) {
  // expected-error @below {{expects the vector to be 'tensor<8xf32, #delta_warp.along<rows>>', but got 'tensor<16xf32, #delta_warp.along<rows>>'}}
  %0 = delta_warp.expand %x : tensor<16xf32, #delta_warp.along<rows>> -> tensor<8x16xf32, #delta_warp.fragment>
  return
}

// -----

func.func @convert_c1(%x: tensor<16xf32, #delta_warp.along<rows>>) {
  // expected-error @below {{expects the result to be 'tensor<16xf32, #delta_warp.along<cols>>', but got 'tensor<16xf32, #delta_warp.along<rows>>'}}
  %0 = delta_warp.convert %x : tensor<16xf32, #delta_warp.along<rows>> -> tensor<16xf32, #delta_warp.along<rows>>
  return
}

// -----

func.func @sum_c1(%x: tensor<8x16xbf16, #delta_warp.fragment>) {
  // expected-error @below {{expects elements f32, but got 'bf16'}}
  %0 = delta_warp.sum %x : tensor<8x16xbf16, #delta_warp.fragment> -> tensor<8xbf16, #delta_warp.along<rows>>
  return
}

// -----

func.func @element_c1(%x: tensor<16xf32, #delta_warp.along<rows>>) {
  // expected-error @below {{expects a position from 0 to 15, but got 16}}
  %0 = delta_warp.element %x[16] : tensor<16xf32, #delta_warp.along<rows>> -> f32
  return
}

// -----

func.func @positions_c1() {
  // expected-error @below {{expects elements i32, but got 'f32'}}
  %0 = delta_warp.positions : tensor<16xf32, #delta_warp.along<rows>>
  return
}

// -----

func.func @shuffle_rows_c1(%x: tensor<16x8xf32, #delta_warp.fragment>) {
  // expected-error @below {{expects the distance to be a power of two below 16, but got 16}}
  %0 = delta_warp.shuffle_rows %x by 16 : tensor<16x8xf32, #delta_warp.fragment>
  return
}

// -----

func.func @shuffle_rows_c1_rows(%x: tensor<24x8xf32, #delta_warp.fragment>) {
  // expected-error @below {{expects the number of rows to be a power of two, but got 24}}
  %0 = delta_warp.shuffle_rows %x by 8 : tensor<24x8xf32, #delta_warp.fragment>
  return
}

// -----

func.func @shuffle_rows_c1_cols(%x: tensor<16xf32, #delta_warp.along<cols>>) {
  // expected-error @below {{expects a fragment or a vector along rows, but got a vector along columns}}
  %0 = delta_warp.shuffle_rows %x by 8 : tensor<16xf32, #delta_warp.along<cols>>
  return
}

// -----

func.func @split_rows_c1(%x: tensor<16x8xf32, #delta_warp.fragment>) {
  // expected-error @below {{expects the distance to be 1, 2, 4 or 8, but got 3}}
  %0, %1 = delta_warp.split_rows %x by 3 : tensor<16x8xf32, #delta_warp.fragment> -> tensor<8x8xf32, #delta_warp.fragment>
  return
}

// -----

func.func @split_rows_c1_rows(%x: tensor<8x8xf32, #delta_warp.fragment>) {
  // expected-error @below {{expects an input of 16 rows, but got 8}}
  %0, %1 = delta_warp.split_rows %x by 4 : tensor<8x8xf32, #delta_warp.fragment> -> tensor<8x8xf32, #delta_warp.fragment>
  return
}

// -----

func.func @shuffle_cols_c1(%x: tensor<16xf32, #delta_warp.along<rows>>) {
  // expected-error @below {{expects a fragment or a vector along columns, but got a vector along rows}}
  %0 = delta_warp.shuffle_cols %x by 2 : tensor<16xf32, #delta_warp.along<rows>>
  return
}

// -----

func.func @shuffle_cols_c1_element(%x: tensor<16x16xbf16, #delta_warp.fragment>) {
  // expected-error @below {{expects elements f32, but got 'bf16'}}
  %0 = delta_warp.shuffle_cols %x by 2 : tensor<16x16xbf16, #delta_warp.fragment>
  return
}

// -----

func.func @shuffle_cols_c1_distance(%x: tensor<16x16xf32, #delta_warp.fragment>) {
  // expected-error @below {{expects the distance to be a power of two below 16, but got 16}}
  %0 = delta_warp.shuffle_cols %x by 16 : tensor<16x16xf32, #delta_warp.fragment>
  return
}

// -----

func.func @split_cols_c1(%x: tensor<16x8xf32, #delta_warp.fragment>) {
  // expected-error @below {{expects an input of 16 columns, but got 8}}
  %0, %1 = delta_warp.split_cols %x by 4 : tensor<16x8xf32, #delta_warp.fragment> -> tensor<16x8xf32, #delta_warp.fragment>
  return
}

// -----

func.func @split_cols_c1_distance(%x: tensor<8x16xf32, #delta_warp.fragment>) {
  // expected-error @below {{expects the distance to be 1, 2, 4 or 8, but got 16}}
  %0, %1 = delta_warp.split_cols %x by 16 : tensor<8x16xf32, #delta_warp.fragment> -> tensor<8x8xf32, #delta_warp.fragment>
  return
}

// -----

func.func @merge_cols_c1(%x: tensor<8x8xbf16, #delta_warp.fragment>) {
  // expected-error @below {{expects operands of 8 columns of f32}}
  %0 = delta_warp.merge_cols %x, %x by 1 : tensor<8x8xbf16, #delta_warp.fragment> -> tensor<8x16xbf16, #delta_warp.fragment>
  return
}

// -----

func.func @store_pairs_c1(%a: !delta_warp.shared<4x16x16xf32>, %x: tensor<8x16xf32, #delta_warp.fragment>, %i: index) {
  // expected-error @below {{expects a value of 16x16 f32}}
  delta_warp.store_pairs %x, %a[%i, %i, %i] : tensor<8x16xf32, #delta_warp.fragment>, !delta_warp.shared<4x16x16xf32>
  return
}

// -----

func.func @store_pairs_c2(%a: !delta_warp.shared<2x16x16xf32>, %x: tensor<16x16xf32, #delta_warp.fragment>, %i: index) {
  // expected-error @below {{expects an array that ends in 4x16x16, but got '!delta_warp.shared<2x16x16xf32>'}}
  delta_warp.store_pairs %x, %a[%i, %i, %i] : tensor<16x16xf32, #delta_warp.fragment>, !delta_warp.shared<2x16x16xf32>
  return
}

// -----

func.func @store_pairs_c2_indices(%a: !delta_warp.shared<4x16x16xf32>, %x: tensor<16x16xf32, #delta_warp.fragment>, %i: index) {
  // expected-error @below {{expects 3 indices, but got 2}}
  delta_warp.store_pairs %x, %a[%i, %i] : tensor<16x16xf32, #delta_warp.fragment>, !delta_warp.shared<4x16x16xf32>
  return
}

// -----

func.func @extract_c1(%x: tensor<16x16xf32, #delta_warp.fragment>) {
  // expected-error @below {{expects offset 1 to be a multiple of 8 that leaves the part inside, but got 4}}
  %0 = delta_warp.extract %x [0, 4] : tensor<16x16xf32, #delta_warp.fragment> -> tensor<8x8xf32, #delta_warp.fragment>
  return
}

// -----

func.func @concat_c1(%x: tensor<8x8xf32, #delta_warp.fragment>) {
  // expected-error @below {{expects the inputs' sizes to add up to 24, but got 16}}
  %0 = delta_warp.concat axis 0 %x, %x : tensor<8x8xf32, #delta_warp.fragment>, tensor<8x8xf32, #delta_warp.fragment> -> tensor<24x8xf32, #delta_warp.fragment>
  return
}

// -----

func.func @mma_c1(%x: tensor<8x16xbf16, #delta_warp.fragment>, %z: tensor<8x8xf32, #delta_warp.fragment>) {
  // expected-error @below {{expects lhs to have a multiple of 16 rows, but got 8}}
  %0 = delta_warp.mma %x, %x, %z : tensor<8x16xbf16, #delta_warp.fragment>, tensor<8x16xbf16, #delta_warp.fragment>, tensor<8x8xf32, #delta_warp.fragment>
  return
}

// -----

func.func @mma_c1_acc(%x: tensor<16x16xbf16, #delta_warp.fragment>, %z: tensor<16x8xf32, #delta_warp.fragment>) {
  // expected-error @below {{expects acc to be 'tensor<16x16xf32, #delta_warp.fragment>', but got 'tensor<16x8xf32, #delta_warp.fragment>'}}
  %0 = delta_warp.mma %x, %x, %z : tensor<16x16xbf16, #delta_warp.fragment>, tensor<16x16xbf16, #delta_warp.fragment>, tensor<16x8xf32, #delta_warp.fragment>
  return
}

// -----

func.func @mma_c2(%x: tensor<16x16xbf16, #delta_warp.fragment>, %z: tensor<16x16xf32, #delta_warp.fragment>) {
  // expected-error @below {{expects elements f32 for tf32, but got 'bf16'}}
  %0 = delta_warp.mma %x, %x, %z tf32 : tensor<16x16xbf16, #delta_warp.fragment>, tensor<16x16xbf16, #delta_warp.fragment>, tensor<16x16xf32, #delta_warp.fragment>
  return
}

// -----

func.func @alloc_shared_c1() {
  // expected-error @below {{expects the offset to be a multiple of 16, but got 8}}
  %0 = delta_warp.alloc_shared at 8 : !delta_warp.shared<16xf32>
  return
}

// -----

func.func @shared_load_c1(%a: !delta_warp.shared<2x16x16xf32>, %i: index) {
  // expected-error @below {{expects 3 indices, but got 2}}
  %0 = delta_warp.shared_load %a[%i, %i] : !delta_warp.shared<2x16x16xf32> -> tensor<16x16xf32, #delta_warp.fragment>
  return
}

// -----

func.func @shared_load_c2(%a: !delta_warp.shared<16x16xf32>, %i: index) {
  // expected-error @below {{expects a tile of at most 16 x 16 in memory, but got 16 x 32}}
  %0 = delta_warp.shared_load %a[%i, %i] : !delta_warp.shared<16x16xf32> -> tensor<16x32xf32, #delta_warp.fragment>
  return
}

// -----

func.func @shared_store_c3(%a: !delta_warp.shared<16x12xbf16>, %x: tensor<16x8xbf16, #delta_warp.fragment>, %i: index) {
  // expected-error @below {{expects the array's rows to be a multiple of 16 bytes apart, but got 24}}
  delta_warp.shared_store %x, %a[%i, %i] : tensor<16x8xbf16, #delta_warp.fragment>, !delta_warp.shared<16x12xbf16>
  return
}

// -----

func.func @store_level_c2(%a: !delta_warp.shared<32x32xf32>, %x: tensor<8x8xf32, #delta_warp.fragment>, %i: index) {
  // expected-error @below {{expects an array of 16x16 matrices, but got '!delta_warp.shared<32x32xf32>'}}
  delta_warp.store_level %x, %a[%i, %i] by 2 : tensor<8x8xf32, #delta_warp.fragment>, !delta_warp.shared<32x32xf32>
  return
}

// -----

func.func @inverse_c1(%a: !delta_warp.shared<4x16x16xf32>) {
  // expected-error @below {{expects arrays of 3 matrices 16x48, but got '!delta_warp.shared<4x16x16xf32>'}}
  delta_warp.inverse %a[] to %a[] steps 3 : !delta_warp.shared<4x16x16xf32>, !delta_warp.shared<4x16x16xf32>
  return
}

// -----

func.func @async_load_c1(%m: memref<?xf32>, %a: !delta_warp.shared<16x64xbf16>, %i: index) {
  // expected-error @below {{expects a source of 'bf16', but got 'memref<?xf32>'}}
  delta_warp.async_load %m[%i] stride %i valid %i to %a[] rows 16 width 64 alignment 8 : memref<?xf32>, !delta_warp.shared<16x64xbf16>
  return
}

// -----

func.func @async_load_c1_width(%m: memref<?xbf16>, %a: !delta_warp.shared<16x64xbf16>, %i: index) {
  // expected-error @below {{expects a width of 1 to 64, but got 65}}
  delta_warp.async_load %m[%i] stride %i valid %i to %a[] rows 16 width 65 alignment 8 : memref<?xbf16>, !delta_warp.shared<16x64xbf16>
  return
}

// -----

func.func @async_load_c1_rows(%m: memref<?xbf16>, %a: !delta_warp.shared<4x16x64xbf16>, %i: index) {
  %c1 = arith.constant 1 : index
  // expected-error @below {{expects 1 to 48 rows, but got 64}}
  delta_warp.async_load %m[%i] stride %i valid %i to %a[%c1] rows 64 width 64 alignment 8 : memref<?xbf16>, !delta_warp.shared<4x16x64xbf16>
  return
}

// -----

func.func @async_load_c1_rows_unknown(%m: memref<?xbf16>, %a: !delta_warp.shared<4x16x64xbf16>, %i: index) {
  // expected-error @below {{expects 1 to 16 rows, but got 64}}
  delta_warp.async_load %m[%i] stride %i valid %i to %a[%i] rows 64 width 64 alignment 8 : memref<?xbf16>, !delta_warp.shared<4x16x64xbf16>
  return
}

// -----

func.func @async_load_c3(%m: memref<?xbf16>, %a: !delta_warp.shared<16x64xbf16>, %i: index) {
  // expected-error @below {{expects numbers of warps that are not negative}}
  delta_warp.async_load %m[%i] stride %i valid %i to %a[] rows 16 width 64 alignment 8 warps 2 from -1 : memref<?xbf16>, !delta_warp.shared<16x64xbf16>
  return
}

// -----

func.func @async_load_c2(%m: memref<?xbf16>, %a: !delta_warp.shared<16x64xbf16>, %i: index) {
  // expected-error @below {{expects a positive alignment, but got 0}}
  delta_warp.async_load %m[%i] stride %i valid %i to %a[] rows 16 width 64 alignment 0 : memref<?xbf16>, !delta_warp.shared<16x64xbf16>
  return
}

// -----

func.func @async_copy_c1(%m: memref<?xf32>, %a: !delta_warp.shared<2x16x64xbf16>, %i: index) {
  // expected-error @below {{expects global memory of i8, but got 'memref<?xf32>'}}
  delta_warp.async_copy %m[%i] present %i to %a[%i] : memref<?xf32>, !delta_warp.shared<2x16x64xbf16>
  return
}

// -----

func.func @async_copy_c2(%m: memref<?xi8>, %a: !delta_warp.shared<2x16x64xbf16>, %i: index) {
  // expected-error @below {{expects at most 2 indices, but got 3}}
  delta_warp.async_copy %m[%i] present %i to %a[%i, %i, %i] : memref<?xi8>, !delta_warp.shared<2x16x64xbf16>
  return
}

// -----

func.func @async_copy_c3(%m: memref<?xi8>, %a: !delta_warp.shared<2x16x64xbf16>, %i: index) {
  // expected-error @below {{expects numbers of warps that are not negative}}
  delta_warp.async_copy %m[%i] present %i to %a[%i] warps 2 from -1 : memref<?xi8>, !delta_warp.shared<2x16x64xbf16>
  return
}

// -----

func.func @copy_out_c1(%m: memref<?xbf16>, %a: !delta_warp.shared<2x16x64xbf16>, %i: index) {
  // expected-error @below {{expects global memory of i8, but got 'memref<?xbf16>'}}
  delta_warp.copy_out %a[%i] to %m[%i] : !delta_warp.shared<2x16x64xbf16>, memref<?xbf16>
  return
}

// -----

func.func @copy_out_c2(%m: memref<?xi8>, %a: !delta_warp.shared<2x16x12xbf16>, %i: index) {
  // expected-error @below {{expects rows of a multiple of 16 bytes, but got 24}}
  delta_warp.copy_out %a[%i] to %m[%i] : !delta_warp.shared<2x16x12xbf16>, memref<?xi8>
  return
}

// -----

func.func @async_wait_c1() {
  // expected-error @below {{expects 0 to 7 pending groups, but got 8}}
  delta_warp.async_wait 8
  return
}

// -----

func.func @global_load_c1(%m: memref<?xf32>, %i: index) {
  // expected-error @below {{expects 2 strides and limits, but got 1 and 2}}
  %0 = delta_warp.global_load %m[%i] strides(%i) valid(%i, %i) : memref<?xf32> -> tensor<8x8xf32, #delta_warp.fragment>
  return
}

// -----

func.func @global_store_c2(%m: memref<?xf32>, %x: tensor<8xf32, #delta_warp.along<rows>>, %i: index) {
  // expected-error @below {{expects a positive alignment, but got 0}}
  delta_warp.global_store %x, %m[%i] strides(%i) valid(%i) {alignment = 0} : tensor<8xf32, #delta_warp.along<rows>>, memref<?xf32>
  return
}

// -----

// Operations of this dialect are of stage mapped.

module attributes {delta.stage = "chunk", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  func.func @chunk() {
    // expected-error @below {{'delta_warp.warp_barrier' op is not allowed in a module of stage chunk}}
    delta_warp.warp_barrier
    return
  }
}

// -----

func.func @collapse_c1(%x: tensor<8x16xf32, #delta_warp.fragment>) {
  // expected-error @below {{expects the result to be 'tensor<8xf32, #delta_warp.along<rows>>', but got 'tensor<16xf32, #delta_warp.along<rows>>'}}
  %0 = delta_warp.collapse %x : tensor<8x16xf32, #delta_warp.fragment> -> tensor<16xf32, #delta_warp.along<rows>>
  return
}
