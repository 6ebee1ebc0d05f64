// RUN: delta-opt %s --delta-cpu-map --split-input-file --verify-diagnostics

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 8, V = 8}, options = {chunk = 12}>
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  // expected-error @+1 {{the CPU mapping needs a chunk that is a multiple of 16 up to 128 tokens, but got 12}}
  func.func @chunk(%q: tensor<12x8xf32> {delta.arg = "q"}, %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index)
      -> (tensor<8x8xf32>, tensor<12x8xf32>) {
    %o = delta.matmul %q, %S : tensor<12x8xf32>, tensor<8x8xf32> -> tensor<12x8xf32>
    return %S, %o : tensor<8x8xf32>, tensor<12x8xf32>
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32>],
    dims = {K = 8, V = 8}, options = {chunk = 16}>
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  func.func @columns(%q: tensor<16x8xf32> {delta.arg = "q"}, %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index)
      -> (tensor<8x8xf32>, tensor<16xf32>) {
    %o = delta.matmul %q, %S : tensor<16x8xf32>, tensor<8x8xf32> -> tensor<16x8xf32>
    // expected-error @+1 {{combines columns of the state, which are computed apart from each other; only operations that keep columns separate may follow a product with the state}}
    %n = delta.sum %o : tensor<16x8xf32> -> tensor<16xf32>
    return %S, %n : tensor<8x8xf32>, tensor<16xf32>
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f16, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 8, V = 8}, options = {chunk = 16}>
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  // expected-error @+1 {{the CPU mapping computes in f32 or f64, but got 'f16'}}
  func.func @half(%q: tensor<16x8xf16> {delta.arg = "q"}, %S: tensor<8x8xf16> {delta.arg = "S"}, %valid: index)
      -> (tensor<8x8xf16>, tensor<16x8xf16>) {
    %o = delta.matmul %q, %S : tensor<16x8xf16>, tensor<8x8xf16> -> tensor<16x8xf16>
    return %S, %o : tensor<8x8xf16>, tensor<16x8xf16>
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 8, V = 8}, options = {chunk = 16}>
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  func.func @stranger(%q: tensor<16x8xf32> {delta.arg = "q"}, %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index)
      -> (tensor<8x8xf32>, tensor<16x8xf32>) {
    // expected-error @+1 {{'tensor.empty' has no mapping to the CPU; accepted are elementwise operations and those of a chunk program}}
    %o = tensor.empty() : tensor<16x8xf32>
    return %S, %o : tensor<8x8xf32>, tensor<16x8xf32>
  }
}

// -----

// expected-error @+1 {{expects a module of stage chunk}}
module {
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = checkpoint, name = "c", type = f32, axes = [K, V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [K]>,
    #delta.arg<kind = sum, name = "s", type = f32>],
    dims = {K = 8, V = 8}, options = {fn = "backward", chunk = 16}>
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  // expected-error @+1 {{expects the new state and 1 outs and 1 sums as results, but got 2 results}}
  func.func @results(%q: tensor<16x8xf32> {delta.arg = "q"}, %c: tensor<8x8xf32> {delta.arg = "c"},
      %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index) -> (tensor<8x8xf32>, tensor<16x8xf32>) {
    return %S, %q : tensor<8x8xf32>, tensor<16x8xf32>
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = checkpoint, name = "c", type = f32, axes = [K, V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [K]>,
    #delta.arg<kind = sum, name = "s", type = f32>],
    dims = {K = 8, V = 8}, options = {fn = "backward", chunk = 16}>
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  // expected-error @+1 {{expects the sum 's' to have rank 0, but got 'tensor<16xf32>'}}
  func.func @rank(%q: tensor<16x8xf32> {delta.arg = "q"}, %c: tensor<8x8xf32> {delta.arg = "c"},
      %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index) -> (tensor<8x8xf32>, tensor<16x8xf32>, tensor<16xf32>) {
    %s = delta.sum %q : tensor<16x8xf32> -> tensor<16xf32>
    return %S, %q, %s : tensor<8x8xf32>, tensor<16x8xf32>, tensor<16xf32>
  }
}

// -----

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = checkpoint, name = "c", type = f32, axes = [K, V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [K]>],
    dims = {K = 8, V = 8}, options = {fn = "backward", chunk = 16, save_every = 2}>
// expected-error @+1 {{expects the program '@segments_states' that computes the states between two checkpoints}}
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  func.func @segments(%q: tensor<16x8xf32> {delta.arg = "q"}, %c: tensor<8x8xf32> {delta.arg = "c"},
      %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index) -> (tensor<8x8xf32>, tensor<16x8xf32>) {
    return %S, %q : tensor<8x8xf32>, tensor<16x8xf32>
  }
}
