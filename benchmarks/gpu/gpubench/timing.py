# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Times of GPU calls: medians of replayed CUDA graphs whose inputs are cold."""

import gc
import statistics

import torch


def cache_bytes():
    """Size of the L2 cache."""
    properties = torch.cuda.get_device_properties("cuda")
    return getattr(properties, "L2_cache_size", 64 << 20)


def num_sets(bytes_per_call):
    """How many input sets, used in turn, keep each from being in the cache when
    it comes round again: together four times the cache."""
    return max(1, min(256, -(-4 * cache_bytes() // max(bytes_per_call, 1))))


def _replays(run, repeat):
    events = []
    for _ in range(repeat):
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        events.append((begin, end))
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) * 1e-3 for begin, end in events]


def measure(calls, repeat):
    """Seconds a call takes. `calls` do the same on different inputs; one graph
    holds them all, and is replayed `repeat` times. Calls that cannot be captured
    are timed as they are ("graph": False), their launches included."""
    for call in calls[:2]:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    captured, why = True, ""
    try:
        with torch.cuda.graph(graph):
            for call in calls:
                call()
        run = graph.replay
    except Exception as error:  # whatever a peer raises
        captured, why = False, f"{type(error).__name__}: {error}"
        torch.cuda.synchronize()

        def run():
            for call in calls:
                call()

    _replays(run, 3)
    times = [time / len(calls) for time in _replays(run, repeat)]
    del graph, run
    gc.collect()
    result = {"median_s": statistics.median(times), "min_s": min(times),
              "max_s": max(times), "repeat": repeat, "sets": len(calls),
              "graph": captured}
    if why:
        result["no_graph"] = why.splitlines()[0][:200]
    return result


def copy_bandwidth(repeat=20, size=4 << 30):
    """Bytes a second, read and written, of the fastest large copy on the device:
    by a kernel, or as the driver copies (in a graph that can be a slower copy
    engine)."""
    source = torch.empty(size // 4, dtype=torch.float32, device="cuda").normal_()
    target = torch.empty_like(source)
    ways = (lambda: target.copy_(source),
            lambda: torch.neg(source, out=target))
    times = [measure([way], repeat)["median_s"] for way in ways]
    _replays(ways[0], 3)
    times.append(statistics.median(_replays(ways[0], repeat)))
    return 2 * source.numel() * 4 / min(times)
