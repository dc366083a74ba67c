"""From score maps to scores of units: the mean, the sum or the largest over a unit's pixels."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from alseg.acquisition.statistics import region_counts, region_sums

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
    num_regions = int(regions.max()) + 1
    pixels = region_counts(regions, num_regions)
    unit = pixels.nonzero().squeeze(1)
    pixels = pixels[unit]
    if reduce == "max":
        inside = regions.reshape(-1) >= 0
        ids, values = regions.reshape(-1)[inside].long(), scores.reshape(-1)[inside].float()
        score = torch.full((num_regions,), -torch.inf, device=scores.device)
        score = score.scatter_reduce(0, ids, values, "amax")[unit]
    else:
        score = region_sums(scores, regions, num_regions)[unit]
        score = (score / pixels if reduce == "mean" else score).float()
    return UnitScores(unit, score, pixels)


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
    flat = scores.reshape(-1).float()
    n = min(n, flat.numel())
    if n == 0:
        unit = torch.zeros(0, dtype=torch.long, device=flat.device)
    else:
        cut = torch.topk(flat, n).values[-1]
        level = (flat == cut).nonzero().squeeze(1)
        above = (flat > cut).nonzero().squeeze(1)
        unit = torch.cat([above, level[: n - len(above)]]).sort().values
    return UnitScores(unit, flat[unit], torch.ones_like(unit))
