# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""How much a call has to do, in the few classes that GPU kernels are made for.

How a GPU computes a head depends on how many there are for its multiprocessors:
few of them get two kernels, more CTAs each, more warps in a CTA. A new batch must
not wait for the compiler, so calls fall into classes, with one kernel each. Their
limits are where the compiler's choice changes, which depends on `B * H` by the
multiprocessors it makes work for, and, where a second launch may not be worth its
time, on T.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_MOST = 2**63 - 1
#: Fewer tokens are computed in about the time of a launch.
_LONG = 512
_SHORT_LIKE = 128


class Work(NamedTuple):
    """Calls that have a kernel in common; limits belong to them."""

    heads: tuple[int, int] = (0, _MOST)
    """Of `B * H`."""
    tokens: tuple[int, int] = (0, _MOST)
    assume: str = ""
    """What the compiler is told; "": as many heads as the device holds."""

    def takes(self, heads: int, tokens: int) -> bool:
        """Whether such a call is one of them."""
        return (self.heads[0] <= heads <= self.heads[1]
                and self.tokens[0] <= tokens <= self.tokens[1])


#: All calls: what CPU kernels are made for.
ANY = Work()


def classes(multiprocessors: int) -> list[Work]:
    """The classes for a device, those with the fewest heads first."""
    result = []
    least = 0
    for most in (multiprocessors // 4, multiprocessors // 2, multiprocessors,
                 2 * multiprocessors):
        heads, assume = (least, most), f"B=1,H={most}"
        if 2 * most <= multiprocessors:
            result.append(Work(heads, (0, _LONG - 1),
                               f"{assume},T={_SHORT_LIKE}"))
            result.append(Work(heads, (_LONG, _MOST), assume))
        else:
            result.append(Work(heads, assume=assume))
        least = most + 1
    return result + [Work((least, _MOST))]


def find(works: Sequence[Work], heads: int, tokens: int | None) -> Work:
    """The class of a call; many tokens when their number is not known."""
    tokens = _MOST if tokens is None else tokens
    return next(work for work in works if work.takes(heads, tokens))


__all__ = ["ANY", "Work", "classes", "find"]
