# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Products of a warp's tiles, and operations element by element, against NumPy."""

import numpy as np
import pytest

from fragments import (ROWS, TARGETS, along, frag, load, numbers, store,
                       to_bf16, run)  # noqa: F401


# -- Products ----------------------------------------------------------------

@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("m, n, d", [(16, 8, 16), (32, 16, 24), (16, 24, 8), (16, 16, 64)])
@pytest.mark.parametrize("operand", ["native", "tf32", "bf16x3"])
def test_mma(run, target, m, n, d, operand):
    element = "bf16" if operand == "native" else "f32"
    left, right = ("x", "y") if operand == "native" else ("u", "v")
    A = f"!delta_warp.shared<{m}x{d}x{element}>"
    Bt = f"!delta_warp.shared<{n}x{d}x{element}>"
    loads = ""
    for name, source, rows, kind in (("a", left, m, A), ("b", right, n, Bt)):
        loads += f"""
  %s{name} = delta_warp.alloc_shared : {kind}
  delta_warp.async_load %{source}[%c0] stride %c{d} valid %c{rows} to %s{name}[] rows {rows} width {d} alignment 8 : memref<?x{element}>, {kind}"""
    body = f"""{loads}
  delta_warp.async_commit
  delta_warp.async_wait 0
  %l = delta_warp.shared_load %sa[%c0, %c0] : {A} -> {frag(m, d, element)}
  %r = delta_warp.shared_load %sb[%c0, %c0] : {Bt} -> {frag(n, d, element)}
  %one = arith.constant dense<1.0> : {frag(m, n, "f32")}
  %z = delta_warp.mma %l, %r, %one {operand} : {frag(m, d, element)}, {frag(n, d, element)}, {frag(m, n, "f32")}
{store("z", "o", m, n)}
"""
    rng = np.random.default_rng(m + n + d)
    a, b = rng.standard_normal((m, d)), rng.standard_normal((n, d))
    if operand == "native":
        a, b = to_bf16(a), to_bf16(b)
    a, b = np.float32(a), np.float32(b)
    o, _ = run(body, target, o=(m, n), **{left: a, right: b})
    exact = a.astype(np.float64) @ b.T.astype(np.float64) + 1
    size = np.abs(a).astype(np.float64) @ np.abs(b).T + 1
    bound = {"native": 2e-6, "tf32": 2.0**-10, "bf16x3": 3 * 2.0**-16}[operand]
    assert np.all(np.abs(o - exact) <= bound * size)
    if operand == "tf32":  # and not more exact than tf32 is
        assert np.max(np.abs(o - exact) / size) > 1e-6


@pytest.mark.parametrize("target", TARGETS)
def test_f16(run, target):
    """Half precision: conversions, tiles in shared memory, products."""
    F, H = frag(16, 16, "f32"), frag(16, 16, "f16")
    array = "!delta_warp.shared<16x16xf16, swizzle>"
    body = f"""
{load("a", "u", 16, 16)}
{load("b", "v", 16, 16)}
  %ha = arith.truncf %a : {F} to {H}
  %hb = arith.truncf %b : {F} to {H}
  %m = delta_warp.alloc_shared : {array}
  delta_warp.shared_store %hb, %m[%c0, %c0] : {H}, {array}
  %t = delta_warp.shared_load %m[%c0, %c0] transpose : {array} -> {H}
  %sum = arith.addf %ha, %ha : {H}
  %wide = arith.extf %sum : {H} to {F}
  %z = delta_warp.mma %ha, %t, %wide : {H}, {H}, {F}
{store("z", "o", 16, 16)}
"""
    a, b = (np.random.default_rng(s).standard_normal((16, 16)) for s in (1, 2))
    a, b = np.float32(a), np.float32(b)
    o, _ = run(body, target, u=a, v=b, o=(16, 16))
    ha, hb = a.astype(np.float16), b.astype(np.float16)
    exact = ha.astype(np.float64) @ hb.astype(np.float64) + (ha + ha)
    assert np.allclose(o, exact, rtol=1e-5, atol=1e-5)


