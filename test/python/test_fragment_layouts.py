# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Layouts of a warp's tiles and what turns one into another, against NumPy."""

import numpy as np
import pytest

from fragments import (COLS, ROWS, along, frag, load, load_vector, numbers,
                       store, store_vector, run)  # noqa: F401


def test_vectors_and_fragments(run):
    """expand, convert, sum, positions, element, collapse."""
    F, R, C = frag(16, 16, "f32"), along(16, "f32", ROWS), along(16, "f32", COLS)
    R32 = along(16, "i32", ROWS)
    body = f"""
{load("t", "u", 16, 16)}
{load_vector("r", "v", 16, ROWS)}
  %c = delta_warp.convert %r : {R} -> {C}
  %r2 = delta_warp.convert %c : {C} -> {R}
  %er = delta_warp.expand %r2 : {R} -> {F}
  %ec = delta_warp.expand %c : {C} -> {F}
  %kr = delta_warp.collapse %er : {F} -> {R}
  %kc = delta_warp.collapse %ec : {F} -> {C}
  %er3 = delta_warp.expand %kr : {R} -> {F}
  %ec3 = delta_warp.expand %kc : {C} -> {F}
  %a = arith.mulf %t, %er3 : {F}
  %b = arith.addf %a, %ec3 : {F}
  %s = delta_warp.sum %b : {F} -> {R}
  %e = delta_warp.element %s[11] : {R} -> f32
  %e2 = delta_warp.element %c[5] : {C} -> f32
  %es = delta_warp.splat %e : f32 -> {F}
  %es2 = delta_warp.splat %e2 : f32 -> {F}
  %ss = delta_warp.expand %s : {R} -> {F}
  %i = delta_warp.positions : {R32}
  %j = delta_warp.positions : {along(16, "i32", COLS)}
  %fi = arith.sitofp %i : {R32} to {R}
  %fj = arith.sitofp %j : {along(16, "i32", COLS)} to {C}
  %xi = delta_warp.expand %fi : {R} -> {F}
  %xj = delta_warp.expand %fj : {C} -> {F}
  %below = arith.cmpf ogt, %xi, %xj : {F}
  %k = arith.select %below, %ss, %es : tensor<16x16xi1, #delta_warp.fragment>, {F}
  %z = arith.addf %k, %es2 : {F}
{store("z", "o", 16, 16)}
"""
    t, r = numbers(16, 16), numbers(16, seed=1)
    o, _ = run(body, "sm_80", u=t, v=r, o=(16, 16))
    b = t.astype(np.float64) * r[:, None] + r[None, :]
    s = b.sum(1)
    expected = np.where(np.tri(16, k=-1) > 0, s[:, None], s[11]) + r[5]
    assert np.allclose(o, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("element", ["bf16", "f32"])
@pytest.mark.parametrize("distance", [1, 2, 4, 8])
def test_rows(run, element, distance):
    source, target = ("x", "p") if element == "bf16" else ("u", "o")
    F, H = frag(16, 16, element), frag(8, 16, element)
    body = f"""
{load("t", source, 16, 16, element)}
  %s = delta_warp.shuffle_rows %t by {distance} : {F}
  %right, %left = delta_warp.split_rows %t by {distance} : {F} -> {H}
  %e = delta_warp.extract %t [8, 0] : {F} -> {H}
  %w = delta_warp.concat axis 0 %s, %right, %left, %e : {F}, {H}, {H}, {H} -> {frag(40, 16, element)}
  delta_warp.global_store %w, %{target}[%c0] strides(%c16, %c1) valid(%c64, %c16) {{alignment = 8}} : {frag(40, 16, element)}, memref<?x{element}>
"""
    data = numbers(16, 16)
    out = run(body, "sm_90a", **{source: data, target: (40, 16)})
    rows = np.arange(16)
    slots = np.arange(8)
    d = distance
    right = slots + 8 if d == 8 else (slots | d) + np.where(slots & d, 0, 8)
    left = slots if d == 8 else (slots & ~d) + np.where(slots & d, 8, 0)
    expected = np.concatenate([data[rows ^ d], data[right], data[left], data[8:]])
    assert np.array_equal(out[element == "bf16"], expected)


@pytest.mark.parametrize("element", ["bf16", "f32"])
@pytest.mark.parametrize("suffix", ["", ", swizzle", ", pad 4"])
def test_store_level(run, element, suffix):
    """The levels of a 16x16 lower triangle, one behind the other."""
    if element == "bf16" and "pad" in suffix:
        suffix = ", pad 8"
    array = f"!delta_warp.shared<2x16x16x{element}{suffix}>"
    F, H = frag(16, 16, "f32"), frag(8, 16, "f32")
    body = f"""
  %a = delta_warp.alloc_shared : {array}
  delta_warp.fill_shared %a : {array}
{load("t", "u", 16, 16)}
{load("z", "v", 16, 8)}
"""
    for d in (1, 2, 4, 8):
        body += f"""
  %r{d}, %l{d} = delta_warp.split_rows %t by {d} : {F} -> {H}
  %p{d} = delta_warp.concat axis 0 %r{d}, %r{d} : {H}, {H} -> {F}
  %m{d} = delta_warp.mma %p{d}, %l{d}, %z tf32 : {F}, {H}, {frag(16, 8, "f32")}
  %g{d} = delta_warp.extract %m{d} [0, 0] : {frag(16, 8, "f32")} -> {frag(8, 8, "f32")}
  delta_warp.store_level %g{d}, %a[%c1, %c0, %c0] by {d} : {frag(8, 8, "f32")}, {array}
"""
    target = "p" if element == "bf16" else "o"
    body += f"""
  %f = delta_warp.shared_load %a[%c1, %c0, %c0] : {array} -> {frag(16, 16, element)}
{store("f", target, 16, 16, element)}
"""
    data = np.random.default_rng(3).integers(-3, 4, (16, 16)).astype(np.float32)
    out = run(body, "sm_90a", u=data, v=np.zeros((16, 8)), **{target: (16, 16)})
    assert np.array_equal(out[element == "bf16"], np.tril(data @ data.T, -1))


@pytest.mark.parametrize("distance", [1, 2, 4, 8])
def test_columns(run, distance):
    """Columns change places, are separated and put together again."""
    F, H = frag(16, 16, "f32"), frag(16, 8, "f32")
    body = f"""
{load("t", "u", 16, 16)}
  %s = delta_warp.shuffle_cols %t by {distance} : {F}
  %right, %left = delta_warp.split_cols %t by {distance} : {F} -> {H}
  %m = delta_warp.merge_cols %right, %left by {distance} : {H} -> {F}
  %w = delta_warp.concat axis 1 %s, %right, %left, %m : {F}, {H}, {H}, {F} -> {frag(16, 48, "f32")}
{store("w", "o", 16, 48)}
"""
    data = numbers(16, 16)
    out, _ = run(body, "sm_90a", u=data, o=(16, 48))
    cols, slots, d = np.arange(16), np.arange(8), distance
    right = slots + 8 if d == 8 else (slots | d) + np.where(slots & d, 0, 8)
    left = slots if d == 8 else (slots & ~d) + np.where(slots & d, 8, 0)
    expected = np.concatenate(
        [data[:, cols ^ d], data[:, right], data[:, left], data], axis=1)
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("distance", [1, 2, 4, 8])
def test_split_packed_columns(run, distance):
    F, H = frag(16, 16, "bf16"), frag(16, 8, "bf16")
    body = f"""
{load("t", "x", 16, 16, "bf16")}
  %right, %left = delta_warp.split_cols %t by {distance} : {F} -> {H}
  %w = delta_warp.concat axis 1 %right, %left : {H}, {H} -> {F}
{store("w", "p", 16, 16, "bf16")}
"""
    data, slots, d = numbers(16, 16), np.arange(8), distance
    _, out = run(body, "sm_90a", x=data, p=(16, 16))
    right = slots + 8 if d == 8 else (slots | d) + np.where(slots & d, 0, 8)
    left = slots if d == 8 else (slots & ~d) + np.where(slots & d, 8, 0)
    assert np.array_equal(out, np.concatenate([data[:, right], data[:, left]],
                                              axis=1))


def test_shuffle_vector_columns(run):
    V = along(16, "f32", COLS)
    body = load_vector("t", "u", 16, COLS)
    for number, distance in enumerate((1, 2, 4, 8)):
        body += f"""
  %s{distance} = delta_warp.shuffle_cols %t by {distance} : {V}
  %i{distance} = arith.constant {16 * number} : index
  delta_warp.global_store %s{distance}, %o[%i{distance}] strides(%c1) valid(%c16) : {V}, memref<?xf32>
"""
    data = numbers(16)
    out, _ = run(body, "sm_80", u=data, o=(4, 16))
    expected = [data[np.arange(16) ^ d] for d in (1, 2, 4, 8)]
    assert np.array_equal(out, expected)


def test_column_sums(run):
    body = f"""
{load("t", "u", 16, 24)}
  %s = delta_warp.sum %t : {frag(16, 24, "f32")} -> {along(24, "f32", COLS)}
{store_vector("s", "o", 24, COLS)}
"""
    data = np.random.default_rng(5).integers(-9, 9, (16, 24)).astype(np.float32)
    out, _ = run(body, "sm_90a", u=data, o=(24,))
    assert np.array_equal(out, data.sum(axis=0))


@pytest.mark.parametrize("element", ["bf16", "f32"])
@pytest.mark.parametrize("suffix", ["", ", swizzle"])
@pytest.mark.parametrize("turn", ["", " transpose"])
def test_store_pairs(run, element, suffix, turn):
    """Every pair below the diagonal goes to its level; what is beside stays."""
    array = f"!delta_warp.shared<2x4x16x16x{element}{suffix}>"
    target, F = ("p", frag(16, 16, element)) if element == "bf16" else \
        ("o", frag(16, 16, element))
    body = f"""
  %a = delta_warp.alloc_shared : {array}
  delta_warp.fill_shared %a : {array}
{load("t", "u", 16, 16)}
  delta_warp.store_pairs %t, %a[%c1, %c0, %c0, %c0]{turn} : {frag(16, 16, "f32")}, {array}
"""
    for level in range(4):
        body += f"""
  %f{level} = delta_warp.shared_load %a[%c1, %c{level}, %c0, %c0] : {array} -> {F}
  %i{level} = arith.constant {256 * level} : index
  delta_warp.global_store %f{level}, %{target}[%i{level}] strides(%c16, %c1) valid(%c16, %c16) {{alignment = 8}} : {F}, memref<?x{element}>
"""
    data = np.random.default_rng(3).integers(1, 99, (16, 16)).astype(np.float32)
    out = run(body, "sm_90a", u=data, **{target: (4, 16, 16)})
    expected = np.zeros((4, 16, 16), np.float32)
    for i in range(16):
        for j in range(i):
            level = (i ^ j).bit_length() - 1
            at = (level, j, i) if turn else (level, i, j)
            expected[at] = data[i, j]
    assert np.array_equal(out[element == "bf16"], expected)
