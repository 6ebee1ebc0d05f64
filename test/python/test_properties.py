# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Properties that the forward pass has by mathematics, on the CPU in float64.

They need no expected values: what must be equal is computed in two ways. Those
marked bitwise allow no difference at all.
"""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from kernels import from_bf16, run_npz, to_bf16
from numpy_recurrences import EXTREME, LIBRARY, draw, error, evaluate

NAMES = sorted(LIBRARY)
K, V, CHUNK = 20, 12, 16
LIMIT = 1e-12
SEEDS = st.integers(0, 2**20)
DECAYS = st.sampled_from(["weak", "logsigmoid", "strong", "mixed", "extreme"])
MARK = settings(max_examples=12, deadline=None, derandomize=True,
                database=None)


def tokens(name):
    """Names of the inputs that have a time axis."""
    return [arg.name for arg in LIBRARY[name].args if not arg.param]


def during(name, x, begin, end, state=None):
    """The inputs of tokens begin to end, from `state` on."""
    part = {key: value[:, begin:end] if key in tokens(name) else value
            for key, value in x.items()}
    if state is not None:
        part["initial_state"] = state
    return part


def assert_same(a, b, keys=("o", "final_state")):
    """Bitwise."""
    for key in keys:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def assert_close(a, b, limit=LIMIT, keys=("o", "final_state")):
    for key in keys:
        assert np.all(np.isfinite(a[key])), key
        assert error(a[key], b[key]) <= limit, key


@pytest.fixture(scope="module")
def forward(kernels):
    """`forward(name)`: the chunkwise kernel of this file's sizes."""
    return lambda name, K=K, V=V, n=2, chunk=CHUNK: kernels(
        name, chunk=chunk, K=K, V=V, n=n)


# --- 1: chunks are invisible --------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_chunks_are_invisible(kernels, forward, name):
    sixteen, decode = forward(name), kernels(name, fn="decode", K=K, V=V, n=2)
    others = [forward(name, chunk=32), forward(name, chunk=64)]

    @MARK
    @given(T=st.integers(0, 130), seed=SEEDS, decay=DECAYS)
    def check(T, seed, decay):
        x = draw(name, 1, T, 2, K, V, seed=seed, decay=decay)
        expected = sixteen(x)
        for kernel in [*others, decode]:
            assert_close(kernel(x), expected)

    check()


# --- 2: split and resume ------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_split_and_resume(kernels, forward, name):
    kernel, decode = forward(name), kernels(name, fn="decode", K=K, V=V, n=2)

    @MARK
    @given(T=st.integers(1, 90), data=st.data(), seed=SEEDS, decay=DECAYS)
    def check(T, data, seed, decay):
        t = data.draw(st.integers(0, T))
        x = draw(name, 1, T, 2, K, V, seed=seed, decay=decay)

        def split(run, t):
            first = run(during(name, x, 0, t))
            rest = run(during(name, x, t, T, first["final_state"]))
            return {"o": np.concatenate([first["o"], rest["o"]], axis=1),
                    "final_state": rest["final_state"]}

        whole = kernel(x)
        assert_close(split(kernel, t), whole)
        assert_same(split(kernel, t - t % CHUNK), whole)
        # A token at a time, or all at once: decode does the same.
        assert_same(split(decode, t), decode(x))
        # Prefill chunk by chunk, then decode.
        first = kernel(during(name, x, 0, t))
        rest = decode(during(name, x, t, T, first["final_state"]))
        assert_close({"final_state": rest["final_state"]}, whole,
                     keys=["final_state"])

    check()


@pytest.mark.parametrize("options", [[], ["--fn=decode"], ["--reference"]],
                         ids=["forward", "decode", "reference"])
