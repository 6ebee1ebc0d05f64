# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Recurrences and operators as citizens of PyTorch."""

import copy
import pickle
import re
import subprocess
import sys
import warnings

import pytest

torch = pytest.importorskip("torch")

import deltac  # noqa: E402
from deltac import ops  # noqa: E402

NAMES = ("q", "k", "v", "g", "beta")


def make_inputs(B=2, T=21, H=2, K=16, V=24, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    def normal(*shape):
        return torch.randn(*shape, generator=generator)
    q, k, v = normal(B, T, H, K), normal(B, T, H, K), normal(B, T, H, V)
    k = torch.nn.functional.normalize(k, dim=-1)
    g, beta = -normal(B, T, H).abs(), torch.rand(B, T, H, generator=generator)
    return [x.to(dtype) for x in (q, k, v, g, beta)]


@pytest.fixture(scope="module")
def gdn():
    return deltac.recurrence("gated_delta_rule")


def test_tensors_and_arrays_agree(gdn):
    inputs = make_inputs()
    o, final = gdn(*inputs, output_final_state=True)
    assert type(o) is torch.Tensor and not o.requires_grad
    expected, state = gdn(*(x.numpy() for x in inputs), output_final_state=True)
    assert torch.equal(o, torch.from_numpy(expected))
    assert torch.equal(final, torch.from_numpy(state))


def test_no_copy(gdn):
    """Inputs are read where they are, and are left alone; for training, too."""
    inputs = make_inputs()
    versions = [x._version for x in inputs]
    before = [x.clone() for x in inputs]
    copies = gdn._caller.num_copies
    gdn(*inputs)
    assert gdn._caller.num_copies == copies
    assert versions == [x._version for x in inputs]
    assert all(torch.equal(x, y) for x, y in zip(inputs, before))
    from deltac import _gradient
    assert all(_gradient._dense(x, x.dtype).data_ptr() == x.data_ptr()
               for x in inputs)


@pytest.fixture
def without_table():
    """torch as before release 2.10."""
    from deltac import _torch
    _torch.introduce(uses_table=False)
    yield
    _torch.introduce()


def test_older_torch(gdn, without_table):
    inputs = make_inputs(dtype=torch.bfloat16)
    o, final = gdn(*inputs, output_final_state=True)
    assert o.dtype == torch.bfloat16 and final.dtype == torch.float32
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs]
    assert torch.equal(gdn(*strided)[0], o)
    q = inputs[0].requires_grad_()
    gdn(*inputs)[0].sum().backward()
    assert q.grad.norm() > 0


def test_views(gdn):
    """Slices of a packed projection, other axes first, expanded gates."""
    q, k, v, g, beta = make_inputs()
    packed = torch.cat([q, k, v], -1)
    views = packed.split([16, 16, 24], -1)
    expected = gdn(q, k, v, g, beta)[0]
    assert torch.equal(gdn(*views, g, beta)[0], expected)
    head_first = [x.transpose(1, 2).contiguous().transpose(1, 2)
                  for x in (q, k, v, g, beta)]
    assert torch.equal(gdn(*head_first)[0], expected)
    one = beta[:, :1].expand(beta.shape)
    assert torch.equal(gdn(q, k, v, g, one)[0],
                       gdn(q, k, v, g, one.clone())[0])


def test_bfloat16(gdn):
    o, final = gdn(*make_inputs(dtype=torch.bfloat16), output_final_state=True)
    assert o.dtype == torch.bfloat16 and final.dtype == torch.float32
    expected = gdn(*make_inputs())[0]
    assert (o.float() - expected).norm() < 2e-2 * expected.norm()
    # A state in bfloat16 is widened.
    half = final.bfloat16()
    inputs = make_inputs(dtype=torch.bfloat16)
    assert torch.equal(gdn(*inputs, initial_state=half)[0],
                       gdn(*inputs, initial_state=half.float())[0])


def test_errors(gdn):
    q, k, v, g, beta = make_inputs()
    with pytest.raises(TypeError, match="^argument 'k' is an array on the CPU, "
                       "but 'q' is a torch tensor on the CPU$"):
        gdn(q, k.numpy(), v, g, beta)
    with pytest.raises(TypeError, match="^argument 'beta' has dtype torch.int64;"
                       " expected float32, bfloat16, float16 or float64$"):
        gdn(q, k, v, g, beta.long())
    with pytest.raises(TypeError, match="^attr 'scale' must be a number, but "
                       "got a tensor that requires a gradient"):
        gdn(q, k, v, g, beta, scale=torch.tensor(1.0, requires_grad=True))
    assert gdn(q, k, v, g, beta, scale=torch.tensor(1.0))[0].shape == v.shape
    with pytest.raises(TypeError, match="^argument 'k' is on device 'cpu', but "
                       "'q' is on 'meta'$"):
        gdn(q.to("meta"), k, v, g, beta)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.quantize_per_tensor(k, 0.1, 0, torch.qint8)
    with pytest.raises(TypeError, match="^argument 'k' has dtype torch.qint8; "
                       "expected float32, bfloat16, float16 or float64$"):
        gdn(q, quantized, v, g, beta)
    with pytest.raises(ValueError, match="^the arrays are on device 'cpu', but "
                       "'gla' was made for device 'cuda'$"):
        deltac.recurrence("gla", device="cuda")(q, k, v, q)


