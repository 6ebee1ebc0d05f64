# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""compare.py A B LIMIT [NAME=OTHER...]: every array of A, or those named, agrees
with the one of B (of that name, or OTHER) up to the relative error LIMIT."""

import sys

import numpy as np

a, b = np.load(sys.argv[1]), np.load(sys.argv[2])
limit = float(sys.argv[3])
pairs = [pair.split("=") for pair in sys.argv[4:]] or [(n, n) for n in a.files]
for name, other in pairs:
    x, y = a[name].astype(np.float64), b[other].astype(np.float64)
    assert x.shape == y.shape, (name, x.shape, y.shape)
    error = np.linalg.norm(x - y)
    scale = np.linalg.norm(y)
    assert error <= limit * (scale if scale > 0 else 1), (name, error, scale)
    print(name, a[name].dtype, a[name].shape, "agrees")
