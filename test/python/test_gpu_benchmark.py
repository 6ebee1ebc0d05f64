# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The GPU benchmark, as far as it goes without a GPU."""

import ctypes
import json
import subprocess
import sys

import numpy as np
import pytest

from conftest import SOURCE
from numpy_recurrences import LIBRARY

sys.path.insert(0, str(SOURCE / "benchmarks" / "gpu"))

import bench  # noqa: E402
import build  # noqa: E402
from gpubench import kernels, problems, report  # noqa: E402

NAMES = sorted(problems.INPUTS)
MAPPED = """gpu.func @delta_x(%arg0: memref<?xbf16>) kernel attributes {
  delta.kernel = {min_ctas = 4 : i64, name = "delta_x", shared_bytes = 512 : i64,
  threads = 64 : i64, v_blocks = 2 : i64}} {"""


class Tensor:
    """What packing asks of a tensor."""

    def __init__(self, address, dtype, *shape):
        self.address, self.dtype, self.shape = address, dtype, shape

    def data_ptr(self):
        return self.address

    def is_contiguous(self):
        return True


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_those_of_the_spec(tool, name, tmp_path):
    path = tmp_path / "x.bundle"
    tool("delta-compile", name, "-D", "K=32", "-D", "V=16", "--dtype=bf16",
         "--emit=bundle", "-o", path)
    manifest, codes = kernels.read_bundle(path)
    assert list(codes[0]) == ["so"]
    ours = build.manifest_from_ir(name, "sm_90a", "forward", 32, 16, MAPPED)
    assert ours["dims"] == manifest["dims"]

    def arguments(manifest, kind):
        return [(argument["name"], argument.get("dtype"), argument.get("axes"))
                for argument in manifest["args"] if argument["kind"] == kind]

    for kind in ("in", "param", "attr", "out", "state"):
        assert arguments(ours, kind) == arguments(manifest, kind)


@pytest.mark.parametrize("name", NAMES)
def test_promised_gates_compile(tool, name, tmp_path):
    bounded = build.bounded_spec(name, -5.0)
    assert (bounded is None) == (problems.gate_name(name) is None)
    if bounded:
        (tmp_path / "x.delta").write_text(bounded)
        tool("delta-compile", tmp_path / "x.delta", "--emit=bundle",
             "--dtype=bf16", "-D", "K=32", "-D", "V=16", "-o",
             tmp_path / "x.bundle")
        manifest, _ = kernels.read_bundle(tmp_path / "x.bundle")
        kernel = kernels.Kernel(manifest, {**manifest["kernels"][0],
                                           "gpu": None}, {})
        assert kernel.gate_bound() == -5
        assert kernel.label() == "delta, gates >= -5"


def test_a_damaged_bundle_is_refused(tool, tmp_path):
    path = tmp_path / "x.bundle"
    tool("delta-compile", "gla", "-D", "K=8", "-D", "V=8", "--emit=bundle",
         "-o", path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:100] + b"x" + whole[101:],
                    whole[:-1] + bytes([whole[-1] ^ 1]), b"\x7fELF"):
        path.write_bytes(damaged)
        with pytest.raises(kernels.KernelError):
            kernels.read_bundle(path)


def make_kernel(name="kda", K=64, V=64, tag=""):
    manifest = build.manifest_from_ir(name, "sm_90a", "forward", K, V, MAPPED)
    return kernels.Kernel(manifest, manifest["kernels"][0], {"cubin": b""}, tag)


def make_tensors(kernel, B=2, T=5, H=3):
    types = {"bf16": "torch.bfloat16", "f32": "torch.float32"}
    return {argument["name"]: Tensor(0x1000 * (i + 1), types[argument["dtype"]],
                                     B, T, H)
            for i, argument in enumerate(kernel.arguments("in"))}


def test_arguments_are_packed_as_the_kernel_takes_them():
    kernel = make_kernel()
    inputs = make_tensors(kernel)
    values = kernel.pack(inputs, Tensor(0x10000, "torch.float32"),
                         {"o": Tensor(0x20000, "torch.bfloat16")}, None, {})
    assert [type(value) for value in values] == (
        8 * [ctypes.c_uint64] + [ctypes.c_float] + 4 * [ctypes.c_uint64])
    assert [value.value for value in values] == [
        0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x10000, 0x20000, 0, 0.125, 0,
        2, 5, 3]
    assert kernel.pack(inputs, None, {"o": Tensor(0, "torch.bfloat16")}, None,
                       {"scale": 2.0})[8].value == 2
    assert kernel.grids(2, 5, 3) == [12]
    assert kernel.workspace_bytes(2, 5, 3) == 0


