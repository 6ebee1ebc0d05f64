# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The machine's limits, measured beside what is held against them."""

import ctypes
import pathlib
import subprocess

import numpy as np


def compile_fma(folder):
    """limits.c in the vector widths that this machine runs: {bits: function}."""
    source = pathlib.Path(__file__).with_name("limits.c")
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    if "avx512f" in flags:
        widths, register = (32, 64), '"+v"'
    elif "asimd" in flags:
        widths, register = (16,), '"+w"'
    else:
        widths, register = ((32,) if "avx" in flags else (16,)), '"+x"'
    functions = {}
    for width in widths:
        target = pathlib.Path(folder) / f"limits{width}.so"
        subprocess.run(
            ["cc", "-O3", "-march=native", "-ffp-contract=fast", "-shared",
             "-fPIC", f"-DVECTOR_BYTES={width}", f"-DREGISTER(x)={register}(x)",
             "-o", str(target), str(source)], check=True)
        function = ctypes.CDLL(str(target)).fma_peak
        function.restype = ctypes.c_double
        function.argtypes = [ctypes.c_long, ctypes.POINTER(ctypes.c_float)]
        functions[8 * width] = function
    return functions


def fma_contenders(folder, pool, iterations=1_000_000):
    """{name: (run, flops)}: multiply-adds out of registers on every thread."""

    def contender(function):
        def work(_):
            return function(iterations, ctypes.byref(ctypes.c_float()))

        return lambda: pool.run(work), sum(pool.run(work))

    return {f"fma {bits} bit": contender(function)
            for bits, function in compile_fma(folder).items()}


def sgemm_contenders(sizes=(1024, 2048, 4096), with_torch=True):
    """{name: (run, flops)}: large float32 matrix products, by each library.

    PyTorch's and numpy's come with different BLAS libraries; the faster one is
    the machine's rate.
    """
    rng = np.random.default_rng(0)
    found = {}
    for n in sizes:
        a, b = (rng.standard_normal((n, n), dtype=np.float32) for _ in "ab")
        c = np.empty_like(a)
        found[f"sgemm numpy {n}"] = (
            lambda a=a, b=b, c=c: np.matmul(a, b, out=c), 2 * n ** 3)
        if with_torch:
            import torch
            ta, tb, tc = (torch.from_numpy(x) for x in (a, b, c))
            found[f"sgemm torch {n}"] = (
                lambda a=ta, b=tb, c=tc: torch.mm(a, b, out=c), 2 * n ** 3)
    return found


def copy_contender(nbytes, pool):
    """A function that copies `nbytes` of memory with every thread: it moves
    twice as many bytes."""
    source = np.ones(nbytes, np.uint8)
    target = np.zeros(nbytes, np.uint8)
    memcpy = ctypes.CDLL(None).memcpy
    memcpy.restype = ctypes.c_void_p
    memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    share = -(-nbytes // pool.threads) + 63 & ~63

    def work(thread):
        begin = min(nbytes, thread * share)
        memcpy(target.ctypes.data + begin, source.ctypes.data + begin,
               min(share, nbytes - begin))

    return lambda: pool.run(work)
