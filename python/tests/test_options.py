# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Arguments and options of deltac.ops: those of fla, and what each of them does."""

import inspect

import pytest

torch = pytest.importorskip("torch")

from deltac import ops  # noqa: E402
from deltac.ops import naive  # noqa: E402

from .test_ops import F32, RULES, Inputs, assert_close, draw  # noqa: E402

#: The operators of fla 0.5.2, as its sources have them.
FLA = """
chunk_comba(q, k, v, p, g, beta=None, scale=None, initial_state=None,
    output_final_state=False, use_qk_l2norm_in_kernel=False,
    cu_seqlens=None, cu_seqlens_cpu=None)
chunk_delta_rule(q, k, v, beta, scale=None, initial_state=None,
    output_final_state=False, use_qk_l2norm_in_kernel=False,
    cu_seqlens=None, cu_seqlens_cpu=None)
chunk_dplr_delta_rule(q, k, v, a, b, gk, scale=None, initial_state=None,
    output_final_state=False, cu_seqlens=None, cu_seqlens_cpu=None,
    safe_gate=False, chunk_size=None, disable_recompute=False,
    cp_context=None, lower_bound=None)
chunk_gated_delta_product(q, k, v, g, beta, num_householder, scale=None,
    initial_state=None, output_final_state=False,
    use_qk_l2norm_in_kernel=False, cu_seqlens=None, cu_seqlens_cpu=None)
chunk_gated_delta_rule(q, k, v, g, beta, scale=None, initial_state=None,
    output_final_state=False, use_qk_l2norm_in_kernel=False,
    use_beta_sigmoid_in_kernel=False, allow_neg_eigval=False,
    state_v_first=False, cu_seqlens=None, cu_seqlens_cpu=None,
    chunk_indices=None, cp_context=None)
chunk_gdn2(q, k, v, g, b, w, scale=None, initial_state=None,
    output_final_state=False, use_qk_l2norm_in_kernel=False,
    use_gate_in_kernel=False, cu_seqlens=None, cu_seqlens_cpu=None,
    safe_gate=False, lower_bound=None, disable_recompute=False,
    return_intermediate_states=False, state_v_first=False)
chunk_gla(q, k, v, g, scale=None, initial_state=None,
    output_final_state=False, state_v_first=False, cu_seqlens=None,
    cu_seqlens_cpu=None)
chunk_iplr_delta_rule(q, k, v, a, b, scale=None, initial_state=None,
    output_final_state=False, cu_seqlens=None, cu_seqlens_cpu=None)
chunk_kda(q, k, v, g, beta, scale=None, initial_state=None,
    output_final_state=False, use_qk_l2norm_in_kernel=False,
    use_gate_in_kernel=False, use_beta_sigmoid_in_kernel=False,
    allow_neg_eigval=False, safe_gate=False, lower_bound=None,
    disable_recompute=False, return_intermediate_states=False,
    state_v_first=False, cu_seqlens=None, cu_seqlens_cpu=None,
    cp_context=None)
chunk_linear_attn(q, k, v, scale=None, initial_state=None,
    output_final_state=False, normalize=True, cu_seqlens=None)
chunk_retention(q, k, v, scale=None, initial_state=None,
    output_final_state=False, cu_seqlens=None)
chunk_rwkv7(r, w, k, v, a, b, scale=1.0, initial_state=None,
    output_final_state=False, cu_seqlens=None, cu_seqlens_cpu=None,
    safe_gate=False, chunk_size=None, disable_recompute=False,
    cp_context=None, lower_bound=None)
chunk_simple_gla(q, k, v, g=None, g_gamma=None, scale=None,
    initial_state=None, output_final_state=False, state_v_first=False,
    cu_seqlens=None, cu_seqlens_cpu=None)
fused_mul_recurrent_rwkv7(r, w, k, v, kk, a, scale=1.0, initial_state=None,
    output_final_state=False, reverse=False, cu_seqlens=None)
fused_recurrent_comba(q, k, p, v, g, beta=None, scale=None,
    initial_state=None, output_final_state=False,
    use_qk_l2norm_in_kernel=False, cu_seqlens=None)
fused_recurrent_delta_rule(q, k, v, beta=None, scale=None,
    initial_state=None, output_final_state=False,
    use_qk_l2norm_in_kernel=False, cu_seqlens=None)
fused_recurrent_dplr_delta_rule(q, k, v, a, b, gk, scale=None,
    initial_state=None, output_final_state=False, reverse=False,
    cu_seqlens=None)
fused_recurrent_gated_delta_rule(q, k, v, g=None, gk=None, gv=None,
    beta=None, scale=None, initial_state=None, output_final_state=False,
    use_qk_l2norm_in_kernel=False, use_gate_in_kernel=False, A_log=None,
    dt_bias=None, use_beta_sigmoid_in_kernel=False, allow_neg_eigval=False,
    state_v_first=False, cu_seqlens=None)
fused_recurrent_gdn2(q, k, v, g, b, w, A_log=None, dt_bias=None, scale=None,
    initial_state=None, output_final_state=False,
    use_qk_l2norm_in_kernel=False, use_gate_in_kernel=False,
    lower_bound=None, state_v_first=False, cu_seqlens=None)
fused_recurrent_gla(q, k, v, gk=None, gv=None, scale=None,
    initial_state=None, output_final_state=False, reverse=False,
    state_v_first=False, cu_seqlens=None)
fused_recurrent_iplr_delta_rule(q, k, v, a, b, scale=None,
    initial_state=None, output_final_state=False, cu_seqlens=None)
fused_recurrent_kda(q, k, v, g, beta, A_log=None, dt_bias=None, scale=None,
    initial_state=None, output_final_state=False,
    use_qk_l2norm_in_kernel=False, use_gate_in_kernel=False,
    use_beta_sigmoid_in_kernel=False, allow_neg_eigval=False,
    lower_bound=None, state_v_first=False, cu_seqlens=None)
fused_recurrent_linear_attn(q, k, v, scale=None, initial_state=None,
    output_final_state=False, reverse=False, normalize=False,
    cu_seqlens=None)
fused_recurrent_retention(q, k, v, scale=None, initial_state=None,
    output_final_state=False, reverse=False, state_v_first=False,
    cu_seqlens=None)
fused_recurrent_rwkv7(r, w, k, v, a, b, scale=None, initial_state=None,
    output_final_state=True, cu_seqlens=None)
fused_recurrent_simple_gla(q, k, v, g=None, g_gamma=None, scale=None,
    initial_state=None, output_final_state=False, reverse=False,
    state_v_first=False, cu_seqlens=None)
"""


