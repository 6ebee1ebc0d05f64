# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The fused forward kernel for GPUs, run by the PTX simulator.

delta-run --check compares with the float64 meaning of the spec and fails on any
finding of the simulator's checkers; the counters are the speed tests that need
no GPU.
"""

import json
import re
import shutil

import numpy as np
import pytest

import numpy_recurrences as recurrences
from kernels import run_npz

LIBRARY = sorted(recurrences.LIBRARY)


def options(spec):
    return ["-D", "n=2"] if spec == "gated_delta_product" else []


def run(tool, spec, sizes, *more, expect=0):
    steps = ",n=2" if spec == "gated_delta_product" else ""
    return tool("delta-run", spec, f"--random={sizes}{steps}", "--device=sim",
                *more, expect=expect)


def counters(tool, tmp_path, spec, sizes, *more):
    path = tmp_path / "stats.json"
    run(tool, spec, sizes, *more, f"--stats={path}",
        f"--output={tmp_path / 'out.npz'}")
    (launch,) = json.loads(path.read_text())
    return launch


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("spec", LIBRARY)
def test_library(tool, spec, target):
    """Tails, two heads, an initial state: right, and no finding."""
    run(tool, spec, "B=1,T=41,H=2,K=64,V=64", "--dtype=bf16",
        f"--target={target}", "--check")


def errors(done):
    return {name: float(error) for name, error in
            re.findall(r"^(\w+) rel_err=(\S+)", done.stdout, re.M)}


@pytest.mark.parametrize("sizes, target", [
    ("B=1,T=128,H=2,K=64,V=64", "sm_90a"), ("B=1,T=41,H=1,K=20,V=12", "sm_80")])
@pytest.mark.parametrize("spec", LIBRARY)
def test_errors_of_the_same_precision(tool, spec, sizes, target):
    """At most three times the error of an emulation of the chunk program with
    bf16 operands, f32 elsewhere: an evaluator that shares no code with the
    lowering or the simulator."""
    command = [tool, spec, sizes, "--dtype=bf16", f"--target={target}", "--check"]
    kernel = errors(run(*command))
    emulation = errors(run(*command, "--emulate"))
    assert kernel.keys() == emulation.keys() >= {"o", "final_state"}
    for name in kernel:
        assert 1e-8 < emulation[name] < 1e-2
        assert kernel[name] <= 3 * emulation[name]


@pytest.mark.parametrize("spec", ["kda", "dplr", "gla", "rwkv6"])
def test_emulation_scales_as_kernels_do(tool, spec):
    """Decays scale inputs in the operands' type in both: without that, errors
    would be up to 8 % apart."""
    command = [tool, spec, "B=1,T=200,H=2,K=64,V=64", "--dtype=bf16",
               "--target=sm_90a", "--check"]
    kernel, emulation = errors(run(*command)), errors(run(*command, "--emulate"))
    for name in kernel:
        assert abs(kernel[name] - emulation[name]) < 0.01 * emulation[name]


@pytest.mark.parametrize("sizes", [
    "T=20,K=8,V=8", "T=20,K=60,V=100", "T=20,K=96,V=60", "T=20,K=9,V=17",
    "T=33,K=128,V=128", "T=17,K=256,V=256", "T=0,K=16,V=16", "T=1,K=16,V=16"])
@pytest.mark.parametrize("spec", ["dplr", "gated_delta_rule", "gla"])
def test_sizes(tool, spec, sizes):
    run(tool, spec, f"B=1,H=1,{sizes}", "--dtype=bf16", "--target=sm_90a",
        "--check")


@pytest.mark.parametrize("more", [
    ["--dtype=f32"], ["--dtype=f32", "--precision=tf32"], ["--dtype=f16"],
    ["--dtype=f16", "--precision=f16"], ["--dtype=f32", "--precision=bf16"],
    ["--dtype=bf16", "--precision=bf16x3"]],
    ids=lambda more: " ".join(more))
@pytest.mark.parametrize("spec", ["dplr", "gated_delta_product"])
def test_precisions(tool, spec, more):
    """The limit of --check follows the operands' precision."""
    run(tool, spec, "B=1,T=35,H=1,K=32,V=32", *more, "--target=sm_80",
        "--check")


def test_f32_is_refused(tool):
    done = run(tool, "dplr", "T=8,K=16,V=16", "--precision=f32",
               "--target=sm_90a", expect=1)
    assert ("--precision=f32 is not available for --fn=forward on target "
            "'sm_90a', whose matrix products take tf32 operands") in done.stderr


