# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The two kernels of a gradient, and how they are launched on torch tensors.

The forward of a training step also writes checkpoints: the state at the start of
every so many tokens. The backward reads them and the inputs again, and computes
everything else anew.
"""

import torch

DTYPES = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16,
          "bf16": torch.bfloat16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def check_dtype(name, tensor):
    if tensor.dtype not in NAMES:
        raise TypeError(f"argument '{name}' has dtype {tensor.dtype}; expected "
                        "float32, bfloat16, float16 or float64")


def measure(signature, inputs, initial_state=None):
    """Types of the inputs and sizes of all axes, by name; errors as in a call."""
    sizes, source = {}, {}

    def learn(arg, name, tensor):
        if tensor.device != inputs[0].device:
            raise TypeError(
                f"argument '{name}' is on device '{tensor.device}', but "
                f"'{signature.inputs[0].name}' is on '{inputs[0].device}'")
        expected = ", ".join(f"{axis}={sizes[axis]}" if axis in sizes else axis
                             for axis in arg.axes)
        what = f"argument '{name}' has shape {tuple(tensor.shape)}; expected "
        if tensor.dim() != len(arg.axes):
            raise ValueError(f"{what}({expected})")
        for axis, size in zip(arg.axes, tensor.shape):
            if axis not in sizes:
                sizes[axis], source[axis] = size, name
            elif sizes[axis] != size:
                raise ValueError(f"{what}({expected}), where {axis} comes from "
                                 f"'{source[axis]}'")

    for arg, tensor in zip(signature.inputs, inputs):
        learn(arg, arg.name, tensor)
        check_dtype(arg.name, tensor)
    if initial_state is not None:
        learn(signature.state, "initial_state", initial_state)
    return tuple(NAMES[tensor.dtype] for tensor in inputs), sizes


def shape_of(arg, sizes):
    return [sizes[axis] for axis in arg.axes]


class Training:
    """The kernels for fixed types and sizes. Made by `find`."""

    def __init__(self, made, dtypes, dims, kind, index, heads, tokens):
        self.forward, self.backward, self.work = made._load_training(
            dtypes, dims, kind, index, heads, tokens)
        saved = next(arg for arg in self.backward.bundle.args
                     if arg["kind"] == "checkpoint")
        self.every = saved["every"]
        # How a state is saved is the target's choice: transposed and in 16 bits
        # on a GPU, where operands have these.
        self.saved_axes = saved["axes"][-2:]
        self.saved = DTYPES[saved["dtype"]]
        args = {arg["name"]: arg for arg in self.forward.bundle.args}
        self.outs = [DTYPES[args[arg.name]["dtype"]]
                     for arg in made.signature.outs]
        self.state = DTYPES[args[made.signature.state.name]["dtype"]]

    def new_checkpoints(self, like, sizes):
        """Room for the states that the forward saves, on `like`'s device."""
        count = (sizes["T"] + self.every - 1) // self.every
        return like.new_empty(
            [sizes["B"], sizes["H"], count,
             *(sizes[axis] for axis in self.saved_axes)], dtype=self.saved)


def find(made, dtypes, sizes, device):
    """The kernels for a call; compiles them when it is the first of its kind.

    `CompileError`, a `NotImplementedError`, where there are none.
    """
    dims, kind, index, known = _look_up(made, dtypes, sizes, device)
    heads, tokens = sizes["B"] * sizes["H"], sizes["T"]
    for training in known:
        if training.work.takes(heads, tokens):
            return training
    known.append(Training(made, dtypes, dims, kind, index, heads, tokens))
    return known[-1]


def find_like(made, dtypes, sizes, device):
    """Kernels that save states as those for a call do: for sizes that may be
    symbols, which must not be bound. How many heads and tokens there are makes
    other kernels, but saves the same."""
    *_, known = _look_up(made, dtypes, sizes, device)
    if known:
        return known[0]
    return find(made, dtypes, {axis: _guess(size)
                               for axis, size in sizes.items()}, device)


