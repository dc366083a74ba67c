"""Losses on class sets (stage 1) and on pseudo labels (stage 2).

Equation numbers are those of mulquery (arXiv 2309.09319). Everywhere ``s`` are cosines in
[-1, 1] and ``p = softmax(s / tau)``. The sums run over the whole batch, and every function works
in at least float32, whatever the network's precision.

Only pixels with ``selected`` count; their ``regions`` are rows of ``targets``. The rows may be
all regions of the image, or only the asked ones with everything else at -1 (then R is the largest
number of asked regions in the batch, and rows of shorter images are zero). Pixels of a region
with an empty set belong to no loss.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from alseg.core.images import VOID
from alseg.methods.mulquery.groups import first_argmax
from alseg.nn.precision import at_least_float32

#: Added to probabilities before the logarithm.
EPS = 1e-8


class StageOneLoss(NamedTuple):
    """The weighted sum (L4) and its terms before weighting, scalars."""

    total: Tensor
    #: Cross-entropy on regions with one class (L1): the sum of ``-log(p + 1e-8)`` over 1 + number
    #: of pixels; exactly 0 without any.
    single_class: Tensor
    #: Each pixel of a region with several classes is one of them (L2): the sum of
    #: ``-log(sum of p over the set + 1e-8)`` over 1 + number of pixels; exactly 0 without any.
    merged_positive: Tensor
    #: Each class of a region with several is somewhere in it (L3): the sum of ``-log(p + 1e-8)``
    #: over 1 + number of (region, class) pairs; exactly 0 without any. Per pair, the gradient goes
    #: to the one pixel where the class is most probable, the first in raster order if there are
    #: several. Every class of the set is demanded of the visible part of a region, also when a crop
    #: has cut it. Pairs whose largest probability is 0 are left out.
    prototypical_pixel: Tensor


class _Pixels(NamedTuple):
    """Selected pixels whose region has a non-empty set, in raster order, image by image."""

    probabilities: Tensor  # (n, C), float32 or float64
    candidates: Tensor  # (n, C), bool: the set of the pixel's region
    region: Tensor  # (n,), int64: b * R + region id
    single: Tensor  # (n,), bool: the set has one class
    num_regions: int  # B * R


def stage_one_loss(
    cosines: Tensor,
    regions: Tensor,
    selected: Tensor,
    targets: Tensor,
    *,
    tau: float,
    single_weight: float,
    merged_weight: float,
    prototype_weight: float,
) -> StageOneLoss:
    """Weighted sum of the three terms (L4).

    Args:
        cosines: ``s``, (B, C, H, W).
        regions: Region id of each pixel, (B, H, W), int64.
        selected: Pixels of asked regions, (B, H, W), bool.
        targets: Class set of each region, (B, R, C), bool or uint8.
        tau: Temperature.
        single_weight: Weight of (L1).
        merged_weight: Weight of (L2).
        prototype_weight: Weight of (L3).

    Returns:
        The total and its terms; a total of 0 means that nothing was selected.
    """
    pixels = _labelled_pixels(cosines, regions, selected, targets, tau)
    single = _single_class(pixels)
    merged = _merged_positive(pixels)
    prototype = _prototypical_pixel(pixels)
    total = single_weight * single + merged_weight * merged + prototype_weight * prototype
    return StageOneLoss(total, single, merged, prototype)


def pseudo_label_loss(cosines: Tensor, labels: Tensor, *, tau: float) -> Tensor:
    """Cross-entropy on pseudo labels, mean over labelled pixels (stage 2).

    Args:
        cosines: ``s``, (B, C, H, W).
        labels: Pseudo labels, (B, H, W), any integer type; `VOID` is left out.
        tau: Temperature.

    Returns:
        Scalar; NaN when no pixel is labelled, so that the caller must decide what that means.
    """
    return F.cross_entropy(at_least_float32(cosines) / tau, labels.long(), ignore_index=VOID)


def _labelled_pixels(
    cosines: Tensor, regions: Tensor, selected: Tensor, targets: Tensor, tau: float
) -> _Pixels:
    num_regions = targets.shape[1]
    sets = targets.bool().flatten(0, 1)
    size = sets.sum(dim=1)
    first = torch.arange(len(regions), device=regions.device)[:, None, None] * num_regions
    known = size[(first + regions).where(selected, 0)] > 0
    image, y, x = (selected & known).nonzero(as_tuple=True)
    region = image * num_regions + regions[image, y, x]
    scores = at_least_float32(cosines[image, :, y, x])  # softmax only where it is needed
    return _Pixels(
        (scores / tau).softmax(dim=1), sets[region], region, size[region] == 1, len(sets)
    )


def _single_class(pixels: _Pixels) -> Tensor:
    return _set_cross_entropy(pixels, pixels.single)


def _merged_positive(pixels: _Pixels) -> Tensor:
    return _set_cross_entropy(pixels, ~pixels.single)


def _set_cross_entropy(pixels: _Pixels, where: Tensor) -> Tensor:
    """(L1) and (L2): with one class the sum over the set is that class's probability."""
    inside = (pixels.probabilities * pixels.candidates).sum(dim=1)
    return _mean_surprise(inside, where)


def _prototypical_pixel(pixels: _Pixels) -> Tensor:
    pixel, label = (pixels.candidates & ~pixels.single[:, None]).nonzero(as_tuple=True)
    probability = pixels.probabilities[pixel, label]
    num_classes = pixels.probabilities.shape[1]
    group = pixels.region[pixel] * num_classes + label
    prototype = first_argmax(probability, group, pixels.num_regions * num_classes)
    if not len(probability):
        return probability.sum() * 0.0
    largest = probability[prototype.clamp(max=len(probability) - 1)]
    return _mean_surprise(largest, (prototype < len(probability)) & (largest > 0))


def _mean_surprise(probability: Tensor, where: Tensor) -> Tensor:
    """Sum of ``-log(p + 1e-8)`` over the places of a mask, divided by 1 + their number."""
    if probability.device.type == "cpu":
        chosen = probability[where]
        return -(chosen + EPS).log().sum() / (1 + len(chosen))
    # on a GPU the host would wait to learn how many there are
    return -(probability + EPS).log().where(where, 0).sum() / (1 + where.sum())
