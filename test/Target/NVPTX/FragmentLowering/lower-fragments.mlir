// RUN: delta-opt %s --delta-lower-fragments --cse | FileCheck %s

!frag = tensor<16x16xf32, #delta_warp.fragment>
!half = tensor<16x16xbf16, #delta_warp.fragment>
!rows = tensor<16xf32, #delta_warp.along<rows>>
!tile = !delta_warp.shared<2x16x64xbf16, swizzle>

// What a lane contributes is computed once, at the entry; tiles at one column
// of arrays side by side differ by a constant in the instruction.
gpu.module @hopper [#nvvm.target<chip = "sm_90a">] {
  // CHECK-LABEL: gpu.module @hopper
  // CHECK: llvm.mlir.global external @delta_shared() {addr_space = 3 : i32, alignment = 128 : i64} : !llvm.array<0 x i8>
  // CHECK-LABEL: gpu.func @products
  // CHECK: nvvm.read.ptx.sreg.tid.x
  // CHECK: scf.for
  // CHECK: %[[ADDRESS:.*]] = llvm.inttoptr %{{.*}} : i32 to !llvm.ptr<3>
  // CHECK-NEXT: %[[A:.*]] = nvvm.ldmatrix %[[ADDRESS]] {eltType = {{.*}}, layout = #nvvm.mma_layout<row>, num = 4 : i32, {{.*}}}
  // CHECK: %[[A0:.*]] = llvm.extractvalue %[[A]][0]
  // CHECK: %[[A1:.*]] = llvm.extractvalue %[[A]][1]
  // CHECK: %[[A2:.*]] = llvm.extractvalue %[[A]][2]
  // CHECK: %[[A3:.*]] = llvm.extractvalue %[[A]][3]
  // CHECK: llvm.getelementptr %{{.*}}[4096] : (!llvm.ptr<3>) -> !llvm.ptr<3>, i8
  // CHECK-NEXT: %[[B:.*]] = nvvm.ldmatrix
  // CHECK: %[[B0:.*]] = llvm.extractvalue %[[B]][0]
  // CHECK: %[[B1:.*]] = llvm.extractvalue %[[B]][1]
  // The registers of A and those of each B are the ones that one load wrote
  // side by side.
  // CHECK: nvvm.mma.sync A[%[[A0]], %[[A1]], %[[A2]], %[[A3]]] B[%[[B0]], %[[B1]]]
  // CHECK-COUNT-1: nvvm.mma.sync
  // CHECK-NOT: nvvm.mma.sync
  // CHECK: nvvm.stmatrix
  // CHECK-NOT: delta_warp
  gpu.func @products(%slices: index) kernel {
    %a = delta_warp.alloc_shared at 0 : !tile
    %b = delta_warp.alloc_shared at 4096 : !tile
    %c0 = arith.constant 0 : index
    %c16 = arith.constant 16 : index
    %zero = arith.constant dense<0.0> : !frag
    %sum = scf.for %j = %c0 to %slices step %c16 iter_args(%acc = %zero) -> !frag {
      %x = delta_warp.shared_load %a[%c0, %c0, %j] : !tile -> !half
      %y = delta_warp.shared_load %b[%c0, %c0, %j] : !tile -> !half
      %next = delta_warp.mma %x, %y, %acc : !half, !half, !frag
      scf.yield %next : !frag
    }
    %h = arith.truncf %sum : !frag to !half
    delta_warp.shared_store %h, %a[%c0, %c0, %c0] : !half, !tile
    gpu.return
  }

  // CHECK-LABEL: gpu.func @follow
  // A zero of which only we know, and with it the sum's first and last register:
  // the factor's registers wait for it, and so does the load's address.
  // CHECK: scf.for %[[J:[a-z0-9]+]] =
  // CHECK: %[[WIDE:.*]] = arith.index_cast %[[J]] : index to i64
  // CHECK: %[[HIGH:.*]] = arith.shrui %[[WIDE]], %{{.*}} : i64
  // CHECK: %[[NONE:.*]] = arith.trunci %[[HIGH]] : i64 to i32
  // CHECK: nvvm.mma.sync
  // CHECK: %[[BOTH:.*]] = arith.ori %{{.*}}, %{{.*}} : i32
  // CHECK: %[[WAIT:.*]] = arith.andi %[[BOTH]], %[[NONE]] : i32
  // CHECK: arith.ori %{{.*}}, %[[WAIT]] : i32
  // CHECK: arith.index_castui %[[WAIT]] : i32 to index
  gpu.func @follow(%slices: index) kernel {
    %a = delta_warp.alloc_shared at 0 : !tile
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %zero = arith.constant dense<0.0> : !frag
    %sum = scf.for %j = %c0 to %slices step %c1 iter_args(%acc = %zero) -> !frag {
      %w = delta_warp.renew_lanes %j
      %x = delta_warp.shared_load %a[%c0, %c0, %c0] : !tile -> !half
      %first = delta_warp.mma %x, %x, %acc : !half, !half, !frag
      %late = delta_warp.follow %x, %first : !half, !frag
      %row = delta_warp.follow %c0, %first : index, !frag
      %y = delta_warp.shared_load %a[%c1, %row, %c0] : !tile -> !half
      %next = delta_warp.mma %late, %y, %first : !half, !half, !frag
      scf.yield %next : !frag
    }
    %h = arith.truncf %sum : !frag to !half
    delta_warp.shared_store %h, %a[%c0, %c0, %c0] : !half, !tile
    gpu.return
  }

  // CHECK-LABEL: gpu.func @rows
  // Half of the rows change lanes: one shuffle a register.
  // CHECK-COUNT-2: nvvm.shfl.sync bfly
  // CHECK-NOT: nvvm.shfl.sync
  // CHECK-LABEL: gpu.func @copy
  gpu.func @rows(%out: memref<?xf32>, %x: memref<?xbf16>) kernel {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c16 = arith.constant 16 : index
    %h = delta_warp.global_load %x[%c0] strides(%c16, %c1) valid(%c16, %c16) : memref<?xbf16> -> !half
    %right, %left = delta_warp.split_rows %h by 2 : !half -> tensor<8x16xbf16, #delta_warp.fragment>
    %y = delta_warp.concat axis 0 %right, %left : tensor<8x16xbf16, #delta_warp.fragment>, tensor<8x16xbf16, #delta_warp.fragment> -> !half
    %e = delta_warp.extract %y [8, 0] : !half -> tensor<8x8xbf16, #delta_warp.fragment>
    %w = arith.extf %e : tensor<8x8xbf16, #delta_warp.fragment> to tensor<8x8xf32, #delta_warp.fragment>
    delta_warp.global_store %w, %out[%c0] strides(%c16, %c1) valid(%c16, %c16) : tensor<8x8xf32, #delta_warp.fragment>, memref<?xf32>
    gpu.return
  }

  // 16 rows of 128 bytes by 64 threads: two copies of 16 bytes each, the second
  // at a constant from the first in shared memory.
  // CHECK-COUNT-2: nvvm.cp.async.shared.global %{{.*}}, %{{.*}}, 16, cache = cg, %
  // CHECK-NOT: nvvm.cp.async.shared.global
  // CHECK: nvvm.cp.async.commit.group
  // CHECK: nvvm.cp.async.wait.group 0
  gpu.func @copy(%x: memref<?xbf16>, %stride: index, %valid: index) kernel
      attributes {delta.kernel = {threads = 64}} {
    %a = delta_warp.alloc_shared at 0 : !tile
    %c0 = arith.constant 0 : index
    delta_warp.async_load %x[%c0] stride %stride valid %valid to %a[%c0] rows 16 width 64 alignment 8 : memref<?xbf16>, !tile
    delta_warp.async_commit
    delta_warp.async_wait 0
    gpu.return
  }

  // An out with the state's columns as rows: blocks are transposed, two lanes
  // exchange, and 64-bit stores cover sectors of 32 bytes.
  // CHECK-LABEL: gpu.func @out
  // CHECK-COUNT-2: movmatrix
  // CHECK: llvm.store {{.*}} {alignment = 8 : i64} : vector<2xi32>, !llvm.ptr<1>
  // CHECK-COUNT-2: movmatrix
  // CHECK: llvm.store {{.*}} {alignment = 8 : i64} : vector<2xi32>, !llvm.ptr<1>
  // CHECK-NOT: llvm.store
  gpu.func @out(%o: memref<?xbf16>, %stride: index, %tokens: index, %value: bf16) kernel {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c64 = arith.constant 64 : index
    %h = delta_warp.splat %value : bf16 -> !half
    delta_warp.global_store %h, %o[%c0] strides(%c1, %stride) valid(%c64, %tokens) {alignment = 64} : !half, memref<?xbf16>
    gpu.return
  }

  // Rows chosen by rows stay packed: one selection for two numbers, here the
  // same in all columns.
  // CHECK-LABEL: gpu.func @packed
  // CHECK-COUNT-4: arith.select {{.*}} : i32
  // CHECK-NOT: arith.select {{.*}} : i32
  gpu.func @packed(%out: memref<?xbf16>, %x: bf16, %y: bf16, %stride: index) kernel {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c16 = arith.constant 16 : index
    %a = delta_warp.splat %x : bf16 -> !half
    %b = delta_warp.splat %y : bf16 -> !half
    %i = delta_warp.positions : tensor<16xi32, #delta_warp.along<rows>>
    %j = delta_warp.positions : tensor<16xi32, #delta_warp.along<cols>>
    %two = arith.constant dense<2> : tensor<16xi32, #delta_warp.along<rows>>
    %low = arith.cmpi slt, %i, %two : tensor<16xi32, #delta_warp.along<rows>>
    %c = delta_warp.expand %low : tensor<16xi1, #delta_warp.along<rows>> -> tensor<16x16xi1, #delta_warp.fragment>
    %wide = arith.extf %a : !half to !frag
    %other = arith.extf %b : !half to !frag
    %chosen = arith.select %c, %wide, %other : tensor<16x16xi1, #delta_warp.fragment>, !frag
    %narrow = arith.truncf %chosen : !frag to !half
    %again = arith.select %c, %b, %narrow : tensor<16x16xi1, #delta_warp.fragment>, !half
    delta_warp.global_store %again, %out[%c0] strides(%stride, %stride) valid(%c16, %c16) : !half, memref<?xbf16>
    gpu.return
  }
}

