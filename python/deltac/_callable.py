# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What recurrences and loaded bundles have in common: the call."""

from __future__ import annotations

import sys
import threading
from typing import Any

from . import _arrays, _runtime

DEVICES = (None, "cpu", "cuda", "sim")
LONG = {"f32": "float32", "f64": "float64", "f16": "float16",
        "bf16": "bfloat16"}
_SHORT = {"float32": "f32", "float64": "f64", "float16": "f16",
          "bfloat16": "bf16", "f32": "f32", "f64": "f64", "f16": "f16",
          "bf16": "bf16"}

# By text and options: what torch's operators run.
registry = {}
lock = threading.Lock()

# Replaced by torch.compiler.is_compiling when torch is there.
_is_compiling = bool


def dtype_name(dtype):
    """"f32" for float32 of NumPy or torch, or for a name; a TypeError else."""
    text = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", None)
    if text is None:
        text = str(getattr(dtype, "name", dtype))
    short = _SHORT.get(text.removeprefix("torch."))
    if short is None:
        raise TypeError(f"dtype {dtype!r} is not known; expected float32, "
                        "bfloat16, float16 or float64")
    return short


def check_choice(name, value, choices):
    if value not in choices:
        wanted = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"argument '{name}' is {value!r}; expected {wanted}")


class Callable:
    """The call over `signature`, with kernels from `_build` and, for gradients,
    from `_load_training`, which also say what calls they are for."""

    def __init__(self, signature, target=""):
        self.signature = signature
        self._target = target
        self._trainings = {}
        self._make_caller()
        adopt_torch()

    def _make_caller(self):
        signature = self.signature
        self._caller = _runtime.Caller(
            [(arg.name, arg.axes) for arg in signature.inputs],
            signature.state.axes,
            [(arg.name, arg.axes) for arg in signature.outs],
            [arg.name for arg in signature.attrs], self._target, self._build,
            _arrays.convert)

    @property
    def name(self) -> str:
        """The recurrence's name."""
        return self.signature.name

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run the recurrence over the tokens.

        Ins and params by position, in declared order, or by name; attrs,
        `initial_state` and `output_final_state` by name. Arrays are NumPy's or
        torch's, of one kind and on one device, in fla's layouts: tokens
        `[B, T, H, dim]`, `[B, T, H]` for scalars, `[B, T, n, H, dim]` for
        micro-steps, params `[H, dim]`, the state `[B, H, K, V]`. Any strides
        are taken.

        Returns the outs and the final state, which is None unless
        `output_final_state` is true, as one tuple. Outs have the type of the
        first vector input, states are float32, or float64 with float64 inputs.
        """
        if _is_compiling():
            return self._traced(args, kwargs)
        result = self._caller.call(args, kwargs)
        if result is None:
            result = self._watched(*self._caller.bind(args, kwargs))
        return result

    # --- torch ---------------------------------------------------------------

    def _traced(self, args, kwargs):
        """The call as torch.compile sees it: argument binding in Python, then
        one operator."""
        from ._torch import call_traced
        return call_traced(self, args, kwargs)

    def _watched(self, inputs, initial_state, attrs, output_final_state):
        from ._torch import call_operator
        # Of equal ones, operators find the one that was called: its `stats`.
        registry[self.spec, self.options] = self
        return call_operator(self, inputs, initial_state, attrs,
                             output_final_state)

    def _main_dtype(self, dtypes):
        """The type of the outs: that of the first vector."""
        for arg, dtype in zip(self.signature.inputs, dtypes):
            if arg.kind == "in" and arg.is_vector:
                return dtype
        return dtypes[0]

    @property
    def stats(self) -> str:
        """The simulator's counters of the last launch on it, as JSON."""
        return self._caller.stats


def adopt_torch():
    """Let torch see recurrences when the program uses it."""
    if "torch" in sys.modules:
        from . import _torch  # noqa: F401  (registers itself)


__all__ = ["Callable", "DEVICES", "LONG", "adopt_torch", "check_choice",
           "dtype_name", "lock", "registry"]
