# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Near misses: specs with one small mistake, as a person would make it."""

import random
import re

TOKEN = re.compile(r"//[^\n]*|#[^\n]*|\^T|\.\*|\./|[A-Za-z_]\w*|\d+(?:\.\d+)?"
                   r"(?:[eE][+-]?\d+)?|\n|[^\sA-Za-z_0-9]")
# What may stand in a token's place, by mistake.
CONFUSED = {
    "*": [".*", "/", "+", ""], ".*": ["*", "+", "./"], "/": ["*", "./"],
    "+": ["-", "*", ".*", ""], "-": ["+", "*", ""], "^T": ["", "^", "^2", "''"],
    "'": ["", "^2"], "=": ["==", ":", ""], ":": ["=", ""], "(": ["", "[", "(("],
    ")": ["", "]", "))"], "[": ["(", ""], "]": [")", ""], "{": ["", "("],
    "}": ["", "}}"], ",": ["", ";", ",,"], "x": ["*", "X", ""],
    "in": ["inn", "param", "out", ""], "param": ["in", "attr"],
    "attr": ["param", "let"], "let": ["", "out", "attr"],
    "out": ["", "let", "in"], "state": ["", "in", "let"],
    "scalar": ["K", "matrix", ""], "K": ["V", "T", "k", "1"],
    "V": ["K", "v", "H"], "inf": ["-inf", "nan", "1e999"],
    "recurrence": ["Recurrence", ""], "for": ["while", ""], "dim": ["in", ""],
}
FUNCTIONS = ("exp exp2 log sqrt rsqrt abs sigmoid softplus silu tanh relu min "
             "max dot sum l2norm diag eye").split()


def mutate(text, rng):
    """The text with one or two mistakes in it."""
    for _ in range(rng.choice([1, 1, 1, 2])):
        spans = [match.span() for match in TOKEN.finditer(text)
                 if match[0].strip() and match[0][:2] != "//"
                 and match[0][0] != "#"]
        if not spans:
            return text
        words = [text[a:b] for a, b in spans]
        i = rng.randrange(len(spans))
        a, b = spans[i]
        word = text[a:b]
        kind = rng.random()
        if kind < 0.35 and word in CONFUSED:
            new = rng.choice(CONFUSED[word])
        elif kind < 0.45:
            new = ""
        elif kind < 0.55:
            new = f"{word} {word}"
        elif kind < 0.7:  # another name or operator of this spec
            new = rng.choice(words)
        elif kind < 0.78 and word.isidentifier():
            new = rng.choice([word[:-1], word + word[-1], word.upper(),
                              f"{word}^T", f"{word}[0]", f"{word}[j]",
                              f"{rng.choice(FUNCTIONS)}({word})",
                              f"(S^T * {word})", f"({word} * S)", "S"])
        elif kind < 0.86:  # two neighbours change places
            j = min(i + 1, len(spans) - 1)
            c, d = spans[j]
            text = text[:a] + text[c:d] + text[b:c] + word + text[d:] \
                if j > i else text
            continue
        elif kind < 0.94:  # a line once more, or in another place
            lines = text.split("\n")
            at = rng.randrange(len(lines))
            lines.insert(rng.randrange(len(lines) + 1), lines[at])
            if rng.random() < 0.5:
                del lines[at]
            text = "\n".join(lines)
            continue
        else:
            new = rng.choice(["0", "1e400", "-", "\x00", "\xe9", "\"", "eye(K)",
                              "diag(S)", "S * S", "S / S", "exp(S)", "1/0",
                              "((((", "^^", "K ^ K", "inf", "2.*S", "[0, 1]"])
        text = text[:a] + new + text[b:]
    return text


def mutants(texts, count, seed):
    """`count` different texts, each a near miss of one of `texts`."""
    rng = random.Random(seed)
    seen = set()
    while len(seen) < count:
        text = mutate(rng.choice(texts), rng)
        if text not in seen:
            seen.add(text)
            yield text
