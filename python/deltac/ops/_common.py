# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What all operators share: the arguments around a recurrence."""

import inspect
import warnings

import torch
from torch import Tensor

from .._errors import unknown_argument
from .._torch import call_spec
from ._specs import find, find_names, find_options, find_spec

#: What operators return.
Result = tuple[Tensor, Tensor | None]

_NOT_YET = {
    "cu_seqlens": "packed sequences of different lengths; call it for every "
                  "sequence, or pad to one length",
    "cu_seqlens_cpu": "packed sequences of different lengths; call it for every "
                      "sequence, or pad to one length",
    "chunk_indices": "packed sequences of different lengths",
    "cp_context": "a sequence spread over several devices",
    "return_intermediate_states": "the states between chunks as results",
}
# Names that serving systems have for states in a pool.
_POOLS = ("cache_indices", "inplace_final_state", "inplace_indexed_state_update",
          "num_accepted_tokens", "out", "ssm_state_indices", "state_indices")
for _name in _POOLS:
    _NOT_YET[_name] = ("states in a pool that is updated in place; pass "
                       "initial_state and take the final state")


def refuse(op, **given):
    """NotImplementedError for an argument that has a value but no meaning yet."""
    for name, value in given.items():
        if value is not None and value is not False:
            raise NotImplementedError(
                f"{op}: argument '{name}' is not supported yet: "
                f"{_NOT_YET[name]}")


def refuse_column_gates(op, **given):
    """Gates on the value side have no place in the class of recurrences."""
    for name, value in given.items():
        if value is not None:
            raise NotImplementedError(
                f"{op}: argument '{name}' gives every column of the state a "
                "transition of its own, which is outside diagonal plus low rank "
                "acting from the left; gates on the key side ('g', 'gk') work")


def rank(op, name, x):
    """A tensor's number of axes; TypeError for what is no tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{op}: argument '{name}' is a {type(x).__name__}; expected a torch "
            "tensor (deltac.recurrence takes other arrays)")
    return x.dim()


def take_legacy(op, kwargs, state_v_first=None):
    """The state layout after looking at names of former releases; an error for
    keywords that have no meaning."""
    for name, value in kwargs.items():
        if name == "transpose_state_layout" and state_v_first is not None:
            if state_v_first:
                raise ValueError(f"{op}: both 'state_v_first' and its former "
                                 "name 'transpose_state_layout' are given")
            warnings.warn(f"{op}: 'transpose_state_layout' is the former name "
                          "of 'state_v_first'", DeprecationWarning,
                          stacklevel=3)
            state_v_first = bool(value)
        elif name == "head_first":
            if value:
                raise NotImplementedError(
                    f"{op}: argument 'head_first' is not supported; inputs are "
                    "[B, T, H, ...]")
            warnings.warn(f"{op}: 'head_first' has no meaning any more",
                          DeprecationWarning, stacklevel=3)
        elif name in _NOT_YET:
            refuse(op, **{name: value})
        else:
            from .. import ops
            known = inspect.signature(getattr(ops, op)).parameters
            raise TypeError(f"{op}: " + unknown_argument(
                name, [other for other in known if other != "kwargs"]))
    return state_v_first


def check_chunk(op, chunk_size):
    """A chunk size as the compiler takes it."""
    if chunk_size not in (None, 16, 32, 64):
        raise ValueError(f"{op}: argument 'chunk_size' is {chunk_size!r}; "
                         "expected 16, 32, 64 or None, for the compiler's choice")
    return chunk_size


def check_heads(op, q, v, name="v"):
    """GVA, more value heads than query heads, is not there yet."""
    if (rank(op, "q", q) == 4 and rank(op, name, v) >= 3
            and v.shape[2] != q.shape[2]):
        raise NotImplementedError(
            f"{op}: argument '{name}' has {v.shape[2]} heads, but 'q' has "
            f"{q.shape[2]}; grouped value heads are not supported yet: repeat "
            "the heads of q and k with repeat_interleave")


def check_beta(op, beta):
    """A strength for each value channel is outside of the class."""
    if beta is not None and rank(op, "beta", beta) == 4:
        raise NotImplementedError(
            f"{op}: argument 'beta' has shape {tuple(beta.shape)}; a strength "
            "for each value channel gives every column of the state a "
            "transition of its own; expected [B, T, H]")


def check_bound(op, lower_bound, safe_gate=False, needs=False):
    """A lower bound of log-decays, as a float."""
    if lower_bound is None:
        if safe_gate and needs:
            raise ValueError(f"{op}: argument 'lower_bound' is missing; "
                             "safe_gate with use_gate_in_kernel needs it")
        return None
    if isinstance(lower_bound, bool) or not isinstance(lower_bound,
                                                       (int, float)):
        raise TypeError(f"{op}: argument 'lower_bound' is a "
                        f"{type(lower_bound).__name__}; expected a number below "
                        "0")
    if not lower_bound < 0:
        raise ValueError(f"{op}: argument 'lower_bound' is {lower_bound}; "
                         "expected a number below 0")
    return float(lower_bound)


def check_gate(op, use_gate, A_log, dt_bias, lower_bound):
    """The params of a gate in the kernel."""
    if use_gate and A_log is None and lower_bound is None:
        raise ValueError(f"{op}: argument 'A_log' is missing; "
                         "use_gate_in_kernel needs it, or a lower_bound")
    if not use_gate and (A_log is not None or dt_bias is not None):
        name = "A_log" if A_log is not None else "dt_bias"
        raise ValueError(f"{op}: argument '{name}' is given, but "
                         "use_gate_in_kernel is false")


def call(made, arrays, scale, initial_state, output_final_state,
         state_v_first=False, reverse=False):
    """The recurrence on arrays by name. Reversed time and transposed states are
    views and copies around it; params have no time."""
    if initial_state is not None:
        rank(made[0], "initial_state", initial_state)
        if state_v_first:
            initial_state = initial_state.transpose(-1, -2)
    if reverse:
        arrays = {name: x.flip(1) if x.dim() >= 3 else x
                  for name, x in arrays.items()}
    if torch.compiler.is_compiling():
        o, final_state = call_spec(
            find_spec(*made), find_options(*made),
            [arrays[name] for name in find_names(*made).split(",")],
            initial_state, [0.0 if scale is None else float(scale)],
            0 if scale is None else 1, output_final_state)
    else:
        o, final_state = find(*made)(**arrays, scale=scale,
                                     initial_state=initial_state,
                                     output_final_state=output_final_state)
    if reverse:
        o = o.flip(1)
    if state_v_first and final_state is not None:
        final_state = final_state.transpose(-1, -2).contiguous()
    return o, final_state


__all__ = ["Result", "call", "check_beta", "check_bound", "check_chunk", "check_gate",
           "check_heads", "rank", "refuse", "refuse_column_gates",
           "take_legacy"]
