# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The recurrences in float64, token by token: what errors are measured against.

`token_loop` spells every step in PyTorch. `run` does the same in one Triton
kernel, fast enough for every head of the largest shape; `check` compares them.
"""

import functools

import torch

from .problems import INPUTS, Problem, default_scale, gate_name, make_inputs


def token_loop(recurrence, inputs, state=None):
    """Outputs [B, T, H, V] and the final state [B, H, K, V], float64, from
    inputs by name and an initial state (None: zero)."""
    x = {name: value.double() for name, value in inputs.items()}
    q = x["r"] if recurrence == "rwkv7" else x["q"]
    k, v = x["k"], x["v"]
    B, T, H, K = k.shape
    S = torch.zeros(B, H, K, v.shape[-1], dtype=torch.float64, device=k.device)
    if state is not None:
        S = state.double().clone()
    gate = gate_name(recurrence)
    outs = []
    for t in range(T):
        decay = 1.0
        if gate:
            decay = x[gate][:, t].exp()
            decay = decay[..., None] if decay.dim() == 3 else decay[..., None,
                                                                    None]
        if "a" in x:
            read = torch.einsum("bhk,bhkv->bhv", x["a"][:, t], S)
            S = decay * S + x["b"][:, t, :, :, None] * read[:, :, None, :]
            write = v[:, t]
        else:
            S = decay * S
            write = v[:, t]
        if "beta" in x:
            found = torch.einsum("bhk,bhkv->bhv", k[:, t], S)
            write = x["beta"][:, t, :, None] * (v[:, t] - found)
        S = S + k[:, t, :, :, None] * write[:, :, None, :]
        outs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S))
    out = torch.stack(outs, 1) * default_scale(recurrence, K)
    return out, S


@functools.cache
def _kernel():
    import triton
    import triton.language as tl

    @triton.jit
    def recurrence(q, k, v, a, b, g, beta, s0, o, st, T, H,
                   K: tl.constexpr, V: tl.constexpr, BV: tl.constexpr,
                   GATE: tl.constexpr, LOW_RANK: tl.constexpr,
                   BETA: tl.constexpr, STATE: tl.constexpr):
        i_v, i_bh = tl.program_id(0), tl.program_id(1).to(tl.int64)
        i_b, i_h = i_bh // H, i_bh % H
        row = tl.arange(0, K)
        col = i_v * BV + tl.arange(0, BV)
        tile = i_bh * K * V + row[:, None] * V + col[None, :]
        S = tl.zeros((K, BV), dtype=tl.float64)
        if STATE:
            S += tl.load(s0 + tile).to(tl.float64)
        for t in range(T):
            at = (i_b * T + t) * H + i_h
            bk = tl.load(k + at * K + row).to(tl.float64)
            bq = tl.load(q + at * K + row).to(tl.float64)
            bv = tl.load(v + at * V + col).to(tl.float64)
            if LOW_RANK:
                ba = tl.load(a + at * K + row).to(tl.float64)
                bb = tl.load(b + at * K + row).to(tl.float64)
                read = tl.sum(ba[:, None] * S, 0)
            if GATE == 1:
                S *= tl.exp(tl.load(g + at).to(tl.float64))
            if GATE == 2:
                S *= tl.exp(tl.load(g + at * K + row).to(tl.float64))[:, None]
            if LOW_RANK:
                S += bb[:, None] * read[None, :]
            if BETA:
                found = tl.sum(bk[:, None] * S, 0)
                bv = tl.load(beta + at).to(tl.float64) * (bv - found)
            S += bk[:, None] * bv[None, :]
            tl.store(o + at * V + col, tl.sum(bq[:, None] * S, 0))
        if STATE:
            tl.store(st + tile, S)

    return recurrence


def run(recurrence, inputs, state=None):
    """As `token_loop`, on a GPU; K and V must be powers of two. The final state
    is None without an initial one."""
    x = {name: value.contiguous() for name, value in inputs.items()}
    q = x["r"] if recurrence == "rwkv7" else x["q"]
    k, v = x["k"], x["v"]
    B, T, H, K = k.shape
    V = v.shape[-1]
    gate = gate_name(recurrence)
    out = torch.empty(B, T, H, V, dtype=torch.float64, device=k.device)
    final = None if state is None else torch.empty_like(state,
                                                        dtype=torch.float64)
    columns = 8
    _kernel()[(V // columns, B * H)](
        q, k, v, x.get("a", k), x.get("b", k), x[gate] if gate else k,
        x.get("beta", k), k if state is None else state, out,
        out if final is None else final, T, H, K=K, V=V, BV=columns,
        GATE=0 if not gate else 1 if x[gate].dim() == 3 else 2,
        LOW_RANK="a" in x, BETA="beta" in x, STATE=state is not None,
        num_warps=1)
    # Here, not there: Triton takes a float argument as float32.
    out *= default_scale(recurrence, K)
    return out, final


def relative_error(x, reference):
    """The norm of the difference over the norm of the reference; None when
    something is not finite."""
    difference = total = 0.0
    for part, expected in zip(x, reference):  # by batch: float64 is large
        difference += float((part.double() - expected).square().sum())
        total += float(expected.square().sum())
    error = (difference / total) ** 0.5 if total else difference ** 0.5
    return error if error < float("inf") else None


def check(device):
    """Compares `run` with `token_loop` on small inputs; the largest error."""
    worst = 0.0
    for name in INPUTS:
        problem = Problem(name, 2, 17, 2, 32, 16, "decode")
        inputs, state = make_inputs(problem, "strong", device, seed=1)
        for x, expected in zip(run(name, inputs, state),
                               token_loop(name, inputs, state)):
            error = relative_error(x, expected)
            worst = max(worst, float("inf") if error is None else error)
    return worst
