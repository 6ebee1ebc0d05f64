// RUN: delta-opt %s --delta-gpu-to-llvm --split-input-file --verify-diagnostics

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {target = "sm_80"}>

// expected-error@+1 {{expects a module of stage mapped, but got one without a stage}}
module attributes {delta.signature = #sig} {
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}>

// expected-error@+1 {{expects a kernel mapped for a GPU, but got one for the cpu}}
module attributes {delta.stage = "mapped", delta.signature = #sig} {
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {target = "sm_70"}>

// expected-error@+1 {{unknown GPU architecture 'sm_70'; expected sm_80 or sm_90a}}
module attributes {delta.stage = "mapped", delta.signature = #sig} {
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2}, options = {target = "sm_80"}>

// expected-error@+1 {{expects the size of dim 'V' in 'delta.signature'}}
module attributes {delta.stage = "mapped", delta.signature = #sig} {
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {target = "sm_80"}>

// expected-error@+1 {{expects one 'gpu.module', which holds the kernels}}
module attributes {delta.stage = "mapped", delta.signature = #sig} {
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {target = "sm_80"}>

// expected-error@+1 {{expects a kernel in the 'gpu.module'}}
module attributes {delta.stage = "mapped", delta.signature = #sig} {
  gpu.module @f {
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {target = "sm_80"}>

module attributes {gpu.container_module, delta.stage = "mapped", delta.signature = #sig} {
  gpu.module @f {
    // expected-error@+1 {{expects the dictionary 'delta.kernel' with the facts of its launch}}
    gpu.func @delta_f_decode(%v: memref<?xf32>, %init: memref<?xf32>, %o: memref<?xf32>, %final: memref<?xf32>,
        %w: memref<?xi8>, %B: index, %T: index, %H: index) kernel {
      gpu.return
    }
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {target = "sm_80"}>

module attributes {gpu.container_module, delta.stage = "mapped", delta.signature = #sig} {
  gpu.module @f {
    // expected-error@+1 {{expects 'delta.kernel' to repeat the kernel's name}}
    gpu.func @delta_f_decode(%v: memref<?xf32>, %init: memref<?xf32>, %o: memref<?xf32>, %final: memref<?xf32>,
        %w: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "g", threads = 32, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      gpu.return
    }
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {target = "sm_80"}>

module attributes {gpu.container_module, delta.stage = "mapped", delta.signature = #sig} {
  gpu.module @f {
    // expected-error@+1 {{expects 'threads' in 'delta.kernel' to be an integer of at least 1}}
    gpu.func @delta_f_decode(%v: memref<?xf32>, %init: memref<?xf32>, %o: memref<?xf32>, %final: memref<?xf32>,
        %w: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "delta_f_decode", shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      gpu.return
    }
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {target = "sm_80"}>

module attributes {gpu.container_module, delta.stage = "mapped", delta.signature = #sig} {
  gpu.module @f {
    // expected-error@+1 {{asks for 2048 threads a CTA; sm_80 has at most 1024}}
    gpu.func @delta_f_decode(%v: memref<?xf32>, %init: memref<?xf32>, %o: memref<?xf32>, %final: memref<?xf32>,
        %w: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "delta_f_decode", threads = 2048, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      gpu.return
    }
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {target = "sm_80"}>

module attributes {gpu.container_module, delta.stage = "mapped", delta.signature = #sig} {
  gpu.module @f {
    // expected-error@+1 {{asks for 200000 bytes of shared memory a CTA; sm_80 has at most 166912}}
    gpu.func @delta_f_decode(%v: memref<?xf32>, %init: memref<?xf32>, %o: memref<?xf32>, %final: memref<?xf32>,
        %w: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "delta_f_decode", threads = 32, shared_bytes = 200000, v_blocks = 1, min_ctas = 1}} {
      gpu.return
    }
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {target = "sm_80"}>

module attributes {gpu.container_module, delta.stage = "mapped", delta.signature = #sig} {
  gpu.module @f {
    // expected-error@+1 {{expects 'shared_bytes' to be a multiple of 16, but it is 24}}
    gpu.func @delta_f_decode(%v: memref<?xf32>, %init: memref<?xf32>, %o: memref<?xf32>, %final: memref<?xf32>,
        %w: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "delta_f_decode", threads = 32, shared_bytes = 24, v_blocks = 1, min_ctas = 1}} {
      gpu.return
    }
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {target = "sm_80"}>

module attributes {gpu.container_module, delta.stage = "mapped", delta.signature = #sig} {
  gpu.module @f {
    // expected-error@+1 {{expects 8 arguments for the signature, but has 1}}
    gpu.func @delta_f_decode(%v: memref<?xf32>) kernel
        attributes {delta.kernel = {name = "delta_f_decode", threads = 32, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      gpu.return
    }
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {target = "sm_80"}>

module attributes {gpu.container_module, delta.stage = "mapped", delta.signature = #sig} {
  gpu.module @f {
    // expected-error@+1 {{expects argument 0 to be of type 'memref<?xf32>', but it has type 'memref<?xbf16>'}}
    gpu.func @delta_f_decode(%v: memref<?xbf16>, %init: memref<?xf32>, %o: memref<?xf32>, %final: memref<?xf32>,
        %w: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "delta_f_decode", threads = 32, shared_bytes = 0, v_blocks = 1, min_ctas = 1}} {
      gpu.return
    }
  }
}
