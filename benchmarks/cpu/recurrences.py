# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The benchmarked recurrences: inputs, useful work, and PyTorch's versions.

Arrays are float32 in the layout of the spec language: tokens [B, T, H, dim]
([B, T, H] for scalars), state [B, H, K, V].
"""

import math

import numpy as np

# What the chunk algebra calls the class of the transition; see `useful_flops`.
CLASSES = {
    "gla": "rank 0",
    "delta_rule": "tied",
    "gated_delta_rule": "tied",
    "kda": "tied",
    "dplr": "generic",
}


def useful_flops(name, B, T, H, K, V, C=16):
    """Floating-point operations that the chunk algorithm needs at chunk size C.

    Always counted at C=16, whatever a contender does: larger chunks are a
    contender's own choice to work more. Units, per chunk and head: g for a
    C x C Gram over K, s for C x C times C x V, h for a product with the K x V
    state, and the triangular inverse by recursive halving.
    """
    g, s, h = 2 * C * C * K, 2 * C * C * V, 2 * C * K * V
    inverse = 2 * C * (C * C - 1) / 3
    chunk = {
        "rank 0": g + s + 2 * h,
        "tied": 2 * g + 2 * s + 3 * h + inverse,
        "generic": 4 * g + 4 * s + 4 * h + inverse,
    }[CLASSES[name]]
    return chunk / C * B * T * H


def make_inputs(name, B, T, H, K, V, seed=0):
    """Random inputs as a trained layer would see them, a dict by name."""
    rng = np.random.default_rng(seed)

    def vector(dim):
        return rng.standard_normal((B, T, H, dim), dtype=np.float32)

    def unit(dim):
        x = vector(dim)
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    def log_sigmoid(x):
        return -np.log1p(np.exp(-x)).astype(np.float32)

    def sigmoid(x):
        return (1 / (1 + np.exp(-x))).astype(np.float32)

    scalar = (B, T, H)
    arrays = {"q": vector(K), "k": unit(K), "v": vector(V)}
    if name in ("gated_delta_rule", "kda", "delta_rule"):
        arrays["beta"] = sigmoid(rng.standard_normal(scalar))
    if name == "gated_delta_rule":
        arrays["g"] = log_sigmoid(rng.standard_normal(scalar) + 2)
    if name in ("kda", "gla"):
        arrays["g"] = log_sigmoid(rng.standard_normal((B, T, H, K)) + 2)
    if name == "dplr":
        erase = unit(K)
        arrays["a"] = -erase
        arrays["b"] = erase * sigmoid(rng.standard_normal((B, T, H, 1)))
        arrays["gk"] = log_sigmoid(rng.standard_normal((B, T, H, K)) + 2)
    return {key: np.ascontiguousarray(x) for key, x in arrays.items()}


def by_token(tensor):
    """[B, T, H, d] as [T, B*H, 1, d]; scalars get d = 1."""
    B, T, H = tensor.shape[:3]
    tensor = tensor.reshape(B, T, H, -1).permute(1, 0, 2, 3)
    return tensor.reshape(T, B * H, 1, -1).contiguous()


def plain_token_loop(name, inputs):
    """A function that runs the recurrence token by token, as model code does.

    Elementwise products and sums over all heads at once, a few new tensors a
    step; it returns (o, final_state). `tuned_token_loop` is the stronger
    opponent.
    """
    import torch

    x = {key: torch.from_numpy(array).transpose(1, 2).contiguous()
         for key, array in inputs.items()}
    B, H, T, K = x["q"].shape
    V = x["v"].shape[-1]

    def run():
        with torch.inference_mode():
            q = x["q"] * K ** -0.5
            k, v = x["k"], x["v"]
            gate = x.get("g", x.get("gk"))
            state = torch.zeros(B, H, K, V)
            o = torch.zeros(B, H, T, V)
            for t in range(T):
                if name == "dplr":
                    erase = (state * x["a"][:, :, t, :, None]).sum(-2)
                if gate is not None:
                    decay = gate[:, :, t].exp()
                    state = state * decay.reshape(B, H, -1, 1)
                write = v[:, :, t]
                if name == "dplr":
                    state = (state + x["b"][:, :, t, :, None]
                             * erase[:, :, None, :])
                elif name != "gla":
                    memory = (state * k[:, :, t, :, None]).sum(-2)
                    write = (write - memory) * x["beta"][:, :, t, None]
                state = state + k[:, :, t, :, None] * write[:, :, None, :]
                o[:, :, t] = (state * q[:, :, t, :, None]).sum(-2)
            return o.transpose(1, 2).contiguous(), state

    return run


def tuned_token_loop(name, inputs):
    """The same loop by someone who tunes it.

    Products with the state are batched matmuls into the state itself,
    exponentials are taken once over all tokens, tokens lie contiguously.
    """
    import torch

    x = {key: by_token(torch.from_numpy(array))
         for key, array in inputs.items()}
    B, T, H, K = inputs["q"].shape
    V = inputs["v"].shape[-1]

    def run():
        with torch.inference_mode():
            q = x["q"] * K ** -0.5
            k, v = x["k"], x["v"]
            k_column = k.transpose(2, 3)
            gate = x.get("g", x.get("gk"))
            if gate is not None:
                decay = gate.exp().transpose(2, 3).contiguous()
            if name == "dplr":
                b_column = x["b"].transpose(2, 3)
            state = torch.zeros(B * H, K, V)
            o = torch.empty(T, B * H, 1, V)
            for t in range(T):
                if name == "dplr":
                    erase = torch.bmm(x["a"][t], state)
                if gate is not None:
                    state.mul_(decay[t])
                write = v[t]
                if name == "dplr":
                    state.baddbmm_(b_column[t], erase)
                elif name != "gla":
                    memory = torch.bmm(k[t], state)
                    write = (write - memory).mul_(x["beta"][t])
                state.baddbmm_(k_column[t], write)
                torch.bmm(q[t], state, out=o[t])
            o = o.reshape(T, B, H, V).permute(1, 0, 2, 3).contiguous()
            return o, state.reshape(B, H, K, V)

    return run


def transformers_chunked(inputs):
    """Gated DeltaNet's chunked PyTorch fallback from the installed transformers.

    What model code runs when no GPU kernel is there. Returns a function giving
    (o, final_state), or raises ImportError.
    """
    import torch
    from transformers.models.qwen3_next import modeling_qwen3_next as model

    q, k, v, g, beta = (torch.from_numpy(inputs[n])
                        for n in ("q", "k", "v", "g", "beta"))

    def run():
        with torch.inference_mode():
            return model.torch_chunk_gated_delta_rule(
                q, k, v, g=g, beta=beta, output_final_state=True)

    return run


def autograd_token_loop(name, inputs, do):
    """Gradients by PyTorch through the recurrence token by token.

    Forward and backward; returns a function giving [o, the gradients of the
    inputs in their order].
    """
    import torch

    leaves = {key: torch.from_numpy(array).requires_grad_()
              for key, array in inputs.items()}
    cotangent = torch.from_numpy(do)
    B, T, H, K = inputs["q"].shape
    V = inputs["v"].shape[-1]

    def run():
        # Heads before tokens, a column or a row each.
        x = {key: leaf.transpose(1, 2).reshape(B * H, T, -1)
             for key, leaf in leaves.items()}
        q = x["q"] * K ** -0.5
        gate = x.get("g", x.get("gk"))
        decay = None if gate is None else gate.exp().unsqueeze(-1)
        state = torch.zeros(B * H, K, V)
        o = []
        for t in range(T):
            row = {key: value[:, t:t + 1] for key, value in x.items()}
            if name == "dplr":
                erase = torch.bmm(row["a"], state)
            if decay is not None:
                state = state * decay[:, t]
            write = row["v"]
            if name == "dplr":
                state = torch.baddbmm(state, row["b"].transpose(1, 2), erase)
            elif name != "gla":
                write = (write - torch.bmm(row["k"], state)) * row["beta"]
            state = torch.baddbmm(state, row["k"].transpose(1, 2), write)
            o.append(torch.bmm(q[:, t:t + 1], state))
        o = torch.cat(o, 1).reshape(B, H, T, V).transpose(1, 2)
        return [o, *torch.autograd.grad(o, list(leaves.values()), cotangent)]

    return run


def transformers_autograd(inputs, do):
    """The same through the chunked fallback."""
    import torch
    from transformers.models.qwen3_next import modeling_qwen3_next as model

    leaves = {key: torch.from_numpy(array).requires_grad_()
              for key, array in inputs.items()}
    cotangent = torch.from_numpy(do)

    def run():
        o, _ = model.torch_chunk_gated_delta_rule(
            *(leaves[key] for key in "qkv"), g=leaves["g"],
            beta=leaves["beta"])
        return [o, *torch.autograd.grad(o, list(leaves.values()), cotangent)]

    return run


def relative_error(x, reference):
    """The 2-norm of the difference over that of the reference."""
    x = np.asarray(x, dtype=np.float64)
    reference = np.asarray(reference, dtype=np.float64)
    norm = np.linalg.norm(reference)
    error = np.linalg.norm(x - reference)
    if not math.isfinite(error):
        return math.inf
    return error / norm if norm else error
