# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks the examples of a page: check_page.py PAGE CHECKER SCRATCH.

A block ```delta must parse without a warning, and be the library's recurrence of
its name if there is one. The block after ```delta error is what must be printed.
"""

import pathlib
import re
import subprocess
import sys

page, checker, scratch = sys.argv[1:]
pathlib.Path(scratch).mkdir(exist_ok=True)


def run(*args):
    done = subprocess.run([checker, *args], capture_output=True, text=True,
                          cwd=scratch)
    return done.returncode, done.stdout, done.stderr


library = run("--library")[1].split()
blocks = re.findall(r"^```(.*)\n([^`]*?)^```$",
                    pathlib.Path(page).read_text(), re.M)
for number, (kind, text) in enumerate(blocks):
    if not kind.startswith("delta"):
        continue
    name = re.search(r"^recurrence (\w+)", text, re.M)[1]
    pathlib.Path(scratch, f"{name}.delta").write_text(text)
    status, printed, messages = run(f"{name}.delta")
    if kind == "delta error":
        good = status == 1 and messages == blocks[number + 1][1]
    else:
        good = status == 0 and not messages
        if name in library and printed != run(name)[1]:
            print(f"{name}: differs from the library's")
    print(f"{name}: {'ok' if good else 'failed'}", messages if not good else "")
