# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""From ten lines of mathematics to a native kernel, on real arrays.

    demo.py BUILD_DIR

Shows a spec, compiles it, shows what the compiler derived, runs it on arrays
that an independent implementation made, and compares the results with that
implementation and with the token-by-token meaning of the spec; then the time
beside PyTorch's token loop. Ends with one line that says what was shown.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(SOURCE / "benchmarks" / "cpu"))

NAME = "kda"
GOLDEN = SOURCE / "test" / "golden" / "kda_K64_V64_T100_mixed.npz"
# The golden arrays are short; for the time they are repeated along T.
REPEAT = 40


def title(text):
    print(f"\n--- {text} " + "-" * max(0, 74 - len(text)), flush=True)


def tool(build, name, *arguments):
    """Run one of delta's tools, show the command, return what it printed."""
    shown = [str(a).removeprefix(f"{SOURCE}/") for a in arguments]
    print("$", name, *shown, flush=True)
    done = subprocess.run([str(build / "bin" / name), *map(str, arguments)],
                          cwd=SOURCE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}demo: error: {name} exited with status "
                 f"{done.returncode}")
    return done.stdout.rstrip()


def median_seconds(run, at_least=5, budget=1.0):
    """Median wall time of `run` after one warm-up call."""
    run()
    times = []
    end = time.perf_counter() + budget
    while len(times) < at_least or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
    threads = os.cpu_count()
    import numpy as np

    import kernel
    import recurrences

    spec = SOURCE / "specs" / f"{NAME}.delta"
    golden = dict(np.load(GOLDEN))
    K, V = golden["q"].shape[-1], golden["v"].shape[-1]
    folder = build / "demo"
    folder.mkdir(exist_ok=True)

    title(f"the spec: specs/{NAME}.delta")
    text = spec.read_text().rstrip()
    print(text)

    title("what the compiler derives from it")
    start = time.perf_counter()
    print(tool(build, "delta-compile", spec, "-D", f"K={K}", "-D", f"V={V}",
               "--emit=so", "-o", folder / f"{NAME}.so", "--explain"))
    compile_seconds = time.perf_counter() - start

    title("run on real arrays, checked against the token-by-token meaning")
    B, T, H = golden["q"].shape[:3]
    print(f"B={B} T={T} H={H} K={K} V={V} float32; log-decays down to "
          f"{golden['g'].min():.0f}")
    output = folder / f"{NAME}-out.npz"
    print(tool(build, "delta-run", spec, "--input", GOLDEN, "--output", output,
               "--check"))

    title("the same results against an independent implementation")
    results = np.load(output)
    errors = {name: recurrences.relative_error(results[name], golden[name])
              for name in ("o", "final_state")}
    for name, error in errors.items():
        print(f"{name:12s} rel_err={error:.1e}   (golden vectors, computed "
              "with PyTorch in float32)")
    if not max(errors.values()) <= 1e-5:
        sys.exit("demo: error: the results differ from the golden vectors")

    title("speed")
    inputs, _ = kernel.declared_order(text)
    arrays = {name: np.ascontiguousarray(np.concatenate(
        [golden[name]] * REPEAT, axis=1)) for name in inputs}
    tokens = T * REPEAT
    pool = kernel.Pool(threads)
    compiled = kernel.Kernel(build, SOURCE / "specs", NAME, K, V, folder)
    run, o, _ = compiled.bind(pool, arrays, golden["initial_state"])
    ours = median_seconds(run)
    rate = recurrences.useful_flops(NAME, B, tokens, H, K, V) / ours / 1e9
    print(f"delta, {threads} threads:      {1e3 * ours:8.2f} ms for "
          f"B={B} T={tokens} H={H} (those arrays {REPEAT} times over), "
          f"{rate:.0f} GFLOP/s")
    faster = ""
    try:
        import torch
        torch.set_num_threads(threads)
        loop = recurrences.plain_token_loop(
            NAME, {name: golden[name] for name in inputs})
        theirs = median_seconds(loop) * REPEAT
        print(f"PyTorch's token loop: {1e3 * theirs:8.2f} ms "
              f"(timed on {T} tokens; its time per token is constant)")
        faster = f"; {theirs / ours:.0f} times as fast as PyTorch's token loop"
    except ImportError:
        print("PyTorch is not installed here, so there is no token loop of its "
              "to compare with")

    lines = sum(bool(line.strip()) and not line.lstrip().startswith("//")
                for line in text.splitlines())
    print(f"\ndemo: {lines} lines of mathematics ({NAME}) became a chunkwise "
          f"kernel in {compile_seconds:.1f} s, which agrees with an independent "
          f"implementation to {max(errors.values()):.0e}{faster}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