!system = !delta_warp.shared<1x16x16xf32, swizzle>
!inverse = !delta_warp.shared<1x16x16xbf16, swizzle>
!systems = !delta_warp.shared<2x16x32xf32, swizzle>
!inverses = !delta_warp.shared<2x16x32xbf16, swizzle>

gpu.module @systems [#nvvm.target<chip = "sm_90a">] {
  // Two blocks of 8 unknowns, both in the same instructions; two products of
  // numbers split in two, and every lane stores four pairs.
  // CHECK-LABEL: gpu.func @one_step
  // CHECK-COUNT-28: llvm.intr.fma
  // CHECK-NOT: llvm.intr.fma
  // CHECK-COUNT-4: nvvm.mma.sync {{.*}}#nvvm.mma_type<tf32>
  // CHECK-NOT: nvvm.mma.sync
  // CHECK-COUNT-4: llvm.store {{.*}} : i32, !llvm.ptr<3>
  // CHECK-NOT: llvm.store
  // CHECK-LABEL: gpu.func @two_steps
  gpu.func @one_step() kernel {
    %a = delta_warp.alloc_shared at 0 : !system
    %t = delta_warp.alloc_shared at 1024 : !inverse
    delta_warp.inverse %a[] to %t[] steps 1 : !system, !inverse
    gpu.return
  }

  // A column of all 32 unknowns a lane.
  // CHECK-COUNT-496: llvm.intr.fma
  // CHECK-NOT: nvvm.mma.sync
  gpu.func @two_steps() kernel {
    %a = delta_warp.alloc_shared at 0 : !systems
    %t = delta_warp.alloc_shared at 4096 : !inverses
    delta_warp.inverse %a[] to %t[] steps 2 : !systems, !inverses
    gpu.return
  }
}

gpu.module @ampere [#nvvm.target<chip = "sm_80">] {
  // No stmatrix: each lane stores its own 32 bits of a block, transposed blocks
  // after movmatrix.
  // CHECK-LABEL: gpu.func @stores
  // CHECK-COUNT-2: llvm.store {{.*}} : i32, !llvm.ptr<3>
  // CHECK: movmatrix
  // CHECK: llvm.store {{.*}} : i32, !llvm.ptr<3>
  // CHECK: movmatrix
  // CHECK: llvm.store {{.*}} : i32, !llvm.ptr<3>
  // CHECK-NOT: nvvm.stmatrix
  gpu.func @stores(%value: bf16) kernel {
    %a = delta_warp.alloc_shared at 0 : !tile
    %c0 = arith.constant 0 : index
    %c16 = arith.constant 16 : index
    %h = delta_warp.splat %value : bf16 -> tensor<16x8xbf16, #delta_warp.fragment>
    delta_warp.shared_store %h, %a[%c0, %c0, %c0] : tensor<16x8xbf16, #delta_warp.fragment>, !tile
    delta_warp.shared_store %h, %a[%c0, %c0, %c16] transpose : tensor<16x8xbf16, #delta_warp.fragment>, !tile
    gpu.return
  }
}
