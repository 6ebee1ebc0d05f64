# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Small changes to IR that keep it well-typed: other operands, operations.

What comes out may have left the class, and then must be diagnosed; or it is
another recurrence, which the passes must preserve like any other. It works on
the generic form that `delta-opt --mlir-print-op-generic` prints.
"""

import re

OPERATION = re.compile(
    r'^\s*(?:(?P<result>%\w+)(?::(?P<count>\d+))? = )?(?P<name>"[\w.]+")'
    r'\((?P<operands>.*?)\).* : \((?P<types>.*)\) -> (?P<results>.*)$')
BLOCK = re.compile(r"^\s*\^bb\d+\((?P<arguments>.*)\):")
OTHER = {"arith.addf": "arith.mulf", "arith.mulf": "arith.subf",
         "arith.subf": "arith.divf", "math.exp": "math.log"}


def split(text):
    """A list in text; commas inside <> and () do not separate."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "<(") - (c in ">)")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts if part.strip()]


def mutate(text, rng):
    """The module with some operands replaced by values of their type."""
    lines = text.split("\n")
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        values, uses = {}, []
        for i, line in enumerate(lines):
            if block := BLOCK.match(line):
                for argument in split(block["arguments"]):
                    value, type = argument.split(": ", 1)
                    values.setdefault(type, []).append((i, value))
            elif op := OPERATION.match(line):
                operands, types = split(op["operands"]), split(op["types"])
                uses += [(i, k, type, operands, op)
                         for k, type in enumerate(types)
                         if len(types) == len(operands)]
                results = op["results"]
                results = split(results[1:-1]) if results[0] == "(" \
                    else [results]
                for k, type in enumerate(results if op["result"] else []):
                    name = op["result"] + (f"#{k}" if op["count"] else "")
                    values.setdefault(type, []).append((i, name))
        i, k, type, operands, op = rng.choice(uses)
        choices = [value for line, value in values.get(type, [])
                   if line < i and value != operands[k]]
        if not choices:
            continue
        operands[k] = rng.choice(choices)
        begin, end = op.span("operands")
        lines[i] = lines[i][:begin] + ", ".join(operands) + lines[i][end:]
        name = op["name"].strip('"')
        if name in OTHER and rng.random() < 0.1:
            lines[i] = lines[i].replace(name, OTHER[name], 1)
    return "\n".join(lines)
