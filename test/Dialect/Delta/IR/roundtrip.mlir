// RUN: delta-opt %s --split-input-file --verify-roundtrip | FileCheck %s

// The step as written: a generic rank-one transition, and micro-steps.

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>
!KK = tensor<?x?xf64, #delta.dims<K, K>>
!nK = tensor<?x?xf64, #delta.dims<n, K>>

// CHECK: delta.stage = "step"
module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K], family = n>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "g", type = f32, axes = [K], range = [-inf, 0.0]>,
    #delta.arg<kind = attr, name = "scale", type = f32, default = "K ^ -0.5">,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  // CHECK: delta.recurrence @micro
  delta.recurrence @micro {
  ^bb0(%q: !K, %k: !nK, %v: !V, %g: !K, %scale: f64, %S: !S):
    %w = math.exp %g : !K
    %D = delta.diag %w : !K -> !KK
    // CHECK: delta.matmul {{%.*}}, {{%.*}} : tensor<?x?xf64, #delta.dims<K, K>>, tensor<?x?xf64, #delta.dims<K, V>>
    %S1 = delta.matmul %D, %S : !KK, !S -> !S
    // CHECK: delta.for "n" init(
    %S2 = delta.for "n" init(%S1) : !S {
    ^bb0(%j: index, %Sj: !S):
      %kj = delta.micro %k[%j] : !nK -> !K
      %z = delta.matvec %Sj, %kj {transpose} : (!S, !K) -> !V
      %c = arith.subf %v, %z : !V
      %kc = delta.outer %kj, %c : (!K, !V) -> !S
      %Sn = arith.addf %Sj, %kc : !S
      delta.yield %Sn : !S
    }
    %r = delta.matvec %S2, %q {transpose} : (!S, !K) -> !V
    %s = delta.broadcast %scale : f64 -> !V
    %o = arith.mulf %s, %r : !V
    delta.yield %S2, %o : !S, !V
  }
}

// -----

// The canonical form: decay, read, write, read.

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

// CHECK: delta.stage = "events"
module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = bf16, axes = [V]>,
    #delta.arg<kind = in, name = "g", type = f32, axes = [K], range = [-5.0, 0.0]>,
    #delta.arg<kind = in, name = "beta", type = f32>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  delta.recurrence @tied {
  ^bb0(%q: !K, %k: !K, %v: !V, %g: !K, %beta: f64, %S: !S):
    %w = math.exp %g : !K
    // CHECK: delta.decay
    %S1 = delta.decay %S, %w : !S, !K
    // CHECK: delta.read
    %z = delta.read %S1, %k : !S, !K -> !V
    %e = arith.subf %v, %z : !V
    %b = delta.broadcast %beta : f64 -> !V
    %c = arith.mulf %b, %e : !V
    // CHECK: delta.write
    %S2 = delta.write %S1, %k, %c : !S, !K, !V
    %o = delta.read %S2, %q : !S, !K -> !V
    delta.yield %S2, %o : !S, !V
  }
}

// -----

// The chunk program of a generic rank-one transition with a diagonal decay.

