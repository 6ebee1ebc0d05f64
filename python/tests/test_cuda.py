# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""On a CUDA device: values, gradients, streams, graphs, torch.compile, overhead.

Kernels are compiled where the compiler is. For a GPU host without it, make them
elsewhere and name the folder there:

    python -m python.tests.test_cuda FOLDER                # no GPU needed
    DELTA_CUDA_BUNDLES=FOLDER pytest -rP python/tests/test_cuda.py
"""

import functools
import os
import pathlib
import sys
import threading
import time

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

import deltac  # noqa: E402
from deltac import ops  # noqa: E402
from deltac.ops import _common, _specs, naive  # noqa: E402

F16, BF16, F32, F64 = (torch.float16, torch.bfloat16, torch.float32,
                       torch.float64)

BONUS = """
recurrence bonus {
  in    q: K, k: K, v: V
  in    g: K in [-inf, 0]
  in    beta: scalar
  param weight: V
  attr  scale = K ^ -0.5
  state S: K x V
  let key = l2norm(k)
  S = diag(exp(g)) * S
  S = S + sigmoid(beta) * key * (v - S^T * key)^T
  out o = scale * S^T * q + weight .* v
}
"""


def naive_bonus(q, k, v, g, beta, weight, **options):
    o, state = naive.naive_recurrent_kda(q, naive.naive_l2norm(k), v, g,
                                         beta.sigmoid(), **options)
    return o + weight * v, state


#: Name: spec, reference, K, V, type of the vectors.
CASES = {
    "gdn64": ("gated_delta_rule", naive.naive_recurrent_gated_delta_rule, 64,
              64, BF16),
    "gdn128": ("gated_delta_rule", naive.naive_recurrent_gated_delta_rule, 128,
               128, BF16),
    "gdn_f32": ("gated_delta_rule", naive.naive_recurrent_gated_delta_rule, 64,
                32, F32),
    "kda": ("kda", naive.naive_recurrent_kda, 64, 64, BF16),
    "dplr": ("dplr", naive.naive_recurrent_dplr_delta_rule, 64, 64, BF16),
    "delta_f16": ("delta_rule", naive.naive_recurrent_delta_rule, 48, 80, F16),
    "gla": ("gla", naive.naive_recurrent_gla, 64, 64, BF16),
    "bonus": (BONUS, naive_bonus, 32, 64, BF16),
}
VECTORS = ("q", "k", "v", "a", "b")


IN_KERNEL = {"use_qk_l2norm_in_kernel": True, "use_gate_in_kernel": True,
             "use_beta_sigmoid_in_kernel": True}

#: Operators of deltac.ops with the rule and the options that they come to.
OPERATORS = {
    "chunk_gated_delta_rule": ("gated_delta_rule", IN_KERNEL, {
        "l2norm": True, "sigmoid": True, "gate": True, "A_log": True,
        "dt_bias": True}),
    "chunk_kda": ("gated_delta_rule", IN_KERNEL, {
        "name": "kda", "g": "K", "l2norm": True, "gate": True, "A_log": True,
        "dt_bias": True, "sigmoid": True}),
    "chunk_rwkv7": ("dplr", {}, {}),
    "chunk_iplr_delta_rule": ("iplr", {}, {}),
}


@functools.cache
def find(name, fn="forward"):
    """The recurrence, compiled here or from the folder."""
    folder = os.environ.get("DELTA_CUDA_BUNDLES")
    if folder:
        return deltac.load(pathlib.Path(folder) / f"{name}.bundle", fn=fn)
    if name in OPERATORS:
        rule, _, options = OPERATORS[name]
        return deltac.recurrence(_specs._RULES[rule](**options), fn=fn)
    return deltac.recurrence(CASES[name][0], fn=fn)


def write(folder):
    """The kernels of all cases as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*CASES, *OPERATORS):
        made = find(name)
        _, _, K, V, dtype = CASES.get(name, (None, None, 64, 64, BF16))
        types = {arg.name: dtype for arg in made.signature.inputs
                 if arg.name in VECTORS}
        made.save(folder / f"{name}.bundle", K=K, V=V, dtype=types,
                  fns=("forward", "decode"), targets=("sm_90a",),
                  gradients=True)
        print("wrote", folder / f"{name}.bundle", flush=True)


