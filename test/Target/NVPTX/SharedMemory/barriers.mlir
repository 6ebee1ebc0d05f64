// RUN: delta-opt %s --delta-place-shared --delta-insert-barriers --split-input-file --verify-diagnostics | FileCheck %s

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "x", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 16, V = 16}, options = {target = "sm_80"}>
!f = tensor<16x16xf32, #delta_warp.fragment>
!a = !delta_warp.shared<4x16x16xf32, swizzle>
module attributes {delta.stage = "mapped", delta.signature = #sig, gpu.container_module} {
  gpu.module @m [#nvvm.target<chip = "sm_80">] {
    // A warp's own tile needs its lanes only; another warp's the whole block.
    // CHECK-LABEL: gpu.func @own
    // CHECK: shared_store
    // CHECK-NEXT: delta_warp.warp_barrier
    // CHECK-NEXT: shared_load
    // CHECK-NOT: barrier
    // CHECK: gpu.barrier
    // CHECK-NEXT: shared_load
    // CHECK-NOT: barrier
    // CHECK: shared_load
    // CHECK: gpu.return
    gpu.func @own(%x: memref<?xf32>, %i: memref<?xf32>, %o: memref<?xf32>, %e: memref<?xf32>, %ws: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "own", threads = 128, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %t = delta_warp.alloc_shared : !a
      %w = delta_warp.warp_id
      %z = arith.constant dense<0.0> : !f
      delta_warp.shared_store %z, %t[%w, %c0, %c0] : !f, !a
      %1 = delta_warp.shared_load %t[%w, %c0, %c0] : !a -> !f
      %2 = delta_warp.shared_load %t[%c1, %c0, %c0] : !a -> !f
      %3 = delta_warp.shared_load %t[%c0, %c0, %c0] : !a -> !f
      gpu.return
    }

    // One barrier after the wait and one for the slower warps' reads; reading
    // one stage while the other is filled needs none.
    // CHECK-LABEL: gpu.func @stages
    // CHECK: scf.for
    // CHECK: async_wait 0
    // CHECK: gpu.barrier
    // CHECK-NEXT: async_load
    // CHECK-NOT: barrier
    // CHECK: shared_load
    // CHECK-NOT: barrier
    // CHECK: gpu.return
    gpu.func @stages(%x: memref<?xf32>, %i: memref<?xf32>, %o: memref<?xf32>, %e: memref<?xf32>, %ws: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "stages", threads = 128, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c2 = arith.constant 2 : index
      %c16 = arith.constant 16 : index
      %t = delta_warp.alloc_shared : !delta_warp.shared<2x16x16xf32, swizzle>
      delta_warp.async_load %x[%c0] stride %H valid %c16 to %t[%c0] rows 16 width 16 alignment 16 : memref<?xf32>, !delta_warp.shared<2x16x16xf32, swizzle>
      delta_warp.async_commit
      scf.for %n = %c0 to %T step %c1 {
        %now = arith.remui %n, %c2 : index
        %other = arith.subi %c1, %now : index
        delta_warp.async_wait 0
        delta_warp.async_load %x[%n] stride %H valid %c16 to %t[%other] rows 16 width 16 alignment 16 : memref<?xf32>, !delta_warp.shared<2x16x16xf32, swizzle>
        delta_warp.async_commit
        %1 = delta_warp.shared_load %t[%now, %c0, %c0] : !delta_warp.shared<2x16x16xf32, swizzle> -> !f
      }
      gpu.return
    }

    // Slices of a loop do not meet: overwriting them in place needs no barrier
    // but the lanes'.
    // One warp alone is in order with itself, wherever the arrays lie. Tiles
    // that a loop deals out to warps are each warp's own.
    // CHECK-LABEL: gpu.func @tiles
    // CHECK: scf.if
    // CHECK: delta_warp.shared_store
    // CHECK-NEXT: delta_warp.warp_barrier
    // CHECK-NEXT: delta_warp.shared_load
    // CHECK: scf.for
    // CHECK-NEXT: delta_warp.shared_load
    // CHECK-NOT: gpu.barrier
    // CHECK: delta_warp.shared_store
    // CHECK: gpu.barrier
    // CHECK-NEXT: delta_warp.shared_load
    gpu.func @tiles(%x: memref<?xf32>, %i: memref<?xf32>, %o: memref<?xf32>, %e: memref<?xf32>, %ws: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "tiles", threads = 64, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      %c0 = arith.constant 0 : index
      %c16 = arith.constant 16 : index
      %c32 = arith.constant 32 : index
      %c64 = arith.constant 64 : index
      %one = delta_warp.alloc_shared : !delta_warp.shared<16x16xf32, swizzle>
      %wide = delta_warp.alloc_shared : !delta_warp.shared<16x64xf32, swizzle>
      %w = delta_warp.warp_id
      %z = arith.constant dense<0.0> : !f
      %first = arith.cmpi eq, %w, %c0 : index
      scf.if %first {
        delta_warp.shared_store %z, %one[%c0, %c0] : !f, !delta_warp.shared<16x16xf32, swizzle>
        %1 = delta_warp.shared_load %one[%c0, %c0] : !delta_warp.shared<16x16xf32, swizzle> -> !f
      }
      %start = arith.muli %w, %c16 : index
      scf.for %col = %start to %c64 step %c32 {
        %2 = delta_warp.shared_load %wide[%c0, %col] : !delta_warp.shared<16x64xf32, swizzle> -> !f
        delta_warp.shared_store %2, %wide[%c0, %col] : !f, !delta_warp.shared<16x64xf32, swizzle>
      }
      %3 = delta_warp.shared_load %wide[%c0, %c0] : !delta_warp.shared<16x64xf32, swizzle> -> !f
      gpu.return
    }
    // CHECK-LABEL: gpu.func @slices
    // CHECK: scf.for
    // CHECK: shared_load
    // CHECK-NEXT: warp_barrier
    // CHECK-NEXT: shared_store
    // CHECK-NOT: barrier
    // CHECK: gpu.return
    gpu.func @slices(%x: memref<?xf32>, %i: memref<?xf32>, %o: memref<?xf32>, %e: memref<?xf32>, %ws: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "slices", threads = 128, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      %c0 = arith.constant 0 : index
      %c16 = arith.constant 16 : index
      %c64 = arith.constant 64 : index
      %t = delta_warp.alloc_shared : !delta_warp.shared<4x16x64xf32, swizzle>
      %w = delta_warp.warp_id
      scf.for %n = %c0 to %c64 step %c16 {
        %1 = delta_warp.shared_load %t[%w, %c0, %n] : !delta_warp.shared<4x16x64xf32, swizzle> -> !f
        delta_warp.shared_store %1, %t[%w, %c0, %n] : !f, !delta_warp.shared<4x16x64xf32, swizzle>
      }
      gpu.return
    }
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "x", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 16, V = 16}, options = {target = "sm_80"}>
!f = tensor<16x16xf32, #delta_warp.fragment>
!a = !delta_warp.shared<1x16x16xf32, swizzle>
module attributes {delta.stage = "mapped", delta.signature = #sig, gpu.container_module} {
  gpu.module @m [#nvvm.target<chip = "sm_80">] {
    gpu.func @early(%x: memref<?xf32>, %i: memref<?xf32>, %o: memref<?xf32>, %e: memref<?xf32>, %ws: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "early", threads = 128, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      %c0 = arith.constant 0 : index
      %c16 = arith.constant 16 : index
      %t = delta_warp.alloc_shared : !a
      delta_warp.async_load %x[%c0] stride %H valid %c16 to %t[%c0] rows 16 width 16 alignment 16 : memref<?xf32>, !a
      delta_warp.async_commit
      // expected-error @+1 {{touches shared memory that an asynchronous copy still writes; it needs an async_wait before}}
      %1 = delta_warp.shared_load %t[%c0, %c0, %c0] : !a -> !f
      gpu.return
    }
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "x", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 16, V = 16}, options = {target = "sm_80"}>
!f = tensor<16x16xf32, #delta_warp.fragment>
!a = !delta_warp.shared<4x16x16xf32, swizzle>
module attributes {delta.stage = "mapped", delta.signature = #sig, gpu.container_module} {
  gpu.module @m [#nvvm.target<chip = "sm_80">] {
    gpu.func @divergent(%x: memref<?xf32>, %i: memref<?xf32>, %o: memref<?xf32>, %e: memref<?xf32>, %ws: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "divergent", threads = 128, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      %c0 = arith.constant 0 : index
      %t = delta_warp.alloc_shared : !a
      %w = delta_warp.warp_id
      %z = arith.constant dense<0.0> : !f
      %c2 = arith.constant 2 : index
      %first = arith.cmpi ult, %w, %c2 : index
      scf.if %first {
        delta_warp.shared_store %z, %t[%w, %c0, %c0] : !f, !a
        // expected-error @+1 {{needs a barrier of the whole block where not all of its warps come}}
        %1 = delta_warp.shared_load %t[%c0, %c0, %c0] : !a -> !f
      }
      gpu.return
    }
  }
}

// -----

// Branches that different warps take at once: other stages are other places.
#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "x", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 16, V = 16}, options = {target = "sm_80"}>
!f = tensor<16x16xf32, #delta_warp.fragment>
!a = !delta_warp.shared<2x16x16xf32, swizzle>
module attributes {delta.stage = "mapped", delta.signature = #sig, gpu.container_module} {
  gpu.module @m [#nvvm.target<chip = "sm_80">] {
    // CHECK-LABEL: gpu.func @apart
    // CHECK: scf.if
    // CHECK-NOT: barrier
    // CHECK: gpu.return
    gpu.func @apart(%x: memref<?xf32>, %i: memref<?xf32>, %o: memref<?xf32>, %e: memref<?xf32>, %ws: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "apart", threads = 64, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %t = delta_warp.alloc_shared : !a
      %w = delta_warp.renew_lanes %T
      %z = arith.constant dense<0.0> : !f
      %first = arith.cmpi eq, %w, %c0 : index
      scf.if %first {
        delta_warp.shared_store %z, %t[%c1, %c0, %c0] : !f, !a
      } else {
        %1 = delta_warp.shared_load %t[%c0, %c0, %c0] : !a -> !f
      }
      gpu.return
    }
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "x", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 16, V = 16}, options = {target = "sm_80"}>
!f = tensor<16x16xf32, #delta_warp.fragment>
!a = !delta_warp.shared<2x16x16xf32, swizzle>
module attributes {delta.stage = "mapped", delta.signature = #sig, gpu.container_module} {
  gpu.module @m [#nvvm.target<chip = "sm_80">] {
    gpu.func @together(%x: memref<?xf32>, %i: memref<?xf32>, %o: memref<?xf32>, %e: memref<?xf32>, %ws: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "together", threads = 64, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      %c0 = arith.constant 0 : index
      %t = delta_warp.alloc_shared : !a
      %w = delta_warp.warp_id
      %z = arith.constant dense<0.0> : !f
      %first = arith.cmpi eq, %w, %c0 : index
      scf.if %first {
        delta_warp.shared_store %z, %t[%c0, %c0, %c0] : !f, !a
      } else {
        // expected-error @+1 {{touches shared memory that warps in the other branch touch at the same time}}
        %1 = delta_warp.shared_load %t[%c0, %c0, %c0] : !a -> !f
      }
      gpu.return
    }
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "x", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 16, V = 16}, options = {target = "sm_80"}>
!f = tensor<16x16xf32, #delta_warp.fragment>
!a = !delta_warp.shared<2x16x64xf32, swizzle>
module attributes {delta.stage = "mapped", delta.signature = #sig, gpu.container_module} {
  gpu.module @m [#nvvm.target<chip = "sm_80">] {
    // Two warps share a matrix, each has every other tile of its columns: its
    // lanes are ordered. All warps before the columns of another one.
    // CHECK-LABEL: gpu.func @columns
    // CHECK: scf.for
    // CHECK: shared_load
    // CHECK: delta_warp.warp_barrier
    // CHECK-NEXT: shared_store
    // CHECK-NOT: gpu.barrier
    // CHECK: }
    // CHECK: gpu.barrier
    // CHECK-NEXT: shared_load
    // CHECK: gpu.return
    gpu.func @columns(%x: memref<?xf32>, %i: memref<?xf32>, %o: memref<?xf32>, %e: memref<?xf32>, %ws: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "columns", threads = 128, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      %c0 = arith.constant 0 : index
      %c2 = arith.constant 2 : index
      %c16 = arith.constant 16 : index
      %c32 = arith.constant 32 : index
      %c64 = arith.constant 64 : index
      %t = delta_warp.alloc_shared : !a
      %w = delta_warp.warp_id
      %matrix = arith.remui %w, %c2 : index
      %part = arith.divui %w, %c2 : index
      %first = arith.muli %part, %c16 : index
      scf.for %column = %first to %c64 step %c32 {
        %1 = delta_warp.shared_load %t[%matrix, %c0, %column] : !a -> !f
        delta_warp.shared_store %1, %t[%matrix, %c0, %column] : !f, !a
      }
      %2 = delta_warp.shared_load %t[%matrix, %c0, %first] : !a -> !f
      gpu.return
    }
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "x", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 16, V = 16}, options = {target = "sm_80"}>
!f = tensor<16x16xf32, #delta_warp.fragment>
!a = !delta_warp.shared<2x16x64xf32, swizzle>
module attributes {delta.stage = "mapped", delta.signature = #sig, gpu.container_module} {
  gpu.module @m [#nvvm.target<chip = "sm_80">] {
    // Steps that do not lead over both warps' columns: no tile is one's own.
    gpu.func @meeting(%x: memref<?xf32>, %i: memref<?xf32>, %o: memref<?xf32>, %e: memref<?xf32>, %ws: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "meeting", threads = 128, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      %c0 = arith.constant 0 : index
      %c2 = arith.constant 2 : index
      %c16 = arith.constant 16 : index
      %c64 = arith.constant 64 : index
      %t = delta_warp.alloc_shared : !a
      %w = delta_warp.warp_id
      %matrix = arith.remui %w, %c2 : index
      %part = arith.divui %w, %c2 : index
      %first = arith.muli %part, %c16 : index
      scf.for %column = %first to %c64 step %c16 {
        %1 = delta_warp.shared_load %t[%matrix, %c0, %column] : !a -> !f
        // expected-error @+1 {{needs a barrier of the whole block where not all of its warps come}}
        delta_warp.shared_store %1, %t[%matrix, %c0, %column] : !f, !a
      }
      gpu.return
    }
  }
}

// -----

// Two stages in turn: a copy into this iteration's is not what the next one reads
// before it waits, nor what this one reads behind its barrier.

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "x", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 16, V = 16}, options = {target = "sm_80"}>
!f = tensor<16x16xf32, #delta_warp.fragment>
!a = !delta_warp.shared<2x16x16xf32, swizzle>
module attributes {delta.stage = "mapped", delta.signature = #sig, gpu.container_module} {
  gpu.module @m [#nvvm.target<chip = "sm_80">] {
    // CHECK-LABEL: gpu.func @alternate
    // CHECK: scf.for
    // CHECK-NOT: gpu.barrier
    // CHECK: delta_warp.shared_load
    // CHECK: delta_warp.async_wait 0
    // CHECK-NEXT: gpu.barrier
    // CHECK-NEXT: delta_warp.shared_load
    // CHECK-NEXT: delta_warp.async_load
    // CHECK-NOT: gpu.barrier
    // CHECK: gpu.return
    gpu.func @alternate(%x: memref<?xf32>, %i: memref<?xf32>, %o: memref<?xf32>, %e: memref<?xf32>, %ws: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "alternate", threads = 64, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c2 = arith.constant 2 : index
      %c16 = arith.constant 16 : index
      %t = delta_warp.alloc_shared : !a
      scf.for %n = %c0 to %T step %c1 {
        %this = arith.remui %n, %c2 : index
        %other = arith.subi %c1, %this : index
        %1 = delta_warp.shared_load %t[%this, %c0, %c0] : !a -> !f
        delta_warp.async_wait 0
        %2 = delta_warp.shared_load %t[%other, %c0, %c0] : !a -> !f
        delta_warp.async_load %x[%c0] stride %c16 valid %c16 to %t[%this] rows 16 width 16 alignment 16 : memref<?xf32>, !a
        delta_warp.async_commit
      }
      gpu.return
    }
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "x", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 16, V = 16}, options = {target = "sm_80"}>
!f = tensor<16x16xf32, #delta_warp.fragment>
!a = !delta_warp.shared<2x16x16xf32, swizzle>
module attributes {delta.stage = "mapped", delta.signature = #sig, gpu.container_module} {
  gpu.module @m [#nvvm.target<chip = "sm_80">] {
    gpu.func @too_early(%x: memref<?xf32>, %i: memref<?xf32>, %o: memref<?xf32>, %e: memref<?xf32>, %ws: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "too_early", threads = 64, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c2 = arith.constant 2 : index
      %c16 = arith.constant 16 : index
      %t = delta_warp.alloc_shared : !a
      scf.for %n = %c0 to %T step %c1 {
        %this = arith.remui %n, %c2 : index
        %other = arith.subi %c1, %this : index
        // expected-error @+1 {{touches shared memory that an asynchronous copy still writes; it needs an async_wait before}}
        %1 = delta_warp.shared_load %t[%other, %c0, %c0] : !a -> !f
        delta_warp.async_wait 0
        delta_warp.async_load %x[%c0] stride %c16 valid %c16 to %t[%this] rows 16 width 16 alignment 16 : memref<?xf32>, !a
        delta_warp.async_commit
      }
      gpu.return
    }
  }
}

// -----

// Pairs of different rows and columns, and both sides of the diagonal, have
// places of their own: no barrier between the warps that write them.

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "x", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 16, V = 16}, options = {target = "sm_80"}>
!f = tensor<16x16xf32, #delta_warp.fragment>
!a = !delta_warp.shared<2x2x4x16x16xf32, swizzle>
module attributes {delta.stage = "mapped", delta.signature = #sig, gpu.container_module} {
  gpu.module @m [#nvvm.target<chip = "sm_80">] {
    // CHECK-LABEL: gpu.func @pairs
    // CHECK-NOT: gpu.barrier
    // CHECK: gpu.return
    gpu.func @pairs(%x: memref<?xf32>, %i: memref<?xf32>, %o: memref<?xf32>, %e: memref<?xf32>, %ws: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "pairs", threads = 64, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c2 = arith.constant 2 : index
      %c16 = arith.constant 16 : index
      %t = delta_warp.alloc_shared : !a
      %w = delta_warp.warp_id
      %z = arith.constant dense<0.0> : !f
      %first = arith.cmpi eq, %w, %c0 : index
      scf.if %first {
        delta_warp.store_pairs %z, %t[%c0, %c1, %c0, %c0, %c0] : !f, !a
        delta_warp.store_pairs %z, %t[%c1, %c0, %c0, %c0, %c0] transpose : !f, !a
      }
      %second = arith.cmpi eq, %w, %c1 : index
      scf.if %second {
        delta_warp.store_pairs %z, %t[%c1, %c0, %c0, %c0, %c0] : !f, !a
        delta_warp.store_pairs %z, %t[%c0, %c1, %c0, %c0, %c0] transpose : !f, !a
      }
      gpu.return
    }
  }
}
