# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Accuracy of the elementary functions that kernels are made with.

Each is compiled as a kernel's only work and swept; the truth is libm's in
80-bit floats. Limits are in units in the last place.
"""

import numpy as np
import pytest

if np.finfo(np.longdouble).nmant < 63:
    pytest.skip("no wider float to compare with", allow_module_level=True)

# A kernel o = f(x) on vectors of 16 (and, at the end, on scalars).
MODULE = """
#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "x", type = TYPE, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = TYPE, axes = [K, V]>,
    #delta.arg<kind = out, name = "y", type = TYPE, axes = [V]>],
    dims = {{K = 1, V = 16}}, options = {{target = "cpu"}}>
module attributes {{delta.stage = "mapped", delta.signature = #sig}} {{
  func.func @f(%x: memref<?xTYPE>, %init: memref<?xTYPE>, %y: memref<?xTYPE>,
      %final: memref<?xTYPE>, %B: index, %T: index, %H: index, %has_init: i1,
      %has_final: i1, %arena: memref<?xi8>, %begin: index, %end: index,
      %vblocks: index)
      attributes {{delta.workspace = 0 : i64, delta.panels = 1 : i64}} {{
    %c0 = arith.constant 0 : index
    %c16 = arith.constant 16 : index
    %c1 = arith.constant 1 : index
    %n = arith.muli %T, %c16 : index
    scf.for %i = %c0 to %n step %STEP {{
      %0 = vector.load %x[%i] : memref<?xTYPE>, vector<WIDTHxTYPE>
      {body}
      vector.store %1, %y[%i] : memref<?xTYPE>, vector<WIDTHxTYPE>
    }}
    return
  }}
}}
"""


@pytest.fixture
def apply(tool, tmp_path):
    """`apply(body, x, scalar=False)`: what the compiled body makes of x."""

    def apply(body, x, scalar=False):
        element = {np.float32: "f32", np.float64: "f64"}[x.dtype.type]
        if scalar:
            body = (f"%s = vector.extract %0[0] : {element} from vector<1x{element}>\n"
                    + body.replace("%1 =", "%r =").replace("%0", "%s")
                    .replace("vector<WIDTHxTYPE>", element)
                    + f"\n%1 = vector.broadcast %r : {element} to vector<1x{element}>")
        text = MODULE.format(body=body).replace("WIDTH", "1" if scalar else "16")
        text = text.replace("STEP", "c1" if scalar else "c16")
        (tmp_path / "f.mlir").write_text(text.replace("TYPE", element))
        size = -(-len(x) // 16) * 16
        padded = np.ones(size, x.dtype)
        padded[:len(x)] = x
        np.savez(tmp_path / "in.npz", x=padded.reshape(1, -1, 1, 16))
        tool("delta-kernel", tmp_path / "f.mlir", "--input", tmp_path / "in.npz",
             "--output", tmp_path / "out.npz", "--no-final")
        return np.load(tmp_path / "out.npz")["y"].reshape(-1)[:len(x)]

    return apply


def sweep(dtype, lo, hi, tiny=False):
    """Numbers in [lo, hi], dense and, with `tiny`, at every magnitude too."""
    rng = np.random.default_rng(0)
    x = np.concatenate([np.linspace(lo, hi, 40001), rng.uniform(lo, hi, 40000)])
    if tiny:
        least = -120 if dtype == np.float32 else -1000
        small = np.exp2(rng.uniform(least, np.log2(max(abs(lo), abs(hi))), 40000))
        x = np.concatenate([x, small[small <= hi], -small[-small >= lo]])
    return x.astype(dtype)


def ulps(got, want):
    """Largest error in units in the last place of `want`."""
    info = np.finfo(got.dtype)
    want = np.asarray(want, np.longdouble)
    unit = np.exp2(np.floor(np.log2(np.abs(want))) - info.nmant)
    unit = np.maximum(unit, np.longdouble(info.tiny) * info.eps)
    return np.max(np.abs(got - want) / unit)


def call(name):
    return f"%1 = math.{name} %0 : vector<WIDTHxTYPE>"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))


# name, truth, low and high end for f32 and f64, swept at all magnitudes
FUNCTIONS = [
    ("exp", np.exp, (-87.3, 88.72), (-708.3, 709.78), False),
    ("exp", np.exp, (-1, 1), (-1, 1), True),
    ("exp2", np.exp2, (-125.9, 127.99), (-1021.9, 1023.99), False),
    ("log", np.log, (1e-30, 1e30), (1e-300, 1e300), True),
    ("log", np.log, (0.3, 3), (0.3, 3), False),
    ("log1p", np.log1p, (-0.999, 1e4), (-0.999, 1e4), True),
    ("log1p", np.log1p, (-0.5, 1), (-0.5, 1), True),
    ("tanh", np.tanh, (-12, 12), (-22, 22), True),
    ("sqrt", np.sqrt, (0.01, 1e20), (0.01, 1e200), False),
    ("rsqrt", lambda x: 1 / np.sqrt(x), (0.01, 1e20), (0.01, 1e200), False),
    ("sigmoid", sigmoid, (-80, 80), (-700, 700), True),
    ("softplus", softplus, (-80, 80), (-700, 700), True),
]
LIMITS = {"exp": 1.5, "exp2": 1.5, "log": 1.5, "log1p": 2.0, "tanh": 3.0,
          "sqrt": 0.5, "rsqrt": 1.5, "sigmoid": 3.0, "softplus": 3.0}


def body_of(name):
    # delta's own elementwise operations are not allowed in stage mapped, so
    # these are spelt as the mapping spells them.
    if name == "sigmoid":
        return """%a = math.absf %0 : vector<WIDTHxTYPE>
        %m = arith.negf %a : vector<WIDTHxTYPE>
        %e = math.exp %m : vector<WIDTHxTYPE>
        %c = arith.constant ONE : vector<WIDTHxTYPE>
        %z = arith.constant ZERO : vector<WIDTHxTYPE>
        %d = arith.addf %e, %c : vector<WIDTHxTYPE>
        %p = arith.divf %c, %d : vector<WIDTHxTYPE>
        %q = arith.mulf %e, %p : vector<WIDTHxTYPE>
        %g = arith.cmpf oge, %0, %z : vector<WIDTHxTYPE>
        %1 = arith.select %g, %p, %q : vector<WIDTHxi1>, vector<WIDTHxTYPE>"""
    if name == "softplus":
        return """%a = math.absf %0 : vector<WIDTHxTYPE>
        %m = arith.negf %a : vector<WIDTHxTYPE>
        %e = math.exp %m : vector<WIDTHxTYPE>
        %l = math.log1p %e : vector<WIDTHxTYPE>
        %z = arith.constant ZERO : vector<WIDTHxTYPE>
        %p = arith.maximumf %0, %z : vector<WIDTHxTYPE>
        %1 = arith.addf %p, %l : vector<WIDTHxTYPE>"""
    return call(name)


def splats(body):
    return body.replace("ONE", "dense<1.0>").replace("ZERO", "dense<0.0>")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", range(len(FUNCTIONS)))
def test_accuracy(apply, dtype, case):
    name, truth, *ends, tiny = FUNCTIONS[case]
    x = sweep(dtype, *ends[dtype == np.float64], tiny)
    got = apply(splats(body_of(name)), x)
    with np.errstate(all="ignore"):
        want = truth(x.astype(np.longdouble))
    # What is a denormal may be flushed.
    tiny = np.finfo(dtype).tiny
    normal = (np.abs(want) >= tiny) & ((np.abs(x) >= tiny) | (x == 0))
    assert np.all(np.abs(got[np.abs(want) < tiny]) <= tiny)
    error = ulps(got[normal], want[normal])
    print(f"{name} {np.dtype(dtype).name} {error:.2f} ulp")
    assert error <= LIMITS[name]


SPECIAL = [-np.inf, -1e4, -200, -90, -0.0, 0.0, 90, 200, 1e4, np.inf, np.nan, -1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["exp", "exp2", "log", "log1p", "tanh",
                                  "sqrt", "rsqrt", "sigmoid", "softplus"])
def test_special_values(apply, dtype, name):
    x = np.array(SPECIAL, dtype)
    got = apply(splats(body_of(name)), x)
    truth = next(f[1] for f in FUNCTIONS if f[0] == name)
    with np.errstate(all="ignore"):
        want = truth(x.astype(np.longdouble)).astype(dtype)
    flushed = np.abs(want) < np.finfo(dtype).tiny
    want[flushed] = 0
    np.testing.assert_allclose(got, want, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["exp", "exp2", "log", "log1p", "tanh"])
def test_scalars_are_lanes(apply, dtype, name):
    """A scalar and a lane of a vector give the same bits."""
    x = np.concatenate([np.abs(sweep(dtype, 1e-3, 80))[:5000],
                        np.array(SPECIAL, dtype)])
    lanes = apply(call(name), x)
    scalars = apply(call(name), x, scalar=True)
    np.testing.assert_array_equal(lanes, scalars)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("power", [-2, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 2.5])
def test_powers(apply, dtype, power):
    x = sweep(dtype, 1e-3, 1e3)
    body = f"""%p = arith.constant dense<{float(power)}> : vector<WIDTHxTYPE>
      %1 = math.powf %0, %p : vector<WIDTHxTYPE>"""
    got = apply(body, x)
    assert ulps(got, x.astype(np.longdouble) ** np.longdouble(power)) <= 3


@pytest.mark.parametrize("narrow", ["f16", "bf16"])
def test_conversions_by_bits(tool, tmp_path, narrow):
    """What stands in for a CPU's conversions is exact, every value of f16."""
    import re
    bits = np.arange(65536, dtype=np.uint16)
    if narrow == "f16":
        values = bits.view(np.float16).astype(np.float32)
    else:
        values = (bits.astype(np.uint32) << 16).view(np.float32)
    values = values[np.isfinite(values)]
    rng = np.random.default_rng(0)
    # Halfway between neighbours and beside it, and everything else.
    middles = (values[:-1].astype(np.float64) + values[1:]) / 2
    values = np.concatenate([values, middles, np.nextafter(
        middles.astype(np.float32), np.float32(np.inf)), rng.normal(size=10000),
        [np.inf, -np.inf, np.nan, 65519.9, 65520, 65536, 1e30]])
    values = values.astype(np.float32)
    values = values[~(np.abs(values) < np.finfo(np.float32).tiny)]
    x = np.zeros(-(-len(values) // 16) * 16, np.float32)
    x[:len(values)] = values
    module = MODULE.replace("TYPE", "f32").replace("WIDTH", "16")
    module = module.replace("STEP", "c16").format(body="""
      %half = arith.truncf %0 : vector<16xf32> to vector<16xNARROW>
      %1 = arith.extf %half : vector<16xNARROW> to vector<16xf32>""")
    module = module.replace("NARROW", narrow)
    (tmp_path / "f.mlir").write_text(module)
    done = tool("delta-opt", tmp_path / "f.mlir", "--delta-expand-narrow-floats")
    assert not re.search(r"arith\.(extf|truncf)", done.stdout)
    (tmp_path / "g.mlir").write_text(done.stdout)
    np.savez(tmp_path / "in.npz", x=x.reshape(1, -1, 1, 16))
    tool("delta-kernel", tmp_path / "g.mlir", "--input", tmp_path / "in.npz",
         "--output", tmp_path / "out.npz", "--no-final")
    got = np.load(tmp_path / "out.npz")["y"].reshape(-1)
    if narrow == "f16":
        with np.errstate(over="ignore"):
            want = x.astype(np.float16).astype(np.float32)
    else:
        u = x.view(np.uint32)
        u = (u + 0x7fff + (u >> 16 & 1)) & np.uint32(0xffff0000)
        want = np.where(np.isnan(x), x, u.view(np.float32))
    np.testing.assert_array_equal(got, want)
