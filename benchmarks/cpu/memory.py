# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Peak memory of one call beyond its inputs and outputs, in a fresh process.

    memory.py BUILD SPECS FOLDER CONTENDER T H K     (prints bytes)

CONTENDER is `delta` or `transformers`. The kernel's resident peak is reset just
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


def main():
    build, specs, folder, contender = sys.argv[1:5]
    T, H, K = map(int, sys.argv[5:8])
    import recurrences
    arrays = recurrences.make_inputs("gated_delta_rule", 1, T, H, K, K)
    warm = recurrences.make_inputs("gated_delta_rule", 1, 64, H, K, K)
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
