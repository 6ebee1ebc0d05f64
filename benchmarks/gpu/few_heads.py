# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Times of forwards with few heads and long sequences: one kernel beside two.

    python3 benchmarks/gpu/few_heads.py --build BUILD --output DIR
    (copy DIR to the GPU host)  python3 DIR/few_heads.py

The first line compiles the kernels and fills a folder; the second needs PyTorch
and a GPU, neither delta nor LLVM. Every recurrence is compiled with the mapping
that the compiler chooses for so many heads, and with each pinned one; `--variant
TAG=MAPPING` (with --build) takes the place of these. Outs are compared to the bit
with those of the first variant, which with the same precision they are in (but
for ksplit=2): their errors against float64 are in bench.py's tables. The kernels
of one call are timed one by one, too.
"""

import argparse
import ctypes
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

RECURRENCES = ("dplr", "kda", "gated_delta_rule", "mamba2")
# B, H, T, K = V.
SHAPES = [(1, 8, 32768, 128), (1, 32, 8192, 128), (1, 64, 8192, 128),
          (1, 8, 2048, 128), (1, 16, 32768, 64), (1, 64, 8192, 64)]
VARIANTS = {"one": "kernels=1,ksplit=1", "two": "kernels=2", "auto": ""}


def build(options):
    options.output.mkdir(parents=True, exist_ok=True)
    shutil.copytree(HERE / "gpubench", options.output / "gpubench",
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(__file__, options.output / "few_heads.py")
    variants = dict(text.split("=", 1) for text in options.variant) or VARIANTS
    failed = 0
    for name in options.recurrences.split(","):
        for number, (B, H, T, dim) in enumerate(SHAPES):
            if options.shapes and str(number) not in options.shapes.split(","):
                continue
            for tag, mapping in variants.items():
                path = options.output / f"{name}.{number}.{tag}.delta"
                done = subprocess.run(
                    [options.build / "bin" / "delta-compile", name,
                     f"-DK={dim}", f"-DV={dim}", "--dtype=bf16",
                     f"--target={options.target}", "--emit=bundle",
                     f"--assume=B={B},H={H},T={T}", "--explain",
                     *([f"--mapping={mapping}"] if mapping else []),
                     "-o", path], capture_output=True, text=True)
                if done.returncode:
                    print(f"{path.name}: {done.stderr.strip()[-300:]}")
                    failed += 1
                    continue
                chosen = [line for line in done.stderr.splitlines()
                          if line.startswith("mapping ")][0]
                path.with_suffix(".txt").write_text(chosen + "\n")
    return 1 if failed else 0


def make_inputs(kernel, B, T, H):
    """Random inputs by name, in which states stay bounded: keys of unit length,
    decays near 1."""
    import torch
    torch.manual_seed(1)
    dims = kernel.manifest["dims"]
    inputs = {}
    for arg in kernel.arguments("in", "param"):
        shape = [dims[axis] for axis in arg.get("axes", [])]
        lead = [B, T, H] if arg["kind"] == "in" else [H]
        x = torch.randn(*lead, *shape, device="cuda")
        if arg.get("range", [None, None])[1] == 0:
            x = torch.nn.functional.logsigmoid(x) / 16
        elif arg["name"] == "b":
            x = -torch.rand(*lead, 1, device="cuda") * inputs["a"].float()
        elif arg["name"] in ("k", "a", "B"):
            x = torch.nn.functional.normalize(x, dim=-1)
        elif not shape:
            x = torch.sigmoid(x)
        inputs[arg["name"]] = x.to(torch.bfloat16 if arg["dtype"] == "bf16"
                                   else torch.float32)
    return inputs


def measure(options):
    import torch
    from gpubench.driver import Driver
    from gpubench.kernels import Kernel, read_bundle
    from gpubench.timing import measure as time
    torch.zeros(1, device="cuda")
    driver = Driver()
    print(f"{torch.cuda.get_device_name()}; medians of CUDA graph replays, "
          "B H T K=V\n")
    print("| recurrence | shape | variant | ms | kernels alone, ms | workspace, "
          "MB | outs | mapping |\n| --- | --- | --- | --: | --- | --: | --- | "
          "--- |")
    first = {}
    for path in sorted(HERE.glob("*.delta")):
        name, number, tag = path.stem.split(".")
        B, H, T, dim = SHAPES[int(number)]
        manifest, code = read_bundle(path)
        kernel = Kernel(manifest, manifest["kernels"][0], code[0])
        kernel.load(driver)
        inputs = make_inputs(kernel, B, T, H)
        call = kernel.bind(inputs, None, {})
        out = call()[0]
        torch.cuda.synchronize()
        key = name, number
        same = "first"
        if key in first:
            same = "equal" if torch.equal(out, first[key]) else "DIFFER"
        elif not torch.isfinite(out).all():
            same = "NOT FINITE"
        else:
            first[key] = out.clone()
        whole = time([call], options.repeat)["median_s"]
        alone = []
        if len(kernel.launches) > 1:
            values = call.alive[0]
            parameters = (ctypes.c_void_p * len(values))(
                *(ctypes.addressof(value) for value in values))
            for i in range(len(kernel.launches)):
                alone.append(time([lambda i=i: kernel.launch(
                    parameters, B, T, H, only=i)], options.repeat)["median_s"])
        print(f"| {name} | {B} {H} {T} {dim} | {tag} | {whole * 1e3:.3f} | "
              + " + ".join(f"{x * 1e3:.3f}" for x in alone)
              + f" | {kernel.workspace_bytes(B, T, H) / 1e6:.0f} | {same} | "
              + path.with_suffix(".txt").read_text().split("mma_flops")[0]
              .replace("mapping ", "").strip() + " |", flush=True)
        del inputs, call, out
        torch.cuda.empty_cache()
    return 0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path,
                        help="build folder of delta: compile, do not measure")
    parser.add_argument("--output", type=pathlib.Path,
                        help="folder to fill (with --build)")
    parser.add_argument("--target", default="sm_90a")
    parser.add_argument("--recurrences", default=",".join(RECURRENCES),
                        help="comma list (with --build)")
    parser.add_argument("--shapes", default="",
                        help="comma list of numbers of shapes (with --build; "
                        "default: all)")
    parser.add_argument("--variant", action="append", default=[],
                        help="TAG=MAPPING (with --build)")
    parser.add_argument("--repeat", type=int, default=10)
    options = parser.parse_args()
    if bool(options.build) != bool(options.output):
        parser.error("--build and --output go together")
    return build(options) if options.build else measure(options)


if __name__ == "__main__":
    sys.exit(main())
