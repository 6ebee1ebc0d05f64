# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What calls from Python cost, and training beside `transformers`.

    python benchmarks/cpu/python.py [--quick]

Needs the package deltac, torch and transformers. Prints a table for
benchmarks/RESULTS.md. Contenders take turns in one process.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import torch

import deltac
from deltac import ops

FIRST_CALL = """
import time
import torch
from deltac import ops
q, k, v = torch.randn(3, 1, 64, 2, 64)
g, beta = -torch.rand(1, 64, 2), torch.rand(1, 64, 2)
with torch.no_grad():
    start = time.perf_counter()
    ops.chunk_gated_delta_rule(q, k, v, g, beta)
    print(time.perf_counter() - start)
"""


def per_call(function, count=2000, runs=7):
    """Seconds a call; the smallest of several runs."""
    for _ in range(200):
        function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        for _ in range(count):
            function()
        times.append((time.perf_counter() - start) / count)
    return min(times)


def overhead():
    made = deltac.recurrence("gated_delta_rule")
    q, k, v = torch.randn(3, 1, 1, 1, 16)
    g, beta = -torch.rand(1, 1, 1), torch.rand(1, 1, 1)
    state = torch.randn(1, 1, 16, 16)
    rows = []
    with torch.no_grad():
        for name, call in (("forward", made), ("recurrent form", made.decode)):
            rows.append((f"compiled callable, {name}", per_call(
                lambda: call(q, k, v, g, beta, initial_state=state,
                             output_final_state=True))))
            arguments = (call.spec, call.options, [q, k, v, g, beta], state,
                         [0.25], 1, True)
            rows.append((f"registered operator, {name}", per_call(
                lambda: torch.ops.deltac.forward.default(*arguments))))
        rows.append(("`fused_recurrent_gated_delta_rule`", per_call(
            lambda: ops.fused_recurrent_gated_delta_rule(
                q, k, v, g, beta=beta, initial_state=state,
                output_final_state=True))))
    return rows


def first_call():
    """With kernels on disk, in new processes."""
    with tempfile.TemporaryDirectory() as folder:
        times = [float(subprocess.run(
            [sys.executable, "-c", FIRST_CALL], text=True, check=True,
            capture_output=True, env={**os.environ, "DELTA_CACHE_DIR": folder}
        ).stdout) for _ in range(6)]
    return times[0], statistics.median(times[1:])


def training(T, runs):
    """Medians in seconds of forward and forward with backward."""
    from transformers.models.qwen3_next.modeling_qwen3_next import \
        torch_chunk_gated_delta_rule as fallback
    B, H, D = 1, 8, 128
    torch.manual_seed(0)
    q, k, v = torch.randn(3, B, T, H, D)
    k = torch.nn.functional.normalize(k, dim=-1)
    g, beta = -torch.rand(B, T, H), torch.rand(B, T, H)
    do = torch.randn(B, T, H, D)
    leaves = [x.clone().requires_grad_() for x in (q, k, v, g, beta)]
    contenders = {"transformers": lambda *x: fallback(*x[:3], g=x[3],
                                                      beta=x[4]),
                  "deltac": ops.chunk_gated_delta_rule}
    times = {name: ([], []) for name in contenders}
    results = {}
    for _ in range(runs + 1):
        for name, run in contenders.items():
            with torch.no_grad():
                start = time.perf_counter()
                o = run(q, k, v, g, beta)[0]
                times[name][0].append(time.perf_counter() - start)
            start = time.perf_counter()
            gradients = torch.autograd.grad(run(*leaves)[0], leaves, do)
            times[name][1].append(time.perf_counter() - start)
            results[name] = [o, *gradients]
    errors = [((x - y).norm() / y.norm()).item() for x, y in zip(
        results["deltac"], results["transformers"])]
    return {name: [statistics.median(x[1:]) for x in pair]
            for name, pair in times.items()}, max(errors)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few tokens, once")
    options = parser.parse_args()
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, "
          f"load average {os.getloadavg()[0]:.2f}\n")
    print("| a call at T=1, float32, CPU | time |\n|---|--:|")
    for name, seconds in overhead():
        print(f"| {name} | {seconds * 1e6:.1f} us |")
    cold, warm = first_call()
    print(f"| first call of `chunk_gated_delta_rule`: compiled | "
          f"{cold * 1e3:.0f} ms |\n| first call, kernels on disk | "
          f"{warm * 1e3:.0f} ms |\n")
    T = 256 if options.quick else 4096
    times, error = training(T, 1 if options.quick else 5)
    print(f"| B=1, T={T}, H=8, K=V=128, float32 | forward | with backward |\n"
          "|---|--:|--:|")
    for name, (forward, both) in times.items():
        print(f"| {name} | {forward * 1e3:.1f} ms | {both * 1e3:.1f} ms |")
    a, b = times["transformers"], times["deltac"]
    print(f"| times faster | {a[0] / b[0]:.1f} | {a[1] / b[1]:.1f} |\n\n"
          f"Largest difference of results and gradients: {error:.1e}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
