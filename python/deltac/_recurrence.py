# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Recurrences as Python callables."""

import os
import sys
import threading
from collections.abc import Mapping

from . import _arrays, _cache, _runtime
from ._errors import CompileError, Error, SpecError, nearest
from ._spec import Signature, describe, find_text, make_signature

_DEVICES = (None, "cpu", "cuda", "sim")
_FNS = ("forward", "decode")
_PRECISIONS = (None, "bf16", "f16", "tf32", "bf16x3", "f32", "f64")
_LONG = {"f32": "float32", "f64": "float64", "f16": "float16",
         "bf16": "bfloat16"}
_SHORT = {"float32": "f32", "float64": "f64", "float16": "f16",
          "bfloat16": "bf16", "f32": "f32", "f64": "f64", "f16": "f16",
          "bf16": "bf16"}

# Replaced by torch.compiler.is_compiling when torch is there.
_is_compiling = bool


def dtype_name(dtype):
    """"f32" for float32 of NumPy or torch, or for a name; a TypeError else."""
    text = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", None)
    if text is None:
        text = str(getattr(dtype, "name", dtype))
    short = _SHORT.get(text.removeprefix("torch."))
    if short is None:
        raise TypeError(f"dtype {dtype!r} is not known; expected float32, "
                        "bfloat16, float16 or float64")
    return short


def _check_choice(name, value, choices):
    if value not in choices:
        wanted = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"argument '{name}' is {value!r}; expected {wanted}")


def cuda_target(index=0):
    """The newest target that a CUDA device runs."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability(index)
        return "sm_90a" if (major, minor) == (9, 0) else "sm_80"
    return "sm_90a"


class Specialization:
    """A recurrence for fixed sizes, types and target: what code is made from."""

    def __init__(self, text, name, options):
        self.text, self.name, self.options = text, name, options

    def _emit(self, artefact, options, explain=False):
        from . import _compiler
        try:
            return _compiler.emit(self.text, artefact, options, explain)
        except Error as error:
            if type(error) is Error:
                raise CompileError(str(error)) from None
            raise

    def explain(self):
        """The compiler's report, as `delta-compile --explain` prints it."""
        return self._emit(None, self.options, explain=True)[1]

    @property
    def asm(self):
        """The compiler's stages and artefacts by name, made when asked for."""
        return Artefacts(self)


class Artefacts(Mapping):
    """`asm["chunk"]`, `asm["llvm"]`, `asm["ptx"]`...: texts, and bytes of code.

    `ptx` and `cubin` of a recurrence that runs on the CPU are those for sm_90a.
    """

    _TEXTS = ("step", "events", "chunk", "mapped", "llvm", "header", "ptx")
    _BYTES = ("obj", "so", "cubin")

    def __init__(self, specialization):
        self._of = specialization

    def __getitem__(self, name):
        if name not in self._TEXTS + self._BYTES:
            raise KeyError(f"'{name}' is no stage or artefact"
                           + (nearest(str(name), self._TEXTS + self._BYTES)
                              or "; there are " + ", ".join(self)))
        options = self._of.options
        wants_gpu = name in ("ptx", "cubin")
        target = dict(options).get("target", "cpu")
        if wants_gpu and target == "cpu":
            options = [(key, value) for key, value in options
                       if key != "target"] + [("target", "sm_90a")]
        elif name in ("header", "obj", "so") and target != "cpu":
            options = [(key, value) for key, value in options
                       if key != "target"] + [("target", "cpu")]
        data = self._of._emit(name, options)[0]
        return data.decode() if name in self._TEXTS else data

    def __iter__(self):
        return iter(self._TEXTS + self._BYTES)

    def __len__(self):
        return len(self._TEXTS) + len(self._BYTES)


