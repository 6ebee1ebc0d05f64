# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Arrays for two-kernels.mlir, and whether its results are right.

    make_turned_arrays.py make FOLDER T...     writes T.npz for each T
    make_turned_arrays.py check FOLDER T       compares T-out.npz with T.npz
"""

import pathlib
import sys

import numpy as np

folder = pathlib.Path(sys.argv[2])
for tokens in sys.argv[3:]:
    if sys.argv[1] == "make":
        rng = np.random.default_rng(int(tokens))
        np.savez(folder / f"{tokens}.npz", v=rng.standard_normal(
            (2, int(tokens), 3, 32), dtype=np.float32))
    else:
        v = np.load(folder / f"{tokens}.npz")["v"]
        out = np.load(folder / f"{tokens}-out.npz")
        assert np.array_equal(out["o"], 2 * v[:, ::-1])
        assert np.array_equal(out["final_state"],
                              np.full((2, 3, 1, 32), float(v.shape[1] > 0)))
