# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The measurements, one function each; all return plain data for the record."""

import pathlib
import statistics
import subprocess
import time

import numpy as np

import kernel
import limits
import memory
import recurrences
import timing

# (B, T, H, K = V)
SHAPES = [(1, 4096, 8, 64), (1, 4096, 8, 128), (4, 2048, 16, 64),
          (1, 16384, 2, 128)]
GRADIENT_SHAPES = [(1, 4096, 8, 64), (1, 4096, 8, 128)]
# The token loops' cost per token is constant, so a part of T is enough.
LOOP_TOKENS = 256
# Autograd's graph makes a token dearer.
GRADIENT_TOKENS = 64


class Bench:
    """What the sections share: paths, the thread pool, compiled kernels.

    Attributes: `torch` whether PyTorch is there, `fallback` whether the
    installed transformers has the chunked fallback.
    """

    def __init__(self, build, specs, folder, threads, rounds):
        self.build, self.specs, self.folder = build, specs, folder
        self.rounds = rounds
        self.pool = kernel.Pool(threads)
        self.kernels = {}
        try:
            import torch
            torch.set_num_threads(threads)
            self.torch = True
        except ImportError:
            self.torch = False
        try:
            import transformers.models.qwen3_next.modeling_qwen3_next as model
            self.fallback = hasattr(model, "torch_chunk_gated_delta_rule")
        except ImportError:
            self.fallback = False

    def kernel(self, name, K, function="forward"):
        """The compiled kernel, made on first use."""
        key = (name, K, function)
        if key not in self.kernels:
            self.kernels[key] = kernel.Kernel(
                self.build, self.specs, name, K, K, self.folder, function)
        return self.kernels[key]


    def gradients(self, name, K):
        """The compiled kernels for gradients, made on first use."""
        key = (name, K, "gradients")
        if key not in self.kernels:
            self.kernels[key] = kernel.Gradients(
                self.build, self.specs, name, K, K, self.folder)
        return self.kernels[key]


def first_tokens(arrays, tokens):
    """The same inputs cut to their first tokens."""
    return {name: np.ascontiguousarray(x[:, :tokens])
            for name, x in arrays.items()}


def machine_limits(bench):
    """FMA peak and sgemm rates in GFLOP/s, and the contenders that reached them.

    Returns (record, contenders): contenders are the best of each kind, as
    {name: (run, flops)}, to be measured again beside everything else.
    """
    contenders = limits.fma_contenders(bench.folder, bench.pool)
    contenders.update(limits.sgemm_contenders(with_torch=bench.torch))
    times = timing.round_robin({name: run for name, (run, _)
                                in contenders.items()}, rounds=3)
    rate = {name: contenders[name][1] / statistics.median(seconds) / 1e9
            for name, seconds in times.items()}
    best = {kind: max((n for n in rate if n.startswith(kind)), key=rate.get)
            for kind in ("fma", "sgemm")}
    return ({"gflops": rate, "best": best},
            {kind: contenders[name] for kind, name in best.items()})


def check(bench, name, arrays):
    """Relative error of (o, final_state) against PyTorch's loop, if it is there."""
    if not bench.torch:
        return None
    part = first_tokens(arrays, LOOP_TOKENS)
    run, o, final = bench.kernel(name, part["q"].shape[-1]).bind(
        bench.pool, part)
    run()
    reference = recurrences.tuned_token_loop(name, part)()
    return max(recurrences.relative_error(x, r.numpy())
               for x, r in zip((o, final), reference))


