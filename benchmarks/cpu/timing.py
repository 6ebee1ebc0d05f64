# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Timing several contenders in turn, so that a drifting machine hits all alike."""

import gc
import statistics
import time


def round_robin(contenders, rounds, slice_seconds=0.15, rest_seconds=0.05):
    """Time each function of the dict `contenders`, in turn, `rounds` times.

    In its turn a contender runs once to warm caches, then for about
    `slice_seconds`, at least once. Between turns there is a pause in which
    other contenders' worker threads go to sleep. Returns the sorted seconds of
    every run, by name.
    """
    times = {name: [] for name in contenders}
    for name, run in contenders.items():
        run()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, run in contenders.items():
                time.sleep(rest_seconds)
                typical = statistics.median(times[name]) if times[name] else 0
                if typical < slice_seconds:
                    run()
                end = time.perf_counter() + slice_seconds
                while True:
                    start = time.perf_counter()
                    run()
                    stop = time.perf_counter()
                    times[name].append(stop - start)
                    if stop + typical / 2 > end:
                        break
    finally:
        gc.enable()
    return {name: sorted(values) for name, values in times.items()}


def summary(seconds):
    """Median, quartiles and number of runs of a sorted list, for the record."""
    n = len(seconds)
    return {"median_s": statistics.median(seconds), "min_s": seconds[0],
            "q1_s": seconds[n // 4], "q3_s": seconds[(3 * n) // 4], "runs": n}
