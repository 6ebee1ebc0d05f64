# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The simulator's integers, instruction by instruction, against Python's."""

import numpy as np
import pytest

from ptxarithmetic import N, integers, ptx, width, wrap  # noqa: F401


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