@pytest.mark.parametrize("name", ["kda", "rwkv6", "gated_delta_product"])
def test_packed_sequences_are_separate_bitwise(tool, tmp_path, name, options):
    ends = [0, 7, 7, 40, 50]  # one of them empty
    x = draw(name, 1, 50, 2, 8, 6, decay="extreme")
    x["initial_state"] = np.random.default_rng(0).normal(size=[4, 2, 8, 6])
    packed = {**x, "cu_seqlens": np.array(ends)}
    options = [*options, "--dtype=f64"]
    whole = run_npz(tool, tmp_path, name, packed, *options)
    for i, (begin, end) in enumerate(zip(ends, ends[1:])):
        part = during(name, x, begin, end, x["initial_state"][i:i + 1])
        got = run_npz(tool, tmp_path, name, part, *options)
        assert_same(got, {"o": whole["o"][:, begin:end],
                          "final_state": whole["final_state"][i:i + 1]})


# --- 3: special cases are special cases ---------------------------------------


def _without(x, *names):
    return {key: value for key, value in x.items() if key not in names}


def _kda_as_dplr(x):
    """Decay, then read with k: the read of the old state with w k."""
    w, k, beta = np.exp(x["g"]), x["k"], x["beta"][..., None]
    return {**_without(x, "g", "beta"), "gk": x["g"], "a": -beta * w * k,
            "b": k, "v": beta * x["v"]}


def lattice():
    """(name, a special case's inputs -> the general name and its inputs)."""
    def per_channel(x):
        return {**x, "g": np.repeat(x["g"][..., None], K, axis=-1)}

    def one_micro_step(x):
        return {key: value[:, :, None] if key in ("k", "v", "beta") else value
                for key, value in x.items()}

    zeros = lambda x: np.zeros_like(x["k"])
    return {
        "kda without decay": ("delta_rule", "kda", lambda x: {
            **x, "g": zeros(x)}),
        "gated delta rule without decay": (
            "delta_rule", "gated_delta_rule", lambda x: {
                **x, "g": np.zeros_like(x["beta"])}),
        "kda with one gate": ("gated_delta_rule", "kda", per_channel),
        "gla with one gate": ("simple_gla", "gla", per_channel),
        "gla without decay": ("linear_attn", "gla", lambda x: {
            **x, "g": zeros(x)}),
        "dplr without decay": ("iplr", "dplr", lambda x: {
            **x, "gk": zeros(x)}),
        "dplr that reads nothing": ("gla", "dplr", lambda x: {
            **_without(x, "g"), "gk": x["g"], "a": zeros(x), "b": x["k"]}),
        "dplr that writes nothing back": ("gla", "dplr", lambda x: {
            **_without(x, "g"), "gk": x["g"], "a": x["k"], "b": zeros(x)}),
        "dplr with tied vectors": ("kda", "dplr", _kda_as_dplr),
        "rwkv7 is dplr": ("dplr", "rwkv7", lambda x: {
            **_without(x, "q", "gk"), "r": x["q"] * K ** -0.5, "w": x["gk"]}),
        "gdn2 with one strength": ("kda", "gdn2", lambda x: {
            **_without(x, "beta"), "k": x["k"] * np.sqrt(x["beta"])[..., None],
            "b": np.ones_like(x["k"]),
            "w": np.sqrt(x["beta"])[..., None] * np.ones_like(x["v"])}),
        "comba that reads with its key": (
            "gated_delta_rule", "comba", lambda x: {
                **x, "p": np.exp(x["g"])[..., None] * x["k"]}),
        "one micro-step": ("gated_delta_rule", "gated_delta_product n=1",
                           one_micro_step),
        "retention is simple_gla": ("retention", "simple_gla", lambda x: {
            **_without(x, "g_gamma"), "g": np.broadcast_to(
                x["g_gamma"], x["q"].shape[:3])}),
        "longhorn is a delta rule": ("longhorn", "delta_rule", lambda x: {
            **x, "beta": x["beta"] / (1 + x["beta"] *
                                      np.sum(x["k"] ** 2, -1))}),
        "bonus of one reads after": ("linear_attn", "rwkv6", lambda x: {
            **_without(x, "q"), "r": x["q"], "w": zeros(x),
            "u": np.ones_like(x["k"][0, 0])}),
    }