def draw(name, B=2, T=200, H=3, seed=0):
    """Inputs by name, and an initial state."""
    _, _, K, V, dtype = CASES[name]
    generator = torch.Generator("cuda").manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, device="cuda")

    def gate(*shape):
        return F.logsigmoid(normal(*shape))

    arrays = {}
    for arg in find(name).signature.inputs:
        size = {"K": (K,), "V": (V,)}.get(arg.axes[-1], ())
        if arg.kind == "param":
            x = normal(H, *size)
        elif arg.name in ("g", "gk"):
            x = gate(B, T, H, *size)
        elif arg.name == "beta":
            x = normal(B, T, H).sigmoid()
        else:
            x = normal(B, T, H, *size)
            if arg.name in ("k", "a"):
                x = F.normalize(x, dim=-1)
        if arg.name in VECTORS:
            x = x.to(dtype)
        arrays[arg.name] = x
    if "b" in arrays:
        arrays["b"] = -arrays["a"]
    return arrays, normal(B, H, K, V)


def error(got, expected):
    got, expected = got.double(), expected.double()
    assert got.isfinite().all()
    return ((got - expected).norm() / expected.norm()).item()


def limit(name):
    return {BF16: 1e-2, F16: 4e-3, F32: 5e-5}[CASES[name][4]]


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    """Against the naive loop in float64, forward, recurrent form, backward."""
    arrays, h0 = draw(name)
    wide = {key: x.double().requires_grad_() for key, x in arrays.items()}
    wide_h0 = h0.double().requires_grad_()
    o, state = CASES[name][1](**wide, initial_state=wide_h0,
                              output_final_state=True)
    do, ds = torch.randn_like(o), torch.randn_like(state)
    leaves = [*wide.values(), wide_h0]
    expected = [o, state, *torch.autograd.grad([o, state], leaves, [do, ds])]

    found = {}
    with torch.no_grad():
        for fn in ("forward", "decode"):
            found[fn] = find(name, fn)(**arrays, initial_state=h0,
                                       output_final_state=True)
            assert found[fn][0].is_cuda
        again = find(name)(**arrays, initial_state=h0, output_final_state=True)
    assert all(torch.equal(x, y) for x, y in zip(found["forward"], again))
    leaves = [x.clone().requires_grad_() for x in (*arrays.values(), h0)]
    o, state = find(name)(*leaves[:-1], initial_state=leaves[-1],
                          output_final_state=True)
    gradients = torch.autograd.grad([o, state], leaves,
                                    [do.to(o.dtype), ds.to(state.dtype)])
    errors = {f"{fn} {what}": error(x, y) for fn in found
              for what, x, y in zip(("o", "state"), found[fn], expected)}
    errors |= {f"training {what}": error(x, y) for what, x, y in
               zip(("o", "state"), (o, state), expected)}
    errors |= {f"d_{what}": error(x, y) for what, x, y in
               zip((*arrays, "state"), gradients, expected[2:])}
    print(name, ", ".join(f"{key} {value:.1e}"
                          for key, value in errors.items()))
    assert all(value < limit(name) for value in errors.values())


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name, monkeypatch):
    """deltac.ops by name, with all that they do in the kernel: values and every
    gradient, params included."""
    rule, keywords, options = OPERATORS[name]

    def find_again(*made):
        assert (made[0], made[1], dict(made[3])) == (rule, "forward", options)
        return find(name)

    monkeypatch.setattr(_common, "find", find_again)
    B, T, H, D = 2, 200, 3, 64
    generator = torch.Generator("cuda").manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, device="cuda")

    q, k, v = (normal(B, T, H, D).to(BF16) for _ in range(3))
    arrays = {"q": q, "k": F.normalize(k, dim=-1), "v": v}
    if keywords:
        channel = (D,) if name == "chunk_kda" else ()
        arrays |= {"g": normal(B, T, H, *channel), "beta": normal(B, T, H),
                   "A_log": normal(H), "dt_bias": normal(H, *channel).flatten()}
    else:
        a = F.normalize(normal(B, T, H, D), dim=-1).to(BF16)
        arrays |= {"a": a, "b": -a}
    if name == "chunk_rwkv7":
        arrays["r"] = arrays.pop("q")
        arrays["w"] = -0.6 * normal(B, T, H, D).sigmoid()
    h0 = normal(B, H, D, D)
    do, ds = normal(B, T, H, D), normal(B, H, D, D)
    found = []
    for dtype in (None, F64):
        leaves = {key: x.to(dtype or x.dtype).requires_grad_()
                  for key, x in {**arrays, "initial_state": h0}.items()}
        given = dict(leaves)
        if dtype is None:
            o, state = getattr(ops, name)(**given, **keywords,
                                          output_final_state=True)
        else:
            if keywords:
                given["g"] = naive.naive_gate(given["g"], given.pop("A_log"),
                                              given.pop("dt_bias"))
                given |= {"q": naive.naive_l2norm(given["q"]),
                          "k": naive.naive_l2norm(given["k"]),
                          "beta": given["beta"].sigmoid()}
            o, state = getattr(naive, name.replace("chunk", "naive_recurrent"))(
                **given, output_final_state=True)
        found.append([o, state, *torch.autograd.grad(
            [o, state], list(leaves.values()),
            [do.to(o.dtype), ds.to(state.dtype)])])
    errors = {key: error(x, y) for key, x, y in
              zip(("o", "state", *leaves), *found)}
    print(name, ", ".join(f"{key} {value:.1e}"
                          for key, value in errors.items()))
    assert all(value < 1e-2 for value in errors.values())


