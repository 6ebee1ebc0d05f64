# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Recurrences as syntax trees that print and evaluate themselves.

A tree prints itself in the spec language, with no more parentheses than the
grammar needs, and evaluates itself in NumPy, token by token.
"""

import random

import numpy as np

SCALAR = ("1", "1")

# Levels of the grammar: a node is put in parentheses where its own level is
# lower than its place demands.
SUM, TERM, UNARY, POWER, POSTFIX, PRIMARY = range(6)

FUNCTIONS = {
    "exp": np.exp, "exp2": np.exp2, "log": np.log, "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x), "abs": np.abs,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "silu": lambda x: x / (1 + np.exp(-x)), "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0), "min": np.minimum, "max": np.maximum,
    "dot": lambda x, y: np.sum(x * y, axis=(-1, -2), keepdims=True),
    "sum": lambda x: np.sum(x, axis=(-1, -2), keepdims=True),
    "l2norm": lambda x: x / np.sqrt(np.sum(x * x, axis=(-1, -2), keepdims=True)
                                    + 1e-6),
}


class Expr:
    """An expression of type rows x cols; values are [B, H, rows, cols]."""

    def __init__(self, kind, args, type, level):
        self.kind, self.args, self.type, self.level = kind, args, type, level

    def text(self, level=SUM):
        text = self._text()
        return f"({text})" if self.level < level else text

    def _text(self):
        kind, a = self.kind, self.args
        if kind in ("number", "name"):
            return str(a[0])
        if kind in "+-":
            return f"{a[0].text(SUM)} {kind} {a[1].text(TERM)}"
        if kind in ("*", "/", ".*", "./"):
            return f"{a[0].text(TERM)} {kind} {a[1].text(UNARY)}"
        if kind == "negate":
            return f"-{a[0].text(UNARY)}"
        if kind == "power":
            return f"{a[0].text(POSTFIX)} ^ {a[1]}"
        if kind == "transpose":
            return a[0].text(POSTFIX) + a[1]
        if kind == "index":
            return f"{a[0]}[{a[1]}]"
        if kind in ("diag", "eye") or kind in FUNCTIONS:
            parts = [x if isinstance(x, str) else x.text() for x in a]
            return f"{kind}({', '.join(parts)})"
        raise AssertionError(kind)

    def value(self, env):
        kind, a = self.kind, self.args
        if kind == "number":
            return np.full((1, 1, 1, 1), float(a[0]), env["dtype"])
        if kind == "name":
            return env[a[0]]
        if kind == "index":
            j = env[a[1]] if isinstance(a[1], str) else a[1]
            return env[a[0]][j]
        if kind == "eye":
            return np.eye(env["dims"][a[0]], dtype=env["dtype"])[None, None]
        if kind == "power":
            return a[0].value(env) ** float(a[1])
        x = [arg.value(env) for arg in a if isinstance(arg, Expr)]
        if kind == "negate":
            return -x[0]
        if kind == "transpose":
            return np.swapaxes(x[0], -1, -2)
        if kind == "diag":
            return x[0] * np.eye(x[0].shape[-2], dtype=x[0].dtype)
        if kind == "*" and SCALAR not in (a[0].type, a[1].type):
            return np.matmul(x[0], x[1])
        if kind in ("*", ".*"):
            return x[0] * x[1]
        if kind in ("/", "./"):
            return x[0] / x[1]
        if kind == "+":
            return x[0] + x[1]
        if kind == "-":
            return x[0] - x[1]
        return FUNCTIONS[kind](*x)


def number(value):
    return Expr("number", [value], SCALAR, PRIMARY)


def name(identifier, type):
    return Expr("name", [identifier], type, PRIMARY)


def negate(x):
    return Expr("negate", [x], x.type, UNARY)


def power(x, exponent):
    return Expr("power", [x, exponent], x.type, POWER)


def call(function, *args):
    if function in ("dot", "sum"):
        type = SCALAR
    elif function == "diag":
        type = (args[0].type[0], args[0].type[0])
    else:
        type = next((x.type for x in args if x.type != SCALAR), SCALAR)
    return Expr(function, list(args), type, PRIMARY)


def binary(kind, x, y):
    if kind == "*" and SCALAR not in (x.type, y.type):
        assert x.type[1] == y.type[0], (x.type, y.type)
        type = (x.type[0], y.type[1])
    else:
        type = y.type if x.type == SCALAR else x.type
    return Expr(kind, [x, y], type, SUM if kind in "+-" else TERM)


class Input:
    def __init__(self, name, kind, dim, draw, range=None, family=False):
        self.name, self.kind, self.dim = name, kind, dim
        self.draw, self.range, self.family = draw, range, family

    def declaration(self):
        text = self.name + ("[n]" if self.family else "")
        text += ": " + (self.dim or "scalar")
        if self.range:
            text += f" in [{self.range[0]}, {self.range[1]}]"
        return text


class Spec:
    """A recurrence: declarations, statements and how inputs are drawn."""

    def __init__(self, seed):
        self.seed = seed
        self.inputs, self.attrs, self.statements = [], {}, []
        self.dims = {}  # sizes of every dim
        self.extra_dims = []
        self.outs = {}  # name -> dim or ""
        self.state = ()

    # --- Text -----------------------------------------------------------------

    def text(self):
        rng = random.Random(self.seed + 1)
        lines = [f"# Random recurrence {self.seed}.",
                 f"recurrence random_{self.seed} {{"]
        if self.extra_dims:
            lines.append("  dim " + ", ".join(self.extra_dims))
        for kind in ("in", "param"):
            decls = [x.declaration() for x in self.inputs if x.kind == kind]
            while decls:
                count = rng.randint(1, len(decls))
                lines.append(f"  {kind} " + ", ".join(decls[:count]))
                decls = decls[count:]
        lines += [f"  attr {attr} = {value}" for attr, value in
                  self.attrs.items()]
        lines.append(f"  state S: {self.state[0]} x {self.state[1]}")
        self._print(self.statements, lines, "  ", rng)
        return "\n".join([*lines, "}", ""])

    def _print(self, statements, lines, indent, rng):
        for kind, target, expr in statements:
            if kind == "for":
                lines.append(f"{indent}for {target} in n {{")
                self._print(expr, lines, indent + "  ", rng)
                lines.append(indent + "}")
                continue
            keyword = {"let": "let ", "out": "out ", "assign": ""}[kind]
            end = rng.choice(["", "", "", ";", "  // ."])
            lines.append(f"{indent}{keyword}{target} = {expr.text()}{end}")

    # --- Meaning --------------------------------------------------------------

    def draw(self, B, T, H, seed=0):
        """Arrays for every input and the initial state."""
        rng = np.random.default_rng([self.seed, seed])
        arrays = {}
        for x in self.inputs:
            shape = [H] if x.kind == "param" else [B, T, H]
            if x.family:
                shape.insert(2, self.dims["n"])
            if x.dim:
                shape.append(self.dims[x.dim])
            value = rng.normal(size=shape)
            if x.draw == "unit":
                value /= np.sqrt(np.sum(value ** 2, -1, keepdims=True) + 1e-9)
            elif x.draw == "fraction":
                value = 1 / (1 + np.exp(-value))
            elif x.draw == "gate":
                lo = x.range[0] if x.range else "-inf"
                if lo == "-inf":
                    soft = -np.logaddexp(0, -value)
                    hard = rng.choice([0, -1e-8, -5, -60, -1e4, -np.inf], shape)
                    value = np.where(rng.random(shape) < 0.2, hard, soft)
                else:
                    value = rng.uniform(float(lo), 0, shape)
            arrays[x.name] = value
        A, D = (self.dims[axis] for axis in self.state)
        arrays["initial_state"] = rng.normal(size=[B, H, A, D])
        return arrays

    def evaluate(self, arrays, B, T, H, dtype=np.float64):
        """Runs the tree on the arrays, token by token, in `dtype`."""
        arrays = {key: x.astype(dtype) for key, x in arrays.items()}
        env = {"dims": self.dims, "dtype": dtype}
        for attr, value in self.attrs.items():
            number = eval(value.replace("^", "**"), dict(self.dims))
            env[attr] = np.full((1, 1, 1, 1), number, dtype)
        S = arrays["initial_state"]
        outs = {out: np.zeros([B, T, H] + ([self.dims[dim]] if dim else []),
                              dtype) for out, dim in self.outs.items()}
        for t in range(T):
            for x in self.inputs:
                value = arrays[x.name]
                value = value[None] if x.kind == "param" else value[:, t]
                value = value[..., None] if x.dim else value[..., None, None]
                # A family's axis goes first, so that an index selects.
                env[x.name] = np.moveaxis(value, 1, 0) if x.family else value
            env["S"] = S
            self._run(self.statements, env, outs, t)
            S = env["S"]
        return {**outs, "final_state": np.broadcast_to(
            S, arrays["initial_state"].shape)}

    def _run(self, statements, env, outs, t):
        for kind, target, expr in statements:
            if kind == "for":
                for j in range(self.dims["n"]):
                    env[target] = j
                    self._run(expr, env, outs, t)
            elif kind == "out":
                value = expr.value(env)
                outs[target][:, t] = (value[..., 0] if self.outs[target]
                                      else value[..., 0, 0])
            else:
                env["S" if kind == "assign" else target] = expr.value(env)
