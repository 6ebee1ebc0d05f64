# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Bundles as callables: what runs without the compiler.

A bundle for training has, for every target, the pair of a gradient beside the
kernels of plain calls, since a forward that saves states is another kernel than
one that does not.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from . import _cache, _runtime, _work
from ._callable import (DEVICES, LONG, Callable, check_choice, lock, registry)
from ._spec import make_signature


class LoadedBundle(Callable):
    """A bundle as a callable: sizes and types are those it was made for."""

    def __init__(self, data, path, fn=None, device=None):
        check_choice("device", device, DEVICES)
        bundle = _runtime.read_bundle(data, path)
        self._bundle, self.path, self.device = bundle, path, device
        self._data = data
        fns = list(dict.fromkeys(kernel["fn"] for kernel in bundle.kernels))
        if fn is None:
            fn = "forward" if "forward" in fns else fns[0]
        if fn not in fns:
            raise ValueError(f"argument 'fn' is {fn!r}, but '{path}' has "
                             + ", ".join(fns))
        self.fn = fn
        self.dims = dict(bundle.dims)
        #: What stands for it in torch's graphs.
        self.spec = f"bundle {bundle.id}"
        self.options = f"fn={fn}" + (f";device={device}" if device else "")
        self._dtypes = tuple(arg["dtype"] for arg in bundle.args
                             if arg["kind"] in ("in", "param"))
        self._loaded = {}
        super().__init__(make_signature(bundle.name, bundle.args, self.dims),
                         "sim" if device == "sim" else "")

    def __repr__(self):
        return (f"<deltac bundle {self.name} of '{self.path}', fn={self.fn}, "
                + ", ".join(f"{k}={v}" for k, v in self.dims.items()) + ">")

    def __reduce__(self):
        return LoadedBundle, (self._data, self.path, self.fn, self.device)

    @property
    def kernels(self) -> list[dict[str, Any]]:
        """The kernels in the file, as dicts."""
        return list(self._bundle.kernels)

    @property
    def has_gradients(self) -> bool:
        """Whether the file has kernels for training."""
        return bool(self._bundle.gradients)

    def _check(self, dtypes, dims, kind):
        for name, size in dims.items():
            if self.dims.get(name, size) != size:
                raise ValueError(
                    f"dim '{name}' is {size}, but the bundle was compiled for "
                    f"{self.dims[name]}")
        for arg, given, made in zip(self.signature.inputs, dtypes,
                                    self._dtypes):
            if given != made:
                raise TypeError(
                    f"argument '{arg.name}' has dtype {LONG[given]}, but "
                    f"the bundle was compiled for {LONG[made]}")
        if self.device is not None and kind != self.device:
            raise ValueError(f"the arrays are on device '{kind}', but the "
                             f"bundle was loaded for '{self.device}'")

    def _build(self, dtypes, dims, kind, index, heads, tokens):
        self._check(dtypes, dims, kind)
        key = (kind, index)
        if key not in self._loaded:
            self._loaded[key] = _runtime.Kernel(
                self._bundle, _cache.device(kind, index), self.fn)
        return self._loaded[key], _work.ANY.heads, _work.ANY.tokens

    def _load_training(self, dtypes, dims, kind, index, heads, tokens):
        self._check(dtypes, dims, kind)
        if not self.has_gradients:
            raise NotImplementedError(
                f"'{self.path}' has no kernels for gradients; make it with "
                "save(gradients=True), or call it under torch.no_grad()")
        targets = _targets(kind, index)
        known = list(self._bundle.gradients)
        for target in targets:
            if target in known:
                return *(_runtime.Kernel(
                    self._bundle.open_gradient(known.index(target), fn),
                    _cache.device(kind, index), fn)
                    for fn in ("forward", "backward")), _work.ANY
        raise NotImplementedError(
            f"'{self.path}' has no kernels for gradients on device '{kind}': "
            f"save it with targets=('{targets[0]}',)")


def _targets(kind, index):
    """Targets that a device runs, the best first."""
    if kind == "cpu":
        return ["cpu"]
    hopper = kind == "sim" or sys.modules[
        "torch"].cuda.get_device_capability(index) == (9, 0)
    return ["sm_90a", "sm_80"] if hopper else ["sm_80"]


def load(path: str | os.PathLike[str], *, fn: str | None = None,
         device: str | None = None) -> LoadedBundle:
    """A callable from a bundle that `save` or `delta-compile` wrote.

    fn: "forward", "decode"; None: the first of them that is there.
    device: "cpu", "cuda" or "sim"; None: where the arrays are.
    """
    with open(path, "rb") as file:
        data = file.read()
    made = LoadedBundle(data, os.fspath(path), fn, device)
    with lock:
        registry[made.spec, made.options] = made
    return made


__all__ = ["LoadedBundle", "load"]
