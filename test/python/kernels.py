# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiled kernels as Python functions, by way of shared libraries.

A property needs a kernel many times on many arrays, so it is compiled once,
ahead of time, and called in this process through its C interface.
"""

import ctypes
import re

import numpy as np

NUMPY = {"f64": np.float64, "f32": np.float32, "f16": np.float16,
         "bf16": np.uint16}


def to_bf16(x):
    """The bits of x rounded to bf16, to nearest even."""
    bits = np.float32(x).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded(x, type):
    """x as an array in memory of a type: the element type of the kernel."""
    x = np.asarray(x)
    return np.ascontiguousarray(to_bf16(x) if type == "bf16"
                                else x.astype(NUMPY[type]))


def widened(x, type):
    """A kernel's array as float32 or float64."""
    if type == "bf16":
        return from_bf16(x)
    return x.astype(np.float32) if type == "f16" else x


ARG = re.compile(
    r'#delta\.arg<kind = (?P<kind>\w+), name = "(?P<name>\w+)", '
    r'type = (?P<type>\w+)(?:, axes = \[(?P<axes>[^\]]*)\])?'
    r'(?:, family = (?P<family>\w+))?(?:, range = \[[^\]]*\])?'
    r'(?:, default = "(?P<default>[^"]*)")?')


