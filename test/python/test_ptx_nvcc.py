# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Kernels that nvcc compiled, in the simulator, against NumPy.

The sources lie beside the PTX in test/Simulator/Inputs/nvcc.
"""

import json

import numpy as np
import pytest

from kernels import from_bf16, to_bf16
from ptxkernels import Ptx


@pytest.fixture(scope="module")
def nvcc(source, tool, tmp_path_factory):
    """`nvcc(FILE, kernel, args, ...)`: the outputs and the counters."""
    runner = Ptx(tool, tmp_path_factory.mktemp("nvcc"))

    def run(file, kernel, args, more=(), **kwargs):
        path = source / "test" / "Simulator" / "Inputs" / "nvcc" / file
        stats = runner.folder / f"stats{runner.count}.json"
        outs, _ = runner.run(path.read_text(), args,
                             more=[f"--kernel={kernel}", f"--stats={stats}",
                                   *more], **kwargs)
        return outs, json.loads(stats.read_text())[0]

    return run


def test_row_sums(nvcc, tmp_path):
    x = np.random.default_rng(0).standard_normal((3, 1000)).astype(np.float32)
    saved = tmp_path / "sums.npy"
    _, stats = nvcc("reduction.ptx", "row_sums",
                    [x, np.zeros(3, np.float32), "scalar:s32:1000"],
                    grid="2,3", block="128", more=[f"--save=1:{saved}"])
    want = x.astype(np.float64).sum(axis=1)
    assert np.abs(np.load(saved) - want).max() < 1e-4
    assert stats["global_load_bytes"] == x.nbytes
    assert stats["global_store_bytes"] == 6 * 4  # the atomics
    assert stats["barriers"] == 6 * 4


def test_softmax(nvcc):
    x = np.random.default_rng(1).standard_normal((4, 70)) * 20
    [y], _ = nvcc("reduction.ptx", "softmax",
                  [x, (x.shape, "f64"), "scalar:s32:70"], grid="4")
    e = np.exp(x - x.max(axis=1, keepdims=True))
    want = e / e.sum(axis=1, keepdims=True)
    assert (np.abs(y - want) <= 1e-14 * want + 1e-300).all()


def test_histogram(nvcc):
    x = np.random.default_rng(2).integers(-20, 900, 500) * 1000003
    width = 10 * 1000003
    [counts], _ = nvcc("reduction.ptx", "histogram",
                       [x, ((64,), "u32"), "scalar:s64:500",
                        f"scalar:s64:{width}"], block="96")
    want = np.zeros(64, int)
    for v in x.tolist():
        b = int(v / width)  # toward zero
        kind = 0 if b < 0 else 1 if b < 62 else 2 if b % 3 else 0
        want[{0: 63, 1: b}.get(kind, 62)] += 1
    assert (counts == want).all()


def test_calls(nvcc):
    x = np.random.default_rng(6).standard_normal(100).astype(np.float32)
    [out], _ = nvcc("reduction.ptx", "sum_and_largest",
                    [x, ((2,), "f32"), "scalar:s32:100"])
    assert abs(out[0] - x.sum()) < 1e-4 and out[1] == x.max()


@pytest.mark.parametrize("rows,columns", [(32, 32), (64, 96), (45, 70)])
def test_transpose(nvcc, rows, columns):
    x = np.random.default_rng(3).standard_normal((rows, columns))
    x = x.astype(np.float32)
    conflicts = {}
    for kernel in ("transpose_padded", "transpose_plain"):
        [y], stats = nvcc(
            "transpose.ptx", kernel,
            [x, ((columns, rows), "f32"), f"scalar:s32:{rows}",
             f"scalar:s32:{columns}"],
            grid=f"{-(-columns // 32)},{-(-rows // 32)}", block="32,8")
        assert (y == x.T).all()
        conflicts[kernel] = stats["shared_bank_conflicts"]
        assert stats["global_load_bytes"] == x.nbytes
    assert conflicts["transpose_padded"] == 0
    if (rows, columns) == (32, 32):
        # Every column of an unpadded tile lies in one bank.
        assert conflicts["transpose_plain"] == 32 * 31


def test_reverse_bytes(nvcc):
    x = np.random.default_rng(4).integers(0, 256, 16 * 50).astype(np.uint8)
    [y], stats = nvcc("transpose.ptx", "reverse_bytes",
                      [x, (x.shape, "u8"), "scalar:s32:50"], grid="2")
    assert (y == x[::-1]).all()
    assert stats["global_sectors"] == 2 * 25


@pytest.mark.parametrize("M,N,K", [(64, 64, 32), (128, 64, 96), (100, 72, 40)])
def test_matmul(nvcc, M, N, K):
    rng = np.random.default_rng(5)
    a = to_bf16(rng.standard_normal((M, K)))
    b = to_bf16(rng.standard_normal((K, N)))
    grid = (-(-N // 64), -(-M // 64))
    for seed in (0, 1):
        [c], stats = nvcc(
            "matmul.ptx", "matmul",
            [a, b, ((M, N), "f32"), *(f"scalar:s32:{n}" for n in (M, N, K))],
            grid=f"{grid[0]},{grid[1]}", block="128",
            more=["--shared=16384", f"--seed={seed}"])
        want = from_bf16(a).astype(np.float64) @ from_bf16(b)
        assert np.abs(c - want).max() < 1e-5 * np.sqrt(K)
    tiles = grid[0] * grid[1] * -(-K // 32)
    assert stats["mma_flops"] == tiles * 2 * 64 * 64 * 32
    assert stats["shared_bank_conflicts"] == 0
    assert stats["global_store_bytes"] == 4 * M * N
