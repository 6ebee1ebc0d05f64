# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The specs behind the operators: every option is a line of mathematics.

`make(rule, fn, chunk, **options)` gives the recurrence; texts are put together
from the parts that an option changes. Nothing here computes.
"""

import functools

import torch

from .._recurrence import recurrence


def _text(name, ins, steps, out, params=(), lets=(), family=False):
    lines = [f"recurrence {name} {{"]
    if family:
        lines.append("  dim n")
    lines += [f"  in {declaration}" for declaration in ins]
    lines += [f"  param {declaration}" for declaration in params]
    lines += ["  attr scale = K ^ -0.5", "  state S: K x V"]
    lines += [f"  let {binding}" for binding in lets]
    lines += [f"  {step}" for step in steps]
    lines += [f"  out o = scale * S^T * {out}", "}"]
    return "\n".join(lines) + "\n"


def _norms(l2norm, names):
    """Lets for normalised inputs; the expression that stands for each."""
    if not l2norm:
        return [], names
    return ([f"{name}_unit = l2norm({name})" for name in names],
            [f"{name}_unit" for name in names])


def _gate(kind, use_gate, has_A_log, has_dt_bias, lower_bound):
    """The log-decay `g`: its declaration, params, and expression.

    kind: "scalar" or "K". Raw gates go through softplus, or with a lower bound
    through a sigmoid, whose range the compiler sees.
    """
    if not use_gate:
        low = "-inf" if lower_bound is None else repr(float(lower_bound))
        return f"g: {kind} in [{low}, 0]", [], "g"
    params = ["A_log: scalar"] if has_A_log else []
    raw = "g"
    if has_dt_bias:
        params.append(f"dt_bias: {kind}")
        raw = "(g + dt_bias)"
    if lower_bound is None:
        return f"g: {kind}", params, f"(-exp(A_log)) * softplus({raw})"
    if has_A_log:
        raw = f"exp(A_log) * {raw}"
    return (f"g: {kind}", params,
            f"({float(lower_bound)!r}) * sigmoid({raw})")


def _strength(sigmoid, doubled):
    """The write strength from `beta`."""
    if not sigmoid:
        return "beta"
    return "(2 * sigmoid(beta))" if doubled else "sigmoid(beta)"


def _decay(kind, log):
    return f"exp({log})" if kind == "scalar" else f"diag(exp({log}))"


def _range(lower_bound):
    low = "-inf" if lower_bound is None else repr(float(lower_bound))
    return f"in [{low}, 0]"


def dplr(lower_bound=None, l2norm=False):
    lets, (q, k) = _norms(l2norm, ["q", "k"])
    return _text("dplr", ["q: K, k: K, v: V, a: K, b: K",
                          f"gk: K {_range(lower_bound)}"],
                 [f"S = (diag(exp(gk)) + b * a^T) * S + {k} * v^T"], q,
                 lets=lets)


def rwkv7_mul():
    return _text("rwkv7_mul", ["r: K", "w: K in [-inf, 0]",
                               "k: K, v: V, kk: K, a: K"],
                 ["S = (diag(exp(w)) - (kk .* a) * kk^T) * S + k * v^T"], "r")


def iplr(l2norm=False):
    lets, (q, k) = _norms(l2norm, ["q", "k"])
    return _text("iplr", ["q: K, k: K, v: V, a: K, b: K"],
                 [f"S = (eye(K) + b * a^T) * S + {k} * v^T"], q, lets=lets)


def delta_rule(l2norm=False, beta=True, sigmoid=False, doubled=False):
    lets, (q, k) = _norms(l2norm, ["q", "k"])
    strength = _strength(sigmoid, doubled) + " * " if beta else ""
    return _text("delta_rule",
                 ["q: K, k: K, v: V"] + (["beta: scalar"] if beta else []),
                 [f"S = S + {strength}{k} * (v - S^T * {k})^T"], q, lets=lets)


def gated_delta_rule(name="gated_delta_rule", g="scalar", gk=False, beta=True,
                     l2norm=False, gate=False, A_log=False, dt_bias=False,
                     lower_bound=None, sigmoid=False, doubled=False):
    """Gated DeltaNet and KDA: one decay a head (`g="scalar"`) or a channel
    (`g="K"`), or both (`gk`)."""
    lets, (q, k) = _norms(l2norm, ["q", "k"])
    ins, params, steps = ["q: K, k: K, v: V"], [], []
    log, kind = None, g
    if g is not None:
        declaration, params, log = _gate(g, gate, A_log, dt_bias, lower_bound)
        ins.append(declaration)
    if gk:
        ins.append("gk: K in [-inf, 0]")
        log, kind = ("gk" if log is None else f"gk + {log}"), "K"
    if log is not None:
        steps.append(f"S = {_decay(kind, log)} * S")
    strength = ""
    if beta:
        ins.append("beta: scalar")
        strength = _strength(sigmoid, doubled) + " * "
    steps.append(f"S = S + {strength}{k} * (v - S^T * {k})^T")
    return _text(name, ins, steps, q, params, lets)


def gdn2(l2norm=False, gate=False, A_log=False, dt_bias=False,
         lower_bound=None):
    lets, (q, k) = _norms(l2norm, ["q", "k"])
    declaration, params, log = _gate("K", gate, A_log, dt_bias, lower_bound)
    return _text("gdn2", ["q: K, k: K, v: V", declaration, "b: K, w: V"],
                 [f"S = diag(exp({log})) * S",
                  f"S = S + {k} * (w .* v - S^T * (b .* {k}))^T"], q, params,
                 lets)


def comba(l2norm=False, beta=True, sigmoid=False, doubled=False):
    lets, (q, k, p) = _norms(l2norm, ["q", "k", "p"])
    strength = _strength(sigmoid, doubled) + " * " if beta else ""
    return _text("comba", ["q: K, k: K, v: V, p: K", "g: scalar in [-inf, 0]"]
                 + (["beta: scalar"] if beta else []),
                 [f"let z = S^T * {p}",
                  f"S = exp(g) * S + {strength}{k} * (v - z)^T"], q, lets=lets)


def linear_attention(name="linear_attn", g=None, gamma=False, l2norm=False):
    """Plain, with a log-decay a token (`g`), with one a head (`gamma`)."""
    lets, (q, k) = _norms(l2norm, ["q", "k"])
    ins, params, logs = ["q: K, k: K, v: V"], [], []
    if g is not None:
        ins.append(f"g: {g} in [-inf, 0]")
        logs.append("g")
    if gamma:
        params.append("g_gamma: scalar in [-inf, 0]")
        logs.append("g_gamma")
    decay = _decay(g or "scalar", " + ".join(logs)) + " * " if logs else ""
    return _text(name, ins, [f"S = {decay}S + {k} * v^T"], q, params, lets)


def gated_delta_product(g=True, l2norm=False, sigmoid=False, doubled=False):
    key = "l2norm(k[j])" if l2norm else "k[j]"
    query = "l2norm(q)" if l2norm else "q"
    strength = _strength(sigmoid, doubled).replace("beta", "beta[j]")
    return _text("gated_delta_product",
                 ["q: K, k[n]: K, v[n]: V", "beta[n]: scalar"]
                 + (["g: scalar in [-inf, 0]"] if g else []),
                 (["S = exp(g) * S"] if g else [])
                 + ["for j in n {", f"  let key = {key}",
                    f"  S = S + {strength} * key * (v[j] - S^T * key)^T", "}"],
                 query, family=True)


_RULES = {"dplr": dplr, "rwkv7_mul": rwkv7_mul, "iplr": iplr,
          "delta_rule": delta_rule, "gated_delta_rule": gated_delta_rule,
          "gdn2": gdn2, "comba": comba, "linear_attention": linear_attention,
          "gated_delta_product": gated_delta_product}


@functools.lru_cache(maxsize=None)
def find(rule, fn, chunk, options):
    """The recurrence of a rule; `options` are pairs for the function above."""
    return recurrence(_RULES[rule](**dict(options)), fn=fn, chunk=chunk)


# What these give depends on nothing but their arguments, which are constants of
# a traced program: torch.compile calls them while it traces, and keeps the text.
@torch.compiler.assume_constant_result
def find_spec(rule, fn, chunk, options):
    return find(rule, fn, chunk, options).spec


@torch.compiler.assume_constant_result
def find_options(rule, fn, chunk, options):
    return find(rule, fn, chunk, options).options


@torch.compiler.assume_constant_result
def find_names(rule, fn, chunk, options):
    return ",".join(arg.name for arg in
                    find(rule, fn, chunk, options).signature.inputs)


def options(**given):
    """What differs from a default, as a key."""
    return tuple((name, value) for name, value in given.items()
                 if value is not False and value is not None)


def make(rule, fn, chunk, options=()):
    """What stands for a recurrence until it is called."""
    return rule, fn, chunk, options
