# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""compare_npz.py A B: the archives hold the same arrays; B is plain: C-ordered,
little-endian, f16 widened to f32 and long double narrowed to f64."""

import sys

import numpy as np

a, b = (np.load(path) for path in sys.argv[1:])
assert a.files == b.files, (a.files, b.files)
for name in a.files:
    x, y = a[name], b[name]
    wanted = {"float16": "float32", "float128": "float64"}.get(
        x.dtype.name, x.dtype.name)
    assert y.dtype == np.dtype(wanted) and y.dtype.isnative, (name, y.dtype)
    assert y.flags.c_contiguous and x.shape == y.shape, (name, y.shape)
    assert np.array_equal(x.astype(wanted), y), name
print(f"{len(a.files)} arrays agree")
