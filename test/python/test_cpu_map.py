# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Chunk programs written by hand, mapped to the CPU, against the evaluator.

`delta-chunk` makes a few kinds of programs; the mapping takes any. These have
what it never makes, or not at these sizes: products with the whole state,
solves that do not depend on it, decays on the value side, masks of every kind.
What a program means is what `delta-eval` says; it need not be a recurrence.
"""

import numpy as np
import pytest

LIMIT = 1e-12


class Program:
    """Text of a chunk program; every method adds an operation."""

    def __init__(self, C, dims, **args):
        """args: name=(kind, axis...), in signature order; S is the state."""
        self.C, self.dims, self.args = C, dims, args
        self.lines, self.count, self.types = [], 0, {}
        self.outs = []
        for name, (kind, *axes) in args.items():
            shape = [dims[a] for a in axes]
            if kind == "in":
                shape.insert(0, C)
            self.types["%" + name] = self.tensor(*shape)

    @staticmethod
    def tensor(*shape):
        return f"tensor<{'x'.join(map(str, shape))}xf64>" if shape else "f64"

    def value(self, text, type):
        name = f"%{self.count}"
        self.count += 1
        self.lines.append(f"{name} = {text}")
        self.types[name] = type
        return name

    def shape(self, value):
        return [int(n) for n in self.types[value][7:].split("x")[:-1]]

    def unary(self, op, x, attributes=""):
        t = self.types[x]
        return self.value(f"{op} {x}{attributes} : {t}", t)

    def binary(self, op, x, y):
        return self.value(f"{op} {x}, {y} : {self.types[x]}", self.types[x])

    def mul(self, x, y):
        return self.binary("arith.mulf", x, y)

    def add(self, x, y):
        return self.binary("arith.addf", x, y)

    def identity(self, x, value):
        t = self.types[x]
        return self.value(f"delta.identity_rows {x}, %valid value {value} : {t}", t)

    def broadcast(self, x, shape, dim=None):
        t = self.tensor(*shape)
        where = "" if dim is None else f" dim {dim}"
        return self.value(f"delta.broadcast {x}{where} : {self.types[x]} -> {t}", t)

    def scaled(self, x, number):
        t = self.types[x]
        c = self.value(f"arith.constant dense<{float(number)}> : {t}", t)
        return self.mul(x, c)

    def sum(self, x):
        t = self.tensor(*self.shape(x)[:-1])
        return self.value(f"delta.sum {x} : {self.types[x]} -> {t}", t)

    def total(self, x):
        t = self.tensor(*self.shape(x)[1:])
        return self.value(f"delta.total_product {x} : {self.types[x]} -> {t}", t)

    def prefix(self, x, flags=""):
        t = self.types[x]
        return self.value(f"delta.prefix_product {flags} {x} : {t}", t)

    def matmul(self, x, y, acc=None, flags=""):
        m = self.shape(x)["transpose_lhs" in flags]
        n = self.shape(y)[1 - ("transpose_rhs" in flags)]
        t = self.tensor(m, n)
        a = f" acc({acc} : {t})" if acc else ""
        return self.value(f"delta.matmul {x}, {y}{a} {flags} : {self.types[x]}, "
                          f"{self.types[y]} -> {t}", t)

    def causal(self, x, diagonal=""):
        t = self.types[x]
        return self.value(f"delta.causal_mask {x} {diagonal} : {t}", t)

    def decay_mask(self, w, row, col, diagonal=""):
        t = self.tensor(self.C, self.C)
        return self.value(f"delta.decay_mask {w} row {row} col {col} {diagonal} : "
                          f"{self.types[w]} -> {t}", t)

    def set_diagonal(self, x, d):
        t = self.types[x]
        return self.value(f"delta.set_diagonal {x}, {d} : {t}, {self.types[d]}", t)

    def several(self, text, types):
        name = f"%{self.count}"
        self.count += 1
        self.lines.append(f"{name}:{len(types)} = {text}")
        values = [f"{name}#{i}" for i in range(len(types))]
        self.types.update(zip(values, types))
        return values

    def solve(self, blocks, rhs, leaf=16):
        return self.several(
            f"delta.tri_solve blocks({', '.join(blocks)}) rhs({', '.join(rhs)}) leaf "
            f"{leaf} : {self.types[blocks[0]]}, {self.types[rhs[0]]}",
            [self.types[r] for r in rhs])

    def gram(self, rows, cols, w, masks, leaf=16, scheme="exact"):
        """rows, cols: lists of (value, position)."""
        types = [self.tensor(self.C, self.C) for m in masks if m != "none"]
        side = lambda s: (f"({', '.join(v for v, _ in s)}) "
                          f"[{', '.join(p for _, p in s)}]")
        quoted = ", ".join(f'"{m}"' for m in masks)
        return self.several(
            f"delta.decay_gram rows{side(rows)} cols{side(cols)} decay({w}) masks "
            f"[{quoted}] leaf {leaf} scheme {scheme} : {self.types[w]} -> "
            f"{', '.join(types)}", types)

    def out(self, value, *axes):
        self.outs.append((value, axes))

    def text(self, state):
        arg = lambda kind, name, axes: (
            f'#delta.arg<kind = {kind}, name = "{name}", type = f64'
            + (f", axes = [{', '.join(axes)}]" if axes else "")
            + (', default = "1"' if kind == "attr" else "") + ">")
        entries = [arg(kind, name, axes) for name, (kind, *axes) in self.args.items()]
        entries += [arg("out", f"o{i}", axes) for i, (_, axes) in enumerate(self.outs)]
        dims = ", ".join(f"{k} = {v}" for k, v in self.dims.items())
        last = [name for name, (kind, *_) in self.args.items() if kind == "state"]
        order = [n for k in ("in", "param", "attr", "state")
                 for n, (kind, *_) in self.args.items() if kind == k]
        params = ", ".join(f'%{n}: {self.types["%" + n]} {{delta.arg = "{n}"}}'
                           for n in order)
        results = [state] + [value for value, _ in self.outs]
        types = ", ".join(self.types[r] for r in results)
        assert last == order[-1:]
        body = "\n    ".join(self.lines)
        return f"""
