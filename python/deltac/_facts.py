# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What has to be known of the compiler, without loading it.

Loading the compiler loads LLVM, which takes longer than all else in the first call
of a recurrence whose kernel is on disk. So what it says of itself, of this machine
and of a spec is kept beside the kernels. The names of these files depend on the
compiler's own files and on the machine; their first line is the SHA-256 of the
rest, and a damaged one counts as none.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import pathlib
import platform

from ._errors import AbsentError

GPU_TARGETS = ("sm_80", "sm_90a")


def load_compiler():
    """The compiler's native module, which brings LLVM with it."""
    try:
        from . import _compiler
    except ImportError as error:
        raise AbsentError(
            "compiling needs LLVM and MLIR 22, which cannot be loaded here "
            f"({error}); bundles that deltac.load() reads run without them"
        ) from None
    return _compiler


@functools.cache
def _identity():
    """A text for the compiler's files and this machine; None when in doubt."""
    package = pathlib.Path(__file__).absolute().parent
    module = importlib.util.find_spec(f"{__package__}._compiler")
    if module is None or module.origin is None:
        return None
    # A build tree has links to the sources; its native modules are its own.
    built = pathlib.Path(module.origin).parent
    libraries = [path for folder in (built / "lib", built.parents[1] / "lib")
                 for path in folder.glob("libdelta.so.*")]
    if not libraries:
        return None
    facts = [str(package), platform.machine(),
             os.environ.get("LD_LIBRARY_PATH"), os.environ.get("LD_PRELOAD")]
    try:
        for path in (module.origin, *sorted(libraries)):
            status = os.stat(path)
            facts.append([str(path), status.st_size, status.st_mtime_ns])
        processor = pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return None
    facts.append([line for line in processor.splitlines()
                  if not line.startswith(("cpu MHz", "bogomips", "BogoMIPS"))])
    return json.dumps(facts)


def _keep(folder, name, make):
    """The value of a file by name, or `make()`, kept for the next process."""
    identity = _identity() if folder is not None else None
    if identity is None:
        return make()
    key = hashlib.sha256(json.dumps([identity, name]).encode()).hexdigest()
    path = folder / key[:2] / f"{key}.facts"
    with contextlib.suppress(OSError, ValueError):
        digest, text = path.read_bytes().split(b"\n", 1)
        if hashlib.sha256(text).hexdigest().encode() == digest:
            return json.loads(text)
    value = make()
    text = json.dumps(value).encode()
    from ._cache import write_file
    write_file(path, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    return value


def _ask():
    compiler = load_compiler()
    return {"build": compiler.build_id(), "cpu": compiler.host_cpu(),
            "multiprocessors": {target: compiler.multiprocessors(target)
                                for target in GPU_TARGETS},
            "library": {name: compiler.library_spec(name)
                        for name in compiler.library_specs()}}


@functools.cache
def _compiler_in(folder):
    return _keep(folder, "compiler", _ask)


def compiler(folder):
    """The compiler's "build", this machine's "cpu", the "multiprocessors" of GPU
    targets, and the "library", texts by name; `folder` is the disk cache's or
    None."""
    return _compiler_in(folder)


def describe(folder, text):
    """The interface of a spec's text as a dict; an `Error` is never kept."""
    return _keep(folder, ["describe", text],
                 lambda: load_compiler().describe(text, []))


__all__ = ["GPU_TARGETS", "compiler", "describe", "load_compiler"]
