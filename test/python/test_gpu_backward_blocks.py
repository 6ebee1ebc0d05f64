# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Backward kernels whose CTAs share a head's columns, run by the PTX simulator.

Each CTA leaves its part of a gradient without an index along the columns in the
workspace, and a second kernel adds the parts: no atomics, so the same bits in
every run and wherever in the batch a head stands.
"""

import json

import numpy as np
import pytest

from test_gpu_backward import (LIBRARY, SUMS, check, check_places, errors, run,
                               save_random)

WIDE = {"gdn2", "kda", "gla", "rwkv6", "dplr", "rwkv7"}


@pytest.mark.parametrize("spec", LIBRARY)
@pytest.mark.parametrize("warps", [0, 2], ids=["slices", "tiles"])
def test_library(tool, spec, warps):
    """Tails, blocks that are no multiple of 16, two batches and heads."""
    more = f",warps={warps}" if warps else ""
    target = "sm_80" if spec in ("gla", "kda") else "sm_90a"
    check(tool, spec, "B=2,T=37,H=2,K=24,V=40", "--dtype=bf16",
          f"--target={target}", f"--mapping=vsplit=2{more}", limit=2e-2)


@pytest.mark.parametrize("sizes", ["K=64,V=256", "K=256,V=64", "K=200,V=144"])
@pytest.mark.parametrize("spec", ["dplr", "kda", "gated_delta_rule", "rwkv6"])
def test_more_than_slices_have_at_once(tool, spec, sizes):
    check(tool, spec, f"B=1,T=20,H=2,{sizes}", "--dtype=bf16",
          "--target=sm_90a", limit=2e-2)


@pytest.mark.parametrize("spec", LIBRARY)
def test_all_sizes_fit(tool, spec):
    """On sm_80 too, but for the two with four operands and a decay per channel
    and 256 channels."""
    steps = ["-D", "n=2"] if spec == "gated_delta_product" else []
    for target in ("sm_80", "sm_90a"):
        for K, V in ((256, 256), (128, 256), (256, 128), (192, 136)):
            refused = target == "sm_80" and K == 256 and spec in ("dplr",
                                                                  "rwkv7")
            done = tool("delta-compile", spec, "-D", f"K={K}", "-D", f"V={V}",
                        *steps, "--dtype=bf16", f"--target={target}",
                        "--fn=backward", "--emit=mapped", "--explain", "-o",
                        "/dev/null", expect=int(refused))
            assert ("form=sliced" in done.stderr) != refused
            assert ("bytes of shared memory a CTA, and there are 166912"
                    in done.stderr) == refused


@pytest.mark.parametrize("dtype,limit", [("f32", 2e-4), ("f16", 4e-3)])
def test_precisions(tool, dtype, limit):
    check(tool, "dplr", "B=1,T=35,H=1,K=32,V=32", f"--dtype={dtype}",
          "--target=sm_80", "--mapping=vsplit=2", limit=limit)


@pytest.mark.parametrize("spec", ["dplr", "gated_delta_product", "mamba2"])
def test_errors_of_the_same_precision(tool, spec):
    """Parts in f32 that are rounded once cost no accuracy."""
    args = ("B=1,T=41,H=2,K=32,V=64", "--dtype=bf16", "--target=sm_90a",
            "--check", "--tolerance=1e9")
    emulation = errors(tool("delta-run", spec, "--random=" + args[0] + (
        ",n=2" if spec == "gated_delta_product" else ""), "--grad",
        "--emulate", *args[1:]))
    kernel = errors(run(tool, spec, *args, "--mapping=vsplit=4"))
    sums = SUMS | {"d_A_log", "d_D", "d_dt_bias"}
    for name, (relative, _) in kernel.items():
        limit = 5e-2 if name in sums else 3 * emulation[name][0]
        assert relative <= limit, name


@pytest.mark.parametrize("spec", ["dplr", "mamba2"])
def test_bits_do_not_depend_on_place_or_run(tool, tmp_path, spec):
    rng = np.random.default_rng(2)
    if spec == "dplr":
        arrays = dict(np.load(save_random(tool, tmp_path, spec)))
    else:
        arrays = {name: rng.standard_normal((1, 40, 2, 32), dtype=np.float32)
                  for name in ("x", "B", "C", "do")}
        arrays["dt"] = rng.standard_normal((1, 40, 2), dtype=np.float32)
        arrays |= {name: np.ones(2, np.float32)
                   for name in ("A_log", "D", "dt_bias")}
    heads = {name: x for name, x in arrays.items() if x.ndim > 1}
    # The same head everywhere.
    same = {name: np.repeat(x[..., :1, :] if x.ndim == 4 and name not in
                            ("dht", "initial_state") else x[:, :1]
                            if x.ndim == 4 else x[..., :1], 2,
                            axis=1 if name in ("dht", "initial_state") else 2)
            for name, x in heads.items()}
    same = {name: np.repeat(x, 2, axis=0) for name, x in same.items()}
    path = tmp_path / "same.npz"
    np.savez(path, **(arrays | same))
    check_places(tool, tmp_path, spec, path, "--mapping=vsplit=2")


def test_second_kernel_and_workspace(tool, tmp_path):
    """The parts are written once and read once."""
    path = tmp_path / "stats.json"
    B, T, H, K, V = 1, 64, 2, 64, 64
    run(tool, "kda", f"B={B},T={T},H={H},K={K},V={V}", "--dtype=bf16",
        "--target=sm_90a", "--mapping=vsplit=2", f"--stats={path}",
        f"--output={tmp_path / 'o.npz'}")
    _, first, second = json.loads(path.read_text())
    assert first["kernel"] == "delta_kda_backward"
    assert second["kernel"] == "delta_kda_backward_sum"
    parts = 2 * 4 * B * H * (T * (3 * K + 1) + 1)
    assert second["global_load_bytes"] == parts
    rounded = B * H * (T * ((2 * K) * 2 + (K + 1) * 4) + 4)
    assert second["global_store_bytes"] == rounded
    own = B * H * (T * V * 2 + K * V * 4)
    assert first["global_store_bytes"] == parts + own


def test_nothing(tool):
    """No tokens, no heads."""
    for sizes in ("B=1,T=0,H=2", "B=0,T=5,H=2"):
        run(tool, "dplr", f"{sizes},K=32,V=32", "--dtype=bf16",
            "--target=sm_90a", "--mapping=vsplit=2", "--check")


@pytest.mark.parametrize("more", ["", ",warps=2"], ids=["slices", "tiles"])
def test_params(tool, tmp_path, more):
    """Params with an index along the columns are written by their own CTA."""
    spec = tmp_path / "params.delta"
    spec.write_text("""recurrence params {
  in q: K, k: K, v: V
  in g: K in [-inf, 0]
  param u: K
  param p: V
  param s: scalar
  state S: K x V
  S = diag(exp(g)) * S + (u .* k) * (p .* v)^T
  out o = S^T * q + s * (p .* v)
}
""")
    done = tool("delta-run", spec, "--random=B=2,T=37,H=2,K=24,V=40", "--grad",
                "--device=sim", "--dtype=bf16", "--target=sm_90a", "--check",
                f"--mapping=vsplit=2{more}")
    assert {"d_u", "d_p", "d_s"} <= errors(done).keys()


@pytest.mark.parametrize("spec,more", [
    ("dplr", []), ("gated_delta_product", ["-D", "n=3"])])
def test_no_barrier_where_not_all_warps_come(tool, tmp_path, spec, more):
    """A mapping whose arrays share places so that it needs one is passed over."""
    done = tool("delta-compile", spec, "-D", "K=128", "-D", "V=128", *more,
                "--dtype=f16", "--target=sm_90a", "--fn=backward",
                "--emit=mapped", "--explain", "-o", tmp_path / "kernel.mlir")
    assert "mapping form=sliced" in done.stderr
