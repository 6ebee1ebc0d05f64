# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Delta rules: a token corrects what its key already holds."""

from __future__ import annotations

from torch import Tensor

from . import _common as common
from ._common import Result
from ._specs import make, options


def _add_gate(op, arrays, A_log, dt_bias, per_channel, k):
    if A_log is not None:
        common.rank(op, "A_log", A_log)
        arrays["A_log"] = A_log.reshape(-1)
    if dt_bias is not None:
        common.rank(op, "dt_bias", dt_bias)
        H, size = k.shape[2], k.shape[3] if per_channel else 1
        if dt_bias.numel() != H * size:
            raise ValueError(
                f"{op}: argument 'dt_bias' has shape {tuple(dt_bias.shape)}; "
                f"expected {H * size} numbers, "
                + (f"{size} for each of {H} heads" if per_channel
                   else "one for each head"))
        arrays["dt_bias"] = dt_bias.reshape([H, size] if per_channel else [H])


def _strength(op, sigmoid, allow_neg_eigval):
    """The options of what becomes of beta."""
    if allow_neg_eigval and not sigmoid:
        raise ValueError(f"{op}: argument 'allow_neg_eigval' is true, which "
                         "needs use_beta_sigmoid_in_kernel=True; or pass a beta "
                         "of up to 2")
    return {"sigmoid": bool(sigmoid), "doubled": bool(allow_neg_eigval)}


def _add_beta(op, arrays, beta, sigmoid, allow_neg_eigval):
    """A beta that may be absent, for 1: its array, and what differs."""
    if beta is None:
        if sigmoid:
            raise ValueError(f"{op}: argument 'beta' is missing; "
                             "use_beta_sigmoid_in_kernel makes the strength "
                             "from it")
        return (("beta", False),)
    arrays["beta"] = beta
    return options(**_strength(op, sigmoid, allow_neg_eigval))


