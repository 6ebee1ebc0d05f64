# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The few functions of the CUDA driver that loading and launching needs."""

import ctypes

_MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class DriverError(RuntimeError):
    pass


class Driver:
    """libcuda in the current context, which PyTorch has made."""

    def __init__(self, library=None):
        self.library = library or ctypes.CDLL("libcuda.so.1")

    def call(self, function, *arguments):
        status = getattr(self.library, function)(*arguments)
        if status == 0:
            return
        text = ctypes.c_char_p()
        self.library.cuGetErrorString(status, ctypes.byref(text))
        reason = text.value.decode() if text.value else f"error {status}"
        raise DriverError(f"{function}: {reason}")

    def load(self, image, entries):
        """The functions of a cubin (or PTX text): for each of `entries`, pairs
        of a name and the dynamic shared memory that it may use."""
        module = ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module),
                  ctypes.c_char_p(image))
        functions = []
        for entry, shared_bytes in entries:
            function = ctypes.c_void_p()
            self.call("cuModuleGetFunction", ctypes.byref(function), module,
                      entry.encode())
            if shared_bytes > 48 << 10:
                self.call("cuFuncSetAttribute", function,
                          ctypes.c_int(_MAX_DYNAMIC_SHARED),
                          ctypes.c_int(shared_bytes))
            functions.append(function)
        return functions

    def launch(self, function, grid, threads, shared_bytes, stream, parameters):
        """Launches a 1-D grid; `parameters` is an array of pointers to the
        arguments."""
        self.call("cuLaunchKernel", function, ctypes.c_uint(grid),
                  ctypes.c_uint(1), ctypes.c_uint(1), ctypes.c_uint(threads),
                  ctypes.c_uint(1), ctypes.c_uint(1),
                  ctypes.c_uint(shared_bytes), ctypes.c_void_p(stream),
                  parameters, None)
