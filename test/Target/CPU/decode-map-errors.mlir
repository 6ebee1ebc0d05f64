// RUN: delta-opt %s --delta-decode-map --split-input-file --verify-diagnostics

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

// expected-error@+1 {{expects the size of dim 'V', which the recurrent form on the cpu needs}}
module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f64, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f64, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f64, axes = [V]>], dims = {K = 4}>} {
  delta.recurrence @f {
  ^bb0(%k: !K, %S: !S):
    %o = delta.read %S, %k : !S, !K -> !V
    delta.yield %S, %o : !S, !V
  }
}

// -----

// expected-error@+1 {{expects a module of stage events, but got one without a stage}}
module {
}

// -----

// Columns are independent: nothing may be summed over them.

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f64, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f64, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f64>], dims = {K = 4, V = 4}>} {
  delta.recurrence @f {
  ^bb0(%k: !K, %S: !S):
    %z = delta.read %S, %k : !S, !K -> !V
    // expected-error@+1 {{sums over the state's columns, which are independent of each other here}}
    %o = delta.sum %z : !V -> f64
    delta.yield %S, %o : !S, f64
  }
}

// -----

!K = tensor<?xf64, #delta.dims<K>>
!S = tensor<?x?xf64, #delta.dims<K, K>>

module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f64, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f64, axes = [K, K]>,
    #delta.arg<kind = out, name = "o", type = f64, axes = [K]>], dims = {K = 4}>} {
  delta.recurrence @f {
  ^bb0(%k: !K, %S: !S):
    %z = delta.read %S, %k : !S, !K -> !K
    // expected-error@+1 {{expects what is read with to be free of the state, but it depends on a read}}
    %o = delta.read %S, %z : !S, !K -> !K
    delta.yield %S, %o : !S, !K
  }
}

// -----

!K = tensor<?xf64, #delta.dims<K>>
!S = tensor<?x?xf64, #delta.dims<K, K>>

module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f64, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f64, axes = [K, K]>,
    #delta.arg<kind = out, name = "o", type = f64, axes = [K]>], dims = {K = 4}>} {
  // expected-error@+1 {{expects decays to be free of the state, but one depends on a read}}
  delta.recurrence @f {
  ^bb0(%k: !K, %S: !S):
    %z = delta.read %S, %k : !S, !K -> !K
    %S1 = delta.decay %S, %z : !S, !K
    delta.yield %S1, %k : !S, !K
  }
}

// -----

!K = tensor<?xf64, #delta.dims<K>>
!S = tensor<?x?xf64, #delta.dims<K, K>>

module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "k", type = f64, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f64, axes = [K, K]>,
    #delta.arg<kind = out, name = "o", type = f64, axes = [K]>], dims = {K = 4}>} {
  delta.recurrence @f {
  ^bb0(%k: !K, %S: !S):
    %z = delta.read %S, %k : !S, !K -> !K
    // expected-error@+1 {{expects what is written along to be free of the state, but it depends on a read}}
    %S1 = delta.write %S, %z, %k : !S, !K, !K
    delta.yield %S1, %k : !S, !K
  }
}
