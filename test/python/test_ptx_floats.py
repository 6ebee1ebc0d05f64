# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The simulator's floats, instruction by instruction, against exact sums.

Fractions are rounded once; what the PTX ISA says about NaN, infinities, zeros and
subnormals is written out here.
"""

import math
from fractions import Fraction

import numpy as np
import pytest

from ptxarithmetic import N, ptx, width  # noqa: F401
from ptxkernels import FORMATS, bits, interesting, rounded, value


def is_subnormal(x, format):
    return x != 0 and abs(x) < 2.0 ** FORMATS[format][1]


def flushed(x, format):
    return math.copysign(0.0, x) if is_subnormal(x, format) else x


def zero_sum(mode, *signs):
    """The zero that terms adding up to zero give."""
    if all(s < 0 for s in signs):
        return -0.0
    if all(s > 0 for s in signs):
        return 0.0
    return -0.0 if mode == "rm" else 0.0


def sign(x):
    return math.copysign(1, x)


def exact(op, format, mode, a, b=0.0, c=0.0):
    """The correctly rounded result of an operation on floats."""
    operands = [a, b, c][:{"sqrt": 1, "rcp": 1, "fma": 3}.get(op, 2)]
    if any(math.isnan(x) for x in operands):
        return math.nan
    if op == "sub":
        return exact("add", format, mode, a, -b)
    if op == "rcp":
        return exact("div", format, mode, 1.0, a)
    if op == "add":
        if math.isinf(a) or math.isinf(b):
            return a + b
        s = Fraction(a) + Fraction(b)
        return rounded(s, format, mode) if s else zero_sum(mode, sign(a), sign(b))
    if op == "mul":
        if any(map(math.isinf, operands)) or a == 0 or b == 0:
            return a * b
        return math.copysign(rounded(Fraction(a) * Fraction(b), format, mode),
                             sign(a) * sign(b))
    if op == "div":
        if b == 0:
            return math.nan if a == 0 else sign(a) * sign(b) * math.inf
        if math.isinf(a) or math.isinf(b) or a == 0:
            return a / b
        return math.copysign(rounded(Fraction(a) / Fraction(b), format, mode),
                             sign(a) * sign(b))
    if op == "fma":
        product = a * b if any(map(math.isinf, (a, b))) else None
        if product is not None:
            return product + c
        if math.isinf(c):
            return c
        s = Fraction(a) * Fraction(b) + Fraction(c)
        if s:
            return rounded(s, format, mode)
        return zero_sum(mode, sign(a) * sign(b), sign(c))
    if op == "sqrt":
        if a <= 0 or math.isinf(a):
            return math.nan if a < 0 else a
        # Enough digits that rounding cannot be in doubt.
        x = Fraction(a)
        root = Fraction(math.isqrt(x.numerator * x.denominator << 400),
                        x.denominator << 200)
        if root * root != x:
            root += Fraction(1, 1 << 700)
        return rounded(root, format, mode)
    raise AssertionError(op)


CASES = [(op, f, m) for op in ("add", "sub", "mul", "fma")
         for f in ("f32", "f64") for m in ("rn", "rz", "rm", "rp")]
CASES += [(op, f, m) for op in ("div", "rcp", "sqrt") for f in ("f32", "f64")
          for m in ("rn", "rz", "rm", "rp")]


@pytest.mark.parametrize("op,format,mode", CASES)
def test_float_rounding(ptx, op, format, mode):
    count = {"sqrt": 1, "rcp": 1, "fma": 3}.get(op, 2)
    raw = [interesting(format, N, 40 + i) for i in range(count)]
    operands = ", ".join(f"%a{i}" for i in range(count))
    width = 64 if format == "f64" else 32
    regs = "".join(f".reg .{format} %x{i};" for i in range(count)) + \
        f".reg .{format} %y;"
    code = "".join(f"mov.b{width} %x{i}, %a{i};" for i in range(count))
    code += f"{op}.{mode}.{format} %y, {operands.replace('%a', '%x')};"
    code += f"mov.b{width} %d0, %y;"
    [d] = ptx.lanes(code, [(f"b{width}", x) for x in raw], [f"b{width}"],
                    block=N, regs=regs)
    for i in range(N):
        x = [value(r[i], format) for r in raw]
        want = exact(op, format, mode, *x)
        if math.isnan(want) and format == "f64":
            assert math.isnan(value(d[i], format))
        else:
            assert int(d[i]) == bits(want, format), (x, want)


@pytest.mark.parametrize("op", ["add", "mul", "fma"])
def test_flush_and_saturate(ptx, op):
    count = 3 if op == "fma" else 2
    raw = [interesting("f32", N, 50 + i) for i in range(count)]
    operands = ", ".join(f"%a{i}" for i in range(count))
    rn = ".rn" if op == "fma" else ""
    ftz, sat = ptx.lanes(
        f"{op}{rn}.ftz.f32 %d0, {operands}; {op}{rn}.sat.f32 %d1, {operands};",
        [("f32", np.array(r, np.uint32).view(np.float32)) for r in raw],
        ["f32", "f32"], block=N)
    for i in range(N):
        x = [value(r[i], "f32") for r in raw]
        want = flushed(exact(op, "f32", "rn", *[flushed(v, "f32") for v in x]),
                       "f32")
        assert bits(float(ftz[i]), "f32") == bits(want, "f32")
        want = exact(op, "f32", "rn", *x)
        want = 0.0 if math.isnan(want) else min(max(want, 0.0), 1.0)
        assert float(sat[i]) == want


def minimum(a, b, format, largest, nan):
    if math.isnan(a) or math.isnan(b):
        if nan or math.isnan(a) and math.isnan(b):
            return math.nan
        return b if math.isnan(a) else a
    if a == b:
        low, high = sorted((a, b), key=sign)
        return high if largest else low
    return max(a, b) if largest else min(a, b)


@pytest.mark.parametrize("format", ["f32", "f64", "f16", "bf16"])
def test_min_max(ptx, format):
    a, b = interesting(format, N, 60), interesting(format, N, 61)
    width = {"f32": 32, "f64": 64}.get(format, 16)
    variants = [("min", ""), ("max", "")]
    if format != "f64":
        variants += [("min", ".NaN"), ("max", ".NaN")]
    if width == 16:
        code = "".join(f"{op}{n}.{format} %d{i}, %a0, %a1;"
                       for i, (op, n) in enumerate(variants))
        regs = ""
    else:
        regs = f".reg .{format} %x<3>;"
        code = f"mov.b{width} %x0, %a0; mov.b{width} %x1, %a1;"
        code += "".join(f"{op}{n}.{format} %x2, %x0, %x1;"
                        f"mov.b{width} %d{i}, %x2;"
                        for i, (op, n) in enumerate(variants))
    out = ptx.lanes(code, [(f"b{width}", a), (f"b{width}", b)],
                    [f"b{width}"] * len(variants), block=N, regs=regs)
    for got, (op, n) in zip(out, variants):
        for i in range(N):
            x, y = value(a[i], format), value(b[i], format)
            want = minimum(x, y, format, op == "max", bool(n))
            if math.isnan(want) and format == "f64":
                assert math.isnan(value(got[i], format))
            else:
                assert int(got[i]) == bits(want, format), (op, n, x, y)


@pytest.mark.parametrize("format", ["f16", "bf16"])
@pytest.mark.parametrize("op", ["add", "sub", "mul", "fma"])
def test_half_rounding(ptx, op, format):
    """Scalars and pairs; every operation is rounded once."""
    count = 3 if op == "fma" else 2
    raw = [interesting(format, 2 * N, 70 + i) for i in range(count)]
    names = ", ".join(f"%a{i}" for i in range(count))
    rn = ".rn" if op == "fma" else ""
    pairs = [[r[2 * i] | r[2 * i + 1] << 16 for i in range(N)] for r in raw]
    [d] = ptx.lanes(f"{op}{rn}.{format}x2 %d0, {names};",
                    [("b32", p) for p in pairs], ["b32"], block=N)
    [s] = ptx.lanes(f"{op}{rn}.{format} %d0, {names};",
                    [("b16", r[:N]) for r in raw], ["b16"], block=N)
    for i in range(2 * N):
        x = [value(r[i], format) for r in raw]
        want = bits(exact(op, format, "rn", *x), format)
        assert int(d[i // 2]) >> (16 * (i % 2)) & 0xffff == want, x
        if i < N:
            assert int(s[i]) == want, x


def test_fma_relu(ptx):
    raw = [interesting("f16", N, 80 + i) for i in range(3)]
    relu, plain = ptx.lanes(
        "fma.rn.relu.f16 %d0, %a0, %a1, %a2; fma.rn.f16 %d1, %a0, %a1, %a2;",
        [("b16", r) for r in raw], ["b16", "b16"], block=N)
    for r, p in zip(relu, plain):
        assert int(r) == (0 if int(p) & 0x8000 else int(p))


def test_signs(ptx):
    a, b = interesting("f32", N, 90), interesting("f32", N, 91)
    f = [np.array(x, np.uint32).view(np.float32) for x in (a, b)]
    neg, absolute, copied = ptx.lanes(
        "neg.f32 %d0, %a0; abs.f32 %d1, %a0; copysign.f32 %d2, %a0, %a1;",
        [("f32", f[0]), ("f32", f[1])], ["f32"] * 3, block=N)
    assert (neg.view(np.uint32) == np.array(a, np.uint32) ^ 0x80000000).all()
    assert (absolute.view(np.uint32)
            == np.array(a, np.uint32) & 0x7fffffff).all()
    # The sign of the first on the second.
    want = (np.array(a, np.uint32) & 0x80000000) \
        | (np.array(b, np.uint32) & 0x7fffffff)
    assert (copied.view(np.uint32) == want).all()


def test_testp(ptx):
    a = interesting("f32", N, 92)
    names = ["finite", "infinite", "number", "notanumber", "normal",
             "subnormal"]
    out = ptx.lanes("".join(f"testp.{n}.f32 %d{i}, %a0;"
                            for i, n in enumerate(names)),
                    [("f32", np.array(a, np.uint32).view(np.float32))],
                    ["pred"] * 6, block=N)
    for i, x in enumerate(value(v, "f32") for v in a):
        sub = is_subnormal(x, "f32")
        want = [math.isfinite(x), math.isinf(x), not math.isnan(x),
                math.isnan(x), math.isfinite(x) and x != 0 and not sub, sub]
        assert [bool(o[i]) for o in out] == want, x


APPROXIMATE = {  # the ISA's bound on the relative error, and where
    "ex2.approx.f32": (lambda x: 2.0 ** x, 2 ** -22, (-140, 127)),
    "ex2.approx.ftz.f32": (lambda x: 2.0 ** x, 2 ** -22, (-126, 127)),
    "rcp.approx.f32": (lambda x: 1 / x, 2 ** -23, (0.01, 100)),
    "rcp.approx.ftz.f32": (lambda x: 1 / x, 2 ** -23, (0.01, 100)),
    "rsqrt.approx.f32": (lambda x: x ** -0.5, 2 ** -22.9, (0.01, 100)),
    "sqrt.approx.f32": (lambda x: x ** 0.5, 2 ** -23, (0.01, 100)),
    "lg2.approx.f32": (lambda x: math.log2(x), 2 ** -22, (2, 100)),
    "tanh.approx.f32": (math.tanh, 2 ** -11, (-4, 4)),
    "sin.approx.f32": (math.sin, 2 ** -20.5, (0.1, 3)),
    "cos.approx.f32": (math.cos, 2 ** -20.5, (0.1, 1.5)),
}


@pytest.mark.parametrize("op", APPROXIMATE)
def test_approximations(ptx, op):
    function, bound, (low, high) = APPROXIMATE[op]
    x = np.linspace(low, high, N).astype(np.float32)
    [d] = ptx.lanes(f"{op} %d0, %a0;", [("f32", x)], ["f32"], block=N)
    for got, v in zip(d, x):
        want = function(float(v))
        # A subnormal result has fewer bits.
        assert abs(float(got) - want) <= max(bound * abs(want), 2 ** -150), v


def test_ex2_special_values(ptx):
    inf, nan = math.inf, math.nan
    x = [0.0, -0.0, inf, -inf, nan, 128.0, -126.0, -127.0, -149.0, -150.5, 1.0,
         -1.0, 10.0, 1e-40, -1e-40, 127.5]
    x += [0.0] * (32 - len(x))
    plain, ftz = ptx.lanes(
        "ex2.approx.f32 %d0, %a0; ex2.approx.ftz.f32 %d1, %a0;",
        [("f32", x)], ["f32", "f32"])
    want = [1, 1, inf, 0, nan, inf, 2 ** -126, 2 ** -127, 2 ** -149, 0, 2, .5,
            1024, 1, 1]
    for got, flush, w in zip(plain, ftz, want):
        if math.isnan(w):
            assert got.view(np.uint32) == flush.view(np.uint32) == 0x7fffffff
        else:
            assert float(got) == w
            assert float(flush) == flushed(w, "f32")


def test_special_results(ptx):
    """Of rcp, rsqrt, lg2 and sqrt, as the ISA's tables give them."""
    inf, nan = math.inf, math.nan
    x = [0.0, -0.0, inf, -inf, nan, -1.0, 1e-40, -1e-40] + [1.0] * 24
    rcp, rsqrt, lg2, sqrt = ptx.lanes(
        "rcp.approx.ftz.f32 %d0, %a0; rsqrt.approx.ftz.f32 %d1, %a0;"
        "lg2.approx.ftz.f32 %d2, %a0; sqrt.approx.ftz.f32 %d3, %a0;",
        [("f32", x)], ["f32"] * 4)
    table = [(inf, inf, -inf, 0.0), (-inf, -inf, -inf, -0.0),
             (0.0, 0.0, inf, inf), (-0.0, nan, nan, nan),
             (nan, nan, nan, nan), (-1.0, nan, nan, nan),
             (inf, inf, -inf, 0.0), (-inf, -inf, -inf, -0.0)]
    for i, row in enumerate(table):
        for got, want in zip((rcp, rsqrt, lg2, sqrt), row):
            assert bits(float(got[i]), "f32") == bits(want, "f32"), x[i]
