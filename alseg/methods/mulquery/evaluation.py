"""The reference's mean IoU, for comparison with its numbers only.

alseg reports `torchmetrics.classification.MulticlassJaccardIndex`, which leaves classes without
any pixel out of the mean; the reference counts those as 100 %.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID


class ReferenceIoU(NamedTuple):
    """Intersection over union in percent."""

    per_class: NDArray[np.float64]  #: (C,), 100 for classes absent from the ground truth.
    mean: float  #: Over all C classes.
    undefined: float | None  #: Of the undefined output on void pixels; None without that output.


def reference_iou(
    logits: NDArray[np.floating], truth: NDArray[np.uint8], num_classes: int
) -> ReferenceIoU:
    """Intersection over union as the reference counts it (mulquery section 7).

    Args:
        logits: (B, K, H, W); K is C, or C + 1 where the last output stands for undefined.
        truth: Ground truth, (B, H, W), class ids or `VOID`.
        num_classes: C.

    Returns:
        IoU of the classes where the ground truth is not void, from the first C outputs only, and
        that of undefined over all pixels, from all outputs.
    """
    known = truth != VOID
    guess = logits[:, :num_classes].argmax(axis=1)
    pairs = guess[known].astype(np.int64) * num_classes + truth[known]
    confusion = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    hit, present = confusion.diagonal(), confusion.sum(axis=0)
    union = present + confusion.sum(axis=1) - hit
    per_class = np.where(present > 0, 100 * hit / np.maximum(union, 1), 100.0)
    undefined = None
    if logits.shape[1] > num_classes:
        said = logits.argmax(axis=1) == num_classes
        undefined = float(100 * (said & ~known).sum() / max((said | ~known).sum(), 1))
    return ReferenceIoU(per_class, float(per_class.mean()), undefined)
