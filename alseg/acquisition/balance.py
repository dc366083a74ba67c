"""Scores that hold back what the network already sees everywhere: shares of the classes.

The dominant class of a region is the one predicted most often inside. Cai et al. (CVPR 2021,
"ClassBal") count the regions of each class; Kim et al. (arXiv 2303.16817), whose regions differ in
size, count their pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def class_shares(
    label: NDArray[np.integer[Any]],
    num_classes: int,
    pixels: NDArray[np.integer[Any]] | None = None,
    total: float | None = None,
) -> NDArray[np.float64]:
    """Share of each class among the dominant classes of regions.

    Args:
        label: Dominant class of each region, (m,); regions with -1 have none and do not count.
        num_classes: C.
        pixels: What each region counts, (m,): its pixels (Kim et al.); None for 1 (Cai et al.).
        total: What the counts are divided by, > 0; None for their sum. Kim et al. count pixels on
            predictions of half the size but divide by the pixels of the full images, so that their
            shares sum to 1/4 and all weights move closer together.

    Returns:
        (C,); sums to 1 without `total`, all 0 if nothing counts.

    >>> class_shares(np.array([2, 0, 2, -1]), 3).round(3).tolist()
    [0.333, 0.0, 0.667]
    >>> class_shares(np.array([2, 0]), 3, pixels=np.array([30, 10]), total=160).tolist()
    [0.0625, 0.0, 0.1875]
    """
    counts = np.bincount(
        label[label >= 0],
        None if pixels is None else pixels[label >= 0],
        minlength=num_classes,
    )
    return counts / (total or max(float(counts.sum()), 1.0))


def class_balanced(
    score: NDArray[np.floating[Any]],
    label: NDArray[np.integer[Any]],
    shares: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """Scores times ``exp(-share)`` of the region's dominant class.

    Args:
        score: Of each region, >= 0, (m,); 0 for regions that must not be asked.
        label: Dominant class, (m,), -1 = none.
        shares: `class_shares`, (C,).

    Returns:
        (m,); 0 for regions without a class.

    >>> class_balanced(np.array([1.0, 1.0]), np.array([0, 1]), np.array([0.0, np.log(2)])).tolist()
    [1.0, 0.5]
    """
    weights = np.exp(-np.append(np.asarray(shares, dtype=np.float64), np.inf))
    return np.asarray(score) * weights[label]


def relative_to_largest(uncertainty: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Divide by the largest of the pool, so that scores of different models can be compared.

    The smallest is not subtracted: before a multiplication by weights that would change the order.
    (Cai et al. do, over tables with empty slots, whose smallest value is always 0.)

    Args:
        uncertainty: Mean uncertainty of each region, >= 0, (m,).

    Returns:
        0..1, (m,); zeros if all are 0.
    """
    largest = float(np.max(uncertainty, initial=0.0))
    return np.asarray(uncertainty, dtype=np.float64) / (largest or 1.0)
