# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random recurrences in the class, as trees of spectree.py.

`generate(seed)` builds a well-typed recurrence whose step is affine in the
state with a transition diagonal plus low rank: several writes and decays, reads
before and after them, micro-steps, elementwise gates, named reads, several
outs. Values are kept tame (directions of length one, gains below one), so that
float64 rounding stays near 1e-15 and a wrong answer shows.
"""

import random

from spectree import (POSTFIX, PRIMARY, SCALAR, Expr, Input, Spec, binary, call,
                      name, negate, number, power)


class Generator:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.spec = Spec(seed)
        self.names = self._names()
        self.lets = []      # state-free values in scope
        self.reads = []     # named reads in scope
        self.loop = None    # the loop's variable inside a `for`
        self.feedback = 0   # rank so far

    def _names(self):
        words = ["q", "k", "v", "g", "beta", "a", "b", "w", "u", "r", "x", "p",
                 "gate", "key", "_m", "h2", "Sx", "exp_", "nn", "out1", "Kk",
                 "ins", "t", "D", "B", "C", "A_log", "z"]
        self.rng.shuffle(words)
        yield from words
        yield from (f"y{i}" for i in range(1000))

    def fresh(self):
        return next(self.names)

    def maybe(self, p):
        return self.rng.random() < p

    # --- Inputs ---------------------------------------------------------------

    def input(self, dim, draw, range=None):
        """An input of that kind, an old one or a new one."""
        family = bool(self.loop) and self.maybe(0.7)
        param = not family and draw in ("normal", "gate") and self.maybe(0.15)
        old = [x for x in self.spec.inputs if (x.dim, x.draw) == (dim, draw)
               and (self.loop or not x.family)]
        if old and self.maybe(0.4):
            x = self.rng.choice(old)
        else:
            if range is None and draw == "gate":
                range = self.rng.choice([None, ("-inf", "0"), ("-5", "0"),
                                         ("-0.5", "0"), ("-2.5", "0.0")])
            if draw == "fraction" and self.maybe(0.3):
                range = ("0", "1")
            x = Input(self.fresh(), "param" if param else "in", dim, draw,
                      range, family)
            self.spec.inputs.append(x)
        type = (dim, "1") if dim else SCALAR
        if x.family:
            # The loop's variable, or now and then one member of the family.
            index = self.loop if self.maybe(0.9) else 0
            return Expr("index", [x.name, index], type, POSTFIX)
        return name(x.name, type)

    # --- State-free values ----------------------------------------------------

    def pick(self, type, fallback):
        """A `let` of that type in scope, sometimes."""
        known = [x for x in self.lets if x.type == type]
        return self.rng.choice(known) if known and self.maybe(0.3) \
            else fallback()

    def scalar(self, depth=2):
        """Any number of ordinary size."""
        if depth == 0 or self.maybe(0.3):
            if self.spec.attrs and self.maybe(0.2):
                return name(self.rng.choice(list(self.spec.attrs)), SCALAR)
            return self.pick(SCALAR, lambda: self.rng.choice([
                lambda: self.input("", "normal"),
                lambda: self.input("", "fraction"),
                lambda: number(self.rng.choice(["1", "0.5", "2e-1", "1.25"])),
            ])())
        dim = self.rng.choice(self.spec.state)
        sub = lambda: self.scalar(depth - 1)
        vec = lambda: self.vector(dim, depth - 1)
        return self.rng.choice([
            lambda: binary(self.rng.choice("+-*"), sub(), sub()),
            lambda: negate(sub()),
            lambda: call(self.rng.choice(["sigmoid", "tanh", "silu", "softplus",
                                          "relu", "abs"]), sub()),
            lambda: binary("/", sub(), binary("+", number("1"),
                                              power(sub(), "2"))),
            lambda: call("log", binary("+", number("1.5"), power(sub(), "2"))),
            lambda: call(self.rng.choice(["min", "max"]), sub(), sub()),
            lambda: call("dot", call("l2norm", vec()), call("tanh", vec())),
            lambda: binary("/", call("sum", vec()), number("4")),
            lambda: binary("*", self.transpose(self.unit(dim)), vec()),
            lambda: power(call("sigmoid", sub()),
                          self.rng.choice(["2", "0.5", "-1", "3"])),
        ])()

    def vector(self, dim, depth=2):
        """Any column over `dim` of ordinary size."""
        type = (dim, "1")
        if depth == 0 or self.maybe(0.35):
            return self.pick(type, lambda: self.input(dim, "normal"))
        sub = lambda: self.vector(dim, depth - 1)
        matrix = lambda: self.rng.choice([
            lambda: binary("*", sub(), self.transpose(self.unit(dim))),
            lambda: binary("+", Expr("eye", [dim], (dim, dim), PRIMARY),
                           binary("*", sub(), self.transpose(self.unit(dim)))),
            lambda: call("diag", sub()),
        ])()
        return self.rng.choice([
            lambda: binary(self.rng.choice(["+", "-", ".*"]), sub(), sub()),
            lambda: binary("*", self.scalar(depth - 1), sub()),
            lambda: binary("*", sub(), self.gain(depth - 1)),
            lambda: binary("/", sub(), number("2")),
            lambda: binary("./", sub(), binary("+", number("1"),
                                               power(sub(), "2"))),
            lambda: binary("-", number("1"), call("sigmoid", sub())),
            lambda: binary("+", sub(), self.scalar(0)),
            lambda: negate(sub()),
            lambda: call(self.rng.choice(["sigmoid", "tanh", "silu", "softplus",
                                          "relu", "abs"]), sub()),
            lambda: call(self.rng.choice(["min", "max"]), sub(), sub()),
            lambda: call("l2norm", sub()),
            lambda: call("rsqrt", binary("+", power(sub(), "2"), number("1"))),
            lambda: binary("*", call("diag", sub()), self.unit(dim)),
            lambda: binary("*", binary("*", sub(), self.transpose(
                self.unit(dim))), self.unit(dim)),
            lambda: binary("*", binary(".*", matrix(), matrix()),
                           self.unit(dim)),
        ])()

    def gain(self, depth=1):
        """A number in [0, 1]."""
        return self.rng.choice([
            lambda: self.input("", "fraction"),
            lambda: call("sigmoid", self.scalar(depth)),
            lambda: binary("/", number("1"), binary(
                "+", number("1"), call("abs", self.scalar(depth)))),
            lambda: call("exp", negate(call("abs", self.scalar(depth)))),
            lambda: call("min", call("sigmoid", self.scalar(depth)),
                         number("0.75")),
            lambda: number("0.5"),
        ])()

    def unit(self, dim):
        """A column of length one at most."""
        def base():
            if self.maybe(0.75):
                return self.input(dim, "unit")
            return call("l2norm", self.vector(dim, 1))
        x = base()
        if self.maybe(0.15):
            x = binary(".*", call("sigmoid", self.vector(dim, 1)), x)
        if self.maybe(0.1):
            x = binary("*", self.gain(0), x)
        return negate(x) if self.maybe(0.05) else x

    def decay(self, dim):
        """Numbers in [-1, 1], a column over `dim` or one for all."""
        def value(depth):
            return self.vector(dim, depth) if dim else self.scalar(depth)
        return self.rng.choice([
            lambda: call("exp", self.input(dim, "gate")),
            lambda: call("exp", self.input(dim, "gate")),
            lambda: call("exp2", self.input(dim, "gate")),
            lambda: call("sigmoid", value(1)),
            lambda: call("exp", negate(call("softplus", value(1)))),
            lambda: call("exp", binary("*", negate(call("exp", call(
                "tanh", self.scalar(0)))), call("softplus", value(0)))),
            lambda: binary("-", number("1"), call("sigmoid", value(0))),
            lambda: call("tanh", value(0)),
            lambda: power(call("sigmoid", value(0)), "2"),
            lambda: number("0.9") if not dim else call(
                "max", call("sigmoid", value(0)), number("0.25")),
        ])()

    def transpose(self, x):
        return Expr("transpose", [x, self.rng.choice(["'", "^T"])],
                    (x.type[1], x.type[0]), POSTFIX)

    def transition(self, budget):
        """A state-free A x A matrix: diagonal plus low rank."""
        A = self.spec.state[0]
        diagonal = self.rng.choice([
            lambda: call("diag", self.decay(A)),
            lambda: Expr("eye", [A], (A, A), PRIMARY),
            lambda: binary("*", self.decay(""), Expr("eye", [A], (A, A),
                                                     PRIMARY)),
            lambda: binary("*", self.decay(""), call("diag", self.decay(A))),
        ])()
        if budget <= 0 or self.maybe(0.3):
            return diagonal
        self.feedback += 1
        k = self.unit(A)
        if self.maybe(0.6):  # a partial projection
            dyad = binary("*", binary("*", self.gain(), k), self.transpose(k))
            return binary("-", diagonal, dyad)
        b = binary("*", number("0.3"), self.unit(A))
        dyad = self.reshaped(binary("*", b, self.transpose(self.unit(A))))
        return binary(self.rng.choice("+-"), diagonal, dyad)

    def reshaped(self, dyad):
        """A state-free dyad, sometimes written in an uncommon way."""
        rows, cols = dyad.type
        return self.rng.choice([
            *[lambda: dyad] * 5,
            lambda: binary("/", dyad, number("2")),
            lambda: negate(dyad),
            lambda: self.transpose(binary("*", self.unit(cols),
                                          self.transpose(self.unit(rows)))),
            lambda: binary("*", call("diag", self.unit(rows)), dyad),
            lambda: binary("*", dyad, call("diag", self.unit(cols))),
        ])()

    # --- The state ------------------------------------------------------------

    def state(self):
        return name("S", self.spec.state)

    def decayed(self):
        """The state, or the state with a diagonal before it."""
        S = self.state()
        return self.rng.choice([
            lambda: S, lambda: S,
            lambda: binary("*", self.decay(""), S),
            lambda: binary("*", call("diag", self.decay(self.spec.state[0])),
                           S),
            lambda: binary("/", S, binary("+", number("1"),
                                          self.gain(0))),
        ])()

    def read(self):
        """A read of the state, a column over its second dim."""
        A = self.spec.state[0]
        M = self.decayed()
        x = self.unit(A)
        if self.maybe(0.5):
            return binary("*", self.transpose(M), x)
        return self.transpose(binary("*", self.transpose(x), M))

    def reading(self, out):
        """Something linear in reads; in an out it may be gated by channel."""
        D = self.spec.state[1]
        known = [read for read, plain in self.reads if plain or out]
        x = self.rng.choice(known) if known and self.maybe(0.4) else self.read()
        steps = self.rng.randint(0, 2)
        for _ in range(steps):
            x = self.rng.choice([
                lambda: negate(x),
                lambda: binary("*", self.gain(0), x),
                lambda: binary("*", x, self.gain(0)),
                lambda: binary("/", x, number("2")),
                lambda: binary("-", self.vector(D, 1), x),
                lambda: binary("+", x, self.vector(D, 1)),
                lambda: binary("-", self.scalar(0), x),
                (lambda: binary(".*", self.vector(D, 1), x)) if out else
                (lambda: binary("+", x, x)),
            ])()
        return x

    def dyad(self, budget):
        A, D = self.spec.state
        k = self.unit(A)
        if budget > 0 and self.maybe(0.6):
            self.feedback += 1
            if self.maybe(0.5):  # the error-correcting write
                y = binary("-", self.vector(D, 0), binary(
                    "*", self.transpose(self.decayed()), k))
                return binary("*", binary("*", self.gain(), k),
                              self.transpose(y))
            y = binary("*", number("0.3"), self.reading(False))
            return binary("*", k, self.transpose(y))
        v = self.vector(D, 1)
        if self.maybe(0.2):
            k = binary("*", self.gain(), k)
        return self.reshaped(binary("*", k, self.transpose(v)))

    def assign(self):
        """S = D S + dyads, written in one of many ways."""
        limit = 3 if not self.loop else 1
        budget = lambda: limit - self.feedback
        if self.maybe(0.35):
            value = binary("*", self.transition(budget()), self.state())
            if budget() > 0 and self.maybe(0.15):
                value = binary("*", self.transition(budget()), value)
        else:
            value = self.decayed()
        for _ in range(self.rng.choice([0, 1, 1, 1, 2])):
            dyad = self.dyad(budget())
            kind = self.rng.choice("++-")
            if kind == "+" and self.maybe(0.3):
                value = binary("+", dyad, value)
            else:
                value = binary(kind, value, dyad)
        if self.maybe(0.1):
            value = binary("*", self.decay(""), value)
        if self.maybe(0.05):
            value = negate(negate(value))
        return ("assign", "S", value)

    def let(self):
        identifier = self.fresh()
        if self.maybe(0.4):
            gated = not self.loop and self.maybe(0.3)
            value = self.reading(gated)
            self.reads.append((name(identifier, value.type), not gated))
        else:
            value = self.rng.choice([
                lambda: self.scalar(2),
                lambda: self.vector(self.rng.choice(self.spec.state), 2)])()
            self.lets.append(name(identifier, value.type))
        return ("let", identifier, value)

    def out(self):
        A, D = self.spec.state
        identifier = "o" if "o" not in self.spec.outs else self.fresh()
        kind = self.rng.random()
        if kind < 0.7 or identifier == "o":
            value = self.reading(True)
            if self.spec.attrs and self.maybe(0.7):
                scale = name(self.rng.choice(list(self.spec.attrs)), SCALAR)
                value = binary("*", scale, value)
        elif kind < 0.85:
            value = self.vector(self.rng.choice([A, D]), 2)
        else:
            value = self.scalar(2)
        self.spec.outs[identifier] = "" if value.type == SCALAR \
            else value.type[0]
        return ("out", identifier, value)

    def loop_statement(self):
        self.loop = self.fresh()
        lets, reads, feedback = len(self.lets), len(self.reads), self.feedback
        self.feedback = 0
        body = [self.let() for _ in range(self.rng.randint(0, 1))]
        body += [self.assign() for _ in range(self.rng.choice([1, 1, 2]))]
        self.feedback = feedback + self.feedback
        del self.lets[lets:], self.reads[reads:]
        variable, self.loop = self.loop, None
        return ("for", variable, body)

    def generate(self):
        spec, rng = self.spec, self.rng
        sizes = [1, 2, 3, 4, 5, 8, 12, 16, 17, 20, 32, 33, 64]
        spec.dims = {"K": rng.choice(sizes), "V": rng.choice(sizes)}
        spec.state = rng.choice([("K", "V")] * 6 + [("V", "K"), ("K", "K"),
                                                    ("K", "d")])
        if "d" in spec.state:
            spec.extra_dims.append("d")
            spec.dims["d"] = rng.choice(sizes)
        micro = self.maybe(0.25)
        if micro:
            spec.extra_dims.append("n")
            spec.dims["n"] = rng.randint(1, 3)
        for _ in range(rng.choice([0, 1, 1, 2])):
            spec.attrs[self.fresh()] = rng.choice(
                ["0.5", f"{spec.state[0]} ^ -0.5", f"1 / (1 + {spec.state[1]})",
                 "1.5e-1"])
        statements = spec.statements
        for _ in range(rng.randint(0, 2)):
            statements.append(self.let())
        if self.maybe(0.3):
            statements.append(self.out())
        for _ in range(rng.choice([1, 1, 2, 2, 3])):
            statements.append(self.assign())
            if self.maybe(0.25):
                statements.append(self.let())
            if self.maybe(0.2):
                statements.append(self.out())
        if micro:
            at = rng.randint(0, len(statements))
            # A loop may use what was named before it, but these names were
            # drawn for the whole body: only its end sees them all.
            statements.insert(at if not self.lets + self.reads
                              else len(statements), self.loop_statement())
        if "o" not in spec.outs or self.maybe(0.6):
            statements.append(self.out())
        # A dim is known by the arrays: each one needs an input that has it.
        known = {x.dim for x in spec.inputs} | set(spec.state)
        known |= {"n"} if any(x.family for x in spec.inputs) else set()
        for dim in [*spec.extra_dims]:
            if dim not in known:
                if dim == "n":
                    x = Input(self.fresh(), "in", "", "normal", family=True)
                else:
                    x = Input(self.fresh(), "in", dim, "normal")
                spec.inputs.append(x)
        for dim in spec.state:
            if not any(x.dim == dim for x in spec.inputs):
                spec.inputs.append(Input(self.fresh(), "in", dim, "normal"))
        if all(x.kind == "param" for x in spec.inputs):
            spec.inputs.append(Input(self.fresh(), "in", "", "normal"))
        return spec


def generate(seed):
    """A random recurrence; the same seed gives the same one."""
    return Generator(seed).generate()


if __name__ == "__main__":
    import sys
    for seed in map(int, sys.argv[1:]):
        print(generate(seed).text())
