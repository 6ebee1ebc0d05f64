# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""README.md says what happens: its `console` blocks are run and compared.

In such a block `$ ` begins a command, and what follows is its output on both
streams. Measured numbers differ from machine to machine, so numbers with a
fraction or an exponent only have to be numbers; a line `...` stands for any
lines. The commands share a folder, in order; a block whose info string is
`delta FILE` or `python FILE` is a file in it. Commands with `python` are left out
when the build has no Python package.
"""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from conftest import BUILD, SOURCE

README = (SOURCE / "README.md").read_text()
NUMBER = re.compile(r"\d+\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+")


def steps():
    """(command, expected output) over all console blocks."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", README, re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append([line[2:], []])
            else:
                found[-1][1].append(line)
    return [(command, "\n".join(lines)) for command, lines in found]


def pattern(expected):
    """A regular expression for an expected output."""
    lines = []
    for line in expected.splitlines():
        if line.strip() == "...":
            lines.append(r"(?:.*\n)*?")
        else:
            parts = [re.escape(part) for part in NUMBER.split(line.rstrip())]
            lines.append(r"[\d.e+-]+".join(parts) + r"[ ]*\n")
    return "".join(lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the checkout's data in it, as the README assumes."""
    path = tmp_path_factory.mktemp("readme")
    for name in ("test", "specs"):
        (path / name).symlink_to(SOURCE / name)
    for name, text in re.findall(r"^```(?:delta|python) (\S+)\n(.*?)^```$", README,
                                 re.M | re.S):
        (path / name).write_text(text)
    return path


def test_console_blocks(folder):
    interpreter = pathlib.Path(sys.executable).parent
    environment = {
        **os.environ, "PYTHONPATH": str(BUILD / "python"),
        "DELTA_CACHE_DIR": str(folder / "cache"),
        "PATH": f"{BUILD / 'bin'}:{interpreter}:{os.environ['PATH']}"}
    has_package = list((BUILD / "python").glob("deltac/_runtime*"))
    for command, expected in steps():
        if command.startswith("python") and not has_package:
            continue
        done = subprocess.run(["bash", "-c", command], cwd=folder, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=environment, timeout=300)
        output = done.stdout.rstrip("\n") + "\n"
        if output == "\n":
            output = ""
        assert re.fullmatch(pattern(expected), output), (
            f"$ {command}\n--- README says\n{expected}\n--- but it is\n{output}")
