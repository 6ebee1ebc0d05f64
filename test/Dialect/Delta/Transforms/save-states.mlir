// RUN: delta-opt %s --delta-save-states=every=2 | FileCheck %s
// RUN: not delta-opt %s --delta-save-states=every=0 2>&1 | FileCheck %s --check-prefix=ZERO
// RUN: not delta-opt %s --delta-save-states --delta-save-states 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: not delta-opt %s --delta-save-states --delta-differentiate 2>&1 | FileCheck %s --check-prefix=SAVING

// The program stays what it is: its state argument is what is saved.

// CHECK: #delta.arg<kind = in, name = "x", type = f32, axes = [V]>, #delta.arg<kind = checkpoint, name = "checkpoints", type = f32, axes = [K, V]>, #delta.arg<kind = state
// CHECK-SAME: save_every = 2
// CHECK: func.func @saved(%{{.*}}: tensor<16x8xf32> {delta.arg = "x"}, %{{.*}}: tensor<8x8xf32> {delta.arg = "S"}, %{{.*}}: index)
// ZERO: error: expects states to be saved every 1 chunks or more, but got 0
// TWICE: error: saves its states already
// SAVING: error: expects a forward program that does not save its states
module attributes {delta.stage = "chunk", delta.signature = #delta.signature<args = [
  #delta.arg<kind = in, name = "x", type = f32, axes = [V]>,
  #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
  #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
  dims = {K = 8 : i64, V = 8 : i64}, options = {fn = "forward"}>} {
  func.func @saved(%x: tensor<16x8xf32> {delta.arg = "x"}, %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index) -> (tensor<8x8xf32>, tensor<16x8xf32>) {
    return %S, %x : tensor<8x8xf32>, tensor<16x8xf32>
  }
}