class Callable:
    """What recurrences and loaded bundles have in common: the call."""

    def __init__(self, signature, target=""):
        self.signature = signature
        self._target = target
        self._make_caller()
        adopt_torch()

    def _make_caller(self):
        signature = self.signature
        self._caller = _runtime.Caller(
            [(arg.name, arg.axes) for arg in signature.inputs],
            signature.state.axes,
            [(arg.name, arg.axes) for arg in signature.outs],
            [arg.name for arg in signature.attrs], self._target, self._build,
            _arrays.convert)

    @property
    def name(self):
        """The recurrence's name."""
        return self.signature.name

    def __call__(self, *args, **kwargs):
        """Run the recurrence over the tokens.

        Ins and params by position, in declared order, or by name; attrs,
        `initial_state` and `output_final_state` by name. Arrays are NumPy's or
        torch's, of one kind and on one device, in fla's layouts: tokens
        `[B, T, H, dim]`, `[B, T, H]` for scalars, `[B, T, n, H, dim]` for
        micro-steps, params `[H, dim]`, the state `[B, H, K, V]`. Any strides
        are taken.

        Returns the outs and the final state, which is None unless
        `output_final_state` is true, as one tuple. Outs have the type of the
        first vector input, states are float32, or float64 with float64 inputs.
        """
        if _is_compiling():
            return self._traced(args, kwargs)
        result = self._caller.call(args, kwargs)
        if result is None:
            result = self._watched(*self._caller.bind(args, kwargs))
        return result

    def _traced(self, args, kwargs):
        raise NotImplementedError(
            f"'{self.name}' was loaded from a bundle, which torch.compile does "
            "not take; make it with deltac.recurrence")

    def _watched(self, inputs, initial_state, attrs, output_final_state):
        raise NotImplementedError(
            f"'{self.name}' was loaded from a bundle: there are no gradients "
            "through it, nor is it seen by torch's modes; call it under "
            "torch.no_grad(), or make it with deltac.recurrence")

    @property
    def stats(self):
        """The simulator's counters of the last call on it, as JSON."""
        return self._caller.stats