def test_strides():
    """Views of a packed projection, head-first tensors, odd addresses."""
    arrays, h0 = draw("gdn64")
    q, k, v, g, beta = arrays.values()
    with torch.no_grad():
        expected = find("gdn64")(*arrays.values())[0]
        packed = torch.cat([q, k, v], -1)
        assert torch.equal(find("gdn64")(*packed.split(64, -1), g, beta)[0],
                           expected)
        turned = [x.transpose(1, 2).contiguous().transpose(1, 2)
                  for x in arrays.values()]
        assert torch.equal(find("gdn64")(*turned)[0], expected)
        room = torch.empty(v.numel() + 1, dtype=v.dtype, device="cuda")
        odd = room[1:].view(v.shape).copy_(v)
        assert torch.equal(find("gdn64")(q, k, odd, g, beta)[0], expected)
    odd.requires_grad_()
    find("gdn64")(q, k, odd, g, beta)[0].sum().backward()
    plain = v.clone().requires_grad_()
    find("gdn64")(q, k, plain, g, beta)[0].sum().backward()
    assert torch.equal(odd.grad, plain.grad)


@pytest.mark.parametrize("uses_table", [True, False])
def test_streams(uses_table):
    """A launch goes to torch's current stream, behind what is there; also in
    releases of torch without a table of C functions."""
    from deltac import _torch
    _torch.introduce(uses_table)
    try:
        check_streams()
    finally:
        _torch.introduce()


def check_streams():
    arrays, _ = draw("gdn64")
    with torch.no_grad():
        expected = find("gdn64")(*arrays.values())[0]
        late = {name: torch.zeros_like(x) for name, x in arrays.items()}
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)  # about 0.1 s
            for name, x in arrays.items():
                late[name].copy_(x)
            start = time.perf_counter()
            o = find("gdn64")(*late.values())[0]
            taken = time.perf_counter() - start
            assert not stream.query() and taken < 0.05  # nobody waited
        stream.synchronize()
        assert torch.equal(o, expected)


def test_threads():
    """Each with a stream of its own."""
    arrays, _ = draw("gdn64")
    expected = find("gdn64")(*arrays.values())[0]
    torch.cuda.synchronize()
    results = []

    def work():
        with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
            same = [torch.equal(find("gdn64")(*arrays.values())[0], expected)
                    for _ in range(50)]
        results.append(all(same))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_graph():
    """Captured once, replayed on other values: forward, and a training step."""
    made = find("gdn64")
    static, h0 = draw("gdn64")
    fresh, _ = draw("gdn64", seed=1)
    with torch.no_grad():
        made(*static.values(), initial_state=h0)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            o, state = made(*static.values(), initial_state=h0,
                            output_final_state=True)
        for name, x in fresh.items():
            static[name].copy_(x)
        graph.replay()
        expected = made(*fresh.values(), initial_state=h0,
                        output_final_state=True)
        assert torch.equal(o, expected[0]) and torch.equal(state, expected[1])

    class Layer(torch.nn.Module):
        def forward(self, *arrays):
            return made(*arrays)[0]

    samples = tuple(x.clone().requires_grad_() for x in static.values())
    captured = torch.cuda.make_graphed_callables(Layer(), samples)
    found = []
    for layer in (captured, Layer()):
        leaves = [x.clone().requires_grad_() for x in fresh.values()]
        layer(*leaves).square().sum().backward()
        found.append([x.grad for x in leaves])
    assert all(torch.equal(x, y) for x, y in zip(*found))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile(backend):
    torch._dynamo.reset()
    made = find("gdn64")

    def layer(q, k, v, g, beta):
        o, state = made(q, k, v, g, beta.sigmoid(), output_final_state=True)
        return o.float().square().sum() + state.square().sum()

    arrays, _ = draw("gdn64")
    found = []
    for function in (layer, torch.compile(layer, backend=backend,
                                          fullgraph=True)):
        leaves = [x.clone().requires_grad_() for x in arrays.values()]
        function(*leaves).backward()
        found.append([x.grad for x in leaves])
    for x, y in zip(*found):
        assert error(x, y) < 1e-2


