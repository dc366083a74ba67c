"""How good regions and labels are, measured against the ground truth; for experiments only."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID
from alseg.labels.truth import dominant_labels
from alseg.regions.geometry import boundaries, widened

#: Pixels counted at once: counting takes eight bytes of each.
_BLOCK = 2**22


class LabelQuality(NamedTuple):
    """Pixels of a label map, or of several when added up."""

    pixels: int  #: All.
    labelled: int  #: With a label.
    right: int  #: With the label of the ground truth.
    on_void: int  #: With a label where the ground truth is void.

    @property
    def agreement(self) -> float:
        """Share of right labels among those where the ground truth is not void; NaN if none is."""
        judged = self.labelled - self.on_void
        return self.right / judged if judged else float("nan")

    @property
    def noise(self) -> float:
        """Share of labels that are wrong: ``1 - agreement``."""
        return 1 - self.agreement


def confusion(
    guess: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], num_classes: int
) -> NDArray[np.int64]:
    """Pixels of each true class (rows) and each given class (columns), (C, C).

    Args:
        guess: Class ids or `VOID`, any shape.
        truth: Class ids or `VOID`, shape of `guess`; pixels that are void in either do not count.
        num_classes: C.
    """
    counts = np.zeros(num_classes**2, dtype=np.int64)
    flat = truth.reshape(-1), guess.reshape(-1)
    for start in range(0, truth.size, _BLOCK):
        actual, given = (labels[start : start + _BLOCK] for labels in flat)
        known = (actual != VOID) & (given != VOID)
        pairs = actual[known].astype(np.int64) * num_classes + given[known]
        counts += np.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_iou(counts: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Intersection over union of each class, NaN for classes that occur on neither side, (C,).

    Args:
        counts: `confusion`, or a sum of those of several images, (C, C).

    >>> class_iou(np.array([[3, 1, 0], [0, 1, 0], [0, 0, 0]])).tolist()
    [0.75, 0.5, nan]
    """
    hit = counts.diagonal()
    union = counts.sum(axis=0) + counts.sum(axis=1) - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan)


def best_labels(
    regions: NDArray[np.integer[Any]],
    truth: NDArray[np.uint8],
    num_classes: int,
    num_regions: int,
) -> NDArray[np.uint8]:
    """The best label map these regions allow: every pixel has its region's dominant class.

    Its agreement with the ground truth is the achievable segmentation accuracy of the regions (Liu
    et al., CVPR 2011), and its mean IoU that of an oracle with an unlimited budget.

    Args:
        regions: Region id of each pixel, -1 = none, (H, W).
        truth: Ground truth, (H, W); void does not vote.
        num_classes: C.
        num_regions: R.

    Returns:
        (H, W), `VOID` in no region and in regions of nothing but void.
    """
    label = dominant_labels(regions, truth, num_classes, num_regions, vote_void=False)
    return np.append(label, np.uint8(VOID))[regions]  # pixels in no region read the last entry


def boundary_recall(
    regions: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], tolerance: int
) -> tuple[int, int]:
    """How much of the ground truth's boundaries lies close to boundaries of regions.

    Args:
        regions: Region id of each pixel, (H, W).
        truth: Ground truth, (H, W); where it meets void is a boundary too.
        tolerance: Pixels, along both axes, within which a boundary counts as found.

    Returns:
        Boundary pixels of the ground truth that were found, and all of them. Add both up over
        images before dividing.

    >>> boundary_recall(np.array([[0, 0, 1, 1, 1]]), np.array([[4, 4, 4, 4, 7]]), tolerance=1)
    (1, 2)
    """
    found = widened(boundaries(regions), tolerance)
    wanted = boundaries(truth)
    return int((wanted & found).sum()), int(wanted.sum())


def label_quality(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> LabelQuality:
    """How many pixels are labelled and how many labels are right, e.g. before and after sieving.

    Args:
        labels: What a model is trained on, `VOID` where there is no label, (H, W).
        truth: Ground truth, (H, W).

    >>> labels, truth = np.array([1, 1, 1, 255, 0]), np.array([1, 0, 255, 1, 0])
    >>> label_quality(labels, truth)
    LabelQuality(pixels=5, labelled=4, right=2, on_void=1)
    >>> round(label_quality(labels, truth).noise, 4)
    0.3333
    """
    known = labels != VOID
    return LabelQuality(
        pixels=labels.size,
        labelled=int(known.sum()),
        right=int((known & (labels == truth)).sum()),
        on_void=int((known & (truth == VOID)).sum()),
    )
