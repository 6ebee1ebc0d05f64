# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Which kernel a GPU gets: by how many heads and tokens a call has."""

import pickle
import re

import numpy as np
import pytest

import deltac
from deltac import _cache, _facts, _work

# A spec that no other test compiles: {} makes it one's own.
SPEC = """
recurrence work_{} {{
  in q: K, k: K, v: V
  in g: K in [-inf, 0]
  state S: K x V
  S = diag(exp(g)) * S + k * v^T
  out o = S^T * q
}}
"""
#: Enough tokens for two kernels, and heads for no more than one.
LONG, MANY = 512, 300


def arrays(B, T, H, K=16, V=16):
    rng = np.random.default_rng(B + T + H)
    q, k, g = rng.standard_normal((3, B, T, H, K), dtype=np.float32)
    return q, k, rng.standard_normal((B, T, H, V), dtype=np.float32), -np.abs(g)


def count_kernels(stats):
    return stats.count('"kernel"')


def count_explained(text):
    return int(re.search(r"^mapping .*\bkernels=(\d)", text, re.MULTILINE)[1])


def test_classes():
    """Every call has one class, whose limits scale with the device."""
    assert _facts.compiler(_cache.cache_dir())["multiprocessors"] == {
        "sm_80": 108, "sm_90a": 132}
    for multiprocessors in (108, 132, 7):
        works = _work.classes(multiprocessors)
        assert len(works) == 7 and works[-1].assume == ""
        for heads in range(3 * multiprocessors):
            for tokens in (0, 1, 511, 512, 10**9):
                assert sum(w.takes(heads, tokens) for w in works) == 1
    few = _work.find(works := _work.classes(132), 33, 511)
    assert few.assume == "B=1,H=33,T=128"
    assert _work.find(works, 33, None).assume == "B=1,H=33"
    assert _work.find(works, 34, 511).assume == "B=1,H=66,T=128"
    assert [_work.find(works, heads, 1).assume for heads in (67, 132, 133, 265)
            ] == ["B=1,H=132", "B=1,H=132", "B=1,H=264", ""]


def test_few_heads_and_many(counters):
    """Two kernels where heads are few and tokens many, with the same results;
    within a class nothing is compiled again."""
    text = SPEC.format("few")
    made = deltac.recurrence(text, device="sim")
    one = deltac.recurrence(text, device="sim", mapping="kernels=1")
    few = arrays(1, LONG, 2)
    o, state = made(*few, output_final_state=True)
    assert count_kernels(made.stats) == 2
    assert count_explained(made.explain()) == 2 and "_free" in made.asm["ptx"]
    assert "one head, of 33 in all)" in made.explain()
    assert counters["compiled"] == 1
    for got, expected in zip((o, state), one(*few, output_final_state=True)):
        assert np.allclose(got, expected, rtol=0, atol=1e-4)
    assert count_kernels(one.stats) == 1 and counters["compiled"] == 2

    for B, T, H in ((1, LONG + 1, 1), (2, LONG, 1)):
        made(*arrays(B, T, H))
        assert count_kernels(made.stats) == 2
    deltac.recurrence(text, device="sim")(*arrays(1, LONG, 1))
    assert counters["compiled"] == 2

    # Few tokens do not pay for a second launch, many heads leave it no room.
    made(*arrays(1, LONG - 1, 1))
    assert count_kernels(made.stats) == 1 and counters["compiled"] == 3
    assert "one head, of 33 in all with 128 tokens each)" in made.explain()
    made(*arrays(1, 1, MANY))
    assert count_kernels(made.stats) == 1 and counters["compiled"] == 4
    assert "one head)" in made.explain()
    made(*arrays(MANY, 2, 2))
    made(*arrays(3, 40, 11))
    assert counters["compiled"] == 4
    # The recurrent form has no such choice.
    made.decode(*arrays(1, 1, 1))
    made.decode(*arrays(1, 1, MANY))
    assert counters["compiled"] == 5


