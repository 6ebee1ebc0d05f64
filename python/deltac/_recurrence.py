# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Recurrences as Python callables."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import _cache, _facts, _runtime, _work
from ._callable import (DEVICES, LONG, Callable, check_choice, dtype_name, lock,
                        registry)
from ._errors import CompileError, Error, SpecError, nearest
from ._spec import Signature, describe, find_text

_FNS = ("forward", "decode")
_PRECISIONS = (None, "bf16", "f16", "tf32", "bf16x3", "f32", "f64")


def cuda_target(index: int = 0) -> str:
    """The newest target that a CUDA device runs."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability(index)
        return "sm_90a" if (major, minor) == (9, 0) else "sm_80"
    return "sm_90a"


class Specialization:
    """A recurrence for fixed sizes, types and target: what code is made from."""

    def __init__(self, text: str, name: str,
                 options: list[tuple[str, str]]) -> None:
        self.text, self.name, self.options = text, name, options

    def _emit(self, artefact, options, explain=False):
        compiler = _facts.load_compiler()
        try:
            return compiler.emit(self.text, artefact, options, explain)
        except Error as error:
            if type(error) is Error:
                raise CompileError(str(error)) from None
            raise

    def explain(self) -> str:
        """The compiler's report, as `delta-compile --explain` prints it."""
        return self._emit(None, self.options, explain=True)[1]

    @property
    def asm(self) -> Artefacts:
        """The compiler's stages and artefacts by name, made when asked for."""
        return Artefacts(self)


class Artefacts(Mapping[str, Any]):
    """`asm["chunk"]`, `asm["llvm"]`, `asm["ptx"]`...: texts, and bytes of code.

    `ptx` and `cubin` of a recurrence that runs on the CPU are those for sm_90a.
    """

    _TEXTS = ("step", "events", "chunk", "mapped", "llvm", "header", "ptx")
    _BYTES = ("obj", "so", "cubin")

    def __init__(self, specialization: Specialization) -> None:
        self._of = specialization

    def __getitem__(self, name: str) -> Any:
        if name not in self._TEXTS + self._BYTES:
            raise KeyError(f"'{name}' is no stage or artefact"
                           + (nearest(str(name), self._TEXTS + self._BYTES)
                              or "; there are " + ", ".join(self)))
        options = self._of.options
        wants_gpu = name in ("ptx", "cubin")
        target = dict(options).get("target", "cpu")
        if wants_gpu and target == "cpu":
            options = _retarget(options, "sm_90a")
        elif name in ("header", "obj", "so") and target != "cpu":
            options = _retarget(options, "cpu")
        data = self._of._emit(name, options)[0]
        return data.decode() if name in self._TEXTS else data

    def __iter__(self) -> Iterator[str]:
        return iter(self._TEXTS + self._BYTES)

    def __len__(self) -> int:
        return len(self._TEXTS) + len(self._BYTES)


def _retarget(options, target):
    """The same for another target: how much there is to do was for the first."""
    return [(key, value) for key, value in options
            if key not in ("target", "assume")] + [("target", target)]


