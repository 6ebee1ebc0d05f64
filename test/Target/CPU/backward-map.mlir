// RUN: delta-opt %s --delta-differentiate --delta-cpu-map="vector-bits=512 fma=on" | FileCheck %s
// RUN: delta-opt %s --delta-differentiate --delta-cpu-map --delta-cpu-to-llvm | FileCheck %s --check-prefix=ENTRY
// RUN: delta-opt %s --delta-save-states --delta-cpu-map="vector-bits=512 fma=on" | FileCheck %s --check-prefix=SAVE
// RUN: not delta-opt %s --delta-differentiate --delta-cpu-map=panel=16 2>&1 | FileCheck %s --check-prefix=PANEL
// RUN: delta-opt %s --delta-differentiate=save-every=4 | FileCheck %s --check-prefix=PROGRAMS
// RUN: delta-opt %s --delta-differentiate=save-every=4 --delta-cpu-map="vector-bits=512 fma=on" | FileCheck %s --check-prefix=SEGMENTS
// RUN: delta-opt %s --delta-differentiate=save-every=4 --delta-cpu-map --delta-cpu-to-llvm -o /dev/null

// A decaying state without feedback, 32 x 32, and its gradients. The backward
// kernel walks the chunks from the last to the first; all columns of the state
// are one panel, since gradients sum over them.

module attributes {delta.stage = "chunk", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "g", type = f32, axes = [K], range = [-inf, 0.0]>,
    #delta.arg<kind = param, name = "u", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 32, V = 32}, options = {fn = "forward", target = "cpu", compute = "f32", chunk = 16}>} {
  func.func @decaying(
      %q: tensor<16x32xf32> {delta.arg = "q"}, %k: tensor<16x32xf32> {delta.arg = "k"},
      %v: tensor<16x32xf32> {delta.arg = "v"}, %g: tensor<16x32xf32> {delta.arg = "g"},
      %u: tensor<32xf32> {delta.arg = "u"}, %S: tensor<32x32xf32> {delta.arg = "S"},
      %valid: index) -> (tensor<32x32xf32>, tensor<16x32xf32>) {
    %w0 = math.exp %g : tensor<16x32xf32>
    %w = delta.identity_rows %w0, %valid value 1.0 : tensor<16x32xf32>
    %ub = delta.broadcast %u dim 1 : tensor<32xf32> -> tensor<16x32xf32>
    %qu = arith.mulf %q, %ub : tensor<16x32xf32>
    %qm = delta.identity_rows %qu, %valid value 0.0 : tensor<16x32xf32>
    %km = delta.identity_rows %k, %valid value 0.0 : tensor<16x32xf32>
    %vm = delta.identity_rows %v, %valid value 0.0 : tensor<16x32xf32>
    %a = delta.decay_gram rows(%qm) [after] cols(%km) [after] decay(%w)
        masks ["diagonal"] leaf 16 scheme exact : tensor<16x32xf32> -> tensor<16x16xf32>
    %pi = delta.prefix_product %w : tensor<16x32xf32>
    %sx = delta.prefix_product exclusive reverse %w : tensor<16x32xf32>
    %qt = arith.mulf %qm, %pi : tensor<16x32xf32>
    %kh = arith.mulf %km, %sx : tensor<16x32xf32>
    %o0 = delta.matmul %qt, %S : tensor<16x32xf32>, tensor<32x32xf32> -> tensor<16x32xf32>
    %o = delta.matmul %a, %vm acc(%o0 : tensor<16x32xf32>) triangular : tensor<16x16xf32>, tensor<16x32xf32> -> tensor<16x32xf32>
    %gc = delta.total_product %w : tensor<16x32xf32> -> tensor<32xf32>
    %gb = delta.broadcast %gc dim 0 : tensor<32xf32> -> tensor<32x32xf32>
    %kept = arith.mulf %gb, %S : tensor<32x32xf32>
    %next = delta.matmul %kh, %vm acc(%kept : tensor<32x32xf32>) transpose_lhs : tensor<16x32xf32>, tensor<16x32xf32> -> tensor<32x32xf32>
    return %next, %o : tensor<32x32xf32>, tensor<16x32xf32>
  }
}

