# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Configuration of the lit suite; docs/Testing.md lists what tests may use."""

import ctypes
import os
import platform
import shutil
import sys

import lit.formats

config.name = "delta"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".delta", ".ptx", ".test"]
# Inputs are data of other tests; pytest runs what is under python.
config.excludes = ["Inputs", "golden", "python", "CMakeLists.txt"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.delta_obj_root, "test")

# --- Tools -------------------------------------------------------------------
config.environment["PATH"] = os.pathsep.join(
    [config.delta_tools_dir, config.llvm_tools_dir,
     config.environment.get("PATH", "")])
# A variable without `$` may not leak past the next CHECK-LABEL.
config.environment["FILECHECK_OPTS"] = "-enable-var-scope"

venv_python = os.path.join(config.delta_src_root, ".venv", "bin", "python")
python = os.environ.get(
    "DELTA_PYTHON",
    venv_python if os.path.exists(venv_python) else sys.executable)
expect_exit = os.path.join(config.test_source_root, "Inputs", "expect_exit.py")

config.substitutions += [
    # `%expect-exit 2 COMMAND...` succeeds if COMMAND exits with exactly 2.
    ("%expect-exit", f"{sys.executable} {expect_exit}"),
    ("%PYTHON", python),
    ("%cc", config.host_cc),
    ("%cxx", config.host_cxx),
    ("%specs", os.path.join(config.delta_src_root, "specs")),
    ("%golden", os.path.join(config.test_source_root, "golden")),
    ("%delta_src", config.delta_src_root),
    ("%delta_obj", config.delta_obj_root),
    ("%delta_lib", config.delta_lib_dir),
]

# The same tests once more, with every parse printed and parsed again, as text
# and as bytecode.
if os.environ.get("DELTA_VERIFY_ROUNDTRIP") == "1":
    config.available_features.add("verify-roundtrip")
    config.substitutions.append(
        (r"(?<![\w/.-])delta-opt(?![\w.-])", "delta-opt --verify-roundtrip"))

# --- Features ----------------------------------------------------------------


def has_ptxas():
    """Whether delta-compile would find ptxas."""
    roots = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT")
             if name in os.environ] or ["/usr/local/cuda"]
    return shutil.which("ptxas") or any(
        os.path.exists(os.path.join(root, "bin", "ptxas")) for root in roots)


if has_ptxas():
    config.available_features.add("ptxas")


def cpu_flags():
    """The processor's feature flags as Linux names them."""
    try:
        with open("/proc/cpuinfo") as cpuinfo:
            for line in cpuinfo:
                if line.startswith(("flags", "Features")):
                    return set(line.split(":", 1)[1].split())
    except OSError:
        pass
    return set()


def has_cuda_device():
    """Whether the CUDA driver is there and finds a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return (driver.cuInit(0) == 0
            and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
            and count.value > 0)


if has_cuda_device():
    config.available_features.add("cuda-device")
config.available_features.add(platform.machine().replace("_", "-"))
for flag, feature in [("avx2", "avx2"), ("avx512f", "avx512"),
                      ("avx512_bf16", "avx512-bf16")]:
    if flag in cpu_flags():
        config.available_features.add(feature)
if config.sanitized:
    config.available_features.add("sanitized")
    # LLVM's shared libraries are not instrumented: they keep memory until the
    # process ends, and do not unpoison what our instances of LLVM's inline
    # allocators poison. Some tests ask for more memory than there is.
    config.environment.setdefault(
        "ASAN_OPTIONS",
        "detect_leaks=0:allow_user_poisoning=0:allocator_may_return_null=1")

# Nothing may hang; without psutil lit cannot stop a test.
if lit_config.maxIndividualTestTimeIsSupported[0]:
    if lit_config.maxIndividualTestTime == 0:
        lit_config.maxIndividualTestTime = 600