@pytest.mark.parametrize("mapping", [
    "warps=4,rows=16,window=4,stages=1", "warps=4,rows=16,window=1,stages=2",
    "warps=2,rows=32,window=1,stages=1", "warps=1,rows=32,vsplit=2",
    "warps=4,rows=16,window=3,stages=3", "warps=2,rows=32,window=2,stages=3"])
def test_mappings(tool, tmp_path, mapping):
    """Right, and the same bits as with another mapping; but for ksplit=2, which
    adds in another order."""
    sizes = "B=1,T=70,H=1,K=64,V=64"
    found = []
    for more in ("ksplit=1", f"{mapping},ksplit=1"):
        path = tmp_path / f"out{len(found)}.npz"
        run(tool, "dplr", sizes, "--dtype=bf16", "--target=sm_90a",
            f"--mapping={more}", "--check", f"--output={path}")
        with np.load(path) as data:
            found.append({name: data[name] for name in data})
    for name in found[0]:
        assert (found[0][name] == found[1][name]).all()


@pytest.mark.parametrize("sizes", ["T=70,K=64,V=64", "T=33,K=60,V=64",
                                   "T=20,K=33,V=64", "T=100,K=96,V=128"])
@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("spec", ["kda", "dplr", "gla", "delta_rule", "rwkv6"])
def test_shared_channels(tool, spec, stages, sizes):
    """Two warps a chunk's channels, also an odd number of slices: right, and no
    finding."""
    warps = 4 if "V=64" in sizes else 8
    run(tool, spec, f"B=1,H=2,{sizes}", "--dtype=bf16", "--target=sm_90a",
        f"--mapping=warps={warps},ksplit=2,stages={stages}", "--check")