def chunk_delta_rule(
        q: Tensor, k: Tensor, v: Tensor, beta: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        cu_seqlens: Tensor | None = None, cu_seqlens_cpu: Tensor | None = None,
        chunk_size: int | None = None, *,
        use_beta_sigmoid_in_kernel: bool = False,
        allow_neg_eigval: bool = False, state_v_first: bool = False,
        **kwargs: object) -> Result:
    """S = S + beta k (v - S^T k)^T; o = scale S^T q.

    q, k: [B, T, H, K]. v: [B, T, H, V]. beta: [B, T, H]. scale: default
    K ** -0.5. initial_state: [B, H, K, V]; state_v_first: states are [B, H, V,
    K]. use_qk_l2norm_in_kernel: q and k are normalised first;
    use_beta_sigmoid_in_kernel: beta goes through a sigmoid, which is doubled with
    allow_neg_eigval. chunk_size: 16, 32, 64; None for the compiler's choice.
    Returns o [B, T, H, V] and the final state or None.
    """
    op = "chunk_delta_rule"
    common.refuse(op, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    common.check_beta(op, beta)
    made = make("delta_rule", "forward", common.check_chunk(op, chunk_size),
                options(l2norm=use_qk_l2norm_in_kernel,
                        **_strength(op, use_beta_sigmoid_in_kernel,
                                    allow_neg_eigval)))
    return common.call(made, {"q": q, "k": k, "v": v, "beta": beta}, scale,
                       initial_state, output_final_state, state_v_first)


def fused_recurrent_delta_rule(
        q: Tensor, k: Tensor, v: Tensor, beta: Tensor | None = None,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        cu_seqlens: Tensor | None = None, *, reverse: bool = False,
        use_beta_sigmoid_in_kernel: bool = False,
        allow_neg_eigval: bool = False, state_v_first: bool = False,
        **kwargs: object) -> Result:
    """chunk_delta_rule as its recurrent form; without beta it is 1."""
    op = "fused_recurrent_delta_rule"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    common.check_beta(op, beta)
    arrays = {"q": q, "k": k, "v": v}
    chosen = options(l2norm=use_qk_l2norm_in_kernel)
    chosen += _add_beta(op, arrays, beta, use_beta_sigmoid_in_kernel,
                        allow_neg_eigval)
    return common.call(make("delta_rule", "decode", None, chosen), arrays,
                       scale, initial_state, output_final_state, state_v_first,
                       reverse)


def chunk_gated_delta_rule(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        use_beta_sigmoid_in_kernel: bool = False,
        allow_neg_eigval: bool = False, state_v_first: bool = False,
        cu_seqlens: Tensor | None = None, cu_seqlens_cpu: Tensor | None = None,
        chunk_indices: Tensor | None = None, cp_context: object = None,
        use_gate_in_kernel: bool = False, A_log: Tensor | None = None,
        dt_bias: Tensor | None = None, chunk_size: int | None = None,
        **kwargs: object) -> Result:
    """S = exp(g) S; S = S + beta k (v - S^T k)^T; o = scale S^T q.

    q, k: [B, T, H, K]. v: [B, T, H, V]. g: [B, T, H], log-decay, at most 0.
    beta: [B, T, H]. Options, each a line of the spec: q and k normalised;
    beta through a sigmoid, doubled with allow_neg_eigval; g = -exp(A_log)
    softplus(g + dt_bias) with use_gate_in_kernel, A_log and dt_bias [H].
    state_v_first: states are [B, H, V, K]. Returns o and the final state or
    None.
    """
    op = "chunk_gated_delta_rule"
    common.refuse(op, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu,
                  chunk_indices=chunk_indices, cp_context=cp_context)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    common.check_beta(op, beta)
    common.check_gate(op, use_gate_in_kernel, A_log, dt_bias, None)
    arrays = {"q": q, "k": k, "v": v, "g": g, "beta": beta}
    _add_gate(op, arrays, A_log, dt_bias, False, k)
    made = make("gated_delta_rule", "forward",
                common.check_chunk(op, chunk_size),
                options(l2norm=use_qk_l2norm_in_kernel,
                        **_strength(op, use_beta_sigmoid_in_kernel,
                                    allow_neg_eigval),
                        gate=use_gate_in_kernel, A_log=A_log is not None,
                        dt_bias=dt_bias is not None))
    return common.call(made, arrays, scale, initial_state, output_final_state,
                       state_v_first)


def fused_recurrent_gated_delta_rule(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None,
        gk: Tensor | None = None, gv: Tensor | None = None,
        beta: Tensor | None = None, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        use_gate_in_kernel: bool = False, A_log: Tensor | None = None,
        dt_bias: Tensor | None = None,
        use_beta_sigmoid_in_kernel: bool = False,
        allow_neg_eigval: bool = False, state_v_first: bool = False,
        cu_seqlens: Tensor | None = None, *, reverse: bool = False,
        **kwargs: object) -> Result:
    """chunk_gated_delta_rule as its recurrent form. Gates are optional and add
    up: g [B, T, H] a head, gk [B, T, H, K] a channel; without beta it is 1."""
    op = "fused_recurrent_gated_delta_rule"
    common.refuse(op, cu_seqlens=cu_seqlens)
    common.refuse_column_gates(op, gv=gv)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    common.check_beta(op, beta)
    common.check_gate(op, use_gate_in_kernel, A_log, dt_bias, None)
    if use_gate_in_kernel and g is None:
        raise ValueError(f"{op}: argument 'g' is missing; use_gate_in_kernel "
                         "makes the log-decay from it")
    arrays = {"q": q, "k": k, "v": v}
    for name, value in (("g", g), ("gk", gk)):
        if value is not None:
            arrays[name] = value
    _add_gate(op, arrays, A_log, dt_bias, False, k)
    chosen = options(gk=gk is not None, l2norm=use_qk_l2norm_in_kernel,
                     gate=use_gate_in_kernel, A_log=A_log is not None,
                     dt_bias=dt_bias is not None)
    if g is None:
        chosen += (("g", None),)
    chosen += _add_beta(op, arrays, beta, use_beta_sigmoid_in_kernel,
                        allow_neg_eigval)
    return common.call(make("gated_delta_rule", "decode", None, chosen),
                       arrays, scale, initial_state, output_final_state,
                       state_v_first, reverse)


def _kda(op, fn, chunk, q, k, v, g, beta, A_log, dt_bias, scale, initial_state,
         output_final_state, l2norm, gate, sigmoid, doubled, safe_gate,
         lower_bound, state_v_first, reverse=False):
    common.check_heads(op, q, v)
    common.check_beta(op, beta)
    common.check_gate(op, gate, A_log, dt_bias, lower_bound)
    bound = common.check_bound(op, lower_bound, safe_gate, gate)
    arrays = {"q": q, "k": k, "v": v, "g": g, "beta": beta}
    _add_gate(op, arrays, A_log, dt_bias, True, k)
    made = make("gated_delta_rule", fn, chunk,
                (("name", "kda"), ("g", "K")) + options(
                    l2norm=l2norm, gate=gate, A_log=A_log is not None,
                    dt_bias=dt_bias is not None, lower_bound=bound,
                    **_strength(op, sigmoid, doubled)))
    return common.call(made, arrays, scale, initial_state, output_final_state,
                       state_v_first, reverse)


def chunk_kda(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        use_gate_in_kernel: bool = False,
        use_beta_sigmoid_in_kernel: bool = False,
        allow_neg_eigval: bool = False, safe_gate: bool = False,
        lower_bound: float | None = None, disable_recompute: bool = False,
        return_intermediate_states: bool = False, state_v_first: bool = False,
        cu_seqlens: Tensor | None = None, cu_seqlens_cpu: Tensor | None = None,
        cp_context: object = None, A_log: Tensor | None = None,
        dt_bias: Tensor | None = None, chunk_size: int | None = None,
        **kwargs: object) -> Result:
    """S = diag(exp(g)) S; S = S + beta k (v - S^T k)^T; o = scale S^T q.

    As chunk_gated_delta_rule with g: [B, T, H, K], a log-decay a channel.
    use_gate_in_kernel: g = -exp(A_log) softplus(g + dt_bias), A_log [H] and
    dt_bias [H * K], or with lower_bound g = lower_bound sigmoid(exp(A_log) (g +
    dt_bias)), where A_log may be left out. Without it, lower_bound promises that
    g is nowhere below. safe_gate and disable_recompute change nothing.
    """
    op = "chunk_kda"
    common.refuse(op, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu,
                  cp_context=cp_context,
                  return_intermediate_states=return_intermediate_states)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    return _kda(op, "forward", common.check_chunk(op, chunk_size), q, k, v, g,
                beta, A_log, dt_bias, scale, initial_state, output_final_state,
                use_qk_l2norm_in_kernel, use_gate_in_kernel,
                use_beta_sigmoid_in_kernel, allow_neg_eigval, safe_gate,
                lower_bound, state_v_first)


def fused_recurrent_kda(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor,
        A_log: Tensor | None = None, dt_bias: Tensor | None = None,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        use_gate_in_kernel: bool = False,
        use_beta_sigmoid_in_kernel: bool = False,
        allow_neg_eigval: bool = False, lower_bound: float | None = None,
        state_v_first: bool = False, cu_seqlens: Tensor | None = None, *,
        reverse: bool = False, **kwargs: object) -> Result:
    """chunk_kda as its recurrent form, token by token."""
    op = "fused_recurrent_kda"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    return _kda(op, "decode", None, q, k, v, g, beta, A_log, dt_bias, scale,
                initial_state, output_final_state, use_qk_l2norm_in_kernel,
                use_gate_in_kernel, use_beta_sigmoid_in_kernel,
                allow_neg_eigval, False, lower_bound, state_v_first, reverse)


def _gdn2(op, fn, chunk, q, k, v, g, b, w, A_log, dt_bias, scale,
          initial_state, output_final_state, l2norm, gate, safe_gate,
          lower_bound, state_v_first, reverse=False):
    common.check_heads(op, q, v)
    common.check_gate(op, gate, A_log, dt_bias, lower_bound)
    bound = common.check_bound(op, lower_bound, safe_gate, gate)
    arrays = {"q": q, "k": k, "v": v, "g": g, "b": b, "w": w}
    _add_gate(op, arrays, A_log, dt_bias, True, k)
    made = make("gdn2", fn, chunk,
                options(l2norm=l2norm, gate=gate, A_log=A_log is not None,
                        dt_bias=dt_bias is not None, lower_bound=bound))
    return common.call(made, arrays, scale, initial_state, output_final_state,
                       state_v_first, reverse)


def chunk_gdn2(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        use_gate_in_kernel: bool = False, cu_seqlens: Tensor | None = None,
        cu_seqlens_cpu: Tensor | None = None, safe_gate: bool = False,
        lower_bound: float | None = None, disable_recompute: bool = False,
        return_intermediate_states: bool = False, state_v_first: bool = False,
        A_log: Tensor | None = None, dt_bias: Tensor | None = None,
        chunk_size: int | None = None, **kwargs: object) -> Result:
    """S = diag(exp(g)) S; S = S + k (w .* v - S^T (b .* k))^T; o = scale S^T q.

    As chunk_kda, with an erase gate b: [B, T, H, K] on the keys and a write gate
    w: [B, T, H, V] on the values in place of beta.
    """
    op = "chunk_gdn2"
    common.refuse(op, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu,
                  return_intermediate_states=return_intermediate_states)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    return _gdn2(op, "forward", common.check_chunk(op, chunk_size), q, k, v, g,
                 b, w, A_log, dt_bias, scale, initial_state,
                 output_final_state, use_qk_l2norm_in_kernel,
                 use_gate_in_kernel, safe_gate, lower_bound, state_v_first)


def fused_recurrent_gdn2(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor,
        A_log: Tensor | None = None, dt_bias: Tensor | None = None,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        use_gate_in_kernel: bool = False, lower_bound: float | None = None,
        state_v_first: bool = False, cu_seqlens: Tensor | None = None, *,
        reverse: bool = False, **kwargs: object) -> Result:
    """chunk_gdn2 as its recurrent form, token by token."""
    op = "fused_recurrent_gdn2"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    return _gdn2(op, "decode", None, q, k, v, g, b, w, A_log, dt_bias, scale,
                 initial_state, output_final_state, use_qk_l2norm_in_kernel,
                 use_gate_in_kernel, False, lower_bound, state_v_first,
                 reverse)


def _comba(op, fn, chunk, q, k, v, p, g, beta, scale, initial_state,
           output_final_state, l2norm, sigmoid, doubled, state_v_first,
           reverse=False):
    arrays = {"q": q, "k": k, "v": v, "p": k if p is None else p, "g": g}
    chosen = options(l2norm=l2norm)
    chosen += _add_beta(op, arrays, beta, sigmoid, doubled)
    return common.call(make("comba", fn, chunk, chosen), arrays, scale,
                       initial_state, output_final_state, state_v_first,
                       reverse)


def chunk_comba(
        q: Tensor, k: Tensor, v: Tensor, p: Tensor, g: Tensor,
        beta: Tensor | None = None, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        cu_seqlens: Tensor | None = None, cu_seqlens_cpu: Tensor | None = None,
        *, use_beta_sigmoid_in_kernel: bool = False,
        allow_neg_eigval: bool = False, state_v_first: bool = False,
        chunk_size: int | None = None, **kwargs: object) -> Result:
    """z = S^T p; S = exp(g) S + beta k (v - z)^T; o = scale S^T q.

    As chunk_gated_delta_rule, but the correction is read before the decay and
    with a key of its own, p: [B, T, H, K]; None: k. The norm covers p, too.
    Without beta it is 1.
    """
    op = "chunk_comba"
    common.refuse(op, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    common.check_beta(op, beta)
    return _comba(op, "forward", common.check_chunk(op, chunk_size), q, k, v, p,
                  g, beta, scale, initial_state, output_final_state,
                  use_qk_l2norm_in_kernel, use_beta_sigmoid_in_kernel,
                  allow_neg_eigval, state_v_first)


def fused_recurrent_comba(
        q: Tensor, k: Tensor, p: Tensor, v: Tensor, g: Tensor,
        beta: Tensor | None = None, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        cu_seqlens: Tensor | None = None, *, reverse: bool = False,
        use_beta_sigmoid_in_kernel: bool = False,
        allow_neg_eigval: bool = False, state_v_first: bool = False,
        **kwargs: object) -> Result:
    """chunk_comba as its recurrent form. Mind the order: p comes before v."""
    op = "fused_recurrent_comba"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    common.check_beta(op, beta)
    return _comba(op, "decode", None, q, k, v, p, g, beta, scale, initial_state,
                  output_final_state, use_qk_l2norm_in_kernel,
                  use_beta_sigmoid_in_kernel, allow_neg_eigval, state_v_first,
                  reverse)


def _product(op, fn, chunk, q, k, v, g, beta, n, scale, initial_state,
             output_final_state, l2norm, sigmoid, doubled, state_v_first,
             reverse=False):
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"{op}: argument 'num_householder' is {n!r}; expected "
                         "a number of steps, at least 1")
    common.check_heads(op, q, v)
    arrays, T = {"q": q}, q.shape[1]
    for name, x in (("k", k), ("v", v), ("beta", beta)):
        if common.rank(op, name, x) < 3 or x.shape[1] != T * n:
            raise ValueError(
                f"{op}: argument '{name}' has shape {tuple(x.shape)}; expected "
                f"{T * n} tokens, {n} steps for each of the {T} of 'q'")
        arrays[name] = x.unflatten(1, (T, n))
    chosen = options(l2norm=l2norm, **_strength(op, sigmoid, doubled))
    if g is None:
        chosen += (("g", False),)
    else:
        arrays["g"] = g
    return common.call(make("gated_delta_product", fn, chunk, chosen), arrays,
                       scale, initial_state, output_final_state, state_v_first,
                       reverse)


def chunk_gated_delta_product(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor,
        num_householder: int, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        cu_seqlens: Tensor | None = None, cu_seqlens_cpu: Tensor | None = None,
        *, use_beta_sigmoid_in_kernel: bool = False,
        allow_neg_eigval: bool = False, state_v_first: bool = False,
        chunk_size: int | None = None, **kwargs: object) -> Result:
    """S = exp(g) S, then num_householder times S = S + beta_j k_j (v_j - S^T
    k_j)^T; o = scale S^T q.

    q: [B, T, H, K]. k, v, beta: [B, T * n, H, ...], a token's steps one after
    the other. g: [B, T, H] or None.
    """
    op = "chunk_gated_delta_product"
    common.refuse(op, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    return _product(op, "forward", common.check_chunk(op, chunk_size), q, k, v,
                    g, beta, num_householder, scale, initial_state,
                    output_final_state, use_qk_l2norm_in_kernel,
                    use_beta_sigmoid_in_kernel, allow_neg_eigval, state_v_first)


def fused_recurrent_gated_delta_product(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor,
        num_householder: int, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        cu_seqlens: Tensor | None = None, *, reverse: bool = False,
        use_beta_sigmoid_in_kernel: bool = False,
        allow_neg_eigval: bool = False, state_v_first: bool = False,
        **kwargs: object) -> Result:
    """chunk_gated_delta_product as its recurrent form, token by token; reverse
    keeps the order of a token's steps."""
    op = "fused_recurrent_gated_delta_product"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    return _product(op, "decode", None, q, k, v, g, beta, num_householder,
                    scale, initial_state, output_final_state,
                    use_qk_l2norm_in_kernel, use_beta_sigmoid_in_kernel,
                    allow_neg_eigval, state_v_first, reverse)