def throughput(bench, shape, names, limit_contenders):
    """Every contender at one shape, in turn: {contender: summary + flops}."""
    B, T, H, K = shape
    runs, flops, tokens = {}, {}, {}
    errors = {}
    for kind, (run, count) in limit_contenders.items():
        runs[kind], flops[kind] = run, count
    for name in names:
        arrays = recurrences.make_inputs(name, B, T, H, K, K)
        work = recurrences.useful_flops(name, B, T, H, K, K)
        errors[name] = check(bench, name, arrays)

        def add(contender, run, part=T):
            key = f"{name}/{contender}"
            runs[key], flops[key], tokens[key] = run, work * part / T, part

        add("delta", bench.kernel(name, K).bind(bench.pool, arrays)[0])
        if bench.torch:
            part = first_tokens(arrays, LOOP_TOKENS)
            add("loop", recurrences.plain_token_loop(name, part), LOOP_TOKENS)
            add("tuned loop", recurrences.tuned_token_loop(name, part),
                LOOP_TOKENS)
        if bench.fallback and name == "gated_delta_rule":
            add("transformers", recurrences.transformers_chunked(arrays))
    times = timing.round_robin(runs, bench.rounds, slice_seconds=0.1)
    result = {}
    for key, seconds in times.items():
        entry = timing.summary(seconds)
        entry["gflops"] = flops[key] / entry["median_s"] / 1e9
        if key in tokens:
            entry["tokens"] = tokens[key]
            # For the whole of T, also where only a part was run.
            entry["full_s"] = entry["median_s"] * T / tokens[key]
        result[key] = entry
    return {"shape": shape, "contenders": result, "errors": errors}


def check_gradients(bench, name, arrays, do):
    """The largest relative error of o and the gradients against autograd."""
    if not bench.torch:
        return None
    part = first_tokens(arrays, GRADIENT_TOKENS)
    cotangent = np.ascontiguousarray(do[:, :GRADIENT_TOKENS])
    forward, backward, outputs = bench.gradients(
        name, part["q"].shape[-1]).bind(bench.pool, part, cotangent)
    forward()
    backward()
    reference = recurrences.autograd_token_loop(name, part, cotangent)()
    return max(recurrences.relative_error(outputs[key], r.detach().numpy())
               for key, r in zip(["o", *("d_" + key for key in part)],
                                 reference))


def gradients(bench, shape, names):
    """Forward, saving forward and backward at one shape, beside PyTorch's
    autograd: {contender: summary}, errors and saved bytes."""
    B, T, H, K = shape
    runs, tokens, errors, saved = {}, {}, {}, {}
    for name in names:
        arrays = recurrences.make_inputs(name, B, T, H, K, K)
        do = np.random.default_rng(1).standard_normal(
            (B, T, H, K), dtype=np.float32)
        errors[name] = check_gradients(bench, name, arrays, do)
        forward, backward, outputs = bench.gradients(name, K).bind(
            bench.pool, arrays, do)
        saved[name] = outputs["checkpoints"].nbytes
        forward()

        def add(contender, run, part=T):
            key = f"{name}/{contender}"
            runs[key], tokens[key] = run, part

        add("forward", bench.kernel(name, K).bind(bench.pool, arrays)[0])
        add("saving", forward)
        add("backward", backward)
        if bench.torch:
            add("loop", recurrences.autograd_token_loop(
                name, first_tokens(arrays, GRADIENT_TOKENS),
                np.ascontiguousarray(do[:, :GRADIENT_TOKENS])), GRADIENT_TOKENS)
        if bench.fallback and name == "gated_delta_rule":
            add("transformers", recurrences.transformers_autograd(arrays, do))
    # A turn of autograd through the fallback takes seconds.
    times = timing.round_robin(runs, min(bench.rounds, 5), slice_seconds=0.1)
    result = {}
    for key, seconds in times.items():
        entry = timing.summary(seconds)
        entry["full_s"] = entry["median_s"] * T / tokens[key]
        result[key] = entry
    return {"shape": shape, "contenders": result, "errors": errors,
            "saved_bytes": saved}


def gradient_memory(bench, lengths=(1024, 4096, 16384), H=2, K=128):
    """Bytes beyond inputs, cotangents, gradients and saved states at each T."""
    contenders = ["delta"] + (["transformers"] if bench.fallback else [])

    def measure(contender, T):
        if contender != "delta" and T > 4096:  # it grows with T, and takes long
            return None
        return memory.measure(bench.build, bench.specs, bench.folder,
                              contender + "-gradients", T, H, K)

    return {"H": H, "K": K, "bytes": {
        contender: {T: measure(contender, T) for T in lengths}
        for contender in contenders}}


