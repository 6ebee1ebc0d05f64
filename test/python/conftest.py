# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Fixtures of the Python suites: where the build, the tools and the data are.

The build is `build/` at the top, or what DELTA_BUILD names.
"""

import os
import pathlib
import subprocess

import pytest

from kernels import Kernels

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DELTA_BUILD", SOURCE / "build")).resolve()


@pytest.fixture(scope="session")
def source():
    """The top of the source tree."""
    return SOURCE


@pytest.fixture(scope="session")
def golden():
    """The folder of golden vectors."""
    return SOURCE / "test" / "golden"


@pytest.fixture(scope="session")
def tool_path():
    """`tool_path(NAME)`: a tool of the build as a path."""
    return lambda name: str(BUILD / "bin" / name)


@pytest.fixture(scope="session")
def tool():
    """`tool(NAME, *args, expect=0, **kwargs)`: run a tool of the build.

    Returns the CompletedProcess with captured text; a status other than
    `expect` fails the test and shows both streams.
    """

    def run(name, *args, expect=0, **kwargs):
        command = [str(BUILD / "bin" / name), *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True,
                              timeout=600, **kwargs)
        assert done.returncode == expect, (
            f"{' '.join(command)}\nexit status {done.returncode}, expected "
            f"{expect}\n{done.stdout}\n{done.stderr}")
        return done

    return run


@pytest.fixture(scope="session")
def kernels(tool, tmp_path_factory):
    """`kernels(SPEC, dtype=, chunk=, fn=, K=, V=)`: a compiled kernel."""
    return Kernels(tool, tmp_path_factory.mktemp("kernels"))
