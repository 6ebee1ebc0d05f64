# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Write variants of a PTX file with a planted fault into a folder.

    break_ptx.py FILE.ptx DIR
"""

import pathlib
import sys

text = pathlib.Path(sys.argv[1]).read_text()
folder = pathlib.Path(sys.argv[2])


def write(name, old, new):
    """Replace the one `old`."""
    assert text.count(old) == 1
    (folder / f"{name}.ptx").write_text(text.replace(old, new))


write("bounds", "st.global.f32 [%rd3], %x0;\n  add.u64 %t",
      "st.global.f32 [%rd3+8192], %x0;\n  add.u64 %t")
write("unwritten", "st.global.f32 [%rd3+128], %x1;", "")
write("unknown", "mul.rn.f32 %x0, %x0, %gain;", "frobnicate.f32 %x0, %gain;")
write("name", "delta_gain_forward", "delta_other")
