# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Operations on a warp's tiles, run in the PTX simulator against NumPy.

Each test is a small kernel of stage `mapped`, written by hand, of one CTA. Its
inputs are x, y (bf16), u, v (f32); its outputs p (bf16) and o (f32).
"""

import numpy as np
import pytest

TARGETS = ("sm_80", "sm_90a")
ROWS, COLS = "#delta_warp.along<rows>", "#delta_warp.along<cols>"


def frag(rows, cols, element):
    return f"tensor<{rows}x{cols}x{element}, #delta_warp.fragment>"


def along(size, element, axis):
    return f"tensor<{size}x{element}, {axis}>"


def module(body, target, threads):
    args = [f'#delta.arg<kind = in, name = "{n}", type = {t}, axes = [K]>'
            for n, t in (("x", "bf16"), ("y", "bf16"), ("u", "f32"), ("v", "f32"))]
    args += ['#delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>']
    args += [f'#delta.arg<kind = out, name = "{n}", type = {t}, axes = [V]>'
             for n, t in (("o", "f32"), ("p", "bf16"))]
    constants = "".join(f"  %c{n} = arith.constant {n} : index\n"
                        for n in (0, 1, 2, 3, 4, 5, 7, 8, 12, 14, 16, 24, 32, 48, 60, 64, 96, 128, 256))
    return f"""
module attributes {{gpu.container_module, delta.stage = "mapped",
    delta.signature = #delta.signature<args = [{", ".join(args)}],
      dims = {{K = 8, V = 8}}, options = {{fn = "forward", target = "{target}"}}>}} {{
  gpu.module @t [#nvvm.target<O = 3, chip = "{target}", features = "+ptx80">] {{
    gpu.func @delta_t_forward(%x: memref<?xbf16>, %y: memref<?xbf16>,
        %u: memref<?xf32>, %v: memref<?xf32>, %init: memref<?xf32>,
        %o: memref<?xf32>, %p: memref<?xbf16>, %final: memref<?xf32>,
        %workspace: memref<?xi8>, %B: index, %T: index, %H: index) kernel
        attributes {{delta.kernel = {{name = "delta_t_forward", threads = {threads},
          shared_bytes = 0, v_blocks = 1, min_ctas = 1}}}} {{
{constants}
{body}
      gpu.return
    }}
  }}
}}
"""


def to_bf16(array):
    """The nearest bf16 numbers, as f32; ties to even."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(
        np.uint32).view(np.float32)


@pytest.fixture
def run(tool, tmp_path):
    """`run(body, target, o=SHAPE, p=SHAPE, x=, y=, u=, v=, T=)`: outputs."""

    def call(body, target, o=(1,), p=(1,), threads=32, T=1, B=1, workspace=0,
             **inputs):
        source, ptx = tmp_path / "k.mlir", tmp_path / "k.ptx"
        source.write_text(module(body, target, threads))
        tool("delta-compile", source, "--emit=ptx", "-o", ptx)
        arguments = []
        for name in "xyuv":
            array = np.asarray(inputs.get(name, np.zeros(1)), np.float32)
            path = tmp_path / f"{name}.npy"
            np.save(path, array)
            arguments.append(f"--arg={path}:{'bf16' if name in 'xy' else 'f32'}")
        shape = lambda s: ",".join(map(str, s))
        arguments += ["--arg=scalar:u64:0", f"--arg=out:{shape(o)}:f32",
                      f"--arg=out:{shape(p)}:bf16", "--arg=scalar:u64:0",
                      f"--arg=out:{workspace // 4}:f32" if workspace
                      else "--arg=scalar:u64:0", f"--arg=scalar:u64:{B}",
                      f"--arg=scalar:u64:{T}", "--arg=scalar:u64:1"]
        results = [tmp_path / "o.npy", tmp_path / "p.npy"]
        tool("delta-ptx-sim", ptx, "--kernel=delta_t_forward",
             f"--block={threads}", "--shared=163840", *arguments,
             f"--save=5:{results[0]}", f"--save=6:{results[1]}")
        return [np.load(path) for path in results]

    return call


