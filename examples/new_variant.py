# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A recurrence that no library has, from ten lines to a trained model.

    python examples/new_variant.py [--steps 300]

The variant: every token chooses how fast each key channel fades, corrects what
its key holds, and the output also looks at what was there *before* the correction.
The example compiles it, compares values and gradients with a loop in plain PyTorch,
trains a small model with it to recall values by their keys in context, and
generates token by token with the recurrent form.
"""

import argparse
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

import deltac

SURPRISE = deltac.recurrence("""
recurrence surprise {
  in    q: K, k: K, v: V, fade: K
  in    beta: scalar
  param weight: V
  attr  scale = K ^ -0.5
  state S: K x V

  let key = l2norm(k)
  S = diag(sigmoid(fade)) * S
  let before = S^T * key
  S = S + sigmoid(beta) * key * (v - before)^T
  out o = scale * S^T * q + weight .* before
}
""")


def plain(q, k, v, fade, beta, weight):
    """The same as a loop."""
    S = q.new_zeros(*q.shape[:1], *q.shape[2:], v.shape[-1])
    outs = []
    for t in range(q.shape[1]):
        norm = k[:, t].square().sum(-1, keepdim=True) + 1e-6
        key = k[:, t] * norm.rsqrt()
        S = fade[:, t].sigmoid().unsqueeze(-1) * S
        before = torch.einsum("bhkv,bhk->bhv", S, key)
        write = beta[:, t, :, None].sigmoid() * (v[:, t] - before)
        S = S + key.unsqueeze(-1) * write.unsqueeze(-2)
        read = torch.einsum("bhkv,bhk->bhv", S, q[:, t])
        outs.append(q.shape[-1] ** -0.5 * read + weight * before)
    return torch.stack(outs, 1)


def compare():
    """Largest differences of values and gradients, relative to the largest."""
    B, T, H, K, V = 2, 100, 2, 32, 24
    shapes = [(B, T, H, K), (B, T, H, K), (B, T, H, V), (B, T, H, K), (B, T, H),
              (H, V)]
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    o = SURPRISE(*inputs)[0]
    expected = plain(*inputs)
    cotangent = torch.randn_like(o)
    pairs = [(o, expected), *zip(torch.autograd.grad(o, inputs, cotangent),
                                 torch.autograd.grad(expected, inputs,
                                                     cotangent))]
    return [((x - y).abs().max() / y.abs().max()).item() for x, y in pairs]


class Layer(nn.Module):
    """The recurrence between projections, with a short convolution so that a
    token sees the one before it."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm = nn.RMSNorm(width)
        self.shift = nn.Parameter(torch.tensor(0.0))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.beta = nn.Linear(width, heads)
        self.fade = nn.Linear(width, width)
        nn.init.constant_(self.fade.bias, 4.0)  # forget slowly at first
        self.weight = nn.Parameter(torch.zeros(heads, width // heads))
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x):
        y = self.norm(x)
        previous = F.pad(y, (0, 0, 1, 0))[:, :-1]
        mixed = torch.lerp(y, previous, self.shift.sigmoid())
        # Keys from the token before, values and queries from this one.
        q, _, v = self.qkv(y).chunk(3, -1)
        k = self.qkv(mixed).chunk(3, -1)[1]
        q, k, v, fade = (z.unflatten(-1, (self.heads, -1))
                         for z in (q, k, v, self.fade(y)))
        o, _ = SURPRISE(q, k, v, fade, self.beta(y), self.weight)
        return x + self.out(o.flatten(-2))


class Model(nn.Module):
    def __init__(self, symbols, width=64, heads=2, layers=2):
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.layers = nn.Sequential(*[Layer(width, heads)
                                      for _ in range(layers)])
        self.head = nn.Linear(width, symbols)

    def forward(self, tokens):
        return self.head(self.layers(self.embedding(tokens)))


def recall_batch(batch, pairs=8, symbols=32):
    """key value key value ... then keys again: the model must say the values."""
    half = symbols // 2
    keys = torch.rand(batch, half).argsort(1)[:, :pairs]
    values = torch.randint(half, symbols, (batch, pairs))
    order = torch.rand(batch, pairs).argsort(1)
    context = torch.stack([keys, values], -1).flatten(1)
    asked, answers = keys.gather(1, order), values.gather(1, order)
    queries = torch.stack([asked, answers], -1).flatten(1)
    return torch.cat([context, queries], 1), answers, 2 * pairs


def train(steps, symbols=32):
    model = Model(symbols)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    start, losses = time.perf_counter(), []
    for step in range(steps):
        tokens, answers, begin = recall_batch(64)
        logits = model(tokens)[:, begin::2]
        loss = F.cross_entropy(logits.flatten(0, 1), answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 50 == 49 or step == 0:
            accuracy = (logits.argmax(-1) == answers).float().mean().item()
            print(f"  step {step + 1:4d}  loss {loss.item():.3f}  recalled "
                  f"{100 * accuracy:.0f} %", flush=True)
    print(f"  {(time.perf_counter() - start) / steps * 1e3:.0f} ms a step")
    return losses


@torch.no_grad()
def decode():
    """Token by token, the state handed on, against all tokens at once."""
    B, T, H, K = 1, 20, 2, 32
    q, k, v, fade = torch.randn(4, B, T, H, K)
    beta, weight = torch.randn(B, T, H), torch.randn(H, K)
    whole, _ = SURPRISE(q, k, v, fade, beta, weight)
    state, outs = None, []
    for t in range(T):
        now = slice(t, t + 1)
        o, state = SURPRISE.decode(q[:, now], k[:, now], v[:, now],
                                   fade[:, now], beta[:, now], weight,
                                   initial_state=state,
                                   output_final_state=True)
        outs.append(o)
    return (torch.cat(outs, 1) - whole).abs().max().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    torch.manual_seed(0)

    print(SURPRISE.explain().rstrip())
    errors = compare()
    print(f"against a loop in PyTorch: values {errors[0]:.1e}, gradients "
          f"{max(errors[1:]):.1e}")
    difference = decode()
    print(f"token by token: largest difference {difference:.1e}")
    print("training to recall values by their keys:")
    losses = train(options.steps)
    fine = max(errors) < 1e-4 and difference < 1e-4 and losses[-1] < losses[0]
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
