# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Other people's kernels for the same recurrences, each called as its users do.

fla chooses a backend behind the caller's back; it is told not to, and TileLang
kernels are called by their own entry, so that a row says what ran.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import os

from .problems import GATE_BOUNDS, default_scale

# Read by fla at every call.
os.environ["FLA_TILELANG"] = "0"
os.environ["FLA_FLASH_QLA"] = "0"
os.environ["FLA_FLASH_KDA"] = "0"

PACKAGES = ("flash-linear-attention", "fla-core", "tilelang", "flash-qla",
            "triton", "torch")


def versions():
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


class Unavailable(Exception):
    """Why a peer is left out."""


def _function(module, name):
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a package may fail in any way when imported
        raise Unavailable(f"{type(error).__name__}: {error}") from error


def _dplr(problem, gates):
    """fla's entries for DPLR; RWKV-7 is the same operator with another scale."""
    scale = default_scale(problem.recurrence, problem.K)
    rwkv7 = problem.recurrence == "rwkv7"
    bound = GATE_BOUNDS[gates]

    def rename(x):
        return dict(q=x["r" if rwkv7 else "q"], k=x["k"], v=x["v"], a=x["a"],
                    b=x["b"], gk=x["w" if rwkv7 else "gk"])

    def contender(module, name, **options):
        function = _function(module, name)
        return lambda x, state: functools.partial(
            function, **rename(x), scale=scale, initial_state=state, **options)

    chunk = ("fla.ops.generalized_delta_rule", "chunk_dplr_delta_rule")
    tilelang = ("fla.ops.generalized_delta_rule.dplr.backends.tilelang.chunk",
                "chunk_dplr_delta_rule_tilelang")
    if problem.fn == "decode":
        yield ("fla recurrent", lambda: contender(
            "fla.ops.generalized_delta_rule", "fused_recurrent_dplr_delta_rule",
            output_final_state=True))
        return
    yield "fla default (Triton, C=16)", lambda: contender(*chunk)
    if gates == "weak":
        yield ("fla Triton safe gates C=64",
               lambda: contender(*chunk, lower_bound=bound, chunk_size=64))
    yield ("fla Triton safe gates C=16",
           lambda: contender(*chunk, lower_bound=bound, chunk_size=16))
    for size in (32, 16) if problem.K == 64 else (32,):
        yield (f"fla TileLang C={size}",
               lambda size=size: contender(*tilelang, lower_bound=bound,
                                           chunk_size=size))


def _simple(problem, gates):
    """fla's entries whose arguments have the names of ours."""
    del gates
    entries = {
        "kda": [("fla default (Triton, C=64)", "fla.ops.kda", "chunk_kda", {}),
                ("fla Triton safe gates C=64", "fla.ops.kda", "chunk_kda",
                 dict(safe_gate=True))],
        "gated_delta_rule": [
            ("fla default (Triton, C=64)", "fla.ops.gated_delta_rule",
             "chunk_gated_delta_rule", {})],
        "gla": [("fla default (Triton)", "fla.ops.gla", "chunk_gla", {})],
        "delta_rule": [("fla default (Triton, C=64)", "fla.ops.delta_rule",
                        "chunk_delta_rule", {})],
    }
    if problem.fn == "decode":
        entries = {
            "kda": [("fla.ops.kda", "fused_recurrent_kda")],
            "gated_delta_rule": [("fla.ops.gated_delta_rule",
                                  "fused_recurrent_gated_delta_rule")],
            "gla": [("fla.ops.gla", "fused_recurrent_gla")],
            "delta_rule": [("fla.ops.delta_rule",
                            "fused_recurrent_delta_rule")],
        }
        entries = {name: [("fla recurrent", *entry, dict(
            output_final_state=True)) for entry in value]
            for name, value in entries.items()}
    elif problem.recurrence == "gated_delta_rule" and problem.K == 128:
        entries["gated_delta_rule"].append(
            ("FlashQLA (TileLang)", "flash_qla", "chunk_gated_delta_rule", {}))

    scale = default_scale(problem.recurrence, problem.K)

    def contender(module, name, options):
        function = _function(module, name)

        def bind(x, state):
            x = dict(x)
            if name == "fused_recurrent_gla":
                x["gk"] = x.pop("g")
            return functools.partial(function, **x, scale=scale,
                                     initial_state=state, **options)
        return bind

    for label, module, name, options in entries.get(problem.recurrence, []):
        yield label, lambda m=module, n=name, o=options: contender(m, n, o)


def contenders(problem, gates):
    """Pairs of a label and a function that returns `bind` or raises
    Unavailable; bind(inputs, state) is a call that returns the outputs and the
    final state."""
    if problem.recurrence in ("dplr", "rwkv7"):
        yield from _dplr(problem, gates)
    else:
        yield from _simple(problem, gates)


def compile_in_parallel(threads, repetitions_ms=20):
    """Makes Triton's autotuner compile a kernel's configurations side by side
    before it times them, and time each for `repetitions_ms` milliseconds. The
    choice is still the autotuner's; hundreds of configurations just take
    minutes otherwise."""
    from concurrent.futures import ThreadPoolExecutor

    try:
        import triton
        from triton.runtime.autotuner import Autotuner
        from triton.testing import do_bench
        mode = triton.AsyncCompileMode
    except (ImportError, AttributeError):
        return
    pool = ThreadPoolExecutor(threads)
    original = Autotuner._bench

    def bench(self, *args, config, **meta):
        # `nargs` is a new dictionary whenever a kernel is tuned.
        if getattr(self, "_compiled_for", None) is not self.nargs:
            self._compiled_for = self.nargs
            self.__dict__["do_bench"] = functools.partial(
                do_bench, warmup=5, rep=repetitions_ms)
            # What does not compile is the autotuner's to report.
            with contextlib.suppress(Exception), mode(pool, ignore_errors=True):
                for each in self.prune_configs(meta):
                    options = {**meta, **each.all_kwargs(), "warmup": True}
                    self.fn.run(*args, **options)
        return original(self, *args, config=config, **meta)

    Autotuner._bench = bench
