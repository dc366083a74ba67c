"""Losses on the two views of a batch.

Equation numbers are those of EquAL (arXiv 2008.01860) as its reference implementation has them.
Void is one of the C output channels: the softmax runs over it, but no pixel is ever trained towards
it. Labels hold the channel of each pixel's class, or `VOID` where a pixel is void or not asked.
Every function works in at least float32, whatever the network's precision.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from alseg.core.images import VOID
from alseg.nn.precision import at_least_float32


class TwoViewLoss(NamedTuple):
    """The sum (F6) and its four terms, scalars."""

    total: Tensor
    plain: Tensor
    mirrored: Tensor
    plain_to_mirrored: Tensor
    mirrored_to_plain: Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels of the whole batch (F4).

    Args:
        logits: (B, C, H, W), void's channel included.
        labels: Channels 0..C-1 or `VOID`, (B, H, W), any integer type.

    Returns:
        Scalar; NaN, and so is its gradient, when no pixel is labelled, so that the caller must
        decide what that means.

    >>> import torch
    >>> logits = torch.zeros(1, 4, 1, 2)
    >>> round(float(cross_entropy(logits, torch.tensor([[[2, 255]]]))), 6)
    1.386294
    """
    known = labels != VOID
    # Not by ignore_index: without a labelled pixel that gives NaN with a gradient of 0.
    pixels = F.cross_entropy(
        at_least_float32(logits), labels.where(known, 0).long(), reduction="none"
    )
    return (pixels * known).sum() / known.sum()


def consistency(logits: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference to another view, which gets no gradient (F5).

    Args:
        logits: Raw outputs of the view that learns, (B, C, H, W).
        target: Raw outputs of the other view, (B, C, H, W).

    Returns:
        Scalar: the mean over all pixels, labelled or not, and all channels, void's included.
    """
    return F.mse_loss(at_least_float32(logits), at_least_float32(target.detach()))


def two_view_loss(plain: Tensor, mirrored: Tensor, labels: Tensor) -> TwoViewLoss:
    """Cross-entropy of both views plus the consistency of each with the other (F6).

    All weights are 1. The value counts the squared difference twice, its gradient counts it once,
    because each term holds one view fixed.

    Args:
        plain: ``a = f(x)``, (B, C, H, W).
        mirrored: ``b = flip(f(flip(x)))``, (B, C, H, W).
        labels: Channels 0..C-1 or `VOID`, (B, H, W), any integer type.

    Returns:
        The sum and its terms. Without a labelled pixel the sum and the two cross-entropies are
        NaN; the two consistency terms are always defined.
    """
    terms = (
        cross_entropy(plain, labels),
        cross_entropy(mirrored, labels),
        consistency(plain, mirrored),
        consistency(mirrored, plain),
    )
    return TwoViewLoss(terms[0] + terms[1] + terms[2] + terms[3], *terms)
