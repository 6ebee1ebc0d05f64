# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The recurrent form on the GPU (--fn=decode) in the simulator.

The kernels compute in f32, so with f32 arrays they are held to f32's limit
against the float64 reference; the simulator's checkers must find nothing (they
end a run with status 2).
"""

import os

import numpy as np
import pytest

from specgen import generate
from test_decode import (PROGRAMS, SPECS, assert_same_bits, kda_arrays,
                         make_check, with_hard_decays)
from test_decode import sizes as cpu_sizes

BEGIN, END = map(int, os.environ.get("DELTA_RANDOM_SPECS", "0:12").split(":"))
SIM = ["--fn=decode", "--device=sim"]


@pytest.fixture
def check(tool):
    """`check(spec, sizes, *options)`: decode agrees with the reference."""
    return make_check(tool, "--device=sim")


@pytest.fixture
def decode(tool, tmp_path):
    """`decode(spec, arrays, *options)`: what the kernel makes of them."""

    def run(spec, arrays, *options):
        np.savez(tmp_path / "in.npz", **arrays)
        tool("delta-run", spec, *SIM, "--input", tmp_path / "in.npz",
             "--output", tmp_path / "out.npz", *options)
        return dict(np.load(tmp_path / "out.npz"))

    return run


def sizes(spec, n=2, **kwargs):
    return cpu_sizes(spec, n, **(dict(B=1, T=5, H=2) | kwargs))


@pytest.mark.parametrize("spec", SPECS)
def test_every_spec(check, spec):
    check(spec, sizes(spec, K=64, V=64), "--dtype=f32")
    check(spec, sizes(spec, K=64, V=64), "--dtype=bf16", "--target=sm_80")


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_types_and_targets(check, dtype, target):
    for spec in ["dplr", "mamba2"]:
        check(spec, sizes(spec), f"--dtype={dtype}", f"--target={target}")
    check("kda", sizes("kda"), f"--dtype={dtype}", f"--dtype=S={dtype}",
          "--tolerance=2e-2")


@pytest.mark.parametrize("K, V", [
    (1, 1), (3, 5), (8, 8), (60, 60), (96, 100), (100, 96), (128, 128),
    (256, 60), (8, 256), (256, 256), (1024, 12)])
def test_any_size(check, K, V):
    for spec in ["kda", "rwkv6"]:
        check(spec, sizes(spec, B=1, T=3, H=1, K=K, V=V), "--dtype=f32")


@pytest.mark.parametrize("T", [0, 1, 2, 9])
def test_any_number_of_tokens(check, T):
    check("gdn2", sizes("gdn2", T=T), "--dtype=f32")
    check("rwkv6", sizes("rwkv6", T=T, V=160), "--dtype=f32")


def test_nothing_to_do(check):
    check("kda", sizes("kda", B=0))
    check("kda", sizes("kda", H=0))


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(check, tmp_path, name):
    spec = tmp_path / f"{name}.delta"
    spec.write_text(f"recurrence {name} {{ {PROGRAMS[name]} }}")
    extra = {"n": 2} if name == "micro" else {}
    for K, V in [(24, 40), (7, 3)]:
        check(spec, dict(B=1, T=6, H=2, K=K, V=V) | extra, "--dtype=f32")


@pytest.mark.parametrize("seed", range(BEGIN, END))
def test_random_specs(tool, tmp_path, seed):
    spec = generate(seed)
    file = tmp_path / f"random_{seed}.delta"
    file.write_text(spec.text())
    np.savez(tmp_path / "in.npz", **spec.draw(1, 6, 2))
    done = tool("delta-run", file, *SIM, "--check", "--dtype=f32",
                "--tolerance=1e-4", "--input", tmp_path / "in.npz")
    assert " ok\n" in done.stdout and "FAIL" not in done.stdout


def test_same_bits_at_every_place(decode):
    """Over batch, head and repeated runs."""
    x = kda_arrays(1, 5, 1, 24, 40)
    many = {name: np.tile(array, [2, 3] + [1] * (array.ndim - 2)
                          if name == "initial_state" else
                          [2, 1, 3] + [1] * (array.ndim - 3))
            for name, array in x.items()}
    want = decode("kda", x)
    got = decode("kda", many)
    for b in range(2):
        for h in range(3):
            assert_same_bits({"o": got["o"][b:b + 1, :, h:h + 1],
                              "final_state": got["final_state"][b:b + 1,
                                                                h:h + 1]},
                             want)
    assert_same_bits(decode("kda", many), got)


def test_an_absent_state_is_zero(decode):
    for T in [0, 3]:
        x = kda_arrays(1, T, 2, 24, 40)
        x["initial_state"][:] = 0
        want = decode("kda", x)
        del x["initial_state"]
        assert_same_bits(decode("kda", x), want)


def test_hard_decays(decode):
    """Nothing overflows whatever the log-decays, and -inf forgets exactly."""
    x = with_hard_decays(kda_arrays(1, 12, 2, 24, 40))
    got = decode("kda", x)
    assert all(np.isfinite(array).all() for array in got.values())
    x["initial_state"] *= 100
    for name in "qkvg":
        x[name][:, :7] *= 2
    again = decode("kda", x)
    np.testing.assert_array_equal(got["o"][:, 7:], again["o"][:, 7:])
    np.testing.assert_array_equal(got["final_state"], again["final_state"])


def test_split_of_the_tokens(decode):
    """Decoding in two calls is decoding in one."""
    x = kda_arrays(1, 6, 2, 24, 40)
    want = decode("kda", x)
    state, outs = x.pop("initial_state"), []
    for part in [slice(0, 1), slice(1, 5), slice(5, 6)]:
        piece = {name: array[:, part] for name, array in x.items()}
        got = decode("kda", piece | {"initial_state": state})
        state = got["final_state"]
        outs.append(got["o"])
    assert_same_bits({"o": np.concatenate(outs, 1), "final_state": state}, want)