module attributes {{delta.stage = "chunk", delta.signature = #delta.signature<
    args = [{", ".join(entries)}], dims = {{{dims}}},
    options = {{fn = "forward", target = "cpu", compute = "f64", chunk = {self.C}}}>}} {{
  func.func @program({params}, %valid: index) -> ({types}) {{
    {body}
    return {", ".join(results)} : {types}
  }}
}}
"""

    def arrays(self, B, T, H, seed=0):
        rng = np.random.default_rng(seed)
        made = {}
        for name, (kind, *axes) in self.args.items():
            shape = [self.dims[a] for a in axes]
            lead = {"in": [B, T, H], "param": [H], "state": [B, H]}.get(kind)
            if lead is None:
                continue
            x = rng.normal(size=lead + shape) / 3
            if name.startswith("g"):  # a log-decay, some of them final
                x = -abs(x)
                x[rng.random(x.shape) < 0.03] = -np.inf
            made["initial_state" if kind == "state" else name] = x
        return made


@pytest.fixture
def check(tool, tmp_path):
    """`check(program, state, ...)`: the kernel computes what the program says."""

    def check(program, state, B=2, T=37, H=3, options="", run=()):
        (tmp_path / "chunk.mlir").write_text(program.text(state))
        np.savez(tmp_path / "in.npz", **program.arrays(B, T, H))
        attrs = [a for name, (kind, *_) in program.args.items() if kind == "attr"
                 for a in ("--attr", f"{name}=0.7")]
        sizes = ["--input", tmp_path / "in.npz"]
        tool("delta-eval", tmp_path / "chunk.mlir", *sizes, *attrs, "--output",
             tmp_path / "expected.npz")
        tool("delta-opt", tmp_path / "chunk.mlir", f"--delta-cpu-map={options}",
             "-o", tmp_path / "mapped.mlir")
        tool("delta-kernel", tmp_path / "mapped.mlir", *sizes, *attrs, *run,
             "--output", tmp_path / "got.npz")
        got = np.load(tmp_path / "got.npz")
        expected = np.load(tmp_path / "expected.npz")
        assert sorted(got.files) == sorted(expected.files)
        for name in got.files:
            scale = np.linalg.norm(expected[name]) or 1
            assert np.linalg.norm(got[name] - expected[name]) <= LIMIT * scale, name
        return {name: got[name] for name in got.files}

    return check


QKV = dict(q=("in", "K"), k=("in", "K"), v=("in", "V"), g=("in",), beta=("in",),
           S=("state", "K", "V"))


def masked(p, *names):
    return [p.identity("%" + name, 0.0) for name in names]


def gate(p, name):
    return p.identity(p.unary("math.exp", "%" + name), 1.0)


SIZES = [(16, 8, 8), (32, 20, 33), (16, 1, 1), (48, 7, 70)]


@pytest.mark.parametrize("C, K, V", SIZES)
def test_product_with_the_whole_state(check, C, K, V):
    """S' = Phi S + k^T v: the update may not overwrite what it still reads."""
    p = Program(C, dict(K=K, V=V), **QKV)
    q, k, v = masked(p, "q", "k", "v")
    phi = p.scaled(p.matmul(k, k, flags="transpose_lhs"), 0.1)
    p.out(p.matmul(q, "%S"), "V")
    write = p.matmul(k, v, flags="transpose_lhs")
    check(p, p.matmul(phi, "%S", acc=write))


