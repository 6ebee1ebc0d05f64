# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the benchmarks assume about the compiler is true."""

import itertools
import re
import sys

import numpy as np
import pytest

from conftest import BUILD, SOURCE

sys.path.insert(0, str(SOURCE / "benchmarks" / "cpu"))

import kernel  # noqa: E402
import memory  # noqa: E402
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


@pytest.mark.parametrize("name", NAMES)
def test_gradients_called_through_their_c_interface(tool, tmp_path, name):
    arrays = recurrences.make_inputs(name, 2, 50, 3, 32, 32)
    do = np.random.default_rng(1).standard_normal(
        arrays["v"].shape, dtype=np.float32)
    compiled = kernel.Gradients(BUILD, SOURCE / "specs", name, 32, 32, tmp_path)
    forward, backward, outputs = compiled.bind(kernel.Pool(2), arrays, do)
    forward()
    backward()
    np.savez(tmp_path / "in.npz", do=do, **arrays)
    tool("delta-run", name, "--grad", "--input", tmp_path / "in.npz",
         "--output", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as wanted:
        for key in arrays:
            np.testing.assert_array_equal(outputs["d_" + key],
                                          wanted["d_" + key], key)
    count = -(-50 // compiled.every)
    assert outputs["checkpoints"].shape == (2, 3, count, 32, 32)


def test_large_arrays_may_begin_anywhere(tmp_path, monkeypatch):
    """Gradients of this size are written past the caches, where they begin with
    a cache line; where not, or where only others do not, the bits are the same."""
    arrays = recurrences.make_inputs("gla", 1, 1100, 8, 64, 64)
    do = np.ones(arrays["v"].shape, np.float32)
    compiled = kernel.Gradients(BUILD, SOURCE / "specs", "gla", 64, 64, tmp_path)
    plain = kernel.aligned
    results = []

    def shifted(shape):
        return plain((int(np.prod(shape)) + 1,))[1:].reshape(shape)

    for makers in ([plain], [shifted], [plain, shifted], [shifted, plain]):
        makers = itertools.cycle(makers)
        monkeypatch.setattr(kernel, "aligned",
                            lambda shape: next(makers)(shape))
        forward, backward, outputs = compiled.bind(kernel.Pool(2), arrays, do)
        forward()
        backward()
        results.append(outputs)
    size = sum(results[0]["d_" + key].nbytes for key in arrays)
    assert size >= 8 << 20 and results[0]["checkpoints"].nbytes >= 8 << 20
    for other in results[1:]:
        for key, value in results[0].items():
            np.testing.assert_array_equal(value, other[key], key)


def test_memory_of_gradients_does_not_grow(tmp_path):
    """Beyond inputs, gradients and saved states, which are 4 and 67 MB here."""
    grown = [memory.measure(BUILD, SOURCE / "specs", tmp_path,
                            "delta-gradients", T, 2, 64) for T in (2048, 32768)]
    assert all(growth < 4 << 20 for growth in grown)
