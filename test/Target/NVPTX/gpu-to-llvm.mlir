// RUN: delta-opt %s --delta-gpu-to-llvm | FileCheck %s
// RUN: delta-opt %s --delta-gpu-to-llvm --verify-roundtrip -o /dev/null

// Pointers are bare, in global memory and aligned; inputs are read only and
// apart from what is written, the states may be one array.

// CHECK: module attributes
// CHECK-SAME: delta.stage = "llvm"
// CHECK-SAME: gpu.container_module
// CHECK: gpu.module @f [#nvvm.target<O = 3, chip = "sm_90a", features = "+ptx80">]
// CHECK: llvm.mlir.global external @__dynamic_shmem__0() {addr_space = 3 : i32, alignment = 16 : i64} : !llvm.array<0 x i8>
// CHECK: llvm.func @delta_f_decode(
// CHECK-SAME: !llvm.ptr<1> {llvm.align = 16 : i64, llvm.noalias, llvm.readonly}
// CHECK-SAME: !llvm.ptr<1> {llvm.align = 16 : i64}
// CHECK-SAME: !llvm.ptr<1> {llvm.align = 16 : i64, llvm.noalias}
// CHECK-SAME: !llvm.ptr<1> {llvm.align = 16 : i64}
// CHECK-SAME: f32
// CHECK-SAME: i64, %{{.*}}: i64, %{{.*}}: i64)
// CHECK-SAME: delta.kernel = {{.*}}name = "delta_f_decode"
// CHECK-SAME: nvvm.kernel
// CHECK-SAME: nvvm.maxntid = array<i32: 64>
// CHECK-SAME: nvvm.minctasm = 2 : i32
// CHECK: nvvm.read.ptx.sreg.tid.x

// CHECK: llvm.call_intrinsic "llvm.nvvm.ex2.approx.ftz.f32"
// CHECK: llvm.store {{.*}} : f32, !llvm.ptr<3>
// CHECK: nvvm.barrier
// CHECK: nvvm.shfl.sync
// CHECK: llvm.fptrunc {{.*}} : f32 to bf16

module attributes {gpu.container_module, delta.stage = "mapped",
    delta.signature = #delta.signature<args = [
      #delta.arg<kind = in, name = "v", type = bf16, axes = [V]>,
      #delta.arg<kind = attr, name = "scale", type = f32, default = "1">,
      #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
      #delta.arg<kind = out, name = "o", type = bf16, axes = [V]>],
      dims = {K = 2, V = 64}, options = {fn = "decode", target = "sm_90a"}>} {
  gpu.module @f [#nvvm.target<O = 3, chip = "sm_90a", features = "+ptx80">] {
    gpu.func @delta_f_decode(%v: memref<?xbf16>, %init: memref<?xf32>,
        %o: memref<?xbf16>, %final: memref<?xf32>, %scale: f32,
        %workspace: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {known_block_size = array<i32: 64, 1, 1>, delta.kernel = {name = "delta_f_decode", threads = 64,
          shared_bytes = 256, v_blocks = 1, min_ctas = 2}} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %i1 = arith.constant 1 : i32
      %i32 = arith.constant 32 : i32
      %zero = arith.constant 0.0 : f32
      %thread = gpu.thread_id x
      %raw = gpu.dynamic_shared_memory : memref<?xi8, #gpu.address_space<workgroup>>
      %shared = memref.view %raw[%c0][] : memref<?xi8, #gpu.address_space<workgroup>> to memref<64xf32, #gpu.address_space<workgroup>>
      %address = memref.extract_aligned_pointer_as_index %init : memref<?xf32> -> index
      %absent = arith.cmpi eq, %address, %c0 : index
      %start = scf.if %absent -> f32 {
        scf.yield %zero : f32
      } else {
        %loaded = memref.load %init[%thread] : memref<?xf32>
        scf.yield %loaded : f32
      }
      %end = scf.for %t = %c0 to %T step %c1 iter_args(%sum = %start) -> f32 {
        %row = arith.muli %t, %H : index
        %at = arith.addi %row, %thread : index
        %x = memref.load %v[%at] : memref<?xbf16>
        %wide = arith.extf %x : bf16 to f32
        %e = math.exp %wide : f32
        memref.store %e, %shared[%thread] : memref<64xf32, #gpu.address_space<workgroup>>
        gpu.barrier
        %other, %valid = gpu.shuffle xor %e, %i1, %i32 : f32
        %first = memref.load %shared[%c0] : memref<64xf32, #gpu.address_space<workgroup>>
        %a = math.fma %first, %other, %sum : f32
        %scaled = arith.mulf %a, %scale : f32
        %narrow = arith.truncf %scaled : f32 to bf16
        memref.store %narrow, %o[%at] : memref<?xbf16>
        gpu.barrier
        scf.yield %a : f32
      }
      memref.store %end, %final[%thread] : memref<?xf32>
      gpu.return
    }
  }
}
