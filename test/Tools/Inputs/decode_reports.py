# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""`decode_reports.py SPECS SIZE TARGET`: the assembler's report of each spec."""

import pathlib
import subprocess
import sys

folder, size, target = sys.argv[1:]
for spec in sorted(pathlib.Path(folder).glob("*.delta")):
    n = ["-D", "n=2"] if "dim n" in spec.read_text() else []
    done = subprocess.run(
        ["delta-compile", spec, f"--target={target}", "--fn=decode", "-D",
         f"K={size}", "-D", f"V={size}", *n, "--dtype=bf16", "--emit=cubin",
         "--explain", "-o", "/dev/null"], stderr=subprocess.PIPE, text=True)
    print(done.stderr.splitlines()[-1])
    if done.returncode:
        sys.exit(done.returncode)
