# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Linear attention with and without decay: nothing is read back."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _common as common
from ._common import Result
from ._specs import make, options
from .naive import naive_l2norm


def _linear(name, fn, q, k, v, g, g_gamma, scale, initial_state,
            output_final_state, l2norm, state_v_first=False, reverse=False,
            chunk=None):
    arrays = {"q": q, "k": k, "v": v}
    chosen = options(name=name, l2norm=l2norm)
    if g is not None:
        arrays["g"] = g
        chosen += (("g", "K" if g.dim() == 4 else "scalar"),)
    if g_gamma is not None:
        arrays["g_gamma"] = g_gamma
        chosen += (("gamma", True),)
    return common.call(make("linear_attention", fn, chunk, chosen), arrays,
                       scale, initial_state, output_final_state, state_v_first,
                       reverse)


def chunk_gla(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False,
        state_v_first: bool = False, cu_seqlens: Tensor | None = None,
        cu_seqlens_cpu: Tensor | None = None, *, chunk_size: int | None = None,
        use_qk_l2norm_in_kernel: bool = False, **kwargs: object) -> Result:
    """S = diag(exp(g)) S + k v^T; o = scale S^T q.

    q, k: [B, T, H, K]. v: [B, T, H, V]. g: [B, T, H, K], log-decay, at most 0.
    scale: default K ** -0.5. initial_state: [B, H, K, V], or [B, H, V, K] with
    state_v_first. chunk_size: 16, 32, 64; None for the compiler's choice.
    use_qk_l2norm_in_kernel: q and k are normalised first. Returns o [B, T, H, V]
    and the final state or None.
    """
    op = "chunk_gla"
    common.refuse(op, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    _check_axes(op, "g", g, 4, "[B, T, H, K]")
    return _linear("gla", "forward", q, k, v, g, None, scale, initial_state,
                   output_final_state, use_qk_l2norm_in_kernel, state_v_first,
                   chunk=common.check_chunk(op, chunk_size))


def _check_axes(op, name, x, axes, expected):
    if common.rank(op, name, x) != axes:
        raise ValueError(f"{op}: argument '{name}' has shape {tuple(x.shape)}; "
                         f"expected {expected}")


def fused_recurrent_gla(
        q: Tensor, k: Tensor, v: Tensor, gk: Tensor | None = None,
        gv: Tensor | None = None, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False,
        reverse: bool = False, state_v_first: bool = False,
        cu_seqlens: Tensor | None = None, *,
        use_qk_l2norm_in_kernel: bool = False, **kwargs: object) -> Result:
    """chunk_gla as its recurrent form; without gk nothing decays.

    reverse: from the last token to the first.
    """
    op = "fused_recurrent_gla"
    common.refuse(op, cu_seqlens=cu_seqlens)
    common.refuse_column_gates(op, gv=gv)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    if gk is not None:
        _check_axes(op, "gk", gk, 4, "[B, T, H, K]")
    return _linear("gla", "decode", q, k, v, gk, None, scale, initial_state,
                   output_final_state, use_qk_l2norm_in_kernel, state_v_first,
                   reverse)


def chunk_simple_gla(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None,
        g_gamma: Tensor | None = None, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False,
        state_v_first: bool = False, cu_seqlens: Tensor | None = None,
        cu_seqlens_cpu: Tensor | None = None, chunk_size: int | None = None, *,
        use_qk_l2norm_in_kernel: bool = False, **kwargs: object) -> Result:
    """S = exp(g) S + k v^T; o = scale S^T q.

    As chunk_gla with one log-decay a head: g: [B, T, H] for every token, and
    g_gamma: [H] for all of them; both add up, and either may be left out.
    """
    op = "chunk_simple_gla"
    common.refuse(op, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    if g is not None:
        _check_axes(op, "g", g, 3, "[B, T, H]")
    return _linear("simple_gla", "forward", q, k, v, g, g_gamma, scale,
                   initial_state, output_final_state, use_qk_l2norm_in_kernel,
                   state_v_first, chunk=common.check_chunk(op, chunk_size))


def fused_recurrent_simple_gla(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None,
        g_gamma: Tensor | None = None, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False,
        reverse: bool = False, state_v_first: bool = False,
        cu_seqlens: Tensor | None = None, *,
        use_qk_l2norm_in_kernel: bool = False, **kwargs: object) -> Result:
    """chunk_simple_gla as its recurrent form, token by token."""
    op = "fused_recurrent_simple_gla"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    if g is not None:
        _check_axes(op, "g", g, 3, "[B, T, H]")
    return _linear("simple_gla", "decode", q, k, v, g, g_gamma, scale,
                   initial_state, output_final_state, use_qk_l2norm_in_kernel,
                   state_v_first, reverse)


def retention_decay(num_heads, device=None):
    """RetNet's log-decays: log(1 - 2^(-5 - h)) for head h, in float32."""
    heads = torch.arange(num_heads, dtype=torch.float32, device=device)
    return torch.log1p(-torch.exp2(-5.0 - heads))


def chunk_retention(
        q: Tensor, k: Tensor, v: Tensor, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False,
        cu_seqlens: Tensor | None = None, chunk_size: int | None = None, *,
        use_qk_l2norm_in_kernel: bool = False, state_v_first: bool = False,
        **kwargs: object) -> Result:
    """chunk_simple_gla with RetNet's decays, one rate a head."""
    op = "chunk_retention"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    return _linear("retention", "forward", q, k, v, None, _rates(q), scale,
                   initial_state, output_final_state, use_qk_l2norm_in_kernel,
                   state_v_first, chunk=common.check_chunk(op, chunk_size))


def fused_recurrent_retention(
        q: Tensor, k: Tensor, v: Tensor, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False,
        reverse: bool = False, state_v_first: bool = False,
        cu_seqlens: Tensor | None = None, *,
        use_qk_l2norm_in_kernel: bool = False, **kwargs: object) -> Result:
    """chunk_retention as its recurrent form, token by token."""
    op = "fused_recurrent_retention"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    return _linear("retention", "decode", q, k, v, None, _rates(q), scale,
                   initial_state, output_final_state, use_qk_l2norm_in_kernel,
                   state_v_first, reverse)


def _rates(q):
    rates = retention_decay(q.shape[2] if q.dim() == 4 else 1, q.device)
    return rates.double() if q.dtype == torch.float64 else rates


def _normalized(fn, chunk, q, k, v, scale, initial_state, output_final_state,
                normalize, l2norm, state_v_first, reverse=False):
    """Linear attention, divided by q's product with the sum of keys so far,
    which is a state, too: then states are pairs."""
    sums = None
    if normalize and isinstance(initial_state, (tuple, list)):
        initial_state, sums = initial_state
    o, final_state = _linear("linear_attn", fn, q, k, v, None, None, scale,
                             initial_state, output_final_state, l2norm,
                             state_v_first, reverse, chunk)
    if not normalize:
        return o, final_state
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    if l2norm:
        q, k = naive_l2norm(q.to(wide)), naive_l2norm(k.to(wide))
    keys = k.to(wide)
    keys = (keys.flip(1).cumsum(1).flip(1) if reverse else keys.cumsum(1))
    if sums is not None:
        keys = keys + sums
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    divisor = (q.to(wide) * factor * keys).sum(-1, keepdim=True) + 1e-10
    o = (o.to(wide) / divisor).to(o.dtype)
    if output_final_state:
        edge = keys[:, :1] if reverse else keys[:, -1:]
        final_state = (final_state, edge.contiguous())
    return o, final_state


def chunk_linear_attn(
        q: Tensor, k: Tensor, v: Tensor, scale: float | None = None,
        initial_state: Tensor | tuple[Tensor, Tensor] | None = None,
        output_final_state: bool = False, normalize: bool = True,
        cu_seqlens: Tensor | None = None, *, chunk_size: int | None = None,
        use_qk_l2norm_in_kernel: bool = False, state_v_first: bool = False,
        **kwargs: object
) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor] | None]:
    """S = S + k v^T; o = scale S^T q.

    q, k: [B, T, H, K]. v: [B, T, H, V]. scale: default K ** -0.5. With
    normalize, as fla has it by default, o is divided by scale q^T (k_1 + ... +
    k_t), and states are pairs with that sum, [B, 1, H, K].
    """
    op = "chunk_linear_attn"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    return _normalized("forward", common.check_chunk(op, chunk_size), q, k, v,
                       scale, initial_state, output_final_state, normalize,
                       use_qk_l2norm_in_kernel, state_v_first)


def fused_recurrent_linear_attn(
        q: Tensor, k: Tensor, v: Tensor, scale: float | None = None,
        initial_state: Tensor | tuple[Tensor, Tensor] | None = None,
        output_final_state: bool = False, reverse: bool = False,
        normalize: bool = False, cu_seqlens: Tensor | None = None, *,
        use_qk_l2norm_in_kernel: bool = False, state_v_first: bool = False,
        **kwargs: object
) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor] | None]:
    """chunk_linear_attn as its recurrent form; not normalised by default."""
    op = "fused_recurrent_linear_attn"
    common.refuse(op, cu_seqlens=cu_seqlens)
    state_v_first = common.take_legacy(op, kwargs, state_v_first)
    common.check_heads(op, q, v)
    return _normalized("decode", None, q, k, v, scale, initial_state,
                       output_final_state, normalize, use_qk_l2norm_in_kernel,
                       state_v_first, reverse)
