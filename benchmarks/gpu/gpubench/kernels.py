# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""delta's kernels on the GPU host: bundles, and calls from PyTorch's tensors.

A bundle is a header of 64 bytes, a manifest (JSON) and the code of the kernels;
nothing of delta is needed to read it. Where the compiler could not make one,
`build.py` leaves a cubin and beside it the same manifest as a file.
"""

import ctypes
import hashlib
import json
import math
import pathlib
import struct

MAGIC = b"\x89DLTB\r\n\x1a"
ALIGNMENT = 16


class KernelError(Exception):
    """A kernel that cannot be used, and why."""


def read_bundle(path):
    """The manifest of a bundle, and the code of each of its kernels by format."""
    data = pathlib.Path(path).read_bytes()
    if data[:8] != MAGIC or len(data) < 64:
        raise KernelError(f"{path}: not a bundle")
    version, header, size, length = struct.unpack_from("<IIQQ", data, 8)
    text = data[header:header + length]
    if (version != 1 or header != 64 or size != len(data)
            or hashlib.sha256(text).digest() != data[32:64]):
        raise KernelError(f"{path}: corrupt, or of another version")
    manifest = json.loads(text)
    code = []
    for kernel in manifest["kernels"]:
        code.append({})
        for image in kernel["images"]:
            blob = manifest["blobs"][image["blob"]]
            content = data[blob["offset"]:blob["offset"] + blob["size"]]
            if hashlib.sha256(content).hexdigest() != blob["sha256"]:
                raise KernelError(f"{path}: corrupt code")
            code[-1][image["format"]] = content
    return manifest, code


def capability(target):
    """The compute capability a target needs, times ten, and whether it is for
    that one alone: (90, True) for sm_90a."""
    digits = target.removeprefix("sm_")
    return int(digits.rstrip("a")), digits.endswith("a")


def launches_of(facts):
    """A function's launches; abi 1 has one, and a workspace for each CTA."""
    gpu = facts["gpu"]
    return gpu.get("launches") or [
        {"entry": facts["entry"], "tokens": 0,
         **{name: gpu[name] for name in ("threads", "shared_bytes",
                                         "v_blocks")}}]


