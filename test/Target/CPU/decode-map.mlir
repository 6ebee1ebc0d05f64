// RUN: delta-opt %s --delta-decode-map=target-cpu=x86-64-v4 --split-input-file --verify-roundtrip | FileCheck %s

// The recurrent form: with AVX-512, 128 columns of f32 are one panel of eight
// vectors, done token by token.

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

// CHECK: options = {compute = "f32", fn = "decode", target = "cpu"}
// CHECK-SAME: delta.stage = "mapped"
module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = bf16, axes = [V]>,
    #delta.arg<kind = in, name = "g", type = f32, axes = [K], range = [-5.0, 0.0]>,
    #delta.arg<kind = in, name = "beta", type = f32>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>], dims = {K = 64, V = 128}>} {
  // One narrow panel is two vectors wide: the finest split of the columns.
  // CHECK-LABEL: func.func @tied
  // CHECK-SAME: memref<?xbf16>
  // CHECK-SAME: delta.panels = 4 : i64, delta.workspace = {{[0-9]+}} : i64
  delta.recurrence @tied {
  ^bb0(%q: !K, %k: !K, %v: !V, %g: !K, %beta: f64, %S: !S):
    // Items, and in them groups of four panels.
    // CHECK: scf.for
    // CHECK: scf.for
    // Whole vectors of the token go to the workspace: exp(g), exp(g) .* k, ...
    // CHECK: math.exp {{.*}} : vector<16xf32>
    // CHECK: vector.store {{.*}} : memref<128xf32>, vector<16xf32>
    // and k . q is summed.
    // CHECK: vector.reduction <add>
    // One token from initial to final state: a pass that only reads, two reads
    // of eight vectors each,
    // CHECK: scf.if
    // CHECK: %{{.*}}:16 = scf.for %{{.*}} iter_args
    // CHECK-COUNT-8: vector.load {{.*}} : memref<?xf32>, vector<16xf32>
    // or a copy of the initial state to the workspace on the way.
    // CHECK: %{{.*}}:16 = scf.for %{{.*}} iter_args
    // CHECK: vector.store {{.*}} : memref<8192xf32>, vector<16xf32>
    // The tokens: 16 sums and the scalars are carried, v is widened.
    // CHECK: scf.for %{{.*}} iter_args
    // CHECK: arith.extf {{.*}} : vector<16xbf16> to vector<16xf32>
    // CHECK: vector.load {{.*}} : memref<8192xf32>, vector<16xf32>
    // CHECK: arith.mulf
    // CHECK: math.fma
    // CHECK: vector.store
    // CHECK: math.fma
    // A large final state goes past the caches.
    // CHECK: vector.store {{.*}} {alignment = 64 : i64, nontemporal = true} : memref<?xf32>, vector<16xf32>
    %w = math.exp %g : !K
    %S1 = delta.decay %S, %w : !S, !K
    %z = delta.read %S1, %k : !S, !K -> !V
    %e = arith.subf %v, %z : !V
    %b = delta.broadcast %beta : f64 -> !V
    %c = arith.mulf %b, %e : !V
    %S2 = delta.write %S1, %k, %c : !S, !K, !V
    %o = delta.read %S2, %q : !S, !K -> !V
    delta.yield %S2, %o : !S, !V
  }
}

// -----

// Gates are spelt out without overflow, since delta's operations end here; what
// is the same for all tokens of a head is evaluated before them.

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f64, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f64, axes = [V]>,
    #delta.arg<kind = param, name = "a", type = f64>,
    #delta.arg<kind = state, name = "S", type = f64, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f64, axes = [V]>], dims = {K = 4, V = 5}>} {
  // CHECK-LABEL: func.func @gates
  delta.recurrence @gates {
  ^bb0(%k: !K, %v: !V, %a: f64, %S: !S):
    // CHECK: math.exp {{.*}} : f64
    // CHECK: math.log1p {{.*}} : f64
    // CHECK: vector<5xf64>
    // CHECK: math.absf {{.*}} : vector<5xf64>
    // CHECK-NOT: delta.
    %s = delta.softplus %a : f64
    %sv = delta.broadcast %s : f64 -> !V
    %m = arith.mulf %sv, %v : !V
    %g = delta.sigmoid %m : !V
    %S1 = delta.write %S, %k, %g : !S, !K, !V
    delta.yield %S1, %g : !S, !V
  }
}
