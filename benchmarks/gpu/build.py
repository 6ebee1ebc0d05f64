# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes a folder with the GPU benchmark and every kernel it needs.

Runs where delta is built; needs no GPU and no package. The folder is then copied
to the GPU host, where `python3 FOLDER/bench.py` needs neither delta nor LLVM.
What does not compile is listed and left out. Exit status: 0 ok, 1 when no kernel
compiled or for a usage error.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parents[1]

sys.path.insert(0, str(HERE))
from gpubench import problems  # noqa: E402
from gpubench.problems import GATE_BOUNDS, INPUTS  # noqa: E402

# A spec as it is, and with the promise of a lower bound for its gates, which
# lets the compiler choose a cheaper scheme for the decay. The peers are told
# the same.
PROMISES = {"": None, **{f"{name}-gates": bound
                         for name, bound in GATE_BOUNDS.items()}}


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--build", default=SOURCE / "build", type=pathlib.Path,
                        help="build folder of delta (default: build)")
    parser.add_argument("--output", default=None, type=pathlib.Path,
                        help="folder to fill (default: BUILD/bench-gpu)")
    parser.add_argument("--target", default="sm_90a",
                        help="architecture (default: sm_90a)")
    parser.add_argument("--groups", default=",".join(problems.GROUPS),
                        help="comma list of " + ", ".join(problems.GROUPS))
    parser.add_argument("--recurrences", default="",
                        help="comma list (default: all)")
    parser.add_argument("--tag", default="",
                        help="name for these kernels beside others in the same "
                        "folder, which is kept then")
    parser.add_argument("--jobs", default=os.cpu_count(), type=int)
    parser.add_argument("options", nargs="*",
                        help="further options for delta-compile, after --")
    options = parser.parse_args(argv)
    options.output = options.output or options.build / "bench-gpu"
    options.groups = options.groups.split(",")
    for group in options.groups:
        if group not in problems.GROUPS:
            parser.error(f"--groups: no '{group}'; there are "
                         + ", ".join(problems.GROUPS))
    options.recurrences = [x for x in options.recurrences.split(",") if x]
    for name in options.recurrences:
        if name not in INPUTS:
            parser.error(f"--recurrences: no '{name}'; there are "
                         + ", ".join(INPUTS))
    if not re.fullmatch(r"[\w-]*", options.tag):
        parser.error("--tag: letters, digits, '_' and '-' only")
    return options


def bounded_spec(recurrence, bound, specs=SOURCE / "specs"):
    """The library's spec with its gate declared in [bound, 0]; None when it has
    no gate."""
    text = (specs / f"{recurrence}.delta").read_text()
    bounded, count = re.subn(r"in \[-inf, 0\]", f"in [{bound}, 0]", text)
    return bounded if count else None


def manifest_from_ir(recurrence, target, fn, K, V, mapped):
    """What a bundle's manifest says, from the kernel's facts in the stage
    `mapped`; `None` when they are not there."""
    kernels = [dict(re.findall(r"(\w+) = \"?([\w.]+)", text)) for text in
               re.findall(r"delta\.kernel = \{([^}]*)\}", mapped)]
    if not kernels:
        return None
    found = re.search(r"delta\.workspace = \[\s*(\{.*?\})\s*\]", mapped,
                      re.DOTALL)
    workspace = [
        {"bytes": int(re.search(r"bytes = (\d+)", part).group(1)),
         "dims": re.findall(r'"(\w)"', part),
         **{"tokens": int(n) for n in re.findall(r"tokens = (\d+)", part)}}
        for part in re.findall(r"\{([^}]*)\}", found.group(1))
    ] if found else []
    args = [{"kind": "in", "name": name,
             "dtype": "bf16" if kind in ("K", "V") else "f32",
             "axes": [] if kind[0] == "1" else [kind[0]],
             **({"range": [None, 0]} if kind.endswith("!") else {})}
            for name, kind in INPUTS[recurrence].items()]
    args.append({"kind": "attr", "name": "scale", "default": {
        "value": problems.default_scale(recurrence, K)}})
    args.append({"kind": "state", "name": "S", "dtype": "f32",
                 "axes": ["K", "V"]})
    args.append({"kind": "out", "name": "o", "dtype": "bf16", "axes": ["V"]})
    return {"recurrence": recurrence, "dims": {"K": K, "V": V}, "args": args,
            "kernels": [{
                "target": target, "fn": fn, "entry": kernels[-1]["name"],
                "gpu": {"workspace": workspace, "launches": [
                    {"entry": facts["name"],
                     **{name: int(facts.get(name, 0)) for name in (
                         "threads", "shared_bytes", "v_blocks", "tokens")}}
                    for facts in kernels]}}]}


