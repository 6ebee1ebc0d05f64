// RUN: delta-opt %s --delta-differentiate --split-input-file | FileCheck %s

// Products, a mask: the state's cotangent, what each operand of a product gets,
// and the chunk's start as another argument.

// CHECK-LABEL: func.func @linear(
// CHECK-SAME: %[[Q:.*]]: tensor<16x8xf32> {delta.arg = "q"}, %[[K:.*]]: tensor<16x8xf32> {delta.arg = "k"}, %[[V:.*]]: tensor<16x8xf32> {delta.arg = "v"},
// CHECK-SAME: %[[DO:.*]]: tensor<16x8xf32> {delta.arg = "do"}, %[[S:.*]]: tensor<8x8xf32> {delta.arg = "checkpoints"}, %[[DS:.*]]: tensor<8x8xf32> {delta.arg = "S"}, %[[VALID:.*]]: index)
// CHECK-SAME: -> (tensor<8x8xf32>, tensor<16x8xf32> {delta.arg = "d_q"}, tensor<16x8xf32> {delta.arg = "d_k"}, tensor<16x8xf32> {delta.arg = "d_v"})
// The recomputed part: no more of it than the gradients need.
// CHECK-DAG: %[[QM:.*]] = delta.identity_rows %[[Q]], %[[VALID]] value 0.0
// CHECK-DAG: %[[KM:.*]] = delta.identity_rows %[[K]], %[[VALID]] value 0.0
// CHECK-DAG: %[[VM:.*]] = delta.identity_rows %[[V]], %[[VALID]] value 0.0
// CHECK: %[[QK:.*]] = delta.matmul %[[QM]], %[[KM]] transpose_rhs
// CHECK: %[[A:.*]] = delta.causal_mask %[[QK]] diagonal
// CHECK: %[[DOM:.*]] = delta.identity_rows %[[DO]], %[[VALID]] value 0.0
// CHECK: %[[DK0:.*]] = delta.matmul %[[VM]], %[[DS]] transpose_rhs
// CHECK: %[[DV0:.*]] = delta.matmul %[[KM]], %[[DS]] :
// CHECK: %[[DOV:.*]] = delta.matmul %[[DOM]], %[[VM]] transpose_rhs
// CHECK: %[[DV:.*]] = delta.matmul %[[A]], %[[DOM]] acc(%[[DV0]] : {{.*}}) transpose_lhs triangular
// CHECK: %[[DQ0:.*]] = delta.matmul %[[DOM]], %[[S]] transpose_rhs
// CHECK: %[[DS0:.*]] = delta.matmul %[[QM]], %[[DOM]] acc(%[[DS]] : {{.*}}) transpose_lhs
// CHECK: %[[DA:.*]] = delta.causal_mask %[[DOV]] diagonal
// CHECK: %[[DQ:.*]] = delta.matmul %[[DA]], %[[KM]] acc(%[[DQ0]] : {{.*}}) triangular
// CHECK: %[[DK:.*]] = delta.matmul %[[DA]], %[[QM]] acc(%[[DK0]] : {{.*}}) transpose_lhs triangular
// CHECK: return %[[DS0]], %[[DQ]], %[[DK]], %[[DV]]
#sig = #delta.signature<args = [
  #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
  #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
  #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
  #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
  #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
  dims = {K = 8 : i64, V = 8 : i64}, options = {chunk = 16 : i64, compute = "f32", fn = "forward"}>
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  func.func @linear(%q: tensor<16x8xf32> {delta.arg = "q"}, %k: tensor<16x8xf32> {delta.arg = "k"}, %v: tensor<16x8xf32> {delta.arg = "v"},
                    %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index) -> (tensor<8x8xf32>, tensor<16x8xf32>) {
    %0 = delta.identity_rows %q, %valid value 0.0 : tensor<16x8xf32>
    %1 = delta.identity_rows %k, %valid value 0.0 : tensor<16x8xf32>
    %2 = delta.identity_rows %v, %valid value 0.0 : tensor<16x8xf32>
    %3 = delta.matmul %0, %1 transpose_rhs : tensor<16x8xf32>, tensor<16x8xf32> -> tensor<16x16xf32>
    %4 = delta.causal_mask %3 diagonal : tensor<16x16xf32>
    %5 = delta.matmul %0, %S : tensor<16x8xf32>, tensor<8x8xf32> -> tensor<16x8xf32>
    %6 = delta.matmul %4, %2 acc(%5 : tensor<16x8xf32>) triangular : tensor<16x16xf32>, tensor<16x8xf32> -> tensor<16x8xf32>
    %7 = delta.matmul %1, %2 acc(%S : tensor<8x8xf32>) transpose_lhs : tensor<16x8xf32>, tensor<16x8xf32> -> tensor<8x8xf32>
    return %7, %6 : tensor<8x8xf32>, tensor<16x8xf32>
  }
}

