# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The record of a run as Markdown."""


def milliseconds(seconds):
    if seconds is None:
        return ""
    value = seconds * 1e3
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def error_text(row):
    if "error" not in row:
        return ""
    return "not finite" if row["error"] is None else f"{row['error']:.1e}"


def rows_of(case):
    """The rows of a table, fastest first; what did not run comes last."""
    rows = sorted(case["rows"], key=lambda row: row.get("median_s", 1e9))
    ours = [row["median_s"] for row in rows
            if row["who"].startswith("delta") and "median_s" in row]
    best = min(ours) if ours else None
    for row in rows:
        time = row.get("median_s")
        yield [row["who"], milliseconds(time),
               f"{case['floor_s'] / time:.0%}" if time else "",
               f"{time / best:.2f}" if time and best else "",
               error_text(row), row.get("note", "")]


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |",
             "| " + " | ".join("---" if i in (0, len(header) - 1) else "--:"
                               for i in range(len(header))) + " |"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


HEADER = ("", "ms", "of the floor", "x delta", "error", "")


def case_section(case):
    goal = case.get("goal_ms")
    return "\n".join([
        f"### {case['problem']}, {case['gates']} gates", "",
        f"{case['bytes'] / 1e6:.1f} MB; floor "
        f"{milliseconds(case['floor_s'])} ms"
        + (f"; goal {goal} ms" if goal else "") + ".", "",
        table(HEADER, rows_of(case)), ""])


def markdown(record):
    machine = record["machine"]
    packages = ", ".join(f"{name} {version}"
                         for name, version in record["packages"].items())
    lines = [
        f"{machine['device']} ({machine['multiprocessors']} multiprocessors, "
        f"L2 {machine['l2_bytes'] >> 20} MiB), driver {machine['driver']}, "
        f"CUDA {machine['cuda']}; {packages}; {record['commit']}.", "",
        f"A copy on the device moves {record['copy_bytes_per_s'] / 1e12:.2f} "
        "TB/s, read and written: the floor is the inputs read once and the "
        "outputs written once at that rate, and \"of the floor\" its share of "
        "the time. Times are medians of CUDA graph replays with inputs out of "
        "the cache; \"x delta\" is a time over delta's best; errors are relative "
        "to float64 (norm of the difference over norm).", ""]
    for case in record["cases"]:
        lines.append(case_section(case))
    if record["unusable"]:
        lines += ["Kernels left out:", ""]
        lines += [f"- {reason}" for reason in record["unusable"]] + [""]
    return "\n".join(lines)