def test_between_processes(monkeypatch, counters):
    """The class is a part of the key on disk too."""
    monkeypatch.setattr(_cache, "_kernels", {})
    text = SPEC.format("disk")
    few, short = arrays(1, LONG, 1), arrays(1, 3, 1)
    made = deltac.recurrence(text, device="sim")
    made(*few), made(*short)
    assert counters["compiled"] == 2
    monkeypatch.setattr(_cache, "_kernels", {})
    again = deltac.recurrence(text, device="sim")
    again(*few), again(*short)
    assert counters["compiled"] == 2 and counters["read"] == 2


def test_overridden(counters):
    """What the user says of the work or the mapping holds for all calls."""
    text = SPEC.format("overridden")
    short = arrays(1, 3, 1)
    few = deltac.recurrence(text, device="sim", assume="B=1,H=8")
    few(*short), few(*arrays(1, 1, MANY))
    assert count_kernels(few.stats) == 2 and counters["compiled"] == 1
    assert "one head, of 8 in all)" in few.explain()
    copy = pickle.loads(pickle.dumps(few))
    assert "assume=B=1,H=8" in repr(copy)
    copy(*short)
    assert count_kernels(copy.stats) == 2 and counters["compiled"] == 1
    pinned = deltac.recurrence(text, device="sim", mapping="kernels=2")
    pinned(*short)
    assert count_kernels(pinned.stats) == 2
    assert "one head, of 33 in all with 128 tokens each)" in pinned.explain()
    # By tiles there is no such choice.
    longer = deltac.recurrence(text, device="sim", chunk=32)
    longer(*short), longer(*arrays(1, 1, MANY))
    assert counters["compiled"] == 3
    with pytest.raises(deltac.CompileError, match="--assume: unknown name 'X'; "
                       "expected B, T or H$"):
        deltac.recurrence(text, device="sim", assume="X=8")(*short)


def test_cpu(counters):
    """On the CPU the kernel is the same for any number of heads."""
    made = deltac.recurrence(SPEC.format("cpu"))
    for B, H in ((1, 1), (1, 40), (3, 100)):
        made(*arrays(B, 2, H))
    assert counters["compiled"] == 1
    for shapes in ({}, {"B": 1, "H": 1, "T": 3}):
        chosen = made.specialize(K=16, V=16, **shapes)
        assert dict(chosen.options).keys() == {"target", "fn", "D", "dtype"}
    few = made.specialize(K=16, V=16, B=1, H=1, device="sim")
    assert dict(few.options)["assume"] == "B=1,H=33"
    assert few.asm["header"] == chosen.asm["header"]


def test_explained_and_warmed_up(monkeypatch, counters):
    made = deltac.recurrence(SPEC.format("warm"), device="sim")
    shape = {"K": 16, "V": 16}
    few = {"q": (1, LONG, 2, 16), "v": (1, LONG, 2, 16)}
    assert count_explained(made.explain(**shape)) == 1
    assert count_explained(made.explain(**shape, B=1, H=8)) == 2
    assert count_explained(made.explain(**shape, B=1, H=8, T=64)) == 1
    assert count_explained(made.explain(**few)) == 2
    assert count_explained(made.explain(**shape, H=8)) == 2
    monkeypatch.setenv("DELTA_STRICT", "1")
    made.warmup(few)
    assert counters["compiled"] == 1
    made(*arrays(1, LONG, 2))
    with pytest.raises(deltac.StrictError, match="target sm_90a, fn forward, "
                       "assume B=1,H=33,T=128, D K=16, D V=16, dtype f32.*; "
                       r"call warmup\(\) for these sizes and types first$"):
        made(*arrays(1, 3, 2))
    made.warmup(shape)
    assert counters["compiled"] == 7
    for B, T, H in ((1, 3, 2), (1, 3, 40), (1, LONG, 40), (1, 1, 100),
                    (2, 1, 100), (1, 1, MANY)):
        made(*arrays(B, T, H))
    assert counters["compiled"] == 7