// -----

// Decays that are exponentials are differentiated in logarithms: the cotangent
// of log w is g's. Decay-Grams and solves stay whole.

// CHECK-LABEL: func.func @log(
// CHECK: %[[W:.*]] = delta.identity_rows %{{.*}} value 1.0
// CHECK: %[[A:.*]] = delta.decay_gram
// CHECK: %[[E:.*]] = delta.tri_solve blocks(%[[A]]) rhs(%{{.*}}) leaf 16 :
// CHECK: %[[P:.*]] = delta.prefix_product %[[W]]
// CHECK: %[[DXP:.*]] = delta.matmul %{{.*}} transpose_rhs
// The cotangent of x, times x, is that of the products' logarithms.
// CHECK: %[[DX:.*]] = arith.mulf %[[DXP]], %[[P]]
// CHECK: %[[DPP:.*]] = arith.mulf %[[DX]], %[[X:.*]] :
// CHECK: %[[DG:.*]] = delta.prefix_sum reverse %[[DPP]]
// CHECK: %[[DR:.*]] = delta.tri_solve blocks(%[[A]]) rhs(%{{.*}}) leaf 16 transpose
// CHECK: %[[DA:.*]] = delta.matmul %[[DR]], %[[E]] transpose_rhs
// CHECK: %[[GRAM:.*]]:3 = delta.decay_gram_adjoint rows(%[[X]]) [after] cols(%[[X]]) [after] decay(%[[W]]) cotangents(%[[DA]]) masks ["strict"] leaf 16 scheme exact log
// CHECK: %[[SUM:.*]] = arith.addf %[[DG]], %[[GRAM]]#2
// CHECK: return %{{.*}}, %{{.*}}, %[[SUM]], %[[DR]]
#sig = #delta.signature<args = [
  #delta.arg<kind = in, name = "x", type = f32, axes = [K]>,
  #delta.arg<kind = in, name = "g", type = f32, axes = [K]>,
  #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
  #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
  #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
  dims = {K = 8 : i64, V = 8 : i64}, options = {chunk = 16 : i64, compute = "f32", fn = "forward"}>
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  func.func @log(%x: tensor<16x8xf32> {delta.arg = "x"}, %g: tensor<16x8xf32> {delta.arg = "g"}, %v: tensor<16x8xf32> {delta.arg = "v"},
                 %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index) -> (tensor<8x8xf32>, tensor<16x8xf32>) {
    %0 = delta.identity_rows %x, %valid value 0.0 : tensor<16x8xf32>
    %1 = delta.identity_rows %v, %valid value 0.0 : tensor<16x8xf32>
    %e = math.exp %g : tensor<16x8xf32>
    %w = delta.identity_rows %e, %valid value 1.0 : tensor<16x8xf32>
    %a = delta.decay_gram rows(%0) [after] cols(%0) [after] decay(%w) masks ["strict"] leaf 16 scheme exact : tensor<16x8xf32> -> tensor<16x16xf32>
    %u = delta.tri_solve blocks(%a) rhs(%1) leaf 16 : tensor<16x16xf32>, tensor<16x8xf32>
    %p = delta.prefix_product %w : tensor<16x8xf32>
    %xp = arith.mulf %0, %p : tensor<16x8xf32>
    %o = delta.matmul %xp, %S acc(%u : tensor<16x8xf32>) : tensor<16x8xf32>, tensor<8x8xf32> -> tensor<16x8xf32>
    return %S, %o : tensor<8x8xf32>, tensor<16x8xf32>
  }
}

// -----

// Other decays may be zero without being exponentials: products without the
// token, never a division.

