# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Passes on IR that no spec would give: they preserve it or diagnose it."""

import random
import re
import subprocess

import numpy as np
import pytest

from irmutations import mutate
from numpy_recurrences import error
from specgen import generate

COUNT = 16  # for each base
SIZES = {"B": 1, "T": 21, "H": 1, "K": 3, "V": 4, "n": 2, "d": 5}
LIMIT = 1e-9
PASSES = {
    "step": ["--delta-step-to-events", "--delta-simplify-events",
             "--delta-chunk=compute=f64"],
    "events": ["--delta-simplify-events", "--delta-chunk=compute=f64"],
}


@pytest.fixture
def opt(tool_path):
    def opt(text, *passes):
        return subprocess.run(
            [tool_path("delta-opt"), "-", "--mlir-print-op-generic", *passes],
            input=text, capture_output=True, text=True, timeout=60)

    return opt


def draw(signature, rng):
    arrays = {}
    for arg in [*signature.inputs, signature.state]:
        value = rng.normal(size=signature.shape(arg, SIZES)) / 2
        if arg["name"] in ("g", "gk", "w"):
            value = -abs(value)
        arrays[arg["name"]] = value
    arrays["initial_state"] = arrays.pop(signature.state["name"])
    return arrays


@pytest.mark.parametrize("base", ["kda", "dplr", "gated_delta_product", "rwkv6",
                                  "comba", 7, 11, 14])
def test_passes_preserve_or_diagnose(tool, kernels, opt, tmp_path, base):
    spec = base
    if isinstance(base, int):
        spec = tmp_path / "random.delta"
        spec.write_text(generate(base).text())
    signature = kernels.signature(spec, "--dtype=f64")
    arrays = draw(signature, np.random.default_rng(0))
    np.savez(tmp_path / "in.npz", **arrays)
    dims = [part for dim in signature.dims
            for part in ("-D", f"{dim}={SIZES[dim]}")]
    attrs = [part for item in signature.attr_values(SIZES, {}).items()
             for part in ("--attr", f"{item[0]}={item[1]!r}")]

    def meaning(text):
        (tmp_path / "ir.mlir").write_text(text)
        tool("delta-eval", tmp_path / "ir.mlir", "--input", tmp_path / "in.npz",
             "--output", tmp_path / "out.npz", *dims, *attrs)
        with np.load(tmp_path / "out.npz") as got:
            return dict(got)

    rng = random.Random(base)
    bind = "--delta-set-dims=dims=" + ",".join(
        f"{dim}={SIZES[dim]}" for dim in signature.dims)
    step = opt(tool("delta-compile", spec, "--emit=step",
                    "--dtype=f64").stdout, bind).stdout
    events = opt(step, "--delta-step-to-events").stdout
    compared = 0
    for i in range(COUNT):
        stage, text = [("step", step), ("events", events)][i % 2]
        text = mutate(text, rng)
        done = opt(text, *PASSES[stage])
        assert done.returncode in (0, 1), (done.returncode, text)
        if done.returncode == 1:
            assert re.search(r"^<stdin>:\d+:\d+: error: ", done.stderr, re.M)
            continue
        expected, got = meaning(text), meaning(done.stdout)
        tame = all(np.all(np.abs(x) < 1e12) for x in expected.values())
        for key in expected if tame else ():
            assert error(got[key], expected[key]) <= LIMIT, (key, text)
        compared += tame
    assert compared > COUNT // 3
