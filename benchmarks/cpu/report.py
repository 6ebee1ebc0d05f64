# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The record of a benchmark run as Markdown; nothing here measures."""


def table(header, rows):
    """A Markdown table; numbers are to the right."""
    numeric = [all(isinstance(row[i], (int, float)) or str(row[i])[:1].isdigit()
                   or row[i] in ("-", "") for row in rows)
               for i in range(len(header))]
    lines = [header, ["--:" if n else "---" for n in numeric], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |"
                     for line in lines) + "\n"


def seconds(value):
    """A time with a unit that fits it, three digits."""
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9)):
        if value * factor >= 1:
            break
    return f"{value * factor:.3g} {unit}"


def size(value):
    """A number of bytes with a unit that fits it."""
    if value is None:
        return "-"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("B", 1)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return "0 B"


def machine(record):
    """What was measured on, in one paragraph."""
    m = record["machine"]
    return (f"{m['cpu']}, {m['threads']} threads, {m['vectors']}; "
            f"{m['system']}; PyTorch {m['torch']}, transformers "
            f"{m['transformers']}, numpy {m['numpy']}; load average at the "
            f"start {m['load_start']:.2f}, at the end {m['load_end']:.2f}.\n")


def limit_lines(record):
    best = record["limits"]["best"]
    rate = record["limits"]["gflops"]
    rows = [[name, f"{value:.0f}", "yes" if name in best.values() else ""]
            for name, value in sorted(rate.items())]
    return ("FMA out of registers, and float32 matrix products (the number is "
            "the size) by each library, all threads. The fastest of each kind "
            "is the limit, and is measured again beside every row below.\n\n"
            + table(["limit", "GFLOP/s", "used"], rows))


def throughput(part, names):
    """One shape: a row for each recurrence."""
    B, T, H, K = part["shape"]
    found = part["contenders"]
    sgemm, fma = found["sgemm"]["gflops"], found["fma"]["gflops"]
    fallback = found.get("gated_delta_rule/transformers")

    rows = []
    for name in names:
        ours = found[f"{name}/delta"]

        def ratio(other):
            return f"{other['full_s'] / ours['full_s']:.1f}" if other else "-"

        error = part["errors"].get(name)
        rows.append([
            f"`{name}`", seconds(ours["full_s"]), f"{ours['gflops']:.1f}",
            f"{100 * ours['gflops'] / sgemm:.0f} %",
            f"{100 * ours['gflops'] / fma:.0f} %",
            ratio(fallback), ratio(found.get(f"{name}/loop")),
            ratio(found.get(f"{name}/tuned loop")),
            f"{error:.1e}" if error is not None else "-"])
    text = f"### B={B} T={T} H={H} K=V={K}\n\n" + table(
        ["recurrence", "delta", "GFLOP/s", "of sgemm", "of FMA peak",
         "× transformers", "× loop", "× tuned loop", "error"], rows)
    others = [["sgemm", "", f"{sgemm:.0f}"], ["FMA peak", "", f"{fma:.0f}"]]
    if fallback:
        others.append(["transformers chunked (`gated_delta_rule`)",
                       seconds(fallback["full_s"]), f"{fallback['gflops']:.1f}"])
    for kind in ("loop", "tuned loop"):
        for name in names:
            other = found.get(f"{name}/{kind}")
            if other:
                others.append([f"{kind} (`{name}`)", seconds(other["full_s"]),
                               f"{other['gflops']:.1f}"])
    return text + "\n" + table(["beside it", "time", "GFLOP/s"], others)


def gradients(part, names):
    """One shape: a row for each recurrence."""
    B, T, H, K = part["shape"]
    found = part["contenders"]
    fallback = found.get("gated_delta_rule/transformers")
    rows = []
    for name in names:
        forward, saving, backward = (found[f"{name}/{kind}"]["full_s"]
                                     for kind in ("forward", "saving", "backward"))

        def ratio(other):
            if not other:
                return "-"
            return f"{other['full_s'] / (saving + backward):.1f}"

        error = part["errors"].get(name)
        rows.append([
            f"`{name}`", seconds(forward), seconds(saving), seconds(backward),
            f"{backward / forward:.2f}", ratio(fallback),
            ratio(found.get(f"{name}/loop")),
            size(part["saved_bytes"][name] / (B * T * H)),
            f"{error:.1e}" if error is not None else "-"])
    text = f"### Gradients, B={B} T={T} H={H} K=V={K}\n\n" + table(
        ["recurrence", "forward", "that saves", "backward",
         "backward / forward", "× transformers", "× loop",
         "saved a token and head", "error"], rows)
    if fallback:
        text += ("\nForward and backward of the chunked fallback "
                 f"(`gated_delta_rule`): {seconds(fallback['full_s'])}.\n")
    return text