// CHECK-LABEL: func.func @plain(
// CHECK-NOT: divf
// CHECK: %[[BEFORE:.*]] = delta.prefix_product exclusive %[[W:.*]] :
// CHECK: %[[BEHIND:.*]] = delta.prefix_product exclusive reverse %[[W]]
// CHECK: arith.mulf %[[BEFORE]], %[[BEHIND]]
// CHECK: %[[SCAN:.*]] = delta.linear_scan exclusive reverse %{{.*}}, %[[W]]
// CHECK: arith.mulf %[[BEFORE]], %[[SCAN]]
// CHECK: %[[MASKED:.*]] = delta.causal_mask %{{.*}} diagonal
// CHECK: %[[ROWS:.*]] = delta.linear_scan reverse %[[MASKED]]
// CHECK: %[[COLS:.*]] = delta.decay_mask %{{.*}} row before col before diagonal
// CHECK: %[[PART:.*]] = delta.causal_mask %[[ROWS]] diagonal
// CHECK: arith.mulf %[[COLS]], %[[PART]]
// CHECK: delta.decay_gram_adjoint {{.*}} scheme exact :
#sig = #delta.signature<args = [
  #delta.arg<kind = in, name = "x", type = f32, axes = [K]>,
  #delta.arg<kind = in, name = "w", type = f32, axes = [K]>,
  #delta.arg<kind = in, name = "f", type = f32>,
  #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
  #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
  dims = {K = 8 : i64, V = 8 : i64}, options = {chunk = 16 : i64, compute = "f32", fn = "forward"}>
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  func.func @plain(%x: tensor<16x8xf32> {delta.arg = "x"}, %w: tensor<16x8xf32> {delta.arg = "w"}, %f: tensor<16xf32> {delta.arg = "f"},
                   %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index) -> (tensor<8x8xf32>, tensor<16x8xf32>) {
    %0 = delta.identity_rows %x, %valid value 0.0 : tensor<16x8xf32>
    %1 = delta.identity_rows %w, %valid value 1.0 : tensor<16x8xf32>
    %2 = delta.identity_rows %f, %valid value 1.0 : tensor<16xf32>
    %a = delta.decay_gram rows(%0) [after] cols(%0) [after] decay(%1) masks ["strict"] leaf 16 scheme exact : tensor<16x8xf32> -> tensor<16x16xf32>
    %m = delta.decay_mask %2 row after col before diagonal : tensor<16xf32> -> tensor<16x16xf32>
    %am = arith.mulf %a, %m : tensor<16x16xf32>
    %u = delta.matmul %am, %0 triangular : tensor<16x16xf32>, tensor<16x8xf32> -> tensor<16x8xf32>
    %p = delta.prefix_product exclusive %1 : tensor<16x8xf32>
    %t = delta.total_product %1 : tensor<16x8xf32> -> tensor<8xf32>
    %xp = arith.mulf %0, %p : tensor<16x8xf32>
    %o = delta.matmul %xp, %S acc(%u : tensor<16x8xf32>) : tensor<16x8xf32>, tensor<8x8xf32> -> tensor<16x8xf32>
    %tb = delta.broadcast %t dim 0 : tensor<8xf32> -> tensor<8x8xf32>
    %n = arith.mulf %tb, %S : tensor<8x8xf32>
    return %n, %o : tensor<8x8xf32>, tensor<16x8xf32>
  }
}

// -----

// What all tokens share gets a sum over them. Zero times what lies behind the
// last token may be NaN, so it is selected before the sum.

// CHECK-LABEL: func.func @sums(
// CHECK-SAME: {delta.arg = "d_p"}, f32 {delta.arg = "d_scale"})
// CHECK: %[[DO:.*]] = delta.identity_rows %{{.*}} value 0.0
// CHECK: %[[SCALE:.*]] = delta.identity_rows %{{.*}} value 0.0
// CHECK: %[[ROWS:.*]] = delta.sum %[[SCALE]] : tensor<16x8xf32> -> tensor<16xf32>
// CHECK: %[[DSCALE:.*]] = delta.sum %[[ROWS]] : tensor<16xf32> -> f32
// CHECK: %[[P:.*]] = delta.identity_rows %{{.*}} value 0.0
// CHECK: %[[DP:.*]] = delta.token_sum %[[P]]
// CHECK: return %{{.*}}, %{{.*}}, %[[DP]], %[[DSCALE]]
#sig = #delta.signature<args = [
  #delta.arg<kind = in, name = "x", type = f32, axes = [V]>,
  #delta.arg<kind = param, name = "p", type = f32, axes = [V]>,
  #delta.arg<kind = attr, name = "scale", type = f32, default = "1">,
  #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
  #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
  dims = {K = 8 : i64, V = 8 : i64}, options = {chunk = 16 : i64, compute = "f32", fn = "forward"}>
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  func.func @sums(%x: tensor<16x8xf32> {delta.arg = "x"}, %p: tensor<8xf32> {delta.arg = "p"}, %scale: f32 {delta.arg = "scale"},
                  %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index) -> (tensor<8x8xf32>, tensor<16x8xf32>) {
    %0 = delta.broadcast %p dim 1 : tensor<8xf32> -> tensor<16x8xf32>
    %1 = arith.mulf %x, %0 : tensor<16x8xf32>
    %2 = delta.broadcast %scale : f32 -> tensor<16x8xf32>
    %3 = arith.mulf %1, %2 : tensor<16x8xf32>
    return %S, %3 : tensor<8x8xf32>, tensor<16x8xf32>
  }
}

