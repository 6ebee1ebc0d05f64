// RUN: delta-opt %s --delta-differentiate --split-input-file --verify-diagnostics

// expected-error @below {{expects a module of stage chunk}}
module attributes {delta.stage = "mapped", delta.signature = #delta.signature<args = [
  #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
  #delta.arg<kind = out, name = "o", type = f32, axes = [V]>], options = {fn = "forward"}>} {
}

// -----

// expected-error @below {{expects the program of fn forward, but got that of backward}}
module attributes {delta.stage = "chunk", delta.signature = #delta.signature<args = [
  #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
  #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
  dims = {K = 8 : i64, V = 8 : i64}, options = {fn = "backward"}>} {
  func.func @done(%S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index) -> tensor<8x8xf32> {
    return %S : tensor<8x8xf32>
  }
}

// -----

// expected-error @below {{'do' is needed as the name of a gradient or cotangent; give the argument of that name another one}}
module attributes {delta.stage = "chunk", delta.signature = #delta.signature<args = [
  #delta.arg<kind = attr, name = "do", type = f32>,
  #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
  #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
  dims = {K = 8 : i64, V = 8 : i64}, options = {fn = "forward"}>} {
  func.func @name(%do: f32 {delta.arg = "do"}, %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index) -> (tensor<8x8xf32>, tensor<16x8xf32>) {
    %0 = delta.broadcast %do : f32 -> tensor<16x8xf32>
    return %S, %0 : tensor<8x8xf32>, tensor<16x8xf32>
  }
}

// -----

module attributes {delta.stage = "chunk", delta.signature = #delta.signature<args = [
  #delta.arg<kind = in, name = "x", type = f32, axes = [V]>,
  #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
  #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
  dims = {K = 8 : i64, V = 8 : i64}, options = {fn = "forward"}>} {
  func.func @rule(%x: tensor<16x8xf32> {delta.arg = "x"}, %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index) -> (tensor<8x8xf32>, tensor<16x8xf32>) {
    // expected-error @below {{'math.floor' has no rule for its gradient}}
    %0 = math.floor %x : tensor<16x8xf32>
    return %S, %0 : tensor<8x8xf32>, tensor<16x8xf32>
  }
}

// -----

module attributes {delta.stage = "chunk", delta.signature = #delta.signature<args = [
  #delta.arg<kind = in, name = "x", type = f32, axes = [V]>,
  #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
  #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
  dims = {K = 8 : i64, V = 8 : i64}, options = {fn = "forward"}>} {
  // expected-error @below {{expects the state and the number of tokens as its last arguments}}
  func.func @last(%S: tensor<8x8xf32> {delta.arg = "S"}, %x: tensor<16x8xf32> {delta.arg = "x"}) -> (tensor<8x8xf32>, tensor<16x8xf32>) {
    return %S, %x : tensor<8x8xf32>, tensor<16x8xf32>
  }
}
