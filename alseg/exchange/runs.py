"""Masks as run lengths, in the dialects of the tools; and as polygons."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

#: Bits of the head of Label Studio's runs: count of values, size of a word, four sizes of runs.
_THI_WORD = 8
_THI_SIZES = (3, 4, 8, 16)


def run_lengths(flat: NDArray[np.bool_]) -> list[int]:
    """Lengths of runs of equal values, of zeros first (0 where there are none).

    >>> run_lengths(np.array([True, True, False]))
    [0, 2, 1]
    """
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def from_run_lengths(lengths: Sequence[object], size: int) -> NDArray[np.bool_]:
    """What `run_lengths` took apart.

    Args:
        lengths: Whole numbers of at least 0.
        size: How many values there are.

    Raises:
        ValueError: If the lengths are no such numbers, or their sum is not the size.
    """
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in lengths):
        raise ValueError("run lengths must be whole numbers of at least 0")
    total = sum(lengths)  # type: ignore[arg-type]  # they are numbers
    if total != size:
        raise ValueError(f"its runs cover {total} pixels of {size}")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, np.array(lengths, dtype=np.int64))


def coco_counts(mask: Mask) -> list[int]:
    """COCO's uncompressed counts: down the columns, zeros first."""
    return run_lengths(mask.ravel(order="F"))


def from_coco(counts: object, height: int, width: int) -> Mask:
    """The mask of COCO's counts, as a list or compressed as text.

    Raises:
        ValueError: If they are not those of such a mask.
    """
    if isinstance(counts, str):
        counts = _decompressed(counts)
    if not isinstance(counts, list):
        raise ValueError("its counts are neither a list nor text")
    return from_run_lengths(counts, height * width).reshape((height, width), order="F")


def _decompressed(text: str) -> list[int]:
    """Counts of COCO's text.

    Each count is a signed number in pieces of five bits, low first, as characters from "0" on: bit
    5 says that more follows, bit 4 of the last one is the sign. From the fourth count on, it is the
    difference to the one two before.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise ValueError("its compressed counts are damaged")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("its compressed counts are cut off")
    return counts


def thi_runs(mask: Mask) -> list[int]:
    """Label Studio's brush: the runs of a picture of four equal channels, as bytes.

    The layout is that of thi.ng/rle-pack: 32 bits count the values, 5 bits are the size of a word
    less 1, four times 4 bits the sizes of run lengths less 1. Then, of each run: a bit that says
    whether one value is repeated, two bits that choose the size of the length, the length less 1,
    and the value, or as many values.
    """
    flat = mask.ravel()
    bits = [f"{4 * flat.size:032b}", f"{_THI_WORD - 1:05b}"]
    bits += [f"{size - 1:04b}" for size in _THI_SIZES]
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = [0, *edges.tolist(), flat.size] if flat.size else []
    for start, end in pairwise(starts):
        left, value = 4 * (end - start), "1" * 8 if flat[start] else "0" * 8
        while left:
            run = min(left, 1 << _THI_SIZES[-1])
            choice = next(i for i, size in enumerate(_THI_SIZES) if run <= 1 << size)
            bits.append(f"1{choice:02b}{run - 1:0{_THI_SIZES[choice]}b}{value}")
            left -= run
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def from_thi(data: object, height: int, width: int) -> Mask:
    """The mask of Label Studio's brush: where the last channel is not 0.

    Args:
        data: The bytes, whole numbers from 0 to 255.
        height: Of the picture.
        width: Of the picture.

    Raises:
        ValueError: If they are not those of a picture of this size with four channels.
    """
    if not isinstance(data, list) or not all(type(b) is int and 0 <= b < 256 for b in data):
        raise ValueError("its rle is not a list of bytes")
    bits = np.unpackbits(np.array(data, dtype=np.uint8)).tobytes()
    at = 0

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(bits):
            raise ValueError("its rle is cut off")
        value = 0
        for bit in bits[at : at + size]:
            value = value << 1 | bit
        at += size
        return value

    count, word = number(32), number(5) + 1
    sizes = [number(4) + 1 for _ in range(4)]
    if count != 4 * height * width:
        raise ValueError(f"its rle holds {count} values, not 4 of {height} x {width} pixels")
    lengths: list[int] = []
    values: list[int] = []
    filled = 0
    while filled < count:
        repeated = number(1)
        run = number(sizes[number(2)]) + 1
        filled += run
        if filled > count:
            raise ValueError("its rle holds more values than it says")
        if repeated:
            lengths.append(run)
            values.append(number(word))
        else:
            lengths += [1] * run
            values += [number(word) for _ in range(run)]
    flat = np.repeat(np.array(values, dtype=np.int64) != 0, np.array(lengths, dtype=np.int64))
    return np.asarray(flat.reshape(height, width, 4)[..., 3])


def fill(loops: Iterable[NDArray[np.float64]], height: int, width: int) -> tuple[int, int, Mask]:
    """The pixels whose centres lie in polygons, by the even-odd rule.

    Args:
        loops: Corners ``x, y`` of each loop, (n, 2), in pixels.
        height: Of the picture.
        width: Of the picture.

    Returns:
        Top and left of the smallest box that holds them, and which of its pixels they are, bool.

    Raises:
        ValueError: For a loop of less than three corners, or numbers that are not finite.

    >>> fill([np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 1.0], [1.0, 1.0]])], 2, 3)
    (0, 1, array([[ True,  True]]))
    """
    checked = [_checked(loop) for loop in loops]
    corners = np.concatenate([np.zeros((0, 2)), *checked])
    if not len(corners):
        return 0, 0, np.zeros((0, 0), dtype=bool)
    low, high = np.ceil(corners.min(axis=0) - 0.5), np.ceil(corners.max(axis=0) - 0.5)
    left, top = (max(0, int(side)) for side in low)
    right, bottom = min(width, int(high[0])), min(height, int(high[1]))
    if right <= left or bottom <= top:
        return 0, 0, np.zeros((0, 0), dtype=bool)
    toggles = np.zeros((bottom - top, right - left + 1), dtype=np.int32)
    for points in checked:
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            first = max(top, int(np.ceil(min(y0, y1) - 0.5)))
            last = min(bottom, int(np.ceil(max(y0, y1) - 0.5)))
            if first >= last:
                continue
            rows = np.arange(first, last)
            crossing = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            columns = np.clip(np.ceil(crossing - 0.5), left, right).astype(np.int64)
            toggles[rows - top, columns - left] += 1
    return top, left, np.asarray(np.cumsum(toggles, axis=1)[:, :-1] % 2 == 1)


def _checked(loop: NDArray[np.float64]) -> NDArray[np.float64]:
    points = np.asarray(loop, dtype=np.float64)
    if points.ndim != 2 or points.shape[0] < 3 or points.shape[1] != 2:
        raise ValueError("a polygon has fewer than three corners")
    if not np.isfinite(points).all() or np.abs(points).max() > 1e9:
        raise ValueError("a polygon has corners that are no place")
    return points
