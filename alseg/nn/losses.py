"""Losses that several methods share."""

import torch.nn.functional as F
from torch import Tensor

from alseg.core.images import VOID
from alseg.nn.precision import at_least_float32


def labelled_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels of a whole batch, 0 when there is none.

    Args:
        scores: Logits, (B, C, H, W); computed in float32 if less exact.
        labels: Class ids 0..C-1, or `VOID` where a pixel is not labelled, (B, H, W), integer.

    Returns:
        Scalar; without a labelled pixel its gradient is 0 too (adaptive superpixels F15,
        arXiv 2303.16817).

    >>> import torch
    >>> scores = torch.zeros(1, 4, 1, 2)
    >>> round(float(labelled_cross_entropy(scores, torch.tensor([[[2, 255]]]))), 6)
    1.386294
    >>> float(labelled_cross_entropy(scores, torch.tensor([[[255, 255]]])))
    0.0
    """
    total = F.cross_entropy(
        at_least_float32(scores), labels.long(), ignore_index=VOID, reduction="sum"
    )
    return total / (labels != VOID).sum().clamp(min=1)
