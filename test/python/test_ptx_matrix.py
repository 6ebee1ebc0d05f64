# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Matrix instructions in the simulator: products, and matrices in shared memory.

Fragment layouts are written down as the PTX ISA gives them: row and column of
element i of a lane, by groupID = lane >> 2 and threadID_in_group = lane % 4.
"""

import numpy as np
import pytest

from kernels import from_bf16, to_bf16
from ptxkernels import Ptx, bits

LANES = range(32)


@pytest.fixture(scope="module")
def ptx(tool, tmp_path_factory):
    return Ptx(tool, tmp_path_factory.mktemp("ptx"))


@pytest.fixture(scope="module")
def base(tool, tmp_path_factory):
    """The same with arithmetic for any processor."""
    return Ptx(tool, tmp_path_factory.mktemp("base"), "base")


# --- mma.sync ------------------------------------------------------------------


def layout_a16(lane, i):  # m16n8k16, eight elements
    group, t = lane >> 2, lane % 4
    row = group if i in (0, 1, 4, 5) else group + 8
    col = t * 2 + (i & 1) + (8 if i >= 4 else 0)
    return row, col


def layout_a8(lane, i):  # m16n8k8, four elements
    group, t = lane >> 2, lane % 4
    return group + (8 if i >= 2 else 0), t * 2 + (i & 1)


def layout_b16(lane, i):
    group, t = lane >> 2, lane % 4
    return t * 2 + (i & 1) + (8 if i >= 2 else 0), group


def layout_b8(lane, i):
    return (lane % 4) * 2 + i, lane >> 2


def layout_c(lane, i):
    group, t = lane >> 2, lane % 4
    return group + (8 if i >= 2 else 0), t * 2 + (i & 1)


def layout_a_tf32(k):
    def layout(lane, i):
        group, t = lane >> 2, lane % 4
        return group + (8 if i & 1 else 0), t + (4 if i >= 2 else 0)
    return layout


def layout_b_tf32(lane, i):
    return lane % 4 + 4 * i, lane >> 2


def fragment(matrix, layout, count, per_register):
    """Registers of a fragment: one array of 32 words for each."""
    registers = []
    for r in range(count // per_register):
        words = []
        for lane in LANES:
            word = 0
            for j in range(per_register):
                element = int(matrix[layout(lane, r * per_register + j)])
                word |= element << (16 * j)
            words.append(word)
        registers.append(words)
    return registers


MMA = [("bf16", 16, "f32"), ("bf16", 8, "f32"), ("f16", 16, "f32"),
       ("f16", 8, "f32"), ("f16", 16, "f16"), ("f16", 8, "f16"),
       ("tf32", 8, "f32"), ("tf32", 4, "f32")]


@pytest.mark.parametrize("type,k,accumulator", MMA)
def test_mma(ptx, type, k, accumulator):
    """Small integers, so that no order of the sum matters."""
    rng = np.random.default_rng(k)
    a, b = rng.integers(-8, 9, (16, k)), rng.integers(-8, 9, (k, 8))
    c = rng.integers(-50, 51, (16, 8))
    raw = np.vectorize(lambda x: bits(float(x), type))
    if type == "tf32":
        la, lb, na, nb, per = layout_a_tf32(k), layout_b_tf32, k // 2, k // 4, 1
    elif k == 16:
        la, lb, na, nb, per = layout_a16, layout_b16, 8, 4, 2
    else:
        la, lb, na, nb, per = layout_a8, layout_b8, 4, 2, 2
    fa = fragment(raw(a), la, na, per)
    fb = fragment(raw(b), lb, nb, per)
    rc = np.vectorize(lambda x: bits(float(x), accumulator))(c)
    fc = fragment(rc, layout_c, 4, 2 if accumulator == "f16" else 1)
    ins = [("b32", r) for r in fa + fb + fc]
    names = [f"%a{i}" for i in range(len(ins))]
    na, nb = len(fa), len(fb)
    nd = len(fc)
    accumulate = names[na + nb:]
    code = ""
    if accumulator == "f32":
        code = "".join(f"mov.b32 %c{i}, {n};" for i, n in enumerate(accumulate))
        accumulate = [f"%c{i}" for i in range(nd)]
    group = lambda xs: "{" + ", ".join(xs) + "}"
    d = [f"%c{i}" for i in range(4, 4 + nd)] if accumulator == "f32" \
        else [f"%d{i}" for i in range(nd)]
    code += (f"mma.sync.aligned.m16n8k{k}.row.col.{accumulator}.{type}.{type}."
             f"{accumulator} {group(d)}, {group(names[:na])}, "
             f"{group(names[na:na + nb])}, {group(accumulate)};")
    if accumulator == "f32":
        code += "".join(f"mov.b32 %d{i}, {n};" for i, n in enumerate(d))
    out = ptx.lanes(code, ins, ["b32"] * nd, regs=".reg .f32 %c<8>;")
    want = fragment(np.vectorize(lambda x: bits(float(x), accumulator))(
        a @ b + c), layout_c, 4, 2 if accumulator == "f16" else 1)
    assert [o.tolist() for o in out] == want


def test_mma_accumulates_in_f32(ptx, base):
    """bf16 products are exact and summed in f32 in ascending k."""
    rng = np.random.default_rng(5)
    a = to_bf16(rng.standard_normal((16, 16)))
    b = to_bf16(rng.standard_normal((16, 8)))
    c = rng.standard_normal((16, 8)).astype(np.float32)
    ins = fragment(a, layout_a16, 8, 2) + fragment(b, layout_b16, 4, 2) \
        + fragment(c.view(np.uint32), layout_c, 4, 1)
    code = "".join(f"mov.b32 %c{i}, %a{i + 6};" for i in range(4))
    code += ("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
             "{%c0,%c1,%c2,%c3}, {%a0,%a1,%a2,%a3}, {%a4,%a5}, "
             "{%c0,%c1,%c2,%c3};")
    code += "".join(f"mov.b32 %d{i}, %c{i};" for i in range(4))
    runs = [runner.lanes(code, [("b32", r) for r in ins], ["b32"] * 4,
                         regs=".reg .f32 %c<4>;") for runner in (ptx, base)]
    want = c.copy()
    for k in range(16):
        want += from_bf16(a[:, k:k + 1]) * from_bf16(b[k:k + 1, :])
    want = fragment(want.view(np.uint32), layout_c, 4, 1)
    for out in runs:
        assert [o.tolist() for o in out] == want


def test_mma_special_values(ptx):
    """inf * 0 is NaN, the canonical one; inf stays; tf32 ignores low bits."""
    a = np.zeros((16, 8), np.float32)
    b = np.zeros((8, 8), np.float32)
    a[0, 0], a[1, 1], b[1, 3] = np.inf, np.inf, 2.0
    a[2, 2], b[2, 5] = 1.0, 3.0
    raw_a = a.view(np.uint32).copy()
    raw_a[2, 2] |= 0x1fff
    ins = fragment(raw_a, layout_a_tf32(8), 4, 1) + \
        fragment(b.view(np.uint32), layout_b_tf32, 2, 1)
    code = "mov.f32 %c0, 0f00000000;"
    code += ("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
             "{%c1,%c2,%c3,%c4}, {%a0,%a1,%a2,%a3}, {%a4,%a5}, "
             "{%c0,%c0,%c0,%c0};")
    code += "".join(f"mov.b32 %d{i}, %c{i + 1};" for i in range(4))
    out = ptx.lanes(code, [("b32", r) for r in ins], ["b32"] * 4,
                    regs=".reg .f32 %c<5>;")
    d = np.zeros((16, 8), np.uint32)
    for lane in LANES:
        for i in range(4):
            d[layout_c(lane, i)] = out[i][lane]
    assert (d[0] == 0x7fffffff).all()  # inf * 0
    assert d[1, 3] == 0x7f800000       # inf * 2
    assert d[1, 0] == 0x7fffffff
    assert d[2, 5] == 0x40400000       # 1 * 3 exactly


# --- Matrices in shared memory -------------------------------------------------


def rows_setup(count):
    """Shared memory of 8 * count rows of 16 bytes; lane l of a pass fills row l.

    Element (row, column) of matrix m is 100 m + 8 row + column.
    """
    values = [[100 * (lane // 8) + 8 * (lane % 8) + c for c in range(8)]
              for lane in LANES]
    words = [[row[2 * j] | row[2 * j + 1] << 16 for row in values]
             for j in range(4)]
    # Rows are scattered, to see that addresses are used.
    code = ("mov.u32 %base, tile; xor.b32 %slot, %tid, 5;"
            "mad.lo.u32 %base, %slot, 16, %base;"
            "st.shared.v4.b32 [%base], {%a0, %a1, %a2, %a3}; bar.sync 0;")
    return words, code


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("trans", [False, True])
def test_ldmatrix(ptx, count, trans):
    words, code = rows_setup(count)
    to = ", ".join(f"%d{i}" for i in range(count))
    code += (f"ldmatrix.sync.aligned.m8n8.x{count}{'.trans' if trans else ''}"
             f".shared.b16 {{{to}}}, [%base];")
    out = ptx.lanes(code, [("b32", w) for w in words], ["b32"] * count,
                    setup=".shared .align 16 .b8 tile[512];",
                    regs=".reg .b32 %base, %slot;")
    for m in range(count):
        for lane in LANES:
            row, col = lane >> 2, 2 * (lane % 4)
            pair = [(row, col), (row, col + 1)]
            if trans:
                pair = [(c, r) for r, c in pair]
            want = [100 * m + 8 * r + c for r, c in pair]
            assert out[m][lane] == want[0] | want[1] << 16


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("trans", [False, True])
def test_stmatrix(ptx, count, trans):
    """What stmatrix writes, ldmatrix of the same kind reads back."""
    values = [[(1000 * m + 2 * lane) | (1000 * m + 2 * lane + 1) << 16
               for lane in LANES] for m in range(4)]
    parts = ", ".join(f"%a{i}" for i in range(count))
    code = ("mov.u32 %base, tile; mad.lo.u32 %row, %tid, 16, %base;"
            f"stmatrix.sync.aligned.m8n8.x{count}{'.trans' if trans else ''}"
            f".shared.b16 [%row], {{{parts}}}; bar.sync 0;"
            # Lane l reads row l % (8 count).
            f"and.b32 %row, %tid, {8 * count - 1};"
            "mad.lo.u32 %row, %row, 16, %base;"
            "ld.shared.v4.b32 {%d0, %d1, %d2, %d3}, [%row];")
    out = ptx.lanes(code, [("b32", v) for v in values], ["b32"] * 4,
                    setup=".shared .align 16 .b8 tile[512];",
                    regs=".reg .b32 %base, %row;")
    for lane in range(8 * count):
        m, r = lane // 8, lane % 8
        row = np.array([o[lane] for o in out], np.uint32).view(np.uint16)
        for c in range(8):
            holder = (c, r) if trans else (r, c)
            source = 4 * holder[0] + holder[1] // 2
            assert row[c] == 1000 * m + 2 * source + holder[1] % 2


def test_movmatrix(ptx):
    values = [2 * lane | (2 * lane + 1) << 16 for lane in LANES]
    [d] = ptx.lanes("movmatrix.sync.aligned.m8n8.trans.b16 %d0, %a0;",
                    [("b32", values)], ["b32"])
    matrix = d.view(np.uint16).reshape(8, 8)
    assert (matrix == np.arange(64).reshape(8, 8).T).all()
