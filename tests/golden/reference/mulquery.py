"""Rules of mulquery's reference implementation that the library does not follow.

The golden arrays record them; section numbers are those of mulquery (arXiv 2309.09319).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.region_table import RegionTable
from alseg.core.images import VOID
from alseg.methods.mulquery.losses import stage_one_loss


def _term(name: str) -> Callable[..., Tensor]:
    """One term of the library's `stage_one_loss`, which the reference computes by itself."""

    def loss(
        cosines: Tensor, regions: Tensor, selected: Tensor, targets: Tensor, *, tau: float
    ) -> Tensor:
        weights = {"single_weight": 1.0, "merged_weight": 1.0, "prototype_weight": 1.0}
        terms = stage_one_loss(cosines, regions, selected, targets, tau=tau, **weights)
        value: Tensor = getattr(terms, name)
        return value

    loss.__name__ = name
    return loss


single_class_loss = _term("single_class")
merged_positive_loss = _term("merged_positive")
prototypical_pixel_loss = _term("prototypical_pixel")


def with_absent_regions(
    table: RegionTable, images: NDArray[np.integer], num_regions: int
) -> RegionTable:
    """Add a row of 0 pixels for every id of some images that has no pixel.

    References that work on dense (images, ids) tables let such ids take part: they are scored, and
    counted as of the first class. Add them to reproduce it.

    Args:
        table: Regions that occur.
        images: Image indices the ids are added to, (N,).
        num_regions: Ids are ``0..num_regions - 1``.

    Returns:
        The larger table.
    """
    stride = max(num_regions, int(table.unit.max(initial=-1)) + 1)
    known = table.image.astype(np.int64) * stride + table.unit
    every = np.unique(images).astype(np.int64)[:, None] * stride + np.arange(num_regions)
    image, unit = np.divmod(np.setdiff1d(every, known), stride)
    zero = np.zeros(len(image), dtype=np.int64)
    absent = RegionTable(image, unit, zero, zero.astype(np.float64), zero)
    longer = [np.concatenate(columns) for columns in zip(table, absent, strict=True)]
    order = np.lexsort((longer[1], longer[0]))  # stable: rows of a region stay in order
    return RegionTable(*(column[order] for column in longer))


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