def test_channels_that_cannot_be_shared(tool):
    done = run(tool, "kda", "T=20,K=16,V=64", "--dtype=bf16",
               "--target=sm_90a", "--mapping=ksplit=2", expect=1)
    assert "with the pinned choices" in done.stderr


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("spec", LIBRARY)
def test_counters(tool, tmp_path, spec, dim):
    """Traffic, sectors, bank conflicts and matrix products are what the
    algebra needs."""
    B, T, H = 1, 128, 2
    launch = counters(tool, tmp_path, spec,
                      f"B={B},T={T},H={H},K={dim},V={dim}", "--dtype=bf16",
                      "--target=sm_90a")
    explained = tool("delta-compile", spec, *options(spec), "-D", f"K={dim}",
                     "-D", f"V={dim}", "--dtype=bf16", "--target=sm_90a",
                     "--emit=mapped", "--explain", "-o", "/dev/null").stderr
    # The states at either end are not tokens: they are read or written once.
    per_token = int(re.search(r"bytes a token: (\d+)", explained).group(1))
    moved = launch["global_load_bytes"] + launch["global_store_bytes"]
    assert moved <= 1.05 * (per_token * B * T * H + 2 * B * H * dim * dim * 4)
    assert moved >= 0.95 * 32 * launch["global_sectors"]
    assert (launch["shared_bank_conflicts"]
            <= 0.03 * launch["shared_wavefronts"])
    flops = int(re.search(r"mma_flops_per_chunk=(\d+)", explained).group(1))
    assert launch["mma_flops"] <= 1.15 * flops * B * H * -(-T // 16)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("steps", [1, 3, 4])
def test_micro_steps(tool, tmp_path, steps, precision):
    """Systems of any number of unknowns are inverted without conflicts."""
    path = tmp_path / "stats.json"
    tool("delta-run", "gated_delta_product",
         f"--random=B=1,T=40,H=1,K=64,V=64,n={steps}", "--dtype=bf16",
         f"--precision={precision}", "--target=sm_90a", "--device=sim",
         "--check", f"--stats={path}")
    (launch,) = json.loads(path.read_text())
    assert (launch["shared_bank_conflicts"]
            <= 0.03 * launch["shared_wavefronts"])


GPU = ["--device=sim", "--target=sm_90a", "--dtype=bf16"]


def params(spec):
    return [arg.name for arg in recurrences.LIBRARY[spec].args if arg.param]


def assert_same(one, other):
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def check_positions(tool, tmp_path, spec, flags):
    """Batch and head positions, and repeated runs, change no bit."""
    x = recurrences.draw(spec, B=1, T=37, H=1, K=32, V=32)
    B, H = 2, 3
    many = {}
    for name, array in x.items():
        repeats = [1] * array.ndim
        if name in params(spec):
            repeats[0] = H
        else:
            family = spec == "gated_delta_product" and name in ("k", "v", "beta")
            repeats[0] = B
            repeats[1 if name == "initial_state" else 3 if family else 2] = H
        many[name] = np.tile(array, repeats)
    one = run_npz(tool, tmp_path, spec, x, *flags)
    whole = run_npz(tool, tmp_path, spec, many, *flags)
    for b in range(B):
        for h in range(H):
            assert_same(one, {
                "o": whole["o"][b:b + 1, :, h:h + 1],
                "final_state": whole["final_state"][b:b + 1, h:h + 1]})
    assert_same(whole, run_npz(tool, tmp_path, spec, many, *flags))


@pytest.mark.parametrize("spec", LIBRARY)
def test_batch_and_head_positions_change_no_bit(tool, tmp_path, spec):
    check_positions(tool, tmp_path, spec, GPU)


def check_causal(tool, tmp_path, spec, flags):
    """Outs do not depend on later tokens, to the bit."""
    x = recurrences.draw(spec, B=1, T=37, H=2, K=32, V=32)
    later = recurrences.draw(spec, B=1, T=37, H=2, K=32, V=32, seed=1)
    y = {name: array if name in params(spec) or name == "initial_state" else
         np.concatenate([array[:, :21], 7 * later[name][:, 21:]], axis=1)
         for name, array in x.items()}
    before = run_npz(tool, tmp_path, spec, x, *flags)
    after = run_npz(tool, tmp_path, spec, y, *flags)
    np.testing.assert_array_equal(before["o"][:, :21], after["o"][:, :21])
    assert (before["o"][:, 21:] != after["o"][:, 21:]).any()


@pytest.mark.parametrize("spec", LIBRARY)
def test_causal_to_the_bit(tool, tmp_path, spec):
    check_causal(tool, tmp_path, spec, GPU)


def check_arrays(tool, tmp_path, spec, x, *more):
    """--check fails on what is not finite, and on an error above 1e-2."""
    np.savez(tmp_path / "x.npz", **x)
    tool("delta-run", spec, "--input", tmp_path / "x.npz", *GPU, "--check",
         *more)


def draw_extreme(spec):
    """Log-decays from 0 to -inf, anywhere."""
    x = recurrences.draw(spec, B=1, T=37, H=2, K=32, V=32, decay="extreme")
    if spec == "retention":
        x["g_gamma"][:] = -np.inf, -1e4
    if spec == "mamba2":  # -exp(A_log) dt
        x["A_log"][:] = 80, -80
    return x


@pytest.mark.parametrize("spec", LIBRARY)
def test_no_decay_makes_nan(tool, tmp_path, spec):
    check_arrays(tool, tmp_path, spec, draw_extreme(spec))


@pytest.mark.parametrize("decay", [-np.inf, -60.0, -1e4, -1e-8])
@pytest.mark.parametrize("spec", ["dplr", "gated_delta_rule"])
def test_the_same_decay_everywhere(tool, tmp_path, spec, decay):
    x = recurrences.draw(spec, B=1, T=37, H=2, K=32, V=32)
    x["gk" if spec == "dplr" else "g"][:, ::3] = decay
    check_arrays(tool, tmp_path, spec, x)


def assemble(tool, spec, dim, target, *more, kernels=1):
    """What the assembler says of each kernel, by name."""
    done = tool("delta-compile", spec, *options(spec), "-D", f"K={dim}", "-D",
                f"V={dim}", "--dtype=bf16", f"--target={target}", *more,
                "--emit=cubin", "--explain", "-o", "/dev/null")
    return [dict(re.findall(r"(\w+)=(\d+)", line)) for line in
            done.stderr.splitlines()[-kernels:]]


@pytest.mark.skipif(not shutil.which("ptxas"), reason="there is no ptxas")
@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("spec", LIBRARY)
def test_assembled_without_spills(tool, spec, dim, target):
    """No spills; four CTAs a multiprocessor at K = V = 64, two at 128."""
    [report] = assemble(tool, spec, dim, target)
    assert report["spill_bytes"] == "0"
    assert int(report["ctas_per_sm"]) >= (4 if dim == 64 else 2)
