# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the tests of the simulator's arithmetic share."""

import numpy as np
import pytest

from ptxkernels import BYTES, Ptx

N = 128


@pytest.fixture(scope="module", params=["best", "base"])
def ptx(request, tool, tmp_path_factory):
    """The arithmetic for this processor, and that for any."""
    return Ptx(tool, tmp_path_factory.mktemp("ptx"), request.param)


def width(type):
    return 8 * BYTES[type]


def wrap(x, type):
    x &= (1 << width(type)) - 1
    if type[0] == "s" and x >> (width(type) - 1):
        x -= 1 << width(type)
    return x


def integers(type, seed):
    """Random and border values of a type."""
    rng = np.random.default_rng(seed)
    w = width(type)
    special = [0, 1, 2, (1 << w) - 1, 1 << (w - 1), (1 << (w - 1)) - 1, 3, 255]
    out = []
    for _ in range(N):
        kind = rng.integers(3)
        x = (special[rng.integers(len(special))] if kind == 0 else
             int(rng.integers(100)) if kind == 1 else
             int(rng.integers(1 << 32)) * (1 << 32) + int(rng.integers(1 << 32)))
        out.append(wrap(x, type))
    return out
