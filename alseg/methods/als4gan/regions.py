"""Region maps under another name."""

import numpy as np
from numpy.typing import NDArray

from alseg.regions.base import Maps, runs_of, sizes_of
from alseg.regions.runs import Runs


class Renamed:
    """The maps of another version: what was asked about them there may be asked again here.

    Args:
        maps: The maps.
        version: Their name here.
    """

    def __init__(self, maps: Maps, version: str) -> None:
        self.maps = maps
        self.version = version
        self.num_regions: NDArray[np.int64] = maps.num_regions

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        """See `alseg.labels.pool.Maps`."""
        return self.maps[index]

    def runs(self, index: int) -> Runs:
        """See `alseg.regions.base.runs_of`."""
        return runs_of(self.maps, index)

    def region_sizes(self, index: int) -> NDArray[np.int64]:
        """See `alseg.regions.base.sizes_of`."""
        return sizes_of(self.maps, index)
