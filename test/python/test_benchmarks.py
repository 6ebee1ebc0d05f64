# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the benchmarks assume about the compiler is true."""

import re
import sys

import numpy as np
import pytest

from conftest import BUILD, SOURCE

sys.path.insert(0, str(SOURCE / "benchmarks" / "cpu"))

import kernel  # noqa: E402
import recurrences  # noqa: E402

NAMES = sorted(recurrences.CLASSES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("K", [64, 128])
def test_useful_flops_are_those_of_the_chunk_program(tool, name, K):
    done = tool("delta-compile", name, "-D", f"K={K}", "-D", f"V={K}",
                "--chunk=16", "--emit=chunk", "--explain", "-o", "/dev/null")
    counted = int(re.search(r"flops_per_token=(\d+)", done.stderr)[1])
    assert counted == round(recurrences.useful_flops(name, 1, 1, 1, K, K))


@pytest.mark.parametrize("name", sorted(
    spec.stem for spec in (SOURCE / "specs").glob("*.delta")))
def test_declared_order_is_the_calling_convention(tool, name):
    spec = (SOURCE / "specs" / f"{name}.delta").read_text()
    sizes = [arg for dim in kernel.declared_dims(spec)
             for arg in ("-D", f"{dim}={64 if dim in 'KV' else 2}")]
    header = tool("delta-compile", name, *sizes, "--emit=header", "-o",
                  "-").stdout
    inputs, attrs = kernel.declared_order(spec)
    assert re.findall(rf"delta_{name}_in_(\w+) = ", header) == [
        *inputs, "initial_state"]
    assert re.findall(rf"delta_{name}_attr_(\w+) = ", header) == attrs


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_what_the_spec_declares(tool, name, tmp_path):
    arrays = recurrences.make_inputs(name, 1, 20, 2, 32, 16)
    np.savez(tmp_path / "in.npz", **arrays)
    tool("delta-run", name, "--input", tmp_path / "in.npz", "--check")


def test_kernel_called_through_its_c_interface(tmp_path):
    arrays = recurrences.make_inputs("gated_delta_rule", 2, 50, 3, 32, 128)
    compiled = kernel.Kernel(BUILD, SOURCE / "specs", "gated_delta_rule", 32,
                             128, tmp_path)
    assert compiled.panels > 1
    results = []
    for threads, vblocks in ((1, 1), (3, compiled.panels)):
        run, o, final = compiled.bind(kernel.Pool(threads), arrays,
                                      vblocks=vblocks)
        run()
        results.append((o, final))
    for one, other in zip(*results):
        assert np.isfinite(one).all()
        assert np.array_equal(one, other)
