# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A warp's tiles in memory, run in the PTX simulator against NumPy."""

import numpy as np
import pytest

from fragments import (COLS, ROWS, TARGETS, along, frag, load, load_vector,
                       numbers, store, store_vector, run)  # noqa: F401


SHAPES = [(16, 64), (8, 32), (32, 16), (24, 8), (16, 128)]


@pytest.mark.parametrize("target, transposes, rows, cols", [
    (TARGETS[(i + j) % 2], t, *shape)
    for i, t in enumerate([(0, 0), (1, 0), (0, 1)])
    for j, shape in enumerate(SHAPES[: 5 if t == (0, 0) else 4])])
@pytest.mark.parametrize("element, suffix", [
    ("bf16", ""), ("bf16", ", swizzle"), ("bf16", ", pad 8"),
    ("f32", ", swizzle"), ("f32", ", pad 4")])
def test_tiles(run, target, suffix, element, transposes, rows, cols):
    """Global to shared memory, to registers, and back by another array."""
    swizzles = lambda n: n & (n - 1) == 0 and n * (2 if element == "bf16" else 4) >= 32
    if "swizzle" in suffix and not swizzles(cols):
        pytest.skip("rows that cannot be swizzled")
    first, second = transposes
    source, target_array = ("x", "p") if element == "bf16" else ("u", "o")
    shape = (cols, rows) if first else (rows, cols)
    stored = shape[::-1] if second else shape
    second_suffix = suffix
    if "swizzle" in suffix and not swizzles(stored[1]):
        second_suffix = ""
    a = f"!delta_warp.shared<{rows}x{cols}x{element}{suffix}>"
    b = f"!delta_warp.shared<2x{stored[0]}x{stored[1]}x{element}{second_suffix}>"
    words = ["", " transpose"]
    body = f"""
  %a = delta_warp.alloc_shared : {a}
  %b = delta_warp.alloc_shared : {b}
  delta_warp.async_load %{source}[%c0] stride %c{cols} valid %c{rows} to %a[] rows {rows} width {cols} alignment 8 : memref<?x{element}>, {a}
  delta_warp.async_commit
  delta_warp.async_wait 0
  %t = delta_warp.shared_load %a[%c0, %c0]{words[first]} : {a} -> {frag(*shape, element)}
  delta_warp.shared_store %t, %b[%c1, %c0, %c0]{words[second]} : {frag(*shape, element)}, {b}
  %r = delta_warp.shared_load %b[%c1, %c0, %c0] : {b} -> {frag(*stored, element)}
""" + store("r", target_array, *stored, element)
    data = numbers(rows, cols)
    out = run(body, target, **{source: data, target_array: stored})
    expected = data.T if first != second else data
    assert np.array_equal(out[element == "bf16"], expected)


