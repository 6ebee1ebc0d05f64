# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gradients of the reference, by reverse mode of the token-by-token step.

They are held against finite differences of the recurrences in NumPy, and
against the golden vectors' gradients, which another library computed.
DELTA_RANDOM_SPECS=BEGIN:END differentiates other random recurrences.
"""

import os

import numpy as np
import pytest

from kernels import run_npz
from numpy_recurrences import LIBRARY, draw, error, evaluate
from specgen import generate
from test_golden import FILES, load

BEGIN, END = map(int, os.environ.get("DELTA_RANDOM_SPECS", "0:40").split(":"))
DECAYS = ["logsigmoid", "strong", "mixed", "0", "-inf", "extreme"]
LIMIT = 1e-6


def add_cotangents(arrays, results, seed=0):
    """Adds a random d<out> for every result, and dht."""
    rng = np.random.default_rng(seed)
    names = {"final_state": "dht"}
    cotangents = {names.get(key, "d" + key): rng.normal(size=x.shape)
                  for key, x in results.items()}
    return {**arrays, **cotangents}


def loss(results, arrays):
    names = {"final_state": "dht"}
    return sum(np.sum(x * arrays[names.get(key, "d" + key)])
               for key, x in results.items())


def slope(f, x, direction, step):
    """The derivative of f at x along `direction`, to the fourth order."""
    at = lambda s: f(x + s * step * direction)
    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)


def assert_gradient(f, x, gradient, what):
    """f's derivative along the gradient and something else is as it says."""
    assert np.all(np.isfinite(gradient)), what
    assert gradient.shape == np.shape(x), what
    size = np.linalg.norm(gradient)
    rng = np.random.default_rng(1)
    direction = rng.normal(size=np.shape(x))
    direction /= max(np.linalg.norm(direction), 1e-30)
    if size:
        direction = direction + gradient / size
    wanted = np.sum(gradient * direction)
    # A kink within the larger step is not in the smaller one.
    errors = []
    for step in (3e-4, 1e-4, 1e-5):
        errors.append(abs(slope(f, x, direction, step) - wanted))
        if errors[-1] <= LIMIT * max(size, 1e-2):
            return
    raise AssertionError((what, errors, size))


def check_library(tool, tmp_path, name, arrays, K):
    """All gradients of a library recurrence against finite differences."""
    arrays = add_cotangents(arrays, evaluate(name, arrays))
    got = run_npz(tool, tmp_path, name, arrays, "--grad", "--reference")
    inputs = [arg.name for arg in LIBRARY[name].args] + ["initial_state"]
    scale = LIBRARY[name].scale
    assert set(got) == {"d_" + key for key in
                        inputs + (["scale"] if scale else [])}
    for key in inputs:
        def f(x):
            return loss(evaluate(name, {**arrays, key: x}), arrays)
        assert got["d_" + key].dtype == np.float64
        assert_gradient(f, arrays[key], got["d_" + key], (name, key))
        if np.any(np.isneginf(arrays[key])):
            assert np.all(got["d_" + key][np.isneginf(arrays[key])] == 0)
    if scale:
        def f(x):
            return loss(evaluate(name, arrays, scale=x), arrays)
        value = 1.0 if scale == "1" else K ** -0.5
        assert_gradient(f, value, got["d_scale"], (name, "scale"))


@pytest.mark.parametrize("name", LIBRARY)
def test_finite_differences(tool, tmp_path, name):
    gated = any(arg.draw == "gate" and not arg.param
                for arg in LIBRARY[name].args)
    for decay in DECAYS if gated else DECAYS[:1]:
        arrays = draw(name, 2, 6, 2, 3, 4, decay=decay)
        check_library(tool, tmp_path, name, arrays, 3)


@pytest.mark.parametrize("name", LIBRARY)
def test_no_tokens(tool, tmp_path, name):
    arrays = draw(name, 2, 0, 2, 3, 4)
    arrays = add_cotangents(arrays, evaluate(name, arrays))
    got = run_npz(tool, tmp_path, name, arrays, "--grad", "--reference")
    np.testing.assert_array_equal(got.pop("d_initial_state"), arrays["dht"])
    for key, value in got.items():
        assert not np.any(value), key
        if key != "d_scale":
            assert value.shape == arrays[key[2:]].shape


@pytest.mark.parametrize("seed", range(BEGIN, END))
def test_random_specs(tool, tmp_path, seed):
    spec = generate(seed)
    if max(spec.dims.values()) > 20:  # as good as any, and quick
        spec.dims = {dim: min(size, 5) for dim, size in spec.dims.items()}
    file = tmp_path / f"random_{seed}.delta"
    file.write_text(spec.text())
    sizes = [(1, 5, 2), (2, 4, 1)][seed % 2]
    arrays = spec.draw(*sizes)
    arrays = add_cotangents(arrays, spec.evaluate(arrays, *sizes))
    got = run_npz(tool, tmp_path, file, arrays, "--grad", "--reference")
    for key in [x.name for x in spec.inputs] + ["initial_state"]:
        def f(x):
            return loss(spec.evaluate({**arrays, key: x}, *sizes), arrays)
        assert_gradient(f, arrays[key], got["d_" + key], (seed, key))
    for key, text in spec.attrs.items():
        def f(x):
            spec.attrs[key] = repr(float(x))
            return loss(spec.evaluate(arrays, *sizes), arrays)
        value = eval(text.replace("^", "**"), dict(spec.dims))
        assert_gradient(f, value, got["d_" + key], (seed, key))
        spec.attrs[key] = text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_golden(tool, tmp_path, file):
    name, arrays = load(file)
    got = run_npz(tool, tmp_path, name, arrays, "--grad", "--reference")
    for key in arrays:
        if key.startswith("d_"):
            assert error(got[key], arrays[key]) < 1e-5, key


