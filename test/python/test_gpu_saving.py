# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The fused forward kernel that saves the state before every chunk.

What is saved is right, for any mapping; saving it, and reading what is saved,
costs what it should.
"""

import json
import re
import shutil

import numpy as np
import pytest

from kernels import Signature, to_bf16
from test_gpu_forward import LIBRARY, options


@pytest.mark.parametrize("sizes,more", [
    ({"K": 24, "V": 40}, ["--dtype=bf16"]),
    ({"K": 9, "V": 17}, ["--dtype=bf16"]),
    ({"K": 9, "V": 17}, ["--dtype=f32"]),
    ({"K": 64, "V": 64}, ["--dtype=bf16", "--mapping=vsplit=2,rows=16"]),
    ({"K": 32, "V": 64}, ["--dtype=bf16", "--mapping=stages=3,rows=32"]),
    ({"K": 32, "V": 64}, ["--dtype=bf16", "--mapping=stages=1,window=4"]),
    ({"K": 32, "V": 32}, ["--dtype=f16", "--precision=f16"]),
    ({"K": 32, "V": 32}, ["--dtype=bf16", "--precision=tf32"])],
    ids=lambda x: str(x))
def test_states(tool, tmp_path, sizes, more):
    """Every state is, rounded once, the final one of the tokens before it."""
    B, T, H = 2, 41, 2
    K, V = sizes["K"], sizes["V"]
    rng = np.random.default_rng(3)
    arrays = {"q": rng.standard_normal((B, T, H, K)) / 4,
              "k": rng.standard_normal((B, T, H, K)) / K ** 0.5,
              "v": rng.standard_normal((B, T, H, V)),
              "g": -0.2 * rng.random((B, T, H, K)),
              "beta": rng.random((B, T, H)),
              "initial_state": rng.standard_normal((B, H, K, V))}
    arrays = {name: x.astype(np.float32) for name, x in arrays.items()}

    done = [tool("delta-compile", "kda", "-D", f"K={K}", "-D", f"V={V}",
                 "--target=sm_90a", "--save-every=1", *more, f"--emit={stage}",
                 "-o", "-").stdout for stage in ("mapped", "ptx")]
    signature = Signature(done[0])
    facts = dict(re.findall(r"(\w+) = (\d+) : i64", re.search(
        r"delta.kernel = {.*?}", done[0])[0]))
    (tmp_path / "k.ptx").write_text(done[1])
    saved = signature.checkpoint
    assert saved["axes"] == ["V", "K"]
    count = -(-T // 16)

    args = []
    for arg in signature.inputs:
        np.save(tmp_path / f"{arg['name']}.npy", arrays[arg["name"]])
        args.append(f"{tmp_path}/{arg['name']}.npy:{arg['type']}")
    np.save(tmp_path / "s.npy", arrays["initial_state"])
    args += [f"{tmp_path}/s.npy", f"out:{B},{T},{H},{V}:"
             f"{signature.outs[0]['type']}",
             f"out:{B},{H},{count},{V},{K}:{saved['type']}",
             f"out:{B},{H},{K},{V}:f32"]
    number = len(args) - 2
    args += [f"scalar:f32:{x}" for x in
             signature.attr_values(sizes, {}).values()]
    args += [f"scalar:u64:{x}" for x in (0, B, T, H)]
    tool("delta-ptx-sim", tmp_path / "k.ptx",
         f"--grid={B * H * int(facts['v_blocks'])}",
         f"--block={facts['threads']}", f"--shared={facts['shared_bytes']}",
         *(f"--arg={arg}" for arg in args),
         f"--save={number}:{tmp_path / 'saved.npy'}")
    got = np.load(tmp_path / "saved.npy")

    plain = [option for option in more if not option.startswith("--mapping")]
    for i in range(count):
        expected = arrays["initial_state"]
        if i:
            np.savez(tmp_path / "in.npz", **{
                name: x if name == "initial_state" else x[:, :16 * i]
                for name, x in arrays.items()})
            tool("delta-run", "kda", "--input", tmp_path / "in.npz",
                 "--device=sim", "--target=sm_90a", *plain,
                 f"--output={tmp_path / 'out.npz'}")
            expected = np.load(tmp_path / "out.npz")["final_state"]
        expected = {"bf16": lambda x: to_bf16(x).astype(np.uint32) << 16,
                    "f16": lambda x: x.astype(np.float16).astype(np.float32),
                    "f32": lambda x: x}[saved["type"]](expected)
        np.testing.assert_array_equal(
            got[:, :, i].astype(np.float32).view(np.uint32),
            expected.view(np.uint32).swapaxes(-1, -2))


@pytest.mark.parametrize("spec", LIBRARY)
def test_traffic(tool, tmp_path, spec):
    """Everything is read or written once, in whole sectors."""
    B, T, H, K, V = 1, 128, 1, 64, 64
    path = tmp_path / "stats.json"
    steps = ",n=2" if spec == "gated_delta_product" else ""
    tool("delta-run", spec, f"--random=B={B},T={T},H={H},K={K},V={V}{steps}",
         "--grad", "--dtype=bf16", "--target=sm_90a", "--device=sim",
         f"--stats={path}", f"--output={tmp_path / 'gradients.npz'}")
    launches = json.loads(path.read_text())
    for launch, option, limit in zip(launches, ["--save-every=1",
                                                "--fn=backward"], [1.05, 1.3]):
        explained = tool("delta-compile", spec, *options(spec), "-D", f"K={K}",
                         "-D", f"V={V}", "--dtype=bf16", "--target=sm_90a",
                         option, "--emit=mapped", "--explain", "-o",
                         "/dev/null").stderr
        arrays = int(re.search(r"bytes a token: (\d+)", explained)[1])
        saved = float(re.search(r"bytes_per_token=(\S+)", explained)[1])
        assert saved == K * V * 2 / 16
        states = B * H * 2 * K * V * 4  # at both ends
        moved = launch["global_load_bytes"] + launch["global_store_bytes"]
        assert moved <= limit * ((arrays + saved) * B * T * H + states)
    forward = launches[0]
    assert forward["global_load_bytes"] + forward["global_store_bytes"] \
        >= 0.95 * 32 * forward["global_sectors"]


@pytest.mark.skipif(not shutil.which("ptxas"), reason="there is no ptxas")
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("spec", LIBRARY)
def test_assembled_without_spills(tool, spec, dim):
    """As many CTAs a multiprocessor as without saving, and no spills; but at 128
    one recurrence, whose plain kernel uses all registers, has a few."""
    done = tool("delta-compile", spec, *options(spec), "-D", f"K={dim}", "-D",
                f"V={dim}", "--dtype=bf16", "--target=sm_90a", "--save-every=1",
                "--emit=cubin", "--explain", "-o", "/dev/null")
    report = dict(re.findall(r"(\w+)=(\d+)", done.stderr.splitlines()[-1]))
    few = {"gated_delta_product": 40} if dim == 128 else {}
    assert int(report["spill_bytes"]) <= few.get(spec, 0)
    assert int(report["ctas_per_sm"]) >= (4 if dim == 64 else 2)
