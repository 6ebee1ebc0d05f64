# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Backward kernels whose CTAs share a head's tokens, run by the PTX simulator.

A kernel before (or two) computes the state's cotangent behind every segment of
chunks, each CTA walks one segment, and a kernel behind adds what is summed over
tokens: no atomics, so the same bits in every run and wherever in the batch a
head stands.
"""

import json

import numpy as np
import pytest

from specgen import generate
from test_gpu_backward import (LIBRARY, SUMS, check, check_places,
                               check_same_precision, errors, run)
from test_gpu_gradient_errors import add_cotangents, run_npz

# The cotangents by one kernel, and by two.
CHAINS = {"one": [], "two": ["--assume=B=1,H=4"]}


@pytest.mark.parametrize("spec", LIBRARY)
@pytest.mark.parametrize("chain", CHAINS)
def test_library(tool, spec, chain):
    """Three segments: five chunks, the last one with a tail, are 1 + 2 + 2."""
    target = "sm_80" if spec in ("gla", "mamba2", "dplr") else "sm_90a"
    check(tool, spec, "B=1,T=69,H=2,K=64,V=64", "--dtype=bf16",
          f"--target={target}", "--mapping=segment=2", *CHAINS[chain],
          limit=2e-2)


@pytest.mark.parametrize("spec", LIBRARY)
def test_odd_sizes(tool, spec):
    check(tool, spec, "B=2,T=53,H=2,K=24,V=40", "--dtype=bf16",
          "--target=sm_90a", "--mapping=segment=2", *CHAINS["two"], limit=2e-2)


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 32, 33, 48, 64, 65, 112])
@pytest.mark.parametrize("chain", CHAINS)
def test_lengths(tool, tokens, chain):
    """Segments of two chunks: one, or several, whole or not."""
    check(tool, "dplr", f"B=2,T={tokens},H=1,K=32,V=32", "--dtype=bf16",
          "--target=sm_90a", "--mapping=segment=2", *CHAINS[chain], limit=2e-2)


@pytest.mark.parametrize("sizes", ["K=64,V=256", "K=256,V=64", "K=128,V=128"])
@pytest.mark.parametrize("spec", ["dplr", "kda", "gated_delta_rule", "rwkv6"])
def test_large_states(tool, spec, sizes):
    """CTAs share columns, of the state's cotangent or of all."""
    check(tool, spec, f"B=1,T=53,H=2,{sizes}", "--dtype=bf16",
          "--target=sm_90a", "--mapping=segment=2", *CHAINS["two"], limit=2e-2)


@pytest.mark.parametrize("spec,size,heads,chain", [
    ("dplr", 128, 0, "ksplit=2 window=2 stages=2 kernels=1"),
    ("gated_delta_rule", 128, 96, "ksplit=2 window=4 stages=2 kernels=1"),
    ("dplr", 64, 96, "ksplit=1 window=4 stages=3 kernels=1")])
def test_other_chains(tool, spec, size, heads, chain):
    """The cotangents' kernel with other mappings, through several windows."""
    more = ["--dtype=bf16", "--target=sm_90a", "--mapping=segment=3",
            *([f"--assume=B=1,H={heads}"] if heads else [])]
    done = tool("delta-compile", spec, "-D", f"K={size}", "-D", f"V={size}",
                "--fn=backward", "--emit=mapped", "--explain", "-o",
                "/dev/null", *more)
    assert chain in done.stderr
    check(tool, spec, f"B=1,T=215,H=1,K={size},V={size}", *more, limit=2e-2)


@pytest.mark.parametrize("more", ["vsplit=2", "stages=1,ctas=1"])
@pytest.mark.parametrize("every", [1, 2])
def test_with_other_choices(tool, more, every):
    """Columns are shared as well, states are computed again."""
    for spec in ("dplr", "mamba2"):
        check(tool, spec, "B=1,T=101,H=2,K=32,V=64", "--dtype=bf16",
              "--target=sm_90a", f"--mapping=segment=3,{more}",
              f"--save-every={every}", limit=2e-2)


