# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Small PTX kernels around single instructions, and exact rounding.

`Ptx` writes a kernel in which every thread loads its operands, executes a few
lines and stores the results, and runs it in the simulator. `rounded` rounds a
fraction to a floating format in any direction: the oracle for arithmetic.
"""

import math
import os
from fractions import Fraction

import numpy as np

HEAD = ".version 8.0\n.target sm_90\n.address_size 64\n"
BYTES = {"u8": 1, "s8": 1, "b8": 1, "u16": 2, "s16": 2, "b16": 2, "f16": 2,
         "bf16": 2, "u32": 4, "s32": 4, "b32": 4, "f32": 4, "u64": 8,
         "s64": 8, "b64": 8, "f64": 8, "pred": 4}
NUMPY = {"u8": np.uint8, "s8": np.int8, "b8": np.uint8, "u16": np.uint16,
         "s16": np.int16, "b16": np.uint16, "f16": np.uint16,
         "bf16": np.uint16, "u32": np.uint32, "s32": np.int32,
         "b32": np.uint32, "f32": np.float32, "u64": np.uint64,
         "s64": np.int64, "b64": np.uint64, "f64": np.float64,
         "pred": np.uint32}


def register(type):
    """The type of a register that holds values of `type`."""
    if type in ("f32", "f64", "pred"):
        return type
    return f"b{8 * max(BYTES[type], 2)}"


class Ptx:
    """Runs kernels in delta-ptx-sim; `tool` and `folder` are fixtures' values.

    With `isa="base"` arithmetic is that for any processor.
    """

    def __init__(self, tool, folder, isa=""):
        self.tool, self.folder, self.count = tool, folder, 0
        self.environment = {**os.environ, "DELTA_SIM_ISA": isa}

    def run(self, text, args, grid="1", block="32", expect=0, more=()):
        """Runs the only kernel of `text`.

        Arrays in `args` are inputs, (shape, dtype) tuples are outputs, and
        other values are passed on as text. Returns the outputs in order and
        the completed process.
        """
        self.count += 1
        base = self.folder / f"k{self.count}"
        source = base.with_suffix(".ptx")
        source.write_text(text)
        options, saved = [], []
        for i, arg in enumerate(args):
            if isinstance(arg, np.ndarray):
                path = f"{base}_{i}.npy"
                np.save(path, arg)
                options.append(f"--arg={path}")
            elif isinstance(arg, tuple):
                shape, dtype = arg
                path = f"{base}_{i}.npy"
                dims = ",".join(map(str, shape))
                options += [f"--arg=out:{dims}:{dtype}", f"--save={i}:{path}"]
                saved.append(path)
            else:
                options.append(f"--arg={arg}")
        done = self.tool("delta-ptx-sim", source, f"--grid={grid}",
                         f"--block={block}", *options, *more, expect=expect,
                         env=self.environment)
        return [np.load(path) for path in saved], done

    @staticmethod
    def array(type, values):
        """Values of a type; integers may be negative or bits."""
        if isinstance(values, np.ndarray):
            return values.astype(NUMPY[type])
        if type[0] in "usb":
            bits = 8 * BYTES[type]
            raw = [int(v) & ((1 << bits) - 1) for v in values]
            return np.array(raw, f"u{bits // 8}").view(NUMPY[type])
        return np.array(values).astype(NUMPY[type])

    def lanes(self, code, ins, outs, setup="", block=32, regs=""):
        """Runs `code` in every thread of one CTA.

        `ins` are (type, values) for registers %a0, %a1...; predicates are
        loaded from values that are not zero. `outs` are the types of %d0...,
        returned as arrays over the threads. `setup` goes before the kernel.
        """
        params = [f".param .u64 i{i}" for i in range(len(ins))]
        params += [f".param .u64 o{i}" for i in range(len(outs))]
        body = []
        for i, (type, _) in enumerate(ins):
            body.append(f".reg .{register(type)} %a{i};")
        for i, type in enumerate(outs):
            body.append(f".reg .{register(type)} %d{i};")
        body += [".reg .b64 %at, %pt; .reg .b32 %tid, %pv;", regs,
                 "mov.u32 %tid, %tid.x;"]
        # Linear thread number for blocks of one dimension.
        args = []
        for i, (type, values) in enumerate(ins):
            size = BYTES[type]
            args.append(self.array(type, values))
            body += [f"ld.param.u64 %pt, [i{i}];",
                     f"mad.wide.u32 %at, %tid, {size}, %pt;"]
            if type == "pred":
                body += ["ld.global.u32 %pv, [%at];",
                         f"setp.ne.u32 %a{i}, %pv, 0;"]
            else:
                load = type if type[0] in "us" else f"b{8 * size}"
                body.append(f"ld.global.{load} %a{i}, [%at];")
        body.append(code)
        for i, type in enumerate(outs):
            size = BYTES[type]
            args.append(((block,), {"s8": "i8", "s16": "i16", "s32": "i32",
                                    "s64": "i64", "b8": "u8", "b16": "u16",
                                    "b32": "u32", "b64": "u64", "f16": "u16",
                                    "bf16": "u16", "pred": "u32"}
                         .get(type, type)))
            body += [f"ld.param.u64 %pt, [o{i}];",
                     f"mad.wide.u32 %at, %tid, {size}, %pt;"]
            if type == "pred":
                body += [f"selp.u32 %pv, 1, 0, %d{i};",
                         "st.global.u32 [%at], %pv;"]
            else:
                body.append(f"st.global.b{8 * size} [%at], %d{i};")
        text = (f"{HEAD}{setup}\n.visible .entry kernel("
                + ", ".join(params) + ")\n{\n" + "\n".join(body) + "\nret;\n}\n")
        return self.run(text, args, block=str(block))[0]


# --- Floating formats ----------------------------------------------------------

# Bits of precision, least and greatest exponent of a normal number.
FORMATS = {"f16": (11, -14, 15), "bf16": (8, -126, 127), "tf32": (11, -126, 127),
           "f32": (24, -126, 127), "f64": (53, -1022, 1023)}


def rounded(x, format, mode="rn"):
    """The fraction x rounded to a format, as a float; infinity on overflow.

    Modes: rn (ties to even), rna (ties away), rz, rm, rp.
    """
    precision, least, greatest = FORMATS[format]
    if x == 0:
        return 0.0
    sign, x = (-1, -x) if x < 0 else (1, x)
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    if Fraction(2) ** exponent > x:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, least) - precision + 1)
    quotient, rest = divmod(x, unit)
    half = unit / 2
    up = {"rn": rest > half or (rest == half and quotient & 1),
          "rna": rest >= half, "rz": False,
          "rm": sign < 0 and rest > 0, "rp": sign > 0 and rest > 0}[mode]
    value = (quotient + up) * unit
    largest = (2 - Fraction(2) ** (1 - precision)) * Fraction(2) ** greatest
    if value > largest:
        away = mode in ("rn", "rna") or (mode == "rm") == (sign < 0) and \
            mode in ("rm", "rp")
        return sign * (math.inf if away else float(largest))
    return sign * float(value)


def bits(value, format):
    """The bits of a float that the format can hold; NaN is the canonical one."""
    if format == "f64":
        return int(np.float64(value).view(np.uint64))
    if format in ("f32", "tf32"):
        if math.isnan(value):
            return 0x7fffffff
        return int(np.float32(value).view(np.uint32))
    if math.isnan(value):
        return 0x7fff
    if format == "f16":
        return int(np.float16(value).view(np.uint16))
    return int(np.float32(value).view(np.uint32)) >> 16


def value(bits, format):
    """The float of a format's bits."""
    bits = int(bits)
    if format == "f64":
        return float(np.uint64(bits).view(np.float64))
    if format in ("f32", "tf32"):
        return float(np.uint32(bits).view(np.float32))
    if format == "f16":
        return float(np.uint16(bits).view(np.float16))
    return float(np.uint32(bits << 16).view(np.float32))


