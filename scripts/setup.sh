#!/usr/bin/env bash
# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Brings a Debian 12 machine to where delta builds and its tests run: the apt
# packages and the Python environment `.venv`. Safe to run again and again: it
# only adds what is missing, and costs a fraction of a second when nothing is.
#
#   scripts/setup.sh            what building and testing need
#   scripts/setup.sh --bench    also what the demo and the benchmarks compare with
#   scripts/setup.sh --dev      also clang-format and clang-tidy
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The one list of what comes from Debian.
packages=(
  cmake
  g++
  libmlir-22-dev
  libzip-dev
  llvm-22-dev
  llvm-22-tools
  mlir-22-tools
  ninja-build
  nlohmann-json3-dev # header only
  pkg-config
  python3-dev # headers for the Python package
  python3-psutil # lit's time limits
  python3-venv
  zlib1g-dev
)
# Nice to have: the build is only slower without it.
optional_packages=(ccache)
dev_packages=(clang-format-22 clang-tidy-22)

bench=0
for arg in "$@"; do
  case "$arg" in
    --bench) bench=1 ;;
    --dev) packages+=("${dev_packages[@]}") ;;
    -h | --help) sed -n '5,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "setup: error: unknown option '$arg'; --bench and --dev are accepted" >&2; exit 1 ;;
  esac
done

say() { echo "setup: $*" >&2; }

installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# apt ARGS...: apt-get as root, patient while another process holds its lock.
apt() {
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
      say "error: installing needs root or sudo; ask an administrator for: apt-get install ${missing[*]}"
      exit 1
    }
    as_root=(sudo)
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o DPkg::Lock::Timeout=600 "$@"
}

# --- Debian packages ---------------------------------------------------------
if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
  missing=()
  for package in "${packages[@]}"; do
    installed "$package" || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]}"
    apt update || say "apt-get update failed; trying with the package lists at hand"
    for package in "${missing[@]}"; do
      apt-cache show "$package" >/dev/null 2>&1 || {
        say "error: no package '$package' in the configured apt sources; LLVM 22 is in Debian 12's main and security suites"
        exit 1
      }
    done
    for package in "${optional_packages[@]}"; do
      if ! installed "$package" && apt-cache show "$package" >/dev/null 2>&1; then
        missing+=("$package")
      fi
    done
    apt install -y --no-install-recommends "${missing[@]}" >/dev/null
  fi
elif [ ! -d /usr/lib/llvm-22 ]; then
  say "error: apt-get is not here, so nothing can be installed; needed are: ${packages[*]}"
  exit 1
fi

# --- Python environment ------------------------------------------------------
# Debian's own python3 comes with the venv module installed above; another
# python3 that happens to come first on PATH may be too old or have no venv.
python=/usr/bin/python3
[ -x "$python" ] || python=python3

if ! .venv/bin/python -c '' 2>/dev/null; then
  say "making .venv"
  rm -rf .venv
  "$python" -m venv .venv
fi

# require FILE: pip-installs a requirements file unless exactly this file was
# installed before.
require() {
  local stamp=".venv/.installed-$(basename "$1" .txt)"
  cmp -s "$1" "$stamp" && return 0
  say "installing Python packages of $1"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --requirement "$1" || return 1
  cp "$1" "$stamp"
}

require requirements-test.txt || {
  say "error: pip could not install requirements-test.txt; see its message above"
  exit 1
}
# The package and most of its tests do without PyTorch; tests that need it are
# reported as skipped when it is not there.
require requirements-torch.txt || {
  say "warning: PyTorch could not be installed; tests of the operators will be skipped"
}
# Only compared with: what needs it says so when it is not there.
if [ "$bench" = 1 ] && ! require requirements-bench.txt; then
  say "warning: transformers could not be installed; comparisons with it will be left out"
fi
