# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The golden vectors, which another library computed, and what we compute.

They are float32, so agreement to about 1e-5 is exact agreement.
"""

import pathlib

import numpy as np
import pytest

from kernels import run_npz
from numpy_recurrences import LIBRARY, error, evaluate

FILES = sorted((pathlib.Path(__file__).parents[1] / "golden").glob("*.npz"))
LIMIT = 1e-5


def load(file):
    with np.load(file) as arrays:
        arrays = dict(arrays)
    name = max((n for n in LIBRARY if file.stem.startswith(n + "_")), key=len)
    return name, arrays


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_numpy_agrees(file):
    name, arrays = load(file)
    needed = [arg.name for arg in LIBRARY[name].args] + ["initial_state"]
    got = evaluate(name, {key: arrays[key] for key in needed})
    for key in ("o", "final_state"):
        assert error(got[key], arrays[key]) < LIMIT, key


@pytest.mark.parametrize("options", [["--reference"], [], ["--fn=decode"],
                                     ["--chunk=64"]],
                         ids=["reference", "forward", "decode", "chunk64"])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_delta_run_agrees(tool, tmp_path, file, options):
    # Outs, cotangents and gradients in the file are not in the way.
    name, arrays = load(file)
    got = run_npz(tool, tmp_path, name, arrays, *options)
    type = np.float64 if "--reference" in options else np.float32
    for key in ("o", "final_state"):
        assert got[key].dtype == type, key
        assert error(got[key], arrays[key]) < LIMIT, key
