# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""delta's kernels in this process: compiled ahead of time, called by ctypes.

The shared object has no threads of its own: its `_range` entry computes a range
of the B * H * vblocks independent work items, and the pool here hands those out.
"""

import ctypes
import itertools
import pathlib
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np


class Pool:
    """`threads` persistent threads; ctypes calls leave the interpreter's lock."""

    def __init__(self, threads):
        self.threads = threads
        self.executor = ThreadPoolExecutor(threads)

    def run(self, work):
        """Call work(thread) once on each thread; return the results."""
        return list(self.executor.map(work, range(self.threads)))


def aligned(shape):
    """Zeros that begin with a cache line, as PyTorch's tensors do."""
    count = int(np.prod(shape))
    room = np.zeros(4 * count + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start:start + 4 * count].view(np.float32).reshape(shape)


DECLARATIONS = re.compile(
    r"\b(in|param)\s+("
    r"(?:\w+\s*(?:\[\s*\w+\s*\])?\s*:\s*\w+(?:\s+in\s*\[[^\]]*\])?\s*,?\s*)+)")


def declared_order(spec):
    """(inputs, attrs): the names of `in` and `param`, and of `attr`, in order.

    `spec` is the text of a spec file. The order is the calling convention.
    """
    text = re.sub(r"(//|#).*", "", spec)
    inputs = []
    for _, names in DECLARATIONS.findall(text):
        inputs += re.findall(r"(\w+)\s*(?:\[\s*\w+\s*\])?\s*:", names)
    return inputs, re.findall(r"\battr\s+(\w+)", text)


def declared_dims(spec):
    """The dims that a spec's text names: K, V and those of `dim`."""
    text = re.sub(r"(//|#).*", "", spec)
    dims = [d for d in "KV" if re.search(rf"\b{d}\b", text)]
    for names in re.findall(r"\bdim\s+(\w+(?:\s*,\s*\w+)*)", text):
        dims += re.split(r"\s*,\s*", names)
    return dims


