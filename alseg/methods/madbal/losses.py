"""Losses of phase I (segmentation) and phase II (auxiliary classifiers and hard-pixel detector).

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
Labels hold class ids or `VOID` where a pixel is void or not asked. Every mean runs over the
labelled pixels of the whole batch and is 0, with a gradient of 0, where there are none; the
reference gives NaN there. Every function works in at least float32, whatever the network's
precision.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from alseg.acquisition.statistics import region_counts, region_sums
from alseg.core.images import VOID
from alseg.nn.precision import at_least_float32

#: Weight of the auxiliary loss of each depth, from the shallowest on, in their sum.
DEPTH_FACTORS = (0.1, 0.2, 0.3)
#: Weight of that sum beside the detector's loss.
AUXILIARY_FACTOR = 0.5


class DetectorLoss(NamedTuple):
    """The two terms of (F13), scalars."""

    edge: Tensor
    interior: Tensor


class PhaseTwoLoss(NamedTuple):
    """The sum (F15) and its terms before weighting."""

    total: Tensor
    """Scalar."""
    edge: Tensor
    """Scalar."""
    interior: Tensor
    """Scalar."""
    auxiliary: Tensor
    """One loss per depth, (3,)."""


def class_weights(counts: Tensor) -> Tensor:
    """Weight of each class in the cross-entropy: one minus its share of the labels (F9).

    Args:
        counts: Labelled pixels of each class in the whole pool, (C,).

    Returns:
        0..1, (C,), float32; 1 for a class without a label, and for all where nothing is labelled.

    >>> class_weights(torch.tensor([1, 3, 0])).tolist()
    [0.75, 0.25, 1.0]
    """
    shares = counts.double() / counts.sum().clamp(min=1)
    return (1 - shares).float()


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Unweighted cross-entropy of every pixel (F11, F12).

    Args:
        logits: (B, C, H, W).
        labels: Class ids or `VOID`, (B, H, W), any integer type.

    Returns:
        Nats, (B, H, W), 0 where nothing is labelled.
    """
    return F.cross_entropy(
        at_least_float32(logits), labels.long(), ignore_index=VOID, reduction="none"
    )


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the cross-entropy over the labelled pixels: the loss of phase I (F10).

    ``sum_p w(y_p) CE_p / sum_p w(y_p)``.

    Args:
        logits: (B, C, H, W).
        labels: Class ids or `VOID`, (B, H, W), any integer type.
        weights: `class_weights`, (C,).

    Returns:
        Scalar; 0 without a labelled pixel, or where all labels are of a class of weight 0, as when
        the pool knows one class only.
    """
    known = labels != VOID
    weight = weights[labels.where(known, 0).long()] * known
    # The pixels' own function, weighted here: with weights of its own it is NaN without a label.
    total = (weight * pixel_cross_entropy(logits, labels)).sum()
    return total / _nonzero(weight.sum())


def class_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What a batch adds to the thresholds: sum of losses and number of pixels per class (F11).

    Args:
        logits: (B, C, H, W).
        labels: Class ids or `VOID`, (B, H, W), any integer type.

    Returns:
        Sums of `pixel_cross_entropy`, (C,), float64, and labelled pixels, (C,), int64. Add them up
        over the batches of the pool, and over processes.
    """
    num_classes = logits.shape[1]
    classes, losses = _without_void(labels), pixel_cross_entropy(logits, labels).detach()
    return region_sums(losses, classes, num_classes), region_counts(classes, num_classes)


def class_thresholds(sums: Tensor, counts: Tensor) -> Tensor:
    """Mean loss of each class in the pool: a pixel of higher loss is hard (F11).

    Args:
        sums: Sums of the losses, (C,).
        counts: Labelled pixels, (C,).

    Returns:
        (C,), float32; NaN for a class without a label, of which no pixel will be hard.

    >>> class_thresholds(torch.tensor([3.0, 0.0]), torch.tensor([2, 0])).tolist()
    [1.5, nan]
    """
    return (sums / counts).float()


