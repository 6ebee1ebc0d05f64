# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The operators in plain PyTorch: what they mean, token by token.

Slow and simple, for comparison: arguments are named and ordered as the chunked
operator's, without its options. They compute in float32, or in float64 when an
input is, return `o` in the type of the first input, and are differentiated by
autograd. `naive_gate` and `naive_l2norm` are the options that are functions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def naive_l2norm(x, eps=1e-6):
    """x / sqrt(sum x^2 + eps) along the last axis."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + eps)


def naive_gate(g, A_log=None, dt_bias=None, lower_bound=None):
    """The log-decay of use_gate_in_kernel: g is [..., H] or [..., H, K], A_log
    [H], dt_bias [H] or [H * K]."""
    per_channel = g.dim() == 4
    if dt_bias is not None:
        g = g + (dt_bias.reshape(g.shape[-2:]) if per_channel else dt_bias)
    factor = 1.0
    if A_log is not None:
        factor = A_log.exp().unsqueeze(-1) if per_channel else A_log.exp()
    if lower_bound is None:
        return -factor * F.softplus(g)
    return lower_bound * torch.sigmoid(factor * g)


def _scan(step, inputs, V, scale, initial_state, output_final_state):
    """Runs `step(S, *tokens)`, which gives the new state and the query."""
    first = inputs[0]
    wide = (torch.float64 if any(x.dtype == torch.float64 for x in inputs)
            else torch.float32)
    B, T, H, K = first.shape
    scale = K ** -0.5 if scale is None else scale
    inputs = [x.to(wide) for x in inputs]
    if initial_state is None:
        S = first.new_zeros(B, H, K, V, dtype=wide)
    else:
        S = initial_state.to(wide)
    outs = []
    for t in range(T):
        S, q = step(S, *(x[:, t] for x in inputs))
        outs.append(scale * (S * q.unsqueeze(-1)).sum(-2))
    o = (torch.stack(outs, 1) if outs
         else first.new_zeros(B, 0, H, V, dtype=wide))
    return o.to(first.dtype), S if output_final_state else None


def _outer(x, y):
    return x.unsqueeze(-1) * y.unsqueeze(-2)


def _read(S, x):
    return (S * x.unsqueeze(-1)).sum(-2)


def naive_recurrent_dplr_delta_rule(
        q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, gk: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False) -> tuple[Tensor, Tensor | None]:
    """S = (diag(exp(gk)) + b a^T) S + k v^T."""
    def step(S, q, k, v, a, b, gk):
        return (gk.exp().unsqueeze(-1) * S + _outer(b, _read(S, a))
                + _outer(k, v)), q
    return _scan(step, [q, k, v, a, b, gk], v.shape[-1], scale, initial_state,
                 output_final_state)


def naive_recurrent_iplr_delta_rule(
        q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False) -> tuple[Tensor, Tensor | None]:
    """S = (I + b a^T) S + k v^T."""
    def step(S, q, k, v, a, b):
        return S + _outer(b, _read(S, a)) + _outer(k, v), q
    return _scan(step, [q, k, v, a, b], v.shape[-1], scale, initial_state,
                 output_final_state)


def naive_recurrent_rwkv7(
        r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor,
        scale: float | None = 1.0, initial_state: Tensor | None = None,
        output_final_state: bool = False) -> tuple[Tensor, Tensor | None]:
    """naive_recurrent_dplr_delta_rule with RWKV-7's names and order."""
    return naive_recurrent_dplr_delta_rule(r, k, v, a, b, w, scale,
                                           initial_state, output_final_state)


def naive_recurrent_delta_rule(
        q: Tensor, k: Tensor, v: Tensor, beta: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False) -> tuple[Tensor, Tensor | None]:
    """S = S + beta k (v - S^T k)^T."""
    def step(S, q, k, v, beta):
        return S + _outer(k, beta.unsqueeze(-1) * (v - _read(S, k))), q
    return _scan(step, [q, k, v, beta], v.shape[-1], scale, initial_state,
                 output_final_state)


def naive_recurrent_gated_delta_rule(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False) -> tuple[Tensor, Tensor | None]:
    """S = exp(g) S; S = S + beta k (v - S^T k)^T, with g a head or a channel."""
    def step(S, q, k, v, g, beta):
        decay = g.exp().unsqueeze(-1)
        S = (decay if g.dim() == 3 else decay.unsqueeze(-1)) * S
        return S + _outer(k, beta.unsqueeze(-1) * (v - _read(S, k))), q
    return _scan(step, [q, k, v, g, beta], v.shape[-1], scale, initial_state,
                 output_final_state)