def test_signatures():
    """Arguments are fla's, in their order and with their defaults; what deltac
    has beyond them comes behind."""
    empty = inspect.Parameter.empty
    signatures = [line for line in FLA.replace("\n    ", " ").splitlines() if line]
    assert len(signatures) == 26
    for line in signatures:
        name, _, arguments = line.rstrip(")").partition("(")
        expected = [argument.split("=") for argument in arguments.split(", ")]
        found = [(p.name,) if p.default is empty else (p.name, repr(p.default))
                 for p in inspect.signature(getattr(ops, name)).parameters
                 .values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert [tuple(x) for x in expected] == found[:len(expected)], name
    for rule in RULES:
        for form in ("chunk", "fused_recurrent"):
            assert f"{form}_{rule}" in ops.__all__
    for module, prefixes in ((ops, ("chunk_", "fused_")), (naive, ("naive_",))):
        defined = {name for name in dir(module) if name.startswith(prefixes)}
        assert defined == {name for name in module.__all__
                           if name.startswith(prefixes)}


def options_of(form, rule):
    """What every operator takes, with values that change something."""
    options = {"scale": 0.3, "use_qk_l2norm_in_kernel": True,
               "state_v_first": True, "output_final_state": True}
    options["chunk_size" if form == "chunk" else "reverse"] = 32
    if "delta" in rule and "plr" not in rule or rule in ("kda", "comba"):
        options |= {"use_beta_sigmoid_in_kernel": True,
                    "allow_neg_eigval": True}
    if rule == "linear_attn":
        options["normalize"] = False
    return options


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("form", ["chunk", "fused_recurrent"])
def test_every_option(form, rule):
    """All at once, against the same outside of the naive reference; values and
    gradients, a state in and a state out."""
    inputs = Inputs(2, 37, 2, 16, F32, V=24)
    arrays = draw(rule, inputs)
    steps = {"num_householder": arrays.pop("num_householder")} \
        if "num_householder" in arrays else {}
    arrays["r" if rule == "rwkv7" else "q"] *= 3
    arrays["k"] *= 2
    if "beta" in arrays:
        arrays["beta"] = 4 * arrays["beta"] - 2
    options = options_of(form, rule)
    h0 = inputs.state()
    do, dh = inputs.normal(2, 37, 2, 24), inputs.normal(*h0.shape)
    found = []
    for dtype in (torch.float64, F32):
        leaves = {name: x.to(dtype).requires_grad_()
                  for name, x in {**arrays, "h0": h0}.items()}
        given = {name: x for name, x in leaves.items() if name != "h0"}
        if dtype == F32:
            if form == "fused_recurrent" and rule == "gla":
                given["gk"] = given.pop("g")
            o, state = getattr(ops, f"{form}_{rule}")(
                **given, **steps, **options, initial_state=leaves["h0"].mT)
            state = state.mT
        else:
            for name in ("q", "r", "k", "p"):
                if name in given:
                    given[name] = naive.naive_l2norm(given[name])
            if "use_beta_sigmoid_in_kernel" in options:
                given["beta"] = 2 * given["beta"].sigmoid()
            if form == "fused_recurrent":
                # Steps of a token keep their order.
                n = steps.get("num_householder", 1)
                given = {name: x.unflatten(1, (37, -1)).flip(1).flatten(1, 2)
                         if n > 1 and x.shape[1] == 37 * n else x.flip(1)
                         for name, x in given.items()}
            o, state = getattr(naive, f"naive_recurrent_{rule}")(
                **given, **steps, scale=options["scale"],
                initial_state=leaves["h0"], output_final_state=True)
            if form == "fused_recurrent":
                o = o.flip(1)
        torch.autograd.backward([o, state], [do.to(dtype), dh.to(dtype)])
        found.append({"o": o, "state": state, **{
            name: x.grad for name, x in leaves.items()}})
    for name, x in found[0].items():
        assert_close(name, x, found[1][name], 1e-5)


# --- Options -----------------------------------------------------------------

@pytest.mark.parametrize("form", ["chunk", "fused_recurrent"])
@pytest.mark.parametrize("rule", ["gated_delta_rule", "kda", "gdn2"])
def test_gate_options(form, rule):
    """Everything in the kernel, against the same outside of it."""
    inputs = Inputs(2, 37, 2, 32, F32)
    B, T, H, D = inputs.shape
    arrays = draw(rule, inputs)
    channel = rule != "gated_delta_rule"
    arrays["g"] = inputs.normal(*arrays["g"].shape)
    arrays["q"] = 3 * arrays["q"]
    A_log = inputs.normal(H)
    dt_bias = inputs.normal(H * D if channel else H)
    options = {"use_gate_in_kernel": True, "A_log": A_log, "dt_bias": dt_bias,
               "use_qk_l2norm_in_kernel": True}
    outside = dict(arrays, q=naive.naive_l2norm(arrays["q"]),
                   k=naive.naive_l2norm(arrays["k"]),
                   g=naive.naive_gate(arrays["g"], A_log, dt_bias))
    if rule != "gdn2":
        arrays["beta"] = inputs.normal(B, T, H)
        outside["beta"] = 2 * arrays["beta"].sigmoid()
        options |= {"use_beta_sigmoid_in_kernel": True,
                    "allow_neg_eigval": True}
    op = getattr(ops, f"{form}_{rule}")
    with torch.no_grad():
        got = op(**arrays, **options, output_final_state=True)
        expected = op(**outside, output_final_state=True)
        for x, y in zip(expected, got):
            assert_close(rule, x, y, 1e-5)
        if channel:
            for A in (A_log, None):
                options |= {"A_log": A, "lower_bound": -5.0}
                outside["g"] = naive.naive_gate(arrays["g"], A, dt_bias, -5.0)
                assert_close(rule, op(**outside)[0],
                             op(**arrays, **options)[0], 1e-5)


def test_recurrent_gates_add_up():
    inputs = Inputs(2, 21, 2, 16, F32)
    arrays = draw("gated_delta_rule", inputs)
    gk = inputs.gate((2, 21, 2, 16))
    with torch.no_grad():
        o, _ = ops.fused_recurrent_gated_delta_rule(**arrays, gk=gk)
        both = dict(arrays, g=arrays["g"].unsqueeze(-1) + gk)
        assert_close("g + gk", naive.naive_recurrent_kda(**both)[0], o, 1e-5)
        q, k, v = (arrays[name] for name in "qkv")
        one = torch.ones(2, 21, 2)
        assert_close("neither", naive.naive_recurrent_delta_rule(q, k, v, one)
                     [0], ops.fused_recurrent_gated_delta_rule(q, k, v)[0], 1e-5)
        assert_close("no beta", naive.naive_recurrent_delta_rule(q, k, v, one)
                     [0], ops.fused_recurrent_delta_rule(q, k, v)[0], 1e-5)


def test_rwkv7_from_its_rates():
    """a = -kk, b = kk .* rate; scales of fla's two forms differ."""
    inputs = Inputs(2, 21, 2, 16, F32)
    r, w, k, v, kk, _ = draw("rwkv7", inputs).values()
    rate = inputs.uniform(*r.shape)
    with torch.no_grad():
        o, final = ops.fused_mul_recurrent_rwkv7(r, w, k, v, kk, rate)
        expected = naive.naive_recurrent_rwkv7(r, w, k, v, -kk, kk * rate)[0]
        assert final is None
        assert_close("o", expected, o, 1e-5)
        assert_close("chunk", expected,
                     ops.chunk_rwkv7(r, w, k, v, -kk, kk * rate)[0], 1e-5)
        o, final = ops.fused_recurrent_rwkv7(r, w, k, v, -kk, kk * rate)
        assert final is not None
        assert_close("scale", expected * 16 ** -0.5, o, 1e-5)


@pytest.mark.parametrize("op", [ops.chunk_linear_attn,
                                ops.fused_recurrent_linear_attn])
def test_normalized_linear_attention(op):
    """In two parts, with the pair of states handed over, as the whole."""
    inputs = Inputs(2, 40, 2, 16, F32)
    q, k, v = (x.abs() for x in inputs.qkv())
    weights = torch.tril(torch.einsum("bthk,bshk->bhts", q, k))
    expected = torch.einsum("bhts,bshv->bthv",
                            weights / weights.sum(-1, keepdim=True), v)
    with torch.no_grad():
        assert_close("o", expected, op(q, k, v, normalize=True)[0], 1e-5)
        first, states = op(q[:, :23], k[:, :23], v[:, :23], normalize=True,
                           output_final_state=True)
        second, (_, sums) = op(q[:, 23:], k[:, 23:], v[:, 23:], normalize=True,
                               initial_state=states, output_final_state=True)
    assert_close("parts", expected, torch.cat([first, second], 1), 1e-5)
    assert_close("sums", k.sum(1, keepdim=True), sums, 1e-5)


@pytest.mark.parametrize("form", ["chunk", "fused_recurrent"])
def test_normalized_options(form):
    """Linear attention's divisor sees the normalised keys; its states are
    pairs, of which the first is transposed."""
    inputs = Inputs(2, 21, 2, 16, F32, V=24)
    q, k, v = (x.abs() for x in inputs.qkv(normalized=False))
    op = getattr(ops, f"{form}_linear_attn")
    with torch.no_grad():
        o, (state, sums) = op(q, k, v, normalize=True, output_final_state=True,
                              use_qk_l2norm_in_kernel=True, state_v_first=True)
        expected, (turned, same) = op(
            naive.naive_l2norm(q), naive.naive_l2norm(k), v, normalize=True,
            output_final_state=True)
    assert_close("o", expected, o, 1e-5)
    assert_close("state", turned.mT, state, 1e-5)
    assert_close("sums", same, sums, 1e-5)