@pytest.mark.parametrize("C, K, V", SIZES)
def test_solves_without_the_state(check, C, K, V):
    """The W form: two solves in the free slice, one of them K wide."""
    p = Program(C, dict(K=K, V=V), **QKV)
    q, k, v, beta = masked(p, "q", "k", "v", "beta")
    kk = p.causal(p.matmul(k, k, flags="transpose_rhs"))
    a = p.mul(kk, p.broadcast(p.unary("arith.negf", beta), [C, C], 0))
    kb = p.mul(k, p.broadcast(beta, [C, K], 0))
    vb = p.mul(v, p.broadcast(beta, [C, V], 0))
    [w] = p.solve([a], [kb])
    [u0] = p.solve([a], [vb], leaf=4)
    u = p.binary("arith.subf", u0, p.matmul(w, "%S"))
    qk = p.causal(p.matmul(q, k, flags="transpose_rhs"), "diagonal")
    o = p.matmul(qk, u, acc=p.matmul(q, "%S"), flags="triangular")
    p.out(o, "V")
    p.out(u, "V")
    check(p, p.matmul(k, u, acc="%S", flags="transpose_lhs"))


@pytest.mark.parametrize("C, K, V", SIZES)
def test_decay_on_the_value_side(check, C, K, V):
    """Scans and totals of columns run inside a panel."""
    args = dict(QKV, g=("in", "V"))
    p = Program(C, dict(K=K, V=V), **args)
    q, k, v = masked(p, "q", "k", "v")
    w = gate(p, "g")
    o = p.mul(p.prefix(w, "exclusive"), p.matmul(q, "%S"))
    p.out(o, "V")
    kept = p.mul("%S", p.broadcast(p.total(w), [K, V], 1))
    write = p.mul(v, p.prefix(w, "exclusive reverse"))
    check(p, p.matmul(k, write, acc=kept, flags="transpose_lhs"))


@pytest.mark.parametrize("K", [8, 60])
def test_square_state(check, K):
    """One vector stands on both sides of a state of K x K."""
    p = Program(16, dict(K=K), q=("in", "K"), k=("in", "K"), S=("state", "K", "K"))
    q, k = masked(p, "q", "k")
    kk = p.causal(p.matmul(q, k, flags="transpose_rhs"), "diagonal")
    p.out(p.matmul(kk, k, acc=p.matmul(q, "%S"), flags="triangular"), "K")
    check(p, p.matmul(k, k, acc="%S", flags="transpose_lhs"),
          options="vector-bits=256")


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_outs_without_the_state(check, blocks):
    """Written once, whoever owns the columns; params, attrs and sums."""
    K, V, C = 20, 33, 16
    args = dict(q=("in", "K"), v=("in", "V"), beta=("in",), u=("param", "K"),
                d=("param",), scale=("attr",), S=("state", "K", "V"))
    p = Program(C, dict(K=K, V=V), **args)
    q, v, beta = masked(p, "q", "v", "beta")
    norm = p.sum(p.mul(q, q))
    p.out(norm)
    p.out(p.mul(v, v), "V")
    p.out(p.unary("delta.sigmoid", beta))
    u = p.broadcast(p.unary("math.exp", "%u"), [C, K], 1)
    qu = p.mul(q, p.add(u, p.broadcast("%u", [C, K], 1)))
    number = p.add(p.mul("%d", "%scale"), p.sum("%u"))
    o = p.mul(p.matmul(qu, "%S"), p.broadcast(number, [C, V]))
    p.out(p.mul(o, p.broadcast(norm, [C, V], 0)), "V")
    p.out(p.unary("delta.softplus", p.broadcast("%d", [C])))
    check(p, p.matmul(qu, v, acc=p.mul("%S", p.broadcast("%u", [K, V], 0)),
                      flags="transpose_lhs"), options="vector-bits=128",
          run=["--vblocks", blocks])


@pytest.mark.parametrize("kind", ["kept", "forgotten", "decayed", "read twice"])
def test_how_the_state_goes_on(check, kind):
    K, V, C = 12, 40, 16
    p = Program(C, dict(K=K, V=V), **QKV)
    q, k, v = masked(p, "q", "k", "v")
    w = gate(p, "g")
    before = p.matmul(q, "%S")
    after = "%S"
    if kind == "forgotten":
        after = p.matmul(k, v, flags="transpose_lhs")
    elif kind == "decayed":
        after = p.mul("%S", p.broadcast(p.total(w), [K, V]))
    elif kind == "read twice":
        after = p.matmul(k, v, acc="%S", flags="transpose_lhs")
        before = p.matmul(q, after, acc=before)
    p.out(before, "V")
    check(p, after)