def test_opcheck():
    made = find("gdn64")
    arrays, h0 = draw("gdn64", T=20)
    inputs = [x.requires_grad_() for x in arrays.values()]
    torch.library.opcheck(
        torch.ops.deltac.forward.default,
        (made.spec, made.options, inputs, h0, [0.5], 1, True))
    torch.library.opcheck(
        torch.ops.deltac.training_forward.default,
        (made.spec, made.options, inputs, h0.requires_grad_(), [0.5], 1))


def test_autocast_and_checkpointing():
    from torch.utils.checkpoint import checkpoint
    made = find("gdn64")
    arrays, _ = draw("gdn64")
    linear = torch.nn.Linear(64, 64, device="cuda")
    found = []
    for wrap in (lambda f, *x: f(*x),
                 lambda f, *x: checkpoint(f, *x, use_reentrant=False)):
        linear.weight.grad = None
        with torch.autocast("cuda", dtype=BF16):
            _, k, v, g, beta = arrays.values()
            o = wrap(lambda *x: made(linear(x[0].float()), *x[1:])[0],
                     *arrays.values())
        o.float().square().sum().backward()
        found.append(linear.weight.grad.clone())
    assert torch.equal(*found) and found[0].norm() > 0


def test_errors():
    made = find("gdn64")
    arrays, _ = draw("gdn64")
    with pytest.raises(TypeError, match="argument 'v' is a torch tensor on the "
                       "CPU, but 'q' is a torch tensor on CUDA device 0"):
        made(**{**arrays, "v": arrays["v"].cpu()})
    with pytest.raises(ValueError, match=r"argument 'beta' has shape \(2, 7, 3\)"):
        made(**{**arrays, "beta": arrays["beta"][:, :7]})
    leaves = [x.requires_grad_() for x in arrays.values()]
    (dq,) = torch.autograd.grad(made(*leaves)[0].float().square().sum(),
                                leaves[0], create_graph=True)
    with pytest.raises(NotImplementedError, match="cannot be differentiated "
                       "again"):
        dq.float().sum().backward()


def test_overhead():
    """Microseconds that a launch takes of the caller's time."""
    for name, fn in (("gdn64", "decode"), ("gdn64", "forward")):
        made = find(name, fn)
        arrays, h0 = draw(name, B=1, T=1, H=1)
        values = list(arrays.values())
        inputs = (made.spec, made.options, values, h0, [0.5], 1, True)
        leaves = [x.clone().requires_grad_() for x in values]

        def call():
            made(*values, initial_state=h0, output_final_state=True)

        def operator():
            torch.ops.deltac.forward.default(*inputs)

        def training():
            made(*leaves, initial_state=h0, output_final_state=True)

        times = {}
        for what, function in (("call", call), ("operator", operator),
                               ("training forward", training)):
            if what == "training forward" and fn == "decode":
                continue
            with torch.set_grad_enabled(what == "training forward"):
                for _ in range(100):
                    function()
                torch.cuda.synchronize()
                runs = []
                for _ in range(5):
                    start = time.perf_counter()
                    for _ in range(200):
                        function()
                    runs.append((time.perf_counter() - start) / 200)
                    torch.cuda.synchronize()
            times[what] = min(runs) * 1e6
        print(name, fn, "T=1:", ", ".join(f"{what} {value:.1f} us" for
                                          what, value in times.items()))
        assert times["call"] < 100


@pytest.mark.parametrize("name, B, T, H", [("gdn64", 4, 4096, 16),
                                           ("gdn128", 2, 4096, 16),
                                           ("kda", 4, 4096, 16)])
def test_speed(name, B, T, H):
    """Through Python and autograd; benchmarks/gpu has the careful numbers."""
    arrays, _ = draw(name, B, T, H)
    leaves = [x.requires_grad_() for x in arrays.values()]
    do = torch.randn(B, T, H, CASES[name][3], device="cuda").to(CASES[name][4])

    def forward():
        with torch.no_grad():
            find(name)(*leaves)

    def both():
        torch.autograd.grad(find(name)(*leaves)[0], leaves, do)

    times = {}
    for what, function in (("forward", forward), ("with backward", both)):
        for _ in range(3):
            function()
        runs = []
        for _ in range(10):
            begin, end = (torch.cuda.Event(enable_timing=True)
                          for _ in range(2))
            begin.record()
            function()
            end.record()
            end.synchronize()
            runs.append(begin.elapsed_time(end))
        times[what] = sorted(runs)[len(runs) // 2]
    print(f"{name} B{B} T{T} H{H}:", ", ".join(
        f"{what} {value:.3f} ms" for what, value in times.items()))


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
else:
    pytestmark = pytest.mark.skipif(not torch.cuda.is_available(),
                                    reason="there is no CUDA device")
