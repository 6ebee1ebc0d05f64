// RUN: delta-opt %s --delta-cpu-to-llvm --split-input-file --verify-diagnostics

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}>

// expected-error@+1 {{expects a module of stage mapped, but got one without a stage}}
module attributes {delta.signature = #sig} {
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2}>

// expected-error@+1 {{expects the size of dim 'V' in 'delta.signature'}}
module attributes {delta.stage = "mapped", delta.signature = #sig} {
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {target = "sm_90a"}>

// expected-error@+1 {{expects a kernel mapped for the cpu, but got one for sm_90a}}
module attributes {delta.stage = "mapped", delta.signature = #sig} {
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}>

// expected-error@+1 {{expects a public function, the kernel}}
module attributes {delta.stage = "mapped", delta.signature = #sig} {
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}>

module attributes {delta.stage = "mapped", delta.signature = #sig} {
  // expected-error@+1 {{expects the attribute 'delta.workspace' to be an integer of at least 0}}
  func.func @f() {
    return
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}>

module attributes {delta.stage = "mapped", delta.signature = #sig} {
  // expected-error@+1 {{expects the attribute 'delta.panels' to be an integer of at least 1}}
  func.func @f() attributes {delta.workspace = 0, delta.panels = 0} {
    return
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}>

module attributes {delta.stage = "mapped", delta.signature = #sig} {
  // expected-error@+1 {{expects 12 arguments for the signature, but has 1}}
  func.func @f(%a: memref<?xf32>) attributes {delta.workspace = 0, delta.panels = 1} {
    return
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}>

module attributes {delta.stage = "mapped", delta.signature = #sig} {
  // expected-error@+1 {{expects argument 1 to be of type 'memref<?xf32>', but it has type 'memref<?xf64>'}}
  func.func @f(%init: memref<?xf32>, %o: memref<?xf64>, %final: memref<?xf32>,
      %B: index, %T: index, %H: index, %has_init: i1, %has_final: i1,
      %arena: memref<?xi8>, %begin: index, %end: index, %vblocks: index)
      attributes {delta.workspace = 0, delta.panels = 1} {
    return
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}>

module attributes {delta.stage = "mapped", delta.signature = #sig} {
  func.func @f(%init: memref<?xf32>, %o: memref<?xf32>, %final: memref<?xf32>,
      %B: index, %T: index, %H: index, %has_init: i1, %has_final: i1,
      %arena: memref<?xi8>, %begin: index, %end: index, %vblocks: index)
      attributes {delta.workspace = 0, delta.panels = 1} {
    return
  }
  // expected-error@+1 {{expects one public function, the kernel, but there is '@f' too}}
  func.func @g() {
    return
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}>

module attributes {delta.stage = "mapped", delta.signature = #sig} {
  func.func @f(%init: memref<?xf32>, %o: memref<?xf32>, %final: memref<?xf32>,
      %B: index, %T: index, %H: index, %has_init: i1, %has_final: i1,
      %arena: memref<?xi8>, %begin: index, %end: index, %vblocks: index)
      attributes {delta.workspace = 0, delta.panels = 1} {
    // expected-error@+1 {{cannot be lowered to LLVM: the stage mapped is made of scf, arith, math, memref, vector and index}}
    gpu.barrier
    return
  }
}
