# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Every recurrence of the library against NumPy, in every form.

The kernels are held against the recurrences of numpy_recurrences.py: by the
reference evaluator, and compiled as forward and decode in three precisions.
"""

import numpy as np
import pytest

from kernels import rounded, run_npz, widened
from numpy_recurrences import LIBRARY, draw, error, evaluate

NAMES = sorted(LIBRARY)
TOKENS = [0, 1, 15, 16, 17, 100]


def assert_close(got, expected, limit):
    assert got.keys() == expected.keys()
    for key, reference in expected.items():
        assert np.all(np.isfinite(got[key])), key
        assert error(got[key], reference) <= limit, key


@pytest.mark.parametrize("name", NAMES)
def test_reference(tool, tmp_path, name):
    x = draw(name, B=2, T=33, H=3, K=7, V=5, decay="extreme")
    got = run_npz(tool, tmp_path, name, x, "--reference")
    assert_close(got, evaluate(name, x), 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_reference_without_a_state_and_with_a_scale(tool, tmp_path, name):
    x = draw(name, B=1, T=5, H=2, K=4, V=6, state=False)
    options = ["--attr", "scale=0.3"] if LIBRARY[name].scale else []
    got = run_npz(tool, tmp_path, name, x, "--reference", *options)
    assert_close(got, evaluate(name, x, scale=0.3), 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_means_the_same(tool, tmp_path, name):
    """Stage by stage: evaluated in float64, and the later ones compiled."""
    B, T, H, K, V, n = 1, 37, 2, 7, 5, 2
    x = draw(name, B, T, H, K, V, n=n, decay="extreme")
    np.savez(tmp_path / "in.npz", **x)
    expected = evaluate(name, x)
    dims = ["-D", f"K={K}", "-D", f"V={V}"]
    if name == "gated_delta_product":
        dims += ["-D", f"n={n}"]
    scale = f"scale={1 if LIBRARY[name].scale == '1' else K ** -0.5!r}"
    for stage in ("step", "events", "chunk", "mapped"):
        ir = tmp_path / f"{stage}.mlir"
        tool("delta-compile", name, f"--emit={stage}", "-o", ir, "--dtype=f64",
             *dims)
        if stage != "mapped":
            tool("delta-eval", ir, "--input", tmp_path / "in.npz", "--output",
                 tmp_path / "eval.npz", "--attr", scale)
            with np.load(tmp_path / "eval.npz") as got:
                assert_close(dict(got), expected, 1e-12)
        if stage in ("chunk", "mapped"):
            got = run_npz(tool, tmp_path, ir, x)
            assert_close(got, expected, 1e-12)


@pytest.mark.parametrize("form", ["decode", 16, 32, 64])
@pytest.mark.parametrize("name", NAMES)
def test_f64(kernels, name, form):
    """Chunk sizes, odd dims and tails, batches, extreme decays: 1e-12."""
    K, V, n = {"decode": (6, 10, 2), 16: (20, 12, 2), 32: (5, 7, 3),
               64: (17, 33, 1)}[form]
    if form == "decode":
        kernel = kernels(name, fn="decode", K=K, V=V, n=n)
    else:
        kernel = kernels(name, chunk=form, K=K, V=V, n=n)
    for T in TOKENS:
        for decay in ("extreme", "mixed"):
            x = draw(name, B=2, T=T, H=2, K=K, V=V, n=n, seed=T, decay=decay)
            assert_close(kernel(x), evaluate(name, x), 1e-12)
    x = draw(name, B=1, T=20, H=1, K=K, V=V, n=n, state=False)
    assert_close(kernel(x), evaluate(name, x), 1e-12)
    x = draw(name, B=0, T=20, H=1, K=K, V=V, n=n)
    assert kernel(x)["o"].shape == (0, 20, 1, V)


def as_stored(kernel, x):
    """The arrays rounded as the kernel's own types round them, in float32."""
    types = {arg["name"]: arg["type"] for arg in kernel.signature.args}
    types["initial_state"] = kernel.signature.state["type"]
    return {key: np.float32(widened(rounded(value, types[key]), types[key]))
            for key, value in x.items()}


@pytest.mark.parametrize("fn", ["forward", "decode"])
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("name", NAMES)
def test_working_precisions(kernels, name, dtype, fn):
    """At most three times the error of a token loop in the same precision."""
    K, V, n = 40, 24, 2
    kernel = kernels(name, dtype=dtype, fn=fn, K=K, V=V, n=n)
    for decay in ("weak", "logsigmoid", "extreme"):
        x = as_stored(kernel, draw(name, B=1, T=77, H=2, K=K, V=V, n=n,
                                   decay=decay))
        got, exact = kernel(x), evaluate(name, x)
        emulated = evaluate(name, x, dtype=np.float32)
        emulated["o"] = widened(rounded(emulated["o"], dtype), dtype)
        for key in exact:
            assert np.all(np.isfinite(got[key])), key
            limit = 3 * max(error(emulated[key], exact[key]), 1e-7)
            assert error(got[key], exact[key]) <= limit, (key, decay)


@pytest.mark.parametrize("name", NAMES)
def test_delta_run_checks_itself(tool, name):
    options = "--random=B=1,T=50,H=2,K=16,V=16,n=2,seed=3"
    done = tool("delta-run", name, options, "--check")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["o", "final_state"]
    assert all(line.endswith(" ok") for line in lines)


@pytest.mark.parametrize("options", [[], ["--fn=decode"]],
                         ids=["forward", "decode"])
def test_threads_do_not_change_a_bit(tool, tmp_path, monkeypatch, options):
    x = draw("kda", B=1, T=60, H=3, K=24, V=80)
    results = []
    for threads in ("1", "2", "7"):
        monkeypatch.setenv("DELTA_NUM_THREADS", threads)
        results.append(run_npz(tool, tmp_path, "kda", x, *options))
    for other in results[1:]:
        for key, value in results[0].items():
            np.testing.assert_array_equal(other[key], value, err_msg=key)
