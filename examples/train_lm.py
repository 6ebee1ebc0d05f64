# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A small language model, character by character, trained on the CPU in minutes.

    python examples/train_lm.py --layer gdn [--implementation both] [--steps 500]

Layers of RWKV-7 (`rwkv7`), Gated DeltaNet (`gdn`) or Kimi Delta Attention (`kda`)
learn from the first chapters of Pride and Prejudice. `deltac` computes the
recurrence with the operators of `deltac.ops`, `naive` with the loops in plain
PyTorch that define them; `both` trains the same model on the same batches with
each, and compares the losses. Writes the loss curve as an SVG picture and continues
a sentence token by token.
"""

import argparse
import math
import pathlib
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

from deltac import ops
from deltac.ops import naive

TEXT = pathlib.Path(__file__).with_name("text") / "pride_and_prejudice.txt"
WINDOW = 4  # tokens that a short convolution sees


# --- The recurrence, three times two -----------------------------------------
# Each takes the state and returns it. `form` is "chunk" for many tokens,
# "fused_recurrent" for one.

def mix_gdn(implementation, form, q, k, v, gate, beta, A_log, dt_bias, state):
    """One decay a head."""
    if implementation == "deltac":
        return getattr(ops, f"{form}_gated_delta_rule")(
            q=q, k=k, v=v, g=gate, beta=beta, initial_state=state,
            output_final_state=True, use_qk_l2norm_in_kernel=True,
            use_gate_in_kernel=True, A_log=A_log, dt_bias=dt_bias,
            use_beta_sigmoid_in_kernel=True)
    return naive.naive_recurrent_gated_delta_rule(
        naive.naive_l2norm(q), naive.naive_l2norm(k), v,
        naive.naive_gate(gate, A_log, dt_bias), beta.sigmoid(),
        initial_state=state, output_final_state=True)


def mix_kda(implementation, form, q, k, v, gate, beta, A_log, dt_bias, state):
    """One decay a channel."""
    if implementation == "deltac":
        return getattr(ops, f"{form}_kda")(
            q=q, k=k, v=v, g=gate, beta=beta, initial_state=state,
            output_final_state=True, use_qk_l2norm_in_kernel=True,
            use_gate_in_kernel=True, A_log=A_log, dt_bias=dt_bias.flatten(),
            use_beta_sigmoid_in_kernel=True)
    return naive.naive_recurrent_kda(
        naive.naive_l2norm(q), naive.naive_l2norm(k), v,
        naive.naive_gate(gate, A_log, dt_bias.flatten()), beta.sigmoid(),
        initial_state=state, output_final_state=True)


def mix_rwkv7(implementation, form, r, w, k, v, a, b, state):
    """One decay a channel, and a removal key of its own."""
    op = (getattr(ops, f"{form}_rwkv7") if implementation == "deltac"
          else naive.naive_recurrent_rwkv7)
    return op(r, w, k, v, a, b, scale=1.0, initial_state=state,
              output_final_state=True)


# --- Layers ------------------------------------------------------------------

def shift(x, before, tokens):
    """x with the `tokens` tokens that came before it, and those that the next
    call needs."""
    if before is None:
        before = x.new_zeros(x.shape[0], tokens, x.shape[2])
    x = torch.cat([before, x], 1)
    return x, x[:, x.shape[1] - tokens:]


class DeltaLayer(nn.Module):
    """Gated DeltaNet and KDA: short convolutions, gates, a normalised readout."""

    def __init__(self, width, heads, per_channel):
        super().__init__()
        size = width // heads
        self.heads, self.per_channel = heads, per_channel
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.taps = nn.Parameter(torch.randn(3 * width, 1, WINDOW) / 4)
        self.gate = nn.Linear(width, width if per_channel else heads,
                              bias=False)
        self.beta = nn.Linear(width, heads, bias=False)
        self.A_log = nn.Parameter(torch.linspace(0, 2, heads))
        self.dt_bias = nn.Parameter(
            torch.full((heads, size) if per_channel else (heads,), -3.0))
        self.norm = nn.RMSNorm(size)
        self.readout = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x, implementation, form, state):
        window, S = state or (None, None)
        mixed, window = shift(self.qkv(x), window, WINDOW - 1)
        mixed = F.conv1d(mixed.mT, self.taps, groups=mixed.shape[-1]).mT
        q, k, v = (y.unflatten(-1, (self.heads, -1))
                   for y in F.silu(mixed).chunk(3, -1))
        gate, mix = self.gate(x), mix_gdn
        if self.per_channel:
            gate, mix = gate.unflatten(-1, (self.heads, -1)), mix_kda
        o, S = mix(implementation, form, q, k, v, gate, self.beta(x),
                   self.A_log, self.dt_bias, S)
        o = self.norm(o).flatten(-2) * F.silu(self.readout(x))
        return self.out(o), (window, S)


class RWKV7Layer(nn.Module):
    """RWKV-7's time mixing: interpolations with the token before."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.lerp = nn.Parameter(torch.full((6, width), 0.5))
        self.r, self.k, self.v, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(4))

        def low_rank(bias):
            return nn.Sequential(nn.Linear(width, 32, bias=False), nn.Tanh(),
                                 Biased(32, width, bias))
        self.w, self.a = low_rank(-2.0), low_rank(0.0)
        self.readout = low_rank(0.0)
        self.removal = nn.Parameter(torch.ones(width))
        self.bonus = nn.Parameter(torch.zeros(heads, width // heads))
        self.norm = nn.GroupNorm(heads, width, eps=1e-3)

    def forward(self, x, implementation, form, state):
        window, S = state or (None, None)
        shifted, window = shift(x, window, 1)
        before = shifted[:, :-1]
        xr, xw, xk, xv, xa, xo = (torch.lerp(x, before, t) for t in self.lerp)
        r, w, k, v, rate = self.r(xr), self.w(xw), self.k(xk), self.v(xv), \
            self.a(xa).sigmoid()
        kk = k * self.removal
        k = k * rate
        r, w, k, v, kk, rate = (y.unflatten(-1, (self.heads, -1))
                                for y in (r, w, k, v, kk, rate))
        kk = F.normalize(kk, dim=-1)
        o, S = mix_rwkv7(implementation, form, r,
                         -math.exp(-0.5) * w.sigmoid(), k, v, -kk, kk * rate,
                         S)
        o = self.norm(o.flatten(-2).flatten(0, 1)).view_as(x)
        o = o + ((r * k * self.bonus).sum(-1, keepdim=True) * v).flatten(-2)
        return self.out(o * self.readout(xo).sigmoid()), (window, S)


class Biased(nn.Linear):
    """A linear layer whose bias starts at a number."""

    def __init__(self, inputs, outputs, bias):
        super().__init__(inputs, outputs)
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, bias)


def make_layer(name, width, heads):
    if name == "rwkv7":
        return RWKV7Layer(width, heads)
    return DeltaLayer(width, heads, per_channel=name == "kda")


class Block(nn.Module):
    def __init__(self, layer, width, heads):
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2))
        self.mix = make_layer(layer, width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(),
                                 nn.Linear(3 * width, width))

    def forward(self, x, *how):
        mixed, state = self.mix(self.norms[0](x), *how)
        x = x + mixed
        return x + self.mlp(self.norms[1](x)), state


