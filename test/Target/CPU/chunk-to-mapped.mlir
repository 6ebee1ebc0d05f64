// RUN: delta-opt %s --delta-cpu-map="vector-bits=512 fma=on" --split-input-file | FileCheck %s
// RUN: delta-opt %s --delta-cpu-map="vector-bits=256 fma=off" --split-input-file | FileCheck %s --check-prefix=AVX2
// RUN: delta-opt %s --delta-cpu-map --delta-cpu-to-llvm --split-input-file -o /dev/null

// A generic rank-one transition with a decay a channel, on a state of 64 x 32:
// one panel of two vectors.

module attributes {delta.stage = "chunk", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "a", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "b", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "gk", type = f32, axes = [K], range = [-inf, 0.0]>,
    #delta.arg<kind = attr, name = "scale", type = f32, default = "K ^ -0.5">,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 64, V = 32}, options = {fn = "forward", target = "cpu", compute = "f32", chunk = 16}>} {
  func.func @generic(
      %q: tensor<16x64xf32> {delta.arg = "q"}, %k: tensor<16x64xf32> {delta.arg = "k"},
      %v: tensor<16x32xf32> {delta.arg = "v"}, %a: tensor<16x64xf32> {delta.arg = "a"},
      %b: tensor<16x64xf32> {delta.arg = "b"}, %gk: tensor<16x64xf32> {delta.arg = "gk"},
      %scale: f32 {delta.arg = "scale"}, %S: tensor<64x32xf32> {delta.arg = "S"},
      %valid: index) -> (tensor<64x32xf32>, tensor<16x32xf32>) {
    %w0 = math.exp %gk : tensor<16x64xf32>
    %w = delta.identity_rows %w0, %valid value 1.0 : tensor<16x64xf32>
    %qm = delta.identity_rows %q, %valid value 0.0 : tensor<16x64xf32>
    %am = delta.identity_rows %a, %valid value 0.0 : tensor<16x64xf32>
    %km = delta.identity_rows %k, %valid value 0.0 : tensor<16x64xf32>
    %bm = delta.identity_rows %b, %valid value 0.0 : tensor<16x64xf32>
    %vm = delta.identity_rows %v, %valid value 0.0 : tensor<16x32xf32>
    %g:4 = delta.decay_gram rows(%am, %qm) [before, after] cols(%bm, %km) [after, after] decay(%w)
        masks ["strict", "strict", "diagonal", "diagonal"] leaf 16 scheme exact
        : tensor<16x64xf32> -> tensor<16x16xf32>, tensor<16x16xf32>, tensor<16x16xf32>, tensor<16x16xf32>
    %pe = delta.prefix_product exclusive %w : tensor<16x64xf32>
    %pi = delta.prefix_product %w : tensor<16x64xf32>
    %sx = delta.prefix_product exclusive reverse %w : tensor<16x64xf32>
    %ft = arith.mulf %am, %pe : tensor<16x64xf32>
    %qt = arith.mulf %qm, %pi : tensor<16x64xf32>
    %bh = arith.mulf %bm, %sx : tensor<16x64xf32>
    %kh = arith.mulf %km, %sx : tensor<16x64xf32>
    %r0 = delta.matmul %ft, %S : tensor<16x64xf32>, tensor<64x32xf32> -> tensor<16x32xf32>
    %r1 = delta.matmul %g#1, %vm acc(%r0 : tensor<16x32xf32>) triangular : tensor<16x16xf32>, tensor<16x32xf32> -> tensor<16x32xf32>
    %u = delta.tri_solve blocks(%g#0) rhs(%r1) leaf 16 : tensor<16x16xf32>, tensor<16x32xf32>
    %o0 = delta.matmul %qt, %S : tensor<16x64xf32>, tensor<64x32xf32> -> tensor<16x32xf32>
    %o1 = delta.matmul %g#2, %u acc(%o0 : tensor<16x32xf32>) triangular : tensor<16x16xf32>, tensor<16x32xf32> -> tensor<16x32xf32>
    %o2 = delta.matmul %g#3, %vm acc(%o1 : tensor<16x32xf32>) triangular : tensor<16x16xf32>, tensor<16x32xf32> -> tensor<16x32xf32>
    %s = delta.broadcast %scale : f32 -> tensor<16x32xf32>
    %o = arith.mulf %s, %o2 : tensor<16x32xf32>
    %gc = delta.total_product %w : tensor<16x64xf32> -> tensor<64xf32>
    %gs = delta.broadcast %gc dim 0 : tensor<64xf32> -> tensor<64x32xf32>
    %s0 = arith.mulf %gs, %S : tensor<64x32xf32>
    %s1 = delta.matmul %bh, %u acc(%s0 : tensor<64x32xf32>) transpose_lhs : tensor<16x64xf32>, tensor<16x32xf32> -> tensor<64x32xf32>
    %s2 = delta.matmul %kh, %vm acc(%s1 : tensor<64x32xf32>) transpose_lhs : tensor<16x64xf32>, tensor<16x32xf32> -> tensor<64x32xf32>
    return %s2, %o : tensor<64x32xf32>, tensor<16x32xf32>
  }
}

// CHECK: mapping = {dot_cols = 4 : i64, dot_rows = 4 : i64, panel = 32 : i64, panels = 1 : i64, rows = 8 : i64, vector_bits = 512 : i64}
// CHECK: delta.stage = "mapped"
// CHECK-LABEL: func.func @generic
// CHECK-SAME: delta.panels = 1 : i64, delta.workspace = {{[0-9]+}} : i64
// CHECK-NOT: delta.
// CHECK-NOT: memref.alloc
// CHECK-NOT: masked

// Work items, then chunks.
// CHECK: scf.for %{{.*}} = %{{.*}} to %{{.*}} step
// CHECK: scf.if

// The copy-in: inputs are read once, rows behind the last token are clamped,
// and the running product of the decay is carried in registers.
// CHECK: %[[VALID:.*]] = arith.minsi %{{.*}}, %c16 : index
// CHECK: scf.for %[[ROW:.*]] = %c0{{.*}} to %c16{{.*}} iter_args(%{{.*}} = %{{.*}}) -> (vector<16xf32>
// CHECK: %[[LAST:.*]] = arith.subi %[[VALID]], %c1
// CHECK: arith.minsi %[[ROW]], %[[LAST]]
// CHECK: math.exp %{{.*}} : vector<16xf32>
// CHECK: %[[BEHIND:.*]] = arith.subi %[[VALID]], %[[ROW]]
// CHECK: vector.create_mask
// CHECK: arith.mulf

// Decay-Grams: dot tiles of 4 x 4 accumulators.
// CHECK: scf.for {{.*}} iter_args({{(%[^,]* = %[^,]*, ){15}%[^,]* = %[^,]*}}) -> ({{(vector<16xf32>, ){15}vector<16xf32>}}
// CHECK-COUNT-32: math.fma {{.*}} : vector<16xf32>
// CHECK: scf.yield
// CHECK-COUNT-30: vector.shuffle

// The panel loop. Every tile asks for a share of the next chunk's inputs. The
// first product has a tile of 8 rows x 2 vectors, four
// steps of the contraction a round.
// CHECK: memref.view {{.*}} : memref<?xi8> to memref<64x32xf32>
// CHECK: memref.prefetch
// CHECK: scf.for {{.*}} iter_args({{(%[^,]* = %[^,]*, ){15}%[^,]* = %[^,]*}}) -> ({{(vector<16xf32>, ){15}vector<16xf32>}}
// CHECK-COUNT-64: math.fma {{.*}} : vector<16xf32>
// CHECK-NOT: math.fma
// CHECK: scf.yield
// CHECK: return

// AVX2: rows = 6 : i64, vector_bits = 256 : i64
// AVX2-LABEL: func.func @generic
// AVX2-NOT: math.fma
// AVX2: vector<8xf32>

// -----

// The same with a scalar decay: a mask is built row by row, and the products
// above the diagonal are skipped.

module attributes {delta.stage = "chunk", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = in, name = "g", type = f32, range = [-inf, 0.0]>,
    #delta.arg<kind = in, name = "beta", type = f32>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 64, V = 64}, options = {fn = "forward", target = "cpu", compute = "f32", chunk = 16}>} {
  func.func @scalar(
      %q: tensor<16x64xf32> {delta.arg = "q"}, %k: tensor<16x64xf32> {delta.arg = "k"},
      %v: tensor<16x64xf32> {delta.arg = "v"}, %g: tensor<16xf32> {delta.arg = "g"},
      %beta: tensor<16xf32> {delta.arg = "beta"}, %S: tensor<64x64xf32> {delta.arg = "S"},
      %valid: index) -> (tensor<64x64xf32>, tensor<16x64xf32>) {
    %w0 = math.exp %g : tensor<16xf32>
    %w = delta.identity_rows %w0, %valid value 1.0 : tensor<16xf32>
    %km = delta.identity_rows %k, %valid value 0.0 : tensor<16x64xf32>
    %qm = delta.identity_rows %q, %valid value 0.0 : tensor<16x64xf32>
    %vm = delta.identity_rows %v, %valid value 0.0 : tensor<16x64xf32>
    %bm = delta.identity_rows %beta, %valid value 0.0 : tensor<16xf32>
    %m = delta.decay_mask %w row after col after diagonal : tensor<16xf32> -> tensor<16x16xf32>
    %kk = delta.matmul %km, %km transpose_rhs : tensor<16x64xf32>, tensor<16x64xf32> -> tensor<16x16xf32>
    %qk = delta.matmul %qm, %km transpose_rhs : tensor<16x64xf32>, tensor<16x64xf32> -> tensor<16x16xf32>
    %kkm = arith.mulf %kk, %m : tensor<16x16xf32>
    %a0 = delta.causal_mask %kkm : tensor<16x16xf32>
    %nb = arith.negf %bm : tensor<16xf32>
    %nbc = delta.broadcast %nb dim 0 : tensor<16xf32> -> tensor<16x16xf32>
    %a = arith.mulf %nbc, %a0 : tensor<16x16xf32>
    %qkm = arith.mulf %qk, %m : tensor<16x16xf32>
    %aq = delta.causal_mask %qkm diagonal : tensor<16x16xf32>
    %p = delta.prefix_product %w : tensor<16xf32>
    %pv = delta.broadcast %p dim 0 : tensor<16xf32> -> tensor<16x64xf32>
    %f0 = delta.matmul %km, %S : tensor<16x64xf32>, tensor<64x64xf32> -> tensor<16x64xf32>
    %f = arith.mulf %pv, %f0 : tensor<16x64xf32>
    %d = arith.subf %vm, %f : tensor<16x64xf32>
    %bv = delta.broadcast %bm dim 0 : tensor<16xf32> -> tensor<16x64xf32>
    %r = arith.mulf %bv, %d : tensor<16x64xf32>
    %e = delta.tri_solve blocks(%a) rhs(%r) leaf 16 : tensor<16x16xf32>, tensor<16x64xf32>
    %o0 = delta.matmul %qm, %S : tensor<16x64xf32>, tensor<64x64xf32> -> tensor<16x64xf32>
    %o1 = arith.mulf %pv, %o0 : tensor<16x64xf32>
    %o = delta.matmul %aq, %e acc(%o1 : tensor<16x64xf32>) triangular : tensor<16x16xf32>, tensor<16x64xf32> -> tensor<16x64xf32>
    %sx = delta.prefix_product exclusive reverse %w : tensor<16xf32>
    %sv = delta.broadcast %sx dim 0 : tensor<16xf32> -> tensor<16x64xf32>
    %eh = arith.mulf %sv, %e : tensor<16x64xf32>
    %gc = delta.total_product %w : tensor<16xf32> -> f32
    %gs = delta.broadcast %gc : f32 -> tensor<64x64xf32>
    %s0 = arith.mulf %gs, %S : tensor<64x64xf32>
    %s1 = delta.matmul %km, %eh acc(%s0 : tensor<64x64xf32>) transpose_lhs : tensor<16x64xf32>, tensor<16x64xf32> -> tensor<64x64xf32>
    return %s1, %o : tensor<64x64xf32>, tensor<16x64xf32>
  }
}

// CHECK-LABEL: func.func @scalar
// CHECK-SAME: delta.panels = 2 : i64
// CHECK-NOT: memref.alloc
// Rows x of k k^T: columns up to the diagonal.
// CHECK: %[[END:.*]] = arith.addi %{{.*}}, %c4{{(_[0-9]+)?}} : index
// CHECK-NEXT: %[[LAST:.*]] = arith.minsi %{{.*}}, %[[END]] : index
// CHECK: scf.for %{{.*}} = %c0{{.*}} to %[[LAST]]
// CHECK: return

// -----

// Sizes that are no multiple of anything: columns that do not exist are masked
// where arrays and the state's edges are touched, and nowhere else.

module attributes {delta.stage = "chunk", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = bf16, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = bf16, axes = [V]>],
    dims = {K = 12, V = 40}, options = {fn = "forward", target = "cpu", compute = "f32", chunk = 16}>} {
  func.func @odd(
      %q: tensor<16x12xf32> {delta.arg = "q"}, %v: tensor<16x40xf32> {delta.arg = "v"},
      %S: tensor<12x40xf32> {delta.arg = "S"}, %valid: index) -> (tensor<12x40xf32>, tensor<16x40xf32>) {
    %qm = delta.identity_rows %q, %valid value 0.0 : tensor<16x12xf32>
    %vm = delta.identity_rows %v, %valid value 0.0 : tensor<16x40xf32>
    %o = delta.matmul %qm, %S : tensor<16x12xf32>, tensor<12x40xf32> -> tensor<16x40xf32>
    %s = delta.matmul %qm, %vm acc(%S : tensor<12x40xf32>) transpose_lhs : tensor<16x12xf32>, tensor<16x40xf32> -> tensor<12x40xf32>
    return %s, %o : tensor<12x40xf32>, tensor<16x40xf32>
  }
}

