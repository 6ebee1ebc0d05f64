#!/usr/bin/env bash
# The CPU benchmarks in one command: install, build, measure. Options go to
# bench.py; `--help` lists them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
scripts/setup.sh --bench
make --no-print-directory build >&2
exec .venv/bin/python benchmarks/cpu/bench.py "$@"
