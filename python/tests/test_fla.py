# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The dense parametrisations of fla's own tests, with its metric and its bars.

Every case is held, forward and backward, final state and initial state included,
against the naive reference, on the CPU and, where the GPU's kernels take it, in
the simulator. That takes half an hour and is what DELTA_FULL=1 does. Otherwise
batches, heads and tokens are fewer, types and dims are not; the CPU runs every
case, every other one with gradients, and the simulator one of each operator.
Packed sequences are refused by `deltac.ops`; grouped heads are repeated outside.
"""

import os

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

import deltac  # noqa: E402
from deltac import ops  # noqa: E402
from deltac.ops import _common, _specs, naive  # noqa: E402

from .test_ops import Inputs, assert_close  # noqa: E402

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
FULL = os.environ.get("DELTA_FULL", "0") not in ("", "0")

# RMS of the difference over the RMS of the reference; "d": of gradients.
LOOSE_GATES = {"o": .005, "final_state": .005, "d": .008, "dg": .02,
               "dbeta": .02}


class Draw(Inputs):
    """Inputs of a case, whose sizes are those of fla or fewer."""

    def __init__(self, B, T, H, D, dtype, few=None, HV=None):
        self.groups = (HV or H) // H
        if not FULL or few:
            most, tokens = few or (2, 150)
            B, H = min(B, 2 if most > 1 else 1), min(H, most)
            # As many tokens over the last chunk as there were.
            T = T if T <= tokens else (tokens // 64) * 64 + T % 64
        super().__init__(B, T, H * self.groups, D, dtype)
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
        return (random or self.normal)(*self.shape).to(self.dtype)

    def reading(self):
        return F.normalize(self.uniform(*self.shape), dim=-1).to(self.dtype)


def gradients(function, arrays, h0, do, dht, at_once=True):
    """Outs, final states and gradients by name; sequence by sequence where a
    loop would keep too many states."""
    leaves = {name: x.detach().clone().requires_grad_()
              for name, x in arrays.items()}
    h0 = h0.detach().clone().requires_grad_()
    outs, finals = [], []
    for i in range(1 if at_once else len(do)):
        part = slice(None) if at_once else slice(i, i + 1)
        # Params, which have no batch, have at most two axes.
        o, final = function(**{name: x[part] if x.dim() > 2 else x
                               for name, x in leaves.items()},
                            initial_state=h0[part], output_final_state=True)
        torch.autograd.backward([o, final], [do[part].to(o.dtype),
                                             dht[part].to(final.dtype)])
        outs.append(o.detach())
        finals.append(final.detach())
    found = {f"d{name}": torch.zeros_like(x) if x.grad is None else x.grad
             for name, x in leaves.items()}
    return {"o": torch.cat(outs), "final_state": torch.cat(finals), **found,
            "dh0": h0.grad}


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
        expected = gradients(reference, widened, h0.to(wide), do, dht,
                             at_once=not FULL)
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
        chunk=None, few=None):
    draw = Draw(B, T, H, D, dtype, few, HV)
    q, k = draw.pair(draw.uniform, normalized=not l2)
    H = draw.shape[2]
    g = (draw.normal(*draw.shape) if gate
         else draw.gate(draw.shape, norm, mask, bound))
    arrays = {"q": q, "k": k, "v": draw.values(draw.uniform), "g": g,
              "beta": draw.normal(*draw.shape[:3]).sigmoid().to(dtype)}
    if gate:
        arrays |= {"A_log": draw.normal(H), "dt_bias": draw.normal(H * D)}
    op = getattr(ops, f"{form}_kda")
    options = {"chunk_size": chunk} if chunk else {}

    def reference(q, k, v, g, beta, A_log=None, dt_bias=None, **rest):
        if l2:
            q, k = naive.naive_l2norm(q), naive.naive_l2norm(k)
        if gate:
            g = naive.naive_gate(g, A_log, dt_bias, bound)
        return naive.naive_recurrent_kda(q, k, v, g, beta, scale=scale, **rest)

    return (draw, lambda **x: op(
                **x, scale=scale, use_qk_l2norm_in_kernel=l2,
                use_gate_in_kernel=gate, lower_bound=bound, **options),
            reference, arrays, {**LOOSE_GATES, "dA_log": .02, "ddt_bias": .008})


def gdn(form, B, T, H, HV, D, scale, norm, mask, l2, dtype, chunk=None,
        bars=None, few=None):
    draw = Draw(B, T, H, D, dtype, few, HV)
    q, k = draw.pair(normalized=not l2)
    arrays = {"q": q, "k": k, "v": draw.values(),
              "g": draw.gate(draw.shape[:3], norm, mask),
              "beta": draw.uniform(*draw.shape[:3]).sigmoid().to(dtype)}
    op = getattr(ops, f"{form}_gated_delta_rule")
    options = {"chunk_size": chunk} if chunk else {}

    def reference(q, k, **rest):
        if l2:
            q, k = naive.naive_l2norm(q), naive.naive_l2norm(k)
        return naive.naive_recurrent_gated_delta_rule(q, k, **rest, scale=scale)

    return (draw, lambda **x: op(**x, scale=scale, use_qk_l2norm_in_kernel=l2,
                                 **options),
            reference, arrays, bars or LOOSE_GATES)


def delta(B, T, H, D, scale, l2, dtype=F16, chunk=None, few=None):
    draw = Draw(B, T, H, D, dtype, few)
    q, k = draw.pair(normalized=not l2)

    def reference(q, k, **rest):
        if l2:
            q, k = naive.naive_l2norm(q), naive.naive_l2norm(k)
        return naive.naive_recurrent_delta_rule(q, k, **rest, scale=scale)

    return (draw, lambda **x: ops.chunk_delta_rule(
                **x, scale=scale, use_qk_l2norm_in_kernel=l2,
                chunk_size=chunk), reference,
            {"q": q, "k": k, "v": draw.values(),
             "beta": draw.uniform(*draw.shape[:3]).sigmoid().to(dtype)},
            {"o": .006, "final_state": .006, "d": .008})


def comba(form, B, T, H, D, scale, norm, mask, dtype, few=None):
    draw = Draw(B, T, H, D, dtype, few)
    q, k = draw.pair()
    bars = {"o": .005, "final_state": .005, "d": .008, "dg": .02}
    if form == "fused_recurrent":
        bars = {"o": .002, "final_state": .002, "d": .005}
    p = F.normalize(k.float() + draw.normal(*draw.shape) / 4, dim=-1)
    op = getattr(ops, f"{form}_comba")
    return (draw, lambda **x: op(**x, scale=scale),
            lambda **x: naive.naive_recurrent_comba(**x, scale=scale),
            {"q": q, "k": k, "v": draw.values(), "p": p.to(dtype),
             "g": draw.gate(draw.shape[:3], norm, mask),
             "beta": draw.uniform(*draw.shape[:3]).sigmoid().to(dtype)}, bars)


def product(B, T, H, D, scale, n, l2=False, few=None):
    draw = Draw(B, T, H, D, F16, few)
    B, T, H, D = draw.shape
    q = draw.normal(B, T, H, D)
    k, v = draw.normal(B, T * n, H, D), draw.normal(B, T * n, H, D)
    if not l2:
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)

    def reference(q, k, **rest):
        if l2:
            q, k = naive.naive_l2norm(q), naive.naive_l2norm(k)
        return naive.naive_recurrent_gated_delta_product(
            q, k, **rest, num_householder=n, scale=scale)

    return (draw, lambda **x: ops.chunk_gated_delta_product(
                **x, num_householder=n, scale=scale,
                use_qk_l2norm_in_kernel=l2), reference,
            {"q": q.to(F16), "k": k.to(F16), "v": v.to(F16),
             "g": draw.gate((B, T, H)),
             "beta": draw.uniform(B, T * n, H).sigmoid().to(F16)}, LOOSE_GATES)


def gla(op, B, T, H, D, norm, dtype, chunk=None, few=None):
    draw = Draw(B, T, H, D, dtype, few)
    q, k = draw.pair(normalized=False)
    shape = draw.shape[:3] if "simple" in op else draw.shape
    options = {"chunk_size": chunk} if chunk else {}
    gate = "gk" if op == "fused_recurrent_gla" else "g"

    def reference(g=None, gk=None, **rest):
        return naive.naive_recurrent_gla(g=gk if g is None else g, **rest)

    bars = {"o": .005, "final_state": .005, "d": .005}
    if op == "chunk_gla":
        bars["o"] = .004
    if dtype == BF16:
        bars = {"o": .01, "final_state": .01, "d": .01}
    return (draw, lambda **x: getattr(ops, op)(**x, **options), reference,
            {"q": q, "k": k, "v": draw.values(),
             gate: draw.gate(shape, norm).to(F32)}, bars)


CASES = {
    "dplr": (dplr, [
        (1, 63, 1, 64, 0, 1, -5, 1, 16), (2, 1000, 3, 60, 0, 1, -5, 1, 16),
        (2, 1024, 3, 64, .5, 1, -5, 1, 16), (2, 1024, 4, 100, 0, .1, -5, 1, 16),
        (2, 1024, 4, 100, 0, .1, -.61, 1, 64),
        (2, 1024, 4, 128, .5, 1, None, .1, 16),
        (2, 1024, 4, 128, 0, 10, None, .1, 16),
        (2, 100, 3, 60, 0, 1, None, 1, 32), (2, 200, 3, 64, 0, 1, None, 1, 64)]),
    "fused_dplr": (fused_dplr, [
        (1, 63, 1, 64, 1), (2, 1024, 4, 60, 1), (2, 1024, 8, 100, 1),
        (2, 1024, 8, 128, .1), (4, 2048, 8, 64, .1)]),
    "iplr": (iplr, [
        *(("fused_recurrent", *sizes, F32) for sizes in [
            (1, 63, 1, 64, 1), (2, 1024, 4, 60, 1), (2, 1024, 8, 100, 1),
            (2, 1024, 8, 128, .1), (4, 2048, 8, 64, .1)]),
        *(("chunk", *sizes, F16) for sizes in [
            (1, 63, 1, 64, 1), (2, 500, 3, 60, 1), (2, 1000, 3, 64, .1),
            (2, 1024, 4, 100, 1), (3, 1024, 4, 128, .1), (4, 2048, 8, 64, .1)]),
        *(("chunk", 1, 64, 2, 32, .1, F32, C) for C in (16, 32, 64))]),
    "kda": (kda, [
        *(("chunk", *x) for x in [
            (1, 63, 1, 1, 64, 1, 1, 0, False, False, F16, -5),
            (2, 500, 3, 3, 60, 1, 1, 0, False, False, F16, -5),
            (2, 1000, 3, 3, 64, .1, 1, .5, False, False, F16),
            (3, 1024, 4, 4, 100, 1, .1, 0, False, False, F16),
            (4, 1024, 4, 4, 128, .1, 1, 0, False, False, F16, -5),
            (4, 1024, 4, 4, 128, .1, 1, 0, True, False, F16, -5),
            (2, 1500, 4, 4, 128, .1, 10, 0, False, True, F16),
            (4, 2048, 8, 8, 64, .1, 1, 0, False, True, F16, -5),
            (2, 1024, 2, 4, 64, .1, 1, 0, False, False, F16),
            (2, 1024, 2, 8, 64, .1, 1, 0, False, True, F16),
            (2, 1024, 4, 8, 128, .1, 1, 0, True, True, F16),
            (2, 160, 2, 4, 64, .1, 1, 0, False, True, F16, -5, 32),
            (2, 1024, 2, 4, 64, .1, 1, 0, True, True, BF16, -5),
            (2, 1024, 2, 4, 64, .1, 1, 0, False, True, BF16),
            (2, 160, 2, 4, 64, .1, 1, 0, False, True, BF16, -5, 32),
            (2, 1024, 2, 8, 128, .1, 1, 0, True, True, BF16)]),
        *(("fused_recurrent", *x) for x in [
            (1, 64, 1, 1, 64, 1, 1, 0, False, False, F32),
            (2, 512, 3, 3, 60, 1, 1, 0, False, False, F32),
            (3, 1000, 4, 4, 100, .1, 1, 0, True, False, F32),
            (4, 1024, 4, 4, 128, .1, 1, 0, False, False, F32),
            (2, 512, 2, 4, 60, 1, 1, 0, False, False, F32),
            (2, 1024, 2, 8, 128, .1, 1, 0, True, False, F32)])]),
    "gdn": (gdn, [
        *(("fused_recurrent", *x) for x in [
            (1, 63, 1, 1, 64, 1, 1, 0, False, F32),
            (2, 500, 4, 4, 60, 1, 1, 0, False, F32),
            (2, 1000, 2, 8, 128, 1, .1, 0, False, F32),
            (3, 1024, 2, 2, 128, .1, 1, 0, False, F32),
            (4, 1024, 3, 3, 128, 1, 10, 0, False, F32),
            (4, 2048, 4, 4, 64, .1, 1, 0, False, F32),
            (2, 1024, 4, 4, 128, 1, .1, 0, False, F16),
            (2, 1024, 4, 8, 128, 1, 10, 0, False, F16)]),
        *(("chunk", *x, F16) for x in [
            (4, 1024, 4, 4, 128, .1, 1, 1.0, False),
            (2, 75, 4, 4, 64, 1, .01, 0, False),
            (2, 500, 3, 3, 60, 1, 1, 0, False),
            (2, 1000, 3, 3, 64, .1, 1, .5, False),
            (3, 1024, 4, 4, 100, 1, .1, 0, False),
            (4, 1024, 4, 4, 128, .1, 1, 0, True),
            (2, 1500, 4, 4, 128, .1, 10, 0, False),
            (4, 2048, 8, 8, 64, .1, 1, 0, False),
            (2, 256, 2, 4, 64, 1, 1, 0, False),
            (2, 512, 2, 8, 64, 1, .1, 0, True),
            (2, 1024, 4, 8, 128, .1, 1, 0, False)]),
        *(("chunk", 1, 64, 2, 4, 32, .1, 1, 0, False, F32, C,
           {**LOOSE_GATES, "dg": .01, "dbeta": .01}) for C in (16, 32, 64))]),
    "delta": (delta, [
        (1, 63, 1, 64, 1, False), (2, 100, 4, 60, .1, False),
        (2, 1000, 3, 128, .1, False), (2, 1024, 4, 128, 1, True),
        (3, 2000, 4, 128, .1, False), (4, 2048, 8, 64, .1, False),
        *((1, 64, 2, 32, .1, False, BF16, C) for C in (16, 32, 64))]),
    "comba": (comba, [
        *(("chunk", *x, F16) for x in [
            (1, 63, 1, 64, 1, 1, 0), (2, 1000, 3, 60, 1, 1, 0),
            (2, 1024, 3, 64, .1, 1, .5), (2, 1024, 4, 100, 1, .1, 0),
            (2, 1024, 4, 128, .1, 1, 0), (2, 1024, 4, 128, .1, .1, 0),
            (2, 1024, 4, 128, .1, 10, 0), (4, 2048, 8, 64, .1, 1, 0)]),
        ("fused_recurrent", 1, 63, 1, 64, 1, 1, 0, F32),
        ("fused_recurrent", 2, 500, 4, 60, 1, 1, 0, F32),
        ("fused_recurrent", 2, 1000, 2, 128, 1, .1, 0, F32)]),
    "product": (product, [
        (1, 63, 1, 64, .1, 1), (2, 200, 3, 60, .1, 1), (2, 1000, 4, 64, .1, 2),
        (2, 1024, 4, 64, 1, 2, True), (2, 1024, 6, 100, 1, 2),
        (4, 1500, 8, 128, .1, 3), (2, 2048, 8, 128, 1, 3),
        (2, 2048, 8, 128, 1, 3, True)]),
    "gla": (gla, [
        ("chunk_gla", 1, 63, 1, 64, 1, F16), ("chunk_gla", 2, 1024, 4, 60, 1, F16),
        ("chunk_gla", 2, 1024, 8, 128, .1, F16),
        ("chunk_gla", 2, 1024, 8, 128, 1, F16),
        ("chunk_gla", 2, 1024, 8, 128, 10, F16),
        ("chunk_gla", 4, 2048, 8, 64, 1, F16),
        ("chunk_gla", 1, 128, 4, 256, 1, F16), ("chunk_gla", 1, 64, 2, 320, 1, F16),
        ("chunk_gla", 1, 128, 4, 512, 1, BF16),
        ("fused_recurrent_gla", 1, 63, 1, 64, 1, F32),
        ("fused_recurrent_gla", 2, 1024, 4, 60, 1, F32),
        ("fused_recurrent_gla", 2, 1024, 8, 128, .1, F16),
        ("chunk_simple_gla", 1, 63, 1, 64, 1, F16),
        ("chunk_simple_gla", 2, 1024, 4, 60, 1, F16),
        ("chunk_simple_gla", 2, 1024, 8, 128, .1, F16),
        ("chunk_simple_gla", 4, 2048, 8, 64, 1, F16),
        *(("chunk_simple_gla", 1, 64, 2, 32, 1, F32, C) for C in (16, 32, 64)),
        ("fused_recurrent_simple_gla", 2, 500, 4, 60, 1, F32)]),
}


def parametrize(keeps=lambda name, case: True):
    return [pytest.param(name, case, id=f"{name}-" + "-".join(
        str(x).removeprefix("torch.") for x in case if not isinstance(x, dict)))
        for name, (_, cases) in CASES.items() for case in cases
        if keeps(name, case)]


ORDER = {param.id: i for i, param in enumerate(parametrize())}


@pytest.mark.parametrize("name, case", parametrize())
def test_cpu(name, case, request):
    number = ORDER[request.node.callspec.id]
    compare(*CASES[name][0](*case), with_gradients=FULL or number % 2 == 0)


def gpu_takes(name, case):
    """The GPU's kernels have up to 128 channels and chunks of 16; without
    DELTA_FULL, the first such case of an operator."""
    def fits(case):
        return ("fused" not in f"{name} {case[0]}"
                and max(x for x in case[3:6] if isinstance(x, int)) <= 128)
    return fits(case) and (FULL or case == next(filter(fits, CASES[name][1])))


@pytest.mark.parametrize("name, case", parametrize(gpu_takes))
def test_simulator(name, case, monkeypatch):
    def find(rule, fn, chunk, options):
        text = _specs._RULES[rule](**dict(options))
        return deltac.recurrence(text, fn=fn, device="sim")

    monkeypatch.setattr(_common, "find", find)
    try:
        compare(*CASES[name][0](*case, few=(1, 80)))
    except deltac.CompileError as error:
        # 128 channels are too many for some in tf32, float16's precision.
        if "bytes of shared memory a CTA, and sm_90a has" not in str(error) \
                or name not in ("dplr", "product") or 128 not in case:
            raise
        pytest.skip(str(error).splitlines()[0])


@pytest.mark.parametrize("T", [1, 1024])
@pytest.mark.parametrize("scale", [None, 1])
def test_rwkv7_from_rates(T, scale):
    """fused_mul against fused DPLR, from inputs between -8 and -6."""
    draw = Draw(2, T, 1, 64, F32)
    r, w, k, v = (-6 - 2 * draw.uniform(*draw.shape) for _ in range(4))
    kk, rate = draw.reading(), draw.uniform(*draw.shape)
    w = -0.6065306597126334 * w.sigmoid()
    with torch.no_grad():
        options = {"scale": scale, "initial_state": draw.state(),
                   "output_final_state": True}
        expected = ops.fused_recurrent_dplr_delta_rule(
            r, k, v, -kk, kk * rate, w, **options)
        found = ops.fused_mul_recurrent_rwkv7(r, w, k, v, kk, rate, **options)
    for x, y in zip(expected, found):
        assert_close("rwkv7", x, y, .002)


@pytest.mark.parametrize("chunk", [16, 32, 64])
def test_rwkv7_is_dplr(chunk):
    draw = Draw(1, 64, 2, 64, F32)
    r, k = draw.pair()
    v, a, w = draw.values(), draw.reading(), -draw.uniform(*draw.shape)
    with torch.no_grad():
        found = ops.chunk_rwkv7(r, w, k, v, a, -a, chunk_size=chunk)[0]
        expected = ops.chunk_dplr_delta_rule(r, k, v, a, -a, w, scale=1.0,
                                             chunk_size=chunk)[0]
    assert_close("o", expected, found, .002)
