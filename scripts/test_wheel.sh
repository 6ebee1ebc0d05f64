#!/usr/bin/env bash
# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Installs a wheel into a new environment, away from the sources, and runs the
# package's tests that need no torch.
#
#   scripts/test_wheel.sh dist/deltac-*.whl
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
wheel=$(realpath "${1:?usage: test_wheel.sh WHEEL}")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  --requirement requirements-test.txt "$wheel"
cp -r python/tests "$folder/tests"
cd "$folder"
env -u DELTA_BUILD -u PYTHONPATH "$folder/venv/bin/python" -m pytest -q tests
