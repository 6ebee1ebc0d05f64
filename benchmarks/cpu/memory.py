# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Peak memory of one call beyond its inputs and outputs, in a fresh process.

    memory.py BUILD SPECS FOLDER CONTENDER T H K     (prints bytes)

CONTENDER is `delta` or `transformers`, or either with `-gradients`: forward and
backward, beyond inputs, cotangents, gradients and saved states. The kernel's resident peak is reset just
before the call; what it then grows by, less the outputs if the call made them,
plus workspaces handed in, is what the algorithm needs for itself.
"""

import os
import pathlib
import subprocess
import sys


def measure(build, specs, folder, contender, T, H, K):
    """Run this file in a process of its own; the bytes, or None if it failed."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, (build, specs, folder, contender,
                                              T, H, K))],
        capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        return None
    return int(done.stdout.split()[-1])


def status_bytes(field):
    """A memory field of /proc/self/status, in bytes."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def peak_growth(run):
    """How far the resident set grew above its present size while run() ran."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    result = run()
    return status_bytes("VmHWM") - before, result


def gradients(build, specs, folder, contender, arrays, warm):
    import numpy as np
    import recurrences
    T, H, K = arrays["q"].shape[1:]

    def cotangent(inputs):
        return np.ones(inputs["v"].shape, np.float32)

    if contender.startswith("transformers"):
        recurrences.transformers_autograd(warm, cotangent(warm))()
        run = recurrences.transformers_autograd(arrays, cotangent(arrays))
        growth, outputs = peak_growth(run)
        # The out is kept by nobody who trains, but returned here.
        return growth - sum(x.numel() * x.element_size() for x in outputs)
    import kernel
    pool = kernel.Pool(os.cpu_count())
    compiled = kernel.Gradients(build, specs, "gated_delta_rule", K, K, folder)
    for run in compiled.bind(pool, warm, cotangent(warm))[:2]:
        run()
    forward, backward, outputs = compiled.bind(pool, arrays, cotangent(arrays))
    for array in outputs.values():
        array.fill(0)

    def both():
        forward()
        backward()

    growth, _ = peak_growth(both)
    return growth + pool.threads * (compiled.saving.workspace_bytes
                                    + compiled.backward.workspace_bytes)


def main():
    build, specs, folder, contender = sys.argv[1:5]
    T, H, K = map(int, sys.argv[5:8])
    import recurrences
    arrays = recurrences.make_inputs("gated_delta_rule", 1, T, H, K, K)
    warm = recurrences.make_inputs("gated_delta_rule", 1, 64, H, K, K)
    if contender.endswith("-gradients"):
        print(max(0, gradients(build, specs, folder, contender, arrays, warm)))
        return
    if contender == "delta":
        import kernel
        pool = kernel.Pool(os.cpu_count())
        compiled = kernel.Kernel(build, specs, "gated_delta_rule", K, K, folder)
        compiled.bind(pool, warm)[0]()
        run, o, final = compiled.bind(pool, arrays)
        o.fill(0)
        final.fill(0)
        growth, _ = peak_growth(run)
        growth += compiled.workspace_bytes * pool.threads
    else:
        recurrences.transformers_chunked(warm)()
        run = recurrences.transformers_chunked(arrays)
        growth, outputs = peak_growth(run)
        growth -= sum(x.numel() * x.element_size() for x in outputs)
    print(max(0, growth))


if __name__ == "__main__":
    main()