def test_functions_of_two_kernels_share_a_workspace():
    mapped = """gpu.module @x attributes {delta.workspace = [
      {bytes = 64 : i64, dims = ["B", "H"]},
      {bytes = 256 : i64, dims = ["B", "H", "T"], tokens = 16 : i64}]} {
      delta.kernel = {min_ctas = 1 : i64, name = "delta_x_free",
        shared_bytes = 512 : i64, threads = 64 : i64, tokens = 32 : i64,
        v_blocks = 1 : i64}
      delta.kernel = {min_ctas = 1 : i64, name = "delta_x_state",
        shared_bytes = 256 : i64, threads = 128 : i64, v_blocks = 4 : i64}"""
    manifest = build.manifest_from_ir("kda", "sm_90a", "forward", 64, 64, mapped)
    kernel = kernels.Kernel(manifest, manifest["kernels"][0], {"cubin": b""})
    assert [x["entry"] for x in kernel.launches] == ["delta_x_free",
                                                     "delta_x_state"]
    assert kernel.grids(2, 33, 3) == [12, 24]
    assert kernel.grids(2, 0, 3) == [0, 24]
    assert kernel.workspace_bytes(2, 33, 3) == 6 * 64 + 6 * 3 * 256
    # The first interface: one kernel, and a workspace for each CTA.
    old = {"fn": "forward", "target": "sm_80", "entry": "delta_x", "gpu": {
        "threads": 32, "shared_bytes": 0, "v_blocks": 2, "workspace_bytes": 16}}
    kernel = kernels.Kernel(manifest, old, {"cubin": b""})
    assert kernel.grids(2, 33, 3) == [12]
    assert kernel.workspace_bytes(2, 33, 3) == 12 * 16


def test_unfit_tensors_are_refused():
    kernel = make_kernel()
    out = {"o": Tensor(0, "torch.bfloat16")}
    for wrong in (Tensor(8, "torch.bfloat16", 2, 5, 3),
                  Tensor(0, "torch.float32", 2, 5, 3)):
        with pytest.raises(kernels.KernelError):
            kernel.pack({**make_tensors(kernel), "k": wrong}, None, out, None,
                        {})


def test_which_devices_run_a_kernel():
    kernel = make_kernel()
    assert kernel.runs_on(90) and not kernel.runs_on(100)
    kernel.target = "sm_80"
    assert kernel.runs_on(80) and kernel.runs_on(90)


@pytest.mark.parametrize("bundles", [False, True])
def test_building_without_bundles_leaves_cubins(tmp_path, bundles, capsys):
    # A stand-in for the compiler: it knows one recurrence.
    compiler = tmp_path / "bin" / "delta-compile"
    compiler.parent.mkdir()
    (tmp_path / "mapped").write_text(MAPPED)
    compiler.write_text(f"""#!/bin/sh
case "$*" in *kda*) ;; *) echo "x: error: no such thing" >&2; exit 1 ;; esac
for word; do last="$word"; done
case "$*" in
  *--emit=bundle*) {'echo bundle >"$last"' if bundles else 'exit 1'} ;;
  *--emit=cubin*) echo "cubin $1" | sed 's|/.*/||' >"$last" ;;
  *--emit=mapped*) cat {tmp_path}/mapped >"$last" ;;
esac
""")
    compiler.chmod(0o755)
    assert build.main(["--build", str(tmp_path), "--groups", "target"]) == 0
    assert "3 of 12 kernels" in capsys.readouterr().out
    folder = tmp_path / "bench-gpu"
    assert (folder / "bench.py").exists()
    assert (folder / "gpubench" / "kernels.py").exists()
    found, unusable = kernels.find_kernels(folder / "kernels")
    assert "dplr.K64-V64.forward: x: error: no such thing" in unusable
    if bundles:
        assert not found
        assert any("not a bundle" in reason for reason in unusable)
        return
    # Both promises make the same code here.
    assert sorted(kernel.label() for kernel in found) == [
        "delta", "delta, gates >= -5"]
    assert found[0].code == {"cubin": b"cubin kda\n"}
    for gates, count in (("weak", 2), ("strong", 2)):
        assert count == len(list(bench.own_contenders(
            problems.in_group("target")[2], gates, found, 90, None)))