# --- How it is asked for ------------------------------------------------------


def test_a_missing_cotangent_is_zero(tool, tmp_path):
    arrays = draw("kda", 1, 7, 2, 3, 4)
    arrays = add_cotangents(arrays, evaluate("kda", arrays))

    def run(**changes):
        given = {**arrays, **changes}
        given = {key: x for key, x in given.items() if x is not None}
        return run_npz(tool, tmp_path, "kda", given, "--grad", "--reference")

    for key in ("do", "dht"):
        zero = run(**{key: np.zeros_like(arrays[key])})
        none = run(**{key: None})
        for name, value in zero.items():
            np.testing.assert_array_equal(none[name], value, name)


def test_packed_sequences_are_separate(tool, tmp_path):
    arrays = draw("mamba2", 1, 9, 2, 3, 4)
    ends = [0, 4, 4, 9]
    states = np.random.default_rng(2).normal(size=[3, 2, 3, 4])
    rng = np.random.default_rng(3)
    cotangents = {"do": rng.normal(size=[1, 9, 2, 4]),
                  "dht": rng.normal(size=[3, 2, 3, 4])}
    packed = run_npz(tool, tmp_path, "mamba2", {
        **arrays, **cotangents, "initial_state": states,
        "cu_seqlens": np.array(ends)}, "--grad", "--reference")
    params = {arg.name for arg in LIBRARY["mamba2"].args if arg.param}
    total = dict.fromkeys(params, 0)
    for i in range(3):
        part = {key: x if key in params else x[:, ends[i]:ends[i + 1]]
                for key, x in {**arrays, "do": cotangents["do"]}.items()
                if key != "initial_state"}
        got = run_npz(tool, tmp_path, "mamba2", {
            **part, "initial_state": states[i:i + 1],
            "dht": cotangents["dht"][i:i + 1]}, "--grad", "--reference")
        np.testing.assert_array_equal(packed["d_initial_state"][i:i + 1],
                                      got["d_initial_state"])
        for key in part:
            if key in params:
                total[key] = total[key] + got["d_" + key]
            elif key != "do":
                np.testing.assert_array_equal(
                    packed["d_" + key][:, ends[i]:ends[i + 1]],
                    got["d_" + key])
    for key in params:
        np.testing.assert_array_equal(packed["d_" + key], total[key])


def test_threads_do_not_change_a_bit(tool, tmp_path):
    arrays = draw("mamba2", 3, 5, 4, 3, 4)
    arrays = add_cotangents(arrays, evaluate("mamba2", arrays))
    runs = [run_npz(lambda *args, **kwargs: tool(
        *args, env={**os.environ, "DELTA_NUM_THREADS": count}, **kwargs),
        tmp_path, "mamba2", arrays, "--grad", "--reference")
        for count in ("1", "3")]
    for key in runs[0]:
        np.testing.assert_array_equal(runs[0][key], runs[1][key])


@pytest.mark.parametrize("name", ["mamba2", "gated_delta_product", "rwkv6"])
def test_events_mean_the_same(tool, tmp_path, name):
    arrays = draw(name, 1, 6, 2, 3, 4, decay="extreme")
    arrays = add_cotangents(arrays, evaluate(name, arrays))
    step = run_npz(tool, tmp_path, name, arrays, "--grad", "--reference")
    events = tmp_path / "events.mlir"
    tool("delta-compile", name, "--emit=events", "-D", "n=2", "-o", events) \
        if name == "gated_delta_product" else \
        tool("delta-compile", name, "--emit=events", "-o", events)
    got = run_npz(tool, tmp_path, events, arrays, "--grad", "--reference")
    for key in step:
        assert error(got[key], step[key]) < 1e-13, key


def write_ties(folder):
    """A spec and arrays with ties, and an infinite gate, which makes 0 of what it
    is multiplied with."""
    file = folder / "ties.delta"
    file.write_text("""recurrence ties {
  in k: K, v: V, x: scalar, y: scalar
  in g: K in [-inf, 0]
  attr s = 2
  attr p = 3
  state S: K x V
  S = diag(exp(s * g)) * S + k * v^T
  out o = S^T * k
  out m = max(x, y) + 10 * min(x, y) + 100 * abs(x) + 1000 * relu(x) + x ^ p
}
""")
    T = 4
    return file, {
        "k": np.ones([1, T, 1, 2]), "v": np.ones([1, T, 1, 2]),
        "x": np.array([0.0, 0, 1, 2])[None, :, None],
        "y": np.array([0.0, 1, 0, 2])[None, :, None],
        "g": np.full([1, T, 1, 2], -np.inf),
        "initial_state": np.ones([1, 1, 2, 2]),
        "do": np.ones([1, T, 1, 2]), "dm": np.ones([1, T, 1])}


def test_subgradients_and_infinite_factors(tool, tmp_path):
    file, arrays = write_ties(tmp_path)
    got = run_npz(tool, tmp_path, file, arrays, "--grad", "--reference")
    assert not np.any(got["d_g"]) and not np.any(got["d_initial_state"])
    np.testing.assert_array_equal(got["d_x"].ravel(), [505.5, 510, 1104, 1117.5])
    np.testing.assert_array_equal(got["d_y"].ravel(), [5.5, 1, 10, 5.5])
    assert got["d_s"] == 0 and got["d_s"].shape == ()
    np.testing.assert_allclose(got["d_p"], 8 * np.log(2), rtol=1e-15)
