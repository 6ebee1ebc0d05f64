# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Times of forward and backward on a GPU, and the gradients' errors.

    python3 benchmarks/gpu/gradients.py --build BUILD --output DIR
    (copy DIR to the GPU host)  python3 DIR/gradients.py

The first line compiles the kernels and fills a folder; the second needs PyTorch
and a GPU, neither delta nor LLVM. A training step is two launches: the forward
that saves the state of every chunk, and the backward. Errors are relative to
autograd through the token loop in float64, on a small problem.
"""

import argparse
import ctypes
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from gpubench.problems import TARGETS, INPUTS  # noqa: E402


def build(options):
    options.output.mkdir(parents=True, exist_ok=True)
    shutil.copytree(HERE / "gpubench", options.output / "gpubench",
                    dirs_exist_ok=True)
    shutil.copy(__file__, options.output / "gradients.py")
    failed = 0
    for problem in TARGETS:
        for fn in ("forward", "backward"):
            more = ["--save-every=1"] if fn == "forward" else []
            path = options.output / f"{problem.recurrence}-{fn}.delta"
            done = subprocess.run(
                [options.build / "bin" / "delta-compile", problem.recurrence,
                 f"-DK={problem.K}", f"-DV={problem.V}", "--dtype=bf16",
                 f"--target={options.target}", f"--fn={fn}", "--emit=bundle",
                 f"--assume=B={problem.B},H={problem.H}",
                 *more, "-o", path], capture_output=True, text=True)
            if done.returncode:
                print(f"{problem.recurrence} {fn}: {done.stderr.strip()}")
                failed += 1
    return 1 if failed else 0


class Step:
    """The two kernels of a problem."""

    def __init__(self, folder, problem, driver):
        from gpubench.kernels import Kernel, read_bundle
        self.problem, self.driver = problem, driver
        self.kernels = {}
        for fn in ("forward", "backward"):
            manifest, code = read_bundle(
                folder / f"{problem.recurrence}-{fn}.delta")
            gpu = [(facts, image) for facts, image
                   in zip(manifest["kernels"], code) if "gpu" in facts]
            kernel = Kernel(manifest, *gpu[0])
            kernel.load(driver)
            self.kernels[fn] = kernel

    def bind(self, fn, arrays, B, T, H):
        """A launch; `arrays` has every array by name."""
        import torch
        kernel = self.kernels[fn]
        order = [*kernel.arguments("in", "param")]
        saved = kernel.arguments("checkpoint")
        order += saved if fn == "backward" else []
        order += [None, *kernel.arguments("out"), *kernel.arguments("sum")]
        order += saved if fn == "forward" else []
        order += [None]
        values = [ctypes.c_uint64(arrays[a["name"]].data_ptr() if a else 0)
                  for a in order]
        values += [ctypes.c_float(self.scale())
                   for _ in kernel.arguments("attr")]
        values += [ctypes.c_uint64(x) for x in (0, B, T, H)]
        parameters = (ctypes.c_void_p * len(values))(
            *(ctypes.addressof(value) for value in values))

        def call():
            self.driver.launch(kernel.function, kernel.grid(B, H),
                               kernel.gpu["threads"],
                               kernel.gpu["shared_bytes"],
                               torch.cuda.current_stream().cuda_stream,
                               parameters)
        call.keep = (values, parameters, arrays)
        return call

    def scale(self):
        from gpubench.problems import default_scale
        return default_scale(self.problem.recurrence, self.problem.K)

    def arrays(self, inputs, B, T, H):
        """All arrays: inputs, a cotangent, outs, gradients, saved states."""
        import torch
        types = {"bf16": torch.bfloat16, "f32": torch.float32}
        arrays = dict(inputs)
        for kernel in self.kernels.values():
            dims = kernel.manifest["dims"]
            for a in kernel.manifest["args"]:
                sizes = [dims[axis] for axis in a.get("axes", [])]
                lead = {"in": [B, T, H], "out": [B, T, H], "sum": [B, H],
                        "checkpoint": [B, H, -(-T // 16)]}.get(a["kind"])
                if lead is None or a["name"] in arrays:
                    continue
                make = (torch.randn if a["kind"] == "in" else
                        lambda *s, **k: torch.full(s, float("nan"), **k))
                arrays[a["name"]] = make(*lead, *sizes, device="cuda").to(
                    types[a["dtype"]])
        return arrays


def errors(step, gates):
    """Relative errors of the gradients on a small problem."""
    import dataclasses
    import torch
    from gpubench.problems import make_inputs
    from gpubench.reference import token_loop
    small = dataclasses.replace(step.problem, B=2, T=200, H=2)
    inputs, _ = make_inputs(small, gates, "cuda", 3)
    inputs = {name: inputs[name] for name in INPUTS[small.recurrence]}
    arrays = step.arrays(inputs, small.B, small.T, small.H)
    for fn in ("forward", "backward"):
        step.bind(fn, arrays, small.B, small.T, small.H)()
    torch.cuda.synchronize()
    leaves = {name: x.double().requires_grad_() for name, x in inputs.items()}
    out, _ = token_loop(small.recurrence, leaves)
    out.backward(arrays["do"].double())
    out = out.detach()
    result = {"o": (arrays["o"].double() - out).norm() / out.norm()}
    for name, x in leaves.items():
        result["d_" + name] = ((arrays["d_" + name].double() - x.grad).norm()
                               / x.grad.norm())
    return {name: x.item() for name, x in result.items()}


def measure(options):
    import torch
    from gpubench.driver import Driver
    from gpubench.problems import make_inputs
    from gpubench.timing import copy_bandwidth, measure as time
    torch.zeros(1, device="cuda")
    driver = Driver()
    bandwidth = copy_bandwidth()
    print(f"{torch.cuda.get_device_name()}, copy {bandwidth / 1e12:.2f} TB/s; "
          "medians of CUDA graph replays\n")
    print("| problem | forward ms | backward ms | together ms | bytes, GB | "
          "floor ms | worst error |\n| --- | --: | --: | --: | --: | --: | --- |")
    for problem in TARGETS:
        if not (HERE / f"{problem.recurrence}-backward.delta").exists():
            continue
        step = Step(HERE, problem, driver)
        found = {}
        for gates in ("weak", "strong"):
            for name, error in errors(step, gates).items():
                found[name, gates] = error
        worst = max(found, key=lambda key: found[key] if found[key] == found[key]
                    else float("inf"))
        inputs, _ = make_inputs(problem, "weak", "cuda", 1)
        inputs = {name: inputs[name] for name in INPUTS[problem.recurrence]}
        sizes = problem.B, problem.T, problem.H
        arrays = step.arrays(inputs, *sizes)
        used = sum(x.numel() * x.element_size() for x in arrays.values())
        # Inputs and saved states are read and written by both.
        again = sum(x.numel() * x.element_size() for name, x in arrays.items()
                    if name in inputs or "checkpoint" in name)
        seconds = {fn: time([step.bind(fn, arrays, *sizes)],
                            options.repeat)["median_s"]
                   for fn in ("forward", "backward")}
        total = sum(seconds.values())
        print(f"| {problem} | {seconds['forward'] * 1e3:.3f} | "
              f"{seconds['backward'] * 1e3:.3f} | {total * 1e3:.3f} | "
              f"{(used + again) / 1e9:.2f} | "
              f"{(used + again) / bandwidth * 1e3:.3f} | "
              f"{found[worst]:.1e} ({worst[0]}, {worst[1]} gates) |")
        del arrays, step
        torch.cuda.empty_cache()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path,
                        help="build folder of delta: compile, do not measure")
    parser.add_argument("--output", type=pathlib.Path,
                        help="folder to fill (with --build)")
    parser.add_argument("--target", default="sm_90a")
    parser.add_argument("--repeat", type=int, default=10)
    options = parser.parse_args()
    if bool(options.build) != bool(options.output):
        parser.error("--build and --output go together")
    return build(options) if options.build else measure(options)


if __name__ == "__main__":
    sys.exit(main())