class Recurrence(Callable):
    """A recurrence, compiled for the types and sizes it is called with.

    Made by `deltac.recurrence`. `spec` is its text, `signature` what it takes.
    """

    def __init__(self, spec: str | os.PathLike[str], *, fn: str = "forward",
                 device: str | None = None, target: str | None = None,
                 precision: str | None = None, chunk: int | None = None,
                 mapping: str | None = None, assume: str | None = None,
                 save_budget: int | None = None) -> None:
        check_choice("fn", fn, _FNS)
        check_choice("device", device, DEVICES)
        check_choice("precision", precision, _PRECISIONS)
        check_choice("chunk", chunk, (None, 16, 32, 64))
        if target not in (None, "cpu", *_facts.GPU_TARGETS):
            raise ValueError(f"argument 'target' is {target!r}; expected "
                             "'cpu', 'sm_80' or 'sm_90a'")
        if target is not None and device is not None \
                and (target == "cpu") != (device == "cpu"):
            raise ValueError(f"argument 'target' is {target!r}, which device "
                             f"'{device}' does not run")
        self.spec, self.place = find_text(spec)
        if save_budget is not None and (
                isinstance(save_budget, bool) or not isinstance(save_budget, int)
                or save_budget < 1):
            raise ValueError(f"argument 'save_budget' is {save_budget!r}; "
                             "expected None or a number of bytes for every "
                             "token and head")
        self.fn, self.device, self.save_budget = fn, device, save_budget
        self._chosen_target = target
        self._extra = [(key, str(value)) for key, value in
                       (("precision", precision), ("chunk", chunk),
                        ("mapping", mapping), ("assume", assume))
                       if value is not None]
        # Only the fused kernels, which have chunks of 16 tokens, are chosen by
        # how much there is to do.
        self._has_classes = assume is None and chunk in (None, 16)
        signature = describe(self.spec, self.place)
        self._latest = None
        #: What identifies it besides its text: torch's operators get it.
        self.options = ";".join(
            [f"fn={fn}"] + ([f"device={device}"] if device else [])
            + ([f"target={target}"] if target else [])
            + [f"{key}={value}" for key, value in self._extra]
            + ([f"save_budget={save_budget}"] if save_budget else []))
        self._sibling = None
        super().__init__(signature, "sim" if device == "sim" else "")

    def __repr__(self):
        inputs = ", ".join(arg.name for arg in self.signature.inputs)
        return f"<deltac.Recurrence {self.name}({inputs}), {self.options}>"

    def __reduce__(self):
        return _remake, (self.spec, self.options)

    @property
    def decode(self) -> Recurrence:
        """The same recurrence as its recurrent form: token by token, for a few
        of them at a time."""
        if self._sibling is None:
            self._sibling = get(self.spec, self.options.replace(
                "fn=forward", "fn=decode"))
        return self._sibling

    # --- Compiling -----------------------------------------------------------

    def _choose_target(self, kind, index):
        if kind == "cpu":
            return "cpu"
        if self._chosen_target:
            return self._chosen_target
        return "sm_90a" if kind == "sim" else cuda_target(index)

    def _works(self, target, fn):
        """The classes of calls that have a kernel of a function each."""
        if target == "cpu" or fn == "decode" or not self._has_classes:
            return [_work.ANY]
        facts = _facts.compiler(_cache.cache_dir())
        return _work.classes(facts["multiprocessors"][target])

    def _work_of(self, target, fn, sizes):
        """The class of calls with sizes of B, T, H as far as they are known:
        without B and H, as many heads as the device holds."""
        if "B" not in sizes and "H" not in sizes:
            return _work.ANY
        return _work.find(self._works(target, fn),
                          sizes.get("B", 1) * sizes.get("H", 1), sizes.get("T"))

    def _make_options(self, dtypes, dims, target, fn=None, work=_work.ANY):
        """The compiler's options for inputs of those types."""
        inputs = self.signature.inputs
        if "f64" in dtypes and any(dtype != "f64" for dtype in dtypes):
            doubled = inputs[dtypes.index("f64")].name
            other = next(i for i, dtype in enumerate(dtypes) if dtype != "f64")
            raise TypeError(
                f"argument '{inputs[other].name}' has dtype "
                f"{LONG[dtypes[other]]}, but "
                f"'{doubled}' is float64; either all arrays are float64 or none")
        options = [("target", target), ("fn", fn or self.fn)]
        if work.assume:
            options.append(("assume", work.assume))
        options += [("D", f"{name}={size}") for name, size in
                    sorted(dims.items())]
        main = self._main_dtype(dtypes)
        options.append(("dtype", main))
        if main != "f64":
            options += [("dtype", f"{arg.name}={dtype}")
                        for arg, dtype in zip(inputs, dtypes)]
        return options + self._extra

    def _build(self, dtypes, dims, kind, index, heads, tokens):
        if self.device is not None and kind != self.device:
            raise ValueError(
                f"the arrays are on device '{kind}', but '{self.name}' was made "
                f"for device '{self.device}'")
        target = self._choose_target(kind, index)
        work = _work.find(self._works(target, self.fn), heads, tokens)
        options = self._make_options(dtypes, dims, target, work=work)
        self._latest = options
        kernel = _cache.kernel(self.spec, self.name, options, self.fn, kind,
                               index)
        return kernel, work.heads, work.tokens

    def _choose_saves(self):
        """The option that says how often a state is saved."""
        # Every chunk's state is the fastest to read again.
        return (("save-budget", str(self.save_budget)) if self.save_budget
                else ("save-every", "1"))

    def _compile_training(self, dtypes, dims, target, work):
        """Options of the two kernels of a gradient: a forward that saves
        states, and the backward that reads them."""
        backward = self._make_options(dtypes, dims, target, "backward", work) + [
            self._choose_saves()]
        # The forward saves what the backward has been made to read.
        _, bundle = _cache.bundle_bytes(self.spec, self.name, backward)
        (made,) = [kernel["options"] for kernel in bundle.kernels]
        forward = [option for option in
                   self._make_options(dtypes, dims, target, "forward", work)
                   if option[0] != "chunk"]
        forward += [("chunk", str(made["chunk"])),
                    ("save-every", str(made["save_every"]))]
        return forward, backward

    def _load_training(self, dtypes, dims, kind, index, heads, tokens):
        """The same, loaded."""
        target = self._choose_target(kind, index)
        work = _work.find(self._works(target, "forward"), heads, tokens)
        options = self._compile_training(dtypes, dims, target, work)
        return *(_cache.kernel(self.spec, self.name, chosen, fn, kind, index)
                 for chosen, fn in zip(options, ("forward", "backward"))), work

    def _read_shapes(self, shapes):
        """Sizes of dims, types, and sizes of B, T, H, as far as sizes by name,
        and shapes or arrays by argument, have them."""
        dims, dtypes, sizes = {}, {}, {}
        by_name = {arg.name: arg for arg in
                   self.signature.inputs + self.signature.of_kind("state")}
        by_name["initial_state"] = self.signature.state
        for name, given in shapes.items():
            if name in ("B", "T", "H"):
                sizes[name] = int(given)
                continue
            if name in self.signature.dims:
                dims[name] = int(given)
                continue
            arg = by_name.get(name)
            if arg is None:
                known = [*self.signature.dims, *by_name]
                raise ValueError(f"'{name}' is neither a dim nor an argument"
                                 + (nearest(name, known)
                                    or "; expected " + ", ".join(known)))
            shape = tuple(getattr(given, "shape", given))
            if len(shape) != len(arg.axes):
                raise ValueError(
                    f"argument '{name}' has shape {shape}; expected "
                    f"({', '.join(arg.axes)})")
            if hasattr(given, "dtype"):
                dtypes[name] = dtype_name(given.dtype)
            for axis, size in zip(arg.axes, shape):
                if axis in ("B", "T", "H"):
                    sizes.setdefault(axis, int(size))
                else:
                    if dims.setdefault(axis, int(size)) != size:
                        raise ValueError(
                            f"argument '{name}' has shape {shape}, but dim "
                            f"'{axis}' is {dims[axis]}")
        return dims, dtypes, sizes

    def _types(self, dtype, known):
        """A type for every input, from one for all or a dict by name."""
        if isinstance(dtype, Mapping):
            known = {**known, **{key: dtype_name(value)
                                 for key, value in dtype.items()}}
            dtype = None
        default = dtype_name(dtype if dtype is not None else "float32")
        return tuple(known.get(arg.name, default)
                     for arg in self.signature.inputs)

    def specialize(self, *, dtype: Any = None, device: str | None = None,
                   target: str | None = None, **shapes: Any) -> Specialization:
        """The recurrence for fixed sizes (`K=64, V=64`) and types.

        `dtype` is one for all arrays or a dict by argument (default: float32).
        Dims that are not given leave out the stages that need them. `B`, `H`
        and `T` say for which calls a GPU kernel is chosen; without them, for as
        many heads as a device holds.
        """
        dims, dtypes, sizes = self._read_shapes(shapes)
        device = device or self.device or "cpu"
        check_choice("device", device, DEVICES)
        target = target or self._choose_target(device, 0)
        return Specialization(
            self.spec, self.name,
            self._make_options(self._types(dtype, dtypes), dims, target,
                               work=self._work_of(target, self.fn, sizes)))

    def _current(self):
        if self._latest is None:
            raise ValueError(
                f"'{self.name}' has not been compiled yet; call it, warm it up, "
                "or use specialize(K=64, V=64)")
        return Specialization(self.spec, self.name, self._latest)

    def explain(self, **shapes: Any) -> str:
        """What the compiler found and chose, as text.

        For the sizes and types given as to `specialize`, or those compiled
        last; without any, as far as it goes without sizes.
        """
        if not shapes and self._latest is not None:
            return self._current().explain()
        return self.specialize(**shapes).explain()

    @property
    def asm(self) -> Artefacts:
        """Stages and artefacts of what was compiled last; see `Artefacts`."""
        return self._current().asm

    def warmup(self, *shapes: Mapping[str, Any], dtype: Any = None,
               device: str | None = None, gradients: bool = False) -> None:
        """Compile now, so that calls need not; also under `DELTA_STRICT=1`.

        Every argument is a dict of sizes by dim (`{"K": 64, "V": 64}`), of
        shapes by argument, or of arrays, which also give their types. With
        `gradients` also the kernels for training with torch. GPU kernels are
        compiled for calls with as many heads and tokens as `B`, `H` and `T` say;
        without `B` and `H` for all, which are several kernels.
        """
        device = device or self.device or "cpu"
        check_choice("device", device, DEVICES)
        for given in shapes:
            dims, dtypes, sizes = self._read_shapes(given)
            missing = [dim for dim in self.signature.dims if dim not in dims]
            if missing:
                raise ValueError(
                    f"dim '{missing[0]}' has no size; give it as in "
                    f"warmup({{'{missing[0]}': 64}})")
            target = self._choose_target(device, 0)
            types = self._types(dtype, dtypes)

            def works(fn):
                if "B" in sizes or "H" in sizes:
                    return [self._work_of(target, fn, sizes)]
                return self._works(target, fn)

            with _cache.warming():
                for work in works(self.fn):
                    self._build(types, dims, device, 0, work.heads[1],
                                work.tokens[1])
                for work in works("forward") if gradients else ():
                    import torch
                    from ._gradient import find
                    find(self, types, {**dims, "B": 1, "H": work.heads[1],
                                       "T": work.tokens[1]},
                         torch.device("cpu" if device == "sim" else device))

    def save(self, path: str | os.PathLike[str], *,
             fns: Sequence[str] | None = None,
             targets: Sequence[str] = ("cpu",), dtype: Any = None,
             gradients: bool = False, **shapes: Any) -> None:
        """Write a bundle: kernels of several functions and targets in a file.

        `deltac.load`, `delta-run` and the C API run it without the compiler.
        With `gradients` it also has the kernels for training. GPU kernels are
        chosen for `B`, `H` and `T` where they are given; else for as many heads
        as a device holds.
        """
        dims, dtypes, sizes = self._read_shapes(shapes)
        types = self._types(dtype, dtypes)
        fns = list(fns or (self.fn,))
        options = [(key, value) for key, value in
                   self._make_options(types, dims, "cpu")
                   if key not in ("target", "fn")]
        if gradients:
            fns.append("backward")
            options.append(self._choose_saves())
        if self._has_classes and ("B" in sizes or "H" in sizes) \
                and any(target != "cpu" for target in targets):
            options.append(("assume", ",".join(
                f"{axis}={size}" for axis, size in sizes.items())))
        options += [("target", ",".join(targets)), ("fn", ",".join(fns))]
        with _cache.warming():
            data, _ = _cache.bundle_bytes(self.spec, self.name, options)
        temporary = f"{os.fspath(path)}.{os.getpid()}"
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)


