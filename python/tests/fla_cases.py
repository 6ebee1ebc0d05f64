# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The dense parametrisations of the tests of fla 0.5.2, in its order: sizes, scale,
gates, options, type. Its cases that differ only in `disable_recompute`, which means
nothing here, are one."""

from .fla import (BF16, F16, F32, LOOSE_GATES, comba, delta, dplr, fused_dplr, gdn,
                  gdn2, gla, iplr, kda, linear, parity, product)

CASES = {
    "dplr": (dplr, [
        (1, 63, 1, 64, 0, 1, -5, 1, 16), (2, 1000, 3, 60, 0, 1, -5, 1, 16),
        (2, 1024, 3, 64, .5, 1, -5, 1, 16), (2, 1024, 4, 100, 0, .1, -5, 1, 16),
        (2, 1024, 4, 100, 0, .1, -.61, 1, 64),
        (2, 1024, 4, 128, .5, 1, None, .1, 16),
        (2, 1024, 4, 128, 0, 10, None, .1, 16),
        (2, 100, 3, 60, 0, 1, None, 1, 32), (2, 200, 3, 64, 0, 1, None, 1, 64)]),
    "parity": (parity, [
        ("standard", 8, 256, 32, 64, BF16, 32),
        ("standard", 8, 256, 32, 64, BF16, 16),
        ("standard", 8, 256, 32, 128, BF16, 32),
        ("standard", 8, 256, 32, 64, F16, 32),
        ("standard", 8, 256, 32, 64, BF16, 64),
        ("saturated", 8, 256, 32, 64, BF16, 32),
        ("rwkv7", 8, 256, 32, 128, BF16, 64),
        # Where fla's bar for dgk is 0.25.
        (-5, 8, 512, 16, 64, BF16, 16), (-5, 8, 512, 16, 64, BF16, 32),
        (-2, 8, 512, 16, 64, BF16, 64), (-.61, 8, 512, 16, 64, BF16, 64)]),
    "fused_dplr": (fused_dplr, [
        (1, 63, 1, 64, 1), (2, 1024, 4, 60, 1), (2, 1024, 8, 100, 1),
        (2, 1024, 8, 128, .1), (4, 2048, 8, 64, .1)]),
    "iplr": (iplr, [
        *(("fused_recurrent", *sizes, F32) for sizes in [
            (1, 63, 1, 64, 1), (2, 1024, 4, 60, 1), (2, 1024, 8, 100, 1),
            (2, 1024, 8, 128, .1), (4, 2048, 8, 64, .1)]),
        *(("chunk", *sizes, F16) for sizes in [
            (1, 63, 1, 64, 1), (2, 500, 3, 60, 1), (2, 1000, 3, 64, .1),
            (2, 1024, 4, 100, 1), (3, 1024, 4, 128, .1), (4, 2048, 8, 64, .1)]),
        *(("chunk", 1, 64, 2, 32, .1, F32, C) for C in (16, 32, 64))]),
    "kda": (kda, [
        *(("chunk", *x) for x in [
            (1, 63, 1, 1, 64, 1, 1, 0, False, False, F16, -5),
            (2, 500, 3, 3, 60, 1, 1, 0, False, False, F16, -5),
            (2, 1000, 3, 3, 64, .1, 1, .5, False, False, F16),
            (3, 1024, 4, 4, 100, 1, .1, 0, False, False, F16),
            (4, 1024, 4, 4, 128, .1, 1, 0, False, False, F16, -5),
            (4, 1024, 4, 4, 128, .1, 1, 0, True, False, F16, -5),
            (2, 1500, 4, 4, 128, .1, 10, 0, False, True, F16),
            (4, 2048, 8, 8, 64, .1, 1, 0, False, True, F16, -5),
            (2, 1024, 2, 4, 64, .1, 1, 0, False, False, F16),
            (2, 1024, 2, 8, 64, .1, 1, 0, False, True, F16),
            (2, 1024, 4, 8, 128, .1, 1, 0, True, True, F16),
            (2, 160, 2, 4, 64, .1, 1, 0, False, True, F16, -5, 32),
            (2, 1024, 2, 4, 64, .1, 1, 0, True, True, BF16, -5),
            (2, 1024, 2, 4, 64, .1, 1, 0, False, True, BF16),
            (2, 160, 2, 4, 64, .1, 1, 0, False, True, BF16, -5, 32),
            (2, 1024, 2, 8, 128, .1, 1, 0, True, True, BF16)]),
        *(("fused_recurrent", *x) for x in [
            (1, 64, 1, 1, 64, 1, 1, 0, False, False, F32),
            (2, 512, 3, 3, 60, 1, 1, 0, False, False, F32),
            (3, 1000, 4, 4, 100, .1, 1, 0, True, False, F32),
            (4, 1024, 4, 4, 128, .1, 1, 0, False, False, F32),
            (2, 512, 2, 4, 60, 1, 1, 0, False, False, F32),
            (2, 1024, 2, 8, 128, .1, 1, 0, True, False, F32)]),
        *(("fused_recurrent", *sizes, 1, 0, True, True, dtype, bound, None,
           A_log, dt_bias) for *sizes, A_log, dt_bias, bound, dtype in [
            (1, 64, 1, 1, 64, 1, True, False, None, F32),
            (2, 256, 2, 2, 64, 1, True, True, None, F32),
            (2, 512, 2, 4, 64, .1, True, True, -5, F16),
            (3, 1000, 2, 8, 128, 1, True, False, None, F16),
            (4, 1024, 4, 4, 128, .1, True, True, -5, F16),
            (1, 64, 1, 1, 64, 1, False, False, -5, F32),
            (2, 256, 2, 4, 64, 1, False, True, -5, F32)]),
        *((form, B, T, H, H, D, None, 1, 0, True, False, dtype, None, None,
           True, True, True, doubled) for form, B, T, H, D, doubled, dtype in [
            ("fused_recurrent", 2, 256, 4, 64, False, F32),
            ("fused_recurrent", 2, 256, 4, 64, True, F32),
            ("fused_recurrent", 1, 512, 3, 60, True, F32),
            ("chunk", 1, 8192, 96, 128, False, BF16),
            ("chunk", 1, 8192, 96, 128, True, BF16),
            ("chunk", 2, 96, 2, 64, True, F16)])]),
    "gdn": (gdn, [
        *(("fused_recurrent", *x) for x in [
            (1, 63, 1, 1, 64, 1, 1, 0, False, F32),
            (2, 500, 4, 4, 60, 1, 1, 0, False, F32),
            (2, 1000, 2, 8, 128, 1, .1, 0, False, F32),
            (3, 1024, 2, 2, 128, .1, 1, 0, False, F32),
            (4, 1024, 3, 3, 128, 1, 10, 0, False, F32),
            (4, 2048, 4, 4, 64, .1, 1, 0, False, F32),
            (2, 1024, 4, 4, 128, 1, .1, 0, False, F16),
            (2, 1024, 4, 8, 128, 1, 10, 0, False, F16)]),
        *(("chunk", *x, F16) for x in [
            (4, 1024, 4, 4, 128, .1, 1, 1.0, False),
            (2, 75, 4, 4, 64, 1, .01, 0, False),
            (2, 500, 3, 3, 60, 1, 1, 0, False),
            (2, 1000, 3, 3, 64, .1, 1, .5, False),
            (3, 1024, 4, 4, 100, 1, .1, 0, False),
            (4, 1024, 4, 4, 128, .1, 1, 0, True),
            (2, 1500, 4, 4, 128, .1, 10, 0, False),
            (4, 2048, 8, 8, 64, .1, 1, 0, False),
            (2, 256, 2, 4, 64, 1, 1, 0, False),
            (2, 512, 2, 8, 64, 1, .1, 0, True),
            (2, 1024, 4, 8, 128, .1, 1, 0, False)]),
        *(("chunk", 1, 64, 2, 4, 32, .1, 1, 0, False, F32, C,
           {**LOOSE_GATES, "dg": .01, "dbeta": .01}) for C in (16, 32, 64)),
        *((form, *sizes, 1, 0, l2, dtype, None, None, True, dt_bias)
          for form, *sizes, dt_bias, l2, dtype in [
            ("chunk", 2, 75, 4, 4, 64, 1, True, True, F16),
            ("chunk", 2, 500, 3, 3, 60, 1, False, False, F16),
            ("chunk", 2, 1000, 3, 3, 64, .1, True, False, F16),
            ("chunk", 3, 1024, 4, 4, 100, 1, True, True, F16),
            ("chunk", 4, 1024, 4, 4, 128, .1, False, True, F16),
            ("chunk", 4, 2048, 8, 8, 64, .1, True, False, F16),
            ("chunk", 2, 256, 2, 4, 64, 1, True, False, F16),
            ("chunk", 2, 512, 1, 4, 64, .1, False, False, F16),
            ("chunk", 2, 512, 2, 8, 64, 1, True, False, F16),
            ("chunk", 2, 1024, 4, 8, 128, .1, True, False, F16),
            ("fused_recurrent", 1, 64, 1, 1, 64, 1, False, True, F32),
            ("fused_recurrent", 2, 256, 2, 2, 64, 1, True, True, F32),
            ("fused_recurrent", 2, 512, 2, 4, 64, .1, True, True, F16),
            ("fused_recurrent", 3, 1000, 2, 8, 128, 1, False, True, F16),
            ("fused_recurrent", 4, 1024, 4, 4, 128, .1, True, True, F16)]),
        *((form, *sizes, 1, 0, l2, dtype, None, None, False, False, True,
           doubled) for form, *sizes, l2, doubled, dtype in [
            ("chunk", 2, 500, 4, 4, 64, 1, False, False, F16),
            ("chunk", 3, 1024, 4, 4, 128, .1, True, True, F16),
            ("chunk", 2, 1024, 4, 8, 128, .1, False, True, F16),
            ("chunk", 4, 2048, 8, 8, 64, .1, True, False, F16),
            ("fused_recurrent", 1, 64, 1, 1, 64, 1, True, False, F32),
            ("fused_recurrent", 2, 512, 2, 4, 64, .1, True, True, F16),
            ("fused_recurrent", 3, 1000, 2, 8, 128, 1, True, True, F16),
            ("fused_recurrent", 4, 1024, 4, 4, 128, .1, True, False, F16)])]),
    "gdn2": (gdn2, [
        *(("chunk", *x) for x in [
            (1, 64, 2, 32, 32, 1, False, False, None, F32),
            (2, 256, 2, 64, 64, .5, True, False, None, F32),
            (2, 100, 3, 64, 64, 1, True, False, None, F16),
            (2, 256, 2, 64, 64, 1, True, True, None, F32),
            (1, 128, 2, 64, 64, 1, True, True, -5, F32)]),
        *(("fused_recurrent", *x) for x in [
            (1, 64, 2, 32, 32, 1, False, False, None, F32),
            (2, 128, 2, 64, 64, .5, False, False, None, F32),
            (2, 100, 3, 64, 64, 1, True, False, None, F32),
            (1, 130, 2, 64, 128, 1, True, False, None, F16),
            (2, 100, 2, 64, 64, 1, True, True, None, F32),
            (2, 100, 2, 64, 64, 1, True, True, None, F32, True, False),
            (1, 128, 2, 64, 64, 1, True, True, -5, F32),
            (2, 100, 2, 64, 64, 1, True, True, -5, F32, False, False),
            (1, 128, 2, 64, 64, 1, True, True, -5, F32, False, True)])]),
    "delta": (delta, [
        (1, 63, 1, 64, 1, False), (2, 100, 4, 60, .1, False),
        (2, 1000, 3, 128, .1, False), (2, 1024, 4, 128, 1, True),
        (3, 2000, 4, 128, .1, False), (4, 2048, 8, 64, .1, False),
        *((1, 64, 2, 32, .1, False, BF16, C) for C in (16, 32, 64))]),
    "comba": (comba, [
        *(("chunk", *x, F16) for x in [
            (1, 63, 1, 64, 1, 1, 0, False), (2, 1000, 3, 60, 1, 1, 0, False),
            (2, 1024, 3, 64, .1, 1, .5, False),
            (2, 1024, 4, 100, 1, .1, 0, False),
            (2, 1024, 4, 128, .1, 1, 0, True),
            (2, 1024, 4, 128, .1, 1, .5, False),
            (2, 1024, 4, 128, .1, 10, 0, False),
            (4, 2048, 8, 64, .1, 1, 0, True)]),
        *(("fused_recurrent", *x) for x in [
            (1, 63, 1, 64, 1, 1, 0, False, F32),
            (2, 1024, 4, 60, 1, 1, 0, False, F32),
            (2, 1024, 8, 128, 1, .1, 0, False, F32),
            (2, 1024, 8, 128, .1, 1, 0, False, F32),
            (2, 1024, 8, 128, 1, 10, 0, False, F32),
            (4, 2048, 8, 64, .1, 1, 0, False, F32),
            (2, 1024, 8, 128, 1, .1, 0, False, F16),
            (2, 1024, 8, 128, 1, 10, 0, False, F16)])]),
    "product": (product, [
        (1, 63, 1, 64, .1, 1, 1), (2, 200, 3, 60, .1, 1, 1),
        (2, 1000, 4, 64, .1, 2, .1, .5), (2, 1024, 4, 64, 1, 2, 1, 0, True),
        (2, 1024, 6, 100, 1, 2, 10), (4, 1500, 8, 128, .1, 3, 1, .5),
        (2, 2048, 8, 128, 1, 3, 1), (2, 2048, 8, 128, 1, 3, 1, 0, True),
        # Without gates.
        (1, 63, 1, 64, .1, 1), (2, 200, 3, 60, .1, 1), (2, 1000, 4, 64, .1, 2),
        (2, 1024, 4, 64, 1, 2, None, 0, True), (2, 1024, 6, 100, 1, 2),
        (4, 1500, 8, 128, .1, 3), (2, 2048, 8, 128, 1, 3),
        (2, 2048, 8, 128, 1, 3, None, 0, True)]),
    "linear": (linear, [
        *(("linear_attn", "chunk", *x, F16) for x in [
            (1, 63, 1, 64, 64, None), (2, 500, 3, 60, 60, None),
            (2, 1000, 3, 128, 128, None), (3, 1000, 4, 64, 64, None),
            (2, 2048, 4, 256, 256, None)]),
        *(("linear_attn", "fused_recurrent", *x) for x in [
            (1, 64, 1, 64, 64, None, F32), (2, 512, 4, 60, 60, None, F32),
            (3, 1024, 8, 128, 128, 1, F32), (3, 1024, 8, 128, 128, .1, F32),
            (3, 1024, 8, 128, 128, None, F32),
            (2, 2048, 8, 256, 256, None, F16)]),
        *(("retention", "chunk", *x, None, F16) for x in [
            (1, 63, 1, 64, 64), (2, 500, 3, 60, 60), (2, 1000, 3, 100, 100),
            (2, 1000, 3, 128, 256), (3, 1024, 4, 256, 512),
            (4, 2048, 4, 64, 128)]),
        *(("retention", "chunk", 1, 64, 2, 64, 64, None, F16, C)
          for C in (16, 32, 64)),
        ("retention", "fused_recurrent", 2, 256, 4, 64, 64, None, F16),
        ("retention", "fused_recurrent", 2, 1024, 4, 128, 256, None, F16)]),
    "gla": (gla, [
        *(("chunk_gla", B, T, H, D, None, norm, F16) for B, T, H, D, norm in [
            (1, 63, 1, 64, 1), (2, 1024, 4, 60, 1), (2, 1024, 8, 128, .1),
            (2, 1024, 8, 128, 1), (2, 1024, 8, 128, 10), (4, 2048, 8, 64, 1),
            (1, 128, 4, 256, 1), (1, 64, 2, 320, 1)]),
        ("chunk_gla", 1, 128, 4, 512, None, 1, BF16),
        *(("fused_recurrent_gla", B, T, H, D, None, norm, dtype)
          for B, T, H, D, norm, dtype in [
            (1, 63, 1, 64, 1, F32), (2, 1024, 4, 60, 1, F32),
            (2, 1024, 8, 128, .1, F32), (2, 1024, 8, 128, 1, F32),
            (2, 1024, 8, 128, 10, F32), (4, 2048, 8, 64, 1, F32),
            (2, 1024, 8, 128, .1, F16), (2, 1024, 8, 128, 10, F16)]),
        *(("chunk_simple_gla", *x, F16) for x in [
            (1, 63, 1, 64, 1, 1), (2, 500, 3, 60, 1, 1),
            (1, 1000, 4, 128, 1, .1), (2, 1000, 4, 128, .1, 1),
            (3, 1000, 4, 128, .1, 10), (4, 2048, 8, 64, .1, 1)]),
        *(("chunk_simple_gla", 1, 64, 2, 64, .1, 1, F16, C)
          for C in (16, 32, 64)),
        *(("fused_recurrent_simple_gla", *x) for x in [
            (1, 63, 1, 64, 1, 1, F32), (2, 500, 4, 60, 1, 1, F32),
            (2, 1024, 8, 128, 1, .1, F32), (2, 1024, 8, 128, .1, 1, F32),
            (2, 1024, 8, 128, 1, 10, F32), (4, 2048, 8, 64, .1, 1, F32),
            (2, 1024, 8, 128, 1, .1, F16), (2, 1024, 8, 128, 1, 10, F16)])]),
}
