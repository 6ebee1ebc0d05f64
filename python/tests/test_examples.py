# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The examples in Python run, in a small size, and say what they should."""

import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"

pytest.importorskip("torch")


def run(name, *arguments):
    path = EXAMPLES / name
    if not path.exists():
        pytest.skip("there are no sources beside the tests")
    result = subprocess.run([sys.executable, str(path), *arguments], text=True,
                            capture_output=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_qwen3_next():
    pytest.importorskip("transformers")
    output = run("qwen3_next.py", "--tokens", "96", "--new", "4")
    assert "4 generated tokens: the same" in output


def test_new_variant():
    output = run("new_variant.py", "--steps", "3")
    assert "training to recall values by their keys" in output
