# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""`deltac.recurrence` over NumPy arrays: results, options, refusals."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import deltac

FADING = """
// Keys fade at their own rate; a token corrects what its key holds.
recurrence fading {
  in    q: K, k: K, v: V
  in    g: K in [-inf, 0]
  in    beta: scalar
  param bonus: V
  attr  scale = K ^ -0.5
  state S: K x V

  S = diag(exp(g)) * S
  S = S + beta * k * (v - S^T * k)^T
  out o = scale * S^T * q + bonus
}
"""


def make_inputs(B=2, T=37, H=3, K=16, V=24, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)
    k = normal(B, T, H, K)
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    return {"q": normal(B, T, H, K), "k": k, "v": normal(B, T, H, V),
            "g": -np.abs(normal(B, T, H, K)) / 4,
            "beta": rng.random((B, T, H)).astype(dtype),
            "bonus": normal(H, V)}


def reference(q, k, v, g, beta, bonus, scale=None, initial_state=None):
    """FADING token by token, in float64."""
    q, k, v, g, beta, bonus = (x.astype(float)
                               for x in (q, k, v, g, beta, bonus))
    B, T, H, K = q.shape
    scale = K ** -0.5 if scale is None else scale
    S = np.zeros((B, H, K, v.shape[-1]))
    if initial_state is not None:
        S = initial_state.astype(float)
    o = np.zeros_like(v)
    for t in range(T):
        S = np.exp(g[:, t])[..., None] * S
        z = np.einsum("bhkv,bhk->bhv", S, k[:, t])
        u = beta[:, t, :, None] * (v[:, t] - z)
        S = S + k[:, t, ..., None] * u[..., None, :]
        o[:, t] = scale * np.einsum("bhkv,bhk->bhv", S, q[:, t]) + bonus
    return o, S


def error(got, expected):
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


@pytest.fixture(scope="module")
def fading():
    return deltac.recurrence(FADING)


@pytest.mark.parametrize("fn", ["forward", "decode"])
@pytest.mark.parametrize("dtype, limit", [("float32", 2e-6), ("float64", 1e-13)])
def test_values(fading, fn, dtype, limit):
    made = fading if fn == "forward" else fading.decode
    arrays = make_inputs(dtype=dtype)
    o, final = made(**arrays, output_final_state=True)
    expected, state = reference(**arrays)
    assert o.dtype == final.dtype == dtype
    assert error(o, expected) < limit and error(final, state) < limit
    again, none = made(**arrays)
    assert none is None and np.array_equal(again, o)


def test_half_precision(fading):
    arrays = make_inputs()
    halves = {name: x.astype(np.float16) for name, x in arrays.items()}
    o, final = fading(**halves, output_final_state=True)
    assert o.dtype == np.float16 and final.dtype == np.float32
    assert error(o.astype(float), reference(**halves)[0]) < 1e-3


def test_types_of_their_own(fading):
    """Gates stay in float32 beside halves, in any mixture."""
    arrays = make_inputs()
    for name in ("q", "k", "v", "beta"):
        arrays[name] = arrays[name].astype(np.float16)
    o, _ = fading(**arrays)
    assert o.dtype == np.float16
    assert error(o.astype(float), reference(**arrays)[0]) < 1e-3


def test_states_attrs_and_parts(fading):
    arrays = make_inputs()
    state = make_inputs(seed=1)["q"][0, 0, 0, 0] * np.ones((2, 3, 16, 24),
                                                          np.float32)
    o, final = fading(**arrays, scale=0.5, initial_state=state,
                      output_final_state=True)
    expected, last = reference(**arrays, scale=0.5, initial_state=state)
    assert error(o, expected) < 2e-6 and error(final, last) < 2e-6
    # A state in half precision is widened, which keeps its values.
    half = state.astype(np.float16)
    assert np.array_equal(
        fading(**arrays, initial_state=half)[0],
        fading(**arrays, initial_state=half.astype(np.float32))[0])
    # Token by token from the state of a prefix is the whole.
    def part(begin, end):
        return {name: x if name == "bonus" else x[:, begin:end]
                for name, x in arrays.items()}
    head, carried = fading(**part(0, 30), output_final_state=True)
    tail = [head]
    for t in range(30, 37):
        step, carried = fading.decode(**part(t, t + 1), initial_state=carried,
                                      output_final_state=True)
        tail.append(step)
    assert error(np.concatenate(tail, axis=1), reference(**arrays)[0]) < 2e-6


