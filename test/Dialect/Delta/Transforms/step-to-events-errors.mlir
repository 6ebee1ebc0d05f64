// RUN: delta-opt %s --split-input-file --verify-diagnostics --delta-step-to-events

!V = tensor<?xf64, #delta.dims<V>>
!K = tensor<?xf64, #delta.dims<K>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [K]>]>} {
  delta.recurrence @other_side {
  ^bb0(%v: !V, %S: !S):
    // expected-error @below {{the step leaves the class of recurrences S = D S + x y^T: the state is read from the other side, S x; a read is S^T x with x over the state's rows}}
    %o = delta.matvec %S, %v : (!S, !V) -> !K
    delta.yield %S, %o : !S, !K
  }
}

// -----

!V = tensor<?xf64, #delta.dims<V>>
!K = tensor<?xf64, #delta.dims<K>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  delta.recurrence @square {
  ^bb0(%k: !K, %S: !S):
    // expected-error @below {{the step leaves the class of recurrences S = D S + x y^T: an elementwise product of matrices; only scalars, diag(...) and rank-one terms may multiply the state}}
    %S2 = arith.mulf %S, %S : !S
    %o = delta.matvec %S2, %k {transpose} : (!S, !K) -> !V
    delta.yield %S2, %o : !S, !V
  }
}

// -----

!V = tensor<?xf64, #delta.dims<V>>
!K = tensor<?xf64, #delta.dims<K>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  delta.recurrence @nonlinear {
  ^bb0(%k: !K, %S: !S):
    %z = delta.matvec %S, %k {transpose} : (!S, !K) -> !V
    // expected-error @below {{'math.tanh' is applied to a read of the state, so the step is not affine in it; reads may be added, negated and multiplied or divided by values free of the state}}
    %t = math.tanh %z : !V
    %kt = delta.outer %k, %t : (!K, !V) -> !S
    %S2 = arith.addf %S, %kt : !S
    delta.yield %S2, %z : !S, !V
  }
}

// -----

!V = tensor<?xf64, #delta.dims<V>>
!K = tensor<?xf64, #delta.dims<K>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  delta.recurrence @columns {
  ^bb0(%k: !K, %v: !V, %S: !S):
    %z = delta.matvec %S, %k {transpose} : (!S, !K) -> !V
    %c = arith.mulf %v, %z : !V
    %kc = delta.outer %k, %c : (!K, !V) -> !S
    // expected-error @below {{a write's coefficient multiplies a read elementwise by a vector, which gives every column of the state a transition of its own; only scalars may multiply a read here}}
    %S2 = arith.addf %S, %kc : !S
    delta.yield %S2, %z : !S, !V
  }
}

// -----

!V = tensor<?xf64, #delta.dims<V>>
!K = tensor<?xf64, #delta.dims<K>>
!S = tensor<?x?xf64, #delta.dims<K, V>>
!nK = tensor<?x?xf64, #delta.dims<n, K>>

module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f32, axes = [K], family = n>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>]>} {
  delta.recurrence @unbound {
  ^bb0(%k: !nK, %v: !V, %S: !S):
    // expected-error @below {{needs the size of dim 'n' to unroll the micro-steps; bind it with -D n=...}}
    %S2 = delta.for "n" init(%S) : !S {
    ^bb0(%j: index, %Sj: !S):
      delta.yield %Sj : !S
    }
    delta.yield %S2, %v : !S, !V
  }
}

// -----

!V = tensor<?xf64, #delta.dims<V>>
!K = tensor<?xf64, #delta.dims<K>>
!S = tensor<?x?xf64, #delta.dims<K, V>>
!nK = tensor<?x?xf64, #delta.dims<n, K>>

module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f32, axes = [K], family = n>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>], dims = {n = 65 : i64}>} {
  delta.recurrence @many {
  ^bb0(%k: !nK, %v: !V, %S: !S):
    // expected-error @below {{unrolls at most 64 micro-steps, but dim 'n' is 65}}
    %S2 = delta.for "n" init(%S) : !S {
    ^bb0(%j: index, %Sj: !S):
      delta.yield %Sj : !S
    }
    delta.yield %S2, %v : !S, !V
  }
}

// -----

!V = tensor<?xf64, #delta.dims<V>>
!K = tensor<?xf64, #delta.dims<K>>
!S = tensor<?x?xf64, #delta.dims<K, V>>
!nK = tensor<?x?xf64, #delta.dims<n, K>>

module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f32, axes = [K], family = n>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>], dims = {n = 2 : i64}>} {
  delta.recurrence @index {
  ^bb0(%k: !nK, %S: !S):
    %two = arith.constant 2 : index
    // expected-error @below {{index 2 is not below n = 2}}
    %k2 = delta.micro %k[%two] : !nK -> !K
    %o = delta.matvec %S, %k2 {transpose} : (!S, !K) -> !V
    delta.yield %S, %o : !S, !V
  }
}