@pytest.mark.parametrize("case", lattice())
def test_specialisation_lattice(kernels, forward, case):
    special, general, change = lattice()[case]
    general, _, one = general.partition(" n=")
    first = forward(special)
    second = forward(general, n=int(one or 2))

    @MARK
    @given(T=st.integers(1, 70), seed=SEEDS, decay=DECAYS)
    def check(T, seed, decay):
        x = draw(special, 1, T, 2, K, V, seed=seed, decay=decay)
        assert_close(second(change(x)), first(x))

    check()


def test_micro_steps_are_tokens(forward):
    """n micro-steps are n tokens of which only the first decays."""
    product = forward("gated_delta_product", n=3)
    rule = forward("gated_delta_rule")
    x = draw("gated_delta_product", 1, 30, 2, K, V, n=3, decay="extreme")
    flat = {key: x[key].reshape(1, 90, *x[key].shape[3:])
            for key in ("k", "v", "beta")}
    flat["q"] = np.repeat(x["q"], 3, axis=1)
    flat["g"] = np.zeros([1, 90, 2])
    flat["g"][:, ::3] = x["g"]
    flat["initial_state"] = x["initial_state"]
    a, b = product(x), rule(flat)
    assert_close(a, {"o": b["o"][:, 2::3], "final_state": b["final_state"]})


# --- 4: linearity -------------------------------------------------------------

VALUES = {"mamba2": ["x"]}
QUERIES = {"mamba2": "C", "rwkv6": "r", "rwkv7": "r"}


@pytest.mark.parametrize("name", NAMES)
def test_linear_in_values_and_state_and_in_queries(forward, name):
    kernel = forward(name)
    values = [*VALUES.get(name, ["v"]), "initial_state"]
    query = QUERIES.get(name, "q")

    @MARK
    @given(T=st.integers(1, 50), seed=SEEDS, decay=DECAYS,
           a=st.floats(-2, 2), b=st.floats(-2, 2))
    def check(T, seed, decay, a, b):
        x = draw(name, 1, T, 2, K, V, seed=seed, decay=decay)
        y = draw(name, 1, T, 2, K, V, seed=seed + 1, decay=decay)
        f, g = kernel(x), kernel({**x, **{key: y[key] for key in values}})
        mix = kernel({**x, **{key: a * x[key] + b * y[key]
                              for key in values}})
        size = abs(a) + abs(b) + 1
        for key in f:
            distance = np.linalg.norm(mix[key] - a * f[key] - b * g[key])
            norm = np.linalg.norm(f[key]) + np.linalg.norm(g[key])
            assert distance <= LIMIT * size * norm, key
        if name != "mamba2":  # which has a skip past the state
            other = kernel({**x, query: y[query]})["o"]
            mix = kernel({**x, query: a * x[query] + b * y[query]})["o"]
            distance = np.linalg.norm(mix - a * f["o"] - b * other)
            norm = np.linalg.norm(f["o"]) + np.linalg.norm(other)
            assert distance <= LIMIT * size * norm

    check()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_nothing_out(forward, name):
    x = draw(name, 1, 40, 2, K, V, decay="extreme")
    for key in [*VALUES.get(name, ["v"]), "initial_state"]:
        x[key] = np.zeros_like(x[key])
    got = forward(name)(x)
    assert not got["o"].any() and not got["final_state"].any()


# --- 5: gauge -----------------------------------------------------------------

# Inputs that read are divided by c, those that write multiplied. (In a tied
# recurrence one key does both, and there is no such freedom.)
GAUGE = {
    "linear_attn": ("q", "k"), "retention": ("q", "k"), "gla": ("q", "k"),
    "simple_gla": ("q", "k"), "mamba2": ("C", "B"), "rwkv6": ("r", "k"),
    "iplr": ("q a", "k b"), "dplr": ("q a", "k b"), "rwkv7": ("r a", "k b"),
    "comba": ("q p", "k"), "gdn2": ("q b b", "k"),
}


