# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks every file of specs/, or lists the arguments that it declares.

check_library.py CHECKER SPECS SCRATCH: a bare name means the file of that name,
and the canonical form parses to itself without a warning.
check_library.py --arguments SPECS: one line a recurrence.
"""

import pathlib
import re
import subprocess
import sys


def check(checker, spec, scratch):
    def run(argument):
        done = subprocess.run([checker, "--types", argument],
                              capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    embedded = run(spec.stem)
    printed = scratch / spec.name
    printed.write_text(embedded[1])
    if embedded[0] or embedded[2]:
        return f"failed: {embedded[2]}"
    if run(str(spec)) != embedded:
        return "the embedded text is not the file's"
    if run(str(printed)) != embedded:
        return "the printed form is another recurrence"
    if not embedded[1].startswith(f"recurrence {spec.stem} {{"):
        return "the recurrence is named otherwise"
    return "ok"


def arguments(spec):
    text = re.sub(r"//.*", "", spec.read_text())
    return [name for line in text.splitlines()
            if re.match(r"\s*(in|param)\s", line)
            for name in re.findall(r"(\w+(?:\[\w+\])?)\s*:", line)]


specs = sorted(pathlib.Path(sys.argv[2]).glob("*.delta"))
for spec in specs:
    if sys.argv[1] == "--arguments":
        print(f"{spec.stem}: {' '.join(arguments(spec))}")
    else:
        print(f"{spec.stem}: "
              f"{check(sys.argv[1], spec, pathlib.Path(sys.argv[3]))}")
