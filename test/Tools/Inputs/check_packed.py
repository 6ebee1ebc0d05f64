# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""check_packed.py IN.npz OUT.npz COMMAND...: the results of packed sequences are,
bit for bit, those of running COMMAND on each sequence alone."""

import subprocess
import sys

import numpy as np

given, packed = dict(np.load(sys.argv[1])), np.load(sys.argv[2])
command = sys.argv[3:]
bounds = given.pop("cu_seqlens")
states = given.pop("initial_state")
assert packed["final_state"].shape == states.shape
for i, (first, last) in enumerate(zip(bounds, bounds[1:])):
    one = sys.argv[2] + f".{i}.npz"
    np.savez(one, initial_state=states[i:i + 1],
             **{name: array[:, first:last] for name, array in given.items()})
    subprocess.run([*command, "--input", one, "--output", one + ".out.npz"],
                   check=True)
    alone = np.load(one + ".out.npz")
    assert np.array_equal(alone["o"], packed["o"][:, first:last]), i
    assert np.array_equal(alone["final_state"][0], packed["final_state"][i]), i
