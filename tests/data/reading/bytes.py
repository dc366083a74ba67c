"""Picture files written byte by byte, by no library that reads them."""

import struct
import zlib
from pathlib import Path

import numpy as np


def packed(values: np.ndarray, bits: int) -> list[bytes]:
    """Rows of values of 1, 2, 4, 8 or 16 bits, each padded to whole bytes, highest bits first."""
    if bits == 16:
        return [row.astype(">u2").tobytes() for row in values]
    shown = (values[..., None] >> np.arange(bits)[::-1]) & 1
    return [np.packbits(row.ravel()).tobytes() for row in shown]


def png(path: Path, values: np.ndarray, bits: int, color: int = 0, chunks=(), late=()) -> Path:
    """A PNG (W3C PNG, section 11): chunks stand before the pixels, late ones behind.

    Values are (H, W), or (H, W, samples) for colours and opacity.
    """
    data = b"".join(b"\0" + row for row in packed(values.reshape(len(values), -1), bits))
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, color, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(data)), *late, (b"IEND", b"")]
    out = b"\x89PNG\r\n\x1a\n"
    for name, body in parts:
        out += struct.pack(">I", len(body)) + name + body
        out += struct.pack(">I", zlib.crc32(name + body))
    path.write_bytes(out)
    return path


def tiff(
    path: Path, values: np.ndarray, bits: int, photometric: int = 1, order: str = "<", **tags
) -> Path:
    """A TIFF of one band without compression, in two strips (TIFF 6.0, section 2)."""
    rows = packed(values, bits)
    if bits == 16:
        rows = [row.astype(f"{order}u2").tobytes() for row in values]
    half = (len(rows) + 1) // 2
    strips = [b"".join(rows[:half]), b"".join(rows[half:])]
    width, height = values.shape[1], values.shape[0]
    places = [8, 8 + len(strips[0])]
    table = {
        256: ("I", [width]), 257: ("I", [height]), 258: ("H", [bits]), 259: ("H", [1]),
        262: ("H", [photometric]), 273: ("I", places), 277: ("H", [1]), 278: ("I", [half]),
        279: ("I", [len(strip) for strip in strips]),
        **{int(name[1:]): tag for name, tag in tags.items()},
    }  # fmt: skip
    body, at = b"".join(strips), 8 + sum(map(len, strips))
    entries = b""
    for tag, (kind, numbers) in sorted(table.items()):
        value = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        if len(value) > 4:
            body += value
            value, at = struct.pack(f"{order}I", at), at + len(value)
        entries += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(numbers))
        entries += value.ljust(4, b"\0")
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", at)
    end = struct.pack(f"{order}H", len(table)) + entries + struct.pack(f"{order}I", 0)
    path.write_bytes(start + body + end)
    return path


def colormap(palette: np.ndarray, bits: int) -> tuple[str, list[int]]:
    """A palette, (n, 3), as a TIFF tag: 16 bits, all reds first."""
    full = np.zeros((1 << bits, 3), dtype=int)
    full[: len(palette)] = palette
    return "H", (full.T * 257).ravel().tolist()
