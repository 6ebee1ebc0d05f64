# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Run every test suite of a build and add up the results.

    check.py BUILD_DIR

Each suite writes a machine-readable report, which is what is counted. The last
line printed is `N passed, N failed` over all suites. Exit status 1 if a test
failed, or if a suite ran no test at all, which is how a broken set-up looks.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

SOURCE = pathlib.Path(__file__).resolve().parent.parent


class Count(NamedTuple):
    """Results of one suite; `skipped` are neither passed nor failed."""
    passed: int = 0
    failed: int = 0
    skipped: int = 0


def count_lit(report):
    """Count lit's JSON report (`lit --output`)."""
    good = {"PASS", "FLAKYPASS", "XFAIL"}
    skip = {"UNSUPPORTED", "EXCLUDED", "SKIPPED"}
    codes = [test["code"] for test in json.loads(report.read_text())["tests"]]
    return Count(sum(c in good for c in codes),
                 sum(c not in good | skip for c in codes),
                 sum(c in skip for c in codes))


def count_junit(report):
    """Count a JUnit XML report (pytest, ctest)."""
    passed = failed = skipped = 0
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed += 1
        elif "skipped" in kinds or case.get("status") == "disabled":
            skipped += 1
        else:
            passed += 1
    return Count(passed, failed, skipped)


def lit_program(build):
    """The lit that CMake found when it configured `build`."""
    for line in (build / "CMakeCache.txt").read_text().splitlines():
        match = re.fullmatch(r"LLVM_DIR:\w+=(.*)/lib/cmake/llvm/?", line)
        if match:
            return os.path.join(match[1], "bin", "lit")
    return "lit"


def suites(build):
    """Yield (name, command, report file, counter, extra environment)."""
    lit = [lit_program(build), "-sv", "--no-progress-bar"]
    reports = build / "test-reports"
    reports.mkdir(exist_ok=True)

    report = reports / "lit.json"
    yield ("lit", [*lit, "-o", report, build / "test"], report, count_lit, {})

    if (SOURCE / "test" / "Dialect").is_dir():
        report = reports / "lit-roundtrip.json"
        yield ("lit-roundtrip",
               [*lit, "-o", report, build / "test" / "Dialect"], report,
               count_lit, {"DELTA_VERIFY_ROUNDTRIP": "1"})

    folders = [folder for folder in (SOURCE / "test" / "python",
                                     SOURCE / "python" / "tests")
               if list(folder.rglob("test_*.py"))]
    report = reports / "pytest.xml"
    yield ("pytest", [sys.executable, "-m", "pytest", "-q",
                      f"--junitxml={report}", *folders],
           report, count_junit, {"DELTA_BUILD": str(build)})

    if (build / "CTestTestfile.cmake").exists():
        report = reports / "ctest.xml"
        yield ("ctest", ["ctest", "--test-dir", build, "--output-on-failure",
                         "--output-junit", report], report, count_junit, {})


def main():
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    build = build.resolve()
    if not (build / "CMakeCache.txt").exists():
        print(f"check: error: no build in '{build}'; run `make build` first",
              file=sys.stderr)
        return 1

    # For a build with the sanitizers; test/lit.cfg.py says why.
    os.environ.setdefault(
        "ASAN_OPTIONS",
        "detect_leaks=0:allow_user_poisoning=0:allocator_may_return_null=1")

    total = Count()
    ok = True
    summary = []
    for name, command, report, counter, environment in suites(build):
        print(f"== {name}", flush=True)
        report.unlink(missing_ok=True)
        start = time.monotonic()
        status = subprocess.run([str(part) for part in command], cwd=SOURCE,
                                env={**os.environ, **environment}).returncode
        seconds = time.monotonic() - start
        try:
            count = counter(report)
        except (OSError, ValueError, ElementTree.ParseError):
            # The runner itself broke down: that is one failure.
            count = Count(failed=1)
        if status != 0 and count.failed == 0:
            # For example an error while collecting, or no test at all.
            count = count._replace(failed=1)
        remark = ""
        if count.passed + count.failed == 0 or status == 5:
            remark, ok = "  (no test was run)", False
        summary.append(f"  {name:14s} {count.passed:5d} passed "
                       f"{count.failed:5d} failed {count.skipped:5d} skipped "
                       f"{seconds:8.1f} s{remark}")
        total = Count(*(a + b for a, b in zip(total, count)))

    print("== all suites", *summary, sep="\n")
    print(f"{total.passed} passed, {total.failed} failed", flush=True)
    return 0 if ok and total.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