@pytest.mark.parametrize("name", sorted(GAUGE))
def test_gauge(forward, name):
    kernel = forward(name)

    @MARK
    @given(T=st.integers(1, 50), seed=SEEDS, decay=DECAYS)
    def check(T, seed, decay):
        x = draw(name, 1, T, 2, K, V, seed=seed, decay=decay)
        rng = np.random.default_rng(seed)
        for exact in (True, False):
            c = 2.0 ** rng.integers(-3, 4, K) if exact \
                else np.exp(rng.uniform(-1, 1, K))
            y = dict(x)
            for key in GAUGE[name][0].split():
                y[key] = y[key] / c
            for key in GAUGE[name][1].split():
                y[key] = y[key] * c
            y["initial_state"] = x["initial_state"] * c[:, None]
            a, b = kernel(x), kernel(y)
            b["final_state"] = b["final_state"] / c[:, None]
            if exact:
                assert_same(a, b)
            else:
                assert_close(a, b)

    check()


@pytest.mark.parametrize("name", ["linear_attn", "simple_gla", "delta_rule",
                                  "gated_delta_rule", "comba", "iplr"])
def test_rotation_of_the_keys(forward, name):
    """A scalar decay commutes with every orthogonal map of the keys."""
    x = draw(name, 1, 50, 2, K, V, decay="mixed")
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(K, K)))[0]
    y = {key: value @ rotation if key in ("q", "k", "p", "a", "b") else value
         for key, value in x.items()}
    y["initial_state"] = rotation.T @ x["initial_state"]
    a, b = forward(name)(x), forward(name)(y)
    b["final_state"] = rotation @ b["final_state"]
    assert_close(b, a)


# --- 6: what is independent ---------------------------------------------------


def value_names(name):
    return [arg.name for arg in LIBRARY[name].args if arg.axes[-1:] == "V"]


@pytest.mark.parametrize("name", NAMES)
def test_columns_of_the_state_are_independent_bitwise(forward, name):
    x = draw(name, 2, 40, 2, K, V, decay="extreme")
    whole = forward(name)(x)
    # In another order in the same kernel.
    order = np.random.default_rng(0).permutation(V)
    y = {key: value[..., order] if key in value_names(name) + ["initial_state"]
         else value for key, value in x.items()}
    got = forward(name)(y)
    assert_same(got, {key: value[..., order] for key, value in whole.items()})
    # A slice of them in a kernel of its own.
    y = {key: value[..., 4:9] if key in value_names(name) + ["initial_state"]
         else value for key, value in x.items()}
    got = forward(name, V=5)(y)
    assert_same(got, {key: value[..., 4:9] for key, value in whole.items()})


@pytest.mark.parametrize("name", NAMES)
def test_heads_and_sequences_are_independent_bitwise(forward, name):
    x = draw(name, 3, 40, 4, K, V, decay="extreme")
    whole = forward(name)(x)
    batch, heads = [2, 0, 1], [3, 1, 0, 2]
    params = [arg.name for arg in LIBRARY[name].args if arg.param]

    def pick(key, value, state=False):
        if key in params:
            return value[heads]
        axis = 1 if key in ("initial_state", "final_state") else 2
        if key in ("k", "v", "beta") and name == "gated_delta_product":
            axis = 3
        return np.take(value[batch], heads, axis=axis)

    got = forward(name)({key: pick(key, value) for key, value in x.items()})
    assert_same(got, {key: pick(key, value) for key, value in whole.items()})
    # One sequence alone: the same bits whatever the batch is.
    alone = forward(name)({key: value if key in params else value[1:2]
                           for key, value in x.items()})
    assert_same(alone, {key: value[1:2] for key, value in whole.items()})


