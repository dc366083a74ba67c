"""Sizes of all regions of an image set in one file, so that nobody reads its maps to know them."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.files import atomic_file


class SizeTable:
    """Pixels of every region of every image; they stay on disk and are mapped into memory.

    Can be pickled.

    Attributes:
        counts: Largest id + 1 of each map, (N,), int64.
        stamps: Size in bytes and time of change in nanoseconds of the file of each map, (N, 2),
            int64.
    """

    def __init__(self, path: Path, counts: NDArray[np.int64], stamps: NDArray[np.int64]) -> None:
        self.counts = counts
        self.stamps = stamps
        self._path = path
        self._ends = np.cumsum(counts)
        self._sizes: NDArray[np.uint32] | None = None

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        """Pixels of every region of an image, (R,), int64; 0 for ids without a pixel."""
        if self._sizes is None:
            self._sizes = (
                np.memmap(self._path, np.uint32, "r") if self._ends[-1] else np.zeros(0, np.uint32)
            )
        end = self._ends[index]
        return np.asarray(self._sizes[end - self.counts[index] : end]).astype(np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_sizes": None}


def table_path(folder: Path, keys: Sequence[str]) -> Path:
    """Where the sizes of some maps lie.

    Args:
        folder: Folder of the maps of one version.
        keys: Names of the maps.
    """
    digest = hashlib.blake2b("\n".join(keys).encode(), digest_size=16).hexdigest()
    return folder / "sizes" / f"{digest}.bin"


def read_table(path: Path) -> SizeTable | None:
    """A table that `write_table` wrote; None if there is none, or only a damaged one."""
    try:
        head = np.load(path.with_suffix(".npy"), allow_pickle=False)
        length = path.stat().st_size // 4
    except (OSError, ValueError, EOFError):
        return None
    if head.ndim != 2 or head.shape[1] != 3 or not len(head) or head[:, 0].sum() != length:
        return None
    return SizeTable(path, head[:, 0].copy(), head[:, 1:].copy())


def write_table(
    path: Path, sizes: Iterable[NDArray[np.int64]], stamps: NDArray[np.int64]
) -> SizeTable | None:
    """Write a table, image by image.

    Args:
        path: See `table_path`.
        sizes: Pixels of every region of each image, (R,) each.
        stamps: Of the files of the maps, (N, 2).

    Returns:
        The table; None where it cannot be written, by which nothing is lost but time.
    """
    counts = np.zeros(len(stamps), dtype=np.int64)
    try:
        with atomic_file(path) as file:
            for index, one in enumerate(sizes):
                counts[index] = len(one)
                file.write(one.astype(np.uint32).tobytes())
        with atomic_file(path.with_suffix(".npy")) as file:
            np.save(file, np.column_stack([counts, stamps]), allow_pickle=False)
    except OSError:
        return None
    return SizeTable(path, counts, stamps)


def stamps_of(paths: Sequence[Path]) -> NDArray[np.int64]:
    """Size in bytes and time of change in nanoseconds of files, (N, 2), int64; -1 of no file."""
    found = np.full((len(paths), 2), -1, dtype=np.int64)
    for index, path in enumerate(paths):
        try:
            status = os.stat(path)
        except OSError:
            continue
        found[index] = status.st_size, status.st_mtime_ns
    return found