class Recurrence(Callable):
    """A recurrence, compiled for the types and sizes it is called with.

    Made by `deltac.recurrence`. `spec` is its text, `signature` what it takes.
    """

    def __init__(self, spec, *, fn="forward", device=None, target=None,
                 precision=None, chunk=None, mapping=None):
        _check_choice("fn", fn, _FNS)
        _check_choice("device", device, _DEVICES)
        _check_choice("precision", precision, _PRECISIONS)
        _check_choice("chunk", chunk, (None, 16, 32, 64))
        if target is not None and target not in ("cpu", "sm_80", "sm_90a"):
            raise ValueError(f"argument 'target' is {target!r}; expected "
                             "'cpu', 'sm_80' or 'sm_90a'")
        if target is not None and device is not None \
                and (target == "cpu") != (device == "cpu"):
            raise ValueError(f"argument 'target' is {target!r}, which device "
                             f"'{device}' does not run")
        self.spec, self.place = find_text(spec)
        self.fn, self.device = fn, device
        self._chosen_target = target
        self._extra = [(key, str(value)) for key, value in
                       (("precision", precision), ("chunk", chunk),
                        ("mapping", mapping)) if value is not None]
        signature = describe(self.spec, self.place)
        self._latest = None
        #: What identifies it besides its text: torch's operators get it.
        self.options = ";".join(
            [f"fn={fn}"] + ([f"device={device}"] if device else [])
            + ([f"target={target}"] if target else [])
            + [f"{key}={value}" for key, value in self._extra])
        self._trainings = {}
        self._sibling = None
        super().__init__(signature, "sim" if device == "sim" else "")

    def __repr__(self):
        inputs = ", ".join(arg.name for arg in self.signature.inputs)
        return f"<deltac.Recurrence {self.name}({inputs}), {self.options}>"

    def __reduce__(self):
        return _remake, (self.spec, self.options)

    @property
    def decode(self):
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

    def _make_options(self, dtypes, dims, target, fn=None):
        """The compiler's options for inputs of those types."""
        inputs = self.signature.inputs
        if "f64" in dtypes and any(dtype != "f64" for dtype in dtypes):
            doubled = inputs[dtypes.index("f64")].name
            other = next(i for i, dtype in enumerate(dtypes) if dtype != "f64")
            raise TypeError(
                f"argument '{inputs[other].name}' has dtype "
                f"{_LONG[dtypes[other]]}, but "
                f"'{doubled}' is float64; either all arrays are float64 or none")
        options = [("target", target), ("fn", fn or self.fn)]
        options += [("D", f"{name}={size}") for name, size in
                    sorted(dims.items())]
        main = self._main_dtype(dtypes)
        options.append(("dtype", main))
        if main != "f64":
            options += [("dtype", f"{arg.name}={dtype}")
                        for arg, dtype in zip(inputs, dtypes)]
        return options + self._extra

    def _main_dtype(self, dtypes):
        """The type of the outs: that of the first vector."""
        for arg, dtype in zip(self.signature.inputs, dtypes):
            if arg.kind == "in" and arg.is_vector:
                return dtype
        return dtypes[0]

    def _build(self, dtypes, dims, kind, index):
        if self.device is not None and kind != self.device:
            raise ValueError(
                f"the arrays are on device '{kind}', but '{self.name}' was made "
                f"for device '{self.device}'")
        options = self._make_options(dtypes, dims,
                                     self._choose_target(kind, index))
        self._latest = options
        return _cache.kernel(self.spec, self.name, options, self.fn, kind,
                             index)

    def _read_shapes(self, shapes):
        """Dims and types from sizes by dim, and from shapes or arrays by
        argument."""
        dims, dtypes = {}, {}
        by_name = {arg.name: arg for arg in
                   self.signature.inputs + self.signature.of_kind("state")}
        by_name["initial_state"] = self.signature.state
        for name, given in shapes.items():
            if name in ("B", "T", "H"):
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
                if axis not in ("B", "T", "H"):
                    if dims.setdefault(axis, int(size)) != size:
                        raise ValueError(
                            f"argument '{name}' has shape {shape}, but dim "
                            f"'{axis}' is {dims[axis]}")
        return dims, dtypes

    def _types(self, dtype, known):
        """A type for every input, from one for all or a dict by name."""
        if isinstance(dtype, Mapping):
            known = {**known, **{key: dtype_name(value)
                                 for key, value in dtype.items()}}
            dtype = None
        default = dtype_name(dtype if dtype is not None else "float32")
        return tuple(known.get(arg.name, default)
                     for arg in self.signature.inputs)

    def specialize(self, *, dtype=None, device=None, target=None, **shapes):
        """The recurrence for fixed sizes (`K=64, V=64`) and types.

        `dtype` is one for all arrays or a dict by argument (default: float32).
        Dims that are not given leave out the stages that need them.
        """
        dims, dtypes = self._read_shapes(shapes)
        device = device or self.device or "cpu"
        _check_choice("device", device, _DEVICES)
        target = target or self._choose_target(device, 0)
        return Specialization(
            self.spec, self.name,
            self._make_options(self._types(dtype, dtypes), dims, target))

    def _current(self):
        if self._latest is None:
            raise ValueError(
                f"'{self.name}' has not been compiled yet; call it, warm it up, "
                "or use specialize(K=64, V=64)")
        return Specialization(self.spec, self.name, self._latest)

    def explain(self, **shapes):
        """What the compiler found and chose, as text.

        For the sizes and types given as to `specialize`, or those compiled
        last; without any, as far as it goes without sizes.
        """
        if not shapes and self._latest is not None:
            return self._current().explain()
        return self.specialize(**shapes).explain()

    @property
    def asm(self):
        """Stages and artefacts of what was compiled last; see `Artefacts`."""
        return self._current().asm

    def warmup(self, *shapes, dtype=None, device=None, gradients=False):
        """Compile now, so that calls need not; also under `DELTA_STRICT=1`.

        Every argument is a dict of sizes by dim (`{"K": 64, "V": 64}`), of
        shapes by argument, or of arrays, which also give their types. With
        `gradients` also the kernels for training with torch.
        """
        device = device or self.device or "cpu"
        _check_choice("device", device, _DEVICES)
        for given in shapes:
            dims, dtypes = self._read_shapes(given)
            missing = [dim for dim in self.signature.dims if dim not in dims]
            if missing:
                raise ValueError(
                    f"dim '{missing[0]}' has no size; give it as in "
                    f"warmup({{'{missing[0]}': 64}})")
            with _cache.warming():
                types = self._types(dtype, dtypes)
                self._build(types, dims, device, 0)
                if gradients:
                    import torch
                    from ._gradient import find
                    find(self, types, dims, torch.device(device))

    def save(self, path, *, fns=None, targets=("cpu",), dtype=None, **shapes):
        """Write a bundle: kernels of several functions and targets in a file.

        `deltac.load`, `delta-run` and the C API run it without the compiler.
        """
        dims, dtypes = self._read_shapes(shapes)
        options = self._make_options(self._types(dtype, dtypes), dims, "cpu")
        options = [(key, value) for key, value in options
                   if key not in ("target", "fn")]
        options += [("target", ",".join(targets)),
                    ("fn", ",".join(fns or (self.fn,)))]
        with _cache.warming():
            data, _ = _cache.bundle_bytes(self.spec, self.name, options)
        temporary = f"{os.fspath(path)}.{os.getpid()}"
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)

    # --- torch ---------------------------------------------------------------

    def _traced(self, args, kwargs):
        """The call as torch.compile sees it: argument binding in Python, then
        one operator."""
        from ._torch import call_traced
        return call_traced(self, args, kwargs)

    def _watched(self, inputs, initial_state, attrs, output_final_state):
        from ._torch import call_operator
        return call_operator(self, inputs, initial_state, attrs,
                             output_final_state)