@pytest.mark.parametrize("fn", ["forward", "decode"])
@pytest.mark.parametrize("name", NAMES)
def test_how_work_is_divided_does_not_change_a_bit(kernels, name, fn):
    B, H, wide = 2, 3, 70  # several panels of columns
    kernel = kernels(name, fn=fn, K=9, V=wide, n=2)
    x = draw(name, B, 37, H, 9, wide, decay="extreme")
    whole = kernel(x)
    for vblocks in {1, min(2, kernel.panels), kernel.panels}:
        items = B * H * vblocks
        for step in (1, 4, items):
            ranges = [(i, min(i + step, items)) for i in range(0, items, step)]
            got = kernel(x, ranges=ranges[::-1], vblocks=vblocks)
            assert_same(got, whole, keys=whole)


# --- 7: causality, resets, extreme decays -------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_outputs_do_not_depend_on_later_inputs_bitwise(forward, name):
    kernel = forward(name)

    @MARK
    @given(T=st.integers(2, 50), data=st.data(), seed=SEEDS, decay=DECAYS,
           later=DECAYS)
    def check(T, data, seed, decay, later):
        t = data.draw(st.integers(0, T - 1))
        x = draw(name, 1, T, 2, K, V, seed=seed, decay=decay)
        y = draw(name, 1, T, 2, K, V, seed=seed + 1, decay=later)
        z = {key: np.concatenate([x[key][:, :t], 7 * y[key][:, t:]], axis=1)
             if key in tokens(name) else x[key] for key in x}
        a, b = kernel(x)["o"], kernel(z)["o"]
        np.testing.assert_array_equal(a[:, :t], b[:, :t])

    check()


RESETS = {"gla": ["g"], "simple_gla": ["g"], "kda": ["g"], "gdn2": ["g"],
          "gated_delta_rule": ["g"], "gated_delta_product": ["g"],
          "dplr": ["gk", "a"], "rwkv7": ["w", "a"]}


@pytest.mark.parametrize("name", sorted(RESETS))
def test_a_reset_forgets_everything(forward, name):
    kernel = forward(name)

    @MARK
    @given(T=st.integers(2, 50), data=st.data(), seed=SEEDS, decay=DECAYS)
    def check(T, data, seed, decay):
        t = data.draw(st.integers(0, T - 1))
        x = draw(name, 1, T, 2, K, V, seed=seed, decay=decay)
        for key, value in zip(RESETS[name], [-np.inf, 0]):
            x[key][:, t] = value
        whole = kernel(x)
        fresh = during(name, x, t, T)
        del fresh["initial_state"]
        rest = kernel(fresh)
        assert_close({**whole, "o": whole["o"][:, t:]}, rest)
        # Not even the last bit of what came before is left.
        y = {**x, "initial_state": x["initial_state"] + 3}
        other = kernel(y)
        np.testing.assert_array_equal(whole["final_state"],
                                      other["final_state"])
        np.testing.assert_array_equal(whole["o"][:, t:], other["o"][:, t:])

    check()


GATED = [name for name in NAMES
         if any(arg.draw == "gate" and not arg.param
                for arg in LIBRARY[name].args)]


@pytest.mark.parametrize("dtype", ["f64", "f32", "bf16"])
@pytest.mark.parametrize("name", GATED)
def test_extreme_decays_are_finite_and_errors_flat(kernels, name, dtype):
    """Every log-decay from 0 to -inf, alone and mixed: one size of error."""
    kernel = kernels(name, dtype=dtype, K=40, V=24, n=2)
    limit = {"f64": LIMIT, "f32": 2e-6, "bf16": 1e-2}[dtype]
    for decay in [*EXTREME, "extreme", "strong"]:
        x = draw(name, 1, 70, 1, 40, 24, decay=decay)
        got, expected = kernel(x), evaluate(name, x)
        for key in expected:
            assert np.all(np.isfinite(got[key])), (key, decay)
            assert error(got[key], expected[key]) <= limit, (key, decay)


