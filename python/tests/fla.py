# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""How fla's own tests draw their inputs, and how results are compared: a function
for every operator gives what a case of `fla_cases.py` needs."""

import os

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from deltac import ops
from deltac.ops import naive

from .test_ops import Inputs, assert_close

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
FULL = os.environ.get("DELTA_FULL", "0") not in ("", "0")

# RMS of the difference over the RMS of the reference; "d": of gradients.
LOOSE_GATES = {"o": .005, "final_state": .005, "d": .008, "dg": .02,
               "dbeta": .02}


class Draw(Inputs):
    """Inputs of a case, whose sizes are those of fla or fewer."""

    def __init__(self, B, T, H, D, dtype, few=None, HV=None, V=None):
        self.groups = (HV or H) // H
        if not FULL or few:
            most, tokens = few or (2, 150)
            B, H = min(B, 2 if most > 1 else 1), min(H, most)
            # As many tokens over the last chunk as there were.
            T = T if T <= tokens else (tokens // 64) * 64 + T % 64
        elif T > 4096:
            H = min(H, 8)  # of 96, for which the loop would take an hour
        super().__init__(B, T, H * self.groups, D, dtype, V=V)
        self.per_query = (B, T, H, D)

    def grouped(self, x):
        """Heads of q and k for the values that share them."""
        return x.repeat_interleave(self.groups, 2) if self.groups > 1 else x

    def pair(self, random=None, normalized=True):
        """q and k."""
        found = [(random or self.normal)(*self.per_query) for _ in range(2)]
        if normalized:
            found = [F.normalize(x, dim=-1) for x in found]
        return [self.grouped(x.to(self.dtype)) for x in found]

    def values(self, random=None):
        return (random or self.normal)(*self.shape[:3], self.V).to(self.dtype)

    def strength(self):
        return self.uniform(*self.shape[:3]).sigmoid().to(self.dtype)

    def reading(self):
        return F.normalize(self.uniform(*self.shape), dim=-1).to(self.dtype)


def gradients(function, arrays, h0, do, dht):
    """Outs, final states and gradients by name."""
    leaves = {name: x.detach().clone().requires_grad_()
              for name, x in arrays.items()}
    h0 = h0.detach().clone().requires_grad_()
    o, final = function(**leaves, initial_state=h0, output_final_state=True)
    torch.autograd.backward([o, final], [do.to(o.dtype), dht.to(final.dtype)])
    found = {f"d{name}": torch.zeros_like(x) if x.grad is None else x.grad
             for name, x in leaves.items()}
    return {"o": o.detach(), "final_state": final.detach(), **found,
            "dh0": h0.grad}


def in_parts(reference, T, size=128):
    """A loop whose states autograd does not keep: they are computed again, some
    tokens at a time."""
    def run(initial_state, output_final_state, **arrays):
        outs, state = [], initial_state
        for begin in range(0, T, size):
            # Params have at most two axes; micro-steps stand behind each other.
            part = {name: x if x.dim() < 3 else
                    x[:, begin * (x.shape[1] // T):
                      (begin + size) * (x.shape[1] // T)]
                    for name, x in arrays.items()}
            o, state = checkpoint(
                lambda state, part: reference(**part, initial_state=state,
                                              output_final_state=True),
                state, part, use_reentrant=False)
            outs.append(o)
        return torch.cat(outs, 1), state
    return run


def add_gate(draw, arrays, per_channel, A_log=True, dt_bias=True, steep=False):
    """Raw gates, and the params that make log-decays of them in the kernel."""
    H, D = draw.shape[2:]
    arrays["g"] = draw.normal(*draw.shape[:4 if per_channel else 3])
    if A_log:
        arrays["A_log"] = ((1 + 15 * draw.uniform(H)).log() if steep
                           else draw.normal(H))
    if dt_bias:
        arrays["dt_bias"] = draw.normal(H * D if per_channel else H)


def outside(reference, l2=False, gate=False, sigmoid=False, doubled=False,
            bound=None, norms=("q", "k"), **fixed):
    """The naive reference with the kernel's options before it."""
    def run(A_log=None, dt_bias=None, **x):
        if l2:
            x |= {name: naive.naive_l2norm(x[name]) for name in norms}
        if gate:
            x["g"] = naive.naive_gate(x["g"], A_log, dt_bias, bound)
        if sigmoid:
            x["beta"] = (2 if doubled else 1) * x["beta"].sigmoid()
        return reference(**x, **fixed)
    return run