def test_transformations(gdn):
    """torch.func and forward mode are refused; they would not be right."""
    q, *rest = make_inputs()

    def run(q):
        return gdn(q, *rest)[0]

    for transform, says in (
            (lambda: torch.func.jvp(run, (q,), (q,)), "has a tangent"),
            (lambda: torch.func.grad(lambda q: run(q).sum())(q), "(grad)"),
            (lambda: torch.func.vmap(run)(q.unsqueeze(0)), "(vmap)")):
        with pytest.raises(NotImplementedError, match=re.escape(says)):
            transform()
    forward = torch.autograd.forward_ad
    with forward.dual_level():
        with pytest.raises(NotImplementedError, match="^argument 'q' of "
                           "'gated_delta_rule' has a tangent: there are no "
                           "forward-mode gradients; use backward"):
            run(forward.make_dual(q, q))
        assert torch.equal(run(q), gdn(q, *rest)[0])
    with pytest.raises(TypeError, match="^argument 'q' has layout "
                       "torch.sparse_coo; expected a dense tensor$"):
        run(q.to_sparse())


def operator_arguments(gdn, requires_grad=False):
    inputs = make_inputs(T=5)
    if requires_grad:
        inputs = [x.requires_grad_() for x in inputs]
    return (gdn.spec, gdn.options, inputs, torch.randn(2, 2, 16, 24), [0.5], 1,
            True)


def test_opcheck(gdn):
    torch.library.opcheck(torch.ops.deltac.forward.default,
                          operator_arguments(gdn))


def test_fake_tensors(gdn):
    from torch._subclasses import FakeTensorMode
    expected = gdn(*make_inputs(dtype=torch.bfloat16), output_final_state=True)
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(x) for x in make_inputs(dtype=torch.bfloat16)]
        results = gdn(*fakes, output_final_state=True)
    for fake, real in zip(results, expected):
        assert (fake.shape, fake.dtype, fake.stride()) == (
            real.shape, real.dtype, real.stride())


def test_modes_see_calls(gdn):
    """A dispatch mode is told, although plain calls go past the dispatcher."""
    from torch.utils._python_dispatch import TorchDispatchMode
    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    inputs = make_inputs()
    with Mode():
        o = gdn(*inputs)[0]
    assert seen == ["deltac.forward.default"]
    assert torch.equal(o, gdn(*inputs)[0])


def test_compile(gdn):
    """One graph, also with another length; the operator alone is in it."""
    torch._dynamo.reset()
    graphs = []

    def backend(module, examples):
        graphs.append(module)
        return module.forward

    @torch.compile(backend=backend, fullgraph=True, dynamic=True)
    def layer(q, k, v, g, beta, state):
        o, state = gdn(q, k, v, g, beta=beta.sigmoid(), scale=0.5,
                       initial_state=state, output_final_state=True)
        return o.relu(), state

    for T in (21, 34):
        inputs = make_inputs(T=T)
        state = torch.randn(2, 2, 16, 24)
        o, final = layer(*inputs, state)
        expected, last = gdn(*inputs[:4], inputs[4].sigmoid(), scale=0.5,
                             initial_state=state, output_final_state=True)
        assert torch.equal(o, expected.relu()) and torch.equal(final, last)
    assert len(graphs) == 1
    calls = [node.target for node in graphs[0].graph.nodes
             if node.op == "call_function"
             and "deltac" in str(node.target)]
    assert calls == [torch.ops.deltac.forward.default]


@pytest.mark.parametrize("op", [
    lambda q, k, v, g, beta: ops.chunk_gated_delta_rule(
        q, k, v, g, beta, use_qk_l2norm_in_kernel=True, scale=0.3,
        output_final_state=True),
    lambda q, k, v, g, beta: ops.fused_recurrent_simple_gla(
        q, k, v, g, reverse=True, state_v_first=True, output_final_state=True),
    lambda q, k, v, g, beta: ops.chunk_linear_attn(
        q, k, v, output_final_state=False),
])
def test_compile_operators(op):
    """Options that were never used before are found while tracing."""
    torch._dynamo.reset()
    inputs = make_inputs()
    from deltac.ops import _specs
    _specs.find.cache_clear()
    compiled = torch.compile(op, backend="aot_eager", fullgraph=True)
    for got, expected in zip(compiled(*inputs), op(*inputs)):
        assert (got is None and expected is None
                or torch.equal(got, expected))


def test_compile_refuses(gdn):
    torch._dynamo.reset()
    compiled = torch.compile(lambda *x: gdn(*x, scal=1.0), backend="eager",
                             fullgraph=True)
    with pytest.raises(Exception, match="unknown argument 'scal'"):
        compiled(*make_inputs())


def test_export(gdn):
    """An exported program has the spec in it."""
    class Layer(torch.nn.Module):
        def forward(self, q, k, v, g, beta):
            return gdn(q, k, v, g, beta)[0]

    inputs = make_inputs()
    program = torch.export.export(Layer(), tuple(inputs))
    assert "recurrence gated_delta_rule" in str(program.graph)
    assert torch.equal(program.module()(*inputs), gdn(*inputs)[0])