class Kernel:
    """One function on a GPU: facts from the manifest, code, and calls of it."""

    def __init__(self, manifest, facts, code, tag=""):
        self.manifest, self.facts, self.code, self.tag = (manifest, facts, code,
                                                          tag)
        self.recurrence, self.fn = manifest["recurrence"], facts["fn"]
        self.target, self.gpu = facts["target"], facts["gpu"]
        self.launches = launches_of(facts) if self.gpu else []
        self.K, self.V = manifest["dims"]["K"], manifest["dims"]["V"]
        self.functions = None

    def same_as(self, other):
        """Whether both are one kernel under two names."""
        return (self.code == other.code and self.facts["entry"] ==
                other.facts["entry"] and self.manifest["dims"] ==
                other.manifest["dims"])

    def arguments(self, *kinds):
        return [argument for argument in self.manifest["args"]
                if argument["kind"] in kinds]

    def gate_bound(self):
        """The least log-decay that the kernel is made for; None when any is
        allowed."""
        for argument in self.arguments("in"):
            low, high = argument.get("range", (None, None))
            if high == 0 and low is not None:
                return low
        return None

    def label(self):
        bound = self.gate_bound()
        name = "delta" if bound is None else f"delta, gates >= {bound:.4g}"
        return f"{name} [{self.tag}]" if self.tag else name

    def runs_on(self, device):
        """Whether a device of that capability (times ten) runs the code."""
        needed, exact = capability(self.target)
        return device == needed if exact else device >= needed

    def load(self, driver):
        if self.functions is None:
            self.driver = driver
            image = self.code.get("cubin") or self.code["ptx"] + b"\0"
            self.functions = driver.load(
                image, [(launch["entry"], launch["shared_bytes"])
                        for launch in self.launches])

    def pack(self, inputs, state, outs, final, scalars, workspace=None):
        """The arguments in the kernel's order as ctypes values.

        `inputs` and `outs` are tensors by name, `state` and `final` tensors or
        None, `scalars` values of attrs by name (defaults otherwise).
        """
        def pointer(tensor):
            if not tensor.is_contiguous():
                raise KernelError("a tensor is not contiguous")
            if tensor.data_ptr() % ALIGNMENT:
                raise KernelError(f"a tensor does not start at a multiple of "
                                  f"{ALIGNMENT} bytes")
            return ctypes.c_uint64(tensor.data_ptr())

        def array(argument, tensor):
            expected = {"bf16": "torch.bfloat16", "f16": "torch.float16",
                        "f32": "torch.float32"}[argument["dtype"]]
            if str(tensor.dtype) != expected:
                raise KernelError(f"'{argument['name']}' is {tensor.dtype}, and "
                                  f"the kernel takes {argument['dtype']}")
            return pointer(tensor)

        null = ctypes.c_uint64(0)
        values = [array(argument, inputs[argument["name"]])
                  for argument in self.arguments("in", "param")]
        values.append(null if state is None else pointer(state))
        values += [array(argument, outs[argument["name"]])
                   for argument in self.arguments("out")]
        values.append(null if final is None else pointer(final))
        for attr in self.arguments("attr"):
            value = scalars.get(attr["name"])
            if value is None:
                value = attr["default"]["value"]
            values.append(ctypes.c_float(value))
        values.append(null if workspace is None else pointer(workspace))
        B, T, H = inputs[self.arguments("in")[0]["name"]].shape[:3]
        return values + [ctypes.c_uint64(size) for size in (B, T, H)]

    def workspace_bytes(self, B, T, H):
        if "workspace" not in self.gpu:
            return self.gpu["workspace_bytes"] * B * H * self.gpu["v_blocks"]
        total = 0
        for part in self.gpu["workspace"]:
            sizes = {"B": B, "H": H, "T": -(-T // part.get("tokens", 1))}
            total += part["bytes"] * math.prod(sizes[dim]
                                               for dim in part["dims"])
        return total

    def grids(self, B, T, H):
        """The CTAs of each launch."""
        return [B * H * launch["v_blocks"]
                * (-(-T // launch["tokens"]) if launch["tokens"] else 1)
                for launch in self.launches]

    def launch(self, parameters, B, T, H, only=None):
        """Launches the function's kernels, or one of them, on PyTorch's current
        stream."""
        import torch

        stream = torch.cuda.current_stream().cuda_stream
        for number, (function, launch, grid) in enumerate(
                zip(self.functions, self.launches, self.grids(B, T, H))):
            if grid and only in (None, number):
                self.driver.launch(function, grid, launch["threads"],
                                   launch["shared_bytes"], stream, parameters)

    def bind(self, inputs, state, scalars):
        """A call on those tensors: a function that launches on PyTorch's current
        stream and returns the out and the final state. Both are overwritten by
        each call."""
        import torch

        first = inputs[self.arguments("in")[0]["name"]]
        B, T, H = first.shape[:3]
        types = {"bf16": torch.bfloat16, "f16": torch.float16,
                 "f32": torch.float32}
        outs = {}
        for argument in self.arguments("out"):
            shape = [B, T, H] + [self.manifest["dims"][axis]
                                 for axis in argument["axes"]]
            # Poison: an element that is not written shows.
            outs[argument["name"]] = torch.full(
                shape, float("nan"), dtype=types[argument["dtype"]],
                device=first.device)
        final = None if state is None else torch.full_like(state, float("nan"))
        workspace = None
        if size := self.workspace_bytes(B, T, H):
            workspace = torch.empty(size, dtype=torch.uint8,
                                    device=first.device)
        values = self.pack(inputs, state, outs, final, scalars, workspace)
        parameters = (ctypes.c_void_p * len(values))(
            *(ctypes.addressof(value) for value in values))

        def call():
            self.launch(parameters, B, T, H)
            return next(iter(outs.values())), final

        # What the pointers point to lives as long as the call.
        call.alive = (values, inputs, state, outs, final, workspace)
        return call


def find_kernels(folder):
    """The GPU kernels in a folder, and for each file that is unusable a reason.

    A file is named RECURRENCE.SIZES.FN[.TAG].bundle or .json; the tag becomes
    part of the label.
    """
    kernels, problems = [], []
    left_out = pathlib.Path(folder) / "left-out.txt"
    if left_out.exists():
        problems += left_out.read_text().splitlines()
    for path in sorted(pathlib.Path(folder).glob("*")):
        try:
            if path.suffix == ".bundle":
                manifest, codes = read_bundle(path)
            elif path.suffix == ".json" and path.with_suffix(".cubin").exists():
                manifest = json.loads(path.read_text())
                codes = [{"cubin": path.with_suffix(".cubin").read_bytes()}]
            else:
                continue
        except (KernelError, ValueError, KeyError, OSError) as error:
            problems.append(f"{path.name}: {error}")
            continue
        # The range in the manifest says what a tag "...-gates" says.
        tag = ".".join(word for word in path.name.split(".")[3:-1]
                       if not word.endswith("-gates"))
        for facts, code in zip(manifest["kernels"], codes):
            kernel = Kernel(manifest, facts, code, tag)
            # A promise that the compiler had no use for made the same code.
            if facts["target"] != "cpu" and not any(
                    kernel.same_as(other) for other in kernels):
                kernels.append(kernel)
    return kernels, problems