// CHECK: delta.stage = "chunk"
module attributes {delta.stage = "chunk", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "a", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "b", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "gk", type = f32, axes = [K], range = [-inf, 0.0]>,
    #delta.arg<kind = attr, name = "scale", type = f32, default = "K ^ -0.5">,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 64, V = 32}, options = {fn = "forward", target = "cpu", compute = "f32", chunk = 16}>} {
  // CHECK: func.func @generic
  func.func @generic(
      %q: tensor<16x64xf32> {delta.arg = "q"}, %k: tensor<16x64xf32> {delta.arg = "k"},
      %v: tensor<16x32xf32> {delta.arg = "v"}, %a: tensor<16x64xf32> {delta.arg = "a"},
      %b: tensor<16x64xf32> {delta.arg = "b"}, %gk: tensor<16x64xf32> {delta.arg = "gk"},
      %scale: f32 {delta.arg = "scale"}, %S: tensor<64x32xf32> {delta.arg = "S"},
      %valid: index) -> (tensor<64x32xf32>, tensor<16x32xf32>) {
    %w0 = math.exp %gk : tensor<16x64xf32>
    // CHECK: delta.identity_rows {{%.*}}, {{%.*}} value 1.0
    %w = delta.identity_rows %w0, %valid value 1.0 : tensor<16x64xf32>
    %qm = delta.identity_rows %q, %valid value 0.0 : tensor<16x64xf32>
    %am = delta.identity_rows %a, %valid value 0.0 : tensor<16x64xf32>
    %km = delta.identity_rows %k, %valid value 0.0 : tensor<16x64xf32>
    %bm = delta.identity_rows %b, %valid value 0.0 : tensor<16x64xf32>
    %vm = delta.identity_rows %v, %valid value 0.0 : tensor<16x32xf32>
    // CHECK: delta.decay_gram rows({{.*}}) [before, after] cols({{.*}}) [after, after] decay({{.*}}) masks ["strict", "strict", "diagonal", "diagonal"] leaf 16 scheme exact
    %g:4 = delta.decay_gram rows(%am, %qm) [before, after] cols(%bm, %km) [after, after] decay(%w)
        masks ["strict", "strict", "diagonal", "diagonal"] leaf 16 scheme exact
        : tensor<16x64xf32> -> tensor<16x16xf32>, tensor<16x16xf32>, tensor<16x16xf32>, tensor<16x16xf32>
    // CHECK: delta.prefix_product exclusive
    %pe = delta.prefix_product exclusive %w : tensor<16x64xf32>
    %pi = delta.prefix_product %w : tensor<16x64xf32>
    %sx = delta.prefix_product exclusive reverse %w : tensor<16x64xf32>
    %ft = arith.mulf %am, %pe : tensor<16x64xf32>
    %qt = arith.mulf %qm, %pi : tensor<16x64xf32>
    %bh = arith.mulf %bm, %sx : tensor<16x64xf32>
    %kh = arith.mulf %km, %sx : tensor<16x64xf32>
    %r0 = delta.matmul %ft, %S : tensor<16x64xf32>, tensor<64x32xf32> -> tensor<16x32xf32>
    // CHECK: delta.matmul {{.*}} acc({{.*}} : tensor<16x32xf32>) triangular
    %r1 = delta.matmul %g#1, %vm acc(%r0 : tensor<16x32xf32>) triangular : tensor<16x16xf32>, tensor<16x32xf32> -> tensor<16x32xf32>
    // CHECK: delta.tri_solve blocks
    %u = delta.tri_solve blocks(%g#0) rhs(%r1) leaf 16 : tensor<16x16xf32>, tensor<16x32xf32>
    %o0 = delta.matmul %qt, %S : tensor<16x64xf32>, tensor<64x32xf32> -> tensor<16x32xf32>
    %o1 = delta.matmul %g#2, %u acc(%o0 : tensor<16x32xf32>) triangular : tensor<16x16xf32>, tensor<16x32xf32> -> tensor<16x32xf32>
    %o2 = delta.matmul %g#3, %vm acc(%o1 : tensor<16x32xf32>) triangular : tensor<16x16xf32>, tensor<16x32xf32> -> tensor<16x32xf32>
    %s = delta.broadcast %scale : f32 -> tensor<16x32xf32>
    %o = arith.mulf %s, %o2 : tensor<16x32xf32>
    // CHECK: delta.total_product
    %gc = delta.total_product %w : tensor<16x64xf32> -> tensor<64xf32>
    %gs = delta.broadcast %gc dim 0 : tensor<64xf32> -> tensor<64x32xf32>
    %s0 = arith.mulf %gs, %S : tensor<64x32xf32>
    %s1 = delta.matmul %bh, %u acc(%s0 : tensor<64x32xf32>) transpose_lhs : tensor<16x64xf32>, tensor<16x32xf32> -> tensor<64x32xf32>
    %s2 = delta.matmul %kh, %vm acc(%s1 : tensor<64x32xf32>) transpose_lhs : tensor<16x64xf32>, tensor<16x32xf32> -> tensor<64x32xf32>
    return %s2, %o : tensor<64x32xf32>, tensor<16x32xf32>
  }
}

// -----

// The same with a scalar decay: C x C masks instead of C x K factors.

module attributes {delta.stage = "chunk", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "g", type = f32, range = [-inf, 0.0]>,
    #delta.arg<kind = in, name = "beta", type = f32>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 64, V = 64}, options = {fn = "forward", target = "cpu", compute = "f32", chunk = 16}>} {
  func.func @scalar(
      %q: tensor<16x64xf32> {delta.arg = "q"}, %k: tensor<16x64xf32> {delta.arg = "k"},
      %v: tensor<16x64xf32> {delta.arg = "v"}, %g: tensor<16xf32> {delta.arg = "g"},
      %beta: tensor<16xf32> {delta.arg = "beta"}, %S: tensor<64x64xf32> {delta.arg = "S"},
      %valid: index) -> (tensor<64x64xf32>, tensor<16x64xf32>) {
    %w0 = math.exp %g : tensor<16xf32>
    %w = delta.identity_rows %w0, %valid value 1.0 : tensor<16xf32>
    %km = delta.identity_rows %k, %valid value 0.0 : tensor<16x64xf32>
    %qm = delta.identity_rows %q, %valid value 0.0 : tensor<16x64xf32>
    %vm = delta.identity_rows %v, %valid value 0.0 : tensor<16x64xf32>
    %bm = delta.identity_rows %beta, %valid value 0.0 : tensor<16xf32>
    // CHECK: delta.decay_mask {{%.*}} row after col after diagonal
    %m = delta.decay_mask %w row after col after diagonal : tensor<16xf32> -> tensor<16x16xf32>
    %kk = delta.matmul %km, %km transpose_rhs : tensor<16x64xf32>, tensor<16x64xf32> -> tensor<16x16xf32>
    %qk = delta.matmul %qm, %km transpose_rhs : tensor<16x64xf32>, tensor<16x64xf32> -> tensor<16x16xf32>
    %kkm = arith.mulf %kk, %m : tensor<16x16xf32>
    // CHECK: delta.causal_mask
    %a0 = delta.causal_mask %kkm : tensor<16x16xf32>
    %nb = arith.negf %bm : tensor<16xf32>
    %nbc = delta.broadcast %nb dim 0 : tensor<16xf32> -> tensor<16x16xf32>
    %a = arith.mulf %nbc, %a0 : tensor<16x16xf32>
    %qkm = arith.mulf %qk, %m : tensor<16x16xf32>
    %aq = delta.causal_mask %qkm diagonal : tensor<16x16xf32>
    %p = delta.prefix_product %w : tensor<16xf32>
    %pv = delta.broadcast %p dim 0 : tensor<16xf32> -> tensor<16x64xf32>
    %f0 = delta.matmul %km, %S : tensor<16x64xf32>, tensor<64x64xf32> -> tensor<16x64xf32>
    %f = arith.mulf %pv, %f0 : tensor<16x64xf32>
    %d = arith.subf %vm, %f : tensor<16x64xf32>
    %bv = delta.broadcast %bm dim 0 : tensor<16xf32> -> tensor<16x64xf32>
    %r = arith.mulf %bv, %d : tensor<16x64xf32>
    %e = delta.tri_solve blocks(%a) rhs(%r) leaf 16 : tensor<16x16xf32>, tensor<16x64xf32>
    %o0 = delta.matmul %qm, %S : tensor<16x64xf32>, tensor<64x64xf32> -> tensor<16x64xf32>
    %o1 = arith.mulf %pv, %o0 : tensor<16x64xf32>
    %o = delta.matmul %aq, %e acc(%o1 : tensor<16x64xf32>) triangular : tensor<16x16xf32>, tensor<16x64xf32> -> tensor<16x64xf32>
    %sx = delta.prefix_product exclusive reverse %w : tensor<16xf32>
    %sv = delta.broadcast %sx dim 0 : tensor<16xf32> -> tensor<16x64xf32>
    %eh = arith.mulf %sv, %e : tensor<16x64xf32>
    %gc = delta.total_product %w : tensor<16xf32> -> f32
    %gs = delta.broadcast %gc : f32 -> tensor<64x64xf32>
    %s0 = arith.mulf %gs, %S : tensor<64x64xf32>
    %s1 = delta.matmul %km, %eh acc(%s0 : tensor<64x64xf32>) transpose_lhs : tensor<16x64xf32>, tensor<16x64xf32> -> tensor<64x64xf32>
    return %s1, %o : tensor<64x64xf32>, tensor<16x64xf32>
  }
}

// -----

// What gradients add.
// CHECK-LABEL: func.func @gradients
func.func @gradients(%x: tensor<16x64xf32>, %w: tensor<16x64xf32>, %h: tensor<16x16xf32>, %f: tensor<16xf32>, %r: tensor<16x32xf32>) {
  // CHECK: delta.prefix_sum exclusive reverse %{{.*}} : tensor<16x64xf32>
  %0 = delta.prefix_sum exclusive reverse %x : tensor<16x64xf32>
  // CHECK: delta.linear_scan reverse %{{.*}}, %{{.*}} : tensor<16xf32>
  %1 = delta.linear_scan reverse %f, %f : tensor<16xf32>
  // CHECK: delta.token_sum %{{.*}} : tensor<16x64xf32> -> tensor<64xf32>
  %2 = delta.token_sum %x : tensor<16x64xf32> -> tensor<64xf32>
  // CHECK: delta.diagonal %{{.*}} : tensor<16x16xf32> -> tensor<16xf32>
  %3 = delta.diagonal %h : tensor<16x16xf32> -> tensor<16xf32>
  // CHECK: delta.heaviside %{{.*}} : tensor<16x64xf32>
  %4 = delta.heaviside %x : tensor<16x64xf32>
  // CHECK: delta.decay_gram_adjoint rows(%{{.*}}, %{{.*}}) [before, after] cols(%{{.*}}) [after] decay(%{{.*}}) cotangents(%{{.*}}) masks ["none", "diagonal"] leaf 16 scheme anchored log : tensor<16x64xf32>, tensor<16x16xf32>
  %5:4 = delta.decay_gram_adjoint rows(%x, %x) [before, after] cols(%x) [after] decay(%w) cotangents(%h) masks ["none", "diagonal"] leaf 16 scheme anchored log : tensor<16x64xf32>, tensor<16x16xf32>
  // CHECK: delta.decay_gram_adjoint {{.*}} leaf 16 scheme exact : tensor<16x64xf32>, tensor<16x16xf32>
  %6:3 = delta.decay_gram_adjoint rows(%x) [after] cols(%x) [after] decay(%w) cotangents(%h) masks ["strict"] leaf 16 scheme exact : tensor<16x64xf32>, tensor<16x16xf32>
  // CHECK: delta.tri_solve blocks(%{{.*}}) rhs(%{{.*}}) leaf 16 transpose : tensor<16x16xf32>, tensor<16x32xf32>
  %7 = delta.tri_solve blocks(%h) rhs(%r) leaf 16 transpose : tensor<16x16xf32>, tensor<16x32xf32>
  return
}
