# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Chunks of 32 and 64 tokens on GPUs, mapped by tiles, in the PTX simulator.

The forward is also mapped by tiles where registers do not hold the state.
"""

import re

import numpy as np
import pytest

import numpy_recurrences as recurrences
from kernels import run_npz
from specgen import generate
from test_gpu_forward import LIBRARY, assert_same, errors, params, run
from test_gpu_gradient_errors import check_random_spec
from test_gpu_gradient_errors import errors as gradient_errors
from test_reference_gradient import add_cotangents

GPU = ["--device=sim", "--target=sm_90a", "--dtype=bf16"]


@pytest.mark.parametrize("chunk, target", [(32, "sm_80"), (64, "sm_90a")])
@pytest.mark.parametrize("spec", LIBRARY)
def test_errors_of_the_same_precision(tool, spec, chunk, target):
    """A partial last chunk, two heads, K != V: at most three times the error of
    an emulation of the chunk program, and no finding."""
    command = [tool, spec, "B=1,T=90,H=2,K=32,V=48", "--dtype=bf16",
               f"--target={target}", f"--chunk={chunk}", "--check"]
    kernel, emulation = errors(run(*command)), errors(run(*command, "--emulate"))
    assert kernel.keys() == emulation.keys() >= {"o", "final_state"}
    for name in kernel:
        assert kernel[name] <= max(3 * emulation[name], 1e-6), name


@pytest.mark.parametrize("sizes", [
    "T=40,K=9,V=17", "T=0,K=16,V=16", "T=1,K=16,V=16", "T=64,K=60,V=100",
    "T=33,K=128,V=128", "T=17,K=20,V=12"])
@pytest.mark.parametrize("spec", ["dplr", "gated_delta_product", "gla"])
def test_sizes(tool, spec, sizes):
    run(tool, spec, f"B=2,H=1,{sizes}", *GPU, "--chunk=32", "--check")


@pytest.mark.parametrize("chunk, more", [
    (32, ["--dtype=f32"]), (64, ["--dtype=f32", "--precision=tf32"]),
    (64, ["--dtype=f16"]), (32, ["--dtype=f16", "--precision=f16"])],
    ids=lambda more: str(more))
@pytest.mark.parametrize("spec", ["dplr", "gated_delta_product"])
def test_precisions(tool, spec, chunk, more):
    run(tool, spec, "B=1,T=70,H=1,K=32,V=32", *more, "--target=sm_90a",
        f"--chunk={chunk}", "--check")


@pytest.mark.parametrize("spec", LIBRARY)
def test_no_decay_makes_nan(tool, tmp_path, spec):
    """Log-decays from 0 to -inf, anywhere."""
    x = recurrences.draw(spec, B=1, T=77, H=2, K=16, V=32, decay="extreme")
    if spec == "retention":
        x["g_gamma"][:] = -np.inf, -1e4
    if spec == "mamba2":
        x["A_log"][:] = 80, -80
    np.savez(tmp_path / "x.npz", **x)
    tool("delta-run", spec, "--input", tmp_path / "x.npz", *GPU, "--chunk=64",
         "--check")


@pytest.mark.parametrize("decay", [-np.inf, -60.0, -1e4, -1e-8])
@pytest.mark.parametrize("spec", ["dplr", "gated_delta_rule"])
def test_the_same_decay_everywhere(tool, tmp_path, spec, decay):
    x = recurrences.draw(spec, B=1, T=77, H=2, K=32, V=32)
    x["gk" if spec == "dplr" else "g"][:, ::3] = decay
    np.savez(tmp_path / "x.npz", **x)
    tool("delta-run", spec, "--input", tmp_path / "x.npz", *GPU, "--chunk=32",
         "--check")


@pytest.mark.parametrize("spec", ["dplr", "gated_delta_product", "mamba2"])
def test_causal_to_the_bit(tool, tmp_path, spec):
    x = recurrences.draw(spec, B=1, T=70, H=1, K=32, V=32)
    later = recurrences.draw(spec, B=1, T=70, H=1, K=32, V=32, seed=1)
    y = {name: array if name in params(spec) or name == "initial_state" else
         np.concatenate([array[:, :37], 7 * later[name][:, 37:]], axis=1)
         for name, array in x.items()}
    before, after = (run_npz(tool, tmp_path, spec, arrays, *GPU, "--chunk=64")
                     for arrays in (x, y))
    np.testing.assert_array_equal(before["o"][:, :37], after["o"][:, :37])
    assert (before["o"][:, 37:] != after["o"][:, 37:]).any()
    assert_same(before, run_npz(tool, tmp_path, spec, x, *GPU, "--chunk=64"))


@pytest.mark.parametrize("spec", LIBRARY)
def test_errors_of_gradients(tool, spec):
    """Forward with saved states and backward, at most three times the
    emulation's error."""
    sizes = "B=1,T=75,H=1,K=32,V=40"
    command = ["--target=sm_90a", "--chunk=32"]
    kernel = gradient_errors(tool, spec, sizes, *command, "--device=sim")
    emulation = gradient_errors(tool, spec, sizes, *command, "--emulate")
    arguments = {arg.name: arg for arg in recurrences.LIBRARY[spec].args}
    assert kernel.keys() == emulation.keys()
    for name in kernel:
        arg = arguments.get(name[2:])
        # A sum over all tokens may cancel.
        is_sum = name != "d_initial_state" and (arg is None or arg.param)
        least = 0.2 if is_sum else 1e-7
        assert kernel[name] <= max(3 * emulation[name], least), name


