"""Region maps as runs of equal ids: ten to a hundred times fewer numbers than pixels."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Runs(NamedTuple):
    """A map in raster order, as runs of pixels with one id."""

    ids: NDArray[np.int32]
    """Region id of each run, (n,): 0..R-1, or -1 in no region."""
    lengths: NDArray[np.unsignedinteger[Any]]
    """Pixels of each run, (n,)."""
    shape: tuple[int, int]
    """Height and width of the map."""

    @classmethod
    def of(cls, regions: NDArray[np.int32]) -> "Runs":
        """The runs of a map, (H, W), int32.

        >>> Runs.of(np.array([[0, 0, 1], [1, 2, 2]], dtype=np.int32)).lengths.tolist()
        [2, 2, 2]
        """
        flat = regions.ravel()
        starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        starts = np.concatenate([np.zeros(min(1, flat.size), dtype=np.int64), starts])
        lengths = np.diff(starts, append=flat.size)
        narrow = np.min_scalar_type(int(lengths.max(initial=0)))
        height, width = regions.shape
        return cls(flat[starts], lengths.astype(narrow), (height, width))

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """A map of one value per run, (n,) to (H, W)."""
        return np.repeat(values, self.lengths).reshape(self.shape)

    def dense(self) -> NDArray[np.int32]:
        """The map, (H, W), int32."""
        return self.spread(self.ids)

    def sizes(self, num_regions: int) -> NDArray[np.int64]:
        """Pixels of every region, (R,), int64.

        Args:
            num_regions: R; ids are below it.
        """
        # the last count is of the pixels in no region; whole numbers below 2**53 are exact
        ids = np.where(self.ids < 0, num_regions, self.ids)
        return np.bincount(ids, self.lengths, num_regions + 1)[:-1].astype(np.int64)
