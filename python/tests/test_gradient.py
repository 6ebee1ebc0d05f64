# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gradients of every operator against autograd through the naive references."""

import pickle

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import deltac  # noqa: E402
from deltac import _cache, ops  # noqa: E402
from deltac.ops import naive  # noqa: E402

from .test_ops import RULES, Inputs, assert_close, draw  # noqa: E402

F16, BF16, F32, F64 = (torch.float16, torch.bfloat16, torch.float32,
                       torch.float64)


def gradients(function, arrays, initial_state, do, dht, **options):
    """Results, and gradients of all tensors and the initial state."""
    leaves = {name: x.detach().clone().requires_grad_()
              for name, x in arrays.items() if torch.is_tensor(x)}
    state = initial_state.detach().clone().requires_grad_()
    o, final = function(**{**arrays, **leaves}, initial_state=state,
                        output_final_state=True, **options)
    loss = (o * do.to(o.dtype)).sum() + (final * dht.to(final.dtype)).sum()
    loss.backward()
    # Without tokens the naive references use no input.
    found = {f"d{name}": torch.zeros_like(x) if x.grad is None else x.grad
             for name, x in leaves.items()}
    for name, x in leaves.items():
        assert found[f"d{name}"].dtype == x.dtype
    return {"o": o.detach(), "final_state": final.detach(), **found,
            "dh0": state.grad}


def widen(arrays):
    return {name: x.double() if torch.is_tensor(x) else x
            for name, x in arrays.items()}


def compare(op, reference, arrays, inputs, ratio, options=None, outside=None):
    B, T, H, D = inputs.shape
    h0, dht = inputs.state(), inputs.state()
    do = inputs.normal(B, T, H, inputs.V)
    got = gradients(op, arrays, h0.double() if inputs.dtype == F64 else h0, do,
                    dht, **(options or {}))
    expected = gradients(outside or reference, widen(arrays), h0.double(), do,
                         dht)
    for name, value in expected.items():
        assert_close(name, value, got[name], ratio)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("form, dtype, ratio", [
    ("chunk", F64, 1e-12), ("fused_recurrent", F32, 1e-5)])
def test_every_operator(rule, form, dtype, ratio):
    """Every input, the initial state, through outs and the final state; K != V,
    a number of tokens that is no multiple of a chunk."""
    inputs = Inputs(2, 37, 2, 16, dtype, V=24)
    arrays = draw(rule, inputs)
    if dtype == F64:
        arrays = widen(arrays)
    options = {}
    if rule == "linear_attn":
        options["normalize"] = False
    if rule == "rwkv7":
        options["scale"] = 1.0
    op = getattr(ops, f"{form}_{rule}")
    call = op
    if form == "fused_recurrent" and rule == "gla":
        def call(g, **rest):
            return op(gk=g, **rest)
    compare(call, getattr(naive, f"naive_recurrent_{rule}"), arrays, inputs,
            ratio, options)


@pytest.mark.parametrize("rule, D, T", [("kda", 60, 63),
                                        ("gated_delta_rule", 100, 50)])
def test_half_precision(rule, D, T):
    """Sizes, types and bars of fla's tests, with fewer tokens."""
    inputs = Inputs(1, T, 2, D, F16)
    compare(getattr(ops, f"chunk_{rule}"),
            getattr(naive, f"naive_recurrent_{rule}"), draw(rule, inputs),
            inputs, .008)


@pytest.mark.parametrize("lower_bound", [None, -5.0])
def test_options(lower_bound):
    """Norms, sigmoids and gates in the kernel, with params: gradients of A_log
    and dt_bias are sums over all tokens."""
    inputs = Inputs(2, 37, 2, 16, F32, V=24)
    B, T, H, D = inputs.shape
    arrays = draw("kda", inputs)
    arrays.update(g=inputs.normal(B, T, H, D), beta=inputs.normal(B, T, H),
                  q=3 * arrays["q"], A_log=inputs.normal(H),
                  dt_bias=inputs.normal(H * D))

    def inside(**given):
        return ops.chunk_kda(
            **given, use_gate_in_kernel=True, use_qk_l2norm_in_kernel=True,
            use_beta_sigmoid_in_kernel=True, allow_neg_eigval=True,
            lower_bound=lower_bound)

    def outside(q, k, v, g, beta, A_log, dt_bias, **rest):
        return naive.naive_recurrent_kda(
            naive.naive_l2norm(q), naive.naive_l2norm(k), v,
            naive.naive_gate(g, A_log, dt_bias, lower_bound),
            2 * beta.sigmoid(), **rest)

    compare(inside, None, arrays, inputs, 2e-5, outside=outside)


