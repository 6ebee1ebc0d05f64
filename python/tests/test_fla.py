# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The dense parametrisations of fla's own tests, with its metric and its bars.

Every case is held, forward and backward, final state and initial state included,
against the naive reference, on the CPU and, where the GPU's kernels take it, in
the simulator. That takes half an hour and more and is what DELTA_FULL=1 does.
Otherwise batches, heads and tokens are fewer, types and dims are not; the CPU runs
every case, every other one with gradients (of recurrent forms every fourth), and
the simulator every third.
Packed sequences are refused by `deltac.ops`; grouped heads are repeated outside.
"""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

import deltac  # noqa: E402
from deltac import ops  # noqa: E402
from deltac.ops import _common, _specs, naive  # noqa: E402

from .fla import F16, F32, FULL, Draw, compare  # noqa: E402
from .fla_cases import CASES  # noqa: E402
from .test_ops import assert_close  # noqa: E402


def parametrize(keeps=lambda name, case: True):
    return [pytest.param(name, case, id=f"{name}-" + "-".join(
        str(x).removeprefix("torch.") for x in case if not isinstance(x, dict)))
        for name, (_, cases) in CASES.items() for case in cases
        if keeps(name, case)]


ORDER = {param.id: i for i, param in enumerate(parametrize())}


@pytest.mark.parametrize("name, case", parametrize())
def test_cpu(name, case, request):
    number = ORDER[request.node.callspec.id]
    rarely = 4 if "fused" in f"{name} {case[:2]}" else 2
    compare(*CASES[name][0](*case),
            with_gradients=FULL or number % rarely == 0)


def gpu_takes(name, case):
    """The GPU's kernels have up to 128 channels; without DELTA_FULL, the first
    such case of an operator and every third of all."""
    def fits(case):
        draw = CASES[name][0](*case, few=(1, 80))[0]
        return ("fused" not in f"{name} {case[:2]}"
                and max(draw.shape[3], draw.V) <= 128)
    cases = list(filter(fits, CASES[name][1]))
    return case in (cases if FULL else cases[::3])


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


def test_gates_of_their_own():
    """Heads with gates far apart, one of which changes them within a chunk, as in
    fla's test of safe gates."""
    B, T, H, D = 1, 16, 3, 16
    draw = Draw(B, T, H, D, F16, few=(3, 80))
    h = torch.arange(3.).view(1, 1, H, 1).expand(B, T, H, D)
    gk = -0.1 * (1 + h)
    gk[:, :8, 0] = -5
    a = F.normalize(0.5 + 0.1 * h, dim=-1).half()
    arrays = {"q": (1 + 0.1 * h).half(), "k": (1 + 0.2 * h).half(),
              "v": (1 + 0.3 * h).half(), "a": a, "b": -a, "gk": gk}
    compare(draw, lambda **x: ops.chunk_dplr_delta_rule(
                **x, safe_gate=True, lower_bound=-5, chunk_size=16),
            naive.naive_recurrent_dplr_delta_rule, arrays,
            {"o": .002, "final_state": .002, "d": .002})
