# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What holds for any sizes, layouts and cuts: properties, by hypothesis."""

import functools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import deltac

SPEC = """
recurrence property {
  in    q: K, k: K, v: V
  in    g: K in [-inf, 0]
  in    beta: scalar
  param bonus: V
  attr  scale = K ^ -0.5
  state S: K x V
  let key = l2norm(k)
  S = diag(exp(g)) * S
  S = S + beta * key * (v - S^T * key)^T
  out o = scale * S^T * q + bonus .* v
}
"""

few = settings(max_examples=25, deadline=None, derandomize=True,
               suppress_health_check=list(HealthCheck))

# Kernels are compiled for each of these; everything else is free.
DIMS = st.sampled_from([(1, 1), (3, 5), (16, 24)])
LENGTHS = st.one_of(st.integers(0, 3), st.integers(0, 80))


@functools.cache
def made(chunk=None):
    return deltac.recurrence(SPEC, chunk=chunk)


def draw(seed, B, T, H, dims, dtype=np.float32):
    K, V = dims
    rng = np.random.default_rng(seed)
    arrays = {"q": rng.standard_normal((B, T, H, K)),
              "k": rng.standard_normal((B, T, H, K)),
              "v": rng.standard_normal((B, T, H, V)),
              "g": -rng.gamma(.5, 2, (B, T, H, K)) * rng.integers(0, 2, (B, T, H, 1)),
              "beta": rng.uniform(0, 1, (B, T, H)),
              "bonus": rng.standard_normal((H, V))}
    return ({name: x.astype(dtype) for name, x in arrays.items()},
            rng.standard_normal((B, H, K, V)).astype(
                np.float64 if dtype == np.float64 else np.float32))


def reference(q, k, v, g, beta, bonus, S):
    q, k, v, g, beta, bonus, S = (x.astype(float) for x in (
        q, k, v, g, beta, bonus, S))
    k = k / np.sqrt((k * k).sum(-1, keepdims=True) + 1e-6)
    outs = np.zeros(v.shape)
    for t in range(q.shape[1]):
        S = np.exp(g[:, t])[..., None] * S
        u = v[:, t] - np.einsum("bhkv,bhk->bhv", S, k[:, t])
        S = S + np.einsum("bhk,bhv->bhkv", beta[:, t, :, None] * k[:, t], u)
        outs[:, t] = (q.shape[-1] ** -.5
                      * np.einsum("bhkv,bhk->bhv", S, q[:, t])
                      + bonus * v[:, t])
    return outs, S


def close(got, expected, ratio):
    assert got.shape == expected.shape and np.isfinite(got).all()
    if got.size:
        norm = np.sqrt(np.square(expected.astype(float)).mean()) + 1e-3
        assert np.abs(got - expected).max() <= ratio * norm


@few
@given(st.integers(0, 99), st.integers(0, 3), LENGTHS, st.integers(1, 3), DIMS,
       st.sampled_from([np.float32, np.float64, np.float16]),
       st.sampled_from([None, 16, 32, 64]))
def test_meaning(seed, B, T, H, dims, dtype, chunk):
    arrays, S = draw(seed, B, T, H, dims, dtype)
    o, final = made(chunk)(**arrays, initial_state=S, output_final_state=True)
    expected, last = reference(**arrays, S=S)
    assert o.dtype == dtype and final.dtype == S.dtype
    ratio = {np.float32: 2e-4, np.float64: 1e-11, np.float16: 2e-2}[dtype]
    close(o, expected, ratio)
    close(final, last, ratio)


@st.composite
def layouts(draw):
    """What makes another layout of the same values."""
    order = draw(st.permutations(range(5)))
    return order, draw(st.integers(1, 3)), draw(st.booleans())


def lay_out(x, layout):
    """The array with its axes in another order, gaps between its elements, and
    perhaps backwards."""
    order, gap, reverse = layout
    order = [axis for axis in order if axis < x.ndim]
    stored = np.zeros([x.shape[axis] * gap for axis in order], x.dtype)
    view = stored[tuple(slice(None, None, gap) for _ in order)]
    view = view.transpose(np.argsort(order))
    if reverse:
        view = view[tuple(slice(None, None, -1) for _ in order)]
    view[...] = x
    return view


@few
@given(st.integers(0, 99), LENGTHS, DIMS, st.lists(layouts(), min_size=7,
                                                   max_size=7))
def test_layouts(seed, T, dims, chosen):
    """Strides change no bit."""
    arrays, S = draw(seed, 2, T, 2, dims)
    expected = made()(**arrays, initial_state=S, output_final_state=True)
    found = made()(**{name: lay_out(x, layout) for (name, x), layout in
                      zip(arrays.items(), chosen)},
                   initial_state=lay_out(S, chosen[-1]),
                   output_final_state=True)
    assert all(np.array_equal(x, y) for x, y in zip(found, expected))


