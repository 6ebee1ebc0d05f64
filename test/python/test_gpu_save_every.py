# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""States saved every N chunks on a GPU, run by the PTX simulator.

A kernel before the backward one computes the states between again, so what
follows is the same kernel as with every state: its gradients differ by the
rounding of the states that are saved.
"""

import json

import numpy as np
import pytest

from test_gpu_backward import LIBRARY, check, check_same_precision, run


@pytest.mark.parametrize("every", [2, 4])
@pytest.mark.parametrize("spec", LIBRARY)
def test_library(tool, spec, every):
    """Six chunks, the last of them and the last part with a tail."""
    target = "sm_80" if every == 2 else "sm_90a"
    check(tool, spec, "B=2,T=85,H=2,K=24,V=40", "--dtype=bf16",
          f"--target={target}", f"--save-every={every}", limit=2e-2)


@pytest.mark.parametrize("spec", ["dplr", "kda"])
def test_with_128_channels(tool, spec):
    """Where two warps share a chunk's channels, and most of the Gram's pairs
    are the outs', which are not computed again."""
    check(tool, spec, "B=1,T=70,H=1,K=128,V=128", "--dtype=bf16",
          "--target=sm_90a", "--save-every=3", limit=2e-2)


@pytest.mark.parametrize("mapping", ["warps=2", "vsplit=2", "warps=2,vsplit=2"])
def test_all_forms(tool, mapping):
    check(tool, "dplr", "B=1,T=70,H=2,K=32,V=64", "--dtype=bf16",
          "--target=sm_90a", "--save-every=3", f"--mapping={mapping}",
          limit=2e-2)


@pytest.mark.parametrize("dtype,limit", [("f32", 2e-4), ("f16", 4e-3)])
def test_precisions(tool, dtype, limit):
    check(tool, "kda", "B=1,T=70,H=1,K=32,V=32", f"--dtype={dtype}",
          "--target=sm_80", "--save-every=2", limit=limit)


@pytest.mark.parametrize("spec", ["dplr", "gated_delta_rule"])
def test_errors_of_the_same_precision(tool, spec):
    check_same_precision(tool, spec, "--save-every=4")


def test_gradients_are_those_of_every_state(tool, tmp_path):
    """With states in f32, saved ones are exact, and so are those between; how
    many chunks lie between changes nothing."""
    results = []
    for every in (1, 2, 64):
        out = tmp_path / f"{every}.npz"
        run(tool, "dplr", "B=2,T=150,H=2,K=32,V=32", "--dtype=f32",
            "--target=sm_80", f"--save-every={every}", f"--output={out}")
        results.append(np.load(out))
    for name in results[0]:
        for other in results[1:]:
            np.testing.assert_array_equal(results[0][name], other[name], name)


def test_what_is_saved(tool, tmp_path):
    path = tmp_path / "stats.json"
    K, V, T, every = 32, 64, 150, 4
    run(tool, "retention", f"B=1,T={T},H=2,K={K},V={V}", "--dtype=bf16",
        "--target=sm_90a", f"--save-every={every}", f"--stats={path}",
        f"--output={tmp_path / 'o.npz'}")
    forward, states, backward = json.loads(path.read_text())
    assert states["kernel"] == "delta_retention_backward_states"
    heads, chunks, parts = 2, 10, 3
    assert states["ctas"] == heads * parts
    # The out, three saved states a head, and the final one.
    assert forward["global_store_bytes"] == heads * (
        T * V * 2 + K * V * (2 * parts + 4))
    assert states["global_store_bytes"] == heads * chunks * K * V * 2


def test_no_tokens(tool):
    for tokens in (0, 1):
        run(tool, "dplr", f"B=1,T={tokens},H=2,K=32,V=32", "--dtype=bf16",
            "--target=sm_90a", "--save-every=2", "--check")
