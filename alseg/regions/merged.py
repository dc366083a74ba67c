"""Coarser maps: neighbouring regions of other maps joined into one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.regions.base import Maps, runs_of, sizes_of
from alseg.regions.runs import Runs


def merged_map(regions: NDArray[np.integer], roots: NDArray[np.integer]) -> NDArray[np.int32]:
    """Give every region the id of the one it was merged into.

    Args:
        regions: Region id of each pixel, -1 = none, (H, W).
        roots: The new id of each region, by its id, (R,).

    Returns:
        (H, W), int32.

    >>> merged_map(np.array([[0, 1, 2, -1]]), np.array([1, 1, 2]))
    array([[ 1,  1,  2, -1]], dtype=int32)
    """
    merged: NDArray[np.int32] = np.append(roots.astype(np.int32), np.int32(-1))[regions]
    return merged  # pixels in no region read the last entry


class MergedMaps:
    """Maps whose regions are unions of regions of other maps; ids are a subset of theirs.

    Holds one number per base region, not per pixel.

    Args:
        base: The other maps.
        version: Name of these maps.
        roots: For every image the id that each base region, by its id, now has, (R,) each.

    Raises:
        ValueError: If there is not one root for every base region.
    """

    def __init__(self, base: Maps, version: str, roots: list[NDArray[np.integer[Any]]]) -> None:
        if [len(r) for r in roots] != np.asarray(base.num_regions).tolist():
            raise ValueError("every region of the base maps needs a root")
        self.base = base
        self.version = version
        self.num_regions = base.num_regions
        # ids stay below the number of base regions: two bytes do for most
        kind = np.min_scalar_type(int(np.max(base.num_regions, initial=0)))
        self.roots = [np.asarray(r).astype(kind) for r in roots]

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        """Region ids of an image, (H, W), int32, -1 = in no region."""
        return merged_map(self.base[index], self.roots[index])

    def runs(self, index: int) -> Runs:
        """The map of an image as runs of equal ids."""
        runs = runs_of(self.base, index)
        return runs._replace(ids=merged_map(runs.ids, self.roots[index]))

    def region_sizes(self, index: int) -> NDArray[np.int64]:
        """Pixels of every region of an image, (R,), int64; 0 for ids without a pixel."""
        roots, base = self.roots[index], sizes_of(self.base, index)
        return np.bincount(roots, base, len(base)).astype(np.int64)  # exact below 2**53
