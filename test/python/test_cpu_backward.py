# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Operations of gradients and backward kernels on the CPU.

The operations that only gradients have, in programs written by hand, against
the evaluator (float64); what a program computes need not be a gradient. Then
whole kernels with a checkpoint in every chunk and with fewer.
"""

import itertools
import re

import numpy as np
import pytest

from test_cpu_map import LIMIT, Program, check, gate, masked  # noqa: F401

QKV = dict(q=("in", "K"), k=("in", "K"), v=("in", "V"), a=("in", "K"),
           g=("in", "K"), h=("in", "C"), beta=("in",), S=("state", "K", "V"))
BITS = ["vector-bits=128", "vector-bits=256 fma=off", "vector-bits=512"]


def token_sum(p, x):
    t = p.tensor(p.shape(x)[1])
    return p.value(f"delta.token_sum {x} : {p.types[x]} -> {t}", t)


def diagonal(p, x):
    t = p.tensor(p.shape(x)[0])
    return p.value(f"delta.diagonal {x} : {p.types[x]} -> {t}", t)


def linear_scan(p, x, w, flags):
    t = p.types[x]
    return p.value(f"delta.linear_scan {flags} {x}, {w} : {t}", t)


def gram_adjoint(p, rows, cols, w, cotangents, masks, log, leaf=16):
    side = lambda s: (f"({', '.join(v for v, _ in s)}) "
                      f"[{', '.join(p for _, p in s)}]")
    quoted = ", ".join(f'"{m}"' for m in masks)
    return p.several(
        f"delta.decay_gram_adjoint rows{side(rows)} cols{side(cols)} decay({w}) "
        f"cotangents({', '.join(cotangents)}) masks [{quoted}] leaf {leaf} scheme "
        f"exact {'log' if log else ''} : {p.types[w]}, {p.types[cotangents[0]]}",
        [p.types[w]] * (len(rows) + len(cols) + 1))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("C, K", [(16, 20), (32, 8), (48, 3), (64, 17)])
def test_gram_adjoint(check, C, K, log):
    """Every position and mask; decays that are 0."""
    p = Program(C, dict(K=K, V=5, C=C), **QKV)
    q, k, a, h = masked(p, "q", "k", "a", "h")
    w = gate(p, "g")
    for row, col in itertools.product(["before", "after"], repeat=2):
        same = "strict" if (row, col) == ("before", "after") else "diagonal"
        for d in gram_adjoint(p, [(q, row)], [(k, col)], w, [h], [same], log):
            p.out(d, "K")
    several = gram_adjoint(
        p, [(q, "after"), (a, "before")], [(k, "after"), (a, "after"), (q, "before")],
        w, [h, p.scaled(h, 2), p.mul(h, h), h],
        ["diagonal", "none", "strict", "strict", "strict", "none"], log)
    for d in several:
        p.out(d, "K")
    check(p, "%S", options=BITS[C % 3])


@pytest.mark.parametrize("options", BITS)
@pytest.mark.parametrize("flags", ["", "exclusive", "reverse", "exclusive reverse"])
def test_running_sums(check, flags, options):
    C, K = 32, 19
    p = Program(C, dict(K=K, V=5, C=C), **QKV)
    q, k, beta = masked(p, "q", "k", "beta")
    w = gate(p, "g")
    sums = p.unary(f"delta.prefix_sum {flags}", p.mul(q, k))
    p.out(sums, "K")
    p.out(p.mul(linear_scan(p, q, w, flags), sums), "K")
    p.out(p.unary(f"delta.prefix_sum {flags}", beta))
    p.out(linear_scan(p, beta, p.mul(beta, beta), flags))
    p.out(p.mul(q, p.broadcast(token_sum(p, p.mul(sums, q)), [C, K], 1)), "K")
    check(p, "%S", options=options)


@pytest.mark.parametrize("options", BITS)
@pytest.mark.parametrize("C, K", [(16, 20), (32, 1)])
def test_diagonals(check, C, K, options):
    p = Program(C, dict(K=K, V=5, C=C), **QKV)
    q, k, h = masked(p, "q", "k", "h")
    g = p.matmul(q, k, flags="transpose_rhs")
    p.out(diagonal(p, p.mul(g, h)))
    p.out(p.mul(diagonal(p, h), "%beta"))
    check(p, "%S", options=options)


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("options", BITS)
def test_transposed_solve(check, m, options):
    """Inside a panel and outside; blocks with diagonals."""
    C, K = 32, 12
    p = Program(C, dict(K=K, V=33, C=C), **QKV)
    q, k, v, h = masked(p, "q", "k", "v", "h")
    grams = [p.scaled(p.matmul(q, k, flags="transpose_rhs"), 1 / (2 + i))
             for i in range(m * m)]
    blocks = [p.causal(g, "diagonal" if i % m < i // m else "")
              for i, g in enumerate(grams)]

    def solve(rhs):
        return p.several(
            f"delta.tri_solve blocks({', '.join(blocks)}) rhs("
            f"{', '.join(rhs)}) leaf 16 transpose : {p.types[blocks[0]]}, {p.types[rhs[0]]}",
            [p.types[r] for r in rhs])

    for x in solve([p.scaled(k, 1 + i) for i in range(m)]):
        p.out(x, "K")
    for x in solve([p.matmul(q, "%S", acc=p.scaled(v, 1 + i)) for i in range(m)]):
        p.out(x, "V")
    check(p, "%S", options=options)


@pytest.mark.parametrize("spec, T", [("kda", 100), ("mamba2", 37), ("iplr", 64),
                                     ("gated_delta_product", 50), ("rwkv6", 0)])
def test_fewer_checkpoints(tool, tmp_path, spec, T):
    """The states between two checkpoints are computed again."""
    B, H, sizes = 2, 3, dict(K=20, V=33, n=2)
    done = tool("delta-compile", spec, "--emit=chunk", "--dtype=f64",
                *(x for dim, size in sizes.items() for x in ("-D", f"{dim}={size}")
                  if dim != "n" or spec == "gated_delta_product"))
    (tmp_path / "chunk.mlir").write_text(done.stdout)
    rng = np.random.default_rng(T)
    arrays = {}

    def fill(text):
        pattern = (r'kind = (\w+), name = "(\w+)", type = \w+(?:, axes = \[([^\]]*)\])?'
                   r'(?:, family = (\w+))?(, range = \[[^\]]*0\.0\])?')
        for kind, name, axes, family, decay in re.findall(pattern, text):
            shape = [sizes[a.strip()] for a in axes.split(",") if a.strip()]
            lead = {"in": [B, T, *([sizes[family]] if family else []), H],
                    "param": [H]}.get(kind)
            if lead is not None and name not in arrays:
                x = rng.normal(size=lead + shape) / 4
                arrays[name] = -abs(x) if decay else x

    def run(name, passes, **more):
        tool("delta-opt", tmp_path / "chunk.mlir", *passes, "--delta-cpu-map", "-o",
             tmp_path / f"{name}.mlir")
        np.savez(tmp_path / "in.npz", **arrays, **more)
        tool("delta-kernel", tmp_path / f"{name}.mlir", "--sizes", f"{B},{T},{H}",
             "--input", tmp_path / "in.npz", "--output", tmp_path / "out.npz")
        with np.load(tmp_path / "out.npz") as out:
            return dict(out)

    fill(done.stdout)
    fill(tool("delta-opt", tmp_path / "chunk.mlir", "--delta-differentiate").stdout)
    state, dstate = rng.normal(size=(2, B, H, sizes["K"], sizes["V"]))
    gradients = []
    for every in (1, 2, 3):
        saved = run("forward", [f"--delta-save-states=every={every}"],
                    initial_state=state)["checkpoints"]
        assert saved.shape[2] == -(-T // (16 * every))
        gradients.append(run(
            "backward", [f"--delta-differentiate=save-every={every}"],
            initial_state=dstate, checkpoints=saved))
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        for name, x in other.items():
            scale = np.linalg.norm(x) or 1
            assert np.linalg.norm(x - gradients[0][name]) <= LIMIT * scale, name