@pytest.mark.parametrize("lo", [-0.25, -0.6065306597126334, -1, -2.5, -4, -5,
                                -20, -87])
def test_declared_ranges_only_choose_schemes(kernels, source, tmp_path, lo):
    """Gates at the very ends of a declared range, where schemes would break."""
    file = tmp_path / "ranged.delta"
    text = (source / "specs/kda.delta").read_text()
    file.write_text(text.replace("[-inf, 0]", f"[{lo}, 0]"))
    B, T, H, K, V = 1, 70, 1, 40, 24
    rng = np.random.default_rng(0)
    gates = {"low": np.full([B, T, H, K], lo), "zero": np.zeros([B, T, H, K]),
             "either": rng.choice([lo, 0], [B, T, H, K]),
             "channels": np.where(np.arange(K) % 2, lo, np.zeros([B, T, H, 1])),
             "between": rng.uniform(lo, 0, [B, T, H, K])}
    for dtype, type, limit in (("f64", np.float64, LIMIT),
                               ("f32", np.float32, 2e-6)):
        for chunk in (16, 64):
            kernel = kernels(file, dtype=dtype, chunk=chunk, K=K, V=V)
            for kind, g in gates.items():
                x = {**draw("kda", B, T, H, K, V), "g": g}
                # The bound as declared, never beyond it after rounding.
                x["g"] = np.maximum(x["g"].astype(type), type(lo))
                got = kernel(x)
                x = {key: value.astype(type) for key, value in x.items()}
                assert_close(got, evaluate("kda", x), limit)
                y = {**x, "g": np.concatenate([x["g"][:, :35],
                                               x["g"][:, 35:] * 0], axis=1)}
                np.testing.assert_array_equal(kernel(y)["o"][:, :35],
                                              got["o"][:, :35], err_msg=kind)


# --- 8: exact memories --------------------------------------------------------


def test_a_delta_rule_remembers_what_it_wrote(forward):
    x = draw("delta_rule", 1, 60, 2, K, V)
    x["beta"][:] = 1
    x["q"] = x["k"]
    assert error(forward("delta_rule")(x, scale=1)["o"], x["v"]) < LIMIT


def test_a_repeated_token_changes_nothing(forward):
    x = draw("delta_rule", 1, 20, 2, K, V)
    x["beta"][:] = 1
    once = forward("delta_rule")(x)
    y = {key: np.repeat(value, 2, axis=1) if key in tokens("delta_rule")
         else value for key, value in x.items()}
    twice = forward("delta_rule")(y)
    assert_close(twice, once, keys=["final_state"])
    assert error(twice["o"][:, 1::2], once["o"]) < LIMIT


def test_reflections_keep_the_norm(forward):
    x = draw("delta_rule", 1, 200, 2, K, V)
    x["beta"][:] = 2
    x["v"][:] = 0
    S0, S1 = x["initial_state"], forward("delta_rule")(x)["final_state"]
    gram = lambda S: np.swapaxes(S, -1, -2) @ S
    assert error(gram(S1), gram(S0)) < LIMIT


# Inputs that make a token do nothing.
NOTHING = {
    "linear_attn": {"k": 0}, "gla": {"k": 0, "g": 0},
    "simple_gla": {"k": 0, "g": 0}, "rwkv6": {"k": 0, "w": 0},
    "delta_rule": {"beta": 0}, "gated_delta_rule": {"beta": 0, "g": 0},
    "kda": {"beta": 0, "g": 0}, "gdn2": {"k": 0, "g": 0},
    "comba": {"beta": 0, "g": 0}, "iplr": {"k": 0, "b": 0},
    "dplr": {"k": 0, "a": 0, "gk": 0}, "rwkv7": {"k": 0, "b": 0, "w": 0},
    "gated_delta_product": {"beta": 0, "g": 0}, "longhorn": {"beta": 0},
}


