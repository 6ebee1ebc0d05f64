# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The package where it was installed, away from the build tree."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = os.environ.get("DELTA_BUILD")

SCRIPT = """
import sys
import numpy as np
import deltac
assert deltac.__file__.startswith(sys.argv[1]), deltac.__file__
x = np.ones((1, 4, 1, 8), np.float32)
o, _ = deltac.recurrence("linear_attn")(x, x, x, scale=1)
assert (o[0, :, 0, 0] == 8 * np.arange(1, 5)).all(), o
maps = open("/proc/self/maps").read()
print({line.split()[-1] for line in maps.splitlines() if "libdelta" in line})
"""


@pytest.mark.skipif(not BUILD or shutil.which("cmake") is None
                    or shutil.which("readelf") is None,
                    reason="needs a build tree, CMake and readelf")
def test_what_a_wheel_holds(tmp_path):
    """The modules find the libraries beside them, wherever they are."""
    subprocess.run(["cmake", "--install", BUILD, "--component", "python",
                    "--prefix", str(tmp_path)], check=True,
                   stdout=subprocess.DEVNULL)
    shutil.copytree(SOURCE / "python" / "deltac", tmp_path / "deltac",
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__"))
    assert (tmp_path / "deltac" / "py.typed").exists()
    for library in (tmp_path / "deltac" / "lib").iterdir():
        # Nothing of the build, nor the folder that a program happens to run in.
        entries = dict(re.findall(r"\((\w+)\).*\[(.*)\]", subprocess.run(
            ["readelf", "-d", library], capture_output=True, text=True,
            check=True).stdout))
        path = entries.get("RUNPATH", entries.get("RPATH", "$ORIGIN"))
        assert all(folder and not folder.startswith(BUILD)
                   for folder in path.split(":")), path
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)],
                            env=environment, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    libraries = eval(result.stdout)
    assert libraries and all(path.startswith(str(tmp_path))
                             for path in libraries)


def test_bundles_need_no_compiler(tmp_path):
    """A process that only runs bundles never loads LLVM."""
    import deltac
    path = tmp_path / "linear_attn.bundle"
    deltac.recurrence("linear_attn").save(path, K=8, V=8)
    script = ("import sys, numpy as np, deltac\n"
              "x = np.ones((1, 4, 1, 8), np.float32)\n"
              "o, _ = deltac.load(sys.argv[1])(x, x, x)\n"
              "print('libLLVM' in open('/proc/self/maps').read())")
    result = subprocess.run([sys.executable, "-c", script, str(path)],
                            text=True, capture_output=True)
    assert result.stdout.strip() == "False", result.stderr