@pytest.mark.parametrize("C", [16, 32, 64])
@pytest.mark.parametrize("bits", [128, 256, 512])
def test_masks(check, C, bits):
    """Every position of a decay mask, diagonals, scans of one gate a token."""
    K, V = 9, 17
    p = Program(C, dict(K=K, V=V), **QKV)
    q, k, v, beta = masked(p, "q", "k", "v", "beta")
    w = gate(p, "g")
    grams = [p.matmul(q, k, flags="transpose_rhs")]
    for row in ("before", "after"):
        for col in ("before", "after"):
            diagonals = ["", "diagonal"] if (row, col) != ("before", "after") else [""]
            for diagonal in diagonals:
                grams.append(p.mul(grams[0], p.decay_mask(w, row, col, diagonal)))
    g = p.set_diagonal(p.causal(grams[0]), beta)
    for other in grams[1:]:
        g = p.add(g, other)
    g = p.matmul(g, p.causal(grams[0], "diagonal"))  # C x C times C x C
    scans = p.prefix(w)
    for flags in ("exclusive", "reverse", "exclusive reverse"):
        scans = p.add(scans, p.prefix(w, flags))
    o = p.mul(p.matmul(q, "%S"), p.broadcast(scans, [C, V], 0))
    p.out(p.matmul(g, v, acc=o), "V")
    kept = p.mul("%S", p.broadcast(p.total(w), [K, V]))
    check(p, p.matmul(k, v, acc=kept, flags="transpose_lhs"), T=70,
          options=f"vector-bits={bits}")


def test_both_transposed(check):
    K, V, C = 16, 5, 16
    p = Program(C, dict(K=K, V=V), **QKV)
    q, k, v = masked(p, "q", "k", "v")
    both = p.matmul(q, k, flags="transpose_lhs transpose_rhs")  # K = C
    more = p.matmul(q, k, acc=p.scaled(both, 0.5), flags="transpose_rhs")
    p.out(p.matmul(p.matmul(more, q), "%S"), "V")
    check(p, p.matmul(k, v, acc="%S", flags="transpose_lhs"))


@pytest.mark.parametrize("C", [16, 32, 48, 64])
@pytest.mark.parametrize("bits", [128, 512])
def test_decay_grams(check, C, bits):
    """Three rows and two columns at all positions, pairs left out."""
    K, V = 21, 6
    p = Program(C, dict(K=K, V=V), a=("in", "K"), b=("in", "K"), c=("in", "K"),
                v=("in", "V"), g=("in", "K"), S=("state", "K", "V"))
    a, b, c, v = masked(p, "a", "b", "c", "v")
    w = gate(p, "g")
    rows = [(a, "before"), (b, "after"), (c, "before")]
    cols = [(b, "before"), (c, "after")]
    whole = p.gram(rows, cols, w, ["diagonal", "strict", "diagonal", "diagonal",
                                   "strict", "strict"])
    part = p.gram(rows, cols, w, ["none", "strict", "diagonal", "none", "none",
                                  "strict"], leaf=4)
    o = p.matmul(a, "%S")
    for i, gram in enumerate(whole + part):
        o = p.matmul(gram, p.scaled(v, 1 + i), acc=o, flags="triangular")
    p.out(o, "V")
    check(p, p.matmul(b, v, acc="%S", flags="transpose_lhs"), T=70,
          options=f"vector-bits={bits}")


@pytest.mark.parametrize("m", [2, 3, 9])
@pytest.mark.parametrize("C", [16, 32])
def test_systems_of_several_unknowns(check, m, C):
    """Block j, l has a diagonal where l < j."""
    K, V = 10, 20
    names = [f"x{j}" for j in range(m)]
    args = {name: ("in", "K") for name in names}
    p = Program(C, dict(K=K, V=V), **args, v=("in", "V"), S=("state", "K", "V"))
    xs = masked(p, *names)
    [v] = masked(p, "v")
    blocks = [p.scaled(p.causal(p.matmul(xs[j], xs[(l + 1) % m],
                                         flags="transpose_rhs"),
                                "diagonal" if l < j else ""), 0.1)
              for j in range(m) for l in range(m)]
    rhs = [p.scaled(p.add(p.matmul(x, "%S"), v), 1 + j) for j, x in enumerate(xs)]
    unknowns = p.solve(blocks, rhs)
    state = "%S"
    for x, e in zip(xs, unknowns):
        p.out(e, "V")
        state = p.matmul(x, e, acc=state, flags="transpose_lhs")
    check(p, state)


@pytest.mark.parametrize("T", [0, 1, 15, 16, 17, 33])
def test_any_length(check, T):
    p = Program(16, dict(K=6, V=19), **QKV)
    q, k, v = masked(p, "q", "k", "v")
    qk = p.causal(p.matmul(q, k, flags="transpose_rhs"), "diagonal")
    p.out(p.matmul(qk, v, acc=p.matmul(q, "%S"), flags="triangular"), "V")
    check(p, p.matmul(k, v, acc="%S", flags="transpose_lhs"), T=T)
