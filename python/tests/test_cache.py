# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The cache of compiled kernels: what is compiled when, and what survives."""

import concurrent.futures
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import deltac
from deltac import _cache

# A spec that no other test compiles: {} makes it one's own.
SPEC = """
recurrence cached_{} {{
  in q: K, k: K, v: V
  state S: K x V
  S = 0.5 * S + k * v^T
  out o = S^T * q
}}
"""


def arrays(T=3, K=8, V=8, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, T, 2, d)).astype(dtype) for d in (K, K, V)]


def test_what_makes_a_kernel(counters):
    """Types, sizes of dims and options do; B, T, H, attrs and strides do not."""
    made = deltac.recurrence(SPEC.format("keys"))
    assert counters["compiled"] == 0
    made(*arrays())
    assert counters["compiled"] == 1 and counters["written"] == 1
    made(*arrays(T=100))
    made(*[np.asfortranarray(x) for x in arrays()])
    made(*arrays(), initial_state=np.zeros((1, 2, 8, 8), np.float32),
         output_final_state=True)
    # Another object for the same spec shares its kernels.
    deltac.recurrence(SPEC.format("keys"))(*arrays())
    assert counters["compiled"] == 1 and counters["read"] == 0
    made(*arrays(K=16))
    made(*arrays(dtype=np.float64))
    made.decode(*arrays())
    deltac.recurrence(SPEC.format("keys"), chunk=32)(*arrays())
    assert counters["compiled"] == 5


CHILD = """
import sys
import numpy as np
import deltac
from deltac import _cache
made = deltac.recurrence(sys.argv[1])
rng = np.random.default_rng(0)
x = [rng.standard_normal((1, 3, 2, 8)).astype(np.float32) for _ in range(3)]
print(float(made(*x)[0].sum()), _cache.counters["compiled"],
      _cache.counters["read"], "deltac._compiler" in sys.modules)
"""


def run_child(spec, **environment):
    result = subprocess.run([sys.executable, "-c", CHILD, spec], text=True,
                            capture_output=True,
                            env={**os.environ, **environment})
    return result.returncode, result.stdout.split(), result.stderr


def test_between_processes(tmp_path):
    """Several at once, then one that finds what they left."""
    spec = SPEC.format("processes")
    folder = {"DELTA_CACHE_DIR": str(tmp_path / "cache")}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: run_child(spec, **folder), range(3)))
    assert all(code == 0 for code, _, _ in results), results
    assert len({out[0] for _, out, _ in results}) == 1
    files = [f for f in (tmp_path / "cache").rglob("*") if f.is_file()]
    assert sorted(f.suffix for f in files) == [".bundle", ".facts", ".facts"]
    code, out, _ = run_child(spec, DELTA_STRICT="1", **folder)
    assert code == 0 and out[1:3] == ["0", "1"] and out[0] == results[0][1][0]
    # Bytes that are damaged count as none, and are replaced.
    (bundle,) = [f for f in files if f.suffix == ".bundle"]
    whole = bundle.read_bytes()
    for damage in (b"", whole[:1000], whole[:-1] + bytes([whole[-1] ^ 1])):
        bundle.write_bytes(damage)
        code, out, _ = run_child(spec, **folder)
        assert code == 0 and out[1:3] == ["1", "0"] and out[0] == results[0][1][0]
        assert bundle.read_bytes() == whole


def test_without_the_compiler(tmp_path):
    """A process that finds everything on disk never loads LLVM; facts that are
    damaged, or of another compiler, count as none."""
    folder = {"DELTA_CACHE_DIR": str(tmp_path)}
    spec = SPEC.format("facts")
    assert run_child(spec, **folder)[1][1:3] == ["1", "0"]
    code, out, _ = run_child(spec, **folder)
    assert code == 0 and out[1:] == ["0", "1", "False"]
    for damage in (b"", b"{}", b"0\n{}"):
        for path in tmp_path.rglob("*.facts"):
            path.write_bytes(damage)
        code, out, _ = run_child(spec, **folder)
        assert code == 0 and out[1:] == ["0", "1", "True"]
        assert run_child(spec, **folder)[1][3] == "False"
    assert run_child(spec, LD_LIBRARY_PATH="/nowhere", **folder)[1][3] == "True"
    # What the compiler says of a spec with mistakes is not kept.
    for _ in range(2):
        code, _, errors = run_child(spec.replace("S^T", "S"), **folder)
        assert code == 1 and "SpecError: <spec>:" in errors


def test_strict():
    code, _, errors = run_child(SPEC.format("strict"), DELTA_STRICT="1")
    assert code == 1
    assert ("StrictError: DELTA_STRICT forbids compiling cached_strict with "
            "target cpu, fn forward, D K=8, D V=8, dtype f32") in errors
    assert "call warmup() for these sizes and types first" in errors


def test_strict_after_warmup(monkeypatch, counters):
    monkeypatch.setenv("DELTA_STRICT", "1")
    made = deltac.recurrence(SPEC.format("warm"))
    with pytest.raises(deltac.StrictError):
        made(*arrays())
    made.warmup({"K": 8, "V": 8}, {"K": 8, "V": 16})
    made.warmup({"q": (1, 1, 1, 8), "v": np.zeros((1, 1, 1, 8), np.float16)},
                dtype="float16")
    assert counters["compiled"] == 3
    made(*arrays())
    made(*arrays(V=16))
    made(*arrays(dtype=np.float16))
    with pytest.raises(deltac.StrictError):
        made(*arrays(V=24))
    with pytest.raises(ValueError, match="^dim 'V' has no size; give it as in "):
        made.warmup({"K": 8})


def test_no_disk(monkeypatch, counters):
    monkeypatch.setenv("DELTA_CACHE_DIR", "")
    assert deltac.cache_dir() is None
    deltac.recurrence(SPEC.format("nodisk"))(*arrays())
    assert counters["compiled"] == 1 and counters["written"] == 0


def test_where_it_is(monkeypatch):
    monkeypatch.delenv("DELTA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert deltac.cache_dir() == pathlib.Path("/somewhere/deltac")


def test_folder_that_cannot_be_written(monkeypatch, tmp_path, counters):
    """A cache is a help, not a need: the kernel runs, and it is said once."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DELTA_CACHE_DIR", str(tmp_path / "file" / "below"))
    monkeypatch.setattr(_cache, "_warned", False)
    with pytest.warns(RuntimeWarning, match="compiled kernels cannot be kept"
                      ) as said:
        o, _ = deltac.recurrence(SPEC.format("readonly"))(*arrays())
    assert len(said) == 1
    assert o.shape == (1, 3, 2, 8) and counters["compiled"] == 1


def test_keys():
    """The key has everything that code depends on."""
    options = [("target", "cpu"), ("fn", "forward")]
    key = _cache._key("text", options)
    assert key == _cache._key("text", list(options)) and len(key) == 64
    assert key != _cache._key("text ", options)
    assert key != _cache._key("text", options + [("chunk", "32")])
    from deltac import _compiler
    assert len(_compiler.build_id()) > 40 and "x86" in _compiler.host_cpu() \
        or "aarch64" in _compiler.host_cpu()
