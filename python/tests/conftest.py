# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Tests of the package deltac, from a build tree or as installed.

`DELTA_BUILD` names the build; without it, or without the package in it, the
installed package is tested. Every run has a cache of compiled kernels of its
own, which its processes share.
"""

import os
import pathlib
import sys

import pytest

_build = os.environ.get("DELTA_BUILD")
if _build:
    _package = pathlib.Path(_build) / "python"
    if list((_package / "deltac").glob("_runtime*")):
        sys.path.insert(0, str(_package))
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(_package), *filter(None, [os.environ.get("PYTHONPATH")])])

# Set before the first import, for this process and those it starts.
# torch's small tensors gain nothing from threads, which on a busy machine wait
# for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("DELTA_STRICT", None)


def pytest_configure(config):
    import tempfile
    folder = tempfile.TemporaryDirectory(prefix="deltac-test-")
    os.environ["DELTA_CACHE_DIR"] = folder.name
    config.add_cleanup(folder.cleanup)


collect_ignore_glob = []
try:
    import deltac  # noqa: F401
except ImportError:
    # A build without nanobind: check.py's report says so by a skipped test.
    collect_ignore_glob = ["test_[!_]*.py"]


@pytest.fixture
def counters():
    """Kernels compiled, read from and written to disk, from here on."""
    from deltac import _cache
    before = dict(_cache.counters)

    class Difference:
        def __getitem__(self, name):
            return _cache.counters[name] - before[name]

    return Difference()
