// RUN: delta-opt %s --split-input-file --delta-chunk | FileCheck %s
// RUN: delta-opt %s --split-input-file --delta-explain --delta-chunk --delta-explain -o /dev/null 2>&1 | FileCheck %s --check-prefix=WORK
// RUN: delta-opt %s --split-input-file --delta-chunk=chunk=32 --delta-explain -o /dev/null 2>&1 | FileCheck %s --check-prefix=C32

// The counts are those of chunk_math 2.3.

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

// Rank 0, diagonal decay: no solve.
// WORK: chunk C=16 form=none decay=dyadic leaf=16 g=1 s=1 h=2 solve=0 flops_per_token=20480
// C32: chunk C=32 form=none decay=dyadic leaf=16 g=1 s=1 h=2 solve=0 flops_per_token=24576
module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "g", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>], dims = {K = 64 : i64, V = 64 : i64}>} {
  // CHECK-LABEL: func.func @rank0
  // CHECK: delta.identity_rows {{.*}} value 1.0
  // CHECK: delta.decay_gram rows(%{{.*}}) [after] cols(%{{.*}}) [after] decay(%{{.*}}) masks ["diagonal"] leaf 16 scheme exact
  // CHECK-NOT: delta.tri_solve
  // CHECK: delta.matmul %{{.*}}, %{{.*}} acc({{.*}}) triangular
  // CHECK: delta.total_product
  // CHECK: delta.matmul %{{.*}}, %{{.*}} acc({{.*}}) transpose_lhs
  delta.recurrence @rank0 {
  ^bb0(%q: !K, %k: !K, %v: !V, %g: !K, %S: !S):
    %w = math.exp %g : !K
    %S1 = delta.decay %S, %w : !S, !K
    %S2 = delta.write %S1, %k, %v : !S, !K, !V
    %o = delta.read %S2, %q : !S, !K -> !V
    delta.yield %S2, %o : !S, !V
  }
}

// -----

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

// The same with a scalar decay: a mask instead of factors, no exp on C x K.
// WORK: chunk C=16 form=none decay=scalar leaf=16 g=1 s=1 h=2 solve=0 flops_per_token=20480
module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "g", type = f32>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>], dims = {K = 64 : i64, V = 64 : i64}>} {
  // CHECK-LABEL: func.func @scalar
  // CHECK: math.exp %{{.*}} : tensor<16xf32>
  // CHECK-NOT: delta.decay_gram
  // CHECK: delta.decay_mask %{{.*}} row after col after diagonal
  // CHECK: delta.causal_mask %{{.*}} diagonal
  delta.recurrence @scalar {
  ^bb0(%q: !K, %k: !K, %v: !V, %g: f64, %S: !S):
    %w = math.exp %g : f64
    %S1 = delta.decay %S, %w : !S, f64
    %S2 = delta.write %S1, %k, %v : !S, !K, !V
    %o = delta.read %S2, %q : !S, !K -> !V
    delta.yield %S2, %o : !S, !V
  }
}

// -----

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

// A generic rank-one transition.
// WORK: transition: diagonal decay plus rank 1
// WORK: chunk C=16 form=solve decay=dyadic leaf=16 g=4 s=4 h=4 solve=1 flops_per_token=49322
module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "a", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "b", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "w", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>], dims = {K = 64 : i64, V = 64 : i64}>} {
  // CHECK-LABEL: func.func @generic
  // CHECK: delta.decay_gram rows(%{{.*}}, %{{.*}}) [before, after] cols(%{{.*}}, %{{.*}}) [after, after] {{.*}} masks ["strict", "strict", "diagonal", "diagonal"]
  // CHECK: delta.prefix_product exclusive %
  // CHECK: delta.prefix_product %
  // CHECK: delta.tri_solve blocks(%{{.*}}) rhs(%{{.*}}) leaf 16
  delta.recurrence @generic {
  ^bb0(%q: !K, %k: !K, %v: !V, %a: !K, %b: !K, %w: !K, %S: !S):
    %z = delta.read %S, %a : !S, !K -> !V
    %S1 = delta.decay %S, %w : !S, !K
    %S2 = delta.write %S1, %b, %z : !S, !K, !V
    %S3 = delta.write %S2, %k, %v : !S, !K, !V
    %o = delta.read %S3, %q : !S, !K -> !V
    delta.yield %S3, %o : !S, !V
  }
}

// -----

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

// A declared range that covers the chunk: one anchored factor.
// WORK: declared ranges prove |log w| <= 0.6065 a token
// WORK: chunk C=16 form=none decay=anchored leaf=16 g=1 s=1 h=2
// C32: chunk C=32 form=none decay=anchored leaf=32 g=1 s=1 h=2
module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "x", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>], dims = {K = 64 : i64, V = 64 : i64}>} {
  // CHECK-LABEL: func.func @proved
  // CHECK: delta.decay_gram {{.*}} leaf 16 scheme anchored
  delta.recurrence @proved {
  ^bb0(%q: !K, %k: !K, %v: !V, %x: !K, %S: !S):
    %s = delta.sigmoid %x : !K
    %l = arith.constant -0.6065 : f64
    %lb = delta.broadcast %l : f64 -> !K
    %g = arith.mulf %lb, %s : !K
    %w = math.exp %g : !K
    %S1 = delta.decay %S, %w : !S, !K
    %S2 = delta.write %S1, %k, %v : !S, !K, !V
    %o = delta.read %S2, %q : !S, !K -> !V
    delta.yield %S2, %o : !S, !V
  }
}

// -----

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

// A read between two decays: its row is premultiplied by the first, and the
// pair with its own token's write gets a diagonal of its own.
// WORK: chunk C=16 form=none decay=dyadic leaf=16 g=1 s=1 h=2
module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "w", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "g", type = f32>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>], dims = {K = 64 : i64, V = 64 : i64}>} {
  // CHECK-LABEL: func.func @between
  // CHECK: delta.decay_gram rows({{.*}}) [before] cols({{.*}}) [after] {{.*}} masks ["strict"]
  // CHECK: delta.sum
  // CHECK: delta.set_diagonal
  delta.recurrence @between {
  ^bb0(%q: !K, %k: !K, %v: !V, %w: !K, %g: f64, %S: !S):
    %S1 = delta.decay %S, %w : !S, !K
    %S2 = delta.write %S1, %k, %v : !S, !K, !V
    %o = delta.read %S2, %q : !S, !K -> !V
    %S3 = delta.decay %S2, %g : !S, f64
    delta.yield %S3, %o : !S, !V
  }
}
