"""Step 1, superpixel by superpixel: score, class and best pixel of each.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
A map of superpixels is on the grid, with ids 0..R-1, and -1 where a pixel has been asked.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from alseg.acquisition.statistics import (
    class_histogram,
    region_argmax,
    region_counts,
    region_majority,
    region_sums,
)
from alseg.active.transfer import on_host


class SuperpixelScores(NamedTuple):
    """One row per superpixel that has a pixel left, by ascending id."""

    unit: Tensor
    """Superpixel id, (n,), int64."""
    score: Tensor
    """Mean score of its pixels, (n,), float64."""
    pixels: Tensor
    """Pixels of it that have not been asked, (n,), int64."""
    label: Tensor
    """Class that most of them are predicted to be, lowest id among equals, (n,), int64."""
    top: Tensor
    """The pixel of highest score, the first in raster order among equals, ``y * w + x``, (n,)."""


def superpixel_scores(
    scores: Tensor, labels: Tensor, regions: Tensor, num_regions: int, num_classes: int
) -> SuperpixelScores:
    """Reduce the pixels of images to their superpixels (F21).

    Args:
        scores: `alseg.methods.madbal.disagreement.pixel_scores`, (..., h, w).
        labels: Class predicted by the final logits, (..., h, w), integer.
        regions: Superpixel of each pixel, -1 where it has been asked, (..., h, w), integer.
        num_regions: R.
        num_classes: C.

    Returns:
        On the CPU; a GPU is waited for once.
    """
    pixels = region_counts(regions, num_regions)
    every = SuperpixelScores(
        torch.arange(num_regions),
        region_sums(scores, regions, num_regions) / pixels.clamp(min=1),
        pixels,
        region_majority(class_histogram(labels, regions, num_regions, num_classes)),
        region_argmax(scores, regions, num_regions),
    )
    table = on_host({"superpixels": every._asdict()})["superpixels"]
    left = torch.from_numpy(np.flatnonzero(table["pixels"].numpy()))
    return SuperpixelScores(**{name: column[left] for name, column in table.items()})
