# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Specs with a small mistake are diagnosed: no crash, no hang, no silence.

A mutant that happens to be a valid spec must compile, or say what it lacks.
"""

import re
import subprocess

import pytest

from mutations import mutants
from specgen import generate

COUNT = 100
DIAGNOSTIC = re.compile(r"^<stdin>:\d+:\d+: error: [^A-Z\n][^\n]*[^.\n]$", re.M)


def compile_text(program, text, *options):
    return subprocess.run([program, "-", *options], timeout=60,
                          input=text.encode("latin-1"), capture_output=True)


@pytest.mark.parametrize("kind", ["library", "random"])
def test_near_misses(source, tool_path, kind):
    if kind == "library":
        texts = [file.read_text()
                 for file in sorted((source / "specs").glob("*.delta"))]
    else:
        texts = [generate(seed).text() for seed in range(40)]
    program = tool_path("delta-compile")
    options = ["--emit=chunk"]
    for dim, size in (("K", 4), ("V", 6), ("n", 2), ("d", 3)):
        options += ["-D", f"{dim}={size}"]
    rejected = 0
    for text in mutants(texts, COUNT, seed=1):
        # A size for a dim that the spec lacks is an error of its own.
        dims = [part for dim, part in zip("KVnd", zip(options[1::2],
                                                      options[2::2]))
                if re.search(rf"\b{dim}\b", text)]
        done = compile_text(program, text, "--emit=chunk",
                            *(word for pair in dims for word in pair))
        errors = done.stderr.decode("latin-1")
        assert done.returncode in (0, 1), (done.returncode, text, errors)
        if done.returncode == 1:
            rejected += 1
            assert not done.stdout, text
            assert "error: " in errors, (text, errors)
    assert rejected > COUNT // 2


def test_every_message_has_a_place(source, tool_path):
    texts = [file.read_text()
             for file in sorted((source / "specs").glob("*.delta"))]
    program = tool_path("delta-compile")
    for text in mutants(texts, 60, seed=2):
        done = compile_text(program, text, "--emit=step")
        errors = done.stderr.decode("latin-1")
        assert done.returncode in (0, 1), (done.returncode, text, errors)
        if done.returncode == 1:
            assert DIAGNOSTIC.search(errors), (text, errors)