def _guess(size):
    node = getattr(size, "node", None)
    if node is None:
        return size
    return 2**20 if node.hint is None else int(node.hint)


def _look_up(made, dtypes, sizes, device):
    dims = {dim: int(sizes[dim]) for dim in made.signature.dims if dim in sizes}
    kind, index = made.device or device.type, device.index or 0
    key = (dtypes, tuple(sorted(dims.items())), kind, index)
    return dims, kind, index, made._trainings.setdefault(key, [])


def run_forward(made, inputs, initial_state, attrs):
    """Outs, the final state and the checkpoints."""
    signature = made.signature
    dtypes, sizes = measure(signature, inputs, initial_state)
    kernels = find(made, dtypes, sizes, inputs[0].device)
    if (initial_state is not None and initial_state.dtype == torch.float64
            and kernels.state != torch.float64):
        raise TypeError("argument 'initial_state' has dtype float64, but the "
                        "state of this call is float32; pass float32, or every "
                        "array in float64")
    first = inputs[0]
    outs = [first.new_empty(shape_of(arg, sizes), dtype=dtype)
            for arg, dtype in zip(signature.outs, kernels.outs)]
    final_state = first.new_empty(shape_of(signature.state, sizes),
                                  dtype=kernels.state)
    checkpoints = kernels.new_checkpoints(first, sizes)
    made._caller.stats = kernels.forward.launch(
        [_dense(x, x.dtype) for x in inputs],
        _dense(initial_state, kernels.state), outs, final_state, [],
        checkpoints, attrs)
    return [*outs, final_state, checkpoints]


def run_backward(made, inputs, cotangents, final_cotangent, checkpoints,
                 attrs):
    """Gradients of the inputs and of the initial state."""
    signature = made.signature
    dtypes, sizes = measure(signature, inputs)
    for axis, size in zip(signature.outs[0].axes, cotangents[0].shape):
        sizes.setdefault(axis, size)
    kernels = find(made, dtypes, sizes, inputs[0].device)
    first = inputs[0]
    ins = [(arg, x) for arg, x in zip(signature.inputs, inputs)
           if arg.kind == "in"]
    gradients = [first.new_empty(shape_of(arg, sizes), dtype=x.dtype)
                 for arg, x in ins]
    # One for every sequence and head, of params and attrs.
    B, H = sizes["B"], sizes["H"]
    params = [arg for arg in signature.inputs if arg.kind == "param"]
    summed = {}
    for arg in signature.args:
        if arg.kind in ("param", "attr"):
            rest = [sizes[axis] for axis in arg.axes[1:]]
            summed[arg.name] = first.new_empty([B, H, *rest],
                                               dtype=kernels.state)
    order = [arg["name"].removeprefix("d_")
             for arg in kernels.backward.bundle.args if arg["kind"] == "sum"]
    d_initial_state = first.new_empty(shape_of(signature.state, sizes),
                                      dtype=kernels.state)
    made._caller.stats = kernels.backward.launch(
        [_dense(x, x.dtype) for x in inputs]
        + [_dense(x, dtype) for x, dtype in zip(cotangents, kernels.outs)],
        _dense(final_cotangent, kernels.state), gradients, d_initial_state,
        [summed[name] for name in order], checkpoints, attrs)
    by_name = dict(zip((arg.name for arg, _ in ins), gradients))
    for arg in params:
        by_name[arg.name] = summed[arg.name].sum(0)
    return [by_name[arg.name].to(x.dtype)
            for arg, x in zip(signature.inputs, inputs)] + [d_initial_state]


def _dense(tensor, dtype):
    """Row-major without gaps, and on a GPU aligned as kernels read it."""
    if tensor is None:
        return None
    tensor = tensor.detach().to(dtype).contiguous()
    if tensor.is_cuda and tensor.data_ptr() % 16:
        tensor = tensor.clone()
    return tensor
