# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The generalised delta rule: DPLR, IPLR, and RWKV-7, which is the former."""

from __future__ import annotations

from torch import Tensor

from . import _common as common
from ._common import Result
from ._specs import make, options


def chunk_dplr_delta_rule(
        q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, gk: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False, cu_seqlens: Tensor | None = None,
        cu_seqlens_cpu: Tensor | None = None, safe_gate: bool = False,
        chunk_size: int | None = None, disable_recompute: bool = False,
        cp_context: object = None, lower_bound: float | None = None, *,
        use_qk_l2norm_in_kernel: bool = False, state_v_first: bool = False,
        **kwargs: object) -> Result:
    """S = (diag(exp(gk)) + b a^T) S + k v^T; o = scale S^T q.

    q, k, a, b: [B, T, H, K]. v: [B, T, H, V]. gk: [B, T, H, K], log-decay, at
    most 0. scale: default K ** -0.5. initial_state: [B, H, K, V]. Returns o
    [B, T, H, V] and the final state or None.

    lower_bound promises that gk is nowhere below it, from which the compiler
    proves cheaper factors; safe_gate and disable_recompute are taken and change
    nothing. chunk_size: 16, 32, 64; None for the compiler's choice.
    """
    op = "chunk_dplr_delta_rule"
    common.refuse(op, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu,
                  cp_context=cp_context)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    bound = common.check_bound(op, lower_bound)
    common.check_heads(op, q, v)
    made = make("dplr", "forward", common.check_chunk(op, chunk_size),
                options(lower_bound=bound, l2norm=use_qk_l2norm_in_kernel))
    return common.call(made, {"q": q, "k": k, "v": v, "a": a, "b": b,
                              "gk": gk}, scale, initial_state,
                       output_final_state, state_v_first)


def fused_recurrent_dplr_delta_rule(
        q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, gk: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False, reverse: bool = False,
        cu_seqlens: Tensor | None = None, *,
        use_qk_l2norm_in_kernel: bool = False, state_v_first: bool = False,
        **kwargs: object) -> Result:
    """chunk_dplr_delta_rule as its recurrent form, token by token.

    reverse: from the last token to the first.
    """
    op = "fused_recurrent_dplr_delta_rule"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    return common.call(make("dplr", "decode", None,
                            options(l2norm=use_qk_l2norm_in_kernel)),
                       {"q": q, "k": k, "v": v, "a": a, "b": b, "gk": gk},
                       scale, initial_state, output_final_state, state_v_first,
                       reverse)


def chunk_iplr_delta_rule(
        q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False, cu_seqlens: Tensor | None = None,
        cu_seqlens_cpu: Tensor | None = None, chunk_size: int | None = None, *,
        use_qk_l2norm_in_kernel: bool = False, state_v_first: bool = False,
        **kwargs: object) -> Result:
    """S = (I + b a^T) S + k v^T; o = scale S^T q. Shapes as for DPLR."""
    op = "chunk_iplr_delta_rule"
    common.refuse(op, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    return common.call(make("iplr", "forward",
                            common.check_chunk(op, chunk_size),
                            options(l2norm=use_qk_l2norm_in_kernel)),
                       {"q": q, "k": k, "v": v, "a": a, "b": b}, scale,
                       initial_state, output_final_state, state_v_first)


def fused_recurrent_iplr_delta_rule(
        q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False, cu_seqlens: Tensor | None = None, *,
        reverse: bool = False, use_qk_l2norm_in_kernel: bool = False,
        state_v_first: bool = False, **kwargs: object) -> Result:
    """chunk_iplr_delta_rule as its recurrent form, token by token."""
    op = "fused_recurrent_iplr_delta_rule"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    return common.call(make("iplr", "decode", None,
                            options(l2norm=use_qk_l2norm_in_kernel)),
                       {"q": q, "k": k, "v": v, "a": a, "b": b}, scale,
                       initial_state, output_final_state, state_v_first,
                       reverse)


def chunk_rwkv7(
        r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor,
        scale: float | None = 1.0, initial_state: Tensor | None = None,
        output_final_state: bool = False, cu_seqlens: Tensor | None = None,
        cu_seqlens_cpu: Tensor | None = None, safe_gate: bool = False,
        chunk_size: int | None = None, disable_recompute: bool = False,
        cp_context: object = None, lower_bound: float | None = None, *,
        use_qk_l2norm_in_kernel: bool = False, state_v_first: bool = False,
        **kwargs: object) -> Result:
    """chunk_dplr_delta_rule with RWKV-7's names: r is q, w is gk, the
    log-decay. Mind the order of arguments and the scale of 1."""
    op = "chunk_rwkv7"
    common.refuse(op, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu,
                  cp_context=cp_context)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    bound = common.check_bound(op, lower_bound)
    common.check_heads(op, r, v)
    made = make("dplr", "forward", common.check_chunk(op, chunk_size),
                options(lower_bound=bound, l2norm=use_qk_l2norm_in_kernel))
    return common.call(made, {"q": r, "k": k, "v": v, "a": a, "b": b,
                              "gk": w}, scale, initial_state,
                       output_final_state, state_v_first)


def fused_recurrent_rwkv7(
        r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = True, cu_seqlens: Tensor | None = None, *,
        reverse: bool = False, use_qk_l2norm_in_kernel: bool = False,
        state_v_first: bool = False, **kwargs: object) -> Result:
    """chunk_rwkv7 as its recurrent form. As in fla, the scale is K ** -0.5 here
    and the final state is returned."""
    op = "fused_recurrent_rwkv7"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, r, v)
    return common.call(make("dplr", "decode", None,
                            options(l2norm=use_qk_l2norm_in_kernel)),
                       {"q": r, "k": k, "v": v, "a": a, "b": b, "gk": w},
                       scale, initial_state, output_final_state, state_v_first,
                       reverse)


def fused_mul_recurrent_rwkv7(
        r: Tensor, w: Tensor, k: Tensor, v: Tensor, kk: Tensor, a: Tensor,
        scale: float | None = 1.0, initial_state: Tensor | None = None,
        output_final_state: bool = False, reverse: bool = False,
        cu_seqlens: Tensor | None = None, *, state_v_first: bool = False,
        **kwargs: object) -> Result:
    """RWKV-7 from the removal key `kk` and the in-context rate `a`:
    fused_recurrent_rwkv7 with a = -kk and b = kk .* a."""
    op = "fused_mul_recurrent_rwkv7"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, r, v)
    return common.call(make("rwkv7_mul", "decode", None),
                       {"r": r, "w": w, "k": k, "v": v, "kk": kk, "a": a},
                       scale, initial_state, output_final_state, state_v_first,
                       reverse)
