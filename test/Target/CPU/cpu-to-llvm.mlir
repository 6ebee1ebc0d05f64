// RUN: delta-opt %s --delta-cpu-to-llvm=target-cpu=x86-64-v3 | FileCheck %s
// RUN: %expect-exit 1 delta-opt %s --delta-cpu-to-llvm=target-cpu=pentium99 2>&1 | FileCheck %s --check-prefix=CPU

// CPU: error: unknown CPU 'pentium99' for {{.*}}; expected "native" or a name that 'llc -mcpu=help' lists

// A kernel that scales its state: init or zero in, final out. The scale is
// exp(gain), the out the last token's v.

#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = param, name = "p", type = f32>,
    #delta.arg<kind = attr, name = "gain", type = f32>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 2, V = 16}, options = {fn = "forward", target = "cpu", compute = "f32"}>

// CHECK: module attributes {{.*}}delta.stage = "llvm"
module attributes {delta.stage = "mapped", delta.signature = #sig} {
  // CHECK-LABEL: llvm.func internal @scaled
  // CHECK-NOT: math.exp
  // CHECK: llvm.intr.fma
  // CHECK: llvm.return
  func.func @scaled(%v: memref<?xf32>, %p: memref<?xf32>, %init: memref<?xf32>,
      %o: memref<?xf32>, %final: memref<?xf32>, %gain: f64, %B: index, %T: index,
      %H: index, %has_init: i1, %has_final: i1, %arena: memref<?xi8>,
      %begin: index, %end: index, %vblocks: index)
      attributes {delta.workspace = 128 : i64, delta.panels = 1 : i64} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c2 = arith.constant 2 : index
    %c16 = arith.constant 16 : index
    %c32 = arith.constant 32 : index
    %zero = arith.constant dense<0.0> : vector<16xf32>
    %g = arith.truncf %gain : f64 to f32
    %gv = vector.broadcast %g : f32 to vector<16xf32>
    %scale = math.exp %gv : vector<16xf32>
    scf.for %item = %begin to %end step %c1 {
      %base = arith.muli %item, %c32 : index
      scf.for %k = %c0 to %c2 step %c1 {
        %row = arith.muli %k, %c16 : index
        %at = arith.addi %base, %row : index
        %s = scf.if %has_init -> vector<16xf32> {
          %0 = vector.load %init[%at] : memref<?xf32>, vector<16xf32>
          scf.yield %0 : vector<16xf32>
        } else {
          scf.yield %zero : vector<16xf32>
        }
        %s1 = arith.mulf %s, %scale : vector<16xf32>
        scf.if %has_final {
          vector.store %s1, %final[%at] : memref<?xf32>, vector<16xf32>
        }
      }
      %b = arith.divui %item, %H : index
      %h = arith.remui %item, %H : index
      scf.for %t = %c0 to %T step %c1 {
        %0 = arith.muli %b, %T : index
        %1 = arith.addi %0, %t : index
        %2 = arith.muli %1, %H : index
        %3 = arith.addi %2, %h : index
        %4 = arith.muli %3, %c16 : index
        %5 = vector.load %v[%4] : memref<?xf32>, vector<16xf32>
        vector.store %5, %o[%4] : memref<?xf32>, vector<16xf32>
      }
    }
    return
  }
  // CHECK-LABEL: llvm.func @delta_scaled_range(
  // CHECK: llvm.x86.sse.stmxcsr
  // CHECK: llvm.x86.sse.ldmxcsr
  // CHECK: llvm.call @scaled(
  // CHECK: llvm.x86.sse.ldmxcsr
  // CHECK-LABEL: llvm.func @delta_scaled(
  // CHECK: llvm.call @delta_scaled_range(
  // CHECK-LABEL: llvm.func @delta_scaled_workspace_bytes() -> i64
  // CHECK: llvm.mlir.constant(128 : i64)
  // CHECK-LABEL: llvm.func @delta_scaled_panels() -> i64
  // CHECK: llvm.mlir.constant(1 : i64)
}
