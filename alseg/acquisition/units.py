"""From score maps to scores of units: the mean, the sum or the largest over a unit's pixels."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.statistics import region_counts, region_sums, side_by_side

Reduce = Literal["mean", "sum", "max"]


class UnitScores(NamedTuple):
    """One row per unit that has a pixel, by ascending id."""

    unit: Tensor
    """Unit id, (n,), int64."""
    score: Tensor
    """(n,), float32."""
    pixels: Tensor
    """Pixels of the unit, (n,), int64."""


def region_scores(scores: Tensor, regions: Tensor, reduce: Reduce = "mean") -> UnitScores:
    """Reduce the pixel scores of an image to its regions.

    Args:
        scores: Score of each pixel, (H, W), float.
        regions: Region id of each pixel, (H, W), integer, -1 = in no region.
        reduce: ``mean`` over the pixels; ``sum``, which favours large regions; or ``max``.

    >>> maps = torch.tensor([[1.0, 3.0, 5.0]]), torch.tensor([[0, 0, 2]])
    >>> region_scores(*maps).score.tolist(), region_scores(*maps, "max").score.tolist()
    ([2.0, 5.0], [3.0, 5.0])
    """
    return batch_region_scores(scores[None], regions[None], reduce)[1]


def batch_region_scores(
    scores: Tensor, regions: Tensor, reduce: Reduce = "mean", num_regions: int | None = None
) -> tuple[Tensor, UnitScores]:
    """Reduce the pixel scores of several images to their regions.

    Args:
        scores: Score of each pixel, (B, H, W), float.
        regions: Region id of each pixel, (B, H, W), integer, -1 = in no region.
        reduce: See `region_scores`.
        num_regions: No image has an id so high; None = look, for which the host waits for a GPU.

    Returns:
        Position in the batch of the image of each unit, (n,), int64, and the units, image by image.
    """
    joined, stride = side_by_side(regions, num_regions)
    count = len(regions) * stride
    every = region_counts(joined, count)
    if reduce != "max":
        sums = region_sums(scores, joined, count)
        return units_of_sums(sums.view(-1, stride), every.view(-1, stride), reduce)
    row = every.nonzero().squeeze(1)
    # the first place takes the pixels of no region
    score = torch.full((count + 1,), -torch.inf, device=scores.device)
    ids, values = joined.reshape(-1).long() + 1, scores.reshape(-1).float()
    score = score.scatter_reduce(0, ids, values, "amax")[1:][row]
    return row // stride, UnitScores(row % stride, score, every[row])


def units_of_sums(
    sums: Tensor, pixels: Tensor, reduce: Literal["mean", "sum"] = "mean"
) -> tuple[Tensor, UnitScores]:
    """Units of images whose scores have been summed over every region.

    Args:
        sums: Sum of the pixel scores of each region, (B, R), float64.
        pixels: Pixels of each region, (B, R), int64.
        reduce: See `region_scores`.

    Returns:
        As `batch_region_scores`.

    >>> image, units = units_of_sums(torch.tensor([[6.0, 0.0]]), torch.tensor([[3, 0]]))
    >>> image.tolist(), units.unit.tolist(), units.score.tolist()
    ([0], [0], [2.0])
    """
    row = pixels.flatten().nonzero().squeeze(1)
    score, count = sums.flatten()[row], pixels.flatten()[row]
    score = (score / count if reduce == "mean" else score).float()
    stride = pixels.shape[1]
    return row // stride, UnitScores(row % stride, score, count)


def top_pixels(scores: Tensor, n: int) -> UnitScores:
    """The pixels of highest score of an image: units of one pixel, ``y * W + x``.

    The n best of a pool are among the n best of its images, so nothing else has to leave the
    device. Ties at the cut go to the lower id.

    Args:
        scores: (H, W), float.
        n: Pixels wanted; all if there are fewer.

    >>> top_pixels(torch.tensor([[1.0, 4.0], [4.0, 4.0]]), 2).unit.tolist()
    [1, 2]
    """
    flat = scores.detach().reshape(-1).float()
    n = min(n, flat.numel())
    if n == 0:
        unit = torch.zeros(0, dtype=torch.long, device=flat.device)
    elif flat.device.type == "cpu":
        unit = torch.from_numpy(_highest(flat.numpy(), n))
    else:  # a whole sort, but the host waits for nothing
        unit = flat.sort(descending=True, stable=True).indices[:n].sort().values
    return UnitScores(unit, flat[unit], torch.ones_like(unit))


def _highest(values: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """Places of the n highest values, ascending; among equals at the cut the first ones."""
    cut = np.partition(values, len(values) - n)[len(values) - n]
    above, level = np.flatnonzero(values > cut), np.flatnonzero(values == cut)
    return np.sort(np.concatenate([above, level[: n - len(above)]]))