// -----

// A number that multiplies a product: its gradient is the inner product of the
// left operand with its cotangent; the product is not computed again.

// CHECK-LABEL: func.func @scaled(
// CHECK-SAME: %[[Q:.*]]: tensor<16x8xf32> {delta.arg = "q"}, %[[SCALE:.*]]: f32 {delta.arg = "scale"},
// CHECK-NOT: delta.matmul %{{.*}} : tensor<16x8xf32>, tensor<8x4xf32> -> tensor<16x4xf32>
// CHECK: %[[DQ:.*]] = delta.matmul %{{.*}} transpose_rhs : tensor<16x4xf32>, tensor<8x4xf32> -> tensor<16x8xf32>
// CHECK: arith.mulf %[[DQ]], %[[Q]]
// CHECK: return
#sig = #delta.signature<args = [
  #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
  #delta.arg<kind = attr, name = "scale", type = f32, default = "1">,
  #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
  #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
  dims = {K = 8 : i64, V = 4 : i64}, options = {chunk = 16 : i64, compute = "f32", fn = "forward"}>
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  func.func @scaled(%q: tensor<16x8xf32> {delta.arg = "q"}, %scale: f32 {delta.arg = "scale"}, %S: tensor<8x4xf32> {delta.arg = "S"},
                    %valid: index) -> (tensor<8x4xf32>, tensor<16x4xf32>) {
    %0 = delta.matmul %q, %S : tensor<16x8xf32>, tensor<8x4xf32> -> tensor<16x4xf32>
    %1 = delta.broadcast %scale : f32 -> tensor<16x4xf32>
    %2 = arith.mulf %0, %1 : tensor<16x4xf32>
    return %S, %2 : tensor<8x4xf32>, tensor<16x4xf32>
  }
}

// -----

// A number that multiplies all that a read's vector gives multiplies the vector:
// its gradient is the vector times its cotangent, and no product is summed up
// for it. Where a path has no such factor it stays.

