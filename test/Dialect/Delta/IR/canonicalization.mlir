// RUN: delta-opt %s --canonicalize | FileCheck %s

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

// CHECK-LABEL: func.func @decay_by_one(
// CHECK-SAME: %[[S:[^:]*]]:
func.func @decay_by_one(%s: !S) -> !S {
  %one = arith.constant 1.0 : f64
  %w = delta.broadcast %one : f64 -> !K
  %0 = delta.decay %s, %w : !S, !K
  // CHECK-NEXT: return %[[S]]
  return %0 : !S
}

// CHECK-LABEL: func.func @write_of_zero(
// CHECK-SAME: %[[S:[^:]*]]:
func.func @write_of_zero(%s: !S, %y: !K) -> !S {
  %zero = arith.constant 0.0 : f64
  %c = delta.broadcast %zero : f64 -> !V
  %0 = delta.write %s, %y, %c : !S, !K, !V
  // CHECK-NEXT: return %[[S]]
  return %0 : !S
}

// CHECK-LABEL: func.func @transpose_twice(
// CHECK-SAME: %[[S:[^:]*]]:
func.func @transpose_twice(%s: !S) -> !S {
  %0 = delta.transpose %s : !S -> tensor<?x?xf64, #delta.dims<V, K>>
  %1 = delta.transpose %0 : tensor<?x?xf64, #delta.dims<V, K>> -> !S
  // CHECK-NEXT: return %[[S]]
  return %1 : !S
}

// CHECK-LABEL: func.func @mask_twice(
func.func @mask_twice(%x: tensor<16x64xf32>, %g: tensor<16x16xf32>, %n: index) -> (tensor<16x64xf32>, tensor<16x16xf32>) {
  // CHECK: %[[X:.*]] = delta.identity_rows
  %0 = delta.identity_rows %x, %n value 0.0 : tensor<16x64xf32>
  // CHECK-NOT: delta.identity_rows
  %1 = delta.identity_rows %0, %n value 0.0 : tensor<16x64xf32>
  // CHECK: %[[G:.*]] = delta.causal_mask %{{.*}} : tensor
  %2 = delta.causal_mask %g : tensor<16x16xf32>
  // CHECK-NOT: delta.causal_mask
  %3 = delta.causal_mask %2 diagonal : tensor<16x16xf32>
  // CHECK: return %[[X]], %[[G]]
  return %1, %3 : tensor<16x64xf32>, tensor<16x16xf32>
}

// A mask with the diagonal inside a strict one still masks, and so do masks of
// other lengths.
// CHECK-LABEL: func.func @mask_more(
func.func @mask_more(%x: tensor<16x64xf32>, %g: tensor<16x16xf32>, %n: index, %m: index) -> (tensor<16x64xf32>, tensor<16x16xf32>) {
  // CHECK-COUNT-2: delta.identity_rows
  %0 = delta.identity_rows %x, %n value 0.0 : tensor<16x64xf32>
  %1 = delta.identity_rows %0, %m value 0.0 : tensor<16x64xf32>
  // CHECK-COUNT-2: delta.causal_mask
  %2 = delta.causal_mask %g diagonal : tensor<16x16xf32>
  %3 = delta.causal_mask %2 : tensor<16x16xf32>
  return %1, %3 : tensor<16x64xf32>, tensor<16x16xf32>
}
