# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiled kernels: in memory for the process, on disk for all of them.

A kernel's key is the SHA-256 of all that its code depends on: the spec's text,
the options, the build of the compiler, and for the CPU the machine's model and
features. Files are written under another name and moved into place, so that
processes never see half of one; a damaged file counts as none.

Environment: `DELTA_CACHE_DIR` is the folder (default: `deltac` in
`XDG_CACHE_HOME` or `~/.cache`), empty for no disk cache; `DELTA_STRICT=1` refuses
to compile outside of `warmup`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
import threading
import warnings

from . import _facts, _runtime
from ._errors import CompileError, Error, StrictError

_FORMAT = 1

_lock = threading.RLock()
_kernels = {}
_devices = {}
_warming = threading.local()
_warned = False

#: What happened so far in this process; for tests and the curious.
counters = {"compiled": 0, "read": 0, "written": 0}


def cache_dir() -> pathlib.Path | None:
    """The folder of the disk cache as a path; None when it is off."""
    folder = os.environ.get("DELTA_CACHE_DIR")
    if folder is not None:
        return pathlib.Path(folder) if folder else None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(base) / "deltac"


def is_strict():
    """Whether `DELTA_STRICT` forbids compiling now."""
    return (os.environ.get("DELTA_STRICT", "0") not in ("", "0")
            and not getattr(_warming, "depth", 0))


@contextlib.contextmanager
def warming():
    """Compiling is allowed inside."""
    _warming.depth = getattr(_warming, "depth", 0) + 1
    try:
        yield
    finally:
        _warming.depth -= 1


def _key(text, options):
    compiler = _facts.compiler(cache_dir())
    on_cpu = ("target", "cpu") in options
    facts = [_FORMAT, compiler["build"], compiler["cpu"] if on_cpu else "",
             text, options]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def write_file(path, data):
    """Move a file into place, and whether that worked; a cache that cannot be
    written is only slow."""
    global _warned
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if not _warned:
            _warned = True
            warnings.warn(f"deltac: compiled kernels cannot be kept in "
                          f"'{path.parent}': {error}", RuntimeWarning,
                          stacklevel=2)
        return False
    return True


def _describe(name, options):
    return name + " with " + ", ".join(f"{key} {value}"
                                       for key, value in options)


def bundle_bytes(text, name, options):
    """The bundle for a spec and options, a list of pairs: from disk, or made.

    `CompileError` when the compiler refuses, `StrictError` when it may not try.
    """
    options = [tuple(option) for option in options]
    folder = cache_dir()
    path = None
    if folder is not None:
        key = _key(text, options)
        path = folder / key[:2] / f"{key}.bundle"
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            with contextlib.suppress(Error):
                bundle = _runtime.read_bundle(data, str(path))
                counters["read"] += 1
                return data, bundle
    if is_strict():
        raise StrictError(
            f"DELTA_STRICT forbids compiling {_describe(name, options)}; "
            "call warmup() for these sizes and types first")
    compiler = _facts.load_compiler()
    try:
        data = compiler.compile(text, options)
    except Error as error:
        if type(error) is Error:
            raise CompileError(str(error).replace("<stdin>:", "<spec>:")) \
                from None
        raise
    counters["compiled"] += 1
    if path is not None:
        counters["written"] += write_file(path, data)
    return data, _runtime.read_bundle(data, name)


def device(kind, index=0):
    """The opened device, one for each kind and index."""
    with _lock:
        key = (kind, index if kind == "cuda" else 0)
        if key not in _devices:
            _devices[key] = _runtime.Device(kind, key[1])
        return _devices[key]


def kernel(text, name, options, fn, kind, index):
    """The loaded kernel for a spec and options on a device."""
    key = (text, tuple(tuple(option) for option in options), kind, index)
    with _lock:
        found = _kernels.get(key)
        if found is None:
            _, bundle = bundle_bytes(text, name, options)
            found = _kernels[key] = _runtime.Kernel(
                bundle, device(kind, index), fn)
        return found
