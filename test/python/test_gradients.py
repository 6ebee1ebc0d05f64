# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gradients by the kernels: a forward that saves states, then the backward.

They are held against the reference's reverse mode, token by token, against the
golden vectors, and against identities that gradients have by mathematics.
"""

import os
import platform
import re

import numpy as np
import pytest

from kernels import run_npz
from numpy_recurrences import LIBRARY, draw, error, evaluate
from specgen import generate
from test_golden import FILES, load
from test_properties import GAUGE, value_names
from test_reference_gradient import DECAYS, add_cotangents, write_ties

K, V, CHUNK = 20, 12, 16
LIMIT = 2e-11
NAMES = sorted(LIBRARY)
# Random specs; DELTA_RANDOM_SPECS=BEGIN:END runs others.
SEEDS = range(*map(int, os.environ["DELTA_RANDOM_SPECS"].split(":"))) \
    if "DELTA_RANDOM_SPECS" in os.environ else [6, 13, 18, 32, 36, 40, 42, 54]


@pytest.fixture(scope="module")
def gradient(kernels):
    """`gradient(name)`: the backward in float64, of this file's sizes."""
    return lambda name, chunk=CHUNK: kernels.gradient(
        name, chunk=chunk, K=K, V=V, n=2)


def make(name, B=1, T=37, H=2, K=K, V=V, **options):
    arrays = draw(name, B, T, H, K, V, **options)
    return add_cotangents(arrays, evaluate(name, arrays))


def assert_close(got, wanted, what, limit=LIMIT):
    assert set(got) == set(wanted), what
    for key, reference in wanted.items():
        assert np.all(np.isfinite(got[key])), (what, key)
        assert error(got[key], reference) <= limit, (what, key)


# --- Against what others computed ---------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_golden(tool, tmp_path, file):
    name, arrays = load(file)
    got = run_npz(tool, tmp_path, name, arrays, "--grad", "--check")
    for key in arrays:
        if key.startswith("d_"):
            assert got[key].dtype == np.float32, key
            assert error(got[key], arrays[key]) < 1e-5, key


@pytest.mark.parametrize("name", NAMES)
def test_reference(tool, tmp_path, gradient, name):
    gated = any(arg.draw == "gate" and not arg.param
                for arg in LIBRARY[name].args)
    for decay in DECAYS if gated else DECAYS[:1]:
        arrays = make(name, B=2, T=37 if decay == "logsigmoid" else 19,
                      decay=decay)
        wanted = run_npz(tool, tmp_path, name, arrays, "--grad", "--reference")
        got = gradient(name)(arrays)
        assert_close(got, wanted, (name, decay))
        for key, x in arrays.items():
            if np.any(np.isneginf(x)):
                assert not np.any(got["d_" + key][np.isneginf(x)]), key


@pytest.mark.parametrize("name", NAMES)
def test_short_and_empty(tool, tmp_path, gradient, name):
    for T in (0, 1, 16):
        arrays = make(name, T=T)
        wanted = run_npz(tool, tmp_path, name, arrays, "--grad", "--reference")
        got = gradient(name)(arrays)
        assert_close(got, wanted, (name, T))
    arrays = make(name, T=5)
    del arrays["initial_state"], arrays["dht"]
    wanted = run_npz(tool, tmp_path, name, arrays, "--grad", "--reference")
    assert_close(gradient(name)(arrays), wanted, (name, "no states"))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_specs(tool, tmp_path, seed):
    spec = generate(seed)
    spec.dims = {dim: min(size, 17) for dim, size in spec.dims.items()}
    file = tmp_path / f"random_{seed}.delta"
    file.write_text(spec.text())
    sizes = [(1, 21, 2), (2, 16, 1)][seed % 2]
    arrays = spec.draw(*sizes)
    arrays = add_cotangents(arrays, spec.evaluate(arrays, *sizes))
    for chunk in ("16", "32"):
        run_npz(tool, tmp_path, file, arrays, "--grad", "--check",
                "--dtype=f64", f"--chunk={chunk}")


# Every function and operator of the language.
FUNCTIONS = """recurrence functions {
  in q: K, k: K, v: V, x: K, y: K
  in a: scalar, b: scalar
  in g: K in [-inf, 0]
  param u: K
  attr s = 0.5
  state S: K x V
  let key = l2norm(k) + 0.1 * sigmoid(x) .* tanh(y) + silu(u)
  let size = sqrt(exp(a)) + rsqrt(1 + exp2(b)) + log(2 + abs(a)) + relu(b) + a ^ 2
  S = DECAY * S
  S = S + max(a, b) * key * (softplus(v) - min(size, 1) * S^T * key)^T
  out o = s * S^T * (q ./ (1 + y .* y))
  out m = dot(x, y) + sum(q) / size - (x + u)^T * y + exp(a - 1) ^ s
}
"""


