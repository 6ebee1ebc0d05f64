// RUN: delta-opt %s --split-input-file --verify-diagnostics

// expected-error @below {{'builtin.module' op expects 'delta.stage' to be "step", "events", "chunk", "mapped" or "llvm", but got "steps"}}
module attributes {delta.stage = "steps"} {}

// -----

// expected-error @below {{'builtin.module' op expects 'delta.signature' beside 'delta.stage'}}
module attributes {delta.stage = "step"} {}

// -----

// expected-error @below {{expects exactly one state, but got 0}}
module attributes {delta.signature = #delta.signature<args = [#delta.arg<kind = in, name = "q", type = f32>]>} {}

// -----

// expected-error @below {{expects distinct names, but got 'q' twice}}
module attributes {delta.signature = #delta.signature<args = [#delta.arg<kind = in, name = "q", type = f32>, #delta.arg<kind = in, name = "q", type = f32>]>} {}

// -----

// expected-error @below {{expects 'q' to have a float type, but got 'i32'}}
module attributes {delta.signature = #delta.signature<args = [#delta.arg<kind = in, name = "q", type = i32>]>} {}

// -----

// expected-error @below {{expects the range of 'g' to be two numbers, low then high}}
module attributes {delta.signature = #delta.signature<args = [#delta.arg<kind = in, name = "g", type = f32, range = [0.0, -1.0]>]>} {}

// -----

// expected-error @below {{expects in, param, attr, state, out, checkpoint or sum, but got 'input'}}
module attributes {delta.signature = #delta.signature<args = [#delta.arg<kind = input, name = "g", type = f32>]>} {}

// -----

// An operation of another stage.

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>
module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  delta.recurrence @mixed {
  ^bb0(%q: !K, %S: !S):
    // expected-error @below {{'delta.read' op is not allowed in a module of stage step}}
    %o = delta.read %S, %q : !S, !K -> !V
    delta.yield %S, %o : !S, !V
  }
}

// -----

// recurrence_c1

!S = tensor<?x?xf64, #delta.dims<K, V>>
module attributes {delta.signature = #delta.signature<args = [
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32>]>} {
  // expected-error @below {{'delta.recurrence' op expects its body to end with 'delta.yield'}}
  delta.recurrence @no_yield {
  ^bb0(%S: !S):
    %c = arith.constant 0.0 : f64
  }
}

// -----

// recurrence_c2

!S = tensor<?x?xf64, #delta.dims<K, V>>
module attributes {delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "g", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32>]>} {
  // expected-error @below {{'delta.recurrence' op expects block argument 'g' to be 'tensor<?xf64, #delta.dims<K>>', but got 'f64'}}
  delta.recurrence @types {
  ^bb0(%g: f64, %S: !S):
    delta.yield %S, %g : !S, f64
  }
}

// -----

// recurrence_c3

!S = tensor<?x?xf64, #delta.dims<K, V>>
module attributes {delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "g", type = f32>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32>]>} {
  delta.recurrence @outs {
  ^bb0(%g: f64, %S: !S):
    // expected-error @below {{'delta.yield' op expects the state and 1 outs as the signature has, but got 1 values}}
    delta.yield %S : !S
  }
}

// -----

// outer_c1
func.func @outer(%x: tensor<?xf64, #delta.dims<K>>, %y: tensor<?xf64, #delta.dims<V>>) {
  // expected-error @below {{'delta.outer' op expects the result's axes ('K', 'V'), but got 'tensor<?x?xf64, #delta.dims<V, K>>'}}
  %0 = delta.outer %x, %y : (tensor<?xf64, #delta.dims<K>>, tensor<?xf64, #delta.dims<V>>) -> tensor<?x?xf64, #delta.dims<V, K>>
  return
}

// -----

// matvec_c1
func.func @matvec(%m: tensor<?x?xf64, #delta.dims<K, V>>, %x: tensor<?xf64, #delta.dims<K>>) {
  // expected-error @below {{'delta.matvec' op expects the vector's axis to be 'V', but got 'K'}}
  %0 = delta.matvec %m, %x : (tensor<?x?xf64, #delta.dims<K, V>>, tensor<?xf64, #delta.dims<K>>) -> tensor<?xf64, #delta.dims<K>>
  return
}

// -----

// micro_c1
func.func @micro(%m: tensor<?x?xf64, #delta.dims<n, K>>, %i: index) {
  // expected-error @below {{'delta.micro' op expects the result's axes ('K'), but got 'f64'}}
  %0 = delta.micro %m[%i] : tensor<?x?xf64, #delta.dims<n, K>> -> f64
  return
}

// -----

// broadcast_c1
func.func @broadcast(%x: tensor<16xf32>) {
  // expected-error @below {{'delta.broadcast' op expects the result's axis 1 to be 16, but got 64}}
  %0 = delta.broadcast %x dim 1 : tensor<16xf32> -> tensor<16x64xf32>
  return
}

// -----

// sum_c1
func.func @sum(%x: tensor<16x64xf32>) {
  // expected-error @below {{'delta.sum' op expects the result's axes (16), but got 'tensor<64xf32>'}}
  %0 = delta.sum %x : tensor<16x64xf32> -> tensor<64xf32>
  return
}

// -----

// decay_c1
func.func @decay(%s: tensor<?x?xf64, #delta.dims<K, V>>, %w: tensor<?xf64, #delta.dims<V>>) {
  // expected-error @below {{'delta.decay' op expects the decay over 'K', but got 'V'}}
  %0 = delta.decay %s, %w : tensor<?x?xf64, #delta.dims<K, V>>, tensor<?xf64, #delta.dims<V>>
  return
}

// -----

// read_c1
func.func @read(%s: tensor<?x?xf64, #delta.dims<K, V>>, %x: tensor<?xf64, #delta.dims<V>>) {
  // expected-error @below {{'delta.read' op expects the read vector over 'K', but got 'V'}}
  %0 = delta.read %s, %x : tensor<?x?xf64, #delta.dims<K, V>>, tensor<?xf64, #delta.dims<V>> -> tensor<?xf64, #delta.dims<V>>
  return
}

// -----

// write_c1
func.func @write(%s: tensor<?x?xf64, #delta.dims<K, V>>, %y: tensor<?xf64, #delta.dims<K>>) {
  // expected-error @below {{'delta.write' op expects the coefficient over 'V', but got 'K'}}
  %0 = delta.write %s, %y, %y : tensor<?x?xf64, #delta.dims<K, V>>, tensor<?xf64, #delta.dims<K>>, tensor<?xf64, #delta.dims<K>>
  return
}

// -----

// total_product_c1
func.func @total(%w: tensor<16x64xf32>) {
  // expected-error @below {{'delta.total_product' op expects the result's axes (64), but got 'tensor<16xf32>'}}
  %0 = delta.total_product %w : tensor<16x64xf32> -> tensor<16xf32>
  return
}

// -----

// decay_mask_c2
func.func @mask(%w: tensor<16xf32>) {
  // expected-error @below {{'delta.decay_mask' op expects no diagonal for a row before and a column after the decay}}
  %0 = delta.decay_mask %w row before col after diagonal : tensor<16xf32> -> tensor<16x16xf32>
  return
}

// -----

// matmul_c1
func.func @matmul(%a: tensor<16x64xf32>, %b: tensor<16x32xf32>) {
  // expected-error @below {{'delta.matmul' op expects the contracted axes to agree, but got 64 and 16}}
  %0 = delta.matmul %a, %b : tensor<16x64xf32>, tensor<16x32xf32> -> tensor<16x32xf32>
  return
}

// -----

// decay_gram_c2
func.func @gram(%x: tensor<16x64xf32>) {
  // expected-error @below {{'delta.decay_gram' op expects no diagonal for a row before and a column after the decay}}
  %0 = delta.decay_gram rows(%x) [before] cols(%x) [after] decay(%x) masks ["diagonal"] leaf 16 scheme exact : tensor<16x64xf32> -> tensor<16x16xf32>
  return
}

// -----

// decay_gram_c3
func.func @gram(%x: tensor<16x64xf32>) {
  // expected-error @below {{'delta.decay_gram' op expects the leaf to be a power of two that divides the chunk of 16 tokens, but got 3}}
  %0 = delta.decay_gram rows(%x) [after] cols(%x) [after] decay(%x) masks ["diagonal"] leaf 3 scheme exact : tensor<16x64xf32> -> tensor<16x16xf32>
  return
}

// -----

// tri_solve_c1
func.func @solve(%a: tensor<16x16xf32>, %r: tensor<16x64xf32>) {
  // expected-error @below {{'delta.tri_solve' op expects m right-hand sides, m*m blocks and m results, but got 2, 1 and 2}}
  %0:2 = delta.tri_solve blocks(%a) rhs(%r, %r) leaf 16 : tensor<16x16xf32>, tensor<16x64xf32>
  return
}

// -----

// token_sum_c1
func.func @sum(%x: tensor<16x64xf32>) {
  // expected-error @below {{'delta.token_sum' op expects the result's axes (64), but got 'tensor<16xf32>'}}
  %0 = delta.token_sum %x : tensor<16x64xf32> -> tensor<16xf32>
  return
}

// -----

// diagonal_c1
func.func @diagonal(%x: tensor<16x64xf32>) {
  // expected-error @below {{'delta.diagonal' op expects a square matrix, but got 'tensor<16x64xf32>'}}
  %0 = delta.diagonal %x : tensor<16x64xf32> -> tensor<16xf32>
  return
}

// -----

func.func @adjoint(%x: tensor<16x64xf32>, %h: tensor<16x16xf32>) {
  // expected-error @below {{'delta.decay_gram_adjoint' op expects 1 cotangents, one for each pair that is not none, but got 2}}
  %0:3 = delta.decay_gram_adjoint rows(%x) [after] cols(%x) [after] decay(%x) cotangents(%h, %h) masks ["strict"] leaf 16 scheme exact : tensor<16x64xf32>, tensor<16x16xf32>
  return
}