def test_saved(tmp_path):
    """A bundle has one kernel for a target: for the work that is named."""
    made = deltac.recurrence(SPEC.format("saved"))
    inputs = arrays(1, 20, 2)
    results = []
    for name, shapes, launches in (("few", {"B": 1, "H": 8}, 2),
                                   ("short", {"B": 1, "H": 8, "T": 20}, 1),
                                   ("many", {}, 1)):
        path = tmp_path / name
        made.save(path, K=16, V=16, targets=("cpu", "sm_80", "sm_90a"),
                  **shapes)
        loaded = deltac.load(path, device="sim")
        results.append(loaded(*inputs)[0])
        assert count_kernels(loaded.stats) == launches
        assert {kernel["target"]: len(kernel["launches"])
                for kernel in loaded.kernels} == {
                    "cpu": 0, "sm_80": launches, "sm_90a": launches}
        assert np.array_equal(deltac.load(path)(*inputs)[0], made(*inputs)[0])
    assert np.allclose(results[0], results[2], rtol=0, atol=1e-4)


def test_is_supported():
    for shapes in ({}, {"B": 1, "H": 8}):
        assert deltac.is_supported("gla", K=16, V=16, device="sim", **shapes)


# --- Gradients ---------------------------------------------------------------

def gradients(made, inputs, call=None):
    torch = pytest.importorskip("torch")
    leaves = [torch.from_numpy(x).requires_grad_() for x in inputs]
    o, _ = (call or made)(*leaves)
    o.square().sum().backward()
    return [leaf.grad.numpy() for leaf in leaves]


def test_training(counters):
    """A gradient's pair of kernels is chosen like any other; what is saved
    between them does not depend on it."""
    text = SPEC.format("training")
    made = deltac.recurrence(text, device="sim")
    for B, T, H in ((1, LONG, 1), (1, 20, 2), (1, 1, 100), (1, 1, MANY)):
        inputs = arrays(B, T, H)
        expected = gradients(deltac.recurrence(text, device="cpu"), inputs)
        before = counters["compiled"]
        for got, wanted in zip(gradients(made, inputs), expected):
            assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max()
        assert counters["compiled"] - before == 2
        gradients(made, inputs)
        assert counters["compiled"] - before == 2
    (trainings,) = made._trainings.values()
    assert [t.work.assume for t in trainings] == [
        "B=1,H=33", "B=1,H=33,T=128", "B=1,H=132", ""]
    assert [len(t.forward.bundle.kernels[0]["launches"])
            for t in trainings] == [2, 1, 1, 1]
    assert len({(t.every, t.saved_axes, t.saved) for t in trainings}) == 1


def test_training_ahead(monkeypatch, counters):
    pytest.importorskip("torch")
    made = deltac.recurrence(SPEC.format("ahead"), device="sim")
    monkeypatch.setenv("DELTA_STRICT", "1")
    made.warmup({"K": 16, "V": 16, "B": 1, "H": 2, "T": 20}, gradients=True)
    assert counters["compiled"] == 3
    gradients(made, arrays(1, 20, 2))
    with pytest.raises(deltac.StrictError, match="assume B=1,H=66,T=128"):
        gradients(made, arrays(1, 20, 40))


def test_graphs_of_any_batch():
    """A traced graph's batch stays free, and its calls find their kernels."""
    torch = pytest.importorskip("torch")
    made = deltac.recurrence(SPEC.format("graphs"), device="sim")
    call = torch.compile(made, backend="aot_eager", fullgraph=True,
                         dynamic=True)
    for B, H in ((2, 3), (5, 20), (3, 100)):
        inputs = arrays(B, 4, H)
        with torch._dynamo.config.patch(error_on_recompile=True):
            got = gradients(made, inputs, call)
        for one, other in zip(got, gradients(made, inputs)):
            assert np.array_equal(one, other)
    (trainings,) = made._trainings.values()
    assert len(trainings) == 3