def cut(arrays, part):
    return {name: x if name == "bonus" else x[:, part]
            for name, x in arrays.items()}


@few
@given(st.integers(0, 99), LENGTHS, DIMS, st.data())
def test_cuts(seed, T, dims, data):
    """In parts, each chunk by chunk or token by token, as the whole; what comes
    later changes no bit of what came before."""
    arrays, S = draw(seed, 2, T, 2, dims)
    whole, final = made()(**arrays, initial_state=S, output_final_state=True)
    at = data.draw(st.integers(0, T))
    first = data.draw(st.sampled_from([made(), made().decode, made(64)]))
    second = data.draw(st.sampled_from([made(), made().decode, made(16)]))
    head, middle = first(**cut(arrays, slice(0, at)), initial_state=S,
                         output_final_state=True)
    tail, last = second(**cut(arrays, slice(at, T)), initial_state=middle,
                        output_final_state=True)
    close(np.concatenate([head, tail], 1), whole, 2e-4)
    close(last, final, 2e-4)

    changed = {name: x.copy() for name, x in arrays.items()}
    for name, x in changed.items():
        if name != "bonus":
            x[:, at:] = x[:, at:][:, ::-1] * np.float32(.5)
    assert np.array_equal(made()(**changed, initial_state=S)[0][:, :at],
                          whole[:, :at])


@few
@given(st.integers(0, 99), LENGTHS, DIMS, st.permutations(range(3)),
       st.permutations(range(2)))
def test_heads_and_sequences_are_apart(seed, T, dims, heads, batch):
    """In another order they give the same bits in that order."""
    arrays, S = draw(seed, 2, T, 3, dims)
    o, final = made()(**arrays, initial_state=S, output_final_state=True)
    turned = {name: x[heads] if name == "bonus" else x[batch][:, :, heads]
              for name, x in arrays.items()}
    o2, final2 = made()(**turned, initial_state=S[batch][:, heads],
                        output_final_state=True)
    assert np.array_equal(o2, o[batch][:, :, heads])
    assert np.array_equal(final2, final[batch][:, heads])


@few
@given(st.integers(0, 99), LENGTHS, DIMS)
def test_linear(seed, T, dims):
    """In values and state together."""
    arrays, S = draw(seed, 1, T, 2, dims)
    others, R = draw(seed + 1, 1, T, 2, dims)
    def run(v, S):
        return made()(**{**arrays, "v": v}, initial_state=S,
                      output_final_state=True)
    for x, y, z in zip(run(arrays["v"], S), run(others["v"], R),
                       run(arrays["v"] - 2 * others["v"], S - 2 * R)):
        close(z, x - 2 * y, 1e-3)


@few
@given(st.integers(0, 99), LENGTHS, DIMS, st.sampled_from([None, 64]))
def test_gradients(seed, T, dims, budget):
    """Of all inputs, the param and the state, with every state saved or few,
    against reverse mode through the loop."""
    torch = pytest.importorskip("torch")
    arrays, S = draw(seed, 2, T, 2, dims, np.float64)
    rng = np.random.default_rng(seed + 1)
    do, dS = (torch.from_numpy(rng.standard_normal(shape)) for shape in (
        arrays["v"].shape, S.shape))

    def loop(q, k, v, g, beta, bonus, initial_state, output_final_state):
        k = k * torch.rsqrt(k.square().sum(-1, keepdim=True) + 1e-6)
        S, outs = initial_state, [torch.zeros_like(v[:, :0])]
        for t in range(q.shape[1]):
            S = g[:, t].exp().unsqueeze(-1) * S
            u = v[:, t] - torch.einsum("bhkv,bhk->bhv", S, k[:, t])
            S = S + torch.einsum("bhk,bhv->bhkv",
                                 beta[:, t].unsqueeze(-1) * k[:, t], u)
            o = torch.einsum("bhkv,bhk->bhv", S, q[:, t])
            outs.append((q.shape[-1] ** -.5 * o + bonus * v[:, t])[:, None])
        return torch.cat(outs, 1), S

    found = []
    for function in (loop, deltac.recurrence(SPEC, save_budget=budget)):
        leaves = {name: torch.from_numpy(x).clone().requires_grad_()
                  for name, x in {**arrays, "initial_state": S}.items()}
        o, final = function(**leaves, output_final_state=True)
        ((o * do).sum() + (final * dS).sum()).backward()
        found.append([torch.zeros_like(x) if x.grad is None else x.grad
                      for x in leaves.values()])
    for x, y in zip(*found):
        close(y.numpy(), x.numpy(), 1e-9)
