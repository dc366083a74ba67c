"""What the reference implementations of adaptive superpixels and ClassBal count and draw.

The golden arrays record it, and the library does not need it. The clicks for polygons are the price
that Cai et al. (CVPR 2021) put on precise labels, to compare them with one click for the dominant
class of a region: a click per vertex of a polygon, one per crossing of an outline with the edge of
the part that is labelled, and one per connected component for its class.
"""

import random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.statistics import region_counts, region_sums
from alseg.regions.geometry import boundaries, bounding_boxes, components


def published_shuffle(n: int, seed: int) -> NDArray[np.int64]:
    """The shuffle of Python's standard library, to repeat the random rounds of published code.

    Cai et al. (CVPR 2021) and Kim et al. (arXiv 2303.16817) list all regions that exist by image
    and id, shuffle the list so with seed 1, and buy from its head.

    Args:
        n: Rows.
        seed: Seed of the generator.

    Returns:
        Row numbers, (n,), int64.

    >>> published_shuffle(4, seed=1).tolist()
    [3, 0, 2, 1]
    """
    rows = list(range(n))
    random.Random(seed).shuffle(rows)
    return np.array(rows, dtype=np.int64)


class PolygonClicks(NamedTuple):
    """Clicks for precise labels of each region, by what they are for, (R,), int64 each."""

    components: NDArray[np.int64]  #: Naming the class of every connected component.
    crossings: NDArray[np.int64]  #: Points where an outline meets the edge of the region.
    vertices: NDArray[np.int64]  #: Vertices of the polygons.

    @property
    def total(self) -> NDArray[np.int64]:
        """Clicks of every kind together, (R,)."""
        return self.components + self.crossings + self.vertices


def polygon_clicks(
    truth: NDArray[np.uint8],
    regions: NDArray[np.integer[Any]],
    num_regions: int,
    vertices: NDArray[Any],
) -> PolygonClicks:
    """Clicks to label rectangles precisely (Cai et al., CVPR 2021, "Rec+Pr").

    Components are 8-connected pixels of one label inside the rectangle, void included. An outline
    crosses a side between two of its pixels of unlike labels, corners left out. Vertices count for
    the rectangle they lie in, but not where it touches another one. Of a whole image, as one
    region, the paper counts components and vertices only.

    Args:
        truth: Ground truth, (H, W).
        regions: Region id of each pixel, -1 = none, (H, W); the regions are rectangles.
        num_regions: R; ids may have holes.
        vertices: Vertices of the data set's polygons, ``x, y`` in pixels, cut to whole numbers;
            those outside the image do not count. (P, 2).

    Returns:
        0 for ids without a pixel.

    >>> truth = np.array([[0, 0, 0, 1, 1]] * 2, np.uint8)
    >>> polygon_clicks(truth, np.zeros((2, 5), int), 1, np.array([[3, 0], [3.9, 1], [9, 9]]))
    PolygonClicks(components=array([2]), crossings=array([2]), vertices=array([2]))
    """
    height, width = truth.shape
    pieces = components(np.where(regions < 0, -1, regions.astype(np.int64) * 256 + truth), 8)
    _, first = np.unique(pieces, return_index=True)
    owner = regions.ravel()[first]
    count = np.bincount(owner[owner >= 0], minlength=num_regions)

    down, across = truth[1:] != truth[:-1], truth[:, 1:] != truth[:, :-1]
    crossings = np.zeros(num_regions, dtype=np.int64)
    for region, (y0, x0, y1, x1) in enumerate(bounding_boxes(regions, num_regions)):
        if y1 > y0:
            crossings[region] = down[y0 + 1 : y1 - 1, [x0, x1 - 1]].sum()
            crossings[region] += across[[y0, y1 - 1], x0 + 1 : x1 - 1].sum()

    x, y = np.trunc(np.asarray(vertices, dtype=np.float64)).astype(np.int64).reshape(-1, 2).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = x[inside], y[inside]
    owner = np.where(boundaries(regions)[y, x], -1, regions[y, x])
    points = np.bincount(owner[owner >= 0], minlength=num_regions)
    return PolygonClicks(count.astype(np.int64), crossings, points.astype(np.int64))


def region_means(values: Tensor, regions: Tensor, num_regions: int) -> Tensor:
    """Mean of a map over each region, (R,), float64; 0 for regions without a pixel."""
    sums = region_sums(values, regions, num_regions)
    return sums / region_counts(regions, num_regions).clamp(min=1)
