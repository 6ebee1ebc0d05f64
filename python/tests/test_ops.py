# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""deltac.ops against the naive references in float64: every operator in both
forms, every option, every refusal. fla's own cases are in test_fla.py; the metric
is theirs: the RMS of the difference over the RMS of the reference.
"""

import inspect
import re
import warnings

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from deltac import ops  # noqa: E402
from deltac.ops import naive  # noqa: E402

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32


def assert_close(name, reference, got, ratio):
    reference, got = reference.double(), got.double()
    assert reference.shape == got.shape, name
    if reference.numel() == 0:
        return
    assert got.isfinite().all(), name
    if (reference - got).abs().max() <= 1e-6:
        return
    error = ((reference - got).square().mean().sqrt()
             / (reference.square().mean().sqrt() + 1e-8))
    assert error < ratio, f"{name}: {error:.2e} is not below {ratio:.0e}"


class Inputs:
    """Inputs as fla's tests draw them."""

    def __init__(self, B, T, H, D, dtype, seed=42, V=None):
        self.shape, self.dtype = (B, T, H, D), dtype
        self.V = V or D
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator)

    def uniform(self, *shape):
        return torch.rand(*shape, generator=self.generator)

    def qkv(self, normalized=True, random=None):
        random = random or self.normal
        B, T, H, D = self.shape
        q, k, v = (random(*self.shape), random(*self.shape),
                   random(B, T, H, self.V))
        if normalized:
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return [x.to(self.dtype) for x in (q, k, v)]

    def gate(self, shape, norm=1.0, mask=0.0, low=None):
        g = F.logsigmoid(self.normal(*shape)) / norm
        g = g * (self.uniform(*shape) > mask)
        return g if low is None else g.clamp(low, 0)

    def state(self):
        B, _, H, D = self.shape
        return self.normal(B, H, D, self.V)


# --- Every operator once, in both forms --------------------------------------

def draw(rule, inputs):
    """The arrays of a rule, by name."""
    B, T, H, D = inputs.shape
    q, k, v = inputs.qkv()
    a = F.normalize(inputs.uniform(B, T, H, D), dim=-1).to(inputs.dtype)
    g, gk = inputs.gate((B, T, H)), inputs.gate((B, T, H, D))
    beta = inputs.uniform(B, T, H).to(inputs.dtype)
    w = inputs.uniform(B, T, H, inputs.V).to(inputs.dtype)
    base = {"q": q, "k": k, "v": v}
    match rule:
        case "dplr_delta_rule":
            return {**base, "a": a, "b": -a, "gk": gk}
        case "iplr_delta_rule":
            return {**base, "a": a, "b": -a}
        case "rwkv7":
            return {"r": q, "w": gk, "k": k, "v": v, "a": a, "b": -a}
        case "delta_rule":
            return {**base, "beta": beta}
        case "gated_delta_rule":
            return {**base, "g": g, "beta": beta}
        case "kda":
            return {**base, "g": gk, "beta": beta}
        case "gdn2":
            return {**base, "g": gk, "b": a, "w": w}
        case "comba":
            return {**base, "p": a, "g": g, "beta": beta}
        case "gated_delta_product":
            steps = {name: torch.cat([x, x.flip(1)], 1)
                     for name, x in (("k", k), ("v", v), ("beta", beta))}
            return {"q": q, **steps, "g": g, "num_householder": 2}
        case "gla":
            return {**base, "g": gk}
        case "simple_gla":
            return {**base, "g": g}
        case _:
            return base


