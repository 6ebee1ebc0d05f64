// RUN: delta-opt %s --delta-expand-narrow-floats | FileCheck %s
// RUN: delta-opt %s --delta-expand-narrow-floats="f16=false bf16=false" | FileCheck %s --check-prefix=NATIVE

// Without hardware for it a conversion is integer arithmetic.

// CHECK-LABEL: func.func @extend
// CHECK-NOT: arith.extf
// CHECK: arith.bitcast {{.*}} : vector<8xf16> to vector<8xi16>
// CHECK: arith.bitcast {{.*}} : vector<8xi32> to vector<8xf32>
// NATIVE-LABEL: func.func @extend
// NATIVE: arith.extf {{.*}} : vector<8xf16> to vector<8xf32>
func.func @extend(%x: vector<8xf16>) -> vector<8xf32> {
  %0 = arith.extf %x : vector<8xf16> to vector<8xf32>
  return %0 : vector<8xf32>
}

// CHECK-LABEL: func.func @truncate
// CHECK-NOT: arith.truncf
// CHECK: arith.trunci {{.*}} : i32 to i16
func.func @truncate(%x: f32) -> f16 {
  %0 = arith.truncf %x : f32 to f16
  return %0 : f16
}

// f64 goes through f32, whatever the hardware.

// CHECK-LABEL: func.func @wide
// CHECK-NOT: bf16 to vector<4xf64>
// CHECK: arith.extf {{.*}} : vector<4xf32> to vector<4xf64>
// NATIVE-LABEL: func.func @wide
// NATIVE: arith.extf {{.*}} : vector<4xbf16> to vector<4xf32>
// NATIVE: arith.extf {{.*}} : vector<4xf32> to vector<4xf64>
func.func @wide(%x: vector<4xbf16>) -> vector<4xf64> {
  %0 = arith.extf %x : vector<4xbf16> to vector<4xf64>
  return %0 : vector<4xf64>
}