@pytest.mark.parametrize("decay, options", [
    ("(eye(K) + diag(exp(g) - 1))", ["--dtype=f64"]),
    ("diag(exp(g))", ["--dtype=f32"]),
    ("diag(exp(g))", ["--dtype=f32", "--device=sim", "--target=sm_90a"])],
    ids=["f64", "f32", "gpu"])
def test_every_function_has_a_gradient(tool, tmp_path, decay, options):
    names = ("exp exp2 log sqrt rsqrt abs sigmoid softplus silu tanh relu min max "
             "dot sum l2norm")
    assert all(f"{name}(" in FUNCTIONS for name in names.split())
    file = tmp_path / "functions.delta"
    file.write_text(FUNCTIONS.replace("DECAY", decay))
    done = tool("delta-run", file, "--random=B=2,T=21,H=2,K=16,V=16", "--grad",
                "--check", *options)
    assert done.stdout.count(" ok\n") == 11


def test_subgradients_and_infinite_factors(tool, tmp_path):
    file, arrays = write_ties(tmp_path)
    for dtype in ("f64", "f32"):
        got = run_npz(tool, tmp_path, file, arrays, "--grad", "--check",
                      f"--dtype={dtype}")
        assert not np.any(got["d_g"]) and got["d_s"] == 0


# --- Identities ---------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_chunks_are_invisible(gradient, name):
    arrays = make(name, T=70, decay="extreme")
    wanted = gradient(name)(arrays)
    assert_close(gradient(name, chunk=32)(arrays), wanted, (name, 32))
    if name in ("kda", "gated_delta_product"):
        assert_close(gradient(name, chunk=64)(arrays), wanted, (name, 64))


@pytest.mark.parametrize("name", NAMES)
def test_adjoint(gradient, name):
    # Outs and final state are linear in the values and the initial state.
    arrays = make(name, T=40, decay="mixed")
    got = gradient(name)(arrays)
    results = evaluate(name, arrays)
    left = np.sum(results["o"] * arrays["do"]) + \
        np.sum(results["final_state"] * arrays["dht"])
    right = sum(np.sum(arrays[key] * got["d_" + key])
                for key in value_names(name) + ["initial_state"])
    if name == "gdn2":  # the values are w * v
        right -= np.sum(arrays["w"] * got["d_w"])
    size = np.linalg.norm(results["o"]) * np.linalg.norm(arrays["do"])
    assert abs(left - right) <= 1e-12 * size


@pytest.mark.parametrize("name", sorted(GAUGE))
def test_gauge(gradient, name):
    # Scaling a channel of the keys and unscaling it in what reads them leaves
    # the outs, so the gradient has no part along that direction (Noether).
    arrays = make(name, T=40, decay="mixed")
    got = gradient(name)(arrays)
    final = evaluate(name, arrays)["final_state"]
    terms = [(-1, key) for key in GAUGE[name][0].split()]
    terms += [(1, key) for key in GAUGE[name][1].split()]
    parts = [sign * np.sum(arrays[key] * got["d_" + key], axis=(0, 1))
             for sign, key in terms]
    parts.append(np.sum(arrays["initial_state"] * got["d_initial_state"],
                        axis=(0, 3)))
    parts.append(-np.sum(final * arrays["dht"], axis=(0, 3)))
    assert np.linalg.norm(sum(parts)) <= 1e-12 * np.linalg.norm(parts)


# With a decay that is one number, or none, keys may be rotated.
ROTATED = {
    "linear_attn": "q k", "retention": "q k", "simple_gla": "q k",
    "mamba2": "B C", "delta_rule": "q k", "gated_delta_rule": "q k",
    "longhorn": "q k", "gated_delta_product": "q k", "comba": "q k p",
    "iplr": "q k a b",
}