def assumed(recurrence, fn, K, V):
    """How many heads the choice of a mapping reckons with: those of the first
    problem that runs the kernel."""
    for problem in (p for g in problems.GROUPS for p in problems.in_group(g)):
        if (problem.recurrence, problem.fn, problem.K, problem.V) == (
                recurrence, fn, K, V):
            return [f"--assume=B={problem.B},H={problem.H}"]
    return []


def compile_kernel(options, recurrence, fn, K, V, promise):
    """Compiles one kernel; its name, and what went wrong or an empty string."""
    spec, bound = recurrence, PROMISES[promise]
    tag = ".".join(x for x in (promise, options.tag) if x)
    stem = f"{recurrence}.K{K}-V{V}.{fn}" + (f".{tag}" if tag else "")
    path = options.output / "kernels" / stem
    with tempfile.TemporaryDirectory() as folder:
        if bound is not None:
            text = bounded_spec(recurrence, bound)
            spec = pathlib.Path(folder) / f"{recurrence}.delta"
            spec.write_text(text)
        command = [options.build / "bin" / "delta-compile", spec, f"--fn={fn}",
                   f"--target={options.target}", "--dtype=bf16", "-D", f"K={K}",
                   "-D", f"V={V}", *assumed(recurrence, fn, K, V),
                   *options.options]

        def run(emit, output):
            result = subprocess.run(
                [*command, f"--emit={emit}", "-o", output],
                capture_output=True, text=True)
            return result.returncode == 0, result.stderr

        done, _ = run("bundle", f"{path}.bundle")
        if done:
            return stem, ""
        # A compiler without bundles for GPUs.
        done, errors = run("cubin", f"{path}.cubin")
        if not done:
            lines = [line for line in errors.splitlines() if "error:" in line]
            reason = lines[0] if lines else errors.strip()[:200]
            return stem, (reason or "failed without a message").replace(
                f"{folder}/", "")
        mapped = pathlib.Path(folder) / "mapped.mlir"
        done, errors = run("mapped", mapped)
        manifest = done and manifest_from_ir(
            recurrence, options.target, fn, K, V, mapped.read_text())
        if not manifest:
            pathlib.Path(f"{path}.cubin").unlink()
            return stem, "the facts of its launch are unknown"
        if bound is not None:
            for argument in manifest["args"]:
                if "range" in argument:
                    argument["range"][0] = bound
        pathlib.Path(f"{path}.json").write_text(json.dumps(manifest, indent=1))
        return stem, ""


def wanted(options):
    """The kernels that the groups need, each once."""
    seen = {}
    for group in options.groups:
        for problem in problems.in_group(group):
            name = problem.recurrence
            if options.recurrences and name not in options.recurrences:
                continue
            for promise in PROMISES:
                # One token has one decay: there is no scheme to choose.
                if promise and (problem.fn == "decode"
                                or not problems.gate_name(name)):
                    continue
                seen[name, problem.fn, problem.K, problem.V, promise] = None
    return list(seen)


def describe_commit():
    def git(*words):
        return subprocess.run(["git", "-C", SOURCE, *words], text=True,
                              capture_output=True).stdout.strip()

    commit = git("rev-parse", "--short", "HEAD") or "unknown"
    return commit + (" with changes" if git("status", "--porcelain", "-uno")
                     else "")


def main(argv=None):
    options = arguments(argv)
    compiler = options.build / "bin" / "delta-compile"
    if not compiler.exists():
        print(f"build.py: error: there is no '{compiler}'; build delta first",
              file=sys.stderr)
        return 1
    kernels = options.output / "kernels"
    if kernels.exists() and not options.tag:
        shutil.rmtree(kernels)
    kernels.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "bench.py", options.output)
    shutil.copytree(HERE / "gpubench", options.output / "gpubench",
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__"))
    (kernels / "commit.txt").write_text(describe_commit() + "\n")

    jobs = wanted(options)
    failed = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for stem, error in pool.map(
                lambda job: compile_kernel(options, *job), jobs):
            if error:
                failed.append(f"{stem}: {error}")
    for line in failed:
        print(f"left out: {line}", file=sys.stderr)
    # The bench repeats why a kernel is not there.
    (kernels / "left-out.txt").write_text("".join(f"{x}\n" for x in failed))
    print(f"{options.output}: {len(jobs) - len(failed)} of {len(jobs)} kernels")
    return 0 if len(failed) < len(jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
