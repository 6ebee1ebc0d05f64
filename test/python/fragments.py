# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Small kernels of stage `mapped`, written by hand, of one CTA.

Their inputs are x, y (bf16), u, v (f32); their outputs p (bf16) and o (f32). They
run in the PTX simulator.
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