@pytest.mark.parametrize("dtype,limit", [("f32", 2e-4), ("f16", 4e-3)])
@pytest.mark.parametrize("chain", CHAINS)
def test_precisions(tool, dtype, limit, chain):
    check(tool, "dplr", "B=1,T=70,H=1,K=32,V=32", f"--dtype={dtype}",
          "--target=sm_80", "--mapping=segment=2", *CHAINS[chain], limit=limit)


@pytest.mark.parametrize("seed", [1, 3, 5, 6, 7, 9, 13, 14, 17, 22])
def test_random_specs(tool, tmp_path, seed):
    """In f32: operands are split for three bf16 products."""
    spec = generate(seed)
    spec.dims = {dim: min(size, 17) for dim, size in spec.dims.items()}
    file = tmp_path / f"random_{seed}.delta"
    file.write_text(spec.text())
    arrays = spec.draw(1, 45, 2)
    arrays = add_cotangents(arrays, spec.evaluate(arrays, 1, 45, 2))
    run_npz(tool, tmp_path, file, arrays, "--grad", "--device=sim",
            "--target=sm_90a", "--dtype=f32", "--check", "--tolerance=1e-3",
            f"--mapping=segment={1 + seed % 2}")


def gradients(tool, tmp_path, name, spec, sizes, *more):
    out = tmp_path / f"{name}.npz"
    run(tool, spec, sizes, "--dtype=bf16", "--target=sm_90a", f"--output={out}",
        *more)
    return dict(np.load(out))


@pytest.mark.parametrize("spec", ["dplr", "gated_delta_product", "mamba2",
                                  "gla"])
def test_gradients_are_those_of_one_segment(tool, tmp_path, spec):
    """One segment: the same arithmetic, to the bit. Several: the cotangent goes
    through other products, which are rounded as the operands are."""
    sizes = "B=2,T=100,H=2,K=32,V=64"
    whole = gradients(tool, tmp_path, "whole", spec, sizes)
    one = gradients(tool, tmp_path, "one", spec, sizes, "--mapping=segment=7")
    several = gradients(tool, tmp_path, "several", spec, sizes,
                        "--mapping=segment=2")
    assert whole.keys() == one.keys() == several.keys()
    for name, x in whole.items():
        np.testing.assert_array_equal(x, one[name], err_msg=name)
        x, y = x.astype(np.float64), several[name].astype(np.float64)
        error = np.linalg.norm(x - y) / np.linalg.norm(x)
        assert error <= (5e-2 if name in SUMS else 6e-3), (name, error)


@pytest.mark.parametrize("spec", ["dplr", "gated_delta_rule"])
def test_errors_of_the_same_precision(tool, spec):
    check_same_precision(tool, spec, "--mapping=segment=2")


@pytest.mark.parametrize("more", ["", ",vsplit=2"])
def test_params_and_attrs(tool, tmp_path, more):
    """Sums over tokens: of a number, along channels, along columns (which CTAs
    that share them write side by side)."""
    spec = tmp_path / "params.delta"
    spec.write_text("""recurrence params {
  in q: K, k: K, v: V
  in g: K in [-inf, 0]
  param u: K
  param p: V
  param s: scalar
  attr scale = 0.5
  state S: K x V
  S = diag(exp(g)) * S + (u .* k) * (p .* v)^T
  out o = scale * S^T * q + s * (p .* v)
}
""")
    done = tool("delta-run", spec, "--random=B=2,T=69,H=2,K=24,V=40", "--grad",
                "--device=sim", "--dtype=bf16", "--target=sm_90a", "--check",
                f"--mapping=segment=2{more}")
    assert {"d_u", "d_p", "d_s", "d_scale"} <= errors(done).keys()


def save_inputs(tool, tmp_path, tokens):
    """Inputs of two equal batches of two equal heads, all cotangents given."""
    rng = np.random.default_rng(4)
    shape = (1, tokens, 1, 32)
    arrays = {name: rng.standard_normal(shape, dtype=np.float32)
              for name in ("q", "k", "v", "a", "b", "do")}
    for name in ("k", "a", "b"):
        arrays[name] /= 6
    arrays["gk"] = -np.abs(rng.standard_normal(shape, dtype=np.float32)) / 8
    arrays = {name: np.tile(x, (2, 1, 2, 1)) for name, x in arrays.items()}
    for name in ("initial_state", "dht"):
        arrays[name] = np.tile(
            rng.standard_normal((1, 1, 32, 32), dtype=np.float32), (2, 2, 1, 1))
    path = tmp_path / "inputs.npz"
    np.savez(path, **arrays)
    return path, arrays


