# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The forward of two kernels, for few heads: the free slice, then the state
slice, with a workspace between them, run by the PTX simulator.

What one kernel computes, two compute to the bit; each reads and writes what it
needs once.
"""

import json
import re
import shutil

import numpy as np
import pytest

from kernels import Signature
from test_gpu_forward import (GPU, LIBRARY, assemble, assert_same, check_arrays,
                              check_causal, check_positions, draw_extreme,
                              options, run)

TWO = [*GPU, "--mapping=kernels=2"]


def outputs(tool, tmp_path, spec, sizes, *more):
    path = tmp_path / "out.npz"
    stats = tmp_path / "stats.json"
    run(tool, spec, sizes, *more, f"--output={path}", f"--stats={stats}")
    with np.load(path) as data:
        return dict(data), json.loads(stats.read_text())


def compare(tool, tmp_path, spec, sizes, mapping, *more, kernels=2):
    one, launches = outputs(tool, tmp_path, spec, sizes, *more,
                            "--mapping=kernels=1,ksplit=1")
    assert len(launches) == 1
    two, launches = outputs(tool, tmp_path, spec, sizes, *more, "--check",
                            f"--mapping=kernels=2,{mapping}".rstrip(","))
    assert len(launches) == kernels
    assert one.keys() == two.keys() >= {"o", "final_state"}
    assert_same(one, two)


@pytest.mark.parametrize("spec", LIBRARY)
@pytest.mark.parametrize("sizes, mapping, more", [
    ("B=2,T=75,H=2,K=32,V=48", "", ["--dtype=bf16", "--target=sm_90a"]),
    ("B=1,T=41,H=2,K=60,V=100", "window=2,free=2",
     ["--dtype=f32", "--target=sm_80"])], ids=["bf16", "f32"])
def test_library(tool, tmp_path, spec, sizes, mapping, more):
    """Right, no finding, and the bits of one kernel."""
    compare(tool, tmp_path, spec, sizes, mapping, *more)


@pytest.mark.parametrize("sizes, mapping", [
    ("T=1,K=16,V=16", "free=4"), ("T=16,K=16,V=16", "free=1"),
    ("T=17,K=64,V=64", "window=8,free=8"), ("T=129,K=64,V=64", "window=4,free=8"),
    ("T=33,K=128,V=128", "vsplit=8,rows=16,window=4"),
    ("T=33,K=128,V=128", "vsplit=2,rows=32,window=1"),
    ("T=40,K=96,V=60", "vsplit=3,rows=32,window=2"), ("T=20,K=9,V=17", ""),
    ("T=64,K=8,V=8", "window=2"), ("T=17,K=256,V=256", "vsplit=16")])
@pytest.mark.parametrize("spec", ["dplr", "gated_delta_rule", "gla"])
def test_sizes(tool, tmp_path, spec, sizes, mapping):
    compare(tool, tmp_path, spec, f"B=1,H=2,{sizes}", mapping, "--dtype=bf16",
            "--target=sm_90a")


@pytest.mark.parametrize("spec", ["dplr", "gated_delta_rule"])
def test_no_tokens(tool, tmp_path, spec):
    """The first kernel has no CTA then, and is not launched."""
    compare(tool, tmp_path, spec, "B=2,T=0,H=2,K=16,V=16", "", "--dtype=bf16",
            "--target=sm_90a", kernels=1)


@pytest.mark.parametrize("more", [
    ["--dtype=f32", "--precision=tf32"], ["--dtype=f16"],
    ["--dtype=f16", "--precision=f16"], ["--dtype=bf16", "--precision=bf16x3"]],
    ids=lambda more: " ".join(more))
@pytest.mark.parametrize("spec", ["dplr", "gated_delta_product"])
def test_precisions(tool, tmp_path, spec, more):
    compare(tool, tmp_path, spec, "B=1,T=35,H=1,K=32,V=32", "", *more,
            "--target=sm_80")


@pytest.mark.parametrize("spec", ["dplr", "gated_delta_product", "mamba2"])
def test_batch_and_head_positions_change_no_bit(tool, tmp_path, spec):
    check_positions(tool, tmp_path, spec, TWO)


@pytest.mark.parametrize("spec", ["dplr", "gated_delta_product", "rwkv6"])
def test_causal_to_the_bit(tool, tmp_path, spec):
    check_causal(tool, tmp_path, spec, TWO)


@pytest.mark.parametrize("spec", LIBRARY)
def test_no_decay_makes_nan(tool, tmp_path, spec):
    check_arrays(tool, tmp_path, spec, draw_extreme(spec),
                 "--mapping=kernels=2")


@pytest.mark.parametrize("spec", ["kda", "gated_delta_rule", "rwkv7"])
def test_gradients_of_a_forward_in_two(tool, tmp_path, spec):
    """The second kernel saves the states; a backward that reads them is right."""
    arrays = []
    for number, mapping in enumerate(["kernels=1,ksplit=1", "kernels=2,free=2"]):
        paths = [tmp_path / f"{name}{number}.bundle" for name in ("f", "b")]
        common = [spec, "-D", "K=32", "-D", "V=32", "--dtype=bf16",
                  "--target=sm_90a", "--emit=bundle"]
        tool("delta-compile", *common, "--save-every=1", f"--mapping={mapping}",
             "-o", paths[0])
        tool("delta-compile", *common, "--fn=backward", "-o", paths[1])
        out = tmp_path / f"g{number}.npz"
        tool("delta-run", *paths, "--grad", "--random=B=1,T=41,H=2",
             "--device=sim", "--output", out)
        with np.load(out) as data:
            arrays.append(dict(data))
    assert len(arrays[0]) > 4
    assert_same(*arrays)


def loaded_bytes(mapped, sizes):
    """For each kernel the bytes of the inputs that it copies."""
    signature = Signature(mapped)
    result = []
    for text in mapped.split("gpu.func ")[1:]:
        wanted = {int(x) for x in
                  re.findall(r"async_load %arg(\d+)\[", text)}
        result.append(sum(
            np.prod(signature.shape(signature.inputs[i], sizes)) *
            {"bf16": 2, "f32": 4}[signature.inputs[i]["type"]] for i in wanted))
    return result


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("spec", LIBRARY)
def test_counters(tool, tmp_path, spec, dim):
    """Each kernel reads its inputs once, the workspace is written and read once,
    outs are written once; sectors, bank conflicts and matrix products are as one
    kernel's must be."""
    B, T, H = 1, 128, 2
    common = ["--dtype=bf16", "--target=sm_90a", "--mapping=kernels=2,vsplit=1"]
    done = tool("delta-compile", spec, *options(spec), "-D", f"K={dim}", "-D",
                f"V={dim}", *common, "--emit=mapped", "--explain", "-o", "-")
    record = int(re.search(r"workspace_bytes_per_chunk=(\d+)", done.stderr)[1])
    flops = int(re.search(r"mma_flops_per_chunk=(\d+)", done.stderr)[1])
    _, launches = outputs(tool, tmp_path, spec,
                          f"B={B},T={T},H={H},K={dim},V={dim}", *common)
    first, second = launches
    assert first["kernel"].endswith("_free")
    assert second["kernel"].endswith("_state")
    inputs = loaded_bytes(done.stdout,
                          {"B": B, "T": T, "H": H, "K": dim, "V": dim, "n": 2})
    chunks = B * H * -(-T // 16)
    out, state = 2 * B * T * H * dim, 4 * B * H * dim * dim
    # Records are whole lines of 128 bytes, which they need not fill.
    assert record * chunks - 127 * chunks <= first["global_store_bytes"]
    assert first["global_store_bytes"] <= record * chunks
    # Numbers of a head are read by each warp, a copy a lane.
    numbers = 128 * chunks * sum(
        arg["kind"] == "param" and not arg["axes"]
        for arg in Signature(done.stdout).inputs)
    assert first["global_load_bytes"] <= 1.05 * inputs[0] + numbers
    assert (second["global_load_bytes"]
            <= 1.05 * (inputs[1] + first["global_store_bytes"] + state))
    assert second["global_store_bytes"] <= 1.05 * (out + state)
    for launch in launches:
        moved = launch["global_load_bytes"] + launch["global_store_bytes"]
        assert moved >= 0.95 * 32 * launch["global_sectors"]
        assert (launch["shared_bank_conflicts"]
                <= 0.03 * launch["shared_wavefronts"])
    assert (first["mma_flops"] + second["mma_flops"]
            <= 1.15 * flops * chunks)


@pytest.mark.skipif(not shutil.which("ptxas"), reason="there is no ptxas")
@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("spec", LIBRARY)
def test_assembled_without_spills(tool, spec, dim, target):
    reports = assemble(tool, spec, dim, target, "--assume=B=1,H=8,T=32768",
                       "--mapping=kernels=2", kernels=2)
    assert [report["spill_bytes"] for report in reports] == ["0", "0"]
    assert all(int(report["ctas_per_sm"]) > 0 for report in reports)
