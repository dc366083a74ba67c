"""Predictions at the size of the image, and the references' ways of counting them.

Equation numbers are those of ALS4GAN (arXiv 2110.07782) as its reference implementation has them.
alseg reports `torchmetrics.classification.MulticlassJaccardIndex`, whose mean also counts classes
that are predicted but not in the ground truth; the numbers here are for comparison.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alseg.nn.segmenter import upsample


class Metrics(NamedTuple):
    """Shares, 0..1, from the pixels of a whole data set (E26)."""

    accuracy: float  #: Pixels that are right.
    mean_accuracy: float  #: Mean over the classes of the ground truth.
    mean_iou: float  #: Mean over the classes of the ground truth.
    weighted_iou: float  #: The same, weighted by pixels of the ground truth.
    iou: NDArray[np.float64]  #: (C,), NaN for classes absent on both sides.
    s4gan_mean_iou: float  #: S4GAN's: over all C classes, absent ones counting as 0.


def predict(
    logits: Tensor, canvas: tuple[int, int], size: tuple[int, int], *, stretched: bool = False
) -> Tensor:
    """Best class of every pixel of an image that was padded at the bottom and the right (E25).

    Args:
        logits: Of the padded image, (B, C, h, w), on any grid that spans it.
        canvas: Height and width of the padded image.
        size: Height and width of the image.
        stretched: As the reference evaluates UC Merced, where the padded image is shrunk to the
            image's size instead of being cut to it, so that predictions miss their pixels.

    Returns:
        (B, H, W), int64.
    """
    if stretched:
        canvas = size
    full = upsample(logits, canvas, align_corners=True)
    return full[..., : size[0], : size[1]].argmax(dim=1)


def confusion(
    guess: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], num_classes: int
) -> NDArray[np.int64]:
    """Pixels per true class (rows) and predicted class (columns), (C, C).

    Args:
        guess: Predicted classes, any shape.
        truth: True classes, shape of `guess`; pixels outside 0..C-1, void among them, do not count.
        num_classes: C.
    """
    known = (truth >= 0) & (truth < num_classes)
    pairs = truth[known].astype(np.int64) * num_classes + guess[known]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def metrics(counts: NDArray[np.int64]) -> Metrics:
    """The references' numbers from a confusion matrix (E26).

    Args:
        counts: See `confusion`. Several matrices of parts of a data set may be added up.

    Returns:
        Everything NaN but S4GAN's mean if there is no pixel.
    """
    hit, present = counts.diagonal(), counts.sum(axis=1)
    union = present + counts.sum(axis=0) - hit
    with np.errstate(invalid="ignore"):  # 0 / 0: classes that are not there
        iou, accuracy = hit / union, hit / present
        share = present / present.sum()
        right = float(hit.sum() / present.sum())
    there = present > 0
    return Metrics(
        accuracy=right,
        mean_accuracy=float(accuracy[there].mean()) if there.any() else np.nan,
        mean_iou=float(iou[there].mean()) if there.any() else np.nan,
        weighted_iou=float((share[there] * iou[there]).sum()) if there.any() else np.nan,
        iou=iou,
        s4gan_mean_iou=float(iou[hit > 0].sum() / len(counts)),
    )
