# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The recurrent form on the CPU (--fn=decode) against the float64 reference.

Sums are taken in another order than the reference takes them, and reads after a
write are combined from reads before it, so f64 agrees to 1e-12 and not exactly.
"""

import numpy as np
import pytest

SPECS = ["comba", "delta_rule", "dplr", "gated_delta_product",
         "gated_delta_rule", "gdn2", "gla", "iplr", "kda", "linear_attn",
         "longhorn", "mamba2", "retention", "rwkv6", "rwkv7", "simple_gla"]


def make_check(tool, *always):
    def check(spec, sizes, *options):
        random = ",".join(f"{name}={size}" for name, size in sizes.items())
        done = tool("delta-run", spec, "--fn=decode", "--check", *always,
                    f"--random={random},seed=3", *options)
        assert " ok\n" in done.stdout and "FAIL" not in done.stdout

    return check


@pytest.fixture
def check(tool):
    """`check(spec, sizes, *options)`: decode agrees with the reference."""
    return make_check(tool)


def sizes(spec, n=3, **kwargs):
    found = dict(B=2, T=9, H=3, K=24, V=40) | kwargs
    return found | ({"n": n} if spec == "gated_delta_product" else {})


@pytest.mark.parametrize("spec", SPECS)
def test_every_spec(check, spec):
    check(spec, sizes(spec), "--dtype=f64", "--tolerance=1e-12")
    check(spec, sizes(spec), "--dtype=f32", "--tolerance=1e-6")
    check(spec, sizes(spec), "--dtype=bf16")


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_narrow_state(tool, check, tmp_path, dtype):
    """Inputs, outs and state in 16 bits; the state is rounded once a call."""
    events = tool("delta-compile", "kda", "--emit=events", f"--dtype={dtype}")
    path = tmp_path / "kda.mlir"
    path.write_text(events.stdout.replace('name = "S", type = f32',
                                          f'name = "S", type = {dtype}'))
    assert f'name = "S", type = {dtype}' in path.read_text()
    for V in [40, 128]:
        for T in [1, 4]:
            check(path, sizes("kda", T=T, V=V))


@pytest.mark.parametrize("K, V", [(1, 1), (3, 5), (16, 16), (17, 33), (20, 64),
                                  (128, 100), (5, 300), (64, 144)])
def test_any_size(check, K, V):
    for spec in ["kda", "gated_delta_product", "rwkv6"]:
        check(spec, sizes(spec, B=1, T=3, H=2, K=K, V=V), "--dtype=f64",
              "--tolerance=1e-12")
    check("dplr", sizes("dplr", B=1, T=3, H=2, K=K, V=V), "--dtype=f32")


@pytest.mark.parametrize("T", [0, 1, 2, 3, 65])
def test_any_number_of_tokens(check, T):
    check("gdn2", sizes("gdn2", T=T), "--dtype=f64", "--tolerance=1e-12")
    check("rwkv6", sizes("rwkv6", T=T), "--dtype=f64", "--tolerance=1e-12")


def test_nothing_to_do(check):
    check("kda", sizes("kda", B=0))
    check("kda", sizes("kda", H=0))


def test_large_states_are_streamed(check):
    """Above the size from which the final state is stored past the caches."""
    for V in [64, 128]:
        check("kda", sizes("kda", B=32, T=1, H=8, K=128, V=V))


# Programs that the library does not have.
PROGRAMS = {
    # Outs of every kind, some free of the state.
    "outs": """
      in q: K, k: K, v: V, beta: scalar
      param u: K
      attr scale = 0.5
      state S: K x V
      out before = S^T * q
      S = S + 0.1 * beta * k * (v - S^T * k)^T
      out o = scale * S^T * q .* sigmoid(v)
      out norm = dot(k, k) + beta
      out gate = l2norm(k) .* u
      out free = tanh(v) + softplus(v)
    """,
    # A square state: K-vectors stand on both sides.
    "square": """
      in q: K, k: K, g: K in [-inf, 0]
      state S: K x K
      S = diag(exp(g)) * S + k * l2norm(q)^T
      S = S - 0.1 * k * (S^T * k)^T
      out o = S^T * q + k
      out p = l2norm(k)
    """,
    # Other dims for the state: keys run along V.
    "turned": """
      in k: K, v: V, w: V in [-inf, 0]
      state S: V x K
      out o = k .* (S^T * v)
      S = diag(exp(w)) * S + v * k^T
    """,
    # Two decays, reads between, several writes, reads of reads' sums.
    "mixed": """
      in q: K, k: K, v: V, a: K, g: scalar in [-5, 0], w: K in [0, 1]
      state S: K x V
      let first = S^T * a
      S = exp(g) * S
      let z = S^T * k
      S = S + 0.2 * k * (v - z + first)^T - 0.1 * a * z^T
      S = diag(w) * S
      S = 0.9 * S + q * (S^T * a)^T
      out o = S^T * q - 0.5 * first
      out p = (0.5 * S)^T * k
    """,
    # Nested sums: each waits for the one before.
    "levels": """
      in q: K, k: K, v: V
      state S: K x V
      let a = l2norm(k)
      let b = l2norm(a + dot(a, q) * q)
      let c = l2norm(b .* a)
      S = (eye(K) - b * c^T) * S + c * v^T
      out o = S^T * l2norm(q)
      out n = dot(b, c)
    """,
    # The state is never read, and never changed.
    "unread": """
      in k: K, v: V
      state S: K x V
      S = S + k * v^T
      out o = v
    """,
    "unchanged": """
      in q: K
      state S: K x V
      out o = S^T * q
    """,
    # Powers, minima, maxima; the reads' vector is a number repeated.
    "elementwise": """
      in q: K, k: K, v: V, s: scalar
      attr p = 2
      state S: K x V
      S = 0.5 * S + relu(k) * max(v, -0.3)^T
      out o = S^T * min(abs(q), s) + silu(v) + exp2(v) .* sqrt(abs(v) + 1)
      out r = S^T * (0 * q + 1)
      out t = (abs(s) + 1) ^ 1.5 * v ^ 2 + log(abs(v) + 1) ./ rsqrt(abs(v) + 1)
    """,
    # Micro-steps by loop and by number.
    "micro": """
      dim n
      in q: K, k[n]: K, v[n]: V, beta[n]: scalar
      state S: K x V
      for j in n {
        S = S + 0.3 * beta[j] * k[j] * (v[j] - S^T * k[j])^T
      }
      out o = S^T * q + v[0] - beta[1] * v[1]
    """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(check, tmp_path, name):
    spec = tmp_path / f"{name}.delta"
    spec.write_text(f"recurrence {name} {{ {PROGRAMS[name]} }}")
    extra = {"n": 2} if name == "micro" else {}
    for K, V in [(24, 40), (7, 3)]:
        for T in [1, 6]:
            check(spec, dict(B=2, T=T, H=2, K=K, V=V) | extra, "--dtype=f64",
                  "--tolerance=1e-12")
    check(spec, dict(B=2, T=5, H=2, K=24, V=40) | extra, "--dtype=f32")


@pytest.fixture
def kernel(tool, tmp_path):
    """`kernel(spec, dims, arrays, *options)`: a decode kernel's outputs."""

    def compile_to(stage, spec, dims, *options):
        path = tmp_path / f"{stage}.mlir"
        tool("delta-compile", spec, "--fn=decode", f"--emit={stage}", "-o",
             path, *(f"-D{name}={size}" for name, size in dims.items()),
             *options)
        return path

    def run(path, arrays, *options):
        np.savez(tmp_path / "in.npz", **arrays)
        tool("delta-kernel", path, "--input", tmp_path / "in.npz", "--output",
             tmp_path / "out.npz", *options)
        return dict(np.load(tmp_path / "out.npz"))

    run.compile = compile_to
    return run


