# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Write arrays for gain.ptx: three sequences packed along T."""

import sys

import numpy as np

rng = np.random.default_rng(5)
np.savez(sys.argv[1], v=rng.standard_normal((1, 9, 2, 32)),
         initial_state=rng.standard_normal((3, 2, 2, 32)),
         cu_seqlens=np.array([0, 4, 4, 9]))
