# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The evaluator of the stages step, events and chunk, on IR written by hand.

It is the oracle of everything else, so it is held against NumPy here.
"""

import numpy as np
import pytest

from numpy_recurrences import error, evaluate, outer, read, rows, times

LIMIT = 1e-13


@pytest.fixture(scope="session")
def examples(source):
    """The modules of the dialect's round-trip test, which are all valid."""
    text = (source / "test/Dialect/Delta/IR/roundtrip.mlir").read_text()
    return text.split("// -----\n")


@pytest.fixture
def run(tool, tmp_path):
    """`run(module, arrays, *options)`: the evaluator's outputs as a dict."""

    def run(module, arrays, *options, expect=0):
        (tmp_path / "in.mlir").write_text(module)
        np.savez(tmp_path / "in.npz", **arrays)
        done = tool("delta-eval", tmp_path / "in.mlir", "--input",
                    tmp_path / "in.npz", "--output", tmp_path / "out.npz",
                    *options, expect=expect)
        return done if expect else dict(np.load(tmp_path / "out.npz"))

    return run


def random_arrays(seed=0, **shapes):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("n", [1, 3])
def test_step_with_micro_steps(run, examples, n):
    B, T, H, K, V = 2, 9, 3, 4, 5
    x = random_arrays(q=[B, T, H, K], k=[B, T, n, H, K], v=[B, T, H, V],
                      g=[B, T, H, K], initial_state=[B, H, K, V])
    x["k"] /= 3
    x["g"] = -abs(x["g"])
    x["g"][0, 3] = -np.inf
    got = run(examples[0], x, "--attr", "scale=0.25")
    S, o = x["initial_state"], np.zeros([B, T, H, V])
    for t in range(T):
        S = rows(np.exp(x["g"][:, t]), S)
        for j in range(n):
            kj = x["k"][:, t, j]
            S = S + outer(kj, x["v"][:, t] - read(S, kj))
        o[:, t] = 0.25 * read(S, x["q"][:, t])
    assert error(got["o"], o) < LIMIT
    assert error(got["final_state"], S) < LIMIT


def test_events(run, examples):
    B, T, H, K, V = 1, 20, 2, 6, 3
    x = random_arrays(q=[B, T, H, K], k=[B, T, H, K], v=[B, T, H, V],
                      g=[B, T, H, K], beta=[B, T, H])
    x["k"] /= 3
    x["g"] = -abs(x["g"])
    got = run(examples[1], x)
    expected = evaluate("kda", x, scale=1)
    assert error(got["o"], expected["o"]) < LIMIT
    assert error(got["final_state"], expected["final_state"]) < LIMIT


@pytest.mark.parametrize("T", [0, 1, 16, 37])
def test_chunk_of_a_generic_transition(run, examples, T):
    B, H, K, V = 2, 2, 64, 32
    token = [B, T, H, K]
    x = random_arrays(q=token, k=token, v=[B, T, H, V], a=token, b=token,
                      gk=token, initial_state=[B, H, K, V])
    x["a"] /= 8
    x["b"] /= 8
    x["gk"] = np.random.default_rng(1).choice([0, -1e-8, -5, -1e4, -np.inf],
                                              token)
    got = run(examples[2], x, "--attr", "scale=0.125")
    expected = evaluate("dplr", x)
    assert error(got["o"], expected["o"]) < LIMIT
    assert error(got["final_state"], expected["final_state"]) < LIMIT


def test_chunk_of_a_scalar_decay(run, examples):
    B, T, H, K, V = 1, 50, 2, 64, 64
    x = random_arrays(q=[B, T, H, K], k=[B, T, H, K], v=[B, T, H, V],
                      g=[B, T, H], beta=[B, T, H], initial_state=[B, H, K, V])
    x["k"] /= 8
    x["g"] = -abs(x["g"])
    x["g"][0, 7] = -np.inf
    got = run(examples[3], x)
    expected = evaluate("gated_delta_rule", x, scale=1)
    assert error(got["o"], expected["o"]) < LIMIT
    assert error(got["final_state"], expected["final_state"]) < LIMIT


def test_threads_do_not_change_a_bit(run, examples):
    B, T, H, K, V = 2, 12, 3, 6, 3
    x = random_arrays(q=[B, T, H, K], k=[B, T, H, K], v=[B, T, H, V],
                      g=[B, T, H, K], beta=[B, T, H])
    one, four = (run(examples[1], x, f"--jobs={i}") for i in (1, 4))
    assert all(np.array_equal(one[key], four[key]) for key in one)