@pytest.mark.parametrize("name", sorted(NOTHING))
def test_a_token_that_does_nothing_changes_nothing(forward, name):
    x = draw(name, 1, 40, 2, K, V, decay="mixed")
    at = [0, 7, 7, 15, 16, 33]
    y = {key: np.insert(value, at, 1, axis=1) if key in tokens(name) else value
         for key, value in x.items()}
    new = np.array([position + i for i, position in enumerate(at)])
    for key, value in NOTHING[name].items():
        y[key][:, new] = value
    a, b = forward(name)(x), forward(name)(y)
    b["o"] = np.delete(b["o"], new, axis=1)
    assert_close(b, a)


# --- 10: precision ------------------------------------------------------------


@pytest.mark.parametrize("name", ["gla", "kda", "gated_delta_rule", "rwkv7"])
def test_errors_do_not_grow_with_time(kernels, name):
    """A contractive recurrence forgets its rounding errors too."""
    sizes = dict(K=32, V=16)
    kernel = kernels(name, dtype="f32", n=2, **sizes)
    x = draw(name, 1, 4096, 1, 32, 16, decay="logsigmoid")
    x = {key: value.astype(np.float32) for key, value in x.items()}
    got, exact = kernel(x)["o"], evaluate(name, x)["o"]
    early = error(got[:, :512], exact[:, :512])
    assert error(got[:, -512:], exact[:, -512:]) < 2 * early < 2e-6


def test_slow_decay_needs_a_state_in_f32(kernels):
    """A state carried in bf16 would lose 1e-2 here."""
    kernel = kernels("simple_gla", dtype="bf16", K=32, V=16)
    x = draw("simple_gla", 1, 8192, 1, 32, 16, decay="-1e-4", state=False)
    x["v"] += 1
    x["k"] = abs(x["k"])
    x = {key: from_bf16(to_bf16(value)) if key in ("q", "k", "v")
         else value.astype(np.float32) for key, value in x.items()}
    got, exact = kernel(x), evaluate("simple_gla", x)
    # What is left is the rounding of exp(-1e-4) in f32.
    loop = evaluate("simple_gla", x, dtype=np.float32)
    limit = 3 * error(loop["final_state"], exact["final_state"])
    assert error(got["final_state"], exact["final_state"]) < limit < 1e-3
    assert error(got["o"][:, -512:], exact["o"][:, -512:]) < 3e-3


@pytest.mark.parametrize("rho", [0.0, 0.9, 0.99])
@pytest.mark.parametrize("beta", [1.0, 1.9])
def test_correlated_keys(kernels, rho, beta):
    """Where a Neumann series loses everything, substitution does not."""
    rng = np.random.default_rng(0)
    x = draw("delta_rule", 1, 192, 2, 64, 16)
    common = rng.normal(size=64) / 8
    keys = rho ** 0.5 * common + (1 - rho) ** 0.5 * x["k"]
    x["k"] = keys / np.linalg.norm(keys, axis=-1, keepdims=True)
    x["beta"][:] = beta
    for dtype, floor in (("f64", 1e-15), ("f32", 1e-7)):
        type = {"f64": np.float64, "f32": np.float32}[dtype]
        y = {key: value.astype(type) for key, value in x.items()}
        exact = evaluate("delta_rule", y)
        emulated = evaluate("delta_rule", y, dtype=type)
        for chunk in (16, 64):
            kernel = kernels("delta_rule", dtype=dtype, chunk=chunk, K=64, V=16)
            got = kernel(y)
            limit = (1e-11 if dtype == "f64" else
                     3 * max(error(emulated["o"], exact["o"]), floor))
            assert error(got["o"], exact["o"]) <= limit, (dtype, chunk)


def test_runs_are_deterministic(forward):
    x = draw("kda", 2, 70, 3, K, V, decay="mixed")
    first = forward("kda")(x)
    for _ in range(3):
        assert_same(forward("kda")(x), first)