def gradient_memory(part):
    lengths = list(next(iter(part["bytes"].values())))
    rows = [[contender, *[size(b) for b in growth.values()]]
            for contender, growth in part["bytes"].items()]
    return ("Peak growth of the resident set during forward and backward of "
            "`gated_delta_rule`, plus workspaces, beyond inputs, cotangents, "
            "outs, gradients and delta's saved states; "
            f"B=1, H={part['H']}, K=V={part['K']}, each in a fresh process.\n\n"
            + table(["", *[f"T={T}" for T in lengths]], rows))


def flatness(part):
    lengths = list(next(iter(part["ns_per_token_head"].values())))
    rows = []
    for name, times in part["ns_per_token_head"].items():
        values = list(times.values())
        rows.append([f"`{name}`", *[f"{v:.0f}" for v in values],
                     f"{100 * (max(values) / min(values) - 1):.1f} %"])
    return (f"Nanoseconds per token and head, B=1, H={part['H']}, "
            f"K=V={part['K']}.\n\n"
            + table(["recurrence", *[f"T={T}" for T in lengths], "spread"], rows))


def decode(part):
    rows = [["copy", seconds(part["seconds"]["copy"]),
             f"{part['gb_per_s']['copy']:.1f}", "-"]]
    rows += [[f"`{name}`", seconds(part["seconds"][name]),
              f"{part['gb_per_s'][name]:.1f}", f"{100 * share:.0f} %"]
             for name, share in part["share_of_copy"].items()]
    return (f"`--fn=decode`, T=1, B={part['B']}, H={part['H']}, "
            f"K=V={part['K']}: {size(part['state_bytes'])} of state are read "
            "and as many written, from one buffer to another, as in the copy "
            "(memcpy, all threads).\n\n"
            + table(["", "time", "GB/s", "of copy"], rows))


def memory(part):
    lengths = list(next(iter(part["bytes"].values())))
    rows = [[contender, *[size(b) for b in growth.values()]]
            for contender, growth in part["bytes"].items()]
    return (f"Peak growth of the resident set during one `gated_delta_rule` "
            f"call, plus workspaces, less outputs; B=1, H={part['H']}, "
            f"K=V={part['K']}, each in a fresh process.\n\n"
            + table(["", *[f"T={T}" for T in lengths]], rows))


def compile_times(part):
    rows = []
    for name, entry in part["seconds"].items():
        rows.append([f"`{name}`", *[
            seconds(entry[kind]) if kind in entry
            else "failed: " + entry[kind + "_error"].splitlines()[0]
            for kind in ("jit", "so")]])
    return (f"K=V={part['K']}, whole processes: `delta-run` compiles and runs "
            "one token; `delta-compile --emit=so` also links.\n\n"
            + table(["recurrence", "run", "shared object"], rows))


def markdown(record):
    """The whole record."""
    parts = ["# CPU benchmarks\n", f"`{record['command']}`\n", machine(record),
             "Medians; the contenders of a table take turns in one process. "
             "GFLOP/s count useful work: what the chunk algorithm needs at "
             "C=16, whatever a contender really does. “× other” is the other's "
             "time over delta's; “transformers” is the chunked fallback for "
             "`gated_delta_rule` at the same shape; “loop” is the recurrence "
             "token by token in PyTorch, “tuned loop” the same with batched "
             "matmuls in place, both timed on the first "
             f"{record['loop_tokens']} tokens (their cost per token is "
             "constant). “error” is delta's relative error against the tuned "
             "loop.\n"]
    if "limits" in record:
        parts += ["## Limits of the machine\n", limit_lines(record)]
    if "throughput" in record:
        parts.append("## Throughput\n")
        parts += [throughput(p, record["recurrences"])
                  for p in record["throughput"]]
    if "gradients" in record:
        parts.append("## Gradients\n\nForward and backward of PyTorch's "
                     "autograd, through the chunked fallback and through the "
                     "token loop, are held against delta's forward that saves "
                     "states and its backward together; the loop is timed on "
                     f"{record['gradient_tokens']} tokens. The ratio of "
                     "backward to forward is to the forward that saves "
                     "nothing.\n")
        parts += [gradients(p, record["recurrences"])
                  for p in record["gradients"]]
        parts.append(gradient_memory(record["gradient_memory"]))
    for key, title, show in (("flatness", "Time per token", flatness),
                             ("decode", "One token", decode),
                             ("memory", "Memory", memory),
                             ("compile", "Compile time", compile_times)):
        if key in record:
            parts += [f"## {title}\n", show(record[key])]
    if "start_up" in record:
        parts.append(f"`delta-opt` on an empty module: "
                     f"{seconds(record['start_up'])}.\n")
    return "\n".join(parts)
