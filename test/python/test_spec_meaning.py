# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What a spec says, taken literally, against its import and the evaluator.

The text of a statement becomes a Python expression: the operators of both
languages bind alike once `.*` is spelt `%` and `./` is spelt `//`. Values are
2-D arrays with rows and columns, as the language has it; the importer's tricks
with transposes and vectors have no part in it.
"""

import math
import re

import numpy as np
import pytest

LIMIT = 1e-12


class Matrix:
    """A value of the language: rows x columns, 1 x 1 for a scalar."""

    def __init__(self, value):
        self.a = np.atleast_2d(np.asarray(value, dtype=float))
        assert self.a.ndim == 2

    @property
    def T(self):
        return Matrix(self.a.T)

    @property
    def scalar(self):
        return self.a.shape == (1, 1)

    def _with(self, other, function):
        return Matrix(function(self.a, wrap(other).a))

    def __add__(self, other):
        return self._with(other, np.add)

    def __sub__(self, other):
        return self._with(other, np.subtract)

    def __mul__(self, other):
        other = wrap(other)
        if self.scalar or other.scalar:
            return self._with(other, np.multiply)
        return self._with(other, np.matmul)

    def __truediv__(self, other):
        assert wrap(other).scalar
        return self._with(other, np.divide)

    def __mod__(self, other):
        return self._with(other, np.multiply)

    def __floordiv__(self, other):
        return self._with(other, np.divide)

    def __pow__(self, other):
        return self._with(other, np.power)

    def __neg__(self):
        return Matrix(-self.a)

    def __radd__(self, other):
        return wrap(other) + self

    def __rsub__(self, other):
        return wrap(other) - self

    def __rmul__(self, other):
        return wrap(other) * self

    def __rtruediv__(self, other):
        return wrap(other) / self

    def __rmod__(self, other):
        return wrap(other) % self

    def __rfloordiv__(self, other):
        return wrap(other) // self

    def __rpow__(self, other):
        return wrap(other) ** self


def wrap(value):
    return value if isinstance(value, Matrix) else Matrix(value)


def elementwise(function):
    return lambda *args: Matrix(function(*(wrap(x).a for x in args)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


FUNCTIONS = {
    "exp": elementwise(np.exp),
    "exp2": elementwise(np.exp2),
    "log": elementwise(np.log),
    "sqrt": elementwise(np.sqrt),
    "rsqrt": elementwise(lambda x: 1 / np.sqrt(x)),
    "abs": elementwise(np.abs),
    "sigmoid": elementwise(sigmoid),
    "softplus": elementwise(lambda x: np.logaddexp(0, x)),
    "silu": elementwise(lambda x: x * sigmoid(x)),
    "tanh": elementwise(np.tanh),
    "relu": elementwise(lambda x: np.maximum(x, 0)),
    "min": elementwise(np.minimum),
    "max": elementwise(np.maximum),
    "dot": elementwise(lambda x, y: np.sum(x * y)),
    "sum": elementwise(np.sum),
    "l2norm": elementwise(lambda x: x / np.sqrt(np.sum(x * x) + 1e-6)),
    "diag": elementwise(lambda x: np.diag(x[:, 0])),
    "eye": elementwise(lambda n: np.eye(int(n[0, 0]))),
}


class Spec:
    """A spec in canonical form, one item a line."""

    def __init__(self, text):
        self.dims, self.args, self.attrs, self.body = ["K", "V"], {}, {}, []
        blocks = [self.body]
        for line in text.splitlines()[1:-1]:
            line = re.sub(r"\s*//.*", "", line.strip())
            if match := re.match(r"dim (\w+)", line):
                self.dims.append(match[1])
            elif match := re.match(r"(in|param) (\w+)(?:\[(\w+)\])?: (\w+)"
                                   r"(?: in \[(.*), (.*)\])?", line):
                kind, name, family, dim, low, high = match.groups()
                bounds = (float(low), float(high)) if low else None
                self.args[name] = kind, family, dim, bounds
            elif match := re.match(r"attr (\w+)(?: = (.*?))?(?: in \[.*)?$",
                                   line):
                self.attrs[match[1]] = match[2]
            elif match := re.match(r"state (\w+): (\w+) x (\w+)", line):
                self.state = match.groups()
            elif match := re.match(r"for (\w+) in (\w+) {", line):
                blocks.append([])
                blocks[0].append((match[1], match[2], blocks[-1]))
            elif line == "}":
                blocks.pop()
            else:
                name, value = re.match(r"(?:let |out )?(\w+) = (.*)",
                                       line).groups()
                value = value.replace("^T", ".T").replace("^", "**")
                value = value.replace(".*", "%").replace("./", "//")
                # `2.T` is no Python.
                value = re.sub(r"\b(\d+)\.T", r"(\1)", value)
                blocks[-1].append((name, compile(value, name, "eval")))
        self.outs = re.findall(r"^  out (\w+)", text, re.M)

    def run(self, arrays, sizes, attrs):
        B, T, H = 2, 5, 2
        state, *axes = self.state
        S = np.zeros([B, H] + [sizes[d] for d in axes])
        S[:] = arrays["initial_state"]
        outs = {name: [] for name in self.outs}
        for b, t, h in np.ndindex(B, T, H):
            values = {**FUNCTIONS, **attrs,
                      **{d: Matrix(n) for d, n in sizes.items()}}
            for name, (kind, family, dim, _) in self.args.items():
                x = arrays[name]
                if kind == "param":
                    values[name] = column(x[h])
                elif family:
                    values[name] = [column(x[b, t, j, h])
                                    for j in range(sizes[family])]
                else:
                    values[name] = column(x[b, t, h])
            values[state] = Matrix(S[b, h])
            self.execute(self.body, values, sizes)
            S[b, h] = values[state].a
            for name in self.outs:
                outs[name].append(values[name].a)
        result = {"final_state": S}
        for name, columns in outs.items():
            a = np.reshape(columns, [B, T, H, -1])
            result[name] = a
        return result

    def execute(self, body, values, sizes):
        for item in body:
            if len(item) == 3:
                for j in range(sizes[item[1]]):
                    values[item[0]] = j
                    self.execute(item[2], values, sizes)
            else:
                values[item[0]] = wrap(eval(item[1], values))

    def random(self, sizes, rng):
        B, T, H = 2, 5, 2
        arrays = {"initial_state": rng.normal(
            size=[B, H] + [sizes[d] for d in self.state[1:]])}
        for name, (kind, family, dim, bounds) in self.args.items():
            shape = ([H] if kind == "param"
                     else [B, T] + ([sizes[family]] if family else []) + [H])
            if dim != "scalar":
                shape.append(sizes[dim])
            x = rng.normal(size=shape) / math.sqrt(sizes["K"])
            if bounds:
                x = np.clip(-abs(x) if bounds[1] <= 0 else x, *bounds)
            arrays[name] = x
        return arrays


def column(x):
    return Matrix(np.reshape(x, [-1, 1]))


def specs(source):
    yield from sorted((source / "specs").glob("*.delta"))
    for name in ["grammar", "class"]:
        yield source / "test" / "Spec" / f"{name}.delta"
    yield from sorted((source / "test/Spec/Inputs").glob("*.delta"))


def pytest_generate_tests(metafunc):
    from conftest import SOURCE
    if "path" in metafunc.fixturenames:
        paths = list(specs(SOURCE))
        metafunc.parametrize("path", paths, ids=[p.stem for p in paths])


def test_import_means_what_the_text_says(tool, tmp_path, path):
    spec = Spec(tool("delta-spec-check", path).stdout)
    sizes = dict(zip(["K", "V"] + spec.dims[2:], [4, 3, 3, 5, 2, 6]))
    rng = np.random.default_rng(1)
    arrays = spec.random(sizes, rng)
    attrs = {}
    options = [f"-D{d}={n}" for d, n in sizes.items()]
    for name, default in spec.attrs.items():
        attrs[name] = Matrix(float(rng.uniform(0.2, 1.5)))
        options += ["--attr", f"{name}={attrs[name].a[0, 0].item()!r}"]
    (tmp_path / "step.mlir").write_text(
        tool("delta-spec-check", "--import", path).stdout)
    np.savez(tmp_path / "in.npz", **arrays)
    tool("delta-eval", tmp_path / "step.mlir", "--input", tmp_path / "in.npz",
         "--output", tmp_path / "out.npz", *options)
    got = np.load(tmp_path / "out.npz")
    with np.errstate(all="ignore"):
        want = spec.run(arrays, sizes, attrs)
    for name, x in want.items():
        y = got[name].reshape(x.shape)
        finite = np.isfinite(x)
        assert (np.isfinite(y) == finite).all(), name
        norm = np.linalg.norm(x[finite]) or 1.0
        assert np.linalg.norm((y - x)[finite]) / norm < LIMIT, name