def test_autocast(gdn):
    """Kernels take the types that autocast's layers give them."""
    q, k, v, g, beta = make_inputs()
    linear = torch.nn.Linear(16, 16, bias=False)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        projected = linear(q)
        assert projected.dtype == torch.bfloat16
        o, final = ops.chunk_gated_delta_rule(projected, k.bfloat16(),
                                              v.bfloat16(), g, beta,
                                              output_final_state=True)
    assert o.dtype == torch.bfloat16 and final.dtype == torch.float32


def test_pickle_and_copy(gdn):
    inputs = make_inputs()
    expected = gdn(*inputs)[0]
    for again in (pickle.loads(pickle.dumps(gdn)), copy.deepcopy(gdn)):
        assert torch.equal(again(*inputs)[0], expected)


def test_bundles(tmp_path, gdn):
    """Without kernels for gradients they say so; all else is as it was."""
    path = tmp_path / "gdn.bundle"
    gdn.save(path, K=16, V=24)
    loaded = deltac.load(path)
    assert not loaded.has_gradients
    inputs = make_inputs()
    expected = gdn(*inputs)[0]
    assert torch.equal(loaded(*inputs)[0], expected)
    compiled = torch.compile(lambda *x: loaded(*x)[0], backend="eager",
                             fullgraph=True)
    assert torch.equal(compiled(*inputs), expected)
    inputs[0].requires_grad_()
    with pytest.raises(NotImplementedError, match=re.escape(
            f"'{path}' has no kernels for gradients; make it with "
            "save(gradients=True), or call it under torch.no_grad()")):
        loaded(*inputs)
    with torch.no_grad():
        loaded(*inputs)
    with pytest.raises(deltac.Error, match="a graph runs the bundle 00, which "
                       "has not been loaded in this process"):
        torch.ops.deltac.forward.default("bundle 00", "fn=forward", inputs,
                                         None, [0.5], 1, False)


# Run where the compiler cannot be loaded: the kernels are all in the file.
WITHOUT_COMPILER = """
import sys
sys.modules["deltac._compiler"] = None
import torch
import deltac
loaded = deltac.load(sys.argv[1])
arrays = torch.load(sys.argv[2])
inputs = [x.requires_grad_() for x in arrays["inputs"]]
o, state = loaded(*inputs, scale=0.5, output_final_state=True)
(o.sum() + state.sum()).backward()
for x, gradient in zip(inputs, arrays["gradients"]):
    assert torch.equal(x.grad, gradient)
try:
    deltac.recurrence("kda")
except deltac.AbsentError as error:
    print(error)
"""


def test_bundles_for_training(tmp_path, gdn):
    """One file has what a training step needs, the compiler is not."""
    path, arrays = tmp_path / "gdn.bundle", tmp_path / "arrays.pt"
    gdn.save(path, K=16, V=24, fns=("forward", "decode"), gradients=True)
    again = tmp_path / "again.bundle"
    gdn.save(again, K=16, V=24, fns=("forward", "decode"), gradients=True)
    assert path.read_bytes() == again.read_bytes()
    loaded = deltac.load(path)
    assert loaded.has_gradients
    found = []
    for made in (gdn, loaded):
        inputs = [x.requires_grad_() for x in make_inputs()]
        o, state = made(*inputs, scale=0.5, output_final_state=True)
        (o.sum() + state.sum()).backward()
        found.append([o, state, *(x.grad for x in inputs)])
    assert all(torch.equal(x, y) for x, y in zip(*found))
    assert torch.equal(deltac.load(path, fn="decode")(*make_inputs())[0],
                       gdn.decode(*make_inputs())[0])
    torch.save({"inputs": make_inputs(), "gradients": found[0][2:]}, arrays)
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER, str(path), str(arrays)],
        text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("compiling needs LLVM and MLIR 22, which "
                                    "cannot be loaded here")
    with pytest.raises(ValueError, match="^dim 'V' is 16, but the bundle was "
                       "compiled for 24$"):
        loaded(*(x.requires_grad_() for x in make_inputs(V=16)))
    with pytest.raises(NotImplementedError, match=re.escape(
            f"'{path}' has no kernels for gradients on device 'sim': save it "
            "with targets=('sm_90a',)")):
        deltac.load(path, device="sim")(*inputs)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(deltac.Error, match="it is truncated"):
        deltac.load(path)


def test_no_zeros_for_outputs_that_nobody_uses():
    """Saved states are an output, and larger than everything else."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Record(TorchDispatchMode):
        names = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names.append(str(func))
            return func(*args, **(kwargs or {}))

    q, k, v = (torch.randn(1, 40, 2, 16, requires_grad=True) for _ in range(3))
    beta = torch.rand(1, 40, 2)
    out, _ = ops.chunk_delta_rule(q, k, v, beta)
    with Record():
        out.sum().backward()
    assert any("deltac.backward" in name for name in Record.names)
    assert not any("zeros" in name for name in Record.names)
