# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Write broken variants of a bundle.

    break_bundle.py GOOD.bundle DIR
"""

import copy
import hashlib
import json
import pathlib
import struct
import sys

good = pathlib.Path(sys.argv[1]).read_bytes()
folder = pathlib.Path(sys.argv[2])
length = struct.unpack_from("<Q", good, 24)[0]
manifest = json.loads(good[64:64 + length])
blob = good[manifest["blobs"][0]["offset"]:]


def write(name, data):
    (folder / f"{name}.bundle").write_bytes(data)


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def build(name, text, content):
    """Write a container that is right around a manifest and one blob."""
    size = -(-(64 + len(text)) // 64) * 64 + len(content)
    data = (b"\x89DLTB\r\n\x1a" + struct.pack("<IIQQ", 1, 64, size, len(text))
            + hashlib.sha256(text).digest() + text)
    write(name, data.ljust(size - len(content), b"\0") + content)


def edit(name, change, content=blob):
    """Write a bundle whose manifest is right but for a change."""
    changed = copy.deepcopy(manifest)
    entry = changed["blobs"][0]
    entry["size"] = len(content)
    entry["sha256"] = hashlib.sha256(content).hexdigest()
    change(changed)
    # The offset depends on the length of the text; blanks fill it.
    if entry["offset"] == manifest["blobs"][0]["offset"]:
        entry["offset"] = 8192
    text = json.dumps(changed).encode().ljust(8192 - 64)
    build(name, text, content)


write("short", good[:40])
write("truncated", good[:-100])
write("longer", good + b"\0\0\0")
write("version", good[:8] + struct.pack("<I", 2) + good[12:])
write("manifest", flip(good, 80))
write("blob", flip(good, len(good) - 10))
build("json", b"{ 'abi': 1 }", b"x")

kernel = "kernels"
edit("abi", lambda m: m.update(abi=9))
edit("missing", lambda m: m[kernel][0].pop("entry"))
edit("kind", lambda m: m["args"][0].update(kind="input"))
edit("dim", lambda m: m["dims"].update(K=0))
edit("unbound", lambda m: m["dims"].pop("K"))
edit("twice", lambda m: m["args"][1].update(name="q"))
edit("image", lambda m: m[kernel][0]["images"][0].update(blob=1))
edit("offset", lambda m: m["blobs"][0].update(offset=64))
edit("arch", lambda m: m[kernel][0]["cpu"].update(
    triple="riscv64-unknown-linux-gnu"))
edit("feature", lambda m: m[kernel][0]["cpu"].update(
    name="next", features=["amx9", "avx2048"]))
edit("symbol", lambda m: m[kernel][0].update(entry="delta_other"))
edit("elf", lambda m: None, b"\x7fELF")

# One blob serves as anything: what it must be is checked.
edit("pair-target", lambda m: m.update(gradients=[
    {"target": "tpu", "forward": 0, "backward": 0}]))
edit("pair-blob", lambda m: m.update(gradients=[
    {"target": "cpu", "forward": 0, "backward": 1}]))
edit("pair-twice", lambda m: m.update(gradients=2 * [
    {"target": "cpu", "forward": 0, "backward": 0}]))
pair = [{"target": "cpu", "forward": 0, "backward": 0}]
edit("pair-none", lambda m: m.update(gradients=pair))
edit("pair-plain", lambda m: m.update(gradients=pair), good)
edit("pair-other", lambda m: m.update(gradients=pair, recurrence="other"), good)
nested = json.dumps(manifest | {"gradients": pair}).encode().ljust(8192 - 64)
edit("pair-nested", lambda m: m.update(gradients=pair),
     b"\x89DLTB\r\n\x1a" + struct.pack("<IIQQ", 1, 64, 8192, len(nested))
     + hashlib.sha256(nested).digest() + nested)


def for_gpu(m):
    m[kernel][0].update(target="sm_90a", gpu={"launches": [
        {"entry": "delta_linear_attn_forward", "threads": 32, "shared_bytes": 0,
         "v_blocks": 1, "tokens": 0}],
        "workspace": [{"bytes": 64, "dims": ["B", "H", "T"], "tokens": 16}]})
    m[kernel][0]["images"][0]["format"] = "ptx"


def edit_gpu(name, change):
    """The same for a bundle of a GPU kernel; `change` gets what is its own."""
    edit(name, lambda m: (for_gpu(m), change(m[kernel][0]["gpu"])))


edit("target", for_gpu)
edit_gpu("launches", lambda gpu: gpu.update(launches=[]))
edit_gpu("again", lambda gpu: gpu["launches"].append(gpu["launches"][0]))
edit_gpu("bytes", lambda gpu: gpu["workspace"][0].update(bytes=40))
edit_gpu("dims", lambda gpu: gpu["workspace"][0].update(dims=["B", "K"]))
edit_gpu("twice-b", lambda gpu: gpu["workspace"][0].update(dims=["B", "B"]))
edit_gpu("tokens", lambda gpu: gpu["workspace"][0].pop("tokens"))