@pytest.mark.parametrize("element", ["bf16", "f32"])
def test_tile_in_a_loop(run, element):
    """Moving rows, columns and matrices of a swizzled array."""
    source, target = ("x", "p") if element == "bf16" else ("u", "o")
    a = f"!delta_warp.shared<2x32x64x{element}, swizzle>"
    one = "".join(f"""
  delta_warp.async_load %{source}[%c{o}] stride %c64 valid %c32 to %a[%c{m}] rows 32 width 64 alignment 8 : memref<?x{element}>, {a}""".replace("%c2048", "%big")
                  for m, o in ((0, 0), (1, 2048)))
    body = f"""
  %a = delta_warp.alloc_shared : {a}
  %big = arith.constant 2048 : index{one}
  delta_warp.async_commit
  delta_warp.async_wait 0
  scf.for %m = %c0 to %c2 step %c1 {{
    scf.for %i = %c0 to %c32 step %c16 {{
      scf.for %j = %c0 to %c64 step %c16 {{
        %col = arith.addi %j, %c8 : index
        %l = delta_warp.shared_load %a[%m, %i, %j] : {a} -> {frag(16, 8, element)}
        %r = delta_warp.shared_load %a[%m, %i, %col] : {a} -> {frag(16, 8, element)}
        %t = delta_warp.concat axis 1 %r, %l : {frag(16, 8, element)}, {frag(16, 8, element)} -> {frag(16, 16, element)}
        %m0 = arith.muli %m, %big : index
        %i0 = arith.muli %i, %c64 : index
        %s = arith.addi %m0, %i0 : index
        %at = arith.addi %s, %j : index
        delta_warp.global_store %t, %{target}[%at] strides(%c64, %c1) valid(%c16, %c16) {{alignment = 8}} : {frag(16, 16, element)}, memref<?x{element}>
      }}
    }}
  }}
"""
    data = numbers(2, 32, 64)
    out = run(body, "sm_90a", **{source: data, target: (2, 32, 64)})
    expected = data.reshape(2, 32, 4, 2, 8)[:, :, :, ::-1].reshape(2, 32, 64)
    assert np.array_equal(out[element == "bf16"], expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("element, width, alignment", [
    ("bf16", 64, 8), ("bf16", 60, 4), ("bf16", 50, 2), ("bf16", 33, 1),
    ("f32", 60, 4), ("f32", 17, 1)])
@pytest.mark.parametrize("threads", [32, 96])
def test_async_rows(run, target, element, width, alignment, threads):
    """Rows that are not there are zeros; narrower rows leave the rest alone."""
    source, target_array = ("x", "p") if element == "bf16" else ("u", "o")
    array = f"!delta_warp.shared<32x64x{element}, swizzle>"
    body = f"""
  %a = delta_warp.alloc_shared : {array}
  delta_warp.fill_shared %a : {array}
  gpu.barrier
  %stride = arith.constant {width} : index
  delta_warp.async_load %{source}[%c0] stride %stride valid %T to %a[] rows 32 width {width} alignment {alignment} : memref<?x{element}>, {array}
  delta_warp.async_commit
  delta_warp.async_wait 0
  gpu.barrier
  %warp = delta_warp.warp_id
  %is0 = arith.cmpi eq, %warp, %c0 : index
  scf.if %is0 {{
    %t = delta_warp.shared_load %a[%c0, %c0] : {array} -> {frag(32, 64, element)}
    {store("t", target_array, 32, 64, element)}
  }}
"""
    data = numbers(21, width)
    out = run(body, target, threads=threads, T=21,
              **{source: data, target_array: (32, 64)})
    expected = np.zeros((32, 64), np.float32)
    expected[:21, :width] = data
    assert np.array_equal(out[element == "bf16"], expected)


@pytest.mark.parametrize("target, threads, warps", [
    ("sm_80", 96, ""), ("sm_90a", 32, ""), ("sm_90a", 128, " warps 2 from 1")])
@pytest.mark.parametrize("rows, cols, element, suffix", [
    (16, 64, "bf16", ", swizzle"), (16, 24, "bf16", ", pad 8"),
    (32, 16, "f32", ", swizzle"), (16, 24, "f32", ", pad 4"),
    (16, 8, "bf16", "")])
def test_copies_as_it_lies(run, target, threads, warps, rows, cols, element,
                           suffix):
    """Two matrices out and back, each by the other's number; without `present`
    there are zeros."""
    source, target_array = ("x", "p") if element == "bf16" else ("u", "o")
    size = rows * cols * (2 if element == "bf16" else 4)
    array = f"!delta_warp.shared<2x{rows}x{cols}x{element}{suffix}>"
    loads = "".join(f"""
  %o{m} = arith.constant {m * rows * cols} : index
  delta_warp.async_load %{source}[%o{m}] stride %cols valid %rows to %a[%c{m}] rows {rows} width {cols} alignment 4 : memref<?x{element}>, {array}"""
                    for m in (0, 1))
    body = f"""
  %a = delta_warp.alloc_shared : {array}
  %b = delta_warp.alloc_shared : {array}
  %e = delta_warp.alloc_shared : {array}
  %rows = arith.constant {rows} : index
  %cols = arith.constant {cols} : index{loads}
  delta_warp.async_commit
  delta_warp.async_wait 0
  %one = arith.constant {size} : index
  %warp = delta_warp.warp_id
  %is0 = arith.cmpi eq, %warp, %c0 : index
  gpu.barrier
  scf.if %is0 {{
    scf.for %m = %c0 to %c2 step %c1 {{
      %other = arith.subi %c1, %m : index
      %at = arith.muli %other, %one : index
      delta_warp.copy_out %a[%m] to %workspace[%at] : {array}, memref<?xi8>
    }}
  }}
  gpu.barrier
  %nothing = arith.subi %T, %c1 : index
  %first = arith.constant {1 if warps else 0} : index
  %behind = arith.constant {3 if warps else 99} : index
  %from = arith.cmpi uge, %warp, %first : index
  %upto = arith.cmpi ult, %warp, %behind : index
  %copies = arith.andi %from, %upto : i1
  scf.if %copies {{
    delta_warp.async_copy %workspace[%c0] present %T to %b[]{warps} : memref<?xi8>, {array}
    delta_warp.async_copy %workspace[%c0] present %nothing to %e[]{warps} : memref<?xi8>, {array}
  }}
  delta_warp.async_commit
  delta_warp.async_wait 0
  gpu.barrier
  scf.if %is0 {{
    scf.for %m = %c0 to %c2 step %c1 {{
      scf.for %i = %c0 to %cols step %c8 {{
        %t = delta_warp.shared_load %b[%m, %c0, %i] : {array} -> {frag(rows, 8, element)}
        %z = delta_warp.shared_load %e[%m, %c0, %i] : {array} -> {frag(rows, 8, element)}
        %r = arith.addf %t, %z : {frag(rows, 8, element)}
        %m0 = arith.muli %m, %rows : index
        %m1 = arith.muli %m0, %cols : index
        %to = arith.addi %m1, %i : index
        delta_warp.global_store %r, %{target_array}[%to] strides(%cols, %c1) valid(%rows, %c8) {{alignment = 4}} : {frag(rows, 8, element)}, memref<?x{element}>
      }}
    }}
  }}
"""
    data = numbers(2, rows, cols)
    out = run(body, target, threads=threads, workspace=2 * size,
              **{source: data, target_array: (2, rows, cols)})
    assert np.array_equal(out[element == "bf16"], data[::-1])


@pytest.mark.parametrize("element", ["bf16", "f32"])
def test_async_vector(run, element):
    """One number a row, at a stride."""
    source, target = ("x", "p") if element == "bf16" else ("u", "o")
    array = f"!delta_warp.shared<2x48x{element}>"
    body = f"""
  %a = delta_warp.alloc_shared : {array}
  delta_warp.async_load %{source}[%c1] stride %c3 valid %T to %a[%c1] rows 48 alignment 1 : memref<?x{element}>, {array}
  delta_warp.async_commit
  delta_warp.async_wait 0
  %r = delta_warp.shared_load %a[%c1, %c0] : {array} -> {along(48, element, ROWS)}
  {store_vector("r", target, 48, ROWS, element)}
"""
    data = numbers(200)
    out = run(body, "sm_80", T=40, **{source: data, target: (48,)})
    expected = data[1:1 + 3 * 48:3].copy()
    expected[40:] = 0
    assert np.array_equal(out[element == "bf16"], expected)


@pytest.mark.parametrize("element", ["bf16", "f32"])
@pytest.mark.parametrize("axis", [ROWS, COLS])
@pytest.mark.parametrize("swizzle", ["", ", swizzle"])
def test_vectors(run, element, axis, swizzle):
    """Vectors in any row of an array, at even and odd places."""
    source, target = ("x", "p") if element == "bf16" else ("u", "o")
    array = f"!delta_warp.shared<4x64x{element}{swizzle}>"
    body = f"""
  %a = delta_warp.alloc_shared : {array}
  delta_warp.fill_shared %a : {array}
  {load_vector("in", source, 16, axis, element)}
  delta_warp.shared_store %in, %a[%c3, %c5] : {along(16, element, axis)}, {array}
  delta_warp.shared_store %in, %a[%B, %c32] : {along(16, element, axis)}, {array}
  %r = delta_warp.shared_load %a[%c3, %c5] : {array} -> {along(16, element, axis)}
  %s = delta_warp.shared_load %a[%B, %c32] : {array} -> {along(16, element, axis)}
  %w = delta_warp.concat axis 0 %r, %s : {along(16, element, axis)}, {along(16, element, axis)} -> {along(32, element, axis)}
  {store_vector("w", target, 32, axis, element)}
"""
    data = numbers(16)
    out = run(body, "sm_90a", B=2, **{source: data, target: (32,)})
    assert np.array_equal(out[element == "bf16"], np.tile(data, 2))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("valid, alignment", [(32, 8), (28, 4), (30, 2), (27, 1), (32, 1)])
@pytest.mark.parametrize("tokens", [16, 11])
def test_transposed_out(run, target, valid, alignment, tokens):
    """An out whose columns are the fragment's rows, whole and cut."""
    body = f"""
  %n = arith.constant {valid} : index
{load("t", "u", 32, 16)}
  %b = arith.truncf %t : {frag(32, 16, "f32")} to {frag(32, 16, "bf16")}
  delta_warp.global_store %b, %p[%c0] strides(%c1, %n) valid(%n, %T) {{alignment = {alignment}}} : {frag(32, 16, "bf16")}, memref<?xbf16>
  delta_warp.global_store %t, %o[%c0] strides(%c1, %n) valid(%n, %T) {{alignment = {alignment}}} : {frag(32, 16, "f32")}, memref<?xf32>
"""
    data = numbers(32, 16)
    o, p = run(body, target, u=data, T=tokens, o=(tokens, valid), p=(tokens, valid))
    assert np.array_equal(p, data.T[:tokens, :valid])
    assert np.array_equal(o, data.T[:tokens, :valid])


@pytest.mark.parametrize("element", ["bf16", "f32"])
def test_global_load_limits(run, element):
    """Elements outside the limits are zeros, transposed and not."""
    source, target = ("x", "p") if element == "bf16" else ("u", "o")
    body = f"""
  %n = arith.constant 12 : index
  %t = delta_warp.global_load %{source}[%c0] strides(%c1, %n) valid(%n, %T) : memref<?x{element}> -> {frag(16, 24, element)}
{store("t", target, 16, 24, element)}
"""
    data = numbers(21, 12)
    out = run(body, "sm_90a", T=21, **{source: data, target: (16, 24)})
    expected = np.zeros((16, 24), np.float32)
    expected[:12, :21] = data.T
    assert np.array_equal(out[element == "bf16"], expected)
