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
    if not isinstance(array, numpy.ndarray):
        array = numpy.from_dlpack(array)
    return numpy.array(array, dtype=dtype, order="C")


def find_bfloat16():
    """The type of NumPy arrays for results in bfloat16."""
    ml_dtypes = sys.modules.get("ml_dtypes")
    if ml_dtypes is None:
        raise TypeError("the results are bfloat16, a type that NumPy does not "
                        "have; import ml_dtypes before, or pass torch tensors")
    return ml_dtypes.bfloat16


def read_stats(device):
    """The simulator's counters as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "stats.json")
        device.write_stats(path)
        with open(path, encoding="utf-8") as file:
            return file.read()


__all__ = ["find_torch", "convert", "find_bfloat16", "read_stats", "_runtime"]
