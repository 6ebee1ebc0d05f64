// RUN: delta-opt %s --split-input-file --verify-diagnostics --delta-chunk

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

// expected-error @below {{stage chunk needs the size of dim 'V'; bind it with -D V=...}}
module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>], dims = {K = 64 : i64}>} {
  delta.recurrence @dims {
  ^bb0(%q: !K, %S: !S):
    %o = delta.read %S, %q : !S, !K -> !V
    delta.yield %S, %o : !S, !V
  }
}

// -----

!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>

module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f32, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>], dims = {K = 64 : i64, V = 64 : i64}>} {
  delta.recurrence @branch {
  ^bb0(%q: !K, %v: !V, %S: !S):
    // expected-error @below {{the state is used by two events, so the events are no chain}}
    %S1 = delta.write %S, %q, %v : !S, !K, !V
    // expected-note @below {{the other one is here}}
    %S2 = delta.decay %S, %q : !S, !K
    %o = delta.read %S1, %q : !S, !K -> !V
    %p = delta.read %S2, %q : !S, !K -> !V
    %r = delta.write %S2, %q, %o : !S, !K, !V
    delta.yield %S1, %p : !S, !V
  }
}

// -----

// expected-error @below {{expects a module of stage events}}
module {}
