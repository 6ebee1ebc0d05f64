# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The simulator's comparisons, selections and conversions, against exact values."""

import math
from fractions import Fraction

import numpy as np
import pytest

from ptxarithmetic import N, integers, ptx, width, wrap  # noqa: F401
from ptxkernels import BYTES, bits, interesting, rounded, value


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
