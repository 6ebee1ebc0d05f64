# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Read a bundle as docs/Bundle.md describes it, verify it, and say what is in it.

    show_bundle.py FILE [PREFIX of files for the bundles of gradients]

Shares no code with the run time.
"""

import hashlib
import json
import struct
import sys


def read(path):
    """Return (format version, manifest, blobs) of the bundle in `path`."""
    data = open(path, "rb").read()
    magic, version, header, size, length = struct.unpack_from("<8sIIQQ", data)
    assert magic == b"\x89DLTB\r\n\x1a" and header == 64 and size == len(data)
    text = data[64:64 + length]
    assert hashlib.sha256(text).digest() == data[32:64]
    manifest = json.loads(text)
    end = 64 + length
    blobs = []
    for blob in manifest["blobs"]:
        begin = -(-end // 64) * 64
        assert blob["offset"] == begin and not any(data[end:begin])
        end = begin + blob["size"]
        blobs.append(data[begin:end])
        assert hashlib.sha256(blobs[-1]).hexdigest() == blob["sha256"]
    assert end == size
    return version, manifest, blobs


def main():
    version, manifest, blobs = read(sys.argv[1])
    print(f"format {version}")
    compiler = manifest["compiler"]
    print(f"abi {manifest['abi']}, compiler {compiler['name']} "
          f"{compiler['version']}, llvm {compiler['llvm']}")
    dims = " ".join(f"{name}={size}" for name, size in manifest["dims"].items())
    print(f"recurrence {manifest['recurrence']}, dims {dims}")
    for arg in manifest["args"]:
        text = f"{arg['kind']} {arg['name']}"
        if arg["kind"] != "attr":
            text += f" {arg['dtype']} [{', '.join(arg['axes'])}]"
        if "range" in arg:
            lo, hi = arg["range"]
            text += (f" range {'-inf' if lo is None else lo}"
                     f"..{'inf' if hi is None else hi}")
        if "default" in arg:
            default = arg["default"]
            text += f" default {default['text']} = {default['value']}"
        print(text)
    for kernel in manifest["kernels"]:
        images = ", ".join(f"{image['format']} {len(blobs[image['blob']])} bytes"
                           for image in kernel["images"])
        text = (f"kernel {kernel['target']} {kernel['fn']} {kernel['entry']} "
                f"computes {kernel['compute']}: {images}")
        if "gpu" in kernel:
            for launch in kernel["gpu"]["launches"]:
                text += (f", {launch['threads']} threads, "
                         f"{launch['shared_bytes']} shared bytes, "
                         f"v_blocks {launch['v_blocks']}")
                if launch["tokens"]:
                    text += f", tokens {launch['tokens']}"
            for part in kernel["gpu"]["workspace"]:
                dims = [dim if dim != "T" else f"T/{part['tokens']}"
                        for dim in part["dims"]]
                text += f", workspace {part['bytes']} {' '.join(dims)}"
        print(text)
    for pair in manifest.get("gradients", []):
        parts = {fn: blobs[pair[fn]] for fn in ("forward", "backward")}
        print(f"gradients {pair['target']}: " + ", ".join(
            f"{fn} {len(part)} bytes" for fn, part in parts.items()))
        for fn, part in parts.items():
            if len(sys.argv) > 2:
                open(f"{sys.argv[2]}-{pair['target']}-{fn}", "wb").write(part)
    print("intact")


if __name__ == "__main__":
    main()
