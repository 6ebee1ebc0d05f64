# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Exceptions of the package.

Wrong arguments are plain `ValueError`, `TypeError` and `NotImplementedError`,
which name the argument, what it is, and what was expected. What is here derives
from them where it can.
"""

import difflib


class Error(RuntimeError):
    """What the compiler or the run time refused, in its words."""


class SpecError(Error, ValueError):
    """A spec with mistakes; the text shows each with its line and a caret."""


class CompileError(Error, NotImplementedError):
    """A right spec that cannot be compiled for these sizes, types or target."""


class AbsentError(Error):
    """A device, driver or tool is not there."""


class FindingError(Error):
    """The simulator found a fault in a kernel; the text has the findings."""


class StrictError(Error):
    """`DELTA_STRICT=1`, and a kernel would have to be compiled."""


def nearest(name, known):
    """"; did you mean 'x'?" for a name that looks like a known one, or ""."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def unknown_argument(name, known):
    """The sentence for a keyword that no argument has."""
    return (f"unknown argument '{name}'"
            + (nearest(name, known) or "; expected " + ", ".join(known)))