def get(text, options):
    """The recurrence of a text and an options text, one for each pair."""
    found = registry.get((text, options))
    if found is None:
        if text.startswith("bundle "):
            raise Error(f"a graph runs the {text}, which has not been loaded in "
                        "this process; deltac.load() its file first")
        made = _remake(text, options)
        with lock:
            found = registry.setdefault((text, options), made)
    return found


def _remake(text, options):
    chosen = dict(part.split("=", 1) for part in options.split(";"))
    for name in ("chunk", "save_budget"):
        if name in chosen:
            chosen[name] = int(chosen[name])
    return Recurrence(text, **chosen)


def recurrence(spec: str | os.PathLike[str], *, fn: str = "forward",
               device: str | None = None, target: str | None = None,
               precision: str | None = None, chunk: int | None = None,
               mapping: str | None = None, assume: str | None = None,
               save_budget: int | None = None) -> Recurrence:
    """A callable from a spec: a library name, a file, or the text itself.

    fn: "forward", chunk by chunk, or "decode", token by token.
    device: "cpu", "cuda" or "sim", the simulator; None: where the arrays are.
    target: "sm_80" or "sm_90a"; None: the newest that the device runs.
    precision: what products are computed in, "f32", "tf32", "bf16"...;
        None: by the arrays' types.
    chunk, mapping: choices pinned, as in `delta-compile`.
    assume: for how much work kernels are chosen, "B=1,H=8", as in
        `delta-compile`; None: GPU kernels by the B, H and T of a call.
    save_budget: for gradients, bytes that saved states may take for every token
        and head; what is not saved is computed again. None: the state of every
        chunk is saved, which is fastest.

    A spec with mistakes is a `deltac.SpecError`, which shows them.
    """
    made = Recurrence(spec, fn=fn, device=device, target=target,
                      precision=precision, chunk=chunk, mapping=mapping,
                      assume=assume, save_budget=save_budget)
    with lock:
        registry.setdefault((made.spec, made.options), made)
    return made