def compare(draw, op, reference, arrays, bars, with_gradients=True):
    """All results against the reference in float64 (float32 at full size, as
    fla does)."""
    h0 = draw.state()
    if arrays.keys() == {"q", "k", "v", "a", "b"}:
        h0 = 0 * h0  # as fla has it for IPLR
    do, dht = draw.normal(*draw.shape[:3], draw.V), draw.state()
    wide = torch.float32 if FULL else torch.float64
    widened = {name: x.to(wide) for name, x in arrays.items()}
    if with_gradients:
        if FULL:
            reference = in_parts(reference, draw.shape[1])
        expected = gradients(reference, widened, h0.to(wide), do, dht)
        got = gradients(op, arrays, h0, do, dht)
    else:
        with torch.no_grad():
            expected, got = (
                dict(zip(("o", "final_state"), function(
                    **given, initial_state=state, output_final_state=True)))
                for function, given, state in (
                    (reference, widened, h0.to(wide)), (op, arrays, h0)))
    for name, value in expected.items():
        assert_close(name, value, got[name], bars.get(name, bars["d"]))


# --- The cases of every operator ---------------------------------------------
# Each gives a draw, the operator and the reference over the same arrays, the
# arrays by name, and bars.

def parity(style, B, T, H, D, dtype, chunk, few=None):
    """DPLR with gates of one of TileLang's styles, in the type of the vectors; a
    number pins all of them there."""
    draw = Draw(B, T, H, D, dtype, few)
    q, k = draw.pair(normalized=False)
    v, a = draw.values(), draw.reading()
    logits = draw.normal(*draw.shape)
    bound = -0.61 if chunk == 64 else None
    match style:
        case "standard":
            gk = F.logsigmoid(logits).clamp(-5, 0)
        case "saturated":
            gk = (F.logsigmoid(logits) / 0.6).clamp(-5, 0)
        case "rwkv7":
            gk = -0.61 * (5 * logits).sigmoid()
        case _:
            gk = torch.full(draw.shape, float(style))
            bound = style if chunk == 64 else None
    return (draw, lambda **x: ops.chunk_dplr_delta_rule(
                **x, chunk_size=chunk, lower_bound=bound, safe_gate=True),
            naive.naive_recurrent_dplr_delta_rule,
            {"q": q, "k": k, "v": v, "a": a, "b": -a, "gk": gk.to(dtype)},
            {"o": .007, "final_state": .008, "d": .008})


def dplr(B, T, H, D, mask, norm, bound, scale, chunk, few=None):
    draw = Draw(B, T, H, D, F16, few)
    q, k = draw.pair(normalized=False)
    v, a = draw.values(), draw.reading()
    gk = draw.gate(draw.shape, norm, mask, bound)
    bars = {"o": .007, "final_state": .008, "d": .008}
    if norm < 1:
        # fla does not look at this gradient, which is small and sums much.
        bars["dgk"] = .05
    return (draw, lambda **x: ops.chunk_dplr_delta_rule(
                **x, scale=scale, chunk_size=chunk, lower_bound=bound,
                safe_gate=bound is not None),
            lambda **x: naive.naive_recurrent_dplr_delta_rule(**x, scale=scale),
            {"q": q, "k": k, "v": v, "a": a, "b": -a, "gk": gk}, bars)


def fused_dplr(B, T, H, D, scale, few=None):
    draw = Draw(B, T, H, D, F32, few)
    q, k = draw.pair(normalized=False)
    a = draw.reading()
    return (draw, lambda **x: ops.fused_recurrent_dplr_delta_rule(
                **x, scale=scale),
            lambda **x: naive.naive_recurrent_dplr_delta_rule(**x, scale=scale),
            {"q": q, "k": k, "v": draw.values(), "a": a, "b": -a,
             "gk": draw.gate(draw.shape, 4)},
            {"o": .002, "final_state": .002, "d": .002})