@pytest.mark.parametrize("name", NAMES)
def test_reference_is_the_published_recurrence(name):
    torch = pytest.importorskip("torch")
    from gpubench import reference

    problem = problems.Problem(name, 2, 6, 3, 8, 4, "decode")
    for gates in problems.GATE_BOUNDS:
        inputs, state = problems.make_inputs(problem, gates, "cpu", seed=3)
        if problems.gate_name(name):
            gate = inputs[problems.gate_name(name)]
            assert problems.GATE_BOUNDS[gates] <= gate.min() <= gate.max() <= 0
        out, final = reference.token_loop(name, inputs, state)
        arrays = {key: value.double().numpy() for key, value in inputs.items()}
        S = state.double().numpy()
        for t in range(problem.T):
            S, o = LIBRARY[name].step(
                S, **{key: value[:, t] for key, value in arrays.items()},
                scale=problems.default_scale(name, problem.K))
            np.testing.assert_allclose(out[:, t].numpy(), o, atol=1e-12)
        np.testing.assert_allclose(final.numpy(), S, atol=1e-12)
        assert reference.relative_error(out.bfloat16(), out) < 1e-2
        assert reference.relative_error(out * float("nan"), out) is None


def test_bytes_of_a_problem():
    # Five bf16 vectors and an f32 one in, a bf16 one out.
    problem = problems.Problem("dplr", 1, 10, 2, 64, 64)
    assert problem.bytes() == 20 * 64 * (5 * 2 + 4 + 2)
    problem = problems.Problem("delta_rule", 3, 1, 2, 64, 32, "decode")
    assert problem.bytes() == 6 * (2 * (64 + 64 + 32 + 32) + 4 + 8 * 64 * 32)


def test_report():
    case = {"problem": "kda forward", "gates": "weak", "bytes": 4_000_000,
            "floor_s": 1e-3, "goal_ms": 1.5, "rows": [
                {"who": "fla", "median_s": 4e-3, "error": 3e-3},
                {"who": "absent", "note": "not installed"},
                {"who": "delta", "median_s": 2e-3, "error": None}]}
    record = {"machine": {"device": "GPU", "multiprocessors": 2, "cuda": "13",
                          "l2_bytes": 1 << 20, "driver": "1.2"},
              "packages": {"torch": "2"}, "commit": "commit abc",
              "copy_bytes_per_s": 4e12, "cases": [case],
              "unusable": ["x: no room"]}
    text = report.markdown(json.loads(json.dumps(record)))
    lines = text.splitlines()
    assert "4.0 MB; floor 1.000 ms; goal 1.5 ms." in lines
    assert "| delta | 2.000 | 50% | 1.00 | not finite |  |" in lines
    assert "| fla | 4.000 | 25% | 2.00 | 3.0e-03 |  |" in lines
    assert "| absent |  |  |  |  | not installed |" in lines
    assert "- x: no room" in lines
    assert lines.index("| delta | 2.000 | 50% | 1.00 | not finite |  |") < \
        lines.index("| fla | 4.000 | 25% | 2.00 | 3.0e-03 |  |")


def test_without_a_gpu_the_exit_status_says_so(capsys):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert bench.main([]) == 3
    assert "PyTorch sees no GPU" in capsys.readouterr().err


def test_few_heads_are_compiled(tmp_path):
    """One kernel beside two, for a shape with few heads."""
    from conftest import BUILD
    folder = tmp_path / "few"
    done = subprocess.run(
        [sys.executable, SOURCE / "benchmarks" / "gpu" / "few_heads.py",
         "--build", BUILD, "--output", folder, "--recurrences=mamba2",
         "--shapes=4"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    launches = {}
    for path in folder.glob("*.delta"):
        manifest, codes = kernels.read_bundle(path)
        launches[path.stem.split(".")[2]] = len(kernels.launches_of(
            manifest["kernels"][0]))
        assert "ptx" in codes[0] and path.with_suffix(".txt").exists()
    assert launches == {"one": 1, "two": 2, "auto": 2}
    assert (folder / "gpubench" / "driver.py").exists()