@pytest.mark.parametrize("chain", CHAINS)
def test_bits_do_not_depend_on_place_or_run(tool, tmp_path, chain):
    path, _ = save_inputs(tool, tmp_path, 70)
    check_places(tool, tmp_path, "dplr", path, "--mapping=segment=2",
                 *CHAINS[chain])


@pytest.mark.parametrize("chain", CHAINS)
def test_nothing(tool, tmp_path, chain):
    """Without tokens the initial state's gradient is the final one's cotangent,
    and no sum has an addend."""
    path, arrays = save_inputs(tool, tmp_path, 0)
    out = tmp_path / "o.npz"
    tool("delta-run", "dplr", f"--input={path}", f"--output={out}", "--grad",
         "--dtype=bf16", "--device=sim", "--target=sm_90a",
         "--mapping=segment=2", *CHAINS[chain])
    found = np.load(out)
    np.testing.assert_array_equal(found["d_initial_state"], arrays["dht"])
    assert found["d_scale"] == 0
    run(tool, "dplr", "B=0,T=5,H=2,K=32,V=32", "--dtype=bf16",
        "--target=sm_90a", "--mapping=segment=2", "--check")


def test_kernels_and_traffic(tool, tmp_path):
    """The chain reads what it needs, of all segments but the sequence's first;
    states behind segments are written once and read once."""
    path = tmp_path / "stats.json"
    B, T, H, K, V, segment = 1, 160, 2, 64, 64, 2
    run(tool, "kda", f"B={B},T={T},H={H},K={K},V={V}", "--dtype=bf16",
        "--target=sm_90a", f"--mapping=segment={segment}", f"--stats={path}",
        f"--output={tmp_path / 'o.npz'}")
    _, chain, main, adding = json.loads(path.read_text())
    names = [launch["kernel"] for launch in (chain, main, adding)]
    assert names == ["delta_kda_backward_cotangents", "delta_kda_backward",
                     "delta_kda_backward_sum"]
    segments, states = T // 16 // segment, 4 * K * V * B * H
    assert main["ctas"] == B * H * segments
    assert chain["global_store_bytes"] == segments * states
    # q, k, do in bf16, gates and beta in f32; a window more may be under way.
    token = (2 * (2 * K + V) + 4 * (K + 1)) * B * H
    assert chain["global_load_bytes"] <= T * token + states
    assert chain["global_load_bytes"] >= (T - 16 * segment) * token
    # A part of d_scale for each segment.
    assert adding["global_load_bytes"] == 4 * B * H * segments


@pytest.mark.parametrize("gates", ["forward", "together"])
def test_bundle(tool, tmp_path, gates):
    """A workspace and grids that grow with T, without the compiler."""
    sizes = ["-D", "K=32", "-D", "V=32", "--dtype=bf16", "--target=sm_90a"]
    path = tmp_path / "x.bundle"
    if gates == "together":
        bundles = [path]
        tool("delta-compile", "dplr", *sizes, "--fn=forward,backward",
             "--mapping=segment=2", "--emit=bundle", "-o", path)
    else:
        bundles = [tmp_path / "f.bundle", tmp_path / "b.bundle"]
        tool("delta-compile", "dplr", *sizes, "--fn=forward", "--save-every=1",
             "--emit=bundle", "-o", bundles[0])
        tool("delta-compile", "dplr", *sizes, "--fn=backward",
             "--mapping=segment=2", "--emit=bundle", "-o", bundles[1])
    random = "--random=B=1,T=70,H=2"
    found, expected = tmp_path / "found.npz", tmp_path / "expected.npz"
    tool("delta-run", *bundles, random, "--grad", "--device=sim",
         f"--output={found}")
    run(tool, "dplr", "B=1,T=70,H=2,K=32,V=32", "--dtype=bf16",
        "--target=sm_90a", "--mapping=segment=2", f"--output={expected}")
    expected = np.load(expected)
    for name, x in np.load(found).items():
        np.testing.assert_array_equal(x, expected[name], err_msg=name)
