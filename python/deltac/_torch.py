# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Recurrences as operators of torch.

One operator, `deltac::forward`, runs every recurrence: its spec is an argument,
so that traced and exported graphs are complete in themselves. The plain call of
a recurrence goes past it; it is used when torch has to see the call, to record
a gradient, to trace, or under a mode.
"""

import torch

from . import _recurrence, _runtime
from ._recurrence import get

_DTYPES = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16,
           "bf16": torch.bfloat16}

_library = torch.library.Library("deltac", "DEF")
_library.define(
    "forward(str spec, str options, Tensor[] inputs, Tensor? initial_state, "
    "float[] attrs, int given, bool output_final_state) -> Tensor[]",
    tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)
    if hasattr(torch.Tag, "needs_fixed_stride_order")
    else (torch.Tag.pt2_compliant_tag,))


def _unpack_attrs(attrs, given):
    """NaN, for the default, where nothing was given."""
    return [value if given >> i & 1 else float("nan")
            for i, value in enumerate(attrs)]


def _run(spec, options, inputs, initial_state, attrs, given,
         output_final_state):
    results = get(spec, options)._caller.launch(
        inputs, initial_state, _unpack_attrs(attrs, given), output_final_state)
    return list(results if output_final_state else results[:-1])


def _fake(spec, options, inputs, initial_state, attrs, given,
          output_final_state):
    made = get(spec, options)
    signature = made.signature
    sizes = {}
    for arg, tensor in zip(signature.inputs, inputs):
        if tensor.dim() != len(arg.axes):
            raise ValueError(
                f"argument '{arg.name}' has shape {tuple(tensor.shape)}; "
                f"expected ({', '.join(arg.axes)})")
        for axis, size in zip(arg.axes, tensor.shape):
            torch._check(sizes.setdefault(axis, size) == size)
    names = {dtype: name for name, dtype in _DTYPES.items()}
    for arg, tensor in zip(signature.inputs, inputs):
        if tensor.dtype not in names:
            raise TypeError(
                f"argument '{arg.name}' has dtype {tensor.dtype}; expected "
                "float32, bfloat16, float16 or float64")
    dtypes = tuple(names[tensor.dtype] for tensor in inputs)
    main = _DTYPES[made._main_dtype(dtypes)]
    wide = torch.float64 if main == torch.float64 else torch.float32
    if initial_state is not None:
        for axis, size in zip(signature.state.axes, initial_state.shape):
            torch._check(sizes.setdefault(axis, size) == size)
    results = []
    for arg in signature.outs:
        shape = [sizes[axis] for axis in arg.axes]
        results.append(inputs[0].new_empty(shape, dtype=main))
    if output_final_state:
        shape = [sizes[axis] for axis in signature.state.axes]
        results.append(inputs[0].new_empty(shape, dtype=wide))
    return results


def _setup(ctx, inputs, output):
    ctx.name = get(inputs[0], inputs[1]).name


def _backward(ctx, grads):
    raise NotImplementedError(
        f"gradients of '{ctx.name}' are not there yet; call it under "
        "torch.no_grad(), or train with the naive_ reference of deltac.ops")


for _key in ("CPU", "CUDA"):
    _library.impl("forward", _run, _key)
torch.library.register_fake("deltac::forward", _fake, lib=_library)
torch.library.register_autograd("deltac::forward", _backward,
                                setup_context=_setup, lib=_library)
_forward = torch.ops.deltac.forward.default


def call_operator(made, inputs, initial_state, attrs, output_final_state):
    """The call through the operator, with attrs that are NaN where absent."""
    given = sum(1 << i for i, value in enumerate(attrs) if value == value)
    attrs = [value if value == value else 0.0 for value in attrs]
    results = _forward(made.spec, made.options, inputs, initial_state, attrs,
                       given, output_final_state)
    return (*results,) if output_final_state else (*results, None)


def call_traced(made, args, kwargs):
    """The same from a call's arguments, in Python that Dynamo can follow."""
    signature = made.signature
    names = [arg.name for arg in signature.inputs]
    if len(args) > len(names):
        raise TypeError(f"expected at most {len(names)} positional arguments "
                        f"({', '.join(names)}), but got {len(args)}")
    found = dict(zip(names, args))
    attrs = [arg.name for arg in signature.attrs]
    values = [0.0] * len(attrs)
    given = 0
    initial_state = None
    output_final_state = False
    for name, value in kwargs.items():
        if name in names:
            if name in found:
                raise TypeError(f"argument '{name}' is given twice")
            found[name] = value
        elif name in attrs:
            if value is not None:
                values[attrs.index(name)] = float(value)
                given |= 1 << attrs.index(name)
        elif name == "initial_state":
            initial_state = value
        elif name == "output_final_state":
            output_final_state = bool(value)
        else:
            raise TypeError(f"unknown argument '{name}'; expected "
                            + ", ".join(names + attrs + [
                                "initial_state", "output_final_state"]))
    for name in names:
        if name not in found:
            raise TypeError(f"argument '{name}' is missing; the recurrence "
                            f"takes {', '.join(names)}")
    results = torch.ops.deltac.forward.default(
        made.spec, made.options, [found[name] for name in names],
        initial_state, values, given, output_final_state)
    if output_final_state:
        return tuple(results)
    return tuple(results) + (None,)


def _make_watcher():
    """Whether a mode or transformation has to see calls; private functions of
    torch, each left out where a release has it no more."""
    dispatch = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
    functorch = getattr(torch._C, "_functorch", None)
    peek = getattr(functorch, "peek_interpreter_stack", lambda: None)

    def is_watched():
        return dispatch() > 0 or peek() is not None

    return is_watched


def _empty(shape, dtype, index):
    return torch.empty(shape, dtype=getattr(torch, dtype),
                       device="cpu" if index < 0 else f"cuda:{index}")


_runtime.set_torch(torch.Tensor, torch.nn.Parameter, torch.is_grad_enabled,
                   _make_watcher(), _empty)
_recurrence._is_compiling = torch.compiler.is_compiling
