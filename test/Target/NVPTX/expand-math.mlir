// RUN: delta-opt %s --delta-gpu-expand-math --split-input-file --verify-diagnostics | FileCheck %s

// CHECK-LABEL: func.func @exponentials
// CHECK-SAME: %[[X:.*]]: f32
// CHECK: %[[S:.*]] = arith.mulf %[[X]], %{{.*}} : f32
// CHECK: %[[E:.*]] = llvm.call_intrinsic "llvm.nvvm.ex2.approx.ftz.f32"(%[[S]])
// CHECK: %[[F:.*]] = llvm.call_intrinsic "llvm.nvvm.ex2.approx.ftz.f32"(%[[X]])
// CHECK: return %[[E]], %[[F]]
func.func @exponentials(%x: f32) -> (f32, f32) {
  %e = math.exp %x : f32
  %f = math.exp2 %x : f32
  return %e, %f : f32, f32
}

// CHECK-LABEL: func.func @roots
// CHECK: llvm.call_intrinsic "llvm.nvvm.rsqrt.approx.ftz.f"
// CHECK: llvm.call_intrinsic "llvm.nvvm.sqrt.approx.ftz.f"
func.func @roots(%x: f32) -> (f32, f32) {
  %r = math.rsqrt %x : f32
  %s = math.sqrt %x : f32
  return %r, %s : f32, f32
}

// CHECK-LABEL: func.func @divisions
// CHECK: llvm.call_intrinsic "llvm.nvvm.div.full"(%arg0, %arg1)
// CHECK: llvm.call_intrinsic "llvm.nvvm.rcp.approx.ftz.f"(%arg1)
func.func @divisions(%x: f32, %y: f32) -> (f32, f32) {
  %one = arith.constant 1.0 : f32
  %q = arith.divf %x, %y : f32
  %r = arith.divf %one, %y : f32
  return %q, %r : f32, f32
}

// No overflow on either side: one exponential of -|x|.
// CHECK-LABEL: func.func @sigmoid
// CHECK: llvm.intr.fabs
// CHECK: arith.negf
// CHECK-COUNT-1: ex2.approx
// CHECK: rcp.approx
// CHECK: arith.select
func.func @sigmoid(%x: f32) -> f32 {
  %y = delta.sigmoid %x : f32
  return %y : f32
}

// Near 0 of log1p the hardware's logarithm would not do.
// CHECK-LABEL: func.func @softplus
// CHECK-NOT: lg2
// CHECK: ex2.approx
// CHECK-NOT: lg2
// CHECK: math.fma
// CHECK-NOT: math.log1p
// CHECK: return
func.func @softplus(%x: f32) -> f32 {
  %y = delta.softplus %x : f32
  return %y : f32
}

// CHECK-LABEL: func.func @power
// CHECK: llvm.intr.fabs
// CHECK: ex2.approx
// CHECK-COUNT-2: llvm.intr.floor
// CHECK-NOT: math.powf
// CHECK: return
func.func @power(%x: f32, %p: f32) -> f32 {
  %y = math.powf %x, %p : f32
  return %y : f32
}

// CHECK-LABEL: func.func @taken_apart
// CHECK: vector.extract
// CHECK-COUNT-2: ex2.approx
// CHECK: vector.from_elements
func.func @taken_apart(%x: vector<2xf32>) -> vector<2xf32> {
  %y = math.exp %x : vector<2xf32>
  return %y : vector<2xf32>
}

// CHECK-LABEL: func.func @narrow
// CHECK: arith.extf {{.*}} : bf16 to f32
// CHECK: ex2.approx
// CHECK: arith.truncf {{.*}} : f32 to bf16
func.func @narrow(%x: bf16) -> bf16 {
  %y = math.exp %x : bf16
  return %y : bf16
}

// -----

func.func @unknown(%x: f32) -> f32 {
  // expected-error@+1 {{'math.erf' on 'f32' has no expansion for a GPU}}
  %y = math.erf %x : f32
  return %y : f32
}
