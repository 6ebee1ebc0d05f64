# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The simulator's arithmetic, instruction by instruction, against exact sums.

Integers are Python's, floats are fractions that are rounded once; what the PTX
ISA says about NaN, infinities, zeros and subnormals is written out here.
"""

import math
from fractions import Fraction

import numpy as np
import pytest

from ptxkernels import (BYTES, FORMATS, Ptx, bits, interesting, rounded, value)

N = 128


@pytest.fixture(scope="module", params=["best", "base"])
def ptx(request, tool, tmp_path_factory):
    """The arithmetic for this processor, and that for any."""
    return Ptx(tool, tmp_path_factory.mktemp("ptx"), request.param)


# --- Integers ------------------------------------------------------------------


def width(type):
    return 8 * BYTES[type]


def wrap(x, type):
    x &= (1 << width(type)) - 1
    if type[0] == "s" and x >> (width(type) - 1):
        x -= 1 << width(type)
    return x


def integers(type, seed):
    """Random and border values of a type."""
    rng = np.random.default_rng(seed)
    w = width(type)
    special = [0, 1, 2, (1 << w) - 1, 1 << (w - 1), (1 << (w - 1)) - 1, 3, 255]
    out = []
    for _ in range(N):
        kind = rng.integers(3)
        x = (special[rng.integers(len(special))] if kind == 0 else
             int(rng.integers(100)) if kind == 1 else
             int(rng.integers(1 << 32)) * (1 << 32) + int(rng.integers(1 << 32)))
        out.append(wrap(x, type))
    return out


def truncated(a, b):
    q = abs(a) // abs(b)
    return q if (a < 0) == (b < 0) else -q


INTEGER = {
    "add": lambda a, b, w: a + b,
    "sub": lambda a, b, w: a - b,
    "mul.lo": lambda a, b, w: a * b,
    "mul.hi": lambda a, b, w: (a * b) >> w,
    "min": lambda a, b, w: min(a, b),
    "max": lambda a, b, w: max(a, b),
    "div": lambda a, b, w: truncated(a, b) if b else -1,
    "rem": lambda a, b, w: a - b * truncated(a, b) if b else a,
}


@pytest.mark.parametrize("type", ["u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("op", INTEGER)
def test_integer_binary(ptx, op, type):
    a, b = integers(type, 1), integers(type, 2)
    [d] = ptx.lanes(f"{op}.{type} %d0, %a0, %a1;", [(type, a), (type, b)],
                    [type], block=N)
    expected = [wrap(INTEGER[op](x, y, width(type)), type)
                for x, y in zip(a, b)]
    assert d.tolist() == expected


@pytest.mark.parametrize("type", ["s16", "s32", "s64"])
def test_integer_unary(ptx, type):
    a = integers(type, 3)
    neg, absolute = ptx.lanes(
        f"neg.{type} %d0, %a0; abs.{type} %d1, %a0;", [(type, a)],
        [type, type], block=N)
    assert neg.tolist() == [wrap(-x, type) for x in a]
    assert absolute.tolist() == [wrap(abs(x), type) for x in a]


@pytest.mark.parametrize("type", ["u16", "s16", "u32", "s32"])
def test_wide_products(ptx, type):
    wide = type[0] + str(2 * width(type))
    a, b, c = integers(type, 4), integers(type, 5), integers(wide, 6)
    mul, mad = ptx.lanes(
        f"mul.wide.{type} %d0, %a0, %a1; mad.wide.{type} %d1, %a0, %a1, %a2;",
        [(type, a), (type, b), (wide, c)], [wide, wide], block=N)
    assert mul.tolist() == [x * y for x, y in zip(a, b)]
    assert mad.tolist() == [wrap(x * y + z, wide) for x, y, z in zip(a, b, c)]


@pytest.mark.parametrize("type", ["u16", "s16", "u32", "s32", "u64", "s64"])
def test_mad_and_sad(ptx, type):
    a, b, c = (integers(type, s) for s in (7, 8, 9))
    lo, hi, sad = ptx.lanes(
        f"mad.lo.{type} %d0, %a0, %a1, %a2; mad.hi.{type} %d1, %a0, %a1, %a2;"
        f"sad.{type} %d2, %a0, %a1, %a2;",
        [(type, a), (type, b), (type, c)], [type] * 3, block=N)
    w = width(type)
    assert lo.tolist() == [wrap(x * y + z, type) for x, y, z in zip(a, b, c)]
    assert hi.tolist() == [wrap(((x * y) >> w) + z, type)
                           for x, y, z in zip(a, b, c)]
    assert sad.tolist() == [wrap(abs(x - y) + z, type)
                            for x, y, z in zip(a, b, c)]


@pytest.mark.parametrize("type", ["b16", "b32", "b64"])
def test_logic(ptx, type):
    a, b = integers(type, 10), integers(type, 11)
    out = ptx.lanes(
        f"and.{type} %d0, %a0, %a1; or.{type} %d1, %a0, %a1;"
        f"xor.{type} %d2, %a0, %a1; not.{type} %d3, %a0; cnot.{type} %d4, %a0;",
        [(type, a), (type, b)], [type] * 5, block=N)
    ops = [lambda x, y: x & y, lambda x, y: x | y, lambda x, y: x ^ y,
           lambda x, y: ~x, lambda x, y: int(x == 0)]
    for got, op in zip(out, ops):
        assert got.tolist() == [wrap(op(x, y), type) for x, y in zip(a, b)]


@pytest.mark.parametrize("type", ["u16", "s16", "u32", "s32", "u64", "s64"])
def test_shifts_clamp(ptx, type):
    a = integers(type, 12)
    n = [(i * 7) % 80 for i in range(N - 1)] + [0xffffffff]
    bits_type = "b" + type[1:]
    left, right = ptx.lanes(
        f"shl.{bits_type} %d0, %a0, %a1; shr.{type} %d1, %a0, %a1;",
        [(type, a), ("u32", n)], [type, type], block=N)
    assert left.tolist() == [wrap(x << min(s, 64), type) for x, s in zip(a, n)]
    assert right.tolist() == [x >> min(s, 64) for x, s in zip(a, n)]


def test_funnel_shifts(ptx):
    a, b = integers("u32", 13), integers("u32", 14)
    n = [i % 40 for i in range(N)]
    out = ptx.lanes(
        "shf.l.wrap.b32 %d0, %a0, %a1, %a2; shf.l.clamp.b32 %d1, %a0, %a1, %a2;"
        "shf.r.wrap.b32 %d2, %a0, %a1, %a2; shf.r.clamp.b32 %d3, %a0, %a1, %a2;",
        [("u32", a), ("u32", b), ("u32", n)], ["u32"] * 4, block=N)
    m = 0xffffffff
    for got, left, clamp in zip(out, (1, 1, 0, 0), (0, 1, 0, 1)):
        expected = []
        for x, y, s in zip(a, b, n):
            s = min(s, 32) if clamp else s & 31
            pair = y << 32 | x
            expected.append((pair << s) >> 32 & m if left else pair >> s & m)
        assert got.tolist() == expected


@pytest.mark.parametrize("type", ["u32", "s32", "u64", "s64"])
def test_bit_counts(ptx, type):
    a, w = integers(type, 15), width(type)
    b = "b" + type[1:]
    popc, clz, find, shift, brev = ptx.lanes(
        f"popc.{b} %d0, %a0; clz.{b} %d1, %a0; bfind.{type} %d2, %a0;"
        f"bfind.shiftamt.{type} %d3, %a0; brev.{b} %d4, %a0;",
        [(type, a)], ["u32"] * 4 + [b], block=N)
    u = [x & ((1 << w) - 1) for x in a]
    assert popc.tolist() == [bin(x).count("1") for x in u]
    assert clz.tolist() == [w - x.bit_length() for x in u]
    # The most significant bit that is not a copy of the sign.
    top = [(~x if x < 0 else x).bit_length() - 1 for x in a]
    assert find.tolist() == [t & 0xffffffff for t in top]
    assert shift.tolist() == [w - 1 - t if t >= 0 else 0xffffffff for t in top]
    assert brev.tolist() == [int(f"{x:0{w}b}"[::-1], 2) for x in u]


@pytest.mark.parametrize("type", ["u32", "s32", "u64", "s64"])
def test_bit_field_extract(ptx, type):
    a, w = integers(type, 16), width(type)
    pos = [(i * 5) % 70 for i in range(N)]
    length = [(i * 11) % 70 for i in range(N)]
    [d] = ptx.lanes(f"bfe.{type} %d0, %a0, %a1, %a2;",
                    [(type, a), ("u32", pos), ("u32", length)], [type], block=N)
    expected = []
    for x, p, n in zip(a, pos, length):
        # The ISA's own loop, bit by bit.
        msb = w - 1
        bit = lambda i: x >> i & 1
        sbit = 0 if type[0] == "u" or n == 0 else bit(min(p + n - 1, msb))
        out = 0
        for i in range(w):
            out |= (bit(p + i) if i < n and p + i <= msb else sbit) << i
        expected.append(wrap(out, type))
    assert d.tolist() == expected


@pytest.mark.parametrize("type", ["b32", "b64"])
def test_bit_field_insert(ptx, type):
    a, b, w = integers(type, 17), integers(type, 18), width(type)
    pos = [(i * 5) % 70 for i in range(N)]
    length = [(i * 11) % 70 for i in range(N)]
    [d] = ptx.lanes(f"bfi.{type} %d0, %a0, %a1, %a2, %a3;",
                    [(type, a), (type, b), ("u32", pos), ("u32", length)],
                    [type], block=N)
    expected = []
    for x, y, p, n in zip(a, b, pos, length):
        for i in range(n):
            if p + i < w:
                y = y & ~(1 << (p + i)) | (x >> i & 1) << (p + i)
        expected.append(y)
    assert d.tolist() == expected


def test_prmt(ptx):
    a, b = integers("u32", 19), integers("u32", 20)
    c = [int(x) for x in np.random.default_rng(21).integers(1 << 16, size=N)]
    modes = ["", "f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]
    code = "".join(f"prmt.b32{'.' + m if m else ''} %d{i}, %a0, %a1, %a2;"
                   for i, m in enumerate(modes))
    out = ptx.lanes(code, [("u32", a), ("u32", b), ("u32", c)],
                    ["u32"] * len(modes), block=N)
    # The selections of the ISA's table, byte 3 first.
    table = {"f4e": ["3210", "4321", "5432", "6543"],
             "b4e": ["5670", "6701", "7012", "0123"],
             "rc8": ["0000", "1111", "2222", "3333"],
             "ecl": ["3210", "3211", "3222", "3333"],
             "ecr": ["0000", "1110", "2210", "3210"],
             "rc16": ["1010", "3232", "1010", "3232"]}
    for got, mode in zip(out, modes):
        for i in range(N):
            byte = [(b[i] << 32 | a[i]) >> (8 * n) & 255 for n in range(8)]
            r = 0
            for n in range(4):
                if mode:
                    s = int(table[mode][c[i] & 3][3 - n])
                    v = byte[s]
                else:
                    s = c[i] >> (4 * n) & 15
                    v = byte[s & 7]
                    if s & 8:
                        v = 255 if v & 128 else 0
                r |= v << (8 * n)
            assert got[i] == r, (mode, hex(c[i]))


def test_lop3(ptx):
    a, b, c = (integers("u32", s) for s in (22, 23, 24))
    tables = [0x00, 0xff, 0x80, 0x96, 0xe8, 0xca, 0x1e, 0x2d]
    code = "".join(f"lop3.b32 %d{i}, %a0, %a1, %a2, {t};"
                   for i, t in enumerate(tables))
    out = ptx.lanes(code, [("u32", x) for x in (a, b, c)],
                    ["u32"] * len(tables), block=N)
    for got, t in zip(out, tables):
        for i in range(N):
            r = sum((t >> ((a[i] >> n & 1) << 2 | (b[i] >> n & 1) << 1
                           | (c[i] >> n & 1)) & 1) << n for n in range(32))
            assert got[i] == r


def test_carry_chains(ptx):
    a, b = integers("u64", 25), integers("u64", 26)
    regs = ".reg .b32 %l<9>;"
    add, sub = ptx.lanes(
        "mov.b64 {%l0, %l1}, %a0; mov.b64 {%l2, %l3}, %a1;"
        "add.cc.u32 %l4, %l0, %l2; addc.u32 %l5, %l1, %l3;"
        "mov.b64 %d0, {%l4, %l5};"
        "sub.cc.u32 %l4, %l0, %l2; subc.u32 %l5, %l1, %l3;"
        "mov.b64 %d1, {%l4, %l5};",
        [("u64", a), ("u64", b)], ["u64", "u64"], regs=regs, block=N)
    assert add.tolist() == [wrap(x + y, "u64") for x, y in zip(a, b)]
    assert sub.tolist() == [wrap(x - y, "u64") for x, y in zip(a, b)]


def test_24_bit_and_dot_products(ptx):
    a, b, c = (integers("s32", s) for s in (27, 28, 29))
    mul, mad, unsigned, dot, mixed = ptx.lanes(
        "mul24.lo.s32 %d0, %a0, %a1; mad24.lo.s32 %d1, %a0, %a1, %a2;"
        "mul24.lo.u32 %d2, %a0, %a1; dp4a.s32.s32 %d3, %a0, %a1, %a2;"
        "dp4a.u32.s32 %d4, %a0, %a1, %a2;",
        [("s32", x) for x in (a, b, c)], ["s32"] * 5, block=N)

    def low24(x):
        x &= 0xffffff
        return x - (1 << 24) if x >> 23 else x

    def byte(x, n, signed):
        v = x >> (8 * n) & 255
        return v - 256 if signed and v & 128 else v

    for i in range(N):
        x, y, z = a[i], b[i], c[i]
        assert mul[i] == wrap(low24(x) * low24(y), "s32")
        assert mad[i] == wrap(low24(x) * low24(y) + z, "s32")
        assert unsigned[i] == wrap((x & 0xffffff) * (y & 0xffffff), "s32")
        assert dot[i] == wrap(z + sum(byte(x, n, 1) * byte(y, n, 1)
                                      for n in range(4)), "s32")
        assert mixed[i] == wrap(z + sum(byte(x, n, 0) * byte(y, n, 1)
                                        for n in range(4)), "s32")


def test_packed_integers(ptx):
    a, b = integers("u32", 30), integers("u32", 31)
    code = "".join(f"{op}.{t}x2 %d{i}, %a0, %a1;" for i, (op, t) in enumerate(
        [("add", "u16"), ("min", "u16"), ("max", "s16")]))
    out = ptx.lanes(code, [("b32", a), ("b32", b)], ["b32"] * 3, block=N)
    for got, (op, t) in zip(out, [("add", "u16"), ("min", "u16"),
                                  ("max", "s16")]):
        for i in range(N):
            r = 0
            for shift in (0, 16):
                x, y = wrap(a[i] >> shift, t), wrap(b[i] >> shift, t)
                r |= (INTEGER[op](x, y, 16) & 0xffff) << shift
            assert got[i] == r


# --- Floats --------------------------------------------------------------------


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


# --- Comparisons and selection -------------------------------------------------

COMPARE = {"eq": lambda a, b: a == b, "ne": lambda a, b: a != b,
           "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
           "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b}


@pytest.mark.parametrize("type", ["u16", "s16", "u32", "s32", "u64", "s64"])
def test_setp_integers(ptx, type):
    a, b = integers(type, 100), integers(type, 101)
    b[::3] = a[::3]
    out = ptx.lanes("".join(f"setp.{c}.{type} %d{i}, %a0, %a1;"
                            for i, c in enumerate(COMPARE)),
                    [(type, a), (type, b)], ["pred"] * 6, block=N)
    for got, compare in zip(out, COMPARE.values()):
        assert got.tolist() == [int(compare(x, y)) for x, y in zip(a, b)]


@pytest.mark.parametrize("format", ["f32", "f64", "f16", "bf16"])
def test_setp_floats(ptx, format):
    a, b = interesting(format, N, 102), interesting(format, N, 103)
    b[::3] = a[::3]
    width = {"f32": 32, "f64": 64}.get(format, 16)
    names = list(COMPARE) + [c + "u" for c in COMPARE] + ["num", "nan"]
    regs = f".reg .{format if width > 16 else 'b16'} %x<2>;"
    code = f"mov.b{width} %x0, %a0; mov.b{width} %x1, %a1;"
    code += "".join(f"setp.{n}.{format} %d{i}, %x0, %x1;"
                    for i, n in enumerate(names))
    out = ptx.lanes(code, [(f"b{width}", a), (f"b{width}", b)],
                    ["pred"] * len(names), block=N, regs=regs)
    for got, name in zip(out, names):
        for i in range(N):
            x, y = value(a[i], format), value(b[i], format)
            unordered = math.isnan(x) or math.isnan(y)
            if name in ("num", "nan"):
                want = unordered == (name == "nan")
            elif unordered:
                want = name.endswith("u")
            else:
                want = COMPARE[name[:2]](x, y)
            assert bool(got[i]) == want, (name, x, y)


def test_setp_combined(ptx):
    """p|q = (a < b) op c | !(a < b) op c."""
    a, b = integers("s32", 104), integers("s32", 105)
    c = [i & 1 for i in range(N)]
    out = ptx.lanes(
        "setp.lt.and.s32 %d0|%d1, %a0, %a1, %a2;"
        "setp.lt.or.s32 %d2|%d3, %a0, %a1, !%a2;"
        "setp.lt.xor.s32 %d4|_, %a0, %a1, %a2;",
        [("s32", a), ("s32", b), ("pred", c)], ["pred"] * 5, block=N)
    for i in range(N):
        t, p = a[i] < b[i], bool(c[i])
        want = [t and p, not t and p, t or not p, not t or not p, t != p]
        assert [bool(o[i]) for o in out] == want


def test_set_selp_slct(ptx):
    a, b = integers("s32", 106), integers("s32", 107)
    f = interesting("f32", N, 108)
    p = [i % 3 == 0 for i in range(N)]
    mask, one, sel, neg, by_int, by_float = ptx.lanes(
        "set.lt.u32.s32 %d0, %a0, %a1; set.lt.f32.s32 %d1, %a0, %a1;"
        "selp.b32 %d2, %a0, %a1, %a3; selp.b32 %d3, %a0, %a1, !%a3;"
        "slct.s32.s32 %d4, %a0, %a1, %a0; slct.s32.f32 %d5, %a0, %a1, %a2;",
        [("s32", a), ("s32", b),
         ("f32", np.array(f, np.uint32).view(np.float32)), ("pred", p)],
        ["u32", "f32", "s32", "s32", "s32", "s32"], block=N)
    for i in range(N):
        less, x = a[i] < b[i], value(f[i], "f32")
        assert mask[i] == (0xffffffff if less else 0)
        assert one[i] == float(less)
        assert sel[i] == (a[i] if p[i] else b[i])
        assert neg[i] == (b[i] if p[i] else a[i])
        assert by_int[i] == (a[i] if a[i] >= 0 else b[i])
        assert by_float[i] == (a[i] if x >= 0 else b[i])


def test_predicate_logic(ptx):
    a, b = [i & 1 for i in range(32)], [i >> 1 & 1 for i in range(32)]
    out = ptx.lanes(
        "and.pred %d0, %a0, %a1; or.pred %d1, %a0, %a1;"
        "xor.pred %d2, %a0, %a1; not.pred %d3, %a0; mov.pred %d4, %a1;"
        "@!%a0 mov.pred %d4, %a0;",
        [("pred", a), ("pred", b)], ["pred"] * 5)
    for i in range(32):
        x, y = a[i], b[i]
        assert [int(o[i]) for o in out] == [x & y, x | y, x ^ y, 1 - x,
                                            y if x else 0]


# --- Conversions ---------------------------------------------------------------


@pytest.mark.parametrize("to", ["f16", "bf16", "tf32"])
def test_narrowing(ptx, to):
    # Around the middle between neighbours too.
    raw = interesting("f32", N, 110)
    drop = {"f16": 13, "bf16": 16, "tf32": 13}[to]
    for i in range(0, N, 2):
        half = 1 << (drop - 1)
        raw[i] = (raw[i] & ~((1 << drop) - 1)) | half + (i // 2) % 3 - 1
    modes = {"f16": ["rn", "rz"], "bf16": ["rn", "rz"],
             "tf32": ["rna", "rn", "rz"]}[to]
    width = 32 if to == "tf32" else 16
    out = ptx.lanes("".join(f"cvt.{m}.{to}.f32 %d{i}, %a0;"
                            for i, m in enumerate(modes)),
                    [("f32", np.array(raw, np.uint32).view(np.float32))],
                    [f"b{width}"] * len(modes), block=N)
    for got, mode in zip(out, modes):
        for i in range(N):
            x = value(raw[i], "f32")
            if math.isnan(x) or math.isinf(x):
                want = x
            else:
                want = math.copysign(rounded(Fraction(x), to, mode), x)
            assert int(got[i]) == bits(want, to), (mode, x)


@pytest.mark.parametrize("to", ["f16", "bf16"])
def test_pairs(ptx, to):
    """The first operand goes to the upper half."""
    a, b = interesting("f32", N, 111), interesting("f32", N, 112)
    out = ptx.lanes(
        f"cvt.rn.{to}x2.f32 %d0, %a0, %a1; cvt.rz.{to}x2.f32 %d1, %a0, %a1;"
        f"cvt.rn.relu.{to}x2.f32 %d2, %a0, %a1;",
        [("f32", np.array(x, np.uint32).view(np.float32)) for x in (a, b)],
        ["b32"] * 3, block=N)
    for got, mode, relu in zip(out, ("rn", "rz", "rn"), (0, 0, 1)):
        for i in range(N):
            want = 0
            for raw, shift in ((a[i], 16), (b[i], 0)):
                x = value(raw, "f32")
                if math.isfinite(x):
                    x = math.copysign(rounded(Fraction(x), to, mode), x)
                if relu and x <= 0:
                    x = 0.0
                want |= bits(x, to) << shift
            assert int(got[i]) == want


def test_widening(ptx):
    raw = interesting("f16", N, 113)
    a, b = ptx.lanes("cvt.f32.f16 %d0, %a0; cvt.f32.bf16 %d1, %a0;",
                     [("b16", raw)], ["f32", "f32"], block=N)
    for i in range(N):
        assert bits(float(a[i]), "f32") == bits(value(raw[i], "f16"), "f32")
        assert bits(float(b[i]), "f32") == bits(value(raw[i], "bf16"), "f32")


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_double_to_single(ptx, mode):
    raw = interesting("f64", N, 114)
    for i in range(0, N, 2):  # within reach of f32
        raw[i] = bits(1.0 + i * 2.0 ** -24 + i * 2.0 ** -40, "f64") \
            | (i & 2) << 62
    [d] = ptx.lanes(f"cvt.{mode}.f32.f64 %d0, %a0;",
                    [("f64", np.array(raw, np.uint64).view(np.float64))],
                    ["f32"], block=N)
    for i in range(N):
        x = value(raw[i], "f64")
        if math.isfinite(x):
            want = math.copysign(rounded(Fraction(x), "f32", mode), x)
        else:
            want = x
        assert bits(float(d[i]), "f32") == bits(want, "f32"), x


@pytest.mark.parametrize("to", ["u8", "s8", "u16", "s16", "u32", "s32", "u64",
                                "s64"])
@pytest.mark.parametrize("format", ["f32", "f64"])
def test_float_to_integer(ptx, to, format):
    """Out of range clamps, NaN is 0."""
    raw = interesting(format, N, 115)
    for i, x in enumerate([0.5, 1.5, 2.5, -0.5, -1.5, 127.5, 128.5, 255.5, -128.5,
                           65535.5, 2147483648.0, 4294967296.0, -3.7, 3.7]):
        raw[i] = bits(x, format)
    modes = {"rni": lambda x: round(x), "rzi": math.trunc, "rmi": math.floor,
             "rpi": math.ceil}
    x = np.array(raw, np.uint64 if format == "f64" else np.uint32)
    x = x.view(np.float64 if format == "f64" else np.float32)
    narrow = BYTES[to] == 1
    out_type = ("u16" if to[0] == "u" else "s16") if narrow else to
    out = ptx.lanes("".join(f"cvt.{m}.{to}.{format} %d{i}, %a0;"
                            for i, m in enumerate(modes)),
                    [(format, x)], [out_type] * 4, block=N)
    low, high = (0, (1 << width(to)) - 1) if to[0] == "u" else \
        (-(1 << (width(to) - 1)), (1 << (width(to) - 1)) - 1)
    for got, mode in zip(out, modes.values()):
        for i, v in enumerate(value(r, format) for r in raw):
            if math.isnan(v):
                want = 0
            elif math.isinf(v):
                want = high if v > 0 else low
            else:
                want = min(max(mode(Fraction(v)), low), high)
            assert int(got[i]) == want, v


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("type", ["u32", "s32", "u64", "s64"])
def test_integer_to_float(ptx, type, mode):
    a = integers(type, 116)
    formats = ["f32", "f64"] + (["f16"] if mode == "rn" else [])
    outs = [{"f16": "b16"}.get(f, f) for f in formats]
    out = ptx.lanes("".join(f"cvt.{mode}.{f}.{type} %d{i}, %a0;"
                            for i, f in enumerate(formats)),
                    [(type, a)], outs, block=N)
    for got, f in zip(out, formats):
        for i in range(N):
            want = bits(rounded(Fraction(a[i]), f, mode), f)
            have = int(got[i]) if f == "f16" else bits(float(got[i]), f)
            assert have == want, a[i]


def test_integer_widths(ptx):
    a = integers("s64", 117)
    out = ptx.lanes(
        "cvt.s32.s8 %d0, %a1; cvt.u32.u8 %d1, %a1; cvt.s64.s32 %d2, %a1;"
        "cvt.u64.u32 %d3, %a1; cvt.u32.u64 %d4, %a0; cvt.u16.u32 %d5, %a1;"
        "cvt.sat.u8.s32 %d6, %a1; cvt.sat.s16.s64 %d7, %a0; cvt.s32.s16 %d8,"
        " %a2; cvt.u32.u16 %d9, %a2;",
        [("s64", a), ("s32", [wrap(x, "s32") for x in a]),
         ("u16", [wrap(x, "u16") for x in a])],
        ["s32", "u32", "s64", "u64", "u32", "u16", "u16", "s16", "s32", "u32"],
        block=N)
    for i, x in enumerate(a):
        y = wrap(x, "s32")
        want = [wrap(y, "s8"), wrap(y, "u8"), y, wrap(y, "u32"), wrap(x, "u32"),
                wrap(x, "u16"), min(max(y, 0), 255),
                min(max(x, -32768), 32767), wrap(x, "s16"), wrap(x, "u16")]
        assert [int(o[i]) for o in out] == want


def test_integral_floats(ptx):
    raw = interesting("f32", N, 118)
    for i, x in enumerate([0.5, 1.5, 2.5, -0.5, -2.5, 1e10, 0.49999997]):
        raw[i] = bits(x, "f32")
    modes = {"rni": round, "rzi": math.trunc, "rmi": math.floor,
             "rpi": math.ceil}
    out = ptx.lanes("".join(f"cvt.{m}.f32.f32 %d{i}, %a0;"
                            for i, m in enumerate(modes)),
                    [("f32", np.array(raw, np.uint32).view(np.float32))],
                    ["f32"] * 4, block=N)
    for got, mode in zip(out, modes.values()):
        for i, x in enumerate(value(r, "f32") for r in raw):
            want = x if not math.isfinite(x) else \
                math.copysign(float(mode(Fraction(x))), x)
            assert bits(float(got[i]), "f32") == bits(want, "f32"), x


def test_moves(ptx):
    a = integers("u64", 119)
    high, packed, quarter, signed = ptx.lanes(
        "mov.b64 {_, %d0}, %a0; mov.b64 {%l, %h}, %a0; mov.b64 %d1, {%h, %l};"
        "mov.b64 {_, %q, _, _}, %a0; cvt.u32.u16 %d2, %q; mov.u32 %d3, -5;",
        [("u64", a)], ["u32", "u64", "u32", "s32"],
        regs=".reg .b32 %l, %h; .reg .b16 %q;", block=N)
    assert high.tolist() == [x >> 32 for x in a]
    assert packed.tolist() == [x >> 32 | (x & 0xffffffff) << 32 for x in a]
    assert quarter.tolist() == [x >> 16 & 0xffff for x in a]
    assert set(signed.tolist()) == {-5}