@pytest.mark.parametrize("spec", ["gla", "kda", "mamba2", "iplr"])
def test_gradients_of_64_tokens(tool, spec):
    run(tool, spec, "B=1,T=100,H=1,K=16,V=32", *GPU, "--chunk=64", "--grad",
        "--check", "--tolerance=0.1")


@pytest.mark.parametrize("decay", ["strong", "extreme", "-inf", "0"])
@pytest.mark.parametrize("spec", ["dplr", "kda", "gated_delta_rule"])
def test_gradients_under_any_decay(tool, tmp_path, spec, decay):
    """Finite, and as right as the emulation."""
    arrays = recurrences.draw(spec, 1, 70, 1, 16, 32, decay=decay)
    arrays = add_cotangents(arrays, recurrences.evaluate(spec, arrays))
    wanted, kernel, emulation = (
        run_npz(tool, tmp_path, spec, arrays, "--grad", "--dtype=bf16",
                "--target=sm_90a", "--chunk=32", *how)
        for how in (["--reference"], ["--device=sim"], ["--emulate"]))
    for name in wanted:
        assert np.all(np.isfinite(kernel[name])), name
        if np.ndim(wanted[name]) < 3:
            continue
        least = 3 * recurrences.error(emulation[name], wanted[name])
        assert recurrences.error(kernel[name], wanted[name]) <= max(
            least, 1e-6), name


@pytest.mark.parametrize("spec, sizes", [
    ("linear_attn", "T=40,K=512,V=64"), ("dplr", "T=20,K=512,V=32")])
def test_a_state_that_registers_do_not_hold(tool, spec, sizes):
    run(tool, spec, f"B=1,H=1,{sizes}", *GPU, "--check")


def check_long_chunks(tool, tmp_path, seed, *more):
    spec = generate(seed)
    spec.dims = {dim: min(size, 17) for dim, size in spec.dims.items()}
    check_random_spec(tool, tmp_path, spec, seed, [41, 32, 75, 64],
                      f"--chunk={[32, 64][seed % 2]}", *more)


# Seeds whose chunk programs fit the shared memory.
@pytest.mark.parametrize("seed", [1, 2, 5, 9, 11, 16, 19, 24, 25])
def test_random_specs(tool, tmp_path, seed):
    check_long_chunks(tool, tmp_path, seed)


@pytest.mark.parametrize("seed", [2, 4, 14, 16, 22])
def test_gradients_of_random_specs(tool, tmp_path, seed):
    check_long_chunks(tool, tmp_path, seed, "--grad")


def test_what_is_not_there(tool):
    done = run(tool, "dplr", "T=8,K=64,V=64", *GPU, "--chunk=32",
               "--mapping=window=2", expect=1)
    assert ("rows, ksplit, window, stages, kernels and free are choices of the "
            "fused kernels, which take chunks of 16 tokens; a mapping by tiles "
            "has warps and vsplit") in done.stderr
    done = run(tool, "dplr", "T=8,K=64,V=64", *GPU, "--chunk=64", "--grad",
               expect=1)
    assert re.search(
        r"dplr.delta:\d+:\d+: error: no mapping of the backward of a 64 x 64 "
        r"state in chunks of 64 tokens fits sm_90a: the smallest needs \d+ bytes "
        r"of shared memory a CTA, and there are 232448; use smaller chunks, "
        r"--target=cpu or smaller dims", done.stderr)