def hard_labels(losses: Tensor, labels: Tensor, thresholds: Tensor) -> Tensor:
    """Which pixels the segmentation finds hard: loss above the mean of their class (F12).

    Args:
        losses: `pixel_cross_entropy` of the frozen segmentation, (B, H, W).
        labels: Class ids or `VOID`, (B, H, W), any integer type.
        thresholds: `class_thresholds`, (C,).

    Returns:
        1 = hard, 0 = easy, `VOID` where nothing is labelled, (B, H, W), uint8.
    """
    known = labels != VOID
    hard = losses.detach() > thresholds[labels.where(known, 0).long()]  # False where NaN
    return hard.to(torch.uint8).masked_fill(~known, VOID)


def detector_loss(hard_logits: Tensor, hard: Tensor, edges: Tensor) -> DetectorLoss:
    """Binary cross-entropy of the hard-pixel detector, one mean per kind of pixel (F13).

    Args:
        hard_logits: Outputs of the detector before the sigmoid, (B, 2, H, W): channel 0 judges
            pixels on image edges, channel 1 the others.
        hard: `hard_labels`, (B, H, W).
        edges: Pixels on image edges, (B, H, W), bool or 0 and 1.

    Returns:
        The term of each kind; 0 where the batch has no labelled pixel of that kind.
    """
    known, edge = hard != VOID, edges.bool()
    target = hard.where(known, 0)
    terms = []
    for channel, kind in enumerate((known & edge, known & ~edge)):
        logits = at_least_float32(hard_logits[:, channel])
        losses = F.binary_cross_entropy_with_logits(logits, target.to(logits), reduction="none")
        terms.append((losses * kind).sum() / kind.sum().clamp(min=1))
    return DetectorLoss(*terms)


def auxiliary_losses(auxiliary: Sequence[Tensor], labels: Tensor, weights: Tensor) -> Tensor:
    """`weighted_cross_entropy` of each auxiliary classifier, (3,); see (F14) for their sum.

    Args:
        auxiliary: Logits of the classifiers, from the shallowest on, (B, C, H, W) each.
        labels: Class ids or `VOID`, (B, H, W), any integer type.
        weights: `class_weights`, (C,).
    """
    return torch.stack([weighted_cross_entropy(maps, labels, weights) for maps in auxiliary])


def phase_two_loss(
    hard_logits: Tensor,
    auxiliary: Sequence[Tensor],
    labels: Tensor,
    hard: Tensor,
    edges: Tensor,
    weights: Tensor,
) -> PhaseTwoLoss:
    """Loss of the support modules (F15): the detector's, plus half the weighted auxiliary ones.

    The depth weights have no loss of their own: they learn through the fused map that the detector
    reads.

    Args:
        hard_logits: Outputs of the detector before the sigmoid, (B, 2, H, W).
        auxiliary: Logits of the three classifiers, from the shallowest on, (B, C, H, W) each.
        labels: Class ids or `VOID`, (B, H, W), any integer type.
        hard: `hard_labels` of the frozen segmentation, (B, H, W).
        edges: Pixels on image edges, (B, H, W), bool or 0 and 1.
        weights: `class_weights`, (C,).
    """
    detector = detector_loss(hard_logits, hard, edges)
    losses = auxiliary_losses(auxiliary, labels, weights)
    factors = torch.tensor(DEPTH_FACTORS, dtype=losses.dtype).to(losses.device, non_blocking=True)
    weighted = (losses * factors).sum()
    total = detector.edge + detector.interior + AUXILIARY_FACTOR * weighted
    return PhaseTwoLoss(total, detector.edge, detector.interior, losses)


def _without_void(labels: Tensor) -> Tensor:
    """Class ids, -1 where nothing is labelled: the classes are the regions of a map."""
    return labels.long().masked_fill(labels == VOID, -1)


def _nonzero(value: Tensor) -> Tensor:
    return value.where(value > 0, 1)
