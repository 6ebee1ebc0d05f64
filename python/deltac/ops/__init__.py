# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The operators of the flash-linear-attention library (fla) by name.

The same argument order, defaults and return values: `(o, final_state)`, tokens
`[B, T, H, dim]`, states `[B, H, K, V]` in float32. `chunk_...` goes chunk by
chunk, for training and prefill; `fused_recurrent_...` token by token, for
decoding. What an operator cannot do raises `NotImplementedError` with the
argument's name, an unknown keyword `TypeError`. `deltac.ops.naive` has the same
in plain PyTorch.
"""

from . import naive
from ._delta import (chunk_comba, chunk_delta_rule, chunk_gated_delta_product,
                     chunk_gated_delta_rule, chunk_gdn2, chunk_kda,
                     fused_recurrent_comba, fused_recurrent_delta_rule,
                     fused_recurrent_gated_delta_product,
                     fused_recurrent_gated_delta_rule, fused_recurrent_gdn2,
                     fused_recurrent_kda)
from ._general import (chunk_dplr_delta_rule, chunk_iplr_delta_rule,
                       chunk_rwkv7, fused_mul_recurrent_rwkv7,
                       fused_recurrent_dplr_delta_rule,
                       fused_recurrent_iplr_delta_rule, fused_recurrent_rwkv7)
from ._linear import (chunk_gla, chunk_linear_attn, chunk_retention,
                      chunk_simple_gla, fused_recurrent_gla,
                      fused_recurrent_linear_attn, fused_recurrent_retention,
                      fused_recurrent_simple_gla, retention_decay)

# fla's other names of the same.
chunk_gdn = chunk_gated_delta_rule
fused_recurrent_gdn = fused_recurrent_gated_delta_rule

# Written out, so that type checkers see it.
__all__ = [
    "chunk_comba", "chunk_delta_rule", "chunk_dplr_delta_rule",
    "chunk_gated_delta_product", "chunk_gated_delta_rule", "chunk_gdn",
    "chunk_gdn2", "chunk_gla", "chunk_iplr_delta_rule", "chunk_kda",
    "chunk_linear_attn", "chunk_retention", "chunk_rwkv7",
    "chunk_simple_gla", "fused_mul_recurrent_rwkv7",
    "fused_recurrent_comba", "fused_recurrent_delta_rule",
    "fused_recurrent_dplr_delta_rule",
    "fused_recurrent_gated_delta_product",
    "fused_recurrent_gated_delta_rule", "fused_recurrent_gdn",
    "fused_recurrent_gdn2", "fused_recurrent_gla",
    "fused_recurrent_iplr_delta_rule", "fused_recurrent_kda",
    "fused_recurrent_linear_attn", "fused_recurrent_retention",
    "fused_recurrent_rwkv7", "fused_recurrent_simple_gla", "naive",
    "retention_decay",
]
