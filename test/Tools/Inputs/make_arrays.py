# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""make_arrays.py DIR: inputs of gated_delta_rule, right ones and wrong ones."""

import os
import sys

import numpy as np

B, T, H, K, V = 1, 5, 2, 8, 4


def good():
    random = np.random.default_rng(0)

    def normal(*shape):
        return random.standard_normal(shape).astype(np.float32)

    k = normal(B, T, H, K)
    return {
        "q": normal(B, T, H, K),
        "k": k / np.linalg.norm(k, axis=-1, keepdims=True),
        "v": normal(B, T, H, V),
        "g": -random.random((B, T, H)).astype(np.float32),
        "beta": random.random((B, T, H)).astype(np.float32),
        "initial_state": normal(B, H, K, V),
    }


def main():
    folder, = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)

    def save(name, **changes):
        arrays = {**good(), **changes}
        np.savez(os.path.join(folder, name + ".npz"),
                 **{n: a for n, a in arrays.items() if a is not None})

    g = good()
    save("good")
    save("stateless", initial_state=None)
    save("half", **{name: array.astype(np.float16)
                    for name, array in g.items()})
    save("double", **{name: array.astype(np.float64)
                      for name, array in g.items()})
    save("foreign", **{name: np.asfortranarray(array.astype(">f4"))
                       for name, array in g.items()})
    save("results", o=g["v"], final_state=g["v"], do=g["v"], dht=g["v"],
         d_q=g["q"], d_anything=g["q"])
    save("cotangents", do=g["v"], dht=g["initial_state"])
    save("no-tokens", **{name: array[:, :0] for name, array in g.items()
                         if name != "initial_state"})
    save("no-batch", **{name: array[:0] for name, array in g.items()})
    states = np.concatenate([g["initial_state"]] * 3)
    save("packed", cu_seqlens=np.array([0, 2, 2, 5]), initial_state=states)

    # What is wrong, one thing each.
    save("cotangent-size", do=g["q"])
    save("cotangent-state", dht=g["v"])
    save("cotangent-type", do=g["v"].astype(np.int32))
    save("cotangent-name", d0=g["v"])
    save("missing", beta=None)
    save("misspelt", beta=None, bta=g["beta"])
    save("extra", foo=g["beta"])
    save("size", k=g["k"][..., :7])
    save("rank", g=g["q"])
    save("heads", v=g["v"][:, :, :1])
    save("tokens", beta=g["beta"][:, :3])
    save("integer", q=g["q"].astype(np.int32))
    save("state", initial_state=g["initial_state"][..., :3])
    save("empty-dim", q=g["q"][..., :0], k=g["k"][..., :0],
         initial_state=None)
    save("range", g=np.where(np.arange(T)[:, None] == 3, 0.25, g["g"]))
    nan = g["v"].copy()
    nan[0, 4, 1, 2] = np.nan
    save("nan", v=nan)
    nan = g["initial_state"].copy()
    nan[0, 0, 1, 3] = np.nan
    save("nan-state", initial_state=nan)
    save("packed-end", cu_seqlens=np.array([0, 2, 4]))
    save("packed-order", cu_seqlens=np.array([0, 3, 2, 5]))
    save("packed-begin", cu_seqlens=np.array([1, 5]))
    save("packed-type", cu_seqlens=np.array([0.0, 5.0]))
    save("packed-rank", cu_seqlens=np.array([[0, 5]]))
    save("packed-states", cu_seqlens=np.array([0, 2, 5]))
    save("packed-batch", cu_seqlens=np.array([0, 2, 5]), initial_state=None,
         **{name: np.concatenate([g[name]] * 2)
            for name in ("q", "k", "v", "g", "beta")})


if __name__ == "__main__":
    main()