def invert(run, target, blocks, element, suffix=""):
    """The kernel's inverses of blocks [m, m, 16, 16], in the same order."""
    m = len(blocks)
    n = 16 * m
    source = f"!delta_warp.shared<{m}x16x{n}xf32{suffix}>"
    result = f"!delta_warp.shared<{m}x16x{n}x{element}{suffix}>"
    body = f"""
  %a = delta_warp.alloc_shared : {source}
  %t = delta_warp.alloc_shared : {result}
  %last = arith.constant {m * m} : index
  %area = arith.constant 256 : index
  %m = arith.constant {m} : index
  %leaf = arith.constant 16 : index
  scf.for %i = %c0 to %last step %c1 {{
    %at = arith.muli %i, %area : index
    %j = arith.divui %i, %m : index
    %l = arith.remui %i, %m : index
    %col = arith.muli %l, %leaf : index
    %f = delta_warp.global_load %u[%at] strides(%c16, %c1) valid(%c16, %c16) : memref<?xf32> -> {frag(16, 16, "f32")}
    delta_warp.shared_store %f, %a[%j, %c0, %col] : {frag(16, 16, "f32")}, {source}
  }}
  delta_warp.inverse %a[] to %t[] steps {m} : {source}, {result}
  delta_warp.warp_barrier
  scf.for %i = %c0 to %last step %c1 {{
    %at = arith.muli %i, %area : index
    %j = arith.divui %i, %m : index
    %l = arith.remui %i, %m : index
    %col = arith.muli %l, %leaf : index
    %f = delta_warp.shared_load %t[%j, %c0, %col] : {result} -> {frag(16, 16, element)}
    delta_warp.global_store %f, %{'o' if element == 'f32' else 'p'}[%at] strides(%c16, %c1) valid(%c16, %c16) {{alignment = 8}} : {frag(16, 16, element)}, memref<?x{element}>
  }}
"""
    shape = (m * m, 16, 16)
    outs = run(body, target, u=np.float32(blocks).reshape(shape),
               **{"o" if element == "f32" else "p": shape})
    return outs[element != "f32"].reshape(m, m, 16, 16)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("element", ["bf16", "f32"])
