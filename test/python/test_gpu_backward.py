# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Backward kernels for GPUs, run by the PTX simulator.

delta-run --grad --check runs the forward kernel that saves its states and the
backward kernel that reads them, fails on any finding of the simulator's
checkers, and compares every gradient with reverse mode of the float64
reference. The gradient of an attr is one number, a sum over all tokens with
either sign, which may be near 0: its absolute error has a limit.
"""

import json
import re
import shutil

import numpy as np
import pytest

from test_gpu_forward import LIBRARY

SUMS = {"d_scale"}


def run(tool, spec, sizes, *more, expect=0):
    steps = ",n=2" if spec == "gated_delta_product" else ""
    return tool("delta-run", spec, f"--random={sizes}{steps}", "--grad",
                "--device=sim", *more, expect=expect)


def errors(done):
    """rel_err and max_abs of every gradient."""
    return {m[1]: (float(m[2]), float(m[3])) for m in
            re.finditer(r"^(\S+) rel_err=(\S+) max_abs=(\S+)", done.stdout,
                        re.M)}


def check(tool, spec, sizes, *more, limit):
    # The limit is looked at here: --check would look at sums too.
    done = run(tool, spec, sizes, *more, "--check", "--tolerance=1e9")
    found = errors(done)
    assert "d_initial_state" in found
    for name, (relative, absolute) in found.items():
        if name in SUMS:
            assert absolute <= 50 * limit, (name, absolute)
        else:
            assert relative <= limit, (name, relative)


def check_places(tool, tmp_path, spec, path, *more):
    """Two runs, and copies of one problem in two sequences of two heads each,
    have the same bits."""
    results = []
    for number in range(2):
        out = tmp_path / f"{number}.npz"
        tool("delta-run", spec, f"--input={path}", f"--output={out}", "--grad",
             "--dtype=bf16", "--device=sim", "--target=sm_90a", *more)
        results.append(dict(np.load(out)))
    for name, x in results[0].items():
        np.testing.assert_array_equal(x, results[1][name])
        if x.ndim < 2:
            continue
        axis = 1 if name == "d_initial_state" else 2
        for i in range(2):
            for j in range(2):
                np.testing.assert_array_equal(
                    np.take(x[i], j, axis - 1), np.take(x[0], 0, axis - 1),
                    err_msg=name)


def check_same_precision(tool, spec, *more):
    """At most three times the errors of an emulation that rounds alike."""
    args = ("B=1,T=137,H=2,K=32,V=64", "--dtype=bf16", "--target=sm_90a",
            "--check", "--tolerance=1e9")
    emulation = errors(tool("delta-run", spec, "--random=" + args[0], "--grad",
                            "--emulate", *args[1:]))
    kernel = errors(run(tool, spec, *args, *more))
    for name, (relative, _) in kernel.items():
        limit = 5e-2 if name in SUMS else 3 * emulation[name][0]
        assert relative <= limit, name


@pytest.mark.parametrize("spec", LIBRARY)
def test_library(tool, spec):
    """Tails, odd sizes, two batches and heads."""
    target = "sm_80" if spec in ("gla", "kda") else "sm_90a"
    check(tool, spec, "B=2,T=37,H=2,K=24,V=40", "--dtype=bf16",
          f"--target={target}", limit=2e-2)


@pytest.mark.parametrize("spec", ["dplr", "kda", "gated_delta_rule", "mamba2"])
def test_by_tiles(tool, spec):
    """The mapping of programs that have no slices."""
    check(tool, spec, "B=2,T=37,H=2,K=24,V=64", "--dtype=bf16",
          "--target=sm_90a", "--mapping=warps=4", limit=2e-2)


@pytest.mark.parametrize("spec", LIBRARY)
@pytest.mark.parametrize("size", [64, 128])
def test_library_is_mapped_in_slices(tool, tmp_path, spec, size):
    """Also where shared memory is small, and without spilled registers."""
    more = ["-D", "n=2"] if spec == "gated_delta_product" else []
    for target in ("sm_80", "sm_90a"):
        emit = "cubin" if shutil.which("ptxas") else "ptx"
        done = tool("delta-compile", spec, "-D", f"K={size}", "-D",
                    f"V={size}", *more, "--dtype=bf16", f"--target={target}",
                    "--fn=backward", f"--emit={emit}", "--explain", "-o",
                    tmp_path / "kernel")
        assert "mapping form=sliced" in done.stderr
        spilled = re.search(r"spill_bytes=(\d+)", done.stderr)
        if not spilled:
            continue
        assert int(spilled[1]) == 0


@pytest.mark.parametrize("spec", ["dplr", "kda", "gated_delta_rule", "gla"])
def test_sizes(tool, spec):
    for sizes in ("T=20,K=128,V=128", "T=17,K=64,V=8", "T=16,K=9,V=17"):
        check(tool, spec, f"B=1,H=1,{sizes}", "--dtype=bf16",
              "--target=sm_90a", limit=2e-2)


@pytest.mark.parametrize("more,limit", [
    (["--dtype=f32"], 2e-4), (["--dtype=f32", "--precision=tf32"], 4e-3),
    (["--dtype=f16"], 4e-3)], ids=lambda x: str(x))
def test_precisions(tool, more, limit):
    check(tool, "dplr", "B=1,T=35,H=1,K=32,V=32", *more, "--target=sm_80",
          limit=limit)


@pytest.mark.parametrize("spec", ["dplr", "gated_delta_rule", "simple_gla"])
@pytest.mark.parametrize("decay", ["strong", "zero", "inf"])
def test_decays(tool, tmp_path, spec, decay):
    """No NaN for any decay, and the right gradients."""
    gate = "gk" if spec == "dplr" else "g"
    rng = np.random.default_rng(7)
    arrays = dict(np.load(save_random(tool, tmp_path, spec)))
    shape = arrays[gate].shape
    arrays[gate] = {
        "strong": -8 * rng.random(shape),
        "zero": np.zeros(shape),
        "inf": np.where(rng.random(shape) < 0.1, -np.inf,
                        -0.1 * rng.random(shape)),
    }[decay].astype(np.float32)
    path = tmp_path / "in.npz"
    np.savez(path, **arrays)
    results = {}
    for kind in (["--reference"], ["--device=sim", "--target=sm_90a"]):
        out = tmp_path / f"{kind[0]}.npz"
        tool("delta-run", spec, f"--input={path}", f"--output={out}", "--grad",
             "--dtype=bf16", *kind)
        results[kind[0]] = np.load(out)
    for name, expected in results["--reference"].items():
        got = results["--device=sim"][name]
        assert np.isfinite(got).all(), name
        scale = np.linalg.norm(expected) or 1.0
        if name not in SUMS:
            assert np.linalg.norm(got - expected) <= 2e-2 * scale, name


def save_random(tool, tmp_path, spec):
    """Arrays of T = 40, with cotangents."""
    rng = np.random.default_rng(1)
    K, V, tokens = 32, 32, (1, 40, 2)
    def unit(*shape):
        x = rng.standard_normal(shape)
        return x / np.linalg.norm(x, axis=-1, keepdims=True)
    arrays = {"q": unit(*tokens, K), "k": unit(*tokens, K),
              "v": rng.standard_normal((*tokens, V)),
              "do": rng.standard_normal((*tokens, V)),
              "dht": rng.standard_normal((1, 2, K, V)),
              "initial_state": rng.standard_normal((1, 2, K, V))}
    if spec == "dplr":
        arrays |= {"a": unit(*tokens, K), "b": -0.5 * unit(*tokens, K),
                   "gk": np.zeros((*tokens, K))}
    else:
        arrays["g"] = np.zeros(tokens)
    if spec == "gated_delta_rule":
        arrays["beta"] = rng.random(tokens)
    path = tmp_path / "random.npz"
    # What the kernel is given is what the reference is given.
    rounded = {name: to_bf16(x) if name in "qkvab" or name == "do"
               else x.astype(np.float32) for name, x in arrays.items()}
    np.savez(path, **rounded)
    return path


def to_bf16(x):
    bits = np.asarray(x, np.float32).view(np.uint32)
    bits = bits + 0x7FFF + ((bits >> 16) & 1)
    return (bits & 0xFFFF0000).astype(np.uint32).view(np.float32)


def test_runs_are_bitwise_equal(tool, tmp_path):
    """Sums have one order: no atomics."""
    results = []
    for number in range(2):
        out = tmp_path / f"{number}.npz"
        run(tool, "mamba2", "B=2,T=33,H=2,K=16,V=32", "--dtype=bf16",
            "--target=sm_90a", f"--output={out}")
        results.append(np.load(out))
    for name in results[0]:
        np.testing.assert_array_equal(results[0][name], results[1][name])


def test_traffic(tool, tmp_path):
    """Arrays are read once and written once."""
    path = tmp_path / "stats.json"
    B, T, H, K, V = 1, 64, 2, 64, 64
    run(tool, "kda", f"B={B},T={T},H={H},K={K},V={V}", "--dtype=bf16",
        "--target=sm_90a", f"--stats={path}", f"--output={tmp_path / 'o.npz'}")
    forward, backward = json.loads(path.read_text())
    tokens, states = B * T * H, B * H * T // 16
    vectors = tokens * (2 * K + V + V) * 2 + tokens * (K + 1) * 4
    floor = vectors + (states * 2 + B * H * 4) * K * V
    assert backward["global_load_bytes"] <= 1.01 * floor
    written = tokens * (2 * K + V) * 2 + tokens * (K + 1) * 4 \
        + B * H * (K * V + 1) * 4
    assert backward["global_store_bytes"] <= 1.01 * written


def test_states_that_do_not_fit_are_refused(tool):
    done = tool("delta-compile", "dplr", "-D", "K=512", "-D", "V=256",
                "--dtype=bf16", "--target=sm_90a", "--fn=backward",
                "--emit=ptx", expect=1)
    assert re.search(r"no mapping of the backward of a 512 x 256 state fits "
                     r"sm_90a: the smallest needs \d+ bytes of shared memory a "
                     r"CTA, and there are \d+", done.stderr)