@pytest.mark.parametrize("name", sorted(ROTATED))
def test_rotations(gradient, name):
    # So the gradient has no part along any antisymmetric matrix (Noether).
    arrays = make(name, T=40, decay="mixed")
    got = gradient(name)(arrays)
    final = evaluate(name, arrays)["final_state"]

    def outer(x, y):
        x, y = (np.moveaxis(z, -2, 0).reshape(z.shape[-2], -1, K)
                for z in (x, y))
        return np.einsum("htk,htl->hkl", x, y)

    parts = [outer(arrays[key], got["d_" + key])
             for key in ROTATED[name].split()]
    parts.append(np.einsum("bhkv,bhlv->hkl", arrays["initial_state"],
                           got["d_initial_state"]))
    parts.append(-np.einsum("bhkv,bhlv->hkl", final, arrays["dht"]))
    total = sum(parts)
    assert np.linalg.norm(total) > 1e-3 * np.linalg.norm(parts)
    assert np.linalg.norm(total - total.transpose(0, 2, 1)) <= \
        1e-12 * np.linalg.norm(parts)


# What reads, what is read before the update and what that writes, the decay.
REVERSED = {"linear_attn": ("q", "", "", ""), "simple_gla": ("q", "", "", "g"),
            "gla": ("q", "", "", "g"), "iplr": ("q", "a", "b", ""),
            "dplr": ("q", "a", "b", "gk"), "rwkv7": ("r", "a", "b", "w")}


@pytest.mark.parametrize("name", sorted(REVERSED))
def test_time_reversal(kernels, gradient, name):
    # The state's cotangent is the state of the same recurrence on reversed
    # inputs, a and b exchanged, k and q exchanged, the decay one token later.
    T = 37
    q, a, b, gate = REVERSED[name]
    x = make(name, T=T, decay="extreme")
    got = gradient(name)(x)
    shifted = {a: b, b: a, gate: gate}
    y = {key: np.concatenate([x[source][:, 1:],
                              np.zeros_like(x[source][:, :1])], axis=1)
         for key, source in shifted.items() if key}
    scale = 1 if LIBRARY[name].scale == "1" else K ** -0.5
    y.update({q: x["k"], "k": x[q], "v": x["do"] * scale})
    y = {key: value[:, ::-1] for key, value in y.items()}
    y["initial_state"] = x["dht"]
    back = kernels(name, chunk=CHUNK, K=K, V=V)(y, scale=1.0)
    assert error(got["d_v"], back["o"][:, ::-1]) <= 1e-12
    # Through the first token's transition.
    first = back["final_state"]
    state = first
    if gate:
        w = np.exp(x[gate][:, 0])
        state = first * (w[..., None] if w.ndim == 3 else w[..., None, None])
    if a:
        state = state + x[a][:, 0][..., None] * np.einsum(
            "bhk,bhkv->bhv", x[b][:, 0], first)[..., None, :]
    assert error(got["d_initial_state"], state) <= 1e-12


# --- How it is asked for ------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_working_precisions(tool, tmp_path, dtype):
    # The check's limits are twice the forward's.
    arrays = make("rwkv7", K=32, V=32, T=50, decay="strong")
    np.savez(tmp_path / "in.npz", **arrays)
    done = tool("delta-run", "rwkv7", "--input", tmp_path / "in.npz", "--grad",
                "--check", f"--dtype={dtype}")
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["d_" + arg.name for arg in LIBRARY["rwkv7"].args] + [
        "d_scale", "d_initial_state"]
    assert all(line.endswith(" ok") for line in done.stdout.splitlines())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="CPUs of x86-64")
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v3"])
def test_other_cpus(tool, cpu, dtype):
    done = tool("delta-run", "kda", "--random=B=1,T=40,H=2,K=64,V=64", "--grad",
                "--check", f"--dtype={dtype}", f"--mcpu={cpu}")
    assert done.stdout.count(" ok\n") == 7


def test_random_arrays_and_a_failed_check(tool):
    done = tool("delta-run", "mamba2", "--grad", "--check",
                "--random=B=2,T=20,H=2,K=8,V=8")
    assert done.stdout.count(" ok\n") == 8
    done = tool("delta-run", "mamba2", "--grad", "--check", "--tolerance=0",
                "--random=B=2,T=20,H=2,K=8,V=8", expect=2)
    assert " FAIL\n" in done.stdout