// Three vectors in one panel.
// CHECK: panel = 48 : i64, panels = 1 : i64
// CHECK-LABEL: func.func @odd(
// CHECK-SAME: %[[Q:[^:]*]]: memref<?xbf16>, %[[V:[^:]*]]: memref<?xf32>, %[[INIT:[^:]*]]: memref<?xf32>, %[[O:[^:]*]]: memref<?xbf16>, %[[FINAL:[^:]*]]: memref<?xf32>
// CHECK-COUNT-3: vector.maskedload %[[INIT]]
// CHECK: vector.maskedload %[[Q]]{{.*}} : memref<?xbf16>, vector<16xi1>, vector<16xbf16> into vector<16xbf16>
// CHECK-NEXT: arith.extf
// CHECK: vector.store %{{.*}} : memref<16x16xf32>, vector<16xf32>
// 12 = 3 x 4 steps of the contraction; a tile of 8 x 3.
// CHECK: scf.for {{.*}} = %c0{{.*}} to %c12{{.*}} step %c4{{.*}} iter_args
// CHECK-NOT: masked
// CHECK-COUNT-96: math.fma
// CHECK-NOT: masked
// CHECK: scf.yield
// CHECK: arith.truncf %{{.*}} : vector<16xf32> to vector<16xbf16>
// CHECK-NEXT: vector.maskedstore %[[O]]
// CHECK-COUNT-3: vector.maskedload %[[V]]
// The state's 12 rows: a tile of 8, then one of 4.
// CHECK-COUNT-96: math.fma
// CHECK: scf.yield
// CHECK-COUNT-48: math.fma
// CHECK: scf.yield
// CHECK: vector.maskedstore %[[FINAL]]
