"""Some rows of vectors that may lie on the disk, read by blocks and never copied as a whole."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Numbers in a block of rows: 256 KiB of float32, inside the cache.
BLOCK = 2**16

#: Bytes that `Rows` may hold: what fits is as fast as an array, what does not is bounded.
HELD = 2**28


class Vectors(Protocol):
    """Vectors, (n, d), that are read a slice at a time: an array, a memory map, or `Rows`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> Any: ...


class Rows:
    """Some rows of vectors.

    Args:
        vectors: (n, d).
        rows: Row numbers, (m,); None = all of them.
        each: Applied to every block that is read, (k, d) to (k, d).
        held: They are read into memory at once if they take no more bytes than that.

    >>> rows = Rows(np.eye(3), np.array([2, 0]), each=lambda block: 2 * block)
    >>> rows.shape, rows[0:1].tolist()
    ((2, 3), [[0.0, 0.0, 2.0]])
    """

    def __init__(
        self,
        vectors: Vectors,
        rows: NDArray[np.integer[Any]] | None = None,
        each: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
        held: int = 0,
    ) -> None:
        # all rows in their own order are read without an index
        plain = rows is None or np.array_equal(rows, np.arange(len(vectors)))
        self._vectors, self._rows, self._each = vectors, None if plain else rows, each
        self.shape = (len(vectors) if rows is None else len(rows), *vectors.shape[1:])
        if len(self) and self[:1].nbytes * len(self) <= held:
            self._vectors, self._rows, self._each = self[:], None, None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        """Rows of a slice or of an array of row numbers, (k, d)."""
        block = self._vectors[key if self._rows is None else self._rows[key]]
        return np.asarray(block if self._each is None else self._each(block))


def row_blocks(vectors: Vectors, numbers: int = BLOCK) -> Iterator[slice]:
    """Runs of rows small enough for temporary arrays of their size to stay in the cache.

    Args:
        vectors: (n, d).
        numbers: About so many numbers per run.

    >>> [block.stop for block in row_blocks(np.zeros((5, 2)), numbers=4)]
    [2, 4, 6]
    """
    step = max(1, numbers // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        yield slice(start, start + step)