class Signature:
    """Arguments, outs and attrs of a recurrence, read off its step IR.

    For gradients it is read off the chunk IR, which says what is saved too.
    """

    def __init__(self, ir):
        self.args = [match.groupdict() for match in ARG.finditer(ir)]
        for arg in self.args:
            arg["axes"] = [axis.strip() for axis in
                           (arg["axes"] or "").split(",") if axis.strip()]
        self.name = re.search(
            r"(?:delta\.recurrence|func\.func|gpu\.module) @(\w+)", ir)[1]
        self.inputs = [arg for arg in self.args
                       if arg["kind"] in ("in", "param")]
        self.outs = [arg for arg in self.args if arg["kind"] == "out"]
        self.outs += [arg for arg in self.args if arg["kind"] == "sum"]
        self.backward = 'fn = "backward"' in ir
        self.checkpoint = next(
            (a for a in self.args if a["kind"] == "checkpoint"), None)
        if self.checkpoint:  # tokens from one to the next
            self.every = (int(re.search(r"[{ ]chunk = (\d+)", ir)[1]) *
                          int(re.search(r"save_every = (\d+)", ir)[1]))
        self.attrs = [arg for arg in self.args if arg["kind"] == "attr"]
        self.state = next(a for a in self.args if a["kind"] == "state")
        self.dims = []  # beyond B, T, H, in order of first use
        for arg in self.args:
            for dim in [arg["family"], *arg["axes"]]:
                if dim and dim not in self.dims:
                    self.dims.append(dim)

    def shape(self, arg, sizes):
        """An array's shape; `sizes` has every dim, B, T and H too."""
        tokens = ["B", "T", *filter(None, [arg["family"]]), "H"]
        axes = {"in": tokens, "out": tokens, "param": ["H"],
                "state": ["B", "H"], "sum": ["B", "H"],
                "checkpoint": ["B", "H", "count"]}[arg["kind"]]
        if arg["kind"] == "checkpoint":
            sizes = {**sizes, "count": -(-sizes["T"] // self.every)}
        return [sizes[dim] for dim in [*axes, *arg["axes"]]]

    def sizes(self, arrays):
        """Every dim that a dict of arrays knows."""
        sizes = {}
        for arg in self.inputs:
            axes = ["B", "T", *filter(None, [arg["family"]]), "H"]
            axes = (["H"] if arg["kind"] == "param" else axes) + arg["axes"]
            for dim, size in zip(axes, np.shape(arrays[arg["name"]])):
                assert sizes.setdefault(dim, size) == size, (arg["name"], dim)
        return sizes

    def attr_values(self, sizes, given):
        values = {}
        for attr in self.attrs:
            name, default = attr["name"], attr["default"]
            if name in given:
                values[name] = given[name]
            else:
                values[name] = eval(default.replace("^", "**"),
                                    {"__builtins__": {}}, {**sizes, **values})
        return values


class Kernel:
    """One compiled function: `kernel(arrays, **attrs)` returns its outputs."""

    def __init__(self, signature, path, sizes):
        self.signature = signature
        self.sizes = sizes
        library = ctypes.CDLL(str(path))
        name = "delta_" + signature.name + "_backward" * signature.backward
        self.function = getattr(library, name)
        self.function.restype = ctypes.c_int
        self.range_function = getattr(library, name + "_range")
        self.range_function.restype = ctypes.c_int
        workspace_bytes = getattr(library, name + "_workspace_bytes")
        workspace_bytes.restype = ctypes.c_size_t
        self.bytes = workspace_bytes()
        panels = getattr(library, name + "_panels")
        panels.restype = ctypes.c_int64
        self.panels = panels()
        # 64-byte aligned, with canaries on both sides.
        self.buffer = np.zeros(self.bytes + 192, np.uint8)
        start = -self.buffer.ctypes.data % 64 + 64
        self.workspace = self.buffer[start:start + self.bytes]
        self.guards = (self.buffer[:start], self.buffer[start + self.bytes:])

    def __call__(self, arrays, ranges=None, vblocks=1, **attrs):
        """Runs all work at once, or the given ranges of work items."""
        s = self.signature
        sizes = {**self.sizes, **s.sizes(arrays)}
        assert all(sizes[d] == self.sizes[d] for d in self.sizes), sizes
        ins = [rounded(arrays[arg["name"]], arg["type"]) for arg in s.inputs]
        outs = [*s.outs, s.state]
        names = [arg["name"] for arg in s.outs] + [
            "d_initial_state" if s.backward else "final_state"]
        if s.checkpoint and s.backward:
            ins.append(rounded(arrays[s.checkpoint["name"]],
                               s.checkpoint["type"]))
        elif s.checkpoint:
            outs.insert(-1, s.checkpoint)
            names.insert(-1, s.checkpoint["name"])
        initial = arrays.get("dht" if s.backward else "initial_state")
        if initial is not None:
            initial = rounded(initial, s.state["type"])
            assert list(initial.shape) == s.shape(s.state, sizes)
        results = [np.full(s.shape(arg, sizes), 0xAA, NUMPY[arg["type"]])
                   for arg in outs]
        dims = np.array([sizes["B"], sizes["T"], sizes["H"],
                         *(sizes[dim] for dim in s.dims)], np.int64)
        values = np.array([*s.attr_values(sizes, attrs).values()], np.float64)
        for guard in self.guards:
            guard[:] = 0x5A
        common = (_pointers([*ins, initial]), _pointers(results),
                  dims.ctypes.data_as(ctypes.c_void_p),
                  values.ctypes.data_as(ctypes.c_void_p),
                  ctypes.c_void_p(self.workspace.ctypes.data),
                  ctypes.c_size_t(self.bytes))
        if ranges is None:
            assert self.function(*common) == 0
        else:
            for begin, end in ranges:
                assert self.range_function(
                    *common, ctypes.c_int64(begin), ctypes.c_int64(end),
                    ctypes.c_int64(vblocks)) == 0
        for guard in self.guards:
            assert np.all(guard == 0x5A), "wrote outside of its workspace"
        return {name: widened(x, arg["type"]) for name, x, arg in
                zip(names, results, outs)}


class Gradient:
    """Two kernels: `gradient(arrays, **attrs)` returns the d_<input>s.

    The arrays include the outs' cotangents, and maybe `dht`.
    """

    def __init__(self, forward, backward):
        self.forward, self.backward = forward, backward

    def __call__(self, arrays, **attrs):
        saved = self.forward(arrays, **attrs)
        name = self.backward.signature.checkpoint["name"]
        got = self.backward({**arrays, name: saved[name]}, **attrs)
        params = {arg["name"] for arg in self.forward.signature.inputs
                  if arg["kind"] == "param"}
        for arg in self.backward.signature.outs:
            if arg["kind"] == "sum":
                param = arg["name"][2:] in params
                x = np.sum(got[arg["name"]], axis=0 if param else None)
                got[arg["name"]] = x
        return got


def _pointers(arrays):
    return (ctypes.c_void_p * len(arrays))(
        *(None if x is None else x.ctypes.data for x in arrays))


class Kernels:
    """Compiles on demand and keeps what it compiled."""

    def __init__(self, run_tool, folder):
        self.tool = run_tool
        self.folder = folder
        self.cache = {}
        self.signatures = {}

    def signature(self, spec, *options):
        key = (str(spec), options)
        if key not in self.signatures:
            done = self.tool("delta-compile", spec, "--emit=step", *options)
            self.signatures[key] = Signature(done.stdout)
        return self.signatures[key]

    def __call__(self, spec, dtype="f64", chunk=None, fn="forward", **sizes):
        """The kernel of a library name or file for given sizes of its dims."""
        key = (str(spec), dtype, chunk, fn, *sorted(sizes.items()))
        if key not in self.cache:
            signature = self.signature(spec, f"--dtype={dtype}")
            options = [f"--dtype={dtype}", f"--fn={fn}"]
            for dim in signature.dims:
                options += ["-D", f"{dim}={sizes[dim]}"]
            if chunk and fn == "forward":
                options.append(f"--chunk={chunk}")
            path = self.folder / f"kernel{len(self.cache)}.so"
            self.tool("delta-compile", spec, "--emit=so", "-o", path, *options)
            self.cache[key] = Kernel(signature, path, {
                dim: sizes[dim] for dim in signature.dims})
        return self.cache[key]

    def gradient(self, spec, dtype="f64", chunk=None, **sizes):
        """The gradients of a library name or file, as a function."""
        key = ("gradient", str(spec), dtype, chunk, *sorted(sizes.items()))
        if key in self.cache:
            return self.cache[key]
        options = [f"--dtype={dtype}"]
        for dim in self.signature(spec, *options).dims:
            options += ["-D", f"{dim}={sizes[dim]}"]

        def compile(fn, *more):
            path = self.folder / f"gradient{len(self.cache)}_{fn}.so"
            ir = path.with_suffix(".mlir")
            self.tool("delta-compile", spec, "--emit=chunk", f"--fn={fn}", "-o",
                      ir, *options, *more)
            self.tool("delta-compile", ir, "--emit=so", "-o", path)
            signature = Signature(ir.read_text())
            return Kernel(signature, path,
                          {dim: sizes[dim] for dim in signature.dims})

        backward = compile("backward", *([f"--chunk={chunk}"] if chunk else []))
        # The forward saves what the backward reads.
        forward = compile("forward", "--save-every=1",
                          f"--chunk={backward.signature.every}")
        self.cache[key] = Gradient(forward, backward)
        return self.cache[key]


def run_npz(run_tool, folder, spec, arrays, *options, expect=0):
    """`delta-run SPEC` on arrays in a file: its outputs as a dict."""
    np.savez(folder / "in.npz", **arrays)
    out = folder / "out.npz"
    out.unlink(missing_ok=True)
    done = run_tool("delta-run", spec, "--input", folder / "in.npz", "--output",
                    out, *options, expect=expect)
    if expect:
        assert not out.exists(), "left an output file behind"
        return done
    with np.load(out) as outputs:
        return dict(outputs)