def test_strides(fading):
    """Views are taken as they are: slices of a packed array, transposes, steps,
    reversed and broadcast axes."""
    arrays = make_inputs()
    expected = fading(**arrays)[0]
    packed = np.concatenate([arrays["q"], arrays["k"], arrays["v"]], axis=-1)
    views = dict(arrays, q=packed[..., :16], k=packed[..., 16:32],
                 v=packed[..., 32:])
    views["g"] = np.ascontiguousarray(
        arrays["g"].transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    views["beta"] = np.repeat(arrays["beta"], 2, axis=1)[:, ::2]
    assert np.array_equal(fading(**views)[0], expected)
    views["q"] = arrays["q"][:, ::-1].copy()[:, ::-1]
    assert np.array_equal(fading(**views)[0], expected)
    one = np.broadcast_to(arrays["k"][:1], arrays["k"].shape)
    assert np.array_equal(fading(**dict(arrays, k=one))[0],
                          fading(**dict(arrays, k=one.copy()))[0])


def test_no_copies():
    """Dense arrays are read where they lie, whatever their owner says of
    writing; what is strided is packed, each array once a call."""
    made = deltac.recurrence(FADING)
    arrays = make_inputs(T=20)
    state = np.zeros((2, 3, 16, 24), np.float32)
    for x in arrays.values():
        x.flags.writeable = False
    before = made._caller.num_copies, made.decode._caller.num_copies
    for call in (made, made.decode):
        call(**arrays, initial_state=state, output_final_state=True)
        # Slices of sequences and single tokens are dense, too.
        part = {name: x if name == "bonus" else x[:1, 3:9]
                for name, x in arrays.items()}
        call(**part)
    assert before == (made._caller.num_copies, made.decode._caller.num_copies)
    packed = np.concatenate([arrays["q"], arrays["k"]], -1)
    q, k = np.split(packed, 2, -1)
    made(**{**arrays, "q": q, "k": k})
    assert made._caller.num_copies == before[0] + 2
    made(**arrays, initial_state=state.astype(np.float16))
    assert made._caller.num_copies == before[0] + 3


class Foreign:
    """An array of another library: DLPack's protocol and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack(fading):
    """Results for arrays of other libraries are NumPy's."""
    arrays = make_inputs()
    o, final = fading(**{name: Foreign(x) for name, x in arrays.items()},
                      initial_state=Foreign(np.ones((2, 3, 16, 24), np.float16)),
                      output_final_state=True)
    expected = fading(**arrays, initial_state=np.ones((2, 3, 16, 24),
                                                      np.float32),
                      output_final_state=True)
    assert np.array_equal(o, expected[0]) and np.array_equal(final, expected[1])


def test_bfloat16(fading):
    """NumPy knows the type through ml_dtypes alone."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    arrays = make_inputs()
    halves = {name: x.astype(ml_dtypes.bfloat16) for name, x in arrays.items()}
    o, final = fading(**halves, output_final_state=True)
    assert o.dtype == ml_dtypes.bfloat16 and final.dtype == np.float32
    expected = reference(**halves)[0]
    assert error(o.astype(float), expected) < 5e-3
    views = {name: x[..., ::-1].copy()[..., ::-1] for name, x in halves.items()}
    again = fading(**views)[0]
    assert np.array_equal(o.view(np.uint16), again.view(np.uint16))


@pytest.mark.parametrize("B, T", [(0, 5), (2, 0)])
def test_empty(fading, B, T):
    arrays = make_inputs(B=B, T=T)
    state = np.full((B, 3, 16, 24), 2, np.float32)
    o, final = fading(**arrays, initial_state=state, output_final_state=True)
    assert o.shape == (B, T, 3, 24) and np.array_equal(final, state)


def test_library_names():
    assert "kda" in deltac.library() and len(deltac.library()) == 16
    for name in deltac.library():
        assert deltac.recurrence(name).name == name


@pytest.mark.parametrize("name, text, says", [
    (None, "recurrence r { in q: K\n state S: K x V\n  S = S + q * q\n"
           "  out o = S^T * q }",
     "<spec>:3:13: error: cannot multiply 'q' (K x 1) by 'q' (K x 1): the inner "
     "dims 1 and K differ\n  S = S + q * q\n          ~ ^ ~"),
    ("gated_delta", None, "there is neither a file nor a library recurrence "
     "'gated_delta'; did you mean 'gated_delta_rule'?"),
    ("nowhere.delta", None, "cannot read 'nowhere.delta': No such file or "
     "directory"),
])
def test_spec_errors(name, text, says):
    with pytest.raises(deltac.SpecError, match=re.escape(says)) as caught:
        deltac.recurrence(name or text)
    assert isinstance(caught.value, ValueError)


def test_files(tmp_path, fading):
    path = tmp_path / "fading.delta"
    path.write_text(FADING)
    arrays = make_inputs()
    assert np.array_equal(deltac.recurrence(path)(**arrays)[0],
                          fading(**arrays)[0])
    path.write_text(FADING.replace("exp(g)", "exp(h)"))
    with pytest.raises(deltac.SpecError, match=re.escape(f"{path}:11:16: ")):
        deltac.recurrence(str(path))


def mutate(**changes):
    arrays = make_inputs()
    for name, change in changes.items():
        arrays[name] = change(arrays.get(name))
    return arrays


@pytest.mark.parametrize("arrays, kind, says", [
    (mutate(beta=lambda x: x[:, :3]), ValueError,
     "argument 'beta' has shape (2, 3, 3); expected (B=2, T=37, H=3), where T "
     "comes from 'q'"),
    (mutate(beta=lambda x: x[..., None]), ValueError,
     "argument 'beta' has shape (2, 37, 3, 1); expected (B=2, T=37, H=3)"),
    (mutate(bonus=lambda x: x.T), ValueError,
     "argument 'bonus' has shape (24, 3); expected (H=3, V=24), where H comes "
     "from 'q'"),
    (mutate(k=lambda x: x.astype(int)), TypeError,
     "argument 'k' has dtype int64; expected float32, bfloat16, float16 or "
     "float64"),
    (mutate(k=lambda x: x.astype(">f4")), TypeError,
     "argument 'k' has dtype >f4; expected float32, bfloat16, float16 or "
     "float64"),
    (mutate(k=lambda x: x.astype(float)), TypeError,
     "argument 'q' has dtype float32, but 'k' is float64; either all arrays "
     "are float64 or none"),
    (mutate(k=lambda x: 3.0), TypeError,
     "argument 'k' is a float; expected a NumPy array or a torch tensor"),
    (mutate(k=lambda x: x.tolist()), TypeError,
     "argument 'k' is a list; expected a NumPy array or a torch tensor"),
    (mutate(scal=lambda x: 1.0), TypeError,
     "unknown argument 'scal'; did you mean 'scale'?"),
    (mutate(scale=lambda x: "big"), TypeError,
     "attr 'scale' must be a number, but got str"),
    (mutate(scale=lambda x: float("nan")), ValueError, "attr 'scale' is NaN"),
    (mutate(initial_state=lambda x: np.zeros((2, 3, 24, 16), np.float32)),
     ValueError,
     "argument 'initial_state' has shape (2, 3, 24, 16); expected (B=2, H=3, "
     "K=16, V=24), where K comes from 'q'"),
    (mutate(initial_state=lambda x: np.zeros((2, 3, 16, 24))), TypeError,
     "argument 'initial_state' has dtype float64, but the state of this call is "
     "float32; pass float32, or every array in float64"),
    (mutate(q=lambda x: np.zeros((2, 37, 3, 0), np.float32)), ValueError,
     "argument 'q' has shape (2, 37, 3, 0); expected (B=2, T=37, H=3, K): dim "
     "'K' must not be 0"),
])
def test_argument_errors(fading, arrays, kind, says):
    with pytest.raises(kind, match="^" + re.escape(says) + "$"):
        fading(**arrays)


def test_call_errors(fading):
    arrays = list(make_inputs().values())
    with pytest.raises(TypeError, match="^argument 'bonus' is missing; the "
                       "recurrence takes q, k, v, g, beta, bonus$"):
        fading(*arrays[:-1])
    with pytest.raises(TypeError, match="^argument 'q' is given twice$"):
        fading(*arrays, q=arrays[0])
    with pytest.raises(TypeError, match="^expected at most 6 positional "):
        fading(*arrays, arrays[0])


@pytest.mark.parametrize("options, says", [
    ({"device": "tpu"}, "argument 'device' is 'tpu'; expected None, 'cpu', "
     "'cuda', 'sim'"),
    ({"fn": "backwards"}, "argument 'fn' is 'backwards'; expected 'forward', "
     "'decode'"),
    ({"chunk": 17}, "argument 'chunk' is 17; expected None, 16, 32, 64"),
    ({"device": "cpu", "target": "sm_80"},
     "argument 'target' is 'sm_80', which device 'cpu' does not run"),
])
def test_option_errors(options, says):
    with pytest.raises(ValueError, match="^" + re.escape(says) + "$"):
        deltac.recurrence("gla", **options)


def test_attrs_without_default():
    made = deltac.recurrence(FADING.replace("scale = K ^ -0.5", "scale"))
    with pytest.raises(deltac.Error, match="attr 'scale'"):
        made(**make_inputs())
    assert made(**make_inputs(), scale=1)[0].shape == (2, 37, 3, 24)


def test_looking_inside(fading):
    fresh = deltac.recurrence(FADING)
    with pytest.raises(ValueError, match="has not been compiled yet"):
        fresh.asm["llvm"]
    assert "diagonal decay plus rank 1" in fresh.explain()
    assert "chunk C=" in fresh.explain(K=64, V=64)
    fresh.warmup({"K": 32, "V": 32})
    assert "delta.tri_solve" in fresh.asm["chunk"]
    assert "K = 32" in fresh.asm["llvm"] or "define" in fresh.asm["llvm"] \
        or "llvm.func" in fresh.asm["llvm"]
    assert ".target sm_90a" in fresh.asm["ptx"]
    assert fresh.asm["so"][:4] == b"\x7fELF"
    with pytest.raises(KeyError, match="did you mean 'chunk'"):
        fresh.asm["chunks"]
    bf16 = fresh.specialize(K=32, V=32, dtype="bfloat16")
    assert 'name = "q", type = bf16' in bf16.asm["step"]
    with pytest.raises(ValueError, match="'W' is neither a dim nor an argument"):
        fresh.explain(W=3)


def test_simulator(fading):
    simulated = deltac.recurrence(FADING, device="sim")
    arrays = make_inputs(B=1, T=20, H=1)
    o, final = simulated(**arrays, output_final_state=True)
    expected, state = reference(**arrays)
    assert error(o, expected) < 1e-4 and error(final, state) < 1e-4
    assert '"global_load_bytes"' in simulated.stats


def test_two_kernels_with_a_workspace():
    """Few heads: two launches, and a workspace that grows with the tokens."""
    arrays = make_inputs(B=1, T=37, H=2)
    one, two = (deltac.recurrence(FADING, device="sim", mapping=f"kernels={n}")
                for n in (1, 2))
    results = [made(**arrays, output_final_state=True) for made in (one, two)]
    for got, expected in zip(results[1], results[0]):
        assert np.array_equal(got, expected)
    assert one.stats.count('"kernel"') == 1
    assert two.stats.count('"kernel"') == 2


def test_save_and_load(tmp_path, fading):
    path = tmp_path / "fading.bundle"
    fading.save(path, K=16, V=24, fns=("forward", "decode"))
    loaded = deltac.load(path)
    arrays = make_inputs()
    assert np.array_equal(loaded(**arrays)[0], fading(**arrays)[0])
    decode = deltac.load(path, fn="decode")
    assert np.array_equal(decode(**arrays)[0], fading.decode(**arrays)[0])
    with pytest.raises(ValueError, match="^dim 'V' is 8, but the bundle was "
                       "compiled for 24$"):
        loaded(**make_inputs(V=8))
    with pytest.raises(TypeError, match="^argument 'q' has dtype float64, but "
                       "the bundle was compiled for float32$"):
        loaded(**make_inputs(dtype=float))
    with pytest.raises(ValueError, match="but '.*' has forward, decode$"):
        deltac.load(path, fn="backward")
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(deltac.Error, match="it is corrupt"):
        deltac.load(path)


def test_is_supported():
    assert deltac.is_supported("kda", K=64, V=64)
    ok, reason = deltac.is_supported("kda", K=64)
    assert not ok and "size of dim 'V'" in reason
    ok, reason = deltac.is_supported("kda", K=64, V=64, dtype="float64",
                                     device="sim")
    assert not ok and "f64" in reason
    ok, reason = deltac.is_supported("kda", K=64, V=64, dtype="int8")
    assert not ok and "dtype 'int8' is not known" in reason
    assert deltac.is_supported("gla", K=8, V=8, gradients=True)
    ok, reason = deltac.is_supported("gla", K=8, V=8, gradients=True,
                                     dtype="float64", device="sim")
    assert not ok and "has type f64" in reason


def test_threads(fading):
    arrays = make_inputs()
    expected = fading(**arrays)[0]
    results = []
    def work():
        results.append(all(np.array_equal(fading(**arrays)[0], expected)
                           for _ in range(20)))
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_fork(fading):
    """A process that forks, as data loaders do, can call in both halves; the
    other half has none of the threads."""
    arrays = make_inputs(B=4)
    expected = fading(**arrays)[0]
    child = os.fork()
    if child == 0:
        same = False
        try:
            same = np.array_equal(fading(**arrays)[0], expected)
        finally:
            os._exit(0 if same else 1)
    for _ in range(600):
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert status == 0
    assert np.array_equal(fading(**arrays)[0], expected)


def test_garbage():
    made = deltac.recurrence(FADING + " ")
    made(**make_inputs())
    from deltac import _callable
    _callable.registry.pop((made.spec, made.options))
    reference = weakref.ref(made)
    del made
    gc.collect()
    assert reference() is None


def test_import_is_light():
    code = ("import sys, deltac; "
            "print([m for m in ('torch', 'numpy', 'deltac._compiler') "
            "if m in sys.modules])")
    output = subprocess.run([sys.executable, "-c", code], text=True,
                            capture_output=True, check=True, env=os.environ)
    assert output.stdout.strip() == "[]" and output.stderr == ""
