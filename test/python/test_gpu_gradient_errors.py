# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Errors of gradients in bf16, of kernels for GPUs run by the PTX simulator.

They are held against an emulation: the chunk programs of forward and backward,
with operands of matrix products and saved states in bf16 and everything else in
f32, by an evaluator that shares no code with the mapping, the lowering or the
simulator. So these tests are about no mapping in particular.
"""

import re

import numpy as np
import pytest

from kernels import run_npz
from numpy_recurrences import LIBRARY, draw, error, evaluate
from specgen import generate
from test_reference_gradient import add_cotangents

NAMES = sorted(LIBRARY)


def errors(tool, spec, sizes, *more):
    """Relative errors of all gradients against the float64 reference."""
    steps = ",n=2" if spec == "gated_delta_product" else ""
    done = tool("delta-run", spec, f"--random={sizes}{steps}", "--grad",
                "--dtype=bf16", "--check", "--tolerance=1e9", *more)
    return {m[1]: float(m[2]) for m in
            re.finditer(r"^(\w+) rel_err=(\S+)", done.stdout, re.M)}


@pytest.mark.parametrize("sizes, target", [
    ("B=1,T=41,H=2,K=32,V=40", "sm_90a"), ("B=2,T=20,H=1,K=64,V=64", "sm_80")])
@pytest.mark.parametrize("spec", NAMES)
def test_errors_of_the_same_precision(tool, spec, sizes, target):
    """At most three times the emulation's."""
    kernel = errors(tool, spec, sizes, f"--target={target}", "--device=sim")
    emulation = errors(tool, spec, sizes, f"--target={target}", "--emulate")
    arguments = {arg.name: arg for arg in LIBRARY[spec].args}
    assert kernel.keys() == emulation.keys() >= {
        "d_initial_state", *("d_" + name for name in arguments)}
    for name in kernel:
        arg = arguments.get(name[2:])
        # A sum over all tokens has few elements, whose error is small by luck
        # or large by cancellation.
        isSum = name != "d_initial_state" and (arg is None or arg.param)
        assert emulation[name] < (0.5 if isSum else 1e-2), name
        least = 5e-2 if isSum else 1e-7
        assert kernel[name] <= max(3 * emulation[name], least), name


def gates_of(name):
    return [arg.name for arg in LIBRARY[name].args
            if arg.draw == "gate" and not arg.param]


def percentile(errors, sizes):
    return np.quantile(np.abs(errors) / sizes, 0.99)


@pytest.mark.parametrize("name", [name for name in NAMES if gates_of(name)])
@pytest.mark.parametrize("decay", ["uniform", "1e-3"])
def test_decay_gradients_element_by_element(tool, tmp_path, name, decay):
    """Under strong decay the gradients of the decays span many orders, and a
    difference of running sums has nothing right in the small ones.

    The 99th percentile of an element's error, relative to the size that it has
    for its decays: the same in all heads, whose root mean square it is. An
    element relative to itself is 0 by chance in some heads, which limits every
    computation with bf16 operands: there the emulation is the measure."""
    rng = np.random.default_rng(3)
    arrays = draw(name, 1, 64, 8, 32, 32, decay="strong")
    for gate in gates_of(name):
        x = arrays[gate]
        if decay == "1e-3":
            x = -6.9 + 0.7 * rng.normal(size=x.shape)
        arrays[gate] = np.repeat(x[:, :, :1], x.shape[2], axis=2)
    arrays = add_cotangents(arrays, evaluate(name, arrays))
    wanted, kernel, emulation = (
        run_npz(tool, tmp_path, name, arrays, "--grad", "--dtype=bf16",
                "--target=sm_90a", *how)
        for how in (["--reference"], ["--device=sim"], ["--emulate"]))
    for key in ("d_" + gate for gate in gates_of(name)):
        assert np.all(np.isfinite(kernel[key])), key
        assert error(kernel[key], wanted[key]) < 1e-2, key
        size = np.sqrt(np.mean(wanted[key] ** 2, axis=2, keepdims=True))
        assert percentile(kernel[key] - wanted[key], size) <= 5e-2, key
        own = np.abs(wanted[key])
        limit = 3 * percentile(emulation[key] - wanted[key], own)
        if name in ("gla", "simple_gla"):  # products of inputs, without feedback
            limit = 5e-2
        assert percentile(kernel[key] - wanted[key], own) <= limit, key


def check_random_spec(tool, tmp_path, spec, seed, tokens, *options):
    """In f32: operands are split for three bf16 products."""
    file = tmp_path / f"random_{seed}.delta"
    file.write_text(spec.text())
    sizes = 1, tokens[seed % 4], 2
    arrays = spec.draw(*sizes)
    arrays = add_cotangents(arrays, spec.evaluate(arrays, *sizes))
    run_npz(tool, tmp_path, file, arrays, "--device=sim", "--dtype=f32",
            f"--target={['sm_80', 'sm_90a'][seed % 2]}", "--check",
            "--tolerance=1e-3", *options)


TOKENS = [21, 16, 5, 33]


# Seeds with decays that are exponentials, and others.
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, 6, 7, 9, 13, 14, 16, 19, 22])
def test_random_specs(tool, tmp_path, seed):
    spec = generate(seed)
    spec.dims = {dim: min(size, 17) for dim, size in spec.dims.items()}
    check_random_spec(tool, tmp_path, spec, seed, TOKENS, "--grad")


@pytest.mark.parametrize("seed", [1, 4, 5, 9, 12, 14, 20, 28])
def test_random_specs_in_blocks_of_columns(tool, tmp_path, seed):
    """Where CTAs can share a head, they do so right."""
    spec = generate(seed)
    sizes = [24] + [32] * len(spec.dims)
    spec.dims = dict(zip(spec.dims, sizes if len(spec.dims) > 1 else [32]))
    check_random_spec(tool, tmp_path, spec, seed, TOKENS, "--grad",
                      "--mapping=vsplit=2", "--save-every=2")
