"""Losses on class sets (stage 1) and on pseudo labels (stage 2).

Equation numbers are those of mulquery (arXiv 2309.09319). Everywhere ``s`` are cosines in
[-1, 1] and ``p = softmax(s / tau)``. The sums run over the whole batch, and every function works
in at least float32, whatever the network's precision.

Only pixels with ``selected`` count; their ``regions`` are rows of ``targets``. The rows may be
all regions of the image, or only the asked ones with everything else at -1 (then R is the largest
number of asked regions in the batch, and rows of shorter images are zero). Pixels of a region
with an empty set belong to no loss.
"""

from functools import cache
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


class Counts(NamedTuple):
    """How much of a batch the losses look at: who knows it waits for no device."""

    pixels: int
    """Selected pixels of regions whose set is not empty."""
    pairs: int
    """Pairs of such a pixel and a class of its set, where that has several."""


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
    counts: Counts | None = None,
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
        counts: Of these pixels and targets, see `counts_of`; None = count, for which the host waits
            for a GPU.

    Returns:
        The total and its terms; a total of 0 means that nothing was selected.
    """
    pixels_known, pairs_known = counts or (None, None)
    pixels = _labelled_pixels(cosines, regions, selected, targets, tau, pixels_known)
    single = _single_class(pixels)
    merged = _merged_positive(pixels)
    prototype = _prototypical_pixel(pixels, pairs_known)
    total = single_weight * single + merged_weight * merged + prototype_weight * prototype
    return StageOneLoss(total, single, merged, prototype)


def counts_of(regions: Tensor, targets: Tensor) -> Counts:
    """What `stage_one_loss` looks at where all pixels in a region are selected.

    Args:
        regions: Region id of each pixel, -1 = in none, (B, H, W), integer, on the CPU.
        targets: Class set of each region, (B, R, C), bool or uint8, on the CPU.

    >>> sets = torch.tensor([[[1, 1, 0], [0, 0, 1], [0, 0, 0]]])
    >>> counts_of(torch.tensor([[[0, 0, 0, 1, 2, -1]]]), sets)
    Counts(pixels=4, pairs=6)
    """
    size = targets.bool().sum(dim=2)
    num_regions = size.shape[1] + 1
    pixels = torch.stack(
        [torch.bincount(one.flatten() + 1, minlength=num_regions)[1:] for one in regions.int()]
    )
    return Counts(int(pixels[size > 0].sum()), int((pixels * size)[size > 1].sum()))


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
    cosines: Tensor,
    regions: Tensor,
    selected: Tensor,
    targets: Tensor,
    tau: float,
    count: int | None,
) -> _Pixels:
    num_regions = targets.shape[1]
    sets = targets.bool().flatten(0, 1)
    size = sets.sum(dim=1)
    first = torch.arange(len(regions), device=regions.device)[:, None, None] * num_regions
    known = size[(first + regions).where(selected, 0)] > 0
    image, y, x = _places(selected & known, count)
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


def _prototypical_pixel(pixels: _Pixels, pairs: int | None) -> Tensor:
    pixel, label = _places(pixels.candidates & ~pixels.single[:, None], pairs)
    probability = pixels.probabilities[pixel, label]
    num_classes = pixels.probabilities.shape[1]
    group = pixels.region[pixel] * num_classes + label
    prototype = first_argmax(probability, group, pixels.num_regions * num_classes)
    if not len(probability):
        return probability.sum() * 0.0
    largest = probability[prototype.clamp(max=len(probability) - 1)]
    return _mean_surprise(largest, (prototype < len(probability)) & (largest > 0))


def _places(mask: Tensor, count: int | None) -> tuple[Tensor, ...]:
    """Indices of what is True, of which there are `count` if somebody knows."""
    if count is None or not _has_places_of_known_number(mask.device):
        return mask.nonzero(as_tuple=True)
    return torch.nonzero_static(mask, size=count).unbind(1)


@cache
def _has_places_of_known_number(device: torch.device) -> bool:
    """Whether this torch can list a known number of places there; not all can on a GPU."""
    try:
        torch.nonzero_static(torch.zeros(1, dtype=torch.bool, device=device), size=0)
    except NotImplementedError:
        return False
    return True


def _mean_surprise(probability: Tensor, where: Tensor) -> Tensor:
    """Sum of ``-log(p + 1e-8)`` over the places of a mask, divided by 1 + their number."""
    if probability.device.type == "cpu":
        chosen = probability[where]
        return -(chosen + EPS).log().sum() / (1 + len(chosen))
    # on a GPU the host would wait to learn how many there are
    return -(probability + EPS).log().where(where, 0).sum() / (1 + where.sum())