class LoadedBundle(Callable):
    """A bundle as a callable: sizes and types are those it was made for."""

    def __init__(self, bundle, path, fn=None, device=None):
        _check_choice("device", device, _DEVICES)
        self._bundle, self.path, self.device = bundle, path, device
        fns = list(dict.fromkeys(kernel["fn"] for kernel in bundle.kernels))
        if fn is None:
            fn = "forward" if "forward" in fns else fns[0]
        if fn not in fns:
            raise ValueError(f"argument 'fn' is {fn!r}, but '{path}' has "
                             + ", ".join(fns))
        self.fn = fn
        self.dims = dict(bundle.dims)
        self._dtypes = tuple(arg["dtype"] for arg in bundle.args
                             if arg["kind"] in ("in", "param"))
        self._loaded = {}
        super().__init__(make_signature(bundle.name, bundle.args, self.dims),
                         "sim" if device == "sim" else "")

    def __repr__(self):
        return (f"<deltac bundle {self.name} of '{self.path}', fn={self.fn}, "
                + ", ".join(f"{k}={v}" for k, v in self.dims.items()) + ">")

    @property
    def kernels(self):
        """The kernels in the file, as dicts."""
        return list(self._bundle.kernels)

    def _build(self, dtypes, dims, kind, index):
        for name, size in dims.items():
            if self.dims.get(name, size) != size:
                raise ValueError(
                    f"dim '{name}' is {size}, but the bundle was compiled for "
                    f"{self.dims[name]}")
        for arg, given, made in zip(self.signature.inputs, dtypes,
                                    self._dtypes):
            if given != made:
                raise TypeError(
                    f"argument '{arg.name}' has dtype {_LONG[given]}, but "
                    f"the bundle was compiled for {_LONG[made]}")
        if self.device is not None and kind != self.device:
            raise ValueError(f"the arrays are on device '{kind}', but the "
                             f"bundle was loaded for '{self.device}'")
        key = (kind, index)
        if key not in self._loaded:
            self._loaded[key] = _runtime.Kernel(
                self._bundle, _cache.device(kind, index), self.fn)
        return self._loaded[key]


_lock = threading.Lock()
_registry = {}


def get(text, options):
    """The recurrence of a text and an options text, one for each pair."""
    found = _registry.get((text, options))
    if found is None:
        made = _remake(text, options)
        with _lock:
            found = _registry.setdefault((text, options), made)
    return found


def _remake(text, options):
    chosen = dict(part.split("=", 1) for part in options.split(";"))
    if "chunk" in chosen:
        chosen["chunk"] = int(chosen["chunk"])
    return Recurrence(text, **chosen)


def recurrence(spec, *, fn="forward", device=None, target=None, precision=None,
               chunk=None, mapping=None):
    """A callable from a spec: a library name, a file, or the text itself.

    fn: "forward", chunk by chunk, or "decode", token by token.
    device: "cpu", "cuda" or "sim", the simulator; None: where the arrays are.
    target: "sm_80" or "sm_90a"; None: the newest that the device runs.
    precision: what products are computed in, "f32", "tf32", "bf16"...;
        None: by the arrays' types.
    chunk, mapping: choices pinned, as in `delta-compile`.

    A spec with mistakes is a `deltac.SpecError`, which shows them.
    """
    made = Recurrence(spec, fn=fn, device=device, target=target,
                      precision=precision, chunk=chunk, mapping=mapping)
    with _lock:
        _registry.setdefault((made.spec, made.options), made)
    return made


def load(path, *, fn=None, device=None):
    """A callable from a bundle that `save` or `delta-compile` wrote."""
    with open(path, "rb") as file:
        data = file.read()
    bundle = _runtime.read_bundle(data, os.fspath(path))
    return LoadedBundle(bundle, os.fspath(path), fn, device)


class Support:
    """An answer with its reason: true or false, and unpacks to both."""

    def __init__(self, supported, reason):
        self.supported, self.reason = supported, reason

    def __bool__(self):
        return self.supported

    def __iter__(self):
        return iter((self.supported, self.reason))

    def __repr__(self):
        return f"Support({self.supported}, {self.reason!r})"


def is_supported(spec, *, fn="forward", device="cpu", target=None, dtype=None,
                 precision=None, chunk=None, **shapes):
    """Whether a recurrence can run for these sizes and types, and why not.

    Compiles it, or finds it compiled, for `device`; only "cuda" needs the
    device to be there. The answer is a `Support`: `ok, reason = ...`.
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
        return Support(True, "")
    except (Error, SpecError, ValueError, TypeError) as error:
        return Support(False, str(error))


def adopt_torch():
    """Let torch see recurrences when the program uses it."""
    if "torch" in sys.modules:
        from . import _torch  # noqa: F401  (registers itself)


__all__ = ["Recurrence", "LoadedBundle", "Signature", "Specialization",
           "Support", "dtype_name", "get", "is_supported", "load", "recurrence"]
