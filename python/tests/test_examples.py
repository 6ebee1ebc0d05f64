# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The examples in Python run, in a small size, and say what they should."""

import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree

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


@pytest.mark.parametrize("layer", ["rwkv7", "gdn", "kda"])
def test_train_lm(layer, tmp_path):
    """Both implementations fall alike, step by step; the exit status says so."""
    picture = tmp_path / "curve.svg"
    output = run("train_lm.py", "--layer", layer, "--implementation", "both",
                 "--steps", "4", "--batch", "2", "--tokens", "24",
                 "--held-out", "40", "--sample", "20", "--picture",
                 str(picture))
    assert f"{layer}: " in output and "a sample" in output
    losses = re.findall(r"^ +\d+ +([\d.]+) +([\d.]+)$", output, re.M)
    assert len(losses) >= 3
    assert all(abs(float(a) - float(b)) < 1e-3 for a, b in losses)
    xml.etree.ElementTree.parse(picture)
