# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What is computed: recurrences, shapes, gates and random inputs.

Only `make_inputs` needs PyTorch, so the script that compiles the kernels can
read the rest on a machine without it.
"""

import dataclasses

# Inputs in declared order: "K" and "V" are vectors of that length, "1" a number
# per token and head; "!" marks a gate, a log-decay, which stays float32, as
# numbers do.
INPUTS = {
    "dplr": {"q": "K", "k": "K", "v": "V", "a": "K", "b": "K", "gk": "K!"},
    "rwkv7": {"r": "K", "w": "K!", "k": "K", "v": "V", "a": "K", "b": "K"},
    "kda": {"q": "K", "k": "K", "v": "V", "g": "K!", "beta": "1"},
    "gated_delta_rule": {"q": "K", "k": "K", "v": "V", "g": "1!", "beta": "1"},
    "gla": {"q": "K", "k": "K", "v": "V", "g": "K!"},
    "delta_rule": {"q": "K", "k": "K", "v": "V", "beta": "1"},
}

# Every gate of a regime is at least this: what a caller may promise.
GATE_BOUNDS = {"weak": -0.6065306597126334, "strong": -5.0}


def gate_name(recurrence):
    """The input that is a gate; None for a recurrence without one."""
    for name, kind in INPUTS[recurrence].items():
        if kind.endswith("!"):
            return name
    return None


def default_scale(recurrence, K):
    return 1.0 if recurrence == "rwkv7" else K ** -0.5


@dataclasses.dataclass(frozen=True)
class Problem:
    """One recurrence at one shape. `fn` is "forward" (no state in or out) or
    "decode" (one or more tokens, states in and out)."""
    recurrence: str
    B: int
    T: int
    H: int
    K: int
    V: int
    fn: str = "forward"

    def __str__(self):
        size = f"K=V={self.K}" if self.K == self.V else f"K={self.K} V={self.V}"
        return (f"{self.recurrence} {self.fn} B={self.B} T={self.T} H={self.H} "
                f"{size}")

    def bytes(self):
        """Bytes of the inputs read once and the outputs written once."""
        tokens = self.B * self.T * self.H
        total = 2 * self.V * tokens
        for kind in INPUTS[self.recurrence].values():
            dim = {"K": self.K, "V": self.V, "1": 1}[kind[0]]
            total += (2 if kind in ("K", "V") else 4) * dim * tokens
        if self.fn == "decode":
            total += 2 * 4 * self.B * self.H * self.K * self.V
        return total


# The shapes that the project's goals speak of; milliseconds to reach on an H200.
TARGETS = {
    Problem("dplr", 8, 4096, 64, 64, 64): 0.9,
    Problem("rwkv7", 8, 4096, 64, 64, 64): 0.9,
    Problem("kda", 2, 16384, 64, 128, 128): 1.5,
    Problem("gated_delta_rule", 4, 8192, 32, 128, 128): 0.8,
}


def in_group(group):
    """The problems of a group: target, small or decode."""
    if group == "target":
        return list(TARGETS)
    if group == "small":
        return [Problem(name, 2, 2048, 16, dim, dim)
                for name in INPUTS for dim in (64, 128)]
    if group == "decode":
        return [Problem(name, batch, 1, 32, 128, 128, "decode")
                for name in ("gated_delta_rule", "kda", "gla", "delta_rule")
                for batch in (1, 16, 64, 256)] + [
            Problem(name, batch, 1, 64, 64, 64, "decode")
            for name in ("dplr", "rwkv7") for batch in (1, 16, 64, 256)]
    raise ValueError(f"no group '{group}'; there are target, small, decode")


GROUPS = ("target", "small", "decode")


def make_inputs(problem, gates, device, seed):
    """Random inputs by name, and `initial_state` [B, H, K, V] (float32) or None.

    Keys have unit length and the low rank part contracts, so that states stay
    bounded. Gates, natural logs: weak is logsigmoid(x)/16, about -0.05, strong
    -5 sigmoid(x), with x normal.
    """
    import torch
    import torch.nn.functional as F

    generator = torch.Generator(device=device).manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, device=device)

    def unit(*shape):
        return F.normalize(normal(*shape), dim=-1)

    head = (problem.B, problem.T, problem.H)
    inputs = {}
    for name, kind in INPUTS[problem.recurrence].items():
        shape = head if kind[0] == "1" else head + (
            {"K": problem.K, "V": problem.V}[kind[0]],)
        if kind.endswith("!"):
            x = normal(*shape)
            inputs[name] = (F.logsigmoid(x) / 16 if gates == "weak"
                            else -5 * torch.sigmoid(x))
        elif kind == "1":
            inputs[name] = torch.sigmoid(normal(*shape))
        elif name == "b":
            # Removes a part, between none and all, of what `a` finds.
            rate = torch.sigmoid(normal(*shape[:-1], 1))
            inputs[name] = (-rate * inputs["a"]).to(torch.bfloat16)
        else:
            x = unit(*shape) if name in ("k", "a") else normal(*shape)
            inputs[name] = x.to(torch.bfloat16)
    state = None
    if problem.fn == "decode":
        state = normal(problem.B, problem.H, problem.K, problem.V)
    return inputs, state
