# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Write arrays for kda with K=32, V=48: three sequences packed along T."""

import sys

import numpy as np

rng = np.random.default_rng(3)
T, H, K, V = 21, 3, 32, 48
lengths = [0, 5, 5, 21]
np.savez(sys.argv[1],
         q=rng.standard_normal((1, T, H, K)), k=rng.standard_normal((1, T, H, K)) / 6,
         v=rng.standard_normal((1, T, H, V)), g=-rng.random((1, T, H, K)),
         beta=rng.random((1, T, H)), cu_seqlens=np.array(lengths),
         initial_state=rng.standard_normal((3, H, K, V)))
