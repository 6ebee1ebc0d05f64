# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Kernels that this compiler makes, in delta-ptx-sim: what it must find.

A kernel as compiled has no finding and gives the same bits in any order of its
warps; without any one of its barriers or waits for copies it has one.
"""

import re

import numpy as np
import pytest

from ptxkernels import Ptx

T, H, K = 70, 2, 64
SYNCHRONISATION = re.compile(r"^\s*(bar\.sync|cp\.async\.wait)")


@pytest.fixture(scope="module")
def kernel(tool, tmp_path_factory):
    """`kernel(text, seed)`: the bits of o, and the process, of a dplr kernel."""
    folder = tmp_path_factory.mktemp("generated")
    runner = Ptx(tool, folder)
    source = folder / "dplr.ptx"
    tool("delta-compile", "dplr", "-D", f"K={K}", "-D", f"V={K}",
         "--dtype=bf16", "--target=sm_90a", "--mapping=vsplit=1", "--emit=ptx",
         "-o", source)
    rng = np.random.default_rng(0)
    q, k, v, a = (rng.standard_normal((1, T, H, K)) for _ in range(4))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    a /= np.linalg.norm(a, axis=-1, keepdims=True)
    b = -a * rng.uniform(size=(1, T, H, 1))
    gk = -rng.uniform(size=(1, T, H, K))
    args = []
    for i, x in enumerate((q, k, v, a, b, gk)):
        np.save(folder / f"in{i}.npy", x.astype(np.float32))
        args.append(f"{folder}/in{i}.npy" + (":bf16" if i < 5 else ""))
    args += ["scalar:u64:0", ((1, T, H, K), "bf16"), ((1, H, K, K), "f32"),
             f"scalar:f32:{K ** -0.5}", "scalar:u64:0", "scalar:u64:1",
             f"scalar:u64:{T}", f"scalar:u64:{H}"]
    text = source.read_text()
    threads = re.search(r"\.(?:maxntid|reqntid)\s+(\d+)", text)[1]

    def run(text, seed=0, expect=0):
        outs, done = runner.run(
            text, args, grid=str(H), block=threads, expect=expect,
            more=["--shared=200000", f"--seed={seed}"])
        return [out.tobytes() for out in outs], done

    run.text = text
    return run


def test_schedules(kernel):
    first, _ = kernel(kernel.text)
    for seed in (1, 2, 3):
        again, _ = kernel(kernel.text, seed)
        assert again == first


def test_missing_synchronisation(kernel):
    lines = kernel.text.split("\n")
    places = [i for i, line in enumerate(lines) if SYNCHRONISATION.match(line)]
    assert len(places) >= 3
    for place in places:
        without = lines[:place] + [""] + lines[place + 1:]
        _, done = kernel("\n".join(without), expect=2)
        assert re.search(r"shared-race|async-copy|uninitialized-memory",
                         done.stderr), lines[place]
