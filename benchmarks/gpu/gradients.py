# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Times of forward and backward on a GPU, and the gradients' errors.

    python3 benchmarks/gpu/gradients.py --build BUILD --output DIR
    (copy DIR to the GPU host)  python3 DIR/gradients.py

The first line compiles the kernels and fills a folder; the second needs PyTorch
and a GPU, neither delta nor LLVM. A training step is two launches: the forward
that saves the state of every chunk, and the backward. Errors are relative to
autograd through the token loop in float64, on a small problem. `--variant
TAG=MAPPING` (with --build) compiles the backward once more, with that
`--mapping`, or (an empty one) with the choice for a device full of heads.
`--save-every N` (with --build) saves fewer states. `--sizes B=1,T=8192,H=8` (both
times) takes other sizes. Where a backward is several kernels, each is timed alone
too. `--peers` times fla's operators too, where it is installed: forward,
and forward and backward by autograd, without graphs.
"""

import argparse
import ctypes
import dataclasses
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from gpubench.problems import TARGETS, INPUTS  # noqa: E402


def problems(options):
    """Those asked for, in the sizes asked for."""
    sizes = {name: int(size) for name, size in
             (text.split("=") for text in options.sizes.split(",") if text)}
    return [dataclasses.replace(problem, **sizes) for problem in TARGETS]


def build(options):
    options.output.mkdir(parents=True, exist_ok=True)
    shutil.copytree(HERE / "gpubench", options.output / "gpubench",
                    dirs_exist_ok=True)
    shutil.copy(__file__, options.output / "gradients.py")
    failed = 0
    variants = dict(text.split("=", 1) for text in options.variant)
    every = f"--save-every={options.save_every}"
    for problem in problems(options):
        if (options.recurrences and
                problem.recurrence not in options.recurrences.split(",")):
            continue
        assume = f"--assume=B={problem.B},H={problem.H},T={problem.T}"
        works = [("forward", "forward", [every, assume]),
                 ("backward", "backward", [every, assume])]
        works += [("backward", f"backward@{tag}",
                   [every, assume, f"--mapping={mapping}"] if mapping
                   else [every])
                  for tag, mapping in variants.items()]
        for fn, name, more in works:
            path = options.output / f"{problem.recurrence}-{name}.delta"
            done = subprocess.run(
                [options.build / "bin" / "delta-compile", problem.recurrence,
                 f"-DK={problem.K}", f"-DV={problem.V}", "--dtype=bf16",
                 f"--target={options.target}", f"--fn={fn}", "--emit=bundle",
                 *more, "-o", path], capture_output=True, text=True)
            if done.returncode:
                print(f"{problem.recurrence} {name}: {done.stderr.strip()}")
                failed += 1
    return 1 if failed else 0


class Step:
    """The two kernels of a problem."""

    def __init__(self, folder, problem, driver, backward="backward"):
        from gpubench.kernels import Kernel, read_bundle
        self.problem, self.driver = problem, driver
        self.kernels = {}
        for fn, name in (("forward", "forward"), ("backward", backward)):
            manifest, code = read_bundle(
                folder / f"{problem.recurrence}-{name}.delta")
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
        size = kernel.workspace_bytes(B, T, H)
        workspace = torch.empty(size, dtype=torch.uint8, device="cuda")
        values += [ctypes.c_uint64(x) for x in (workspace.data_ptr() if size
                                                else 0, B, T, H)]
        parameters = (ctypes.c_void_p * len(values))(
            *(ctypes.addressof(value) for value in values))

        def call():
            kernel.launch(parameters, B, T, H)
        call.keep = (values, parameters, arrays, workspace)
        call.alone = [lambda i=i: kernel.launch(parameters, B, T, H, only=i)
                      for i in range(len(kernel.launches))]
        return call

    def tokens(self):
        """Those of a segment that a CTA of the backward takes; 0: all."""
        kernel = self.kernels["backward"]
        return next(launch["tokens"] for launch in kernel.launches
                    if launch["entry"] == kernel.facts["entry"])

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
            every = 16 * int(kernel.facts["options"]["save_every"])
            for a in kernel.manifest["args"]:
                sizes = [dims[axis] for axis in a.get("axes", [])]
                lead = {"in": [B, T, H], "out": [B, T, H], "sum": [B, H],
                        "checkpoint": [B, H, -(-T // every)]}.get(a["kind"])
                if lead is None or a["name"] in arrays:
                    continue
                make = (torch.randn if a["kind"] == "in" else
                        lambda *s, **k: torch.full(s, float("nan"), **k))
                arrays[a["name"]] = make(*lead, *sizes, device="cuda").to(
                    types[a["dtype"]])
        return arrays


def errors(step, gates):
    """Relative errors of the gradients on a small problem."""
    import torch
    from gpubench.problems import make_inputs
    from gpubench.reference import token_loop
    # More than two segments, with a tail.
    small = dataclasses.replace(step.problem, B=2, H=2,
                                T=200 + 2 * step.tokens())
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


def measure_kernels(options, problem, driver, bandwidth, backward):
    """One row: the forward that saves states, and a backward."""
    import torch
    from gpubench.problems import make_inputs
    from gpubench.timing import measure as time
    step = Step(HERE, problem, driver, backward)
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
    whole = step.bind("backward", arrays, *sizes)
    parts = [time([call], options.repeat)["median_s"] for call in whole.alone
             if len(whole.alone) > 1]
    parts = (" (" + " + ".join(f"{part * 1e3:.3f}" for part in parts) + ")"
             if parts else "")
    mapping = backward.partition("@")[2]
    name = f"{problem} {mapping}" if mapping else f"{problem}"
    print(f"| {name} | {seconds['forward'] * 1e3:.3f} | "
          f"{seconds['backward'] * 1e3:.3f}{parts} | {total * 1e3:.3f} | "
          f"{(used + again) / 1e9:.2f} | "
          f"{(used + again) / bandwidth * 1e3:.3f} | "
          f"{found[worst]:.1e} ({worst[0]}, {worst[1]} gates) |", flush=True)


def measure_peer(options, problem, label, make):
    """The same by somebody else's operator and autograd."""
    import statistics
    import torch
    from gpubench.peers import Unavailable
    from gpubench.problems import make_inputs
    try:
        bind = make()
    except Unavailable as error:
        print(f"| {problem} {label} | not run: {error} |", flush=True)
        return
    inputs, _ = make_inputs(problem, "weak", "cuda", 1)
    leaves = {name: inputs[name].requires_grad_()
              for name in INPUTS[problem.recurrence]}
    call = bind(leaves, None)
    out = call()
    out = out[0] if isinstance(out, tuple) else out
    cotangent = torch.randn_like(out)

    def timed(run):
        for _ in range(3):
            run()
        times = []
        for _ in range(options.repeat):
            for leaf in leaves.values():
                leaf.grad = None
            begin = torch.cuda.Event(enable_timing=True)
            end = torch.cuda.Event(enable_timing=True)
            begin.record()
            run()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end))
        return statistics.median(times)

    def both():
        out = call()
        (out[0] if isinstance(out, tuple) else out).backward(cotangent)

    forward = timed(call)
    together = timed(both)
    print(f"| {problem} {label} | {forward:.3f} | {together - forward:.3f} | "
          f"{together:.3f} | | | |", flush=True)


