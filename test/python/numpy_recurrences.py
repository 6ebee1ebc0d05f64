# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The library's recurrences in NumPy, token by token.

Written from the published definitions of the operators and not from the specs,
so that a spec that says something else is found. Every function takes one
token's arrays, [B, H, dim] or [B, H], and the state [B, H, K, V]; it returns
the new state and the out. Arithmetic is in the arrays' own type.
"""

from typing import Callable, NamedTuple

import numpy as np


def read(S, x):
    """S^T x."""
    return np.einsum("bhkv,bhk->bhv", S, x)


def outer(x, y):
    """x y^T."""
    return x[..., :, None] * y[..., None, :]


def rows(w, S):
    """diag(w) S, or w S for one number a head."""
    return (w[..., None] if w.ndim == 3 else w[..., None, None]) * S


def times(s, x):
    """A number a head times a vector a head."""
    return s[..., None] * x


def linear_attn(S, q, k, v, scale):
    S = S + outer(k, v)
    return S, scale * read(S, q)


def retention(S, q, k, v, g_gamma, scale):
    S = rows(np.exp(g_gamma), S) + outer(k, v)
    return S, scale * read(S, q)


def mamba2(S, x, dt, B, C, A_log, D, dt_bias):
    delta = np.logaddexp(0, dt + dt_bias)
    A = -np.exp(A_log)
    S = rows(np.exp(A * delta), S) + outer(times(delta, B), x)
    return S, read(S, C) + times(D, x)


def gla(S, q, k, v, g, scale):
    S = rows(np.exp(g), S) + outer(k, v)
    return S, scale * read(S, q)


simple_gla = gla  # there with one gate a head: `rows` tells them apart


def rwkv6(S, r, k, v, w, u, scale):
    kv = outer(k, v)
    o = scale * read(S + rows(u, kv), r)
    return rows(np.exp(w), S) + kv, o


def delta_rule(S, q, k, v, beta, scale):
    S = S + outer(k, times(beta, v - read(S, k)))
    return S, scale * read(S, q)


def gated_delta_rule(S, q, k, v, g, beta, scale):
    S = rows(np.exp(g), S)
    S = S + outer(k, times(beta, v - read(S, k)))
    return S, scale * read(S, q)


kda = gated_delta_rule  # there with one gate a channel


def gdn2(S, q, k, v, g, b, w, scale):
    S = rows(np.exp(g), S)
    S = S + outer(k, w * v - read(S, b * k))
    return S, scale * read(S, q)


def comba(S, q, k, v, p, g, beta, scale):
    z = read(S, p)
    S = rows(np.exp(g), S)
    S = S + outer(k, times(beta, v - z))
    return S, scale * read(S, q)


def iplr(S, q, k, v, a, b, scale):
    S = S + outer(b, read(S, a)) + outer(k, v)
    return S, scale * read(S, q)


def dplr(S, q, k, v, a, b, gk, scale):
    z = read(S, a)
    S = rows(np.exp(gk), S) + outer(b, z) + outer(k, v)
    return S, scale * read(S, q)


def rwkv7(S, r, w, k, v, a, b, scale):
    return dplr(S, r, k, v, a, b, w, scale)


def gated_delta_product(S, q, k, v, g, beta, scale):
    S = rows(np.exp(g), S)
    for j in range(k.shape[1]):  # [B, n, H, dim]
        S = S + outer(k[:, j], times(beta[:, j], v[:, j] - read(S, k[:, j])))
    return S, scale * read(S, q)


def longhorn(S, q, k, v, beta, scale):
    step = beta / (1 + beta * np.sum(k * k, axis=-1))
    S = S + outer(k, times(step, v - read(S, k)))
    return S, scale * read(S, q)


class Arg(NamedTuple):
    """An input: what axes it has beyond B, T, H, and how it is drawn."""
    name: str
    axes: str = ""  # of K, V, n in array order: n stands before H
    draw: str = "normal"
    param: bool = False


class Recurrence(NamedTuple):
    step: Callable
    args: tuple
    scale: str = "K ^ -0.5"  # or "1", or "" for none


def _recurrence(step, text, scale="K ^ -0.5"):
    """`text`: NAME:AXES:DRAW separated by blanks, a param with a star."""
    args = []
    for word in text.split():
        name, axes, draw = (word.lstrip("*").split(":") + ["", ""])[:3]
        args.append(Arg(name, axes, draw or "normal", word[0] == "*"))
    return Recurrence(step, tuple(args), scale)


_QKV = "q:K k:K:unit v:V "
LIBRARY = {
    "linear_attn": _recurrence(linear_attn, _QKV),
    "retention": _recurrence(retention, _QKV + "*g_gamma::gate"),
    "mamba2": _recurrence(mamba2, "x:V dt B:K:unit C:K *A_log *D *dt_bias", ""),
    "gla": _recurrence(gla, _QKV + "g:K:gate"),
    "simple_gla": _recurrence(simple_gla, _QKV + "g::gate"),
    "rwkv6": _recurrence(rwkv6, "r:K k:K:unit v:V w:K:gate *u:K"),
    "delta_rule": _recurrence(delta_rule, _QKV + "beta::fraction"),
    "gated_delta_rule":
        _recurrence(gated_delta_rule, _QKV + "g::gate beta::fraction"),
    "kda": _recurrence(kda, _QKV + "g:K:gate beta::fraction"),
    "gdn2": _recurrence(gdn2, _QKV + "g:K:gate b:K:fraction w:V:fraction"),
    "comba": _recurrence(comba, _QKV + "p:K:unit g::gate beta::fraction"),
    "iplr": _recurrence(iplr, _QKV + "a:K:unit b:K:against"),
    "dplr": _recurrence(dplr, _QKV + "a:K:unit b:K:against gk:K:gate"),
    "rwkv7": _recurrence(
        rwkv7, "r:K w:K:gate k:K:unit v:V a:K:unit b:K:against", "1"),
    "gated_delta_product":
        _recurrence(gated_delta_product,
                    "q:K k:nK:unit v:nV g::gate beta:n:fraction"),
    "longhorn": _recurrence(longhorn, _QKV + "beta::fraction"),
}

# Log-decays that break schemes: none, nearly none, strong, below f32's range of
# exp, far below f64's, and a reset.
EXTREME = np.array([0, -1e-8, -5, -60, -1e4, -np.inf])


def draw_gate(rng, shape, decay):
    """Log-decays; `decay` as in the names of the golden vectors, or extreme."""
    if decay == "weak":
        return rng.uniform(-0.1, 0, shape)
    if decay == "logsigmoid":
        return -np.logaddexp(0, -rng.normal(size=shape))
    if decay == "strong":
        return rng.uniform(-8, 0, shape)
    if decay == "mixed":
        weak = rng.uniform(-0.1, 0, shape)
        return np.where(rng.random(shape) < 0.03, -60.0, weak)
    if decay == "extreme":
        return rng.choice(EXTREME, shape)
    return np.full(shape, float(decay))


def draw(name, B, T, H, K, V, n=2, seed=0, decay="logsigmoid", state=True):
    """Inputs of a library recurrence as a dict of float64 arrays."""
    rng = np.random.default_rng([seed, B, T, H, K, V])
    sizes = {"K": K, "V": V, "n": n}
    arrays = {}
    for arg in LIBRARY[name].args:
        axes = [sizes[axis] for axis in arg.axes]
        if arg.param:
            shape = [H, *axes]
        elif arg.axes[:1] == "n":
            shape = [B, T, axes[0], H, *axes[1:]]
        else:
            shape = [B, T, H, *axes]
        x = rng.normal(size=shape)
        if arg.draw == "unit":
            x /= np.sqrt(np.sum(x * x, axis=-1, keepdims=True) + 1e-30)
        elif arg.draw == "fraction":
            x = 1 / (1 + np.exp(-x))
        elif arg.draw == "against":  # what `a` read is partly taken back
            x = -arrays["a"] / (1 + np.exp(-x))
        elif arg.draw == "gate":
            x = draw_gate(rng, shape, "weak" if arg.param else decay)
        arrays[arg.name] = x
    if state:
        arrays["initial_state"] = rng.normal(size=[B, H, K, V])
    return arrays


def evaluate(name, arrays, scale=None, dtype=np.float64):
    """The recurrence on a dict of arrays: `{"o": ..., "final_state": ...}`.

    Arrays are rounded to `dtype` first, and all arithmetic is done in it.
    """
    recurrence = LIBRARY[name]
    arrays = {key: np.asarray(x).astype(dtype) for key, x in arrays.items()}
    tokens = [arg for arg in recurrence.args if not arg.param]
    value = next(arg.name for arg in tokens if arg.axes[-1:] == "V")
    key = next(arg.name for arg in tokens if arg.axes[-1:] == "K")
    B, T = arrays[key].shape[:2]
    H, K = arrays[key].shape[-2:]
    V = arrays[value].shape[-1]
    S = arrays.get("initial_state", np.zeros([B, H, K, V], dtype))
    options = {}
    if recurrence.scale:
        default = 1.0 if recurrence.scale == "1" else K ** -0.5
        options["scale"] = dtype(default if scale is None else scale)
    for arg in recurrence.args:
        if arg.param:
            x = arrays[arg.name][None]
            options[arg.name] = np.broadcast_to(x, (B, *x.shape[1:]))
    o = np.zeros([B, T, H, V], dtype)
    with np.errstate(over="ignore"):
        for t in range(T):
            now = {arg.name: arrays[arg.name][:, t] for arg in tokens}
            S, o[:, t] = recurrence.step(S, **now, **options)
    return {"o": o, "final_state": S}


def error(x, reference):
    """Relative 2-norm error; absolute where the reference is zero."""
    x, reference = np.float64(x), np.float64(reference)
    assert x.shape == reference.shape, (x.shape, reference.shape)
    norm = np.linalg.norm(reference)
    distance = np.linalg.norm(x - reference)
    return distance / norm if norm > 0 else distance