def interesting(format, count, seed):
    """Bit patterns: zeros, subnormals, borders, infinities, NaN, random ones."""
    width = {"f16": 16, "bf16": 16, "f32": 32, "tf32": 32, "f64": 64}[format]
    mantissa = {"f16": 10, "bf16": 7, "f32": 23, "tf32": 23, "f64": 52}[format]
    rng = np.random.default_rng(seed)
    infinity = ((1 << (width - 1)) - (1 << mantissa))
    one = bits(1.0, format)
    special = [0, 1, (1 << mantissa) - 1, 1 << mantissa, infinity - 1, infinity,
               infinity + (1 << (mantissa - 1)), one, one + 1, one - 1]
    special += [s | (1 << (width - 1)) for s in special]
    patterns = []
    while len(patterns) < count:
        if rng.random() < 0.3:
            patterns.append(int(special[rng.integers(len(special))]))
        elif rng.random() < 0.5:
            # Exponents near one another, so that sums round.
            e = (one >> mantissa) + int(rng.integers(-6, 7))
            patterns.append((int(rng.integers(2)) << (width - 1))
                            | (e << mantissa)
                            | int(rng.integers(1 << mantissa)))
        else:
            patterns.append(int(rng.integers(1 << 32)) << max(0, width - 32)
                            & ((1 << width) - 1)
                            | int(rng.integers(1 << min(width, 32))))
    return patterns
