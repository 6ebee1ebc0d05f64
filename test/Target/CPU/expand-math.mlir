// RUN: delta-opt %s --delta-expand-math --split-input-file | FileCheck %s

// exp: x = n log 2 + r, a polynomial in r, n added to the exponent's bits; then
// what over- and underflowed is replaced, and NaN kept.

// CHECK-LABEL: func.func @exp
// CHECK-SAME: (%[[X:.*]]: vector<16xf32>)
func.func @exp(%x: vector<16xf32>) -> vector<16xf32> {
  // CHECK-COUNT-8: math.fma
  // CHECK-NOT: math.fma
  // CHECK: arith.shli {{.*}} : vector<16xi32>
  // CHECK: arith.cmpf ogt, %[[X]]
  // CHECK: arith.cmpf olt, %[[X]]
  // CHECK: arith.cmpf uno, %[[X]], %[[X]]
  // CHECK-NOT: math.exp
  %0 = math.exp %x : vector<16xf32>
  return %0 : vector<16xf32>
}

// -----

// A scalar is a lane; f64 has its own polynomial.

// CHECK-LABEL: func.func @scalar
func.func @scalar(%x: f64) -> f64 {
  // CHECK-COUNT-14: math.fma {{.*}} : f64
  // CHECK-NOT: math.fma
  // CHECK: arith.shli {{.*}} : i64
  %0 = math.exp %x : f64
  return %0 : f64
}

// -----

// 16-bit floats are computed in f32.

// CHECK-LABEL: func.func @bf16
func.func @bf16(%x: vector<8xbf16>) -> vector<8xbf16> {
  // CHECK: arith.extf {{.*}} : vector<8xbf16> to vector<8xf32>
  // CHECK: math.fma {{.*}} : vector<8xf32>
  // CHECK: arith.truncf {{.*}} : vector<8xf32> to vector<8xbf16>
  %0 = math.exp2 %x : vector<8xbf16>
  return %0 : vector<8xbf16>
}

// -----

// Gates never see the exponential of a positive number.

// CHECK-LABEL: func.func @sigmoid
func.func @sigmoid(%x: vector<4xf64>) -> vector<4xf64> {
  // CHECK: %[[ABS:.*]] = math.absf
  // CHECK: arith.negf %[[ABS]]
  // CHECK-NOT: delta.sigmoid
  %0 = delta.sigmoid %x : vector<4xf64>
  return %0 : vector<4xf64>
}

// -----

// Half way where neither comparison holds: at 0, and for NaN.
// CHECK-LABEL: func.func @heaviside
func.func @heaviside(%x: vector<4xf32>) -> vector<4xf32> {
  // CHECK-DAG: %[[UP:.*]] = arith.cmpf ogt, %{{.*}}, %{{.*}} : vector<4xf32>
  // CHECK-DAG: %[[DOWN:.*]] = arith.cmpf olt, %{{.*}}, %{{.*}} : vector<4xf32>
  // CHECK:     %[[REST:.*]] = arith.select %[[DOWN]]
  // CHECK:     arith.select %[[UP]], %{{.*}}, %[[REST]]
  // CHECK-NOT: delta.heaviside
  %0 = delta.heaviside %x : vector<4xf32>
  return %0 : vector<4xf32>
}

// CHECK-LABEL: func.func @powers
func.func @powers(%x: vector<4xf32>, %p: f32) -> (vector<4xf32>, vector<4xf32>, vector<4xf32>) {
  %two = arith.constant dense<2.0> : vector<4xf32>
  %half = arith.constant dense<-0.5> : vector<4xf32>
  // CHECK: arith.mulf %arg0, %arg0
  %0 = math.powf %x, %two : vector<4xf32>
  // CHECK: %[[ROOT:.*]] = math.sqrt %arg0
  // CHECK: arith.divf {{.*}}, %[[ROOT]]
  %1 = math.powf %x, %half : vector<4xf32>
  // A power known only at the call is libm's.
  // CHECK: math.powf
  %q = vector.broadcast %p : f32 to vector<4xf32>
  %2 = math.powf %x, %q : vector<4xf32>
  return %0, %1, %2 : vector<4xf32>, vector<4xf32>, vector<4xf32>
}

// -----

// Tensors are left alone: they are vectors by the time it matters.

// CHECK-LABEL: func.func @tensor
func.func @tensor(%x: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK: math.exp
  %0 = math.exp %x : tensor<4xf32>
  return %0 : tensor<4xf32>
}
