# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""`expect_exit.py CODE COMMAND...`: succeed if COMMAND exits with CODE.

The tools' exit codes mean different things, which `not` cannot tell apart.
"""

import subprocess
import sys

expected = int(sys.argv[1])
actual = subprocess.run(sys.argv[2:]).returncode
if actual != expected:
    print(f"expect-exit: expected exit status {expected}, but got {actual}",
          file=sys.stderr)
    sys.exit(1)