def measure(options):
    import contextlib
    import torch
    from gpubench import peers
    from gpubench.driver import Driver
    from gpubench.timing import copy_bandwidth
    torch.zeros(1, device="cuda")
    driver = Driver()
    bandwidth = copy_bandwidth()
    print(f"{torch.cuda.get_device_name()}, copy {bandwidth / 1e12:.2f} TB/s; "
          "medians of CUDA graph replays\n")
    print("| problem | forward ms | backward ms | together ms | bytes, GB | "
          "floor ms | worst error |\n| --- | --: | --: | --: | --: | --: | --- |")
    chosen = [problem for problem in problems(options)
              if (HERE / f"{problem.recurrence}-backward.delta").exists()]
    for problem in chosen:
        for path in sorted(HERE.glob(f"{problem.recurrence}-backward*.delta")):
            measure_kernels(options, problem, driver, bandwidth,
                            path.stem[len(problem.recurrence) + 1:])
            torch.cuda.empty_cache()
    if not options.peers:
        return
    peers.compile_in_parallel(16)
    print("peers:", peers.versions(), flush=True)
    for problem in chosen:
        for label, make in peers.contenders(problem, "weak"):
            if options.only and options.only not in label:
                continue
            try:
                measure_peer(options, problem, label, make)
            except Exception as error:  # whatever a peer raises
                print(f"| {problem} {label} | failed: "
                      f"{type(error).__name__}: {str(error)[:120]} |", flush=True)
            with contextlib.suppress(Exception):
                torch.cuda.empty_cache()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path,
                        help="build folder of delta: compile, do not measure")
    parser.add_argument("--output", type=pathlib.Path,
                        help="folder to fill (with --build)")
    parser.add_argument("--target", default="sm_90a")
    parser.add_argument("--recurrences", default="",
                        help="comma list (with --build; default: all)")
    parser.add_argument("--variant", action="append", default=[],
                        help="TAG=MAPPING (with --build)")
    parser.add_argument("--save-every", default="1",
                        help="chunks from a saved state to the next "
                             "(with --build)")
    parser.add_argument("--sizes", default="",
                        help="other sizes than the problems': B=1,T=8192,H=8")
    parser.add_argument("--peers", action="store_true",
                        help="time fla's operators too")
    parser.add_argument("--only", default="",
                        help="peers whose label has this text")
    parser.add_argument("--repeat", type=int, default=10)
    options = parser.parse_args()
    if bool(options.build) != bool(options.output):
        parser.error("--build and --output go together")
    return build(options) if options.build else measure(options)


if __name__ == "__main__":
    sys.exit(main())
