# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""delta on the CPU beside PyTorch and beside the machine's limits.

Prints Markdown, and writes everything it measured as JSON. Exit status 2 if a
kernel disagrees with PyTorch, 1 if one does not compile.
"""

import argparse
import json
import os
import pathlib
import platform
import shlex
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SECTIONS = ("throughput", "gradients", "flatness", "decode", "memory",
            "compile")
# As in delta-run --check.
TOLERANCE = 2e-5


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--build", default=SOURCE / "build", type=pathlib.Path,
                        help="build folder (default: build)")
    parser.add_argument("--specs", default=SOURCE / "specs", type=pathlib.Path,
                        help="folder of the spec library (default: specs)")
    parser.add_argument("--recurrences", default="gated_delta_rule,kda,dplr,"
                        "gla,delta_rule", help="comma list")
    parser.add_argument("--shapes", default="",
                        help="comma list of B:T:H:K (default: the four of "
                        "benchmarks/README.md)")
    parser.add_argument("--sections", default=",".join(SECTIONS),
                        help="comma list of " + ", ".join(SECTIONS))
    parser.add_argument("--rounds", default=9, type=int,
                        help="turns that every contender gets (default: 9)")
    parser.add_argument("--threads", default=os.cpu_count(), type=int,
                        help="threads of every contender (default: all)")
    parser.add_argument("--json", default=None, type=pathlib.Path,
                        help="where to write the record (default: "
                        "BUILD/bench-cpu.json)")
    options = parser.parse_args()
    options.recurrences = options.recurrences.split(",")
    options.sections = options.sections.split(",")
    for section in options.sections:
        if section not in SECTIONS:
            parser.error(f"no section '{section}'; there are "
                         + ", ".join(SECTIONS))
    try:
        options.shapes = [tuple(map(int, shape.split(":")))
                          for shape in options.shapes.split(",") if shape]
    except ValueError:
        parser.error("a shape is B:T:H:K, for example 1:4096:8:64")
    return options


def describe_machine(threads):
    """The machine and the versions, for the record."""

    def version(package):
        from importlib import metadata
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "absent"

    info = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        info.setdefault(key.strip(), value.strip())
    flags = info.get("flags", info.get("Features", "")).split()
    return {"cpu": f"{info.get('model name', platform.machine())} (family "
                   f"{info.get('cpu family', '?')}, model "
                   f"{info.get('model', '?')})",
            "threads": threads,
            "vectors": next((v for v, f in (("AVX-512", "avx512f"),
                                            ("AVX2", "avx2")) if f in flags),
                            "no AVX2"),
            "system": platform.platform(),
            "torch": version("torch"), "transformers": version("transformers"),
            "numpy": version("numpy"), "load_start": os.getloadavg()[0]}


def main():
    options = arguments()
    # Before numpy and PyTorch start their threads.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                     "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    # OpenBLAS's idle threads would spin on for 0.1 s into the next turn.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import sections

    if not (options.build / "bin" / "delta-compile").exists():
        print(f"bench: error: no delta-compile in '{options.build}'; run "
              "`make build` first", file=sys.stderr)
        return 1

    record = {"command": shlex.join(["bench.py", *sys.argv[1:]]),
              "machine": describe_machine(options.threads),
              "recurrences": options.recurrences,
              "loop_tokens": sections.LOOP_TOKENS,
              "gradient_tokens": sections.GRADIENT_TOKENS}
    status = 0
    with tempfile.TemporaryDirectory(prefix="delta-bench-") as folder:
        bench = sections.Bench(options.build, options.specs, folder,
                               options.threads, options.rounds)
        if not bench.torch:
            print("bench: warning: PyTorch is not installed (scripts/setup.sh "
                  "--bench); nothing is compared with it", file=sys.stderr)
        elif not bench.fallback:
            print("bench: warning: the installed transformers has no "
                  "torch_chunk_gated_delta_rule; left out", file=sys.stderr)

        def progress(text):
            print(f"bench: {text}", file=sys.stderr, flush=True)

        if record["machine"]["load_start"] > 0.5:
            progress("warning: the machine is busy (load average "
                     f"{record['machine']['load_start']:.2f}); the times below "
                     "will not be those of the machine alone")
        try:
            if "throughput" in options.sections:
                progress("limits")
                record["limits"], contenders = sections.machine_limits(bench)
                record["throughput"] = []
                for shape in options.shapes or sections.SHAPES:
                    progress(f"throughput at {shape}")
                    part = sections.throughput(bench, shape,
                                               options.recurrences, contenders)
                    record["throughput"].append(part)
                    for name, error in part["errors"].items():
                        if error is not None and not error <= TOLERANCE:
                            progress(f"error: {name} at {shape}: relative "
                                     f"error {error:.2e} against PyTorch, "
                                     f"above {TOLERANCE}")
                            status = 2
            if "gradients" in options.sections:
                record["gradients"] = []
                for shape in options.shapes or sections.GRADIENT_SHAPES:
                    progress(f"gradients at {shape}")
                    part = sections.gradients(bench, shape, options.recurrences)
                    record["gradients"].append(part)
                    for name, error in part["errors"].items():
                        if error is not None and not error <= 2 * TOLERANCE:
                            progress(f"error: gradients of {name} at {shape}: "
                                     f"relative error {error:.2e} against "
                                     f"PyTorch, above {2 * TOLERANCE}")
                            status = 2
                record["gradient_memory"] = sections.gradient_memory(bench)
            if "flatness" in options.sections:
                progress("time per token")
                record["flatness"] = sections.flatness(
                    bench, options.recurrences)
            if "decode" in options.sections:
                progress("decode")
                record["decode"] = sections.decode(bench, options.recurrences)
            if "memory" in options.sections:
                progress("memory")
                record["memory"] = sections.memory_growth(bench)
            if "compile" in options.sections:
                progress("compile time")
                record["compile"] = sections.compile_times(bench)
                record["start_up"] = sections.start_up(bench)
        except RuntimeError as error:
            print(f"bench: error: {error}", file=sys.stderr)
            return 1
    record["machine"]["load_end"] = os.getloadavg()[0]

    import report
    path = options.json or options.build / "bench-cpu.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(report.markdown(record))
    progress(f"wrote {path}")
    return status


if __name__ == "__main__":
    sys.exit(main())