def iplr(form, B, T, H, D, scale, dtype, chunk=None, few=None):
    draw = Draw(B, T, H, D, dtype, few)
    q, k = draw.pair(normalized=False)
    a = draw.reading()
    op = getattr(ops, f"{form}_iplr_delta_rule")
    options = {"chunk_size": chunk} if chunk else {}
    bars = {"o": .003, "final_state": .003, "d": .003}
    if dtype == F16:
        bars = {"o": .007, "final_state": .008, "d": .008}
    return (draw, lambda **x: op(**x, scale=scale, **options),
            lambda **x: naive.naive_recurrent_iplr_delta_rule(**x, scale=scale),
            {"q": q, "k": k, "v": draw.values(), "a": a, "b": -a}, bars)


def kda(form, B, T, H, HV, D, scale, norm, mask, l2, gate, dtype, bound=None,
        chunk=None, A_log=True, dt_bias=True, sigmoid=False, doubled=False,
        few=None):
    draw = Draw(B, T, H, D, dtype, few, HV)
    q, k = draw.pair(draw.uniform, normalized=not l2)
    arrays = {"q": q, "k": k, "v": draw.values(draw.uniform)}
    if gate:
        add_gate(draw, arrays, True, A_log, dt_bias, form == "fused_recurrent")
    else:
        arrays["g"] = draw.gate(draw.shape, norm, mask, bound)
    beta = draw.normal(*draw.shape[:3])
    arrays["beta"] = (beta if sigmoid else beta.sigmoid()).to(dtype)
    op = getattr(ops, f"{form}_kda")
    options = {"chunk_size": chunk} if chunk else {}
    bars = {**LOOSE_GATES, "dA_log": .02, "ddt_bias": .008}
    if form == "fused_recurrent" and gate:
        bars |= {"o": .002, "final_state": .002}
    return (draw, lambda **x: op(
                **x, scale=scale, use_qk_l2norm_in_kernel=l2,
                use_gate_in_kernel=gate, lower_bound=bound,
                use_beta_sigmoid_in_kernel=sigmoid, allow_neg_eigval=doubled,
                **options),
            outside(naive.naive_recurrent_kda, l2, gate, sigmoid, doubled,
                    bound, scale=scale), arrays, bars)


def gdn(form, B, T, H, HV, D, scale, norm, mask, l2, dtype, chunk=None,
        bars=None, gate=False, dt_bias=True, sigmoid=False, doubled=False,
        few=None):
    draw = Draw(B, T, H, D, dtype, few, HV)
    q, k = draw.pair(draw.uniform if gate or sigmoid else None,
                     normalized=not l2)
    arrays = {"q": q, "k": k, "v": draw.values(),
              "g": draw.gate(draw.shape[:3], norm, mask),
              "beta": draw.strength()}
    if gate:
        add_gate(draw, arrays, False, True, dt_bias)
    if sigmoid:
        arrays["beta"] = draw.normal(*draw.shape[:3])
    op = getattr(ops, f"{form}_gated_delta_rule")
    options = {"chunk_size": chunk} if chunk else {}
    return (draw, lambda **x: op(
                **x, scale=scale, use_qk_l2norm_in_kernel=l2,
                use_gate_in_kernel=gate, use_beta_sigmoid_in_kernel=sigmoid,
                allow_neg_eigval=doubled, **options),
            outside(naive.naive_recurrent_gated_delta_rule, l2, gate, sigmoid,
                    doubled, scale=scale), arrays,
            bars or {**LOOSE_GATES, "dA_log": .02, "ddt_bias": .02})


def gdn2(form, B, T, H, K, V, scale, l2, gate, bound, dtype, A_log=True,
         dt_bias=True, few=None):
    draw = Draw(B, T, H, K, dtype, few, V=V)
    q, k = draw.pair(normalized=not l2)
    arrays = {"q": q, "k": k, "v": draw.values()}
    if gate:
        add_gate(draw, arrays, True, A_log, dt_bias)
    else:
        arrays["g"] = draw.gate(draw.shape)
    arrays |= {"b": draw.normal(*draw.shape).sigmoid().to(dtype),
               "w": draw.values().float().sigmoid().to(dtype)}
    op = getattr(ops, f"{form}_gdn2")
    return (draw, lambda **x: op(
                **x, scale=scale, use_qk_l2norm_in_kernel=l2,
                use_gate_in_kernel=gate, lower_bound=bound),
            outside(naive.naive_recurrent_gdn2, l2, gate, bound=bound,
                    scale=scale), arrays,
            {"o": .005, "final_state": .005, "d": .01, "dg": .02, "db": .02,
             "dw": .02, "dA_log": .02})


