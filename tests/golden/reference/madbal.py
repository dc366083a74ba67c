"""Rules of MADBAL's reference implementation that the library does not follow or does not need.

The golden arrays record them; formula numbers are those of the reference's own steps.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.core.images import VOID


def grid_size(height: int, width: int, longest: int = 400) -> tuple[int, int]:
    """Height and width of the grid whose longer side has a given number of cells (PASCAL VOC).

    The floor of a rounded quotient loses a cell for some sizes.

    >>> grid_size(250, 333)
    (300, 399)
    """
    factor = max(height, width) / longest
    return int(height // factor), int(width // factor)


def class_counts(labels: Tensor, num_classes: int) -> Tensor:
    """Labelled pixels of each class in label maps, (C,), int64, for the class weights (F9).

    The library counts answers instead, see `alseg.methods.madbal.cells.labelled_pixels`.
    """
    return torch.bincount(labels[labels != VOID].long(), minlength=num_classes)


def phase_one_epochs(epochs: int) -> int:
    """Passes over the images that phase I makes of those it is given: the last is left out (F16).

    >>> phase_one_epochs(150)
    149
    """
    return epochs - 1


def without_asked(
    regions: NDArray[np.integer[Any]], asked: NDArray[np.integer[Any]]
) -> NDArray[np.integer[Any]]:
    """A map of superpixels, (h, w), with -1 at the pixels ``y * w + x`` that have been asked.

    >>> without_asked(np.array([[0, 0], [1, 1]]), np.array([1, 2])).tolist()
    [[0, -1], [-1, 1]]
    """
    left = regions.copy()
    left.flat[asked] = -1
    return left


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
    """Intersection over union, in whose mean classes without any pixel count as 0.

    The library leaves such classes out of the mean.

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


def spatial_coverage(pixels: NDArray[np.integer[Any]], width: int) -> float:
    """Mean distance between two of the pixels: how far apart a draw has put them.

    Args:
        pixels: Distinct flat indices, (n,).
        width: Of the image, in pixels.

    Returns:
        Euclidean distance in pixels, over all pairs; NaN for fewer than two pixels.

    >>> spatial_coverage(np.array([0, 3, 43]), width=10)
    4.0
    """
    if len(pixels) < 2:
        return float("nan")
    y, x = np.divmod(np.asarray(pixels, dtype=np.int64), width)
    one, other = np.triu_indices(len(pixels), 1)
    return float(np.hypot(y[one] - y[other], x[one] - x[other]).mean())
