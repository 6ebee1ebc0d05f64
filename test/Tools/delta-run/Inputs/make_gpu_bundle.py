# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Write a bundle around a PTX file, by hand and not by the compiler.

    make_gpu_bundle.py FILE.ptx OUT.bundle [NAME=VALUE of a kernel's facts...]

With abi=2 the workspace is for every two tokens of a head.
"""

import hashlib
import json
import pathlib
import struct
import sys

ptx = pathlib.Path(sys.argv[1]).read_bytes()
gpu = {"threads": 32, "shared_bytes": 0, "v_blocks": 1, "workspace_bytes": 0}
target, abi = "sm_80", 1
for fact in sys.argv[3:]:
    name, value = fact.split("=")
    if name == "target":
        target = value
    elif name == "abi":
        abi = int(value)
    else:
        gpu[name] = int(value)
if abi == 2:
    size = gpu.pop("workspace_bytes")
    gpu = {"launches": [{"entry": "delta_gain_forward", "tokens": 0, **gpu}],
           "workspace": [{"bytes": size, "dims": ["B", "H", "T"], "tokens": 2}]}
manifest = {
    "abi": abi,
    "compiler": {"version": "0", "llvm": "0"},
    "recurrence": "gain",
    "dims": {"K": 2, "V": 32},
    "args": [
        {"kind": "in", "name": "v", "dtype": "f32", "axes": ["V"]},
        {"kind": "attr", "name": "gain",
         "default": {"text": "0.5", "value": 0.5, "attrs": []}},
        {"kind": "state", "name": "S", "dtype": "f32", "axes": ["K", "V"]},
        {"kind": "out", "name": "o", "dtype": "f32", "axes": ["V"]},
    ],
    "kernels": [{
        "target": target, "fn": "forward", "entry": "delta_gain_forward",
        "compute": "f32", "flops_per_token": 32, "options": {}, "gpu": gpu,
        "images": [{"format": "ptx", "blob": 0}],
    }],
    "blobs": [{"offset": 4096, "size": len(ptx),
               "sha256": hashlib.sha256(ptx).hexdigest()}],
}
text = json.dumps(manifest).encode().ljust(4096 - 64)
pathlib.Path(sys.argv[2]).write_bytes(
    b"\x89DLTB\r\n\x1a" + struct.pack("<IIQQ", 1, 64, 4096 + len(ptx), len(text))
    + hashlib.sha256(text).digest() + text + ptx)