# --- Single operations --------------------------------------------------------

STEP = """
!K = tensor<?xf64, #delta.dims<K>>
!V = tensor<?xf64, #delta.dims<V>>
!S = tensor<?x?xf64, #delta.dims<K, V>>
!T = tensor<?x?xf64, #delta.dims<V, K>>
!KK = tensor<?x?xf64, #delta.dims<K, K>>
module attributes {delta.stage = "step", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "x", type = f64, axes = [K]>,
    #delta.arg<kind = in, name = "y", type = f64, axes = [K]>,
    #delta.arg<kind = in, name = "v", type = f64, axes = [V]>,
    #delta.arg<kind = in, name = "s", type = f64>,
    #delta.arg<kind = param, name = "p", type = f64, axes = [K]>,
    #delta.arg<kind = state, name = "S", type = f64, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f64, axes = [V]>,
    #delta.arg<kind = out, name = "z", type = f64>]>} {
  delta.recurrence @ops {
  ^bb0(%x: !K, %y: !K, %v: !V, %s: f64, %p: !K, %S: !S):
BODY
    delta.yield %N, %o, %z : !S, !V, f64
  }
}
"""
# Where a body says nothing else.
DEFAULTS = {
    "%N": "    %N = arith.addf %S, %S : !S\n",
    "%o": "    %o = arith.addf %v, %v : !V\n",
    "%z": "    %z = arith.addf %s, %s : f64\n",
}


