# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random recurrences of the class through the fused forward kernel for GPUs.

specgen.py draws them; the simulator runs the PTX with all its checkers, and
--check compares with the float64 meaning of the spec. In f32 operands are split
for three bf16 products, so that little rounding hides a mistake.
DELTA_RANDOM_SPECS=BEGIN:END runs other seeds than the usual few.
"""

import os

import numpy as np
import pytest

from specgen import generate

BEGIN, END = map(int, os.environ.get("DELTA_RANDOM_SPECS", "0:24").split(":"))


@pytest.mark.parametrize("seed", range(BEGIN, END))
def test_random_specs(tool, tmp_path, seed):
    spec = generate(seed)
    file = tmp_path / f"random_{seed}.delta"
    file.write_text(spec.text())
    T = [37, 16, 5, 50][seed % 4]
    np.savez(tmp_path / "in.npz", **spec.draw(1, T, 2))
    target = ["sm_80", "sm_90a"][seed % 2]
    done = tool("delta-run", file, "--device=sim", f"--target={target}",
                "--check", "--dtype=f32", "--tolerance=1e-4", "--input",
                tmp_path / "in.npz")
    assert " ok\n" in done.stdout and "FAIL" not in done.stdout