def kda_arrays(B, T, H, K, V, dtype=np.float32):
    rng = np.random.default_rng(5)
    x = {name: rng.normal(size=[B, T, H, D]) for name, D in
         [("q", K), ("k", K), ("v", V), ("g", K)]}
    x["k"] /= np.linalg.norm(x["k"], axis=-1, keepdims=True)
    x["g"] = -abs(x["g"])
    x["beta"] = rng.uniform(size=[B, T, H])
    x["initial_state"] = rng.normal(size=[B, H, K, V])
    return {name: array.astype(dtype) for name, array in x.items()}


def assert_same_bits(got, want):
    for name in want:
        np.testing.assert_array_equal(
            got[name].view(np.uint8), want[name].view(np.uint8), err_msg=name)


@pytest.mark.parametrize("K, V, T", [(32, 128, 5), (32, 200, 5), (32, 128, 1),
                                     (20, 33, 3)])
def test_any_split_gives_the_same_bits(kernel, K, V, T):
    x = kda_arrays(2, T, 3, K, V)
    path = kernel.compile("mapped", "kda", dict(K=K, V=V))
    want = kernel(path, x, "--attr", "scale=0.3")
    assert all(np.isfinite(array).all() for array in want.values())
    for vblocks in range(1, -(-V // 32) + 1):
        got = kernel(path, x, "--attr", "scale=0.3", f"--vblocks={vblocks}")
        assert_same_bits(got, want)
    got = kernel(path, x, "--attr", "scale=0.3", "--jobs=7")
    assert_same_bits(got, want)


def test_states_are_optional_and_may_be_one_array(kernel):
    for T in [0, 1, 3]:
        x = kda_arrays(2, T, 3, 24, 72)
        path = kernel.compile("mapped", "kda", dict(K=24, V=72))
        want = kernel(path, x, "--attr", "scale=0.3")
        assert_same_bits(kernel(path, x, "--attr", "scale=0.3", "--in-place"),
                         want)
        got = kernel(path, x, "--attr", "scale=0.3", "--no-final")
        assert_same_bits(got, {"o": want["o"]})
        # A state that is not given is zero.
        zero = x | {"initial_state": np.zeros_like(x["initial_state"])}
        want = kernel(path, zero, "--attr", "scale=0.3")
        del zero["initial_state"]
        assert_same_bits(kernel(path, zero, "--attr", "scale=0.3"), want)


def test_streamed_states_have_the_same_bits(kernel):
    """In place nothing is streamed; otherwise a state of 16 MB is."""
    x = kda_arrays(32, 1, 8, 128, 128)
    path = kernel.compile("mapped", "kda", dict(K=128, V=128))
    want = kernel(path, x, "--attr", "scale=0.3", "--in-place")
    assert_same_bits(kernel(path, x, "--attr", "scale=0.3"), want)


def test_split_of_the_tokens(kernel):
    """Decoding in two calls is decoding in one."""
    x = kda_arrays(1, 6, 2, 24, 40, np.float64)
    path = kernel.compile("mapped", "kda", dict(K=24, V=40), "--dtype=f64")
    want = kernel(path, x)
    state, outs = x.pop("initial_state"), []
    for part in [slice(0, 1), slice(1, 5), slice(5, 6)]:
        piece = {name: array[:, part] for name, array in x.items()}
        got = kernel(path, piece | {"initial_state": state})
        state = got["final_state"]
        outs.append(got["o"])
    assert_same_bits({"o": np.concatenate(outs, 1), "final_state": state}, want)


def with_hard_decays(x):
    """All sizes of log-decays; at token 7 everything is forgotten."""
    rng = np.random.default_rng(0)
    x["g"] = rng.choice(np.float32([0, -1e-8, -5, -60, -1e4, -np.inf]),
                        size=x["g"].shape)
    x["g"][:, 7] = -np.inf
    return x


def test_hard_decays(kernel):
    """Nothing overflows whatever the log-decays, and -inf forgets exactly."""
    x = with_hard_decays(kda_arrays(2, 12, 2, 24, 40))
    path = kernel.compile("mapped", "kda", dict(K=24, V=40))
    got = kernel(path, x)
    assert all(np.isfinite(array).all() for array in got.values())
    x["initial_state"] *= 100
    for name in "qkvg":
        x[name][:, :7] *= 2
    again = kernel(path, x)
    np.testing.assert_array_equal(got["o"][:, 7:], again["o"][:, 7:])
    np.testing.assert_array_equal(got["final_state"], again["final_state"])


# States that branch, which the specification language cannot say so.
TREE = """
!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>
module attributes {delta.stage = "events", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "q", type = f64, axes = [K]>,
    #delta.arg<kind = in, name = "k", type = f64, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f64, axes = [V]>,
    #delta.arg<kind = in, name = "w", type = f64, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f64, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f64, axes = [V]>],
    dims = {K = 24, V = 40}>} {
  delta.recurrence @tree {
  ^bb0(%q: !K, %k: !K, %v: !V, %w: !K, %S: !S):
    %a = delta.decay %S, %w : !S, !K
    %b = delta.write %a, %k, %v : !S, !K, !V
    %z = delta.read %b, %q : !S, !K -> !V
    %c = delta.write %S, %q, %z : !S, !K, !V
    %y = delta.read %c, %w : !S, !K -> !V
    %d = delta.decay %c, %w : !S, !K
    delta.yield %d, %y : !S, !V
  }
}
"""


def test_states_that_branch(tool, kernel, tmp_path):
    (tmp_path / "tree.mlir").write_text(TREE)
    rng = np.random.default_rng(1)
    B, T, H, K, V = 2, 5, 2, 24, 40
    x = {name: rng.normal(size=[B, T, H, D]) / 5 for name, D in
         [("q", K), ("k", K), ("v", V)]}
    x["w"] = rng.uniform(size=[B, T, H, K])
    x["initial_state"] = rng.normal(size=[B, H, K, V])
    done = tool("delta-opt", tmp_path / "tree.mlir", "--delta-decode-map")
    (tmp_path / "tree-mapped.mlir").write_text(done.stdout)
    got = kernel(tmp_path / "tree-mapped.mlir", x)
    S, o = x["initial_state"], np.zeros([B, T, H, V])
    for t in range(T):
        q, k, v, w = (x[name][:, t] for name in "qkvw")
        b = w[..., None] * S + k[..., None] * v[..., None, :]
        z = np.einsum("bhkv,bhk->bhv", b, q)
        c = S + q[..., None] * z[..., None, :]
        o[:, t] = np.einsum("bhkv,bhk->bhv", c, w)
        S = w[..., None] * c
    np.testing.assert_allclose(got["o"], o, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(got["final_state"], S, rtol=1e-12, atol=1e-12)