def load(name, source, rows, cols, element="f32"):
    """A fragment from a row-major array."""
    stride = f"%c{cols}"
    return (f"  %{name} = delta_warp.global_load %{source}[%c0] strides(%c{cols}, %c1) "
            f"valid(%c{rows}, %c{cols}) : memref<?x{element}> -> {frag(rows, cols, element)}\n")


def store(value, target, rows, cols, element="f32", alignment=8):
    return (f"  delta_warp.global_store %{value}, %{target}[%c0] strides(%c{cols}, %c1) "
            f"valid(%c{rows}, %c{cols}) {{alignment = {alignment}}} : "
            f"{frag(rows, cols, element)}, memref<?x{element}>\n")


def load_vector(name, source, size, axis, element="f32"):
    return (f"  %{name} = delta_warp.global_load %{source}[%c0] strides(%c1) valid(%c{size}) : "
            f"memref<?x{element}> -> {along(size, element, axis)}\n")


def store_vector(value, target, size, axis, element="f32"):
    return (f"  delta_warp.global_store %{value}, %{target}[%c0] strides(%c1) valid(%c{size}) : "
            f"{along(size, element, axis)}, memref<?x{element}>\n")


def numbers(*shape, seed=0):
    return to_bf16(np.random.default_rng(seed).standard_normal(shape))


# -- Memory ------------------------------------------------------------------

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


# -- Layouts -----------------------------------------------------------------

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


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("element", ["bf16", "f32"])
@pytest.mark.parametrize("suffix", ["", ", swizzle"])
def test_inverse(run, steps, element, suffix):
    """Blocks [j, l] of tokens: unknowns are ordered by token, then by step."""
    if suffix and steps in (3, 8):
        pytest.skip("covered by the other numbers of steps")
    m, n = steps, 16 * steps
    source = f"!delta_warp.shared<{m}x16x{n}xf32{suffix}>"
    target = f"!delta_warp.shared<{m}x16x{n}x{element}{suffix}>"
    rows = m * m * 16
    body = f"""
  %a = delta_warp.alloc_shared : {source}
  %t = delta_warp.alloc_shared : {target}
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
  delta_warp.inverse %a[] to %t[] steps {m} : {source}, {target}
  delta_warp.warp_barrier
  scf.for %i = %c0 to %last step %c1 {{
    %at = arith.muli %i, %area : index
    %j = arith.divui %i, %m : index
    %l = arith.remui %i, %m : index
    %col = arith.muli %l, %leaf : index
    %f = delta_warp.shared_load %t[%j, %c0, %col] : {target} -> {frag(16, 16, element)}
    delta_warp.global_store %f, %{'p' if element == 'bf16' else 'o'}[%at] strides(%c16, %c1) valid(%c16, %c16) {{alignment = 8}} : {frag(16, 16, element)}, memref<?x{element}>
  }}
"""
    rng = np.random.default_rng(m)
    full = rng.standard_normal((n, n)) / np.sqrt(n)
    # What lies on and above the diagonal must not be read into the result.
    blocks = full.reshape(16, m, 16, m).transpose(1, 3, 0, 2)
    lower = np.tril(np.float32(full), -1).astype(np.float64)
    inverse = np.linalg.inv(np.eye(n) - lower)
    expected = inverse.reshape(16, m, 16, m).transpose(1, 3, 0, 2).reshape(m * m, 16, 16)
    shape = (m * m, 16, 16)
    out = run(body, "sm_90a", u=np.float32(blocks).reshape(shape),
              **{"p" if element == "bf16" else "o": shape})[element == "bf16"]
    tolerance = 2.0**-8 if element == "bf16" else 1e-5
    assert np.allclose(out, expected, rtol=tolerance, atol=1e-5)
    assert np.all(out[expected == 0] == 0)


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
