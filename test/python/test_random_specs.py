# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random recurrences of the class, through every stage.

specgen.py evaluates the tree from which the text was printed, so parser,
passes, reference and kernels are all held against something of its own.
DELTA_RANDOM_SPECS=BEGIN:END runs other seeds than the usual few.
"""

import os

import numpy as np
import pytest

from kernels import run_npz
from numpy_recurrences import error
from specgen import generate

BEGIN, END = map(int, os.environ.get("DELTA_RANDOM_SPECS", "0:60").split(":"))
# The kernels take most of the time: every so many seeds, unless asked for.
EVERY = 1 if "DELTA_RANDOM_SPECS" in os.environ else 3
LIMIT = 1e-11
STAGES = {"events": [], "chunk": ["--chunk=16"], "chunk32": ["--chunk=32"]}


@pytest.fixture(params=range(BEGIN, END))
def case(request, tmp_path):
    """A recurrence, its file, arrays and what is expected of them."""
    seed = request.param
    spec = generate(seed)
    file = tmp_path / f"random_{seed}.delta"
    file.write_text(spec.text())
    sizes = [(1, 37, 2), (2, 16, 1), (1, 5, 1), (1, 33, 3)][seed % 4]
    arrays = spec.draw(*sizes)
    return spec, file, arrays, sizes


def assert_close(got, expected, what):
    assert got.keys() == expected.keys(), what
    for key, reference in expected.items():
        assert np.all(np.isfinite(got[key])), (what, key)
        assert error(got[key], reference) <= LIMIT, (what, key)


def test_reference_and_stages(tool, kernels, tmp_path, case):
    spec, file, arrays, sizes = case
    expected = spec.evaluate(arrays, *sizes)
    got = run_npz(tool, tmp_path, file, arrays, "--reference")
    assert_close(got, expected, "reference")
    signature = kernels.signature(file, "--dtype=f64")
    sizes = {**spec.dims, **signature.sizes(arrays)}
    options = []
    for name, value in signature.attr_values(sizes, {}).items():
        options += ["--attr", f"{name}={value!r}"]
    for dim in signature.dims:
        options += ["-D", f"{dim}={sizes[dim]}"]
    for stage, more in STAGES.items():
        ir = tmp_path / f"{stage}.mlir"
        bind = [part for dim in signature.dims
                for part in ("-D", f"{dim}={sizes[dim]}")]
        tool("delta-compile", file, f"--emit={stage.rstrip('32')}", "-o", ir,
             "--dtype=f64", *bind, *more)
        tool("delta-eval", ir, "--input", tmp_path / "in.npz", "--output",
             tmp_path / "stage.npz", *options)
        with np.load(tmp_path / "stage.npz") as got:
            assert_close(dict(got), expected, stage)


def test_kernels(kernels, case):
    spec, file, arrays, sizes = case
    if spec.seed % EVERY:
        pytest.skip("not one of the seeds that are compiled")
    expected = spec.evaluate(arrays, *sizes)
    for fn, chunk in (("forward", 16), ("forward", 32), ("decode", None)):
        kernel = kernels(file, fn=fn, chunk=chunk, **spec.dims)
        assert_close(kernel(arrays), expected, (fn, chunk))
    # In f32 the declared ranges choose other schemes.
    rounded = {key: x.astype(np.float32) for key, x in arrays.items()}
    expected = spec.evaluate(rounded, *sizes)
    emulated = spec.evaluate(rounded, *sizes, dtype=np.float32)
    got = kernels(file, dtype="f32", **spec.dims)(rounded)
    for key, reference in expected.items():
        limit = max(3 * error(emulated[key], reference), 1e-5)
        assert np.all(np.isfinite(got[key])), key
        assert error(got[key], reference) <= limit, key
