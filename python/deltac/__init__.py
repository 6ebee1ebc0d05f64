# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Matrix-state recurrences, compiled just in time.

    import deltac
    kda = deltac.recurrence("kda")          # or the text of a spec
    o, state = kda(q, k, v, g, beta, output_final_state=True)

`deltac.recurrence` makes a callable over NumPy arrays and torch tensors out of a
spec, `deltac.load` out of a bundle. `deltac.ops` has the operators of the
flash-linear-attention library by name, `deltac.ops.naive` plain PyTorch to
compare them with.
"""

from typing import TYPE_CHECKING

from ._bundle import load
from ._cache import cache_dir
from ._errors import (AbsentError, CompileError, Error, FindingError,
                      SpecError, StrictError)
from ._recurrence import Recurrence, Support, is_supported, recurrence
from ._runtime import version as _version
from ._spec import library

__version__: str = _version()

__all__ = [
    "AbsentError", "CompileError", "Error", "FindingError", "Recurrence",
    "SpecError", "StrictError", "Support", "cache_dir", "is_supported",
    "library", "load", "ops", "recurrence",
]


if TYPE_CHECKING:
    from . import ops as ops


def __getattr__(name):
    # Operators need torch, which takes its time to import.
    if name == "ops":
        import importlib
        return importlib.import_module(".ops", __name__)
    raise AttributeError(f"module 'deltac' has no attribute '{name}'")
