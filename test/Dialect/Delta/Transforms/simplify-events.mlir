// RUN: delta-opt %s --split-input-file --delta-simplify-events | FileCheck %s

// A write along b = -beta k merges with the write along k, its scalar moves to
// the coefficient; the read of w .* k before the decay is a read of k after it.

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "w", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "beta", type = f32>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  // CHECK-LABEL: delta.recurrence @tie
  // CHECK: ^bb0(%[[K:.*]]: tensor<?xf64, #delta.dims<K>>, %{{.*}}, %[[W:.*]]: tensor<?xf64, #delta.dims<K>>, %{{.*}}: f64, %[[S:.*]]: tensor<?x?xf64, #delta.dims<K, V>>):
  delta.recurrence @tie {
  ^bb0(%k: !K, %v: !V, %w: !K, %beta: f64, %S: !S):
    %a = arith.mulf %w, %k : !K
    %z = delta.read %S, %a : !S, !K -> !V
    %n = arith.negf %beta : f64
    %nb = delta.broadcast %n : f64 -> !K
    %b = arith.mulf %nb, %k : !K
    // CHECK: %[[S1:.*]] = delta.decay %[[S]], %[[W]]
    // CHECK-NEXT: delta.read %[[S1]], %[[K]]
    // CHECK: %[[S2:.*]] = delta.write %[[S1]], %[[K]]
    // CHECK-NOT: delta.write
    %S1 = delta.decay %S, %w : !S, !K
    %S2 = delta.write %S1, %b, %z : !S, !K, !V
    %S3 = delta.write %S2, %k, %v : !S, !K, !V
    %o = delta.read %S3, %k : !S, !K -> !V
    delta.yield %S3, %o : !S, !V
  }
}

// -----

// Feedback by zero and decay by one vanish.

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "b", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  // CHECK-LABEL: delta.recurrence @zero
  delta.recurrence @zero {
  ^bb0(%k: !K, %v: !V, %b: !K, %S: !S):
    %zero = arith.constant 0.0 : f64
    %one = arith.constant 1.0 : f64
    %zeros = delta.broadcast %zero : f64 -> !K
    %a = arith.mulf %b, %zeros : !K
    // CHECK-NOT: delta.read %{{.*}}, %{{.*}}
    // CHECK-NOT: delta.decay
    // CHECK: delta.write
    // CHECK-NOT: delta.write
    %z = delta.read %S, %a : !S, !K -> !V
    %S1 = delta.decay %S, %one : !S, f64
    %S2 = delta.write %S1, %b, %z : !S, !K, !V
    %S3 = delta.write %S2, %k, %v : !S, !K, !V
    // CHECK: delta.read
    %o = delta.read %S3, %k : !S, !K -> !V
    delta.yield %S3, %o : !S, !V
  }
}

// -----

// Two decays with nothing between them are one.

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "w", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "g", type = f32>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  // CHECK-LABEL: delta.recurrence @decays
  delta.recurrence @decays {
  ^bb0(%w: !K, %g: f64, %S: !S):
    // CHECK: %[[W:.*]] = arith.mulf
    // CHECK: delta.decay %{{.*}}, %[[W]]
    // CHECK-NOT: delta.decay
    %S1 = delta.decay %S, %g : !S, f64
    %S2 = delta.decay %S1, %w : !S, !K
    %o = delta.read %S2, %w : !S, !K -> !V
    delta.yield %S2, %o : !S, !V
  }
}