// CHECK-LABEL: func.func @scaled(
// CHECK: %[[QM:.*]] = delta.identity_rows %{{.*}} value 0.0
// CHECK: %[[ALL:.*]] = delta.broadcast %[[SCALE:.*]] : f32 -> tensor<16x8xf32>
// CHECK: %[[QS:.*]] = arith.mulf %[[QM]], %[[ALL]]
// CHECK: %[[A:.*]] = delta.decay_gram rows(%[[QS]])
// CHECK-NOT: arith.mulf %[[A]]
// CHECK: %[[GRAM:.*]]:3 = delta.decay_gram_adjoint rows(%[[QS]])
// CHECK: %[[DQS:.*]] = arith.addf %{{.*}}, %[[GRAM]]#0
// CHECK: %[[DQ:.*]] = arith.mulf %[[DQS]], %[[ALL]]
// CHECK: %[[PRODUCT:.*]] = arith.mulf %[[DQS]], %[[QM]]
// CHECK: %[[ROWS:.*]] = delta.sum %[[PRODUCT]]
// CHECK: %[[DSCALE:.*]] = delta.sum %[[ROWS]]
// CHECK: return %{{.*}}, %[[DQ]], {{.*}}, %[[DSCALE]]
#sig = #delta.signature<args = [
  #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
  #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
  #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
  #delta.arg<kind = in, name = "g", type = f32, axes = [K]>,
  #delta.arg<kind = attr, name = "scale", type = f32, default = "1">,
  #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
  #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
  dims = {K = 8 : i64, V = 8 : i64}, options = {chunk = 16 : i64, compute = "f32", fn = "forward"}>
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  func.func @scaled(%q: tensor<16x8xf32> {delta.arg = "q"}, %k: tensor<16x8xf32> {delta.arg = "k"}, %v: tensor<16x8xf32> {delta.arg = "v"},
                    %g: tensor<16x8xf32> {delta.arg = "g"}, %scale: f32 {delta.arg = "scale"},
                    %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index) -> (tensor<8x8xf32>, tensor<16x8xf32>) {
    %e = math.exp %g : tensor<16x8xf32>
    %w = delta.identity_rows %e, %valid value 1.0 : tensor<16x8xf32>
    %0 = delta.identity_rows %q, %valid value 0.0 : tensor<16x8xf32>
    %1 = delta.identity_rows %k, %valid value 0.0 : tensor<16x8xf32>
    %2 = delta.identity_rows %v, %valid value 0.0 : tensor<16x8xf32>
    %a = delta.decay_gram rows(%0) [after] cols(%1) [after] decay(%w) masks ["diagonal"] leaf 16 scheme exact : tensor<16x8xf32> -> tensor<16x16xf32>
    %p = delta.prefix_product %w : tensor<16x8xf32>
    %qp = arith.mulf %0, %p : tensor<16x8xf32>
    %z = delta.matmul %qp, %S : tensor<16x8xf32>, tensor<8x8xf32> -> tensor<16x8xf32>
    %u = delta.matmul %a, %2 acc(%z : tensor<16x8xf32>) triangular : tensor<16x16xf32>, tensor<16x8xf32> -> tensor<16x8xf32>
    %all = delta.broadcast %scale : f32 -> tensor<16x8xf32>
    %o = arith.mulf %u, %all : tensor<16x8xf32>
    return %S, %o : tensor<8x8xf32>, tensor<16x8xf32>
  }
}

// -----

// CHECK-LABEL: func.func @also_bare(
// CHECK: %[[QM:.*]] = delta.identity_rows %{{.*}} value 0.0
// CHECK: delta.decay_gram rows(%[[QM]])
#sig = #delta.signature<args = [
  #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
  #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
  #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
  #delta.arg<kind = in, name = "g", type = f32, axes = [K]>,
  #delta.arg<kind = attr, name = "scale", type = f32, default = "1">,
  #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
  #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
  dims = {K = 8 : i64, V = 8 : i64}, options = {chunk = 16 : i64, compute = "f32", fn = "forward"}>
module attributes {delta.stage = "chunk", delta.signature = #sig} {
  func.func @also_bare(%q: tensor<16x8xf32> {delta.arg = "q"}, %k: tensor<16x8xf32> {delta.arg = "k"}, %v: tensor<16x8xf32> {delta.arg = "v"},
                       %g: tensor<16x8xf32> {delta.arg = "g"}, %scale: f32 {delta.arg = "scale"},
                       %S: tensor<8x8xf32> {delta.arg = "S"}, %valid: index) -> (tensor<8x8xf32>, tensor<16x8xf32>) {
    %e = math.exp %g : tensor<16x8xf32>
    %w = delta.identity_rows %e, %valid value 1.0 : tensor<16x8xf32>
    %0 = delta.identity_rows %q, %valid value 0.0 : tensor<16x8xf32>
    %1 = delta.identity_rows %k, %valid value 0.0 : tensor<16x8xf32>
    %2 = delta.identity_rows %v, %valid value 0.0 : tensor<16x8xf32>
    %a = delta.decay_gram rows(%0) [after] cols(%1) [after] decay(%w) masks ["diagonal"] leaf 16 scheme exact : tensor<16x8xf32> -> tensor<16x16xf32>
    %z = delta.matmul %0, %S : tensor<16x8xf32>, tensor<8x8xf32> -> tensor<16x8xf32>
    %all = delta.broadcast %scale : f32 -> tensor<16x8xf32>
    %zs = arith.mulf %z, %all : tensor<16x8xf32>
    %o = delta.matmul %a, %2 acc(%zs : tensor<16x8xf32>) triangular : tensor<16x16xf32>, tensor<16x8xf32> -> tensor<16x8xf32>
    return %S, %o : tensor<8x8xf32>, tensor<16x8xf32>
  }
}