def flatness(bench, names, lengths=(1024, 4096, 16384, 65536), H=2, K=128):
    """Nanoseconds per token and head at each T: {name: {T: ns}}."""
    result = {}
    for name in names:
        arrays = recurrences.make_inputs(name, 1, max(lengths), H, K, K)
        runs = {T: bench.kernel(name, K).bind(
            bench.pool, first_tokens(arrays, T))[0] for T in lengths}
        times = timing.round_robin(runs, bench.rounds, slice_seconds=0.1)
        result[name] = {T: statistics.median(seconds) / T / H * 1e9
                        for T, seconds in times.items()}
    return {"H": H, "K": K, "ns_per_token_head": result}


def decode(bench, names, B=64, H=8, K=128):
    """One token for B sequences against copying as many bytes as the states."""
    state_bytes = B * H * K * K * 4
    runs = {"copy": limits.copy_contender(state_bytes, bench.pool)}
    moved = {"copy": 2 * state_bytes}
    rng = np.random.default_rng(0)
    for name in names:
        arrays = recurrences.make_inputs(name, B, 1, H, K, K)
        state = rng.standard_normal((B, H, K, K), dtype=np.float32)
        runs[name], _, final = bench.kernel(name, K, "decode").bind(
            bench.pool, arrays, state)
        moved[name] = 2 * state_bytes
    times = timing.round_robin(runs, max(5, bench.rounds), slice_seconds=0.1)
    median = {name: statistics.median(s) for name, s in times.items()}
    return {"B": B, "H": H, "K": K, "state_bytes": state_bytes,
            "seconds": median,
            "gb_per_s": {n: moved[n] / median[n] / 1e9 for n in median},
            "share_of_copy": {n: median["copy"] / median[n]
                              for n in median if n != "copy"}}


def memory_growth(bench, lengths=(1024, 8192, 65536), H=2, K=128):
    """Bytes beyond inputs and outputs at each T: {contender: {T: bytes}}."""
    contenders = ["delta"] + (["transformers"] if bench.fallback else [])
    return {"H": H, "K": K, "bytes": {
        contender: {T: memory.measure(bench.build, bench.specs, bench.folder,
                                      contender, T, H, K) for T in lengths}
        for contender in contenders}}


def timed(command, **kwargs):
    """(wall seconds, CompletedProcess) of one process."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    return time.perf_counter() - start, done


def compile_times(bench, K=128, repeat=3):
    """Seconds from spec text to a runnable kernel for the whole library.

    `jit` is a whole delta-run process that compiles and runs one token; `so` is
    delta-compile to a shared object.
    """
    tools = pathlib.Path(bench.build) / "bin"
    result = {}
    for spec in sorted(pathlib.Path(bench.specs).glob("*.delta")):
        text = spec.read_text()
        extra = [d for d in kernel.declared_dims(text) if d not in ("K", "V")]
        sizes = [f"K={K}", f"V={K}", *[f"{d}=2" for d in extra]]
        so = pathlib.Path(bench.folder) / "compile-time.so"
        commands = {
            "jit": [tools / "delta-run", spec,
                    "--random=" + ",".join(["B=1", "T=1", "H=1", *sizes,
                                            "seed=0"])],
            "so": [tools / "delta-compile", spec, "--emit=so", "-o", so,
                   *[arg for size in sizes for arg in ("-D", size)]]}
        entry = {}
        for kind, command in commands.items():
            runs = [timed(list(map(str, command))) for _ in range(repeat)]
            failed = next((done for _, done in runs if done.returncode), None)
            if failed:
                entry[kind + "_error"] = failed.stderr.strip()[:500]
            else:
                entry[kind] = statistics.median(s for s, _ in runs)
        result[spec.stem] = entry
    return {"K": K, "seconds": result}


def start_up(bench, repeat=21):
    """Median seconds of delta-opt on an empty module, process start included."""
    command = [str(pathlib.Path(bench.build) / "bin" / "delta-opt"), "-"]
    runs = [timed(command, input="module {}\n") for _ in range(repeat)]
    if any(done.returncode for _, done in runs):
        raise RuntimeError(runs[0][1].stderr)
    return statistics.median(seconds for seconds, _ in runs)
