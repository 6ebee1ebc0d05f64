# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gradients through recurrences and operators."""

import pytest

torch = pytest.importorskip("torch")

import deltac  # noqa: E402


def test_not_there_yet():
    """Forward with what requires a gradient works; its backward says no."""
    gla = deltac.recurrence("simple_gla")
    q, k, v = (torch.randn(1, 5, 2, 16) for _ in range(3))
    g = -torch.rand(1, 5, 2)
    q.requires_grad_()
    o, _ = gla(q, k, v, g)
    assert o.requires_grad
    with pytest.raises(NotImplementedError, match="^gradients of 'simple_gla' "
                       "are not there yet"):
        o.sum().backward()
    with torch.no_grad():
        assert torch.equal(gla(q, k, v, g)[0], o)
