// RUN: delta-opt %s --split-input-file --delta-set-dims=dims=n=2 --delta-step-to-events | FileCheck %s

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>
!KK = tensor<?x?xf64, #delta.dims<K, K>>
!nK = tensor<?x?xf64, #delta.dims<n, K>>

// One statement in the state before it: (D + b a^T) S + k v^T reads before the
// decay.

// CHECK: delta.stage = "events"
module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "m", type = f32, axes = [K], family = n>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "a", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "b", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "g", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  // CHECK-LABEL: delta.recurrence @one_statement
  // CHECK: ^bb0(%[[K:.*]]: tensor<?xf64, #delta.dims<K>>, %{{.*}}: {{.*}}, %[[V:.*]]: tensor<?xf64, #delta.dims<V>>, %[[A:.*]]: {{.*}}, %[[B:.*]]: {{.*}}, %[[G:.*]]: {{.*}}, %[[S:.*]]: tensor<?x?xf64, #delta.dims<K, V>>):
  delta.recurrence @one_statement {
  ^bb0(%k: !K, %m: !nK, %v: !V, %a: !K, %b: !K, %g: !K, %S: !S):
    // CHECK: %[[W:.*]] = math.exp %[[G]]
    %w = math.exp %g : !K
    %D = delta.diag %w : !K -> !KK
    %ba = delta.outer %b, %a : (!K, !K) -> !KK
    %M = arith.addf %D, %ba : !KK
    // CHECK: %[[Z:.*]] = delta.read %[[S]], %[[A]]
    // CHECK: %[[S1:.*]] = delta.decay %[[S]], %[[W]]
    // CHECK: %[[S2:.*]] = delta.write %[[S1]], %[[B]], %[[Z]]
    %S1 = delta.matmul %M, %S : !KK, !S -> !S
    %kv = delta.outer %k, %v : (!K, !V) -> !S
    // CHECK: %[[S3:.*]] = delta.write %[[S2]], %[[K]], %[[V]]
    %S2 = arith.addf %S1, %kv : !S
    // CHECK: %[[O:.*]] = delta.read %[[S3]], %[[K]]
    %o = delta.matvec %S2, %k {transpose} : (!S, !K) -> !V
    // CHECK: delta.yield %[[S3]], %[[O]]
    delta.yield %S2, %o : !S, !V
  }
}

// -----

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>
!nK = tensor<?x?xf64, #delta.dims<n, K>>

// Micro-steps are unrolled; a read of an expression in the state, (0.5 S)^T k,
// becomes a read of the state; the out reads before the update.

module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "m", type = f32, axes = [K], family = n>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  // CHECK-LABEL: delta.recurrence @micro
  delta.recurrence @micro {
  ^bb0(%m: !nK, %v: !V, %S: !S):
    // CHECK: %[[M1:.*]] = delta.micro
    %i = arith.constant 1 : index
    %m1 = delta.micro %m[%i] : !nK -> !K
    // CHECK: %[[HALF:.*]] = arith.constant 5.000000e-01 : f64
    %half = arith.constant 0.5 : f64
    %h = delta.broadcast %half : f64 -> !S
    %T = arith.mulf %h, %S : !S
    // CHECK: %[[X:.*]] = arith.mulf %[[M1]], {{.*}}
    // CHECK: %[[O:.*]] = delta.read %[[S:.*]], %[[X]]
    %o = delta.matvec %T, %m1 {transpose} : (!S, !K) -> !V
    // CHECK: delta.read %[[S]]
    // CHECK: %[[T1:.*]] = delta.write %[[S]]
    // CHECK: delta.read %[[T1]]
    // CHECK: %[[T2:.*]] = delta.write %[[T1]]
    %S2 = delta.for "n" init(%S) : !S {
    ^bb0(%j: index, %Sj: !S):
      %kj = delta.micro %m[%j] : !nK -> !K
      %z = delta.matvec %Sj, %kj {transpose} : (!S, !K) -> !V
      %c = arith.subf %v, %z : !V
      %kc = delta.outer %kj, %c : (!K, !V) -> !S
      %Sn = arith.addf %Sj, %kc : !S
      delta.yield %Sn : !S
    }
    // CHECK: delta.yield %[[T2]], %[[O]]
    delta.yield %S2, %o : !S, !V
  }
}

// -----

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

// A number broadcast to a matrix is a scale where it multiplies, and the dyad
// s 1 1^T where it stands for itself.

module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "s", type = f32>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  // CHECK-LABEL: delta.recurrence @uniform
  // CHECK: ^bb0(%[[K:.*]]: tensor<?xf64, #delta.dims<K>>, %[[S:.*]]: f64, %[[STATE:.*]]: tensor<?x?xf64, #delta.dims<K, V>>):
  delta.recurrence @uniform {
  ^bb0(%k: !K, %s: f64, %S: !S):
    %M = delta.broadcast %s : f64 -> !S
    // CHECK: delta.decay %[[STATE]], %[[S]]
    %S1 = arith.mulf %M, %S : !S
    // CHECK: %[[COLUMN:.*]] = delta.broadcast %[[S]] : f64 -> tensor<?xf64, #delta.dims<K>>
    // CHECK: %[[KS:.*]] = arith.mulf %[[COLUMN]], %[[K]]
    // CHECK: %[[SUM:.*]] = delta.sum %[[KS]]
    // CHECK: delta.broadcast %[[SUM]] : f64 -> tensor<?xf64, #delta.dims<V>>
    %o = delta.matvec %M, %k {transpose} : (!S, !K) -> !V
    delta.yield %S1, %o : !S, !V
  }
}

// -----

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

// Elementwise products of matrices free of the state are dyads again.

module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  // CHECK-LABEL: delta.recurrence @hadamard
  // CHECK: ^bb0(%[[K:.*]]: tensor<?xf64, #delta.dims<K>>, %[[Q:.*]]: tensor<?xf64, #delta.dims<K>>, %[[V:.*]]: tensor<?xf64, #delta.dims<V>>, %[[S:.*]]: tensor<?x?xf64, #delta.dims<K, V>>):
  delta.recurrence @hadamard {
  ^bb0(%k: !K, %q: !K, %v: !V, %S: !S):
    %kv = delta.outer %k, %v : (!K, !V) -> !S
    %qv = delta.outer %q, %v : (!K, !V) -> !S
    // CHECK: %[[KQ:.*]] = arith.mulf %[[K]], %[[Q]]
    // CHECK: %[[VV:.*]] = arith.mulf %[[V]], %[[V]]
    %p = arith.mulf %kv, %qv : !S
    // CHECK: delta.write %[[S]], %[[KQ]], %[[VV]]
    %S2 = arith.addf %S, %p : !S
    delta.yield %S2, %v : !S, !V
  }
}