class Support:
    """An answer with its reason: true or false, and unpacks to both."""

    def __init__(self, supported: bool, reason: str) -> None:
        self.supported, self.reason = supported, reason

    def __bool__(self) -> bool:
        return self.supported

    def __iter__(self) -> Iterator[Any]:
        return iter((self.supported, self.reason))

    def __repr__(self):
        return f"Support({self.supported}, {self.reason!r})"


def is_supported(spec: Recurrence | str | os.PathLike[str], *,
                 fn: str = "forward", device: str = "cpu",
                 target: str | None = None, dtype: Any = None,
                 precision: str | None = None, chunk: int | None = None,
                 gradients: bool = False, **shapes: Any) -> Support:
    """Whether a recurrence can run for these sizes and types, and why not.

    Compiles it, or finds it compiled, for `device`; only "cuda" needs the
    device to be there. With `gradients` also its training. The answer is a
    `Support`: `ok, reason = ...`.
    """
    try:
        made = spec if isinstance(spec, Recurrence) else Recurrence(
            spec, fn=fn, device=device, target=target, precision=precision,
            chunk=chunk)
        with _cache.warming():
            if device == "cuda":
                _cache.device("cuda")
            chosen = made.specialize(dtype=dtype, device=device, target=target,
                                     **shapes)
            _, bundle = _cache.bundle_bytes(made.spec, made.name,
                                            chosen.options)
            if device == "cpu":
                _runtime.Kernel(bundle, _cache.device("cpu"), made.fn)
            if gradients:
                dims, dtypes, sizes = made._read_shapes(shapes)
                made_for = dict(chosen.options)["target"]
                pair = made._compile_training(
                    made._types(dtype, dtypes), dims, made_for,
                    made._work_of(made_for, "forward", sizes))
                for options in pair:
                    _cache.bundle_bytes(made.spec, made.name, options)
        return Support(True, "")
    except (Error, SpecError, ValueError, TypeError) as error:
        return Support(False, str(error))


__all__ = ["Recurrence", "Signature", "Specialization",
           "Support", "get", "is_supported", "recurrence"]