class Kernel:
    """One recurrence compiled for fixed K and V.

    `compile_seconds` is the wall time from the spec's text to a loaded shared
    object. Raises RuntimeError with the compiler's own message.
    """

    def __init__(self, build, specs, name, K, V, folder, function="forward",
                 options=()):
        self.name, self.K, self.V = name, K, V
        self.inputs, self.attrs = declared_order(
            (pathlib.Path(specs) / f"{name}.delta").read_text())
        tag = "".join(option.lstrip("-").replace("=", "_") for option in options)
        path = pathlib.Path(folder) / f"{name}_{K}_{V}_{function}{tag}.so"
        compiler = [str(pathlib.Path(build) / "bin" / "delta-compile"), name,
                    "-D", f"K={K}", "-D", f"V={V}", f"--fn={function}", *options]
        command = [*compiler, "--emit=so", "-o", str(path)]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
        library = ctypes.CDLL(str(path))
        self.compile_seconds = time.perf_counter() - start

        # What goes where, as its header says: (in or out, name, axes).
        header = subprocess.run([*compiler, "--emit=header", "-o", "-"],
                                capture_output=True, text=True, check=True)
        self.arrays = ENTRIES.findall(header.stdout)

        symbol = f"delta_{name}"
        if not hasattr(library, f"{symbol}_range"):
            symbol += f"_{function}"
        pointers = ctypes.POINTER(ctypes.c_void_p)
        self.call_range = getattr(library, f"{symbol}_range")
        self.call_range.restype = ctypes.c_int
        self.call_range.argtypes = [
            pointers, pointers, ctypes.POINTER(ctypes.c_int64),
            ctypes.POINTER(ctypes.c_double), ctypes.c_void_p, ctypes.c_size_t,
            ctypes.c_int64, ctypes.c_int64, ctypes.c_int64]
        workspace_bytes = getattr(library, f"{symbol}_workspace_bytes")
        workspace_bytes.restype = ctypes.c_size_t
        self.workspace_bytes = workspace_bytes()
        panels = getattr(library, f"{symbol}_panels")
        panels.restype = ctypes.c_int64
        self.panels = panels()

    def bind(self, pool, arrays, state=None, vblocks=None):
        """A function that runs the kernel over `arrays`, and its outputs.

        Returns (run, o, final_state); run() overwrites o and final_state.
        `state` is the initial state, or None for zero. Everything is allocated
        here, nothing in run().
        """
        B, T, H = arrays["q"].shape[:3]
        o = aligned((B, T, H, self.V))
        final = aligned((B, H, self.K, self.V))
        inputs = [arrays[n] for n in self.inputs]
        run = self.runner(pool, [*inputs, state], [o, final], (B, T, H),
                          vblocks)
        return run, o, final

    def runner(self, pool, inputs, outputs, sizes, vblocks=None):
        """A function that runs the kernel on arrays in its calling order, None
        where one is absent; `sizes` are B, T and H."""
        B, T, H = sizes
        for array in inputs:
            assert array is None or (array.dtype == np.float32
                                     and array.flags.c_contiguous)

        def addresses(values):
            return (ctypes.c_void_p * len(values))(
                *[None if x is None else x.ctypes.data for x in values])

        args = (addresses(inputs), addresses(outputs),
                (ctypes.c_int64 * 5)(B, T, H, self.K, self.V),
                (ctypes.c_double * max(1, len(self.attrs)))(
                    *[self.K ** -0.5] * len(self.attrs)))
        # One aligned workspace a thread; the kernel allocates nothing.
        size = max(64, self.workspace_bytes)
        room = [np.zeros(size + 64, np.uint8) for _ in range(pool.threads)]
        workspaces = [x.ctypes.data + -x.ctypes.data % 64 for x in room]

        if vblocks is None:
            vblocks = 1
            while B * H * vblocks < pool.threads and vblocks < self.panels:
                vblocks += 1
        items = B * H * vblocks
        # A few rounds a thread, so that a disturbed thread takes fewer.
        grain = max(1, items // (8 * pool.threads))

        def run():
            turns = itertools.count()

            def work(thread):
                while (begin := next(turns) * grain) < items:
                    status = self.call_range(
                        *args, workspaces[thread], size, begin,
                        min(items, begin + grain), vblocks)
                    if status:
                        raise RuntimeError(
                            f"delta_{self.name}: status {status}")

            pool.run(work)

        # What the pointers in `args` point to has to live as long as `run`.
        run.keep = (inputs, outputs, room)
        return run


ENTRIES = re.compile(r"_(in|out)_(\w+) = \d+, /\* (?:const )?float \[([^\]]*)\]")


class Gradients:
    """The two kernels of a recurrence's gradients, for fixed K and V: a forward
    that saves states, and the backward that reads them."""

    def __init__(self, build, specs, name, K, V, folder):
        self.K, self.V = K, V
        make = [build, specs, name, K, V, folder]
        self.saving = Kernel(*make, options=["--save-every=1"])
        self.backward = Kernel(*make, function="backward")
        saved, = [axes for kind, array, axes in self.saving.arrays
                  if array == "checkpoints"]
        self.every = int(re.search(r"ceil\(T / (\d+)\)", saved)[1])

    def shape(self, axes, sizes):
        known = {**dict(zip("BTH", sizes)), "K": self.K, "V": self.V,
                 f"ceil(T / {self.every})": -(-sizes[1] // self.every)}
        return [known[axis.strip()] for axis in axes.split(",")]

    def bind(self, pool, arrays, do):
        """Functions that run the two kernels, and all arrays by name:
        (forward, backward, outputs)."""
        sizes = arrays["q"].shape[:3]
        found = {**arrays, "do": do}
        outputs = {}
        runs = []
        for compiled in (self.saving, self.backward):
            inputs, results = [], []
            for kind, name, axes in compiled.arrays:
                if kind == "in":
                    inputs.append(found.get(name, outputs.get(name)))
                else:
                    outputs[name] = aligned(self.shape(axes, sizes))
                    results.append(outputs[name])
            runs.append(compiled.runner(pool, inputs, results, sizes))
        return (*runs, outputs)