def step_module(body):
    for name, text in DEFAULTS.items():
        if f"{name} =" not in body:
            body += text
    return STEP.replace("BODY", body)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("op,f", [
    ("math.exp", np.exp), ("math.exp2", np.exp2),
    ("math.log", np.log), ("math.sqrt", np.sqrt),
    ("math.rsqrt", lambda v: 1 / np.sqrt(v)), ("math.absf", np.abs),
    ("math.tanh", np.tanh), ("arith.negf", np.negative),
    ("delta.sigmoid", sigmoid),
    ("delta.softplus", lambda v: np.logaddexp(0, v)),
])
def test_unary(run, op, f):
    x = random_arrays(x=[1, 4, 2, 3], y=[1, 4, 2, 3], v=[1, 4, 2, 5],
                      s=[1, 4, 2], p=[2, 3])
    x["v"][0, 0, 0] = [0, -np.inf, np.inf, 700, -700]
    got = run(step_module(f"    %o = {op} %v : !V\n"), x)
    with np.errstate(all="ignore"):
        expected = f(x["v"])
    np.testing.assert_allclose(got["o"], expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("op,f", [
    ("arith.addf", np.add), ("arith.subf", np.subtract),
    ("arith.mulf", np.multiply), ("arith.divf", np.divide),
    ("arith.maximumf", np.maximum), ("arith.minimumf", np.minimum),
    ("math.powf", lambda x, y: np.abs(x) ** y),
])
def test_binary(run, op, f):
    x = random_arrays(x=[1, 4, 2, 3], y=[1, 4, 2, 3], v=[1, 4, 2, 5],
                      s=[1, 4, 2], p=[2, 3])
    body = """
    %b = delta.broadcast %s : f64 -> !V
    %a = math.absf %v : !V
"""
    first = "%a" if op == "math.powf" else "%v"
    got = run(step_module(body + f"    %o = {op} {first}, %b : !V\n"), x)
    np.testing.assert_allclose(got["o"], f(x["v"], x["s"][..., None]),
                               rtol=1e-14)


# Transitions that are kept as diagonal plus low rank, each against a plain
# product of matrices. `M` is applied to the state.
TRANSITIONS = {
    "%D": lambda D, E, O, I, s: D,
    "%O": lambda D, E, O, I, s: O,
    "%I": lambda D, E, O, I, s: I,
    "add(%D, %O)": lambda D, E, O, I, s: D + O,
    "sub(%I, %O)": lambda D, E, O, I, s: I - O,
    "sub(%O, %D)": lambda D, E, O, I, s: O - D,
    "mul(%D, %E)": lambda D, E, O, I, s: D @ E,
    "mul(%O, %E)": lambda D, E, O, I, s: O @ E,
    "mul(%E, %O)": lambda D, E, O, I, s: E @ O,
    "mul(%O, %O)": lambda D, E, O, I, s: O @ O,
    "mul(add(%D, %O), sub(%I, %O))":
        lambda D, E, O, I, s: (D + O) @ (I - O),
    "times(%s, add(%D, %O))": lambda D, E, O, I, s: s * (D + O),
    "over(add(%D, %O), %s)": lambda D, E, O, I, s: (D + O) / s,
    "neg(add(%E, %O))": lambda D, E, O, I, s: -(E + O),
    "transpose(sub(%O, %D))": lambda D, E, O, I, s: (O - D).T,
    "elementwise(%O, add(%I, %O))": lambda D, E, O, I, s: O * (I + O),
    "times(%s, uniform(%s))":
        lambda D, E, O, I, s: np.full_like(D, s * s),
    "add(%D, uniform(%s))": lambda D, E, O, I, s: D + s,
}


def emit(expression):
    """MLIR of a prefix expression over K x K matrices."""
    lines, fresh = [], iter(range(100))

    def atom(tree):
        tree = tree.strip()
        if "(" not in tree:
            return tree
        name, inner = tree[:-1].split("(", 1)
        depth, parts = 0, [""]
        for c in inner:
            depth += (c == "(") - (c == ")")
            if c == "," and depth == 0:
                parts.append("")
            else:
                parts[-1] += c
        args = [atom(part) for part in parts]
        result = f"%t{next(fresh)}"
        wide = f"{result}w"
        if name in ("times", "over", "uniform"):
            number = args[-1] if name == "over" else args[0]
            lines.append(f"{wide} = delta.broadcast {number} : f64 -> !KK")
        lines.append({
            "add": lambda: f"{result} = arith.addf {args[0]}, {args[1]} : !KK",
            "sub": lambda: f"{result} = arith.subf {args[0]}, {args[1]} : !KK",
            "mul": lambda: f"{result} = delta.matmul {args[0]}, {args[1]} "
                           ": !KK, !KK -> !KK",
            "neg": lambda: f"{result} = arith.negf {args[0]} : !KK",
            "times": lambda: f"{result} = arith.mulf {wide}, {args[1]} : !KK",
            "over": lambda: f"{result} = arith.divf {args[0]}, {wide} : !KK",
            "uniform": lambda: f"{result} = arith.mulf {wide}, {wide}u : !KK",
            "elementwise":
                lambda: f"{result} = arith.mulf {args[0]}, {args[1]} : !KK",
            "transpose":
                lambda: f"{result} = delta.transpose {args[0]} : !KK -> !KK",
        }[name]())
        if name == "uniform":
            # One number everywhere, as a product with ones.
            lines[-1:-1] = [f"{wide}c = arith.constant 1.0 : f64",
                            f"{wide}u = delta.broadcast {wide}c : f64 -> !KK"]
        return result

    last = atom(expression)
    return "\n".join("    " + line for line in lines), last


@pytest.mark.parametrize("expression", TRANSITIONS)
def test_transitions(run, expression):
    B, T, H, K, V = 1, 1, 2, 5, 4
    x = random_arrays(x=[B, T, H, K], y=[B, T, H, K], v=[B, T, H, V],
                      s=[B, T, H], p=[H, K], initial_state=[B, H, K, V])
    text, last = emit(expression)
    got = run(step_module(f"""
    %D = delta.diag %x : !K -> !KK
    %E = delta.diag %p : !K -> !KK
    %O = delta.outer %x, %y : (!K, !K) -> !KK
    %I = delta.eye : !KK
{text}
    %N = delta.matmul {last}, %S : !KK, !S -> !S
    %My = delta.matvec {last}, %y : (!KK, !K) -> !K
    %Mty = delta.matvec {last}, %My {{transpose}} : (!KK, !K) -> !K
    %z = delta.sum %Mty : !K -> f64
    %Nt = delta.transpose %N : !S -> !T
    %o = delta.matvec %Nt, %y : (!T, !K) -> !V
"""), x)
    for h in range(H):
        a, b, p = x["x"][0, 0, h], x["y"][0, 0, h], x["p"][h]
        M = TRANSITIONS[expression](np.diag(a), np.diag(p), np.outer(a, b),
                                    np.eye(K), x["s"][0, 0, h])
        S = M @ x["initial_state"][0, h]
        np.testing.assert_allclose(got["final_state"][0, h], S, atol=1e-13)
        np.testing.assert_allclose(got["o"][0, 0, h], S.T @ b, atol=1e-12)
        np.testing.assert_allclose(got["z"][0, 0, h], np.sum(M.T @ (M @ b)),
                                   atol=1e-12)


def test_dims_are_numbers_and_absent_terms_stay_absent(run):
    x = random_arrays(x=[1, 1, 1, 3], y=[1, 1, 1, 3], v=[1, 1, 1, 4],
                      s=[1, 1, 1], p=[1, 3], initial_state=[1, 1, 3, 4])
    x["s"][:] = np.inf
    got = run(step_module("""
    %z = delta.dim "V" : f64
    %b = delta.broadcast %s : f64 -> !S
    %N = arith.mulf %b, %S : !S
"""), x)
    assert got["z"] == 4
    np.testing.assert_array_equal(got["final_state"],
                                  np.inf * np.sign(x["initial_state"]))


C, D, V = 8, 3, 5
CHUNK = """
module attributes {delta.stage = "chunk", delta.signature = #delta.signature<args = [
    #delta.arg<kind = in, name = "x", type = f64, axes = [D]>,
    #delta.arg<kind = in, name = "y", type = f64, axes = [D]>,
    #delta.arg<kind = in, name = "w", type = f64, axes = [D]>,
    #delta.arg<kind = in, name = "g", type = f64>,
    #delta.arg<kind = in, name = "m", type = f64, axes = [C]>,
    #delta.arg<kind = in, name = "e", type = f64, axes = [C]>,
    #delta.arg<kind = in, name = "k", type = f64, axes = [V], family = n>,
    #delta.arg<kind = state, name = "S", type = f64, axes = [D, V]>,
    #delta.arg<kind = out, name = "o", type = f64, axes = [AXIS]>],
    dims = {D = 3, C = 8, V = 5, n = 2}>} {
  func.func @op(%x: tensor<8x3xf64> {delta.arg = "x"}, %y: tensor<8x3xf64> {delta.arg = "y"},
      %w: tensor<8x3xf64> {delta.arg = "w"}, %g: tensor<8xf64> {delta.arg = "g"},
      %m: tensor<8x8xf64> {delta.arg = "m"}, %e: tensor<8x8xf64> {delta.arg = "e"},
      %k0: tensor<8x5xf64> {delta.arg = "k", delta.micro = 0 : i64},
      %k1: tensor<8x5xf64> {delta.arg = "k", delta.micro = 1 : i64},
      %S: tensor<3x5xf64> {delta.arg = "S"}, %valid: index)
      -> (tensor<3x5xf64>, tensor<8xSIZExf64>) {
BODY
    return %S, %o : tensor<3x5xf64>, tensor<8xSIZExf64>
  }
}
"""


def chunk_inputs(T=C):
    x = random_arrays(x=[1, T, 1, D], y=[1, T, 1, D], w=[1, T, 1, D],
                      g=[1, T, 1], m=[1, T, 1, C], e=[1, T, 1, C],
                      k=[1, T, 2, 1, V], initial_state=[1, 1, D, V])
    x["w"][0, 3, 0, 0] = 0
    return x


@pytest.fixture
def run_chunk(run):
    """`run_chunk(body, axis)`: the rows of %o, and the inputs as matrices."""

    def run_chunk(body, axis, T=C):
        x = chunk_inputs(T)
        module = (CHUNK.replace("AXIS", axis).replace("BODY", body)
                  .replace("SIZE", str({"C": C, "D": D, "V": V}[axis])))
        o = run(module, x)["o"][0, :, 0]
        flat = {name: x[name][0, :, 0] for name in "xywgme"}
        flat["k0"], flat["k1"] = x["k"][0, :, 0, 0], x["k"][0, :, 1, 0]
        return o, flat

    return run_chunk


def interval(w, i, j, row, col):
    """prod of w over I(i, j) as the documentation of decay_gram has it."""
    first = j + (col == "after")
    last = i - (row == "before")
    return np.prod(w[first:last + 1], axis=0)


@pytest.mark.parametrize("row", ["before", "after"])
@pytest.mark.parametrize("col", ["before", "after"])
@pytest.mark.parametrize("mask", ["strict", "diagonal"])
def test_decay_gram(run_chunk, row, col, mask):
    if mask == "diagonal" and (row, col) == ("before", "after"):
        pytest.skip("excluded by the verifier")
    o, a = run_chunk(f"""
    %o, %p = delta.decay_gram rows(%x) [{row}] cols(%y, %x) [{col}, {col}]
        decay(%w) masks ["{mask}", "strict"] leaf 8 scheme exact
        : tensor<8x3xf64> -> tensor<8x8xf64>, tensor<8x8xf64>""", "C")
    expected = np.zeros([C, C])
    for i in range(C):
        for j in range(i + (mask == "diagonal")):
            expected[i, j] = np.sum(a["x"][i] * a["y"][j] *
                                    interval(a["w"], i, j, row, col))
    np.testing.assert_allclose(o, expected, atol=1e-13)


@pytest.mark.parametrize("row", ["before", "after"])
@pytest.mark.parametrize("col", ["before", "after"])
@pytest.mark.parametrize("diagonal", ["", "diagonal"])
def test_decay_mask(run_chunk, row, col, diagonal):
    if diagonal and (row, col) == ("before", "after"):
        pytest.skip("excluded by the verifier")
    o, a = run_chunk(f"    %o = delta.decay_mask %g row {row} col {col} "
                     f"{diagonal} : tensor<8xf64> -> tensor<8x8xf64>", "C")
    expected = np.zeros([C, C])
    for i in range(C):
        for j in range(i + bool(diagonal)):
            expected[i, j] = interval(a["g"], i, j, row, col)
    np.testing.assert_allclose(o, expected, atol=1e-13)


@pytest.mark.parametrize("flags", ["", "exclusive", "reverse",
                                   "exclusive reverse"])
def test_prefix_product(run_chunk, flags):
    o, a = run_chunk(f"    %o = delta.prefix_product {flags} %w : "
                     "tensor<8x3xf64>", "D")
    for i in range(C):
        if "reverse" in flags:
            part = a["w"][i + ("exclusive" in flags):]
        else:
            part = a["w"][:i + ("exclusive" not in flags)]
        np.testing.assert_allclose(o[i], np.prod(part, axis=0), atol=1e-13)


def test_total_product(run_chunk):
    o, a = run_chunk("""
    %t = delta.total_product %w : tensor<8x3xf64> -> tensor<3xf64>
    %s = delta.total_product %g : tensor<8xf64> -> f64
    %u = delta.broadcast %s : f64 -> tensor<3xf64>
    %v = arith.addf %t, %u : tensor<3xf64>
    %o = delta.broadcast %v dim 1 : tensor<3xf64> -> tensor<8x3xf64>""", "D")
    row = np.prod(a["w"], axis=0) + np.prod(a["g"])
    np.testing.assert_allclose(o, np.tile(row, (C, 1)), atol=1e-13)


def test_masks_and_diagonals(run_chunk):
    o, a = run_chunk("""
    %a = delta.causal_mask %m diagonal : tensor<8x8xf64>
    %b = delta.causal_mask %m : tensor<8x8xf64>
    %c = arith.addf %a, %b : tensor<8x8xf64>
    %o = delta.set_diagonal %c, %g : tensor<8x8xf64>, tensor<8xf64>""", "C")
    expected = 2 * np.tril(a["m"], -1) + np.diag(a["g"])
    np.testing.assert_allclose(o, expected, atol=1e-13)


def test_identity_rows_hide_what_they_select_away(run_chunk):
    # Beyond T the inputs are NaN; prod and sum over all rows stay finite.
    o, a = run_chunk("""
    %i = delta.identity_rows %w, %valid value 1.0 : tensor<8x3xf64>
    %t = delta.total_product %i : tensor<8x3xf64> -> tensor<3xf64>
    %o = delta.broadcast %t dim 1 : tensor<3xf64> -> tensor<8x3xf64>""", "D",
                     T=5)
    np.testing.assert_allclose(o, np.tile(np.prod(a["w"], axis=0), (5, 1)),
                               atol=1e-13)


@pytest.mark.parametrize("unknowns", [1, 2])
def test_tri_solve(run_chunk, unknowns):
    if unknowns == 1:
        body = """
    %a = delta.causal_mask %m : tensor<8x8xf64>
    %o = delta.tri_solve blocks(%a) rhs(%k0) leaf 4 : tensor<8x8xf64>, tensor<8x5xf64>"""
    else:
        body = """
    %a = delta.causal_mask %m : tensor<8x8xf64>
    %d = delta.causal_mask %e diagonal : tensor<8x8xf64>
    %p, %q = delta.tri_solve blocks(%a, %a, %d, %a) rhs(%k0, %k1) leaf 4 : tensor<8x8xf64>, tensor<8x5xf64>
    %two = arith.constant dense<2.0> : tensor<8x5xf64>
    %r = arith.mulf %two, %p : tensor<8x5xf64>
    %o = arith.addf %r, %q : tensor<8x5xf64>"""
    o, a = run_chunk(body, "V")
    A, L = np.tril(a["m"], -1), np.tril(a["e"])
    if unknowns == 1:
        expected = np.linalg.solve(np.eye(C) - A, a["k0"])
    else:
        system = np.eye(2 * C) - np.block([[A, A], [L, A]])
        E = np.linalg.solve(system, np.vstack([a["k0"], a["k1"]]))
        expected = 2 * E[:C] + E[C:]
    assert error(o, expected) < 1e-11


def test_matmul(run_chunk):
    o, a = run_chunk("""
    %g0 = delta.matmul %x, %y transpose_rhs : tensor<8x3xf64>, tensor<8x3xf64> -> tensor<8x8xf64>
    %g1 = delta.matmul %m, %g0 transpose_lhs : tensor<8x8xf64>, tensor<8x8xf64> -> tensor<8x8xf64>
    %o = delta.matmul %g1, %k0 acc(%k1 : tensor<8x5xf64>) : tensor<8x8xf64>, tensor<8x5xf64> -> tensor<8x5xf64>""",
                     "V")
    expected = a["m"].T @ (a["x"] @ a["y"].T) @ a["k0"] + a["k1"]
    np.testing.assert_allclose(o, expected, atol=1e-12)


def test_sum_and_broadcast(run_chunk):
    o, a = run_chunk("""
    %s = delta.sum %x : tensor<8x3xf64> -> tensor<8xf64>
    %b = delta.broadcast %s dim 0 : tensor<8xf64> -> tensor<8x3xf64>
    %c = delta.broadcast %g dim 0 : tensor<8xf64> -> tensor<8x3xf64>
    %o = arith.mulf %b, %c : tensor<8x3xf64>""", "D")
    expected = (np.sum(a["x"], axis=1) * a["g"])[:, None]
    np.testing.assert_allclose(o, np.tile(expected, D), atol=1e-13)


# --- What it cannot evaluate --------------------------------------------------


def test_what_is_unknown_or_missing_is_named(run, examples):
    x = random_arrays(x=[1, 4, 2, 3], y=[1, 4, 2, 3], v=[1, 4, 2, 5],
                      s=[1, 4, 2], p=[2, 3])
    done = run(step_module("    %o = math.cbrt %v : !V\n"), x, expect=1)
    assert ("error: 'math.cbrt' op is not known to the reference evaluator"
            in done.stderr)
    x = random_arrays(q=[1, 2, 1, 4], k=[1, 2, 2, 1, 4], v=[1, 2, 1, 5],
                      g=[1, 2, 1, 4])
    done = run(examples[0], x, expect=1)
    assert "error: the reference needs a value of attr 'scale'\n" in done.stderr
    literal = examples[0].replace("%k[%j]", "%k[%two]").replace(
        "    %w = math.exp", "    %two = arith.constant 2 : index\n"
        "    %w = math.exp")
    done = run(literal, x, "--attr", "scale=1", expect=1)
    assert "error: micro-step 2 is beyond the family's 2\n" in done.stderr
    x = random_arrays(q=[1, 2, 1, 32], k=[1, 2, 1, 32], v=[1, 2, 1, 64],
                      g=[1, 2, 1], beta=[1, 2, 1])
    done = run(examples[3], x, expect=1)
    assert ("error: expects dim 'K' to be 64 as the module says, but got 32\n"
            in done.stderr)
    mapped = examples[3].replace('"chunk",', '"mapped",', 1)
    mapped = mapped[:mapped.index("  func.func")] + "}"
    done = run(mapped, x, expect=1)
    assert ("error: the reference evaluates a module of stage step, events or "
            "chunk\n" in done.stderr)
