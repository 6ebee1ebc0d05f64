# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gradients of decays that are no exponentials, on a GPU, by the PTX simulator.

They are differentiated as they are: products of the factors on both sides of a
token, by scans without a division, so that a factor may be 0.
"""

import re

import numpy as np
import pytest

from test_gpu_backward import to_bf16

SPECS = {
    # One for every channel, by tiles.
    "channels": """recurrence channels {
  in q: K, k: K, v: V
  in w: K in [0, 1]
  attr scale = K ^ -0.5
  state S: K x V
  S = diag(w) * S + k * v^T
  out o = scale * S^T * q
}
""",
    # Read before the decay, and what is erased is read too.
    "before": """recurrence before {
  in q: K, k: K, v: V, a: K, b: K
  in w: K in [0, 1]
  state S: K x V
  out o = S^T * q
  S = diag(w) * S + b * (S^T * a)^T + k * v^T
}
""",
    # One for every token: in slices.
    "token": """recurrence token {
  in q: K, k: K, v: V
  in w: scalar in [0, 1]
  state S: K x V
  S = (1 - w) * S
  S = S + k * (v - S^T * k)^T
  out o = S^T * q
}
""",
    # Two of them, one an exponential.
    "two": """recurrence two {
  in q: K, k: K, v: V
  in w: K in [0, 1], g: K in [-inf, 0]
  state S: K x V
  S = diag(w) * (diag(exp(g)) * S) + k * v^T
  out o = S^T * q
}
""",
}
FORMS = {"channels": "tiled", "before": "tiled", "token": "sliced",
         "two": "tiled"}


def make(tmp_path, name, decay, K=24, V=40):
    rng = np.random.default_rng(5)
    tokens = (2, 45, 2)
    spec = tmp_path / f"{name}.delta"
    spec.write_text(SPECS[name])

    def unit(*shape):
        x = rng.standard_normal(shape)
        return to_bf16(x / np.linalg.norm(x, axis=-1, keepdims=True))

    arrays = {x: unit(*tokens, K) for x in "qk"}
    arrays |= {"v": to_bf16(rng.standard_normal((*tokens, V))),
               "do": to_bf16(rng.standard_normal((*tokens, V))),
               "dht": rng.standard_normal((2, 2, K, V)).astype(np.float32),
               "initial_state":
                   rng.standard_normal((2, 2, K, V)).astype(np.float32)}
    if name == "before":
        arrays |= {"a": unit(*tokens, K), "b": to_bf16(-0.5 * unit(*tokens, K))}
    shape = tokens if name == "token" else (*tokens, K)
    w = {"mild": 0.8 + 0.2 * rng.random(shape), "mixed": rng.random(shape),
         "zeros": np.where(rng.random(shape) < 0.1, 0, rng.random(shape)),
         "ones": np.ones(shape)}[decay]
    arrays["w"] = to_bf16(1 - w if name == "token" else w)
    if name == "two":
        arrays["g"] = -np.abs(rng.standard_normal(shape)).astype(np.float32)
    path = tmp_path / "in.npz"
    np.savez(path, **arrays)
    return spec, path


def gradients(tool, tmp_path, spec, path, *more):
    out = tmp_path / "out.npz"
    tool("delta-run", spec, f"--input={path}", f"--output={out}", "--grad",
         *more)
    return dict(np.load(out))


@pytest.mark.parametrize("decay", ["mild", "mixed", "zeros", "ones"])
@pytest.mark.parametrize("name", sorted(SPECS))
def test_against_the_reference(tool, tmp_path, name, decay):
    spec, path = make(tmp_path, name, decay)
    args = "--dtype=bf16", "--target=sm_90a"
    expected = gradients(tool, tmp_path, spec, path, "--reference", *args)
    emulated = gradients(tool, tmp_path, spec, path, "--emulate", *args)
    got = gradients(tool, tmp_path, spec, path, "--device=sim", *args)
    assert "d_w" in got
    for key, x in got.items():
        assert np.isfinite(x).all(), key
        scale = np.linalg.norm(expected[key]) or 1.0
        error = np.linalg.norm(x - expected[key]) / scale
        if key != "d_scale":
            limit = np.linalg.norm(emulated[key] - expected[key]) / scale
            assert error <= max(3 * limit, 1e-7) and error < 1e-2, key


@pytest.mark.parametrize("name", sorted(SPECS))
def test_in_f32(tool, tmp_path, name):
    """Also on sm_80, in blocks of columns and with few states saved."""
    spec, path = make(tmp_path, name, "zeros", K=32, V=64)
    expected = gradients(tool, tmp_path, spec, path, "--reference")
    for more in ([], ["--mapping=vsplit=2"], ["--save-every=2"]):
        got = gradients(tool, tmp_path, spec, path, "--device=sim",
                        "--target=sm_80", "--dtype=f32", *more)
        for key, x in got.items():
            scale = np.linalg.norm(expected[key]) or 1.0
            assert np.linalg.norm(x - expected[key]) <= 2e-4 * scale, key


@pytest.mark.parametrize("name", sorted(SPECS))
def test_sizes_fit(tool, tmp_path, name):
    """In blocks of columns where memory is short."""
    spec, _ = make(tmp_path, name, "mild")
    for size in (64, 128):
        done = tool("delta-compile", spec, "-D", f"K={size}", "-D",
                    f"V={size}", "--dtype=bf16", "--target=sm_80",
                    "--fn=backward", "--emit=ptx", "--explain", "-o",
                    "/dev/null")
        assert f"mapping form={FORMS[name]}" in done.stderr
        reason = re.search("by tiles, not in slices: (.*)", done.stderr)
        assert bool(reason) == (FORMS[name] == "tiled")
        if reason:
            assert reason[1] == \
                "a decay that is no exponential is differentiated"
