# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The golden vectors are what their names say; others compare with them."""

import re

import numpy as np


def test_names_and_shapes_agree(golden):
    files = sorted(golden.glob("*.npz"))
    assert files
    for file in files:
        name = re.fullmatch(r"(\w+)_K(\d+)_V(\d+)_T(\d+)_(\w+)", file.stem)
        assert name, file.name
        K, V, T = (int(name[i]) for i in (2, 3, 4))
        arrays = np.load(file)
        assert arrays["q"].shape[1] == T and arrays["q"].shape[-1] == K
        assert arrays["o"].shape[1] == T and arrays["o"].shape[-1] == V
        assert arrays["final_state"].shape[-2:] == (K, V)
        for key in arrays:
            assert arrays[key].dtype == np.float32, (file.name, key)
