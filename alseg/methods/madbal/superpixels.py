"""Step 1, superpixel by superpixel, and which pixels of them are left to ask.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
A map of superpixels is on the grid, with ids 0..R-1, and -1 where a pixel has been asked.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.statistics import (
    class_histogram,
    region_argmax,
    region_counts,
    region_majority,
    region_sums,
)


class SuperpixelScores(NamedTuple):
    """One row per superpixel that has a pixel left, by ascending id."""

    unit: Tensor
    """Superpixel id, (n,), int64."""
    score: Tensor
    """Mean score of its pixels, (n,), float64."""
    pixels: Tensor
    """Pixels that are left, (n,), int64."""
    label: Tensor
    """Class that most of them are predicted to be, lowest id among equals, (n,), int64."""
    top: Tensor
    """The pixel of highest score, the first in raster order among equals, ``y * w + x``, (n,)."""


def superpixel_scores(
    scores: Tensor, labels: Tensor, regions: Tensor, num_regions: int, num_classes: int
) -> SuperpixelScores:
    """Reduce the pixels of an image to its superpixels (F21).

    Args:
        scores: `alseg.methods.madbal.disagreement.pixel_scores`, (h, w).
        labels: Class predicted by the final logits, (h, w), integer.
        regions: Superpixel of each pixel, -1 where it has been asked, (h, w), integer.
        num_regions: R.
        num_classes: C.

    Returns:
        On the device of the maps.
    """
    pixels = region_counts(regions, num_regions)
    unit = pixels.nonzero().squeeze(1)
    histogram = class_histogram(labels, regions, num_regions, num_classes)
    return SuperpixelScores(
        unit,
        (region_sums(scores, regions, num_regions) / pixels.clamp(min=1))[unit],
        pixels[unit],
        region_majority(histogram)[unit],
        region_argmax(scores, regions, num_regions)[unit],
    )


def without_asked(
    regions: NDArray[np.integer[Any]], asked: NDArray[np.integer[Any]]
) -> NDArray[np.integer[Any]]:
    """The map of superpixels with -1 at the pixels that have been asked.

    Args:
        regions: (h, w), a signed integer type.
        asked: Flat indices ``y * w + x``, (m,).

    Returns:
        (h, w), a copy.

    >>> without_asked(np.array([[0, 0], [1, 1]]), np.array([1, 2])).tolist()
    [[0, -1], [-1, 1]]
    """
    left = regions.copy()
    left.flat[asked] = -1
    return left
