# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the native modules ask Python for about arrays and torch."""

import os
import sys
import tempfile

from . import _runtime


def find_torch():
    """Introduce torch to the native module when the program has imported it."""
    if "torch" in sys.modules:
        from . import _torch  # noqa: F401  (registers itself)


def convert(array, dtype):
    """A dense copy of a NumPy array or torch tensor in a dtype given by name."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        # A clone: dense, and aligned as torch aligns memory.
        return array.detach().to(getattr(torch, dtype)).clone(
            memory_format=torch.contiguous_format)
    import numpy
    return numpy.array(array, dtype=dtype, order="C")


def read_stats(device):
    """The simulator's counters as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "stats.json")
        device.write_stats(path)
        with open(path, encoding="utf-8") as file:
            return file.read()


__all__ = ["find_torch", "convert", "read_stats", "_runtime"]
