# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A Qwen3-Next model of `transformers` on deltac's kernels.

    python examples/qwen3_next.py [--tokens 1024] [--layers 4] [--new 16]

Three of four layers of Qwen3-Next are Gated DeltaNet. On a CPU transformers runs
them in plain PyTorch; here its two functions are replaced by operators of
`deltac.ops`: one that goes chunk by chunk, for the prompt, and one that goes
token by token, for generation. The model is small and has random weights. Both
must give the same logits and the same tokens; then both are timed.
"""

import argparse
import contextlib
import sys
import time

import torch
from transformers import Qwen3NextConfig, Qwen3NextForCausalLM, logging
from transformers.models.qwen3_next import modeling_qwen3_next as modeling

from deltac import ops


def grouped(operator):
    """The operator for fewer query and key heads than value heads."""
    def call(query, key, value, g, beta, initial_state=None,
             output_final_state=False, use_qk_l2norm_in_kernel=False, **_):
        repeats = value.shape[2] // query.shape[2]
        if repeats > 1:
            query = query.repeat_interleave(repeats, dim=2)
            key = key.repeat_interleave(repeats, dim=2)
        return operator(query, key, value, g=g, beta=beta,
                        initial_state=initial_state,
                        output_final_state=output_final_state,
                        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel)
    return call


@contextlib.contextmanager
def kernels_of_deltac():
    """The model's functions are deltac's inside."""
    replacements = {
        "torch_chunk_gated_delta_rule": ops.chunk_gated_delta_rule,
        "torch_recurrent_gated_delta_rule":
            ops.fused_recurrent_gated_delta_rule}
    originals = {name: getattr(modeling, name) for name in replacements}
    for name, operator in replacements.items():
        setattr(modeling, name, grouped(operator))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(modeling, name, original)


def make_model(layers):
    torch.manual_seed(0)
    config = Qwen3NextConfig(
        vocab_size=2048, hidden_size=256, intermediate_size=512,
        num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        head_dim=64, linear_num_value_heads=8, linear_num_key_heads=4,
        linear_key_head_dim=64, linear_value_head_dim=64, num_experts=4,
        num_experts_per_tok=2, moe_intermediate_size=128,
        shared_expert_intermediate_size=128, mlp_only_layers=[])
    return Qwen3NextForCausalLM(config).eval()


def prefill_seconds(model, prompt, repeats=5):
    model(prompt)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        model(prompt)
        times.append(time.perf_counter() - start)
    return min(times)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--new", type=int, default=16,
                        help="tokens to generate")
    options = parser.parse_args()

    logging.set_verbosity_error()  # that it is slow without kernels is the point
    model = make_model(options.layers)
    prompt = torch.randint(0, model.config.vocab_size, (1, options.tokens))
    generate = dict(max_new_tokens=options.new, do_sample=False,
                    pad_token_id=0)
    expected = model(prompt).logits
    tokens = model.generate(prompt[:, :64], **generate)
    before = prefill_seconds(model, prompt)
    with kernels_of_deltac():
        logits = model(prompt).logits
        same = torch.equal(model.generate(prompt[:, :64], **generate), tokens)
        after = prefill_seconds(model, prompt)

    difference = ((logits - expected).abs().max() / expected.abs().max()).item()
    print(f"logits: largest difference {difference:.1e} of the largest logit")
    print(f"{options.new} generated tokens: "
          + ("the same" if same else "different"))
    print(f"prefill of {options.tokens} tokens: {1e3 * before:.1f} ms with "
          f"transformers' functions, {1e3 * after:.1f} ms with deltac's")
    return 0 if difference < 1e-4 and same else 1


if __name__ == "__main__":
    sys.exit(main())
