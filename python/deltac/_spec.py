# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Specs: where their text comes from, and what they take and give."""

import dataclasses
import functools
import os
import warnings

from . import _facts
from ._cache import cache_dir
from ._errors import Error, SpecError, nearest


@dataclasses.dataclass(frozen=True)
class Argument:
    """An in, param, attr, state or out of a recurrence."""
    name: str
    kind: str
    #: Names of the array's axes: "B", "T", "H" and dims; none for an attr.
    axes: tuple
    #: The declared closed range, or None.
    range: tuple | None = None
    #: An attr's default as written in the spec, "" without one.
    default: str = ""
    has_default: bool = False

    @property
    def is_vector(self):
        """Whether a token's value has a dim of its own."""
        return bool(self.axes) and self.axes[-1] != "H"


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a recurrence takes and gives, in declared order."""
    name: str
    args: tuple
    #: The dims that arrays or attrs use.
    dims: tuple
    warnings: str = ""

    def of_kind(self, *kinds):
        return tuple(arg for arg in self.args if arg.kind in kinds)

    @functools.cached_property
    def inputs(self):
        return self.of_kind("in", "param")

    @functools.cached_property
    def attrs(self):
        return self.of_kind("attr")

    @functools.cached_property
    def outs(self):
        return self.of_kind("out")

    @functools.cached_property
    def state(self):
        return self.of_kind("state")[0]


def make_signature(name, described, dims, warnings=""):
    """A signature from the dicts of the native modules."""
    args = tuple(Argument(arg["name"], arg["kind"], tuple(arg["axes"]),
                          arg["range"] and tuple(arg["range"]),
                          arg["default_text"], arg["has_default"])
                 for arg in described if arg["kind"] != "other")
    return Signature(name, args, tuple(dims), warnings)


def library() -> list[str]:
    """Names of the recurrences that come with delta, sorted."""
    return sorted(_facts.compiler(cache_dir())["library"])


def find_text(spec):
    """The text of a library spec's name, a file, or a text itself.

    Returns the text and what stands for it in messages.
    """
    if isinstance(spec, os.PathLike):
        spec = os.fspath(spec)
    if not isinstance(spec, str):
        raise TypeError("argument 'spec' must be the text of a recurrence, a "
                        "library name or a file, but got "
                        + type(spec).__name__)
    if any(c in spec for c in "\n{}"):
        return spec, "<spec>"
    text = _facts.compiler(cache_dir())["library"].get(spec)
    if text is not None:
        return text, f"{spec}.delta"
    if spec.endswith(".delta") or os.path.isfile(spec):
        try:
            with open(spec, encoding="utf-8") as file:
                return file.read(), spec
        except OSError as error:
            raise SpecError(f"cannot read '{spec}': {error.strerror}") from None
    raise SpecError(
        f"there is neither a file nor a library recurrence '{spec}'"
        + (nearest(spec, library())
           or "; the library has " + ", ".join(library())))


@functools.lru_cache(maxsize=1024)
def _describe(text, place):
    try:
        described = _facts.describe(cache_dir(), text)
    except Error as error:
        raise SpecError(str(error).replace("<stdin>:", f"{place}:")) from None
    return make_signature(described["name"], described["args"],
                          described["dims"],
                          described["warnings"].replace("<stdin>:", f"{place}:"))


def describe(text, place):
    """The signature of a spec's text; `SpecError` with all its mistakes."""
    signature = _describe(text, place)
    if signature.warnings:
        warnings.warn(signature.warnings.strip(), stacklevel=4)
    return signature