def test_reverse_and_states_v_first():
    inputs = Inputs(1, 21, 2, 16, F32, V=24)
    arrays = draw("simple_gla", inputs)

    def op(initial_state, **given):
        o, final = ops.fused_recurrent_simple_gla(
            **given, initial_state=initial_state.transpose(-1, -2),
            reverse=True, state_v_first=True)
        return o, final.transpose(-1, -2)

    def reference(initial_state, output_final_state, **given):
        o, final = naive.naive_recurrent_gla(
            **{name: x.flip(1) for name, x in given.items()},
            initial_state=initial_state, output_final_state=True)
        return o.flip(1), final

    compare(op, reference, arrays, inputs, 1e-5)


def test_normalized_linear_attention():
    inputs = Inputs(1, 21, 2, 16, F32)
    q, k, v = (x.abs() for x in inputs.qkv())
    do = inputs.normal(1, 21, 2, 16)
    found = []
    for function in (lambda *x: ops.chunk_linear_attn(*x)[0], lambda q, k, v: (
            torch.tril(torch.einsum("bthk,bshk->bhts", q, k))
            / torch.einsum("bthk,bthk->bht", q, k.cumsum(1)).unsqueeze(-1)
    ).matmul(v.transpose(1, 2)).transpose(1, 2)):
        leaves = [x.detach().clone().requires_grad_() for x in (q, k, v)]
        function(*leaves).backward(do)
        found.append([x.grad for x in leaves])
    for x, y in zip(*found):
        assert_close("d", y, x, 1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_gradcheck(rule):
    """Against finite differences in float64."""
    inputs = Inputs(1, 5, 1, 4, F64, V=3)
    arrays = widen(draw(rule, inputs))
    options = {"num_householder": arrays.pop("num_householder")} \
        if "num_householder" in arrays else {}
    if rule == "linear_attn":
        options["normalize"] = False
    names = list(arrays)
    leaves = [x.requires_grad_() for x in arrays.values()]
    state = inputs.state().double().requires_grad_()
    op = getattr(ops, f"chunk_{rule}")
    assert torch.autograd.gradcheck(
        lambda *x: op(**dict(zip(names, x)), **options, initial_state=x[-1],
                      output_final_state=True),
        [*leaves, state], atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_causal(rule):
    """Tokens behind the last that the loss sees have a gradient of 0, to the
    bit; those before have that of the shorter sequence."""
    inputs = Inputs(2, 37, 2, 16, F64, V=24)
    arrays = widen(draw(rule, inputs))
    seen, steps = 20, arrays.pop("num_householder", 1)
    options = {"num_householder": steps} if steps > 1 else {}
    if rule == "linear_attn":
        options["normalize"] = False
    do = inputs.normal(2, 37, 2, 24).double()
    found = []
    for T in (37, seen):
        leaves = {}
        for name, x in arrays.items():
            n = steps if x.shape[1] == 37 * steps else 1
            leaves[name] = x[:, :T * n].clone().requires_grad_()
        o, _ = getattr(ops, f"chunk_{rule}")(**leaves, **options)
        o[:, :seen].backward(do[:, :seen])
        found.append({name: x.grad for name, x in leaves.items()})
    for name, whole in found[0].items():
        n = whole.shape[1] // 37
        assert (whole[:, seen * n:] == 0).all(), name
        assert_close(name, found[1][name], whole[:, :seen * n], 1e-12)


SPEC = """
recurrence fading {
  in    q: K, k: K, v: V
  in    g: K in [-inf, 0]
  param bonus: V, strength: scalar
  attr  scale = K ^ -0.5
  state S: K x V
  S = diag(exp(g)) * S
  S = S + sigmoid(strength) * k * (v - S^T * k)^T
  out o = scale * S^T * q + bonus
  out norm = dot(q, k)
}
"""


def test_own_recurrence():
    """Two outs, one without a cotangent; params of two kinds."""
    fading = deltac.recurrence(SPEC)
    inputs = Inputs(2, 21, 2, 16, F64, V=24)
    q, k, v = inputs.qkv()
    g = inputs.gate((2, 21, 2, 16)).double()
    bonus, strength = (inputs.normal(2, 24).double(),
                       inputs.normal(2).double())
    do = inputs.normal(2, 21, 2, 24).double()
    dn = inputs.normal(2, 21, 2).double()
    for with_norm in (False, True):
        found = []
        for run in (
                lambda q, k, v, g, bonus, strength: fading(
                    q, k, v, g, bonus, strength)[:2],
                lambda q, k, v, g, bonus, strength: (
                    naive.naive_recurrent_kda(
                        q, k, v, g, strength.sigmoid().expand(2, 21, 2))[0]
                    + bonus, (q * k).sum(-1))):
            leaves = [x.detach().clone().requires_grad_()
                      for x in (q, k, v, g, bonus, strength)]
            o, norm = run(*leaves)
            loss = (o * do).sum() + ((norm * dn).sum() if with_norm else 0)
            loss.backward()
            found.append([x.grad for x in leaves])
        for x, y in zip(*found):
            assert_close("gradient", y, x, 1e-12)


def test_decay_by_params():
    """A rate a channel that is learned: its gradient sums over everything."""
    made = deltac.recurrence("""
        recurrence rates {
          in    q: K, k: K, v: V, beta: scalar
          param rate: K
          state S: K x V
          S = diag(sigmoid(rate)) * S
          S = S + beta * k * (v - S^T * k)^T
          out o = S^T * q
        }""")
    inputs = Inputs(2, 37, 2, 16, F64, V=24)
    q, k, v = inputs.qkv()
    beta = inputs.uniform(2, 37, 2).double()
    rate = inputs.normal(2, 16).double()
    do = inputs.normal(2, 37, 2, 24).double()
    found = []
    for run in (made, lambda q, k, v, beta, rate: naive.naive_recurrent_kda(
            q, k, v, F.logsigmoid(rate).expand(2, 37, 2, 16), beta, scale=1)):
        leaves = [x.detach().clone().requires_grad_()
                  for x in (q, k, v, beta, rate)]
        run(*leaves)[0].backward(do)
        found.append([x.grad for x in leaves])
    for x, y in zip(*found):
        assert_close("gradient", y, x, 1e-12)


def test_what_needs_none():
    """Only leaves that ask get a gradient; none is recorded without need."""
    inputs = Inputs(1, 9, 2, 16, F32)
    q, k, v, g, beta = draw("gated_delta_rule", inputs).values()
    o, _ = ops.chunk_gated_delta_rule(q, k, v, g, beta)
    assert not o.requires_grad
    v.requires_grad_()
    with torch.no_grad():
        assert not ops.chunk_gated_delta_rule(q, k, v, g, beta)[0].requires_grad
    o, final = ops.chunk_gated_delta_rule(q, k, v, g, beta,
                                          output_final_state=True)
    final.sum().backward()
    assert v.grad is not None and q.grad is None
    # Strided inputs, and a cotangent that is expanded.
    packed = torch.cat([q, k, v], -1).detach().requires_grad_()
    ops.chunk_gated_delta_rule(*packed.split(16, -1), g, beta)[0].sum().backward()
    assert packed.grad.shape == packed.shape


@pytest.mark.parametrize("T", [0, 1, 16])
def test_lengths(T):
    inputs = Inputs(2, T, 2, 16, F32)
    compare(ops.chunk_kda, naive.naive_recurrent_kda, draw("kda", inputs),
            inputs, 1e-5)


def test_double_backward():
    inputs = Inputs(1, 5, 2, 16, F32)
    q, k, v, g = draw("simple_gla", inputs).values()
    q.requires_grad_()
    o, _ = ops.chunk_simple_gla(q, k, v, g)
    (dq,) = torch.autograd.grad(o.square().sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match="^the gradient of "
                       "'simple_gla' cannot be differentiated again"):
        dq.sum().backward()


def test_checkpointing():
    """Recomputed in the backward; the same bits."""
    from torch.utils.checkpoint import checkpoint
    inputs = Inputs(1, 33, 2, 16, F32)
    arrays = list(draw("kda", inputs).values())
    found = []
    for wrap in (lambda f, *x: f(*x),
                 lambda f, *x: checkpoint(f, *x, use_reentrant=False)):
        leaves = [x.detach().clone().requires_grad_() for x in arrays]
        wrap(lambda *x: ops.chunk_kda(*x)[0], *leaves).square().sum().backward()
        found.append([x.grad for x in leaves])
    assert all(torch.equal(x, y) for x, y in zip(*found))


def test_autocast():
    """A layer in bfloat16, its gates in float32, its weights in float32."""
    linear = torch.nn.Linear(16, 3 * 16)
    x = torch.randn(2, 33, 2, 16)
    g, beta = -torch.rand(2, 33, 2), torch.rand(2, 33, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q, k, v = linear(x).chunk(3, -1)
        o, _ = ops.chunk_gated_delta_rule(q, F.normalize(k, dim=-1).bfloat16(),
                                          v, g, beta)
    assert q.dtype == o.dtype == BF16
    o.float().square().mean().backward()
    assert linear.weight.grad.isfinite().all()
    assert linear.weight.grad.norm() > 0


def test_compile():
    """Forward and backward of a layer as one graph each."""
    torch._dynamo.reset()
    inputs = Inputs(1, 33, 2, 16, F32)
    arrays = list(draw("kda", inputs).values())

    def layer(q, k, v, g, beta):
        o, state = ops.chunk_kda(q.sin(), k, v, g, beta, scale=0.3,
                                 output_final_state=True)
        return o.relu().sum() + state.square().sum()

    found = []
    for function in (layer, torch.compile(layer, backend="aot_eager",
                                          fullgraph=True)):
        leaves = [x.detach().clone().requires_grad_() for x in arrays]
        function(*leaves).backward()
        found.append([x.grad for x in leaves])
    for x, y in zip(*found):
        assert_close("gradient", x, y, 1e-6)


def test_opcheck():
    """Training without a state; and a backward without saved states, which runs
    the forward again."""
    made = deltac.recurrence("gated_delta_rule")
    inputs = Inputs(1, 21, 2, 16, F32)
    arrays = [x.requires_grad_() for x in
              draw("gated_delta_rule", inputs).values()]
    torch.library.opcheck(
        torch.ops.deltac.training_forward.default,
        (made.spec, made.options, arrays, None, [0.5], 1))
    torch.library.opcheck(
        torch.ops.deltac.forward.default,
        (made.spec, made.options, arrays, inputs.state(), [0.5], 1, True))


class Recorder(TorchDispatchMode):
    """The calls of deltac's operators that arrive below autograd."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "deltac":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("form", ["chunk", "fused_recurrent"])
@pytest.mark.parametrize("rule", RULES)
def test_every_operator_in_torch(rule, form):
    """opcheck of what it calls; and one graph for its forward and one for its
    backward, with the same values."""
    torch._dynamo.reset()
    inputs = Inputs(1, 19, 2, 16, F32, V=24)
    arrays = draw(rule, inputs)
    if form == "fused_recurrent" and rule == "gla":
        arrays["gk"] = arrays.pop("g")
    options = {"num_householder": arrays.pop("num_householder")} \
        if "num_householder" in arrays else {}
    if rule == "linear_attn":
        options["normalize"] = False
    names, h0 = list(arrays), inputs.state()
    op = getattr(ops, f"{form}_{rule}")

    def run(h0, *x):
        return op(**dict(zip(names, x)), **options, initial_state=h0,
                  output_final_state=True)

    leaves = [x.requires_grad_() for x in (h0, *arrays.values())]
    do = inputs.normal(1, 19, 2, 24)
    with Recorder() as recorder:
        with torch.no_grad():
            run(*leaves)
        o, state = run(*leaves)
        expected = torch.autograd.grad([o, state], leaves, [do, state.detach()])
    called = [func.__name__.partition(".")[0] for func, _ in recorder.calls]
    assert called == ["forward", "training_forward", "backward"]
    for func, args in recorder.calls:
        args = torch.utils._pytree.tree_map_only(
            torch.Tensor, lambda x: x.detach().requires_grad_(
                "forward" in func.__name__), args)
        assert set(torch.library.opcheck(func, args).values()) == {
            "SUCCESS"}
    o, state = torch.compile(run, backend="aot_eager", fullgraph=True)(*leaves)
    found = torch.autograd.grad([o, state], leaves, [do, state.detach()])
    assert all(torch.equal(x, y) for x, y in zip(expected, found))


def test_strict(monkeypatch):
    """warmup with gradients compiles what training needs."""
    monkeypatch.setenv("DELTA_STRICT", "1")
    made = deltac.recurrence(SPEC.replace("fading", "warm"))
    q = torch.randn(1, 3, 2, 8, requires_grad=True)
    bonus, strength = torch.randn(2, 8), torch.randn(2)
    with pytest.raises(deltac.StrictError):
        made(q, q, q, -q.abs(), bonus, strength)
    made.warmup({"K": 8, "V": 8}, gradients=True)
    made(q, q, q, -q.abs(), bonus, strength)[0].sum().backward()
    assert q.grad is not None


@pytest.mark.parametrize("rule, dtype, ratio", [
    ("gated_delta_rule", F32, 5e-5), ("kda", BF16, .01), ("rwkv7", F16, .005)])
def test_simulator(rule, dtype, ratio):
    """The backward kernels of the GPU, forward with saved states included."""
    made = deltac.recurrence({"gated_delta_rule": "gated_delta_rule",
                              "kda": "kda", "rwkv7": "dplr"}[rule],
                             device="sim")
    inputs = Inputs(1, 37, 2, 16, dtype, V=32)
    arrays = draw(rule, inputs)
    if rule == "rwkv7":
        arrays = {{"r": "q", "w": "gk"}.get(name, name): x
                  for name, x in arrays.items()}
        rule = "dplr_delta_rule"
    compare(made, getattr(naive, f"naive_recurrent_{rule}"), arrays, inputs,
            ratio)
    assert '"global_load_bytes"' in made.stats


def test_gradients_that_cannot_be():
    """Asking for the gradient says why there is none."""
    made = deltac.recurrence("gla", device="sim")
    q = torch.randn(1, 3, 1, 16, dtype=F64, requires_grad=True)
    with pytest.raises(NotImplementedError, match="'q' has type f64, which "
                       "target 'sm_90a' does not take; target 'cpu' does"):
        made(q, q, q, -q.abs())


def test_save_budget():
    """Fewer saved states, the same gradients."""
    spec = deltac.recurrence("gated_delta_rule").spec
    inputs = Inputs(1, 300, 1, 16, F32, V=32)
    arrays = draw("gated_delta_rule", inputs)
    for budget, most in ((None, 600), (8, 8)):
        made = deltac.recurrence(spec, save_budget=budget)
        compare(made, naive.naive_recurrent_gated_delta_rule, arrays, inputs,
                1e-5)
        saved = torch.ops.deltac.training_forward.default(
            made.spec, made.options, list(arrays.values()), None, [0.5], 1)[-1]
        assert saved.shape[:2] == (1, 1) and saved.shape[3:] == (16, 32)
        ((training,),) = made._trainings.values()
        assert saved.shape[2] == -(-300 // training.every)
        assert 16 * 32 * 4 / training.every <= most
    copy = pickle.loads(pickle.dumps(made))
    assert copy.save_budget == 8 and "save_budget=8" in repr(copy)
    few = draw("gated_delta_rule", Inputs(1, 3, 1, 16, F32, V=256))
    o, _ = deltac.recurrence(spec, save_budget=1)(
        *(x.requires_grad_() for x in few.values()))
    with pytest.raises(deltac.CompileError, match="give --save-budget="):
        o.sum().backward()
    with pytest.raises(ValueError, match="^argument 'save_budget' is 0; expected"
                       " None or a number of bytes for every token and head$"):
        deltac.recurrence(spec, save_budget=0)


def _has_kernels():
    try:
        _cache.bundle_bytes(deltac.recurrence("linear_attn").spec, "probe", [
            ("target", "cpu"), ("fn", "backward"), ("D", "K=8"), ("D", "V=8")])
        return True
    except deltac.CompileError:
        return False


pytestmark = pytest.mark.skipif(
    not _has_kernels(), reason="this compiler makes no backward kernels")
