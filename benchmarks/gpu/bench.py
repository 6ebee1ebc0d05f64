# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""delta's kernels on an NVIDIA GPU beside other people's, in one process.

Needs PyTorch with CUDA and Triton, and the kernels that build.py made; peers
that are not installed are left out with a reason. Prints tables, and writes a
record (JSON) and a section of Markdown. Exit status: 0 ok, 1 a usage error, 2 a
kernel of delta is wrong, 3 no GPU.
"""

import argparse
import functools
import gc
import json
import os
import pathlib
import platform
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from gpubench import kernels, problems, report  # noqa: E402

# Errors above this are wrong numbers: as in delta-run --check, for bf16.
TOLERANCE = 1e-2


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kernels", default=HERE / "kernels",
                        type=pathlib.Path,
                        help="folder that build.py filled (default: kernels "
                        "beside this script)")
    parser.add_argument("--groups", default="target,small,decode",
                        help="comma list of target, small, decode")
    parser.add_argument("--recurrences", default="",
                        help="comma list (default: all)")
    parser.add_argument("--gates", default="weak,strong",
                        help="comma list of weak, strong")
    parser.add_argument("--only", default="",
                        help="contenders whose label contains one of these "
                        "(comma list)")
    parser.add_argument("--no-peers", action="store_true",
                        help="delta alone")
    parser.add_argument("--repeat", default=30, type=int,
                        help="replays that a median is taken of (default: 30)")
    parser.add_argument("--threads", default=os.cpu_count(), type=int,
                        help="threads that compile the peers' kernels")
    parser.add_argument("--json", default="bench-gpu.json", type=pathlib.Path,
                        help="the record (default: bench-gpu.json)")
    parser.add_argument("--markdown", default="bench-gpu.md", type=pathlib.Path,
                        help="the tables (default: bench-gpu.md)")
    options = parser.parse_args(argv)
    for name, known in (("groups", problems.GROUPS),
                        ("gates", tuple(problems.GATE_BOUNDS)),
                        ("recurrences", tuple(problems.INPUTS))):
        values = [x for x in getattr(options, name).split(",") if x]
        for value in values:
            if value not in known:
                parser.error(f"--{name}: no '{value}'; there are "
                             + ", ".join(known))
        setattr(options, name, values)
    options.only = [x for x in options.only.split(",") if x]
    return options


def say(*words):
    print(f"[{time.monotonic() - say.begin:6.1f} s]", *words, file=sys.stderr,
          flush=True)


say.begin = time.monotonic()


def describe_machine():
    import torch

    properties = torch.cuda.get_device_properties("cuda")
    driver = pathlib.Path("/proc/driver/nvidia/version")
    words = driver.read_text().split() if driver.exists() else []
    version = next((word for word in words
                    if word.count(".") >= 1 and word[0].isdigit()), "unknown")
    from gpubench import timing
    return {"device": properties.name,
            "capability": properties.major * 10 + properties.minor,
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "l2_bytes": timing.cache_bytes(), "driver": version,
            "cuda": torch.version.cuda, "system": platform.platform()}


def commit_of(folder):
    path = folder / "commit.txt"
    return ("commit " + path.read_text().strip() if path.exists()
            else "no kernels of delta")


def own_contenders(problem, gates, available, capability, driver):
    """delta's kernels for a problem, in the form of peers.contenders."""
    for kernel in available:
        if (kernel.recurrence, kernel.fn, kernel.K, kernel.V) != (
                problem.recurrence, problem.fn, problem.K, problem.V):
            continue
        bound = kernel.gate_bound()
        if bound is not None and bound > problems.GATE_BOUNDS[gates]:
            continue
        if not kernel.runs_on(capability):
            continue

        def make(kernel=kernel):
            kernel.load(driver())
            return lambda x, state: kernel.bind(x, state, {})

        yield f"{kernel.label()}", make


