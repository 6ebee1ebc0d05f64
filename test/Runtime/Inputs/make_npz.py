# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""make_npz.py DIR: write DIR/KIND.npz for every kind, good and broken."""

import io
import os
import struct
import sys
import warnings
import zipfile
import zlib

import numpy as np

Q = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8


def npy(array):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def raw(header, data=b"", version=(1, 0), magic=b"\x93NUMPY"):
    """An .npy of any header text, without NumPy's care."""
    text = header.encode()
    length = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return magic + bytes(version) + length + text + data


def header(descr="'<f4'", order="False", shape="(2,)"):
    return (f"{{'descr': {descr}, 'fortran_order': {order}, "
            f"'shape': {shape}, }}\n")


def archive(path, members, compression=zipfile.ZIP_STORED):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of duplicate names
        with zipfile.ZipFile(path, "w", compression) as out:
            for name, data in members:
                out.writestr(name, data)


def good(path, deflate=False):
    """What NumPy can write, in every width, order and rank."""
    # NumPy takes no dict keyword for dtypes of this kind: build members here.
    arrays = {
        "f8": Q.astype("<f8"), "f4": Q, "f2": Q.astype("<f2"),
        "f16": Q.astype(np.longdouble), "big": Q.astype(">f8"),
        "bigh": Q.astype(">f2"),
        "fortran": np.asfortranarray(Q),
        "bigfortran": np.asfortranarray(Q.astype(">f4")),
        "i1": np.arange(-3, 3, dtype="i1"), "i2": np.arange(6, dtype=">i2"),
        "i4": np.arange(6, dtype="<i4"), "i8": np.arange(6, dtype=">i8"),
        "u1": np.arange(6, dtype="u1"), "u2": np.arange(6, dtype="<u2"),
        "u4": np.arange(6, dtype="<u4"), "u8": np.arange(6, dtype="<u8"),
        "flag": np.array([True, False]), "zero_d": np.float64(2.5),
        "empty": np.zeros((3, 0, 2), np.float32),
        "one": np.zeros(1, np.float32),
    }
    save = np.savez_compressed if deflate else np.savez
    save(path, **arrays)


def versions(path):
    data = struct.pack("<2f", 1, 2)
    archive(path, [
        ("v1.npy", raw(header(), data)),
        ("v2.npy", raw(header(), data, (2, 0))),
        ("v3.npy", raw(header(), data, (3, 0))),
        ("quotes.npy", raw(header().replace("'", '"'), data)),
        ("tight.npy", raw("{'shape':(2L,),'fortran_order':False,"
                          "'descr':'=f4'}", data)),
    ])


TWO = struct.pack("<2f", 1, 2)
ONE_MEMBER = {
    "magic": raw(header(), TWO, magic=b"\x93NUMPX"),
    "version": raw(header(), TWO, version=(4, 0)),
    "nothing": b"",
    "short-header": raw(header())[:20],
    "long-header": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{}",
    "not-a-dict": raw("[1, 2]\n"),
    "unknown-key": raw("{'descr': '<f4', 'fortran_order': False, "
                       "'shape': (2,), 'more': 1}\n", TWO),
    "twice-key": raw("{'descr': '<f4', 'descr': '<f4', "
                     "'fortran_order': False, 'shape': (2,)}\n", TWO),
    "missing-key": raw("{'descr': '<f4', 'shape': (2,)}\n", TWO),
    "trailing": raw(header().rstrip() + " or else\n", TWO),
    "truncated-data": raw(header(), TWO[:5]),
    "extra-data": raw(header(), TWO + b"more"),
    "huge-shape": raw(header(shape="(1099511627776, 1024)"), TWO),
    "overflow-dim": raw(header(shape="(99999999999999999999,)"), TWO),
    "overflow-shape": raw(header(shape="(4611686018427387904, 4)"), TWO),
    "overflow-empty": raw(header(shape="(4611686018427387904, 4, 0)")),
    "negative": raw(header(shape="(-2,)"), TWO),
    "no-tuple": raw(header(shape="(2)"), TWO),
    "order": raw(header(order="Maybe"), TWO),
    "object": npy(np.array([{}, None])),
    "complex": npy(np.zeros(2, np.complex64)),
    "string": npy(np.array(["a", "bc"])),
    "struct": npy(np.zeros(2, [("a", "f4"), ("b", "f4")])),
    "date": npy(np.zeros(2, "datetime64[s]")),
    "width": raw(header("'<f3'"), TWO),
}


def duplicate(path):
    archive(path, [("q.npy", npy(Q)), ("q.npy", npy(Q))])


def foreign(path):
    archive(path, [("q.npy", npy(Q)), ("readme.txt", b"hello")])


def bzip2(path):
    archive(path, [("q.npy", npy(Q))], zipfile.ZIP_BZIP2)


def edited(path, edit, method=zipfile.ZIP_STORED):
    """An archive of Q whose bytes `edit` changes."""
    archive(path, [("q.npy", npy(Q))], method)
    data = bytearray(open(path, "rb").read())
    open(path, "wb").write(edit(data) or data)


def text(path):
    open(path, "w").write("q = 1\n" * 100)


def nozip(path):
    open(path, "wb").close()


def cut(path):
    edited(path, lambda data: data[:len(data) // 2])


def checksum(path):
    """One bit of the stored numbers."""
    edited(path, lambda data: data.replace(struct.pack("<f", 2.5),
                                           struct.pack("<f", 2.25)))


def encrypted(path):
    """The flag in the local header and in the table of contents."""
    def edit(data):
        data[6] |= 1
        data[data.index(b"PK\x01\x02") + 8] |= 1
    edited(path, edit)


def claim(data):
    """The table of contents claims 2 GiB for a few bytes."""
    at = data.index(b"PK\x01\x02") + 24
    data[at:at + 4] = struct.pack("<I", 1 << 31)


def claims_stored(path):
    edited(path, claim)


def claims_deflated(path):
    edited(path, claim, zipfile.ZIP_DEFLATED)


def short_deflate(path):
    """A header that is true, over data that inflate to less."""
    data = raw(header("'<f4'", shape="(250000,)"), bytes(1000000))
    archive(path, [("q.npy", data)], zipfile.ZIP_DEFLATED)
    content = bytearray(open(path, "rb").read())
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(data[:-4]) + deflate.flush()
    start = 30 + len("q.npy")
    assert start + len(packed) <= content.index(b"PK\x01\x02")
    content[start:start + len(packed)] = packed
    open(path, "wb").write(content)


FILES = [versions, duplicate, foreign, bzip2, text, nozip, cut, checksum,
         encrypted, claims_stored, claims_deflated, short_deflate]


def main():
    folder, = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)

    def path(kind):
        return os.path.join(folder, kind.replace("_", "-") + ".npz")
    good(path("good"))
    good(path("deflated"), deflate=True)
    for make in FILES:
        make(path(make.__name__))
    for kind, member in ONE_MEMBER.items():
        archive(path(kind), [("q.npy", member)])


if __name__ == "__main__":
    main()
