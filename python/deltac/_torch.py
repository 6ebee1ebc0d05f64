# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Recurrences as operators of torch.

`deltac::forward` runs every recurrence: its spec is an argument, so that traced
and exported graphs are complete in themselves. `deltac::training_forward` saves
what `deltac::backward` reads. The plain call of a recurrence goes past them; they
are used when torch has to see the call, to record a gradient, to trace, or under
a mode.
"""

import torch
from torch.autograd import forward_ad

from . import _callable, _gradient, _runtime
from ._errors import CompileError
from ._recurrence import get

_TAGS = (torch.Tag.pt2_compliant_tag,)
_library = torch.library.Library("deltac", "DEF")
_library.define(
    "forward(str spec, str options, Tensor[] inputs, Tensor? initial_state, "
    "float[] attrs, int given, bool output_final_state) -> Tensor[]",
    tags=_TAGS)
_library.define(
    "training_forward(str spec, str options, Tensor[] inputs, "
    "Tensor? initial_state, float[] attrs, int given) -> Tensor[]", tags=_TAGS)
_library.define(
    "backward(str spec, str options, Tensor[] inputs, Tensor[] cotangents, "
    "Tensor? final_cotangent, Tensor checkpoints, float[] attrs, int given) "
    "-> Tensor[]", tags=_TAGS)


def _unpack_attrs(attrs, given):
    """NaN, for the default, where nothing was given."""
    return [value if given >> i & 1 else float("nan")
            for i, value in enumerate(attrs)]


# --- Kernels -----------------------------------------------------------------

def _run(spec, options, inputs, initial_state, attrs, given,
         output_final_state):
    results = get(spec, options)._caller.launch(
        inputs, initial_state, _unpack_attrs(attrs, given), output_final_state)
    return list(results if output_final_state else results[:-1])


def _run_training(spec, options, inputs, initial_state, attrs, given):
    return _gradient.run_forward(get(spec, options), inputs, initial_state,
                                 _unpack_attrs(attrs, given))


def _run_backward(spec, options, inputs, cotangents, final_cotangent,
                  checkpoints, attrs, given):
    return _gradient.run_backward(get(spec, options), inputs, cotangents,
                                  final_cotangent, checkpoints,
                                  _unpack_attrs(attrs, given))


# --- Shapes ------------------------------------------------------------------

def _fake(spec, options, inputs, initial_state, attrs, given,
          output_final_state):
    made = get(spec, options)
    signature = made.signature
    dtypes, sizes = _gradient.measure(signature, inputs, initial_state)
    main = _gradient.DTYPES[made._main_dtype(dtypes)]
    wide = torch.float64 if main == torch.float64 else torch.float32
    results = [inputs[0].new_empty(_gradient.shape_of(arg, sizes), dtype=main)
               for arg in signature.outs]
    if output_final_state:
        results.append(inputs[0].new_empty(
            _gradient.shape_of(signature.state, sizes), dtype=wide))
    return results


def _fake_training(spec, options, inputs, initial_state, attrs, given):
    made = get(spec, options)
    dtypes, sizes = _gradient.measure(made.signature, inputs, initial_state)
    # How many states are saved is the compiler's choice.
    kernels = _gradient.find_like(made, dtypes, sizes, inputs[0].device)
    results = _fake(spec, options, inputs, initial_state, attrs, given, True)
    results.append(kernels.new_checkpoints(inputs[0], sizes))
    return results


def _fake_backward(spec, options, inputs, cotangents, final_cotangent,
                   checkpoints, attrs, given):
    signature = get(spec, options).signature
    dtypes, sizes = _gradient.measure(signature, inputs)
    for axis, size in zip(signature.outs[0].axes, cotangents[0].shape):
        sizes.setdefault(axis, size)
    kernels = _gradient.find_like(get(spec, options), dtypes, sizes,
                                  inputs[0].device)
    return [x.new_empty(x.shape) for x in inputs] + [inputs[0].new_empty(
        _gradient.shape_of(signature.state, sizes), dtype=kernels.state)]


# --- Gradients ---------------------------------------------------------------

def _setup(ctx, inputs, output):
    spec, options, arrays, initial_state, attrs, given = inputs[:6]
    # No zeros for outputs that nobody uses: saved states are large.
    ctx.set_materialize_grads(False)
    ctx.call = spec, options, attrs, given
    ctx.num_inputs = len(arrays)
    ctx.has_state = initial_state is not None
    ctx.state_dtype = initial_state.dtype if ctx.has_state else None
    ctx.shapes = [(x.shape, x.dtype) for x in output]
    saved = [*arrays, *([initial_state] if ctx.has_state else [])]
    if len(inputs) == 6:  # a training_forward
        saved.append(output[-1])
    ctx.save_for_backward(*saved)


def _differentiate(ctx, grads, trains):
    spec, options, attrs, given = ctx.call
    saved = ctx.saved_tensors  # once: checkpointing unpacks it then
    inputs, rest = list(saved[:ctx.num_inputs]), saved[ctx.num_inputs:]
    initial_state = rest[0] if ctx.has_state else None
    num_outs = len(get(spec, options).signature.outs)
    if trains:
        checkpoints = rest[-1]
    else:
        checkpoints = torch.ops.deltac.training_forward.default(
            spec, options, inputs, initial_state, attrs, given)[-1]
    cotangents = [
        inputs[0].new_zeros(shape, dtype=dtype) if grad is None else grad
        for grad, (shape, dtype) in zip(grads[:num_outs], ctx.shapes)]
    final_cotangent = grads[num_outs] if len(grads) > num_outs else None
    *gradients, d_state = torch.ops.deltac.backward.default(
        spec, options, inputs, cotangents, final_cotangent, checkpoints, attrs,
        given)
    d_state = d_state.to(ctx.state_dtype) if ctx.has_state else None
    # torch takes a list without elements for one of tensors.
    return None, None, gradients, d_state, None if attrs else [], None


def _backward(ctx, grads):
    return *_differentiate(ctx, grads, trains=False), None


def _backward_training(ctx, grads):
    return _differentiate(ctx, grads, trains=True)


def _setup_double(ctx, inputs, output):
    ctx.name = get(inputs[0], inputs[1]).name


def _double_backward(ctx, grads):
    raise NotImplementedError(
        f"the gradient of '{ctx.name}' cannot be differentiated again; use the "
        "naive_ reference of deltac.ops for second derivatives")


for _name, _kernel, _shapes, _gradients, _context in (
        ("forward", _run, _fake, _backward, _setup),
        ("training_forward", _run_training, _fake_training, _backward_training,
         _setup),
        ("backward", _run_backward, _fake_backward, _double_backward,
         _setup_double)):
    for _key in ("CPU", "CUDA"):
        _library.impl(_name, _kernel, _key)
    torch.library.register_fake(f"deltac::{_name}", _shapes, lib=_library)
    torch.library.register_autograd(f"deltac::{_name}", _gradients,
                                    setup_context=_context, lib=_library)


# --- Calls -------------------------------------------------------------------

def call_spec(spec, options, inputs, initial_state, attrs, given,
              output_final_state):
    """The outs and the final state or None, by the operator that the moment
    calls for. Dynamo traces this."""
    trains = torch.is_grad_enabled() and (
        any([x.requires_grad for x in inputs])
        or (initial_state is not None and initial_state.requires_grad))
    if trains:
        results = torch.ops.deltac.training_forward.default(
            spec, options, inputs, initial_state, attrs, given)[:-1]
        if not output_final_state:
            results = results[:-1]
    else:
        results = torch.ops.deltac.forward.default(
            spec, options, inputs, initial_state, attrs, given,
            output_final_state)
    if output_final_state:
        return tuple(results)
    return tuple(results) + (None,)


def _check_modes(made, tensors):
    """Refuses what operators of torch would get wrong or not explain."""
    for arg, x in zip((*made.signature.inputs, None), tensors):
        if x is None:
            continue
        name = arg.name if arg else "initial_state"
        if x.layout != torch.strided:
            raise TypeError(f"argument '{name}' has layout {x.layout}; expected "
                            "a dense tensor")
        _gradient.check_dtype(name, x)
        if x.device.type not in ("cpu", "cuda", "meta"):
            raise NotImplementedError(
                f"argument '{name}' is on device '{x.device}', for which there "
                "are no kernels; there are for 'cpu' and 'cuda'")
        if forward_ad._current_level >= 0 and \
                forward_ad.unpack_dual(x).tangent is not None:
            raise NotImplementedError(
                f"argument '{name}' of '{made.name}' has a tangent: there are "
                "no forward-mode gradients; use backward()")
    level = _peek()
    if level is not None and level.key() in _TRANSFORMS:
        raise NotImplementedError(
            f"'{made.name}' is called under a transformation of torch.func "
            f"({str(level.key()).split('.')[-1].lower()}), which is not "
            "supported; use torch.autograd, and more heads or a larger batch in "
            "place of vmap")


def call_operator(made, inputs, initial_state, attrs, output_final_state):
    """The call through an operator, with attrs that are NaN where absent."""
    _check_modes(made, [*inputs, initial_state])
    given = sum(1 << i for i, value in enumerate(attrs) if value == value)
    attrs = [value if value == value else 0.0 for value in attrs]
    try:
        return call_spec(made.spec, made.options, inputs, initial_state, attrs,
                         given, output_final_state)
    except CompileError:
        # Without a gradient the call may be fine; asking for it says why not.
        results = torch.ops.deltac.forward.default(
            made.spec, made.options, inputs, initial_state, attrs, given,
            output_final_state)
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
    return call_spec(made.spec, made.options, [found[name] for name in names],
                     initial_state, values, given, output_final_state)


# Private functions of torch, each left out where a release has it no more.
_dispatch_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
_functorch = getattr(torch._C, "_functorch", None)
_peek = getattr(_functorch, "peek_interpreter_stack", lambda: None)
_TRANSFORMS = [getattr(getattr(_functorch, "TransformType", None), name, None)
               for name in ("Vmap", "Grad", "Jvp")]


def _is_watched():
    """Whether a mode or transformation has to see calls."""
    return (_dispatch_modes() > 0 or _peek() is not None
            or forward_ad._current_level >= 0)


def _empty(shape, dtype, index):
    return torch.empty(shape, dtype=getattr(torch, dtype),
                       device="cpu" if index < 0 else f"cuda:{index}")


def _stream(index):
    return torch.cuda.current_stream(index).cuda_stream


def introduce(uses_table=True):
    """Tell the native module of torch; without the table of C functions that
    releases from 2.10 on have, it looks at tensors more slowly."""
    _runtime.set_torch(torch.Tensor, torch.nn.Parameter, torch.is_grad_enabled,
                       _is_watched, _empty, _stream, uses_table)


introduce()
_callable._is_compiling = torch.compiler.is_compiling
