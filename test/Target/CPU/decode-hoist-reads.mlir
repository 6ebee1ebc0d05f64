// RUN: delta-opt %s --delta-decode-hoist-reads --split-input-file --verify-roundtrip | FileCheck %s

// Reads after a decay and a write become reads of the argument: the decay goes
// to their vectors, the write to a product of vectors.

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "w", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  // CHECK-LABEL: delta.recurrence @diagonal
  // CHECK: ^bb0(%[[Q:.*]]: {{.*}}, %[[K:.*]]: {{.*}}, %[[V:.*]]: {{.*}}, %[[W:.*]]: {{.*}}, %[[S:.*]]: tensor<?x?x
  delta.recurrence @diagonal {
  ^bb0(%q: !K, %k: !K, %v: !V, %w: !K, %S: !S):
    // CHECK: %[[WK:.*]] = arith.mulf %[[W]], %[[K]]
    // CHECK: %[[Z:.*]] = delta.read %[[S]], %[[WK]]
    // CHECK: %[[C:.*]] = arith.subf %[[V]], %[[Z]]
    // CHECK: %[[WQ:.*]] = arith.mulf %[[W]], %[[Q]]
    // CHECK: %[[ZQ:.*]] = delta.read %[[S]], %[[WQ]]
    // CHECK: %[[KQ:.*]] = arith.mulf %[[K]], %[[Q]]
    // CHECK: %[[DOT:.*]] = delta.sum %[[KQ]]
    // CHECK: %[[DOTV:.*]] = delta.broadcast %[[DOT]]
    // CHECK: %[[KQC:.*]] = arith.mulf %[[DOTV]], %[[C]]
    // CHECK: %[[O:.*]] = arith.addf %[[ZQ]], %[[KQC]]
    // CHECK: %[[S1:.*]] = delta.decay %[[S]], %[[W]]
    // CHECK: %[[S2:.*]] = delta.write %[[S1]], %[[K]], %[[C]]
    // CHECK: delta.yield %[[S2]], %[[O]]
    %S1 = delta.decay %S, %w : !S, !K
    %z = delta.read %S1, %k : !S, !K -> !V
    %c = arith.subf %v, %z : !V
    %S2 = delta.write %S1, %k, %c : !S, !K, !V
    %o = delta.read %S2, %q : !S, !K -> !V
    delta.yield %S2, %o : !S, !V
  }
}

// -----

// A scalar decay goes to the side of the columns; the write before it does too.

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "w", type = f32>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  // CHECK-LABEL: delta.recurrence @scalar
  // CHECK: ^bb0(%[[Q:.*]]: {{.*}}, %[[V:.*]]: {{.*}}, %[[W:.*]]: f64, %[[S:.*]]: tensor<?x?x
  delta.recurrence @scalar {
  ^bb0(%q: !K, %v: !V, %w: f64, %S: !S):
    // CHECK: %[[WV:.*]] = delta.broadcast %[[W]]
    // CHECK: %[[C:.*]] = arith.mulf %[[WV]], %[[V]]
    // CHECK: %[[Z:.*]] = delta.read %[[S]], %[[Q]]
    // CHECK: arith.mulf %[[WV]], %[[Z]]
    // CHECK: %[[S1:.*]] = delta.decay %[[S]], %[[W]] : {{.*}}, f64
    // CHECK: %[[S2:.*]] = delta.write %[[S1]], %[[Q]], %[[C]]
    // CHECK: delta.yield %[[S2]]
    %S1 = delta.write %S, %q, %v : !S, !K, !V
    %S2 = delta.decay %S1, %w : !S, f64
    %o = delta.read %S2, %q : !S, !K -> !V
    delta.yield %S2, %o : !S, !V
  }
}
