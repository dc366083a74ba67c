"""The reference's mean IoU, for comparison with its numbers only.

alseg takes the best of the real classes at every pixel. The reference takes the best of all
outputs, and leaves labelled pixels it calls void out of the count instead of counting them as
missed, so its numbers are a little higher.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class ReferenceIoU(NamedTuple):
    """Intersection over union, 0..1, and the counts it comes from."""

    counts: NDArray[np.int64]  #: Pixels per truth (rows) and prediction (columns), (C, C).
    counted: NDArray[np.int64]  #: The same without void's row and column, which are 0.
    per_class: NDArray[np.float64]  #: (C,), NaN for void and for classes absent on both sides.
    mean: float  #: Over the classes that are not NaN; NaN if there is none.


def reference_iou(
    guess: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    num_outputs: int,
    void: int,
) -> ReferenceIoU:
    """Intersection over union as the reference counts it (EquAL (F13), arXiv 2008.01860).

    Args:
        guess: Best of all C outputs, void's included, any shape.
        truth: Channel of the true class, or that of void, shape of `guess`.
        num_outputs: C.
        void: Channel of void.
    """
    pairs = truth.ravel().astype(np.int64) * num_outputs + guess.ravel()
    counts = np.bincount(pairs, minlength=num_outputs**2).reshape(num_outputs, num_outputs)
    counted = counts.copy()
    counted[void, :] = counted[:, void] = 0
    hit = counted.diagonal()
    union = counted.sum(axis=0) + counted.sum(axis=1) - hit
    per_class = np.where(union > 0, hit / np.maximum(union, 1), np.nan)
    known = per_class[~np.isnan(per_class)]
    return ReferenceIoU(counts, counted, per_class, float(known.mean()) if len(known) else np.nan)