def run_contender(make, sets, reference, repeat):
    """A row of the table: time, and error on the first input set."""
    from gpubench import timing
    from gpubench.reference import relative_error

    bind = make()
    calls = [bind(inputs, state) for inputs, state in sets]
    out, final = calls[0]()
    expected, expected_final = reference
    row = {"error": relative_error(out, expected)}
    if expected_final is not None and final is not None:
        row["state_error"] = relative_error(final, expected_final)
        if row["error"] is not None:
            row["error"] = (None if row["state_error"] is None
                            else max(row["error"], row["state_error"]))
    del out, final
    row.update(timing.measure(calls, repeat))
    if not row["graph"]:
        row["note"] = "no graph"
    return row


def run_case(problem, gates, contenders, bandwidth, options):
    """Every contender on one problem."""
    import torch

    from gpubench import reference, timing

    sets = [problems.make_inputs(problem, gates, "cuda", seed)
            for seed in range(timing.num_sets(problem.bytes()))]
    expected = reference.run(problem.recurrence, *sets[0])
    case = {"problem": str(problem), "gates": gates, "bytes": problem.bytes(),
            "floor_s": problem.bytes() / bandwidth, "rows": []}
    if problem in problems.TARGETS:
        case["goal_ms"] = problems.TARGETS[problem]
    for label, make in contenders:
        if options.only and not any(word in label for word in options.only):
            continue
        row = {"who": label}
        try:
            with torch.no_grad():
                row.update(run_contender(make, sets, expected, options.repeat))
        except Exception as error:  # a peer may fail in any way
            text = str(error).strip().splitlines() or [""]
            row["note"] = f"{type(error).__name__}: {text[0][:160]}"
        case["rows"].append(row)
        say(f"  {label}: {report.milliseconds(row.get('median_s'))} ms, error "
            f"{report.error_text(row)} {row.get('note', '')}")
        gc.collect()
        torch.cuda.empty_cache()
    return case


def main(argv=None):
    options = arguments(argv)
    try:
        import torch
    except ImportError:
        print("bench.py: error: PyTorch is not installed", file=sys.stderr)
        return 3
    if not torch.cuda.is_available():
        print("bench.py: error: PyTorch sees no GPU", file=sys.stderr)
        return 3

    from gpubench import driver, peers, reference, timing

    machine = describe_machine()
    available, unusable = kernels.find_kernels(options.kernels)
    say(f"{machine['device']}; {len(available)} kernels of delta")
    for reason in unusable:
        say("left out:", reason)
    peers.compile_in_parallel(options.threads)
    worst = reference.check("cuda")
    say(f"the float64 kernel agrees with the loop to {worst:.1e}")
    if not worst < 1e-12:
        print("bench.py: error: the reference disagrees with itself",
              file=sys.stderr)
        return 1
    bandwidth = timing.copy_bandwidth()
    say(f"copy {bandwidth / 1e12:.2f} TB/s")
    record = {"machine": machine, "packages": peers.versions(),
              "commit": commit_of(options.kernels), "unusable": unusable,
              "copy_bytes_per_s": bandwidth, "repeat": options.repeat,
              "cases": []}

    load_driver = functools.cache(driver.Driver)
    for group in options.groups:
        for problem in problems.in_group(group):
            if (options.recurrences
                    and problem.recurrence not in options.recurrences):
                continue
            for gates in options.gates:
                if (not problems.gate_name(problem.recurrence)
                        and gates != options.gates[0]):
                    continue
                contenders = list(own_contenders(
                    problem, gates, available, machine["capability"],
                    load_driver))
                if not options.no_peers:
                    contenders += peers.contenders(problem, gates)
                if not contenders:
                    continue
                say(f"{problem}, {gates} gates")
                record["cases"].append(run_case(problem, gates, contenders,
                                                bandwidth, options))
                # What is measured survives whatever comes next.
                options.json.write_text(json.dumps(record, indent=1))
                options.markdown.write_text(report.markdown(record))
    record["copy_bytes_per_s_after"] = timing.copy_bandwidth()
    options.json.write_text(json.dumps(record, indent=1))
    text = report.markdown(record)
    options.markdown.write_text(text)
    print(text)
    wrong = [(case["problem"], row["who"])
             for case in record["cases"] for row in case["rows"]
             if row["who"].startswith("delta")
             and ("median_s" not in row or row["error"] is None
                  or row["error"] > TOLERANCE)]
    for problem, who in wrong:
        print(f"bench.py: error: {problem}: '{who}' is wrong", file=sys.stderr)
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