@pytest.mark.parametrize("suffix", ["", ", swizzle"])
def test_inverse(run, steps, element, suffix):
    """Blocks [j, l] of tokens: unknowns are ordered by token, then by step."""
    if suffix and steps in (3, 8):
        pytest.skip("covered by the other numbers of steps")
    m, n = steps, 16 * steps
    rng = np.random.default_rng(m)
    full = rng.standard_normal((n, n)) / np.sqrt(n)
    # What lies on and above the diagonal must not be read into the result.
    blocks = full.reshape(16, m, 16, m).transpose(1, 3, 0, 2)
    lower = np.tril(np.float32(full), -1).astype(np.float64)
    inverse = np.linalg.inv(np.eye(n) - lower)
    expected = inverse.reshape(16, m, 16, m).transpose(1, 3, 0, 2)
    out = invert(run, "sm_90a", blocks, element, suffix)
    tolerance = 2.0**-8 if element == "bf16" else 1e-5
    assert np.allclose(out, expected, rtol=tolerance, atol=1e-5)
    assert np.all(out[expected == 0] == 0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", ["", ", swizzle", ", pad 2", ", pad 4"])
@pytest.mark.parametrize("case", ["large", "growing", "alike", "faded"])
def test_inverse_extremes(run, target, layout, case):
    """As exact as forward substitution in f32, and 0 where no path leads."""
    rng = np.random.default_rng(5)
    full = {
        "large": rng.standard_normal((16, 16)) * 20,  # signs cancel
        "growing": rng.uniform(1, 9, (16, 16)),
        "alike": -np.ones((16, 16)) + 2.0**-13 * rng.standard_normal((16, 16)),
        "faded": rng.standard_normal((16, 16)) * np.exp(rng.uniform(-80, 3, (16, 16))),
    }[case]
    if case == "faded":  # a decay of 0: nothing reaches over it
        full[6:, :6] = full[11:, :11] = 0
    full = np.float32(full)
    # Nobody has written what lies on and above the diagonal.
    blocks = np.where(np.tri(16, 16, -1) > 0, full, np.nan)[None, None]
    lower = np.tril(full, -1).astype(np.float64)
    expected = np.eye(16)
    for t in range(16):
        expected[t] += lower[t] @ expected
    if case in ("large", "growing"):
        assert np.max(np.abs(expected)) > 1e10
    out = invert(run, target, blocks, "f32", layout)[0, 0]
    # What rounding each number once may cost, through the whole inverse.
    size = np.abs(expected)
    size = size @ (np.eye(16) + np.abs(lower)) @ size
    assert np.all(np.abs(out - expected) <= 2.0**-22 * size)
    assert np.all(out[np.triu_indices(16, 1)] == 0) and np.all(np.diag(out) == 1)
    if case == "growing":  # positive terms: each number is exact by itself
        assert np.allclose(out, expected, rtol=2.0**-19, atol=0)
    if case == "faded":
        assert np.all(out[6:, :6] == 0) and np.all(out[11:, :11] == 0)


# -- Element by element --------------------------------------------------------

@pytest.mark.parametrize("target", TARGETS)
def test_elementwise(run, target):
    """Packed elements, conversions, selections and functions."""
    F, H = frag(16, 16, "f32"), frag(16, 16, "bf16")
    I, R = "tensor<16x16xi1, #delta_warp.fragment>", along(16, "i32", ROWS)
    body = f"""
{load("a", "x", 16, 16, "bf16")}
{load("b", "y", 16, 16, "bf16")}
  %i = delta_warp.positions : {R}
  %eight = arith.constant dense<5> : {R}
  %low = arith.cmpi slt, %i, %eight : {R}
  %rows = delta_warp.expand %low : {along(16, "i1", ROWS)} -> {I}
  %byrow = arith.select %rows, %a, %b : {I}, {H}
  %wa = arith.extf %byrow : {H} to {F}
  %wb = arith.extf %b : {H} to {F}
  %less = arith.cmpf olt, %wa, %wb : {F}
  %each = arith.select %less, %a, %b : {I}, {H}
  %prod = arith.mulf %each, %b : {H}
  %neg = arith.negf %prod : {H}
  %half = arith.constant dense<0.5> : {H}
  %max = arith.maximumf %neg, %half : {H}
  %wide = arith.extf %max : {H} to {F}
  %exp = math.exp %wide : {F}
  %nar = arith.truncf %exp : {F} to {H}
{store("nar", "p", 16, 16, "bf16")}
{store("exp", "o", 16, 16)}
"""
    a, b = numbers(16, 16), numbers(16, 16, seed=1)
    o, p = run(body, target, x=a, y=b, o=(16, 16), p=(16, 16))
    byrow = np.where(np.arange(16)[:, None] < 5, a, b)
    each = np.where(byrow < b, a, b)
    wide = np.maximum(-to_bf16(each * b), 0.5)
    assert np.allclose(o, np.exp(wide), rtol=1e-6)
    assert np.allclose(p, np.exp(wide), rtol=2.0**-8)


@pytest.mark.parametrize("target", TARGETS)
def test_chosen_products(run, target):
    """Selections between products, and between numbers that are rounded."""
    F, H = frag(16, 16, "f32"), frag(16, 16, "bf16")
    I, R = "tensor<16x16xi1, #delta_warp.fragment>", along(16, "i32", ROWS)
    body = f"""
{load("a", "x", 16, 16, "bf16")}
{load("b", "y", 16, 16, "bf16")}
{load("f", "u", 16, 16)}
{load("g", "v", 16, 16)}
  %i = delta_warp.positions : {R}
  %two = arith.constant dense<2> : {R}
  %none = arith.constant dense<0> : {R}
  %bit = arith.andi %i, %two : {R}
  %odd = arith.cmpi ne, %bit, %none : {R}
  %c = delta_warp.expand %odd : {along(16, "i1", ROWS)} -> {I}
  %wa = arith.extf %a : {H} to {F}
  %wb = arith.extf %b : {H} to {F}
  %af = arith.mulf %wa, %f : {F}
  %bg = arith.mulf %wb, %g : {F}
  %both = arith.select %c, %af, %bg : {I}, {F}
  %fg = arith.mulf %f, %g : {F}
  %once = arith.select %c, %f, %fg : {I}, {F}
  %sum = arith.addf %both, %once : {F}
{store("sum", "o", 16, 16)}
  %mixed = arith.select %c, %wa, %sum : {I}, {F}
  %narrow = arith.truncf %mixed : {F} to {H}
  %wide = arith.select %c, %wb, %wa : {I}, {F}
  %short = arith.truncf %wide : {F} to {H}
  %zero = arith.constant dense<0.0> : {F}
  %m = delta_warp.mma %narrow, %short, %zero : {H}, {H}, {F}
  %p1 = arith.truncf %m : {F} to {H}
{store("p1", "p", 16, 16, "bf16")}
"""
    a, b, f, g = (numbers(16, 16, seed=s) for s in range(4))
    o, p = run(body, target, x=a, y=b, u=f, v=g, o=(16, 16), p=(16, 16))
    c = (np.arange(16)[:, None] & 2) != 0
    total = np.where(c, a * f, b * g) + np.where(c, f, f * g)
    assert np.array_equal(o, total)
    m = to_bf16(np.where(c, a, total)).astype(np.float64) @ np.where(c, b, a).T
    assert np.allclose(p, m, rtol=2.0**-7, atol=1e-5)


def test_control_flow(run):
    """Tiles through loops and branches, mixed with other values."""
    F = frag(16, 8, "f32")
    body = f"""
{load("a", "u", 16, 8)}
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %s, %n, %last = scf.for %i = %c0 to %T step %c1 iter_args(%acc = %a, %count = %zero, %old = %a) -> ({F}, f32, {F}) {{
    %more = arith.addf %count, %one : f32
    %odd = arith.remui %i, %c2 : index
    %is = arith.cmpi eq, %odd, %c1 : index
    %next, %bump = scf.if %is -> ({F}, f32) {{
      %d = arith.addf %acc, %acc : {F}
      scf.yield %d, %more : {F}, f32
    }} else {{
      %m = delta_warp.splat %more : f32 -> {F}
      %d = arith.addf %acc, %m : {F}
      scf.yield %d, %more : {F}, f32
    }}
    scf.yield %next, %bump, %acc : {F}, f32, {F}
  }}
  %ns = delta_warp.splat %n : f32 -> {F}
  %e = arith.addf %s, %ns : {F}
  %z = arith.subf %e, %last : {F}
{store("z", "o", 16, 8)}
"""
    a = numbers(16, 8)
    o, _ = run(body, "sm_80", u=a, T=5, o=(16, 8))
    acc, count, old = a, 0, a
    for i in range(5):
        old = acc
        acc = acc + acc if i % 2 else acc + (count + 1)
        count += 1
    assert np.allclose(o, acc + count - old, rtol=1e-6)