def delta(B, T, H, D, scale, l2, dtype=F16, chunk=None, few=None):
    draw = Draw(B, T, H, D, dtype, few)
    q, k = draw.pair(normalized=not l2)
    return (draw, lambda **x: ops.chunk_delta_rule(
                **x, scale=scale, use_qk_l2norm_in_kernel=l2,
                chunk_size=chunk),
            outside(naive.naive_recurrent_delta_rule, l2, scale=scale),
            {"q": q, "k": k, "v": draw.values(), "beta": draw.strength()},
            {"o": .006, "final_state": .006, "d": .008})


def comba(form, B, T, H, D, scale, norm, mask, l2, dtype, few=None):
    draw = Draw(B, T, H, D, dtype, few)
    q, k = draw.pair(normalized=not l2)
    bars = {"o": .005, "final_state": .005, "d": .008, "dg": .02}
    if form == "fused_recurrent":
        bars = {"o": .002, "final_state": .002, "d": .005}
    p = F.normalize(k.float() + draw.normal(*draw.shape) / 4, dim=-1)
    op = getattr(ops, f"{form}_comba")
    return (draw, lambda **x: op(**x, scale=scale, use_qk_l2norm_in_kernel=l2),
            outside(naive.naive_recurrent_comba, l2, norms=("q", "k", "p"),
                    scale=scale),
            {"q": q, "k": k, "v": draw.values(), "p": p.to(dtype),
             "g": draw.gate(draw.shape[:3], norm, mask),
             "beta": draw.strength()}, bars)


def product(B, T, H, D, scale, n, norm=None, mask=0, l2=False, few=None):
    """Without a norm of gates there are none."""
    draw = Draw(B, T, H, D, F16, few)
    B, T, H, D = draw.shape
    q = draw.normal(B, T, H, D)
    k, v = draw.normal(B, T * n, H, D), draw.normal(B, T * n, H, D)
    if not l2:
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    arrays = {"q": q.to(F16), "k": k.to(F16), "v": v.to(F16),
              "beta": draw.uniform(B, T * n, H).sigmoid().to(F16)}
    fixed = {"num_householder": n, "scale": scale}
    if norm is None:
        fixed["g"] = None
    else:
        arrays["g"] = draw.gate((B, T, H), norm, mask)
    return (draw, lambda **x: ops.chunk_gated_delta_product(
                **x, **fixed, use_qk_l2norm_in_kernel=l2),
            outside(naive.naive_recurrent_gated_delta_product, l2, **fixed),
            arrays, LOOSE_GATES)


def linear(rule, form, B, T, H, K, V, scale, dtype, chunk=None, few=None):
    """Linear attention, not normalised, and retention."""
    draw = Draw(B, T, H, K, dtype, few, V=V)
    q, k = draw.pair(normalized=False)
    op = getattr(ops, f"{form}_{rule}")
    options = {"normalize": False} if rule == "linear_attn" else {}
    if chunk:
        options["chunk_size"] = chunk
    reference = getattr(naive, f"naive_recurrent_{rule}")
    return (draw, lambda **x: op(**x, scale=scale, **options),
            lambda **x: reference(**x, scale=scale),
            {"q": q, "k": k, "v": draw.values()},
            {"o": .005, "final_state": .005, "d": .005})


def gla(op, B, T, H, D, scale, norm, dtype, chunk=None, few=None):
    draw = Draw(B, T, H, D, dtype, few)
    q, k = draw.pair(normalized=False)
    shape = draw.shape[:3] if "simple" in op else draw.shape
    options = {"chunk_size": chunk} if chunk else {}
    gate = "gk" if op == "fused_recurrent_gla" else "g"

    def reference(g=None, gk=None, **rest):
        return naive.naive_recurrent_gla(g=gk if g is None else g, scale=scale,
                                         **rest)

    bars = {"o": .005, "final_state": .005, "d": .005}
    if op == "chunk_gla":
        bars["o"] = .004
    if dtype == BF16:
        bars = {"o": .01, "final_state": .01, "d": .01}
    return (draw, lambda **x: getattr(ops, op)(**x, scale=scale, **options),
            reference,
            {"q": q, "k": k, "v": draw.values(),
             gate: draw.gate(shape, norm).to(F32)}, bars)
