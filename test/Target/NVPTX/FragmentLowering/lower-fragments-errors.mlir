// RUN: delta-opt %s --delta-lower-fragments --split-input-file --verify-diagnostics

gpu.module @unplaced {
  gpu.func @kernel() kernel {
    // expected-error @below {{'delta_warp.alloc_shared' op expects an offset: delta-place-shared has to run before delta-lower-fragments}}
    %a = delta_warp.alloc_shared : !delta_warp.shared<16xf32>
    gpu.return
  }
}

// -----

gpu.module @threads {
  // expected-error @below {{'gpu.func' op expects a multiple of 32 threads, but got 48}}
  gpu.func @kernel() kernel attributes {delta.kernel = {threads = 48}} {
    delta_warp.warp_barrier
    gpu.return
  }
}

// -----

gpu.module @argument {
  // expected-error @below {{'gpu.func' op expects no argument of type 'tensor<8x8xf32, #delta_warp.fragment>' for a kernel}}
  gpu.func @kernel(%x: tensor<8x8xf32, #delta_warp.fragment>) kernel {
    delta_warp.warp_barrier
    gpu.return
  }
}

// -----

gpu.module @constant {
  gpu.func @kernel() kernel {
    // expected-error @below {{'arith.constant' op expects the same number in every element of a tile}}
    %x = arith.constant dense<[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]> : tensor<8xf32, #delta_warp.along<rows>>
    delta_warp.warp_barrier
    gpu.return
  }
}

// -----

gpu.module @other {
  gpu.func @kernel(%n: index, %x: f32) kernel {
    %s = delta_warp.splat %x : f32 -> tensor<8x8xf32, #delta_warp.fragment>
    // expected-error @below {{'tensor.extract' op cannot be lowered: of operations outside delta_warp only those element by element work on tiles}}
    %e = tensor.extract %s[%n, %n] : tensor<8x8xf32, #delta_warp.fragment>
    gpu.return
  }
}

// -----

gpu.module @control_flow {
  gpu.func @kernel(%x: f32) kernel {
    // expected-error @below {{'scf.execute_region' op cannot hold operations on tiles: of control flow only scf.for and scf.if are lowered}}
    scf.execute_region {
      delta_warp.warp_barrier
      scf.yield
    }
    gpu.return
  }
}

// -----

gpu.module @vector_copy {
  gpu.func @kernel(%x: memref<?xbf16>, %i: index) kernel {
    %a = delta_warp.alloc_shared at 0 : !delta_warp.shared<2x64xbf16, swizzle>
    // expected-error @below {{'delta_warp.async_load' op expects an array without swizzle when 'width' is absent}}
    delta_warp.async_load %x[%i] stride %i valid %i to %a[%i] rows 64 alignment 1 : memref<?xbf16>, !delta_warp.shared<2x64xbf16, swizzle>
    gpu.return
  }
}
