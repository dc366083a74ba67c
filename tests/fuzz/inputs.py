"""What is given: damaged copies of sound files, and crafted ones that each aim at a reader."""

import io
import json
import pickle
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

#: A file that code hidden in the inputs would make.
SENTINEL = Path("/tmp/alseg-fuzz-was-executed")


@dataclass(frozen=True)
class Special:
    """What is no regular file: ``fifo``, ``folder``, ``loop`` (a link to itself), ``gone``."""

    kind: str

    def put(self, path):
        import os

        if self.kind == "fifo":
            os.mkfifo(path)
        elif self.kind == "folder":
            path.mkdir()
        elif self.kind == "loop":
            path.symlink_to(path.name)


SPECIALS = [Special(kind) for kind in ("fifo", "folder", "loop", "gone")]


def put(path, content):
    """Place an input where a file is expected."""
    if path.is_symlink() or path.exists():
        path.unlink()
    if isinstance(content, Special):
        content.put(path)
    else:
        path.write_bytes(content)


def damaged(*sound):
    """Copies of sound files with bytes changed, cut out, doubled and put in."""
    edit = st.tuples(
        st.sampled_from(["set", "cut", "insert", "double", "zero"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 64),
        st.binary(min_size=1, max_size=8),
    )

    def apply(sound, edits):
        data = bytearray(sound)
        for how, where, length, new in edits:
            at = int(where * max(1, len(data)))
            part = bytes(data[at : at + length])
            data[at : at + length] = {
                "set": new + part[len(new) :],
                "cut": b"",
                "insert": new + part,
                "double": part + part,
                "zero": bytes(len(part)),
            }[how]
        return bytes(data)

    return st.builds(apply, st.sampled_from(sound), st.lists(edit, min_size=1, max_size=6))


#: JSON values of any kind, also those that Python's parser alone takes.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)


def json_files(sound):
    """Damaged text of a sound object; the object with some values exchanged; any JSON."""
    keys = st.sampled_from(sorted(sound)) if sound else st.text(max_size=5)
    exchanged = st.dictionaries(keys | st.text(max_size=8), JSON, min_size=1, max_size=3)
    swapped = st.builds(lambda new: json.dumps({**sound, **new}).encode(), exchanged)
    free = st.builds(lambda value: json.dumps(value).encode(), JSON)
    return swapped | damaged(json.dumps(sound).encode()) | free


CRAFTED_JSON = [
    b"", b"null", b"[]", b'"text"', b"NaN", b"1e999", b"\xff\xfe", b"{", b"[" * 100_000,
    b'{"a":' * 50_000, b'{"a":1,"a":2}', b"9" * 10_000, b"\0" * 100,
    b'{"miou":' + b"9" * 5000 + b"}",
    b'{"__class__": "os.system"}', b"[" + b"[]," * 200_000 + b"[]]",
]  # fmt: skip


class _Code:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        import os

        return os.system, (f"touch {SENTINEL}",)


CODE = pickle.dumps(_Code())


def npy(header, body=b"", version=1):
    """An ``.npy`` file with any header."""
    text = header.encode().ljust(64 - 11 % 64) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + body


def shaped(shape, kind="<i4", body=b"\0" * 64, order=False, version=1):
    return npy(
        f"{{'descr': {kind!r}, 'fortran_order': {order}, 'shape': {shape}, }}", body, version
    )


CRAFTED_NPY = [
    shaped("(2000000000000,)"), shaped("(1500000, 1500000)"), shaped("(-1, 48)"),
    shaped("(-32, -48)"), shaped("(0, 0)"), shaped("(32, 48)"), shaped("()"),
    shaped("(99999999999999999999999999, 2)"), shaped("(32, 48)", "|O", CODE),
    shaped("(32, 48)", "|V2147483647"), shaped("(32, 48)", "<f8"),
    shaped("(32, 48)", "<U999999999"),
    shaped("('a', 2)"), shaped("(True, 4)"), shaped("(32, 48)", "<M8[ns]"),
    shaped("(1,) * 10**9"), npy(f"__import__('os').system('touch {SENTINEL}')"),
    npy("{" * 5000), npy("[" * 9000 + "]" * 9000), npy("'" + "a" * 60000), npy(""),
    shaped("(32, 48)", version=2), shaped("(32, 48)", version=3), b"\x93NUMPY\x09\x00",
    shaped("(2000000000000,)", "|O", CODE), CODE, b"", b"\x93NUMPY",
]  # fmt: skip


def npz(**members):
    """An archive of raw members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name + ".npy", content)
    return buffer.getvalue()


def bomb(size):
    """An array of zeros that is a thousand times smaller on disk."""
    return npz(meta=shaped(f"({size},)", "|u1", bytes(size)))


def png(width, height, data=b"", *, depth=8, color=0, chunks=()):
    """A PNG whose head says anything."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


def tiff(width, height, *, offset=8, count=4, strips=1, loop=False):
    """A TIFF of one page whose tags say anything."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1),
            (262, 3, 1, 1), (273, 4, strips, offset), (277, 3, 1, 1), (278, 4, 1, height),
            (279, 4, strips, count)]  # fmt: skip
    body = struct.pack("<H", len(tags))
    body += b"".join(struct.pack("<HHII", *(v & 0xFFFFFFFF for v in tag)) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 8 if loop else 0)


_ZEROS = zlib.compress(bytes(1 << 26), 9)
CRAFTED_MASKS = [
    png(100_000, 100_000, zlib.compress(bytes(1000))), png(2**31 - 1, 2**31 - 1),
    png(8192, 8192, _ZEROS), png(48, 32, _ZEROS), png(48, 32, b""), png(0, 0), png(48, 0),
    png(48, 32, zlib.compress(bytes(49 * 32)), depth=3), png(48, 32, color=3),
    png(48, 32, zlib.compress(bytes(49 * 32)), chunks=[(b"zTXt", b"a\0\0" + _ZEROS)]),
    png(48, 32, zlib.compress(bytes(49 * 32)), chunks=[(b"iCCP", b"a\0\0" + _ZEROS)]),
    png(48, 32, zlib.compress(bytes(49 * 32)), chunks=[(b"eXIf", b"II*\0" + b"\xff" * 40)]),
    png(48, 32, zlib.compress(bytes(49 * 32)), chunks=[(b"PLTE", b"\0" * 5)], color=3),
    tiff(2**31 - 1, 2**31 - 1), tiff(48, 32), tiff(48, 32, offset=2**32 - 1),
    tiff(48, 32, loop=True), tiff(48, 32, strips=2**31), tiff(0, 0), tiff(100_000, 100_000),
    b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 8, 0, 0, 0,
                        0, 0, 0),
    b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0), b"", b"\0" * 5000, CODE,
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n", b"RIFF\xff\xff\xff\xffWEBPVP8 ",
    b"\xff\xd8\xff\xe0" + b"\0" * 100,
]  # fmt: skip


def aliases(levels=30, width=10):
    """YAML whose references stand for billions of values."""
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)
    ]  # fmt: skip
    return "\n".join(lines)


CRAFTED_YAML = [
    aliases().encode(), aliases(400, 2).encode(), (aliases(12) + "\nmethod: *a11\n").encode(),
    b"method: {name: " + b"[" * 20_000, b"a: " + b"{a: " * 3000, b"a: &a [*a]", b"a: &a {b: *a}",
    f"a: !!python/object/apply:os.system ['touch {SENTINEL}']".encode(),
    f"a: !!python/name:os.system ''\nb: !!python/object/new:os.system [touch {SENTINEL}]".encode(),
    b"? [a, b]\n: c", b"a: 1\na: 2", b"\0", b"\xff\xfe\0", b"--- a\n--- b", b"%YAML 9.9\n---\na: b",
    b"a: !!binary '####'", b"a: !!timestamp 2020-99-99", b"a: 2020-99-99", b"seed: " + b"9" * 9000,
    b"- 1\n- 2", b"text", b"", b"x" * 3_000_000, b"a: !!float x", b"a: 0o9\nb: 1:99:99999999999",
    b"<<: *x", b"<<: [1, 2]", b"method: {name: *x}", b"a: \xe2\x80\xa8", b"\t- a",
]  # fmt: skip