naive_recurrent_kda = naive_recurrent_gated_delta_rule


def naive_recurrent_gdn2(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False) -> tuple[Tensor, Tensor | None]:
    """S = diag(exp(g)) S; S = S + k (w .* v - S^T (b .* k))^T."""
    def step(S, q, k, v, g, b, w):
        S = g.exp().unsqueeze(-1) * S
        return S + _outer(k, w * v - _read(S, b * k)), q
    return _scan(step, [q, k, v, g, b, w], v.shape[-1], scale, initial_state,
                 output_final_state)


def naive_recurrent_comba(
        q: Tensor, k: Tensor, v: Tensor, p: Tensor, g: Tensor, beta: Tensor,
        scale: float | None = None, initial_state: Tensor | None = None,
        output_final_state: bool = False) -> tuple[Tensor, Tensor | None]:
    """z = S^T p; S = exp(g) S + beta k (v - z)^T."""
    def step(S, q, k, v, p, g, beta):
        z = _read(S, p)
        S = g.exp()[..., None, None] * S
        return S + _outer(k, beta.unsqueeze(-1) * (v - z)), q
    return _scan(step, [q, k, v, p, g, beta], v.shape[-1], scale,
                 initial_state, output_final_state)


def naive_recurrent_gated_delta_product(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, beta: Tensor,
        num_householder: int, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False
) -> tuple[Tensor, Tensor | None]:
    """S = exp(g) S, then n delta-rule writes; k, v, beta: [B, T * n, H, ...]."""
    n = num_householder
    def step(S, q, k, v, beta, *g):
        if g:
            S = g[0].exp()[..., None, None] * S
        for j in range(n):
            u = beta[:, j].unsqueeze(-1) * (v[:, j] - _read(S, k[:, j]))
            S = S + _outer(k[:, j], u)
        return S, q
    steps = [x.unflatten(1, (q.shape[1], n)) for x in (k, v, beta)]
    return _scan(step, [q, *steps, *([] if g is None else [g])], v.shape[-1],
                 scale, initial_state, output_final_state)


def naive_recurrent_gla(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False
) -> tuple[Tensor, Tensor | None]:
    """S = diag(exp(g)) S + k v^T, with g a channel or a head."""
    def step(S, q, k, v, g):
        decay = g.exp().unsqueeze(-1)
        S = (decay if g.dim() == 3 else decay.unsqueeze(-1)) * S
        return S + _outer(k, v), q
    return _scan(step, [q, k, v, g], v.shape[-1], scale, initial_state,
                 output_final_state)


naive_recurrent_simple_gla = naive_recurrent_gla


def naive_recurrent_linear_attn(
        q: Tensor, k: Tensor, v: Tensor, scale: float | None = None,
        initial_state: Tensor | tuple[Tensor, Tensor] | None = None,
        output_final_state: bool = False) -> tuple[Tensor, Tensor | None]:
    """S = S + k v^T, not normalised."""
    def step(S, q, k, v):
        return S + _outer(k, v), q
    return _scan(step, [q, k, v], v.shape[-1], scale, initial_state,
                 output_final_state)


def naive_recurrent_retention(
        q: Tensor, k: Tensor, v: Tensor, scale: float | None = None,
        initial_state: Tensor | None = None, output_final_state: bool = False
) -> tuple[Tensor, Tensor | None]:
    """naive_recurrent_gla with RetNet's log-decays, one a head."""
    from ._linear import retention_decay
    g = retention_decay(q.shape[2], q.device).expand(q.shape[:3])
    return naive_recurrent_gla(q, k, v, g, scale, initial_state,
                               output_final_state)


__all__ = [
    "naive_gate", "naive_l2norm", "naive_recurrent_comba",
    "naive_recurrent_delta_rule", "naive_recurrent_dplr_delta_rule",
    "naive_recurrent_gated_delta_product",
    "naive_recurrent_gated_delta_rule", "naive_recurrent_gdn2",
    "naive_recurrent_gla", "naive_recurrent_iplr_delta_rule",
    "naive_recurrent_kda", "naive_recurrent_linear_attn",
    "naive_recurrent_retention", "naive_recurrent_rwkv7",
    "naive_recurrent_simple_gla",
]