// Arrays: q, k, v, g, u, do, checkpoints, the final state's cotangent; the
// gradients of q, k, v, g, the sum over the tokens for u, the initial state's.
// CHECK-LABEL: func.func @decaying(
// CHECK-SAME: %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %[[STATES:[a-z0-9]+]]: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>,
// CHECK-SAME: %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %[[SUM:[a-z0-9]+]]: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: index, %[[T:[a-z0-9]+]]: index, %{{[a-z0-9]+}}: index, %{{[a-z0-9]+}}: i1, %{{[a-z0-9]+}}: i1, %{{[a-z0-9]+}}: memref<?xi8>, %{{[a-z0-9]+}}: index, %{{[a-z0-9]+}}: index, %{{[a-z0-9]+}}: index)
// CHECK-SAME: delta.panels = 1 : i64
// Large gradients go past the caches: one flag for all of them.
// CHECK: arith.cmpi sge
// CHECK: memref.extract_aligned_pointer_as_index
// CHECK: %[[CHUNKS:.*]] = arith.ceildivsi %[[T]]
// CHECK: scf.for %[[I:.*]] = %{{.*}} to %[[CHUNKS]]
// CHECK: %[[LAST:.*]] = arith.subi %[[CHUNKS]]
// CHECK: %[[CHUNK:.*]] = arith.subi %[[LAST]], %[[I]]
// Products read the checkpoint where it lies.
// CHECK: memref.reinterpret_cast %[[STATES]] to offset: [%{{.*}}], sizes: [32, 32], strides: [32, 1]
// Transposed copies in place of horizontal sums.
// CHECK: vector.shuffle
// The next chunk is the one before.
// CHECK: arith.maxsi
// CHECK: memref.prefetch
// CHECK: scf.if
// CHECK: vector.store %{{.*}} {alignment = 64 : i64, nontemporal = true}
// CHECK: else
// CHECK: vector.store
// Sums go to their array when all chunks are done.
// CHECK: memref.store %{{.*}}, %[[SUM]]

// ENTRY: llvm.func @delta_decaying_backward_range(
// ENTRY: llvm.udiv
// ENTRY: llvm.func @delta_decaying_backward(

// The forward kernel stores the state at the start of each chunk.
// SAVE-LABEL: func.func @decaying(
// SAVE-SAME: %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %[[OUT:[a-z0-9]+]]: memref<?xf32>, %[[STATES:[a-z0-9]+]]: memref<?xf32>, %{{[a-z0-9]+}}: memref<?xf32>, %{{[a-z0-9]+}}: index
// SAVE: vector.store %{{.*}}, %[[STATES]][%{{.*}}] {alignment = 64 : i64, nontemporal = true}
// SAVE: vector.store %{{.*}}, %[[STATES]]

// PANEL: error: the mapping's panel cannot be chosen for a backward kernel, which works on all columns of the state at a time

// Where not every chunk has a checkpoint, a second program computes the states
// behind one: the forward program without outs.
// PROGRAMS: func.func @decaying(
// PROGRAMS: func.func private @decaying_states(%{{.*}}: tensor<32x32xf32> {delta.arg = "S"}, %{{.*}}: index) -> tensor<32x32xf32>
// PROGRAMS-NOT: delta.decay_gram
// PROGRAMS: return

// It runs forwards through a segment of four chunks, then the gradients go
// backwards through it; the states lie in the arena.
// SEGMENTS-NOT: @decaying_states
// SEGMENTS: %[[CHUNKS:.*]] = arith.ceildivsi
// SEGMENTS: %[[COUNT:.*]] = arith.minsi
// SEGMENTS: scf.for %[[I:.*]] = %{{.*}} to %[[COUNT]]
// SEGMENTS: memref.view
// SEGMENTS: scf.if
// SEGMENTS: scf.for %{{.*}} = %{{.*}} to %[[COUNT]]
