# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The fused forward kernel that saves the state before every chunk.

That the states are right is seen by the gradients (test_gpu_backward.py); here
is what saving costs, and reading what is saved.
"""

import json
import re
import shutil

import pytest

from test_gpu_forward import LIBRARY, options


@pytest.mark.parametrize("spec", LIBRARY)
def test_traffic(tool, tmp_path, spec):
    """Everything is read or written once, in whole sectors."""
    B, T, H, K, V = 1, 128, 1, 64, 64
    path = tmp_path / "stats.json"
    steps = ",n=2" if spec == "gated_delta_product" else ""
    tool("delta-run", spec, f"--random=B={B},T={T},H={H},K={K},V={V}{steps}",
         "--grad", "--dtype=bf16", "--target=sm_90a", "--device=sim",
         f"--stats={path}", f"--output={tmp_path / 'gradients.npz'}")
    launches = json.loads(path.read_text())
    for launch, option, limit in zip(launches, ["--save-every=1",
                                                "--fn=backward"], [1.05, 1.3]):
        explained = tool("delta-compile", spec, *options(spec), "-D", f"K={K}",
                         "-D", f"V={V}", "--dtype=bf16", "--target=sm_90a",
                         option, "--emit=mapped", "--explain", "-o",
                         "/dev/null").stderr
        arrays = int(re.search(r"bytes a token: (\d+)", explained)[1])
        saved = float(re.search(r"bytes_per_token=(\S+)", explained)[1])
        assert saved == K * V * 2 / 16
        states = B * H * 2 * K * V * 4  # at both ends
        moved = launch["global_load_bytes"] + launch["global_store_bytes"]
        assert moved <= limit * ((arrays + saved) * B * T * H + states)
    forward = launches[0]
    assert forward["global_load_bytes"] + forward["global_store_bytes"] \
        >= 0.95 * 32 * forward["global_sectors"]


@pytest.mark.skipif(not shutil.which("ptxas"), reason="there is no ptxas")
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("spec", LIBRARY)
def test_assembled_without_spills(tool, spec, dim):
    """As many CTAs a multiprocessor as without saving, and no spills; but at 128
    two recurrences, whose plain kernels use all registers, have a few."""
    done = tool("delta-compile", spec, *options(spec), "-D", f"K={dim}", "-D",
                f"V={dim}", "--dtype=bf16", "--target=sm_90a", "--save-every=1",
                "--emit=cubin", "--explain", "-o", "/dev/null")
    report = dict(re.findall(r"(\w+)=(\d+)", done.stderr.splitlines()[-1]))
    few = {"kda": 8, "gated_delta_product": 48} if dim == 128 else {}
    assert int(report["spill_bytes"]) <= few.get(spec, 0)
    two = 1 if spec in ("dplr", "rwkv7") else 2
    assert int(report["ctas_per_sm"]) >= (4 if dim == 64 else two)