RULES = ["dplr_delta_rule", "iplr_delta_rule", "rwkv7", "delta_rule",
         "gated_delta_rule", "kda", "gdn2", "comba", "gated_delta_product",
         "gla", "simple_gla", "linear_attn", "retention"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("form", ["chunk", "fused_recurrent"])
@pytest.mark.parametrize("dtype, ratio", [(F32, 2e-6), (BF16, 8e-3)])
def test_every_operator(rule, form, dtype, ratio):
    """K != V, a number of tokens that is no multiple of a chunk."""
    inputs = Inputs(2, 37, 2, 32, dtype, V=24)
    arrays = draw(rule, inputs)
    h0 = inputs.state()
    named = dict(arrays)
    if form == "fused_recurrent" and rule == "gla":
        named["gk"] = named.pop("g")
    options = {}
    if rule == "linear_attn":
        options["normalize"] = False
    if rule == "rwkv7":
        options["scale"] = 1.0
    with torch.no_grad():
        o, final = getattr(ops, f"{form}_{rule}")(
            **named, initial_state=h0, output_final_state=True, **options)
        wide = {name: x.double() if torch.is_tensor(x) else x
                for name, x in arrays.items()}
        expected, state = getattr(naive, f"naive_recurrent_{rule}")(
            **wide, initial_state=h0.double(), output_final_state=True)
    assert o.dtype == dtype and final.dtype == F32
    assert_close("o", expected, o, ratio)
    assert_close("final_state", state, final, ratio)


@pytest.mark.parametrize("rule", ["iplr_delta_rule", "kda"])
def test_float64(rule):
    inputs = Inputs(1, 20, 2, 16, torch.float64)
    arrays = {name: x.double() for name, x in draw(rule, inputs).items()}
    with torch.no_grad():
        o, final = getattr(ops, f"chunk_{rule}")(**arrays,
                                                 output_final_state=True)
        expected, state = getattr(naive, f"naive_recurrent_{rule}")(
            **arrays, output_final_state=True)
    assert o.dtype == final.dtype == torch.float64
    assert_close("o", expected, o, 1e-13)
    assert (state - final).abs().max() < 1e-12


@pytest.mark.parametrize("rule", RULES)
def test_causal(rule):
    """Later tokens, gates included, change no bit of what came before."""
    inputs = Inputs(2, 37, 2, 32, F32, V=24)
    arrays = draw(rule, inputs)
    options = {"num_householder": arrays.pop("num_householder")} \
        if "num_householder" in arrays else {}
    changed = {}
    for name, x in arrays.items():
        at = 21 * (x.shape[1] // 37)
        changed[name] = torch.cat([x[:, :at], x[:, at:].flip(1) / 2], 1)
    op = getattr(ops, f"chunk_{rule}")
    if rule == "linear_attn":
        options["normalize"] = False
    with torch.no_grad():
        assert torch.equal(op(**arrays, **options)[0][:, :21],
                           op(**changed, **options)[0][:, :21])


# --- Interfaces and refusals -------------------------------------------------

def gdn(**changes):
    arrays = draw("gated_delta_rule", Inputs(1, 5, 2, 16, F32))
    return {**arrays, **changes}


@pytest.mark.parametrize("op, arguments, kind, says", [
    ("chunk_gated_delta_rule", gdn(cu_seqlens=torch.tensor([0, 5])),
     NotImplementedError, "chunk_gated_delta_rule: argument 'cu_seqlens' is not "
     "supported yet: packed sequences of different lengths"),
    ("chunk_gated_delta_rule", gdn(cp_context=object()), NotImplementedError,
     "argument 'cp_context' is not supported yet"),
    ("chunk_gated_delta_rule", gdn(v=torch.zeros(1, 5, 4, 16)),
     NotImplementedError, "argument 'v' has 4 heads, but 'q' has 2; grouped "
     "value heads are not supported yet: repeat the heads of q and k"),
    ("chunk_gated_delta_rule", gdn(beta=torch.zeros(1, 5, 2, 16)),
     NotImplementedError, "argument 'beta' has shape (1, 5, 2, 16); a strength "
     "for each value channel"),
    ("fused_recurrent_gated_delta_rule", gdn(gv=torch.zeros(1, 5, 2, 16)),
     NotImplementedError, "argument 'gv' gives every column of the state a "
     "transition of its own"),
    ("chunk_gated_delta_rule", gdn(head_first=True), NotImplementedError,
     "argument 'head_first' is not supported; inputs are [B, T, H, ...]"),
    ("chunk_gated_delta_rule", gdn(use_qk_l2norm=True), TypeError,
     "chunk_gated_delta_rule: unknown argument 'use_qk_l2norm'; did you mean "
     "'use_qk_l2norm_in_kernel'?"),
    ("chunk_gated_delta_rule", gdn(allow_neg_eigval=True), ValueError,
     "argument 'allow_neg_eigval' is true, which needs "
     "use_beta_sigmoid_in_kernel=True"),
    ("fused_recurrent_gated_delta_rule",
     gdn(beta=None, use_beta_sigmoid_in_kernel=True), ValueError,
     "argument 'beta' is missing; use_beta_sigmoid_in_kernel makes the strength "
     "from it"),
    ("chunk_gated_delta_rule", gdn(use_gate_in_kernel=True), ValueError,
     "argument 'A_log' is missing; use_gate_in_kernel needs it"),
    ("chunk_gated_delta_rule", gdn(A_log=torch.zeros(2)), ValueError,
     "argument 'A_log' is given, but use_gate_in_kernel is false"),
    ("chunk_gated_delta_rule", gdn(chunk_size=24), ValueError,
     "argument 'chunk_size' is 24; expected 16, 32, 64 or None"),
    ("chunk_kda", gdn(return_intermediate_states=True), NotImplementedError,
     "argument 'return_intermediate_states' is not supported yet"),
    ("chunk_kda", gdn(), ValueError,
     "argument 'g' has shape (1, 5, 2); expected (B=1, T=5, H=2, K=16)"),
    ("chunk_gated_delta_rule", gdn(initial_state=[1.0], state_v_first=True),
     TypeError, "argument 'initial_state' is a list; expected a torch tensor"),
    ("chunk_gated_delta_rule", gdn(q=[1.0]), TypeError,
     "chunk_gated_delta_rule: argument 'q' is a list; expected a torch tensor"),
    ("chunk_gla", gdn(v=torch.zeros(1, 5, 2, 16).numpy()), TypeError,
     "chunk_gla: argument 'v' is a ndarray; expected a torch tensor "
     "(deltac.recurrence takes other arrays)"),
    ("fused_recurrent_gated_delta_rule",
     gdn(ssm_state_indices=torch.zeros(1)), NotImplementedError,
     "argument 'ssm_state_indices' is not supported yet: states in a pool that "
     "is updated in place; pass initial_state and take the final state"),
    ("fused_recurrent_delta_rule", gdn(inplace_final_state=True),
     NotImplementedError, "argument 'inplace_final_state' is not supported yet"),
    ("fused_recurrent_delta_rule", gdn(out_final_state=True), TypeError,
     "fused_recurrent_delta_rule: unknown argument 'out_final_state'; did you "
     "mean 'output_final_state'?"),
    ("chunk_kda", gdn(lower_bound="low"), TypeError,
     "argument 'lower_bound' is a str; expected a number below 0"),
    ("chunk_kda", gdn(use_gate_in_kernel=True, A_log=torch.zeros(2),
                      dt_bias=torch.zeros(3)), ValueError,
     "argument 'dt_bias' has shape (3,); expected 32 numbers, 16 for each of 2 "
     "heads"),
    ("chunk_kda", gdn(lower_bound=1.0), ValueError,
     "argument 'lower_bound' is 1.0; expected a number below 0"),
])
def test_refusals(op, arguments, kind, says):
    if op in ("chunk_gla", "fused_recurrent_delta_rule"):
        arguments = {name: x for name, x in arguments.items()
                     if name not in (("g",) if "delta" in op else ("beta",))}
    with pytest.raises(kind, match=re.escape(says)):
        getattr(ops, op)(**arguments)


def test_every_operator_refuses():
    """Keywords that mean something elsewhere, in every operator by name."""
    tensor = torch.zeros(1, 4, 2, 16)
    for name in ops.__all__:
        op = getattr(ops, name)
        if not name.startswith(("chunk_", "fused_")):
            continue
        needed = {key: tensor for key, parameter in
                  inspect.signature(op).parameters.items()
                  if parameter.default is parameter.empty and key != "kwargs"}
        for key, kind in (("cu_seqlens", NotImplementedError),
                          ("state_indices", NotImplementedError),
                          ("cu_seqlen", TypeError)):
            with pytest.raises(kind, match=f"argument '{key}' is not|unknown "
                               f"argument '{key}'"):
                op(**needed, **{key: tensor})


def test_legacy_names():
    arrays = gdn()
    h0 = torch.randn(1, 2, 16, 16)
    with torch.no_grad(), pytest.warns(DeprecationWarning,
                                       match="former name of 'state_v_first'"):
        _, old = ops.chunk_gated_delta_rule(
            **arrays, initial_state=h0, output_final_state=True,
            transpose_state_layout=True)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        _, new = ops.chunk_gated_delta_rule(
            **arrays, initial_state=h0, output_final_state=True,
            state_v_first=True)
    assert torch.equal(old, new)
