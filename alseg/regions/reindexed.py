"""Maps under other numbers of images."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from alseg.regions.base import Maps, runs_of, sizes_of
from alseg.regions.runs import Runs


class Reindexed:
    """Maps of a list of images, as another list that has some of these images numbers them.

    Args:
        maps: The maps.
        places: Their number of an image by its number here.
        num_regions: Region ids per image here, (N,), int64, also of images they do not have.
    """

    def __init__(
        self, maps: Maps, places: Mapping[int, int], num_regions: NDArray[np.int64]
    ) -> None:
        self.maps = maps
        self.places = dict(places)
        self.version = maps.version
        self.num_regions = num_regions

    @classmethod
    def of(cls, maps: Maps, places: Mapping[int, int], length: int) -> "Reindexed":
        """Maps of a list of so many images, those without a place without regions."""
        counts = np.zeros(length, dtype=np.int64)
        for here, there in places.items():
            counts[here] = maps.num_regions[there]
        return cls(maps, places, counts)

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        """Region ids of an image, (H, W), int32, -1 = in no region."""
        return self.maps[self.places[index]]

    def runs(self, index: int) -> Runs:
        """See `alseg.regions.base.runs_of`."""
        return runs_of(self.maps, self.places[index])

    def region_sizes(self, index: int) -> NDArray[np.int64]:
        """See `alseg.regions.base.sizes_of`."""
        return sizes_of(self.maps, self.places[index])
