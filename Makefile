# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# The commands of daily use; `make help` lists them. CMake does the building.

PRESET ?= release
BUILD := $(if $(filter release,$(PRESET)),build,build-$(PRESET))
# A compiler process on MLIR's headers wants up to 2 GB.
JOBS ?= $(shell awk -v cpus=$$(nproc) '/MemAvailable/ { n = int($$2 / 2000000); \
	print n < 1 ? 1 : n < cpus ? n : cpus }' /proc/meminfo)

.DEFAULT_GOAL := build
.PHONY: help setup configure build check demo bench bench-gpu wheel docs format \
	tidy clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

setup: ## install what is missing (apt packages, Python into .venv)
	@scripts/setup.sh

configure: setup
	@test -f $(BUILD)/build.ninja || cmake --preset $(PRESET)

build: configure ## build into build/ (PRESET=release, debug or asan)
	@cmake --build $(BUILD) -j $(JOBS)

check: build ## build, then run every test suite
	@.venv/bin/python scripts/check.py $(BUILD)

demo: ## a spec becomes a kernel, runs on real arrays, and is compared
	@scripts/setup.sh --bench
	@$(MAKE) --no-print-directory build
	@.venv/bin/python scripts/demo.py $(BUILD)

bench: ## the CPU benchmarks, side by side with PyTorch (minutes)
	@scripts/setup.sh --bench
	@$(MAKE) --no-print-directory build
	@.venv/bin/python benchmarks/cpu/bench.py --build $(BUILD)

bench-gpu: build ## a folder with the GPU benchmark, to be copied to a GPU host
	@python3 benchmarks/gpu/build.py --build $(BUILD)

wheel: build ## the Python package as a wheel in dist/, tested in an environment of its own
	@rm -rf dist
	@.venv/bin/python -m pip wheel --quiet --no-deps --no-build-isolation \
		--config-settings=build-dir=$(BUILD) --wheel-dir dist .
	@scripts/test_wheel.sh dist/deltac-*.whl

docs: configure ## generate the dialect and pass pages into build/docs
	@cmake --build $(BUILD) -j $(JOBS) --target delta-docs

format: ## clang-format every C++ file in place
	@scripts/setup.sh --dev
	@git ls-files '*.cpp' '*.h' '*.c' | xargs /usr/lib/llvm-22/bin/clang-format -i

tidy: ## clang-tidy every C++ file of lib and tools
	@scripts/setup.sh --dev
	@$(MAKE) --no-print-directory build
	@/usr/lib/llvm-22/bin/run-clang-tidy -quiet -p $(BUILD) \
		-clang-tidy-binary /usr/lib/llvm-22/bin/clang-tidy '$(CURDIR)/(lib|tools)/'

clean: ## remove the build folders
	rm -rf build build-debug build-asan
