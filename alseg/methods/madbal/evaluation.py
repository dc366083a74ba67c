"""The reference's mean IoU, for comparison with its numbers only.

alseg leaves classes without any pixel out of the mean; the reference counts them as 0.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID


class ReferenceIoU(NamedTuple):
    """Counts over the labelled pixels, and shares 0..1 rounded to three decimals."""

    correct: int  #: Pixels of the right class.
    labelled: int  #: Pixels with a label.
    intersection: NDArray[np.int64]  #: Right pixels of each class, (C,).
    union: NDArray[np.int64]  #: Pixels that are, or are called, each class, (C,).
    per_class: NDArray[np.float64]  #: (C,), 0 for classes absent on both sides.
    mean: float  #: Over all C classes.
    accuracy: float  #: Share of the labelled pixels that are right; 0 without any.


def reference_iou(
    guess: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], num_classes: int
) -> ReferenceIoU:
    """Intersection over union as the reference counts it (MADBAL section 8, arXiv 2308.14904).

    Args:
        guess: Predicted class, any shape.
        truth: Class ids or `VOID`, shape of `guess`.
        num_classes: C.
    """
    known = truth != VOID
    pairs = truth[known].astype(np.int64) * num_classes + guess[known]
    counts = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    hit, labelled = counts.diagonal(), int(known.sum())
    union = counts.sum(axis=0) + counts.sum(axis=1) - hit
    per_class = hit / np.maximum(union, 1)
    return ReferenceIoU(
        int(hit.sum()),
        labelled,
        hit.astype(np.int64),
        union.astype(np.int64),
        np.round(per_class, 3),
        round(float(per_class.mean()), 3),
        round(float(hit.sum() / max(labelled, 1)), 3),
    )