def test_packed_sequences_are_separate_bitwise(tool, tmp_path, gradient):
    ends = [0, 17, 17, 20, 52]
    x = make("mamba2", T=52)
    rng = np.random.default_rng(5)
    x["initial_state"] = rng.normal(size=[4, 2, K, V])
    x["dht"] = rng.normal(size=[4, 2, K, V])
    params = [arg.name for arg in LIBRARY["mamba2"].args if arg.param]
    packed = run_npz(tool, tmp_path, "mamba2",
                     {**x, "cu_seqlens": np.array(ends)}, "--grad",
                     "--dtype=f64", f"--chunk={CHUNK}")
    total = dict.fromkeys(params, 0)
    for i in range(4):
        part = {key: value if key in params
                else value[i:i + 1] if key in ("initial_state", "dht")
                else value[:, ends[i]:ends[i + 1]] for key, value in x.items()}
        for key, value in gradient("mamba2")(part).items():
            if key[2:] in params:
                total[key[2:]] = total[key[2:]] + value
            elif key == "d_initial_state":
                np.testing.assert_array_equal(packed[key][i:i + 1], value)
            else:
                np.testing.assert_array_equal(
                    packed[key][:, ends[i]:ends[i + 1]], value)
    for key in params:
        assert error(packed["d_" + key], total[key]) < 1e-14


def test_threads_do_not_change_a_bit(tool, tmp_path):
    x = make("mamba2", B=3, T=20, H=3, K=8, V=8)
    runs = []
    for count in ("1", "2"):
        env = {**os.environ, "DELTA_NUM_THREADS": count}
        runs.append(run_npz(lambda *args, **kwargs: tool(
            *args, env=env, **kwargs), tmp_path, "mamba2", x, "--grad"))
    for key, value in runs[0].items():
        np.testing.assert_array_equal(value, runs[1][key], key)


def test_saved_states_are_reported(tool):
    done = tool("delta-run", "kda", "--grad", "--explain", "--chunk=16",
                "--random=B=2,T=48,H=3,K=8,V=8")
    # 8 * 8 * 4 bytes every 16 tokens: 16 for each of 2 * 48 * 3.
    assert "bytes_per_token=16 (8 * 8 * 4 / (16 * 1))" in done.stderr
    assert (f"saved states take {16 * 2 * 48 * 3} bytes: shape (2, 3, 3, 8, 8) "
            "of f32\n") in done.stderr


@pytest.mark.parametrize("options, element, tokens", [
    ([], 4, 16), (["--dtype=bf16"], 4, 16), (["--dtype=f64"], 8, 16),
    (["--chunk=32"], 4, 32), (["--chunk=16", "--save-every=3"], 4, 48),
    (["--save-budget=24"], 4, 32), (["--save-budget=12"], 4, 64),
    (["--save-budget=6"], 4, 128), (["--chunk=16", "--save-budget=12"], 4, 64),
    (["--target=sm_90a", "--device=sim", "--dtype=bf16"], 2, 16),
    (["--target=sm_80", "--device=sim", "--dtype=f16", "--precision=f16"], 2,
     16),
    (["--target=sm_90a", "--device=sim", "--dtype=f32"], 4, 16)],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None)
@pytest.mark.parametrize("K, V", [(12, 16)])
def test_saved_bytes_match_the_formula(tool, options, element, tokens, K, V):
    B, T, H = 1, 384, 2
    done = tool("delta-run", "gla", "--grad", "--explain", *options,
                f"--random=B={B},T={T},H={H},K={K},V={V}")
    line = re.search(r"save every=(\d+) C=(\d+) state_bytes=(\d+) "
                     r"bytes_per_token=(\S+) \((\d+) \* (\d+) \* (\d+) / "
                     r"\((\d+) \* (\d+)\)\)", done.stderr)
    every, chunk, state, per_token, *formula = map(float, line.groups())
    assert [K, V, element, chunk, every] == formula
    assert chunk * every == tokens and state == K * V * element
    assert per_token == state / tokens
    taken = re.search(r"saved states take (\d+) bytes", done.stderr)
    assert int(taken[1]) == per_token * B * T * H


def test_too_small_a_budget(tool):
    done = tool("delta-run", "gla", "--grad", "--save-budget=1", "--chunk=16",
                "--random=B=1,T=16,H=1,K=128,V=128", expect=1)
    assert ("delta-run: error: --save-budget=1: no plan saves so little: a state "
            "has 65536 bytes and is saved every 1024 tokens at most, which takes "
            "64 bytes for every token and head; give --save-budget=64 or more"
            ) in done.stderr


def test_fewer_saved_states_are_the_same_gradients(tool, tmp_path, gradient):
    arrays = make("kda", B=2, T=70, decay="extreme")
    wanted = gradient("kda")(arrays)
    got = run_npz(tool, tmp_path, "kda", arrays, "--grad", "--dtype=f64",
                  f"--chunk={CHUNK}", "--save-every=3")
    assert_close(got, wanted, "every third state")
