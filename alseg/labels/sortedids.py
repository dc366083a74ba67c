"""A set of ids that grows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class SortedIds:
    """A growing set of ids in sorted parts, each more than twice as long as the next.

    To add and to look up takes a time that grows with the logarithm of their number; one sorted
    array would be copied at every addition.
    """

    def __init__(self) -> None:
        self._parts: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def add(self, ids: NDArray[np.int64]) -> None:
        """Add ids that are not in the set, ascending."""
        parts = [*self._parts, ids]
        while len(parts) > 1 and len(parts[-2]) <= 2 * len(parts[-1]):
            last = parts.pop()
            parts[-1] = np.sort(np.concatenate([parts[-1], last]), kind="stable")
        self._parts = parts

    def holds(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Which of some ids are in the set, (n,), bool."""
        found = np.zeros(len(ids), dtype=bool)
        for part in self._parts:
            place = np.minimum(np.searchsorted(part, ids), len(part) - 1)
            found |= part[place] == ids
        return found