class Model(nn.Module):
    """`implementation` may be changed at any time."""

    def __init__(self, symbols, layer, implementation, width=128, heads=4,
                 layers=2):
        super().__init__()
        self.implementation = implementation
        self.embedding = nn.Embedding(symbols, width)
        self.blocks = nn.ModuleList(Block(layer, width, heads)
                                    for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, symbols, bias=False)

    def forward(self, tokens, states=None, form="chunk"):
        x, after = self.embedding(tokens), []
        for block, state in zip(self.blocks, states or [None] * len(self.blocks)):
            x, state = block(x, self.implementation, form, state)
            after.append(state)
        return self.head(self.norm(x)), after


# --- Training ----------------------------------------------------------------

class Bar:
    """A line that fills; on a file a line now and then."""

    def __init__(self, name, steps):
        self.name, self.steps, self.start = name, steps, time.perf_counter()
        self.live = sys.stderr.isatty()

    def update(self, step, loss):
        every = 1 if self.live else max(1, self.steps // 8)
        if step % every and step != self.steps:
            return
        seconds = time.perf_counter() - self.start
        filled = 30 * step // self.steps
        left = seconds / step * (self.steps - step)
        print(f"{self.name:7s}|{'█' * filled}{'·' * (30 - filled)}| "
              f"{step}/{self.steps}  loss {loss:.3f}  {seconds:.0f} s, "
              f"{left:.0f} s left ", file=sys.stderr, flush=True,
              end="\r" if self.live and step < self.steps else "\n")


def train(model, train_tokens, test_tokens, options):
    """Losses of all steps, and (step, held-out loss) now and then."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate,
                                  betas=(0.9, 0.98), weight_decay=0.1)
    warm = min(20, options.steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(
        (step + 1) / warm,
        0.1 + 0.45 * (1 + math.cos(math.pi * step / options.steps))))
    draws = torch.Generator().manual_seed(options.seed)
    marks = {options.steps * i // 8 for i in range(1, 9)
             if options.steps >= 200 or i == 8}
    bar, losses, held_out = Bar(model.implementation, options.steps), [], []
    for step in range(1, options.steps + 1):
        starts = torch.randint(len(train_tokens) - options.tokens,
                               (options.batch,), generator=draws)
        rows = torch.stack([train_tokens[s:s + options.tokens + 1]
                            for s in starts.tolist()])
        logits, _ = model(rows[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.update(step, losses[-1])
        if step in marks:
            held_out.append((step, evaluate(model, test_tokens)))
    return losses, held_out


@torch.no_grad()
def evaluate(model, tokens):
    """Nats a character over text that training has not seen, as one sequence."""
    logits, _ = model(tokens[None, :-1])
    return F.cross_entropy(logits[0], tokens[1:]).item()


@torch.no_grad()
def sample(model, characters, prompt, count, seed=0):
    """Continues the prompt: all of it chunk by chunk, then token by token from
    the states, by the recurrent form."""
    draws = torch.Generator().manual_seed(seed)
    index = {character: i for i, character in enumerate(characters)}
    logits, states = model(torch.tensor([[index[c] for c in prompt]]))
    text = prompt
    for _ in range(count):
        chances = (logits[0, -1] / 0.7).softmax(-1)
        token = torch.multinomial(chances, 1, generator=draws)
        text += characters[token.item()]
        logits, states = model(token[None], states, "fused_recurrent")
    return text


# --- What is shown -----------------------------------------------------------

COLOURS = {"naive": "#d97706", "deltac": "#2563eb"}


def draw(curves, title, path):
    """The loss curves as an SVG picture; the first drawn is the widest, so that
    equal curves are both seen."""
    width, height, left, top, right, bottom = 640, 360, 56, 40, 16, 44
    steps = max(len(losses) for losses, _ in curves.values())
    most = max(max(losses) for losses, _ in curves.values())
    least = min(min(losses) for losses, _ in curves.values())
    high, low = math.ceil(most * 2) / 2, math.floor(least * 2) / 2

    def x(step):
        return left + (width - left - right) * step / steps

    def y(loss):
        return top + (height - top - bottom) * (high - loss) / (high - low)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} '
             f'{height}" font-family="sans-serif" font-size="12" fill="#333">',
             f'<rect width="{width}" height="{height}" fill="white"/>',
             f'<text x="{left}" y="22" font-size="14">{title}</text>']
    for i in range(round((high - low) * 2) + 1):
        loss = low + i / 2
        parts.append(f'<path d="M{left} {y(loss):.1f}H{width - right}" '
                     'stroke="#ddd"/>'
                     f'<text x="{left - 8}" y="{y(loss) + 4:.1f}" '
                     f'text-anchor="end">{loss:.1f}</text>')
    for i in range(5):
        step = round(steps * i / 4)
        parts.append(f'<text x="{x(step):.1f}" y="{height - 24}" '
                     f'text-anchor="middle">{step}</text>')
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 6}" '
                 'text-anchor="middle">step</text>'
                 f'<text transform="translate(14 {height / 2}) rotate(-90)" '
                 'text-anchor="middle">nats a character</text>')
    for i, (name, (losses, held_out)) in enumerate(curves.items()):
        line = " ".join(f"{x(step + 1):.1f},{y(loss):.1f}"
                        for step, loss in enumerate(losses))
        parts.append(f'<polyline points="{line}" fill="none" '
                     f'stroke="{COLOURS[name]}" stroke-linejoin="round" '
                     f'stroke-width="{3 - 2 * i}"/>')
        parts += [f'<circle cx="{x(step):.1f}" cy="{y(loss):.1f}" '
                  f'r="{5 - 2 * i}" fill="{COLOURS[name]}"/>'
                  for step, loss in held_out]
        parts.append(f'<text x="{width - right - 8}" y="{top + 16 + 18 * i}" '
                     f'text-anchor="end" fill="{COLOURS[name]}">{name}: line '
                     'training, dots held-out text</text>')
    path.write_text("\n".join(parts) + "\n</svg>\n")


def compare(curves, steps):
    """The table of losses; the largest difference of the first ten steps and of
    means over the last tenth."""
    names = list(curves)
    print("  step   " + "".join(f"{name:>10s}" for name in names))
    marks = sorted({1, 2, 5, 10, *(steps * i // 8 for i in range(1, 9))} - {0})
    for step in marks:
        if step <= steps:
            print(f"{step:6d}   " + "".join(
                f"{curves[name][0][step - 1]:10.4f}" for name in names))
    print("held out " + "".join(f"{curves[name][1][-1][1]:10.4f}"
                                for name in names))
    if len(names) < 2:
        return 0.0, 0.0
    a, b = (torch.tensor(curves[name][0]) for name in names)
    tail = max(1, steps // 10)
    return ((a - b)[:10].abs().max().item(),
            abs((a[-tail:].mean() - b[-tail:].mean()).item()))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--layer", choices=("rwkv7", "gdn", "kda"),
                        default="gdn")
    parser.add_argument("--implementation", default="deltac",
                        choices=("naive", "deltac", "both"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", type=int, default=2048)
    parser.add_argument("--sample", type=int, default=300, metavar="TOKENS")
    parser.add_argument("--picture", type=pathlib.Path, default=None,
                        help="default: train_lm_LAYER.svg")
    options = parser.parse_args()

    text = TEXT.read_text()
    characters = sorted(set(text))
    tokens = torch.tensor([characters.index(c) for c in text])
    kept = len(tokens) - options.held_out - 1
    print(f"{len(text)} characters, {len(characters)} different ones; the last "
          f"{options.held_out} are held out")

    curves = {}
    names = (("naive", "deltac") if options.implementation == "both"
             else (options.implementation,))
    for name in names:
        torch.manual_seed(options.seed)
        model = Model(len(characters), options.layer, name)
        if not curves:
            count = sum(x.numel() for x in model.parameters())
            print(f"{options.layer}: {count} parameters, {options.steps} steps "
                  f"of {options.batch} x {options.tokens} characters")
        start = time.perf_counter()
        curves[name] = train(model, tokens[:kept], tokens[kept:], options)
        print(f"{name}: {(time.perf_counter() - start) / options.steps:.3f} s a "
              "step, evaluation and compiling included")
    first, last = compare(curves, options.steps)
    if len(names) == 2:
        print(f"largest difference: {first:.1e} in the first ten steps, "
              f"{last:.1e} between the means of the last tenth")
    path = options.picture or pathlib.Path(f"train_lm_{options.layer}.svg")
    draw(curves, f"{options.layer}, trained on Pride and Prejudice", path)
    print(f"wrote {path}")
    if options.sample:
        print("--- a sample " + "-" * 51)
        print(sample(model, characters, "Elizabeth ", options.sample))
    losses = curves[names[-1]][0]
    fell = losses[-1] < losses[0]
    return 0 if fell and first < 1e-3 and last < 0.1 else 1


if __name__ == "__main__":
    sys.exit(main())
