"""How well two answers to the same questions agree: of two annotators, or of one and a model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID
from alseg.labels.kinds.base import Column

#: Share of a unit's pixels that a class must have to count as seen in it.
LEAST_SHARE = 0.02


@dataclass(frozen=True)
class Agreement:
    """Answers given twice.

    Attributes:
        questions: Questions that were asked twice.
        counts: How often each pair of first (rows) and second answer (columns) was given, C classes
            and, last, void, (C + 1, C + 1), int64. Of masks pixels are counted; of class sets, per
            class, how often it was named by both, the first, the second and neither, see `sets`.
        kappa: Cohen's kappa: 1 = always the same, 0 = as often as by chance, NaN where chance alone
            would always agree.
    """

    questions: int
    counts: NDArray[np.int64]
    kappa: float

    def described(self, names: Sequence[str], answer: str) -> dict[str, Any]:
        """Plain values for a file, with the names of the classes and, last, of void."""
        return {
            "questions": self.questions,
            "answer": answer,
            "names": list(names),
            "kappa": None if math.isnan(self.kappa) else self.kappa,
            "counts": self.counts.tolist(),
        }


def single_labels(
    first: NDArray[np.integer], second: NDArray[np.integer], num_classes: int
) -> NDArray[np.int64]:
    """Confusion table of two columns of labels.

    Args:
        first: Class ids or VOID, (n,).
        second: As `first`.
        num_classes: C.

    Returns:
        (C + 1, C + 1), int64; rows are the first answers, the last row and column are void.

    >>> single_labels(np.array([0, 1, 255]), np.array([0, 0, 255]), 2).tolist()
    [[1, 0, 0], [1, 0, 0], [0, 0, 1]]
    """
    width = num_classes + 1
    a, b = (
        np.where(np.asarray(side) == VOID, num_classes, side).astype(np.int64)
        for side in (first, second)
    )
    return np.bincount(a * width + b, minlength=width**2).reshape(width, width)


def sets(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Agreement of class sets, class by class.

    Args:
        first: Sets, (n, C + 1).
        second: As `first`.

    Returns:
        Per class a table of not named and named by the first (rows) and the second (columns),
        (C + 1, 2, 2), int64.

    >>> sets(np.array([[True, False]]), np.array([[True, True]])).tolist()
    [[[0, 0], [0, 1]], [[0, 1], [0, 0]]]
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    cells = [[(~a & ~b), (~a & b)], [(a & ~b), (a & b)]]
    table = np.array([[cell.sum(axis=0) for cell in row] for row in cells], dtype=np.int64)
    return np.moveaxis(table, -1, 0)


def cohen_kappa(counts: NDArray[np.integer]) -> float:
    """Cohen's kappa of a confusion table (Cohen 1960, Educational and Psychological Measurement).

    Args:
        counts: How often each pair of answers was given, (K, K).

    Returns:
        At most 1; NaN without a pair, or where both always gave one and the same answer.

    >>> cohen_kappa(np.array([[20, 5], [10, 15]]))
    0.4
    """
    table = np.asarray(counts, dtype=np.float64)
    total = table.sum()
    if not total:
        return float("nan")
    same = np.trace(table) / total
    chance = float(table.sum(axis=0) @ table.sum(axis=1)) / total**2
    return float(round((same - chance) / (1 - chance), 12)) if chance < 1 else float("nan")


def agreement(
    column: Column, first: Sequence[NDArray[np.generic]], second: Sequence[NDArray[np.generic]],
    num_classes: int,
) -> Agreement:  # fmt: skip
    """Agreement of answers of one round.

    Args:
        column: How the questions are answered, see `alseg.labels.kinds.base.Kind`.
        first: First answer to each of n questions: a label of shape (), the members of a set,
            (C + 1,) bool, or the labels of a unit's pixels.
        second: Second answers.
        num_classes: C.
    """
    if column == "sets":
        shape = (-1, num_classes + 1)
        counts = sets(np.array(first, bool).reshape(shape), np.array(second, bool).reshape(shape))
        return Agreement(len(first), counts, cohen_kappa(counts.sum(axis=0)))
    flat = [
        np.concatenate([np.zeros(0, np.int64), *(np.ravel(a).astype(np.int64) for a in side)])
        for side in (first, second)
    ]
    counts = single_labels(flat[0], flat[1], num_classes)
    return Agreement(len(first), counts, cohen_kappa(counts))


def implied(
    labels: NDArray[np.uint8], column: Column, num_classes: int
) -> int | list[int] | NDArray[np.uint8]:
    """What a label map, such as a prediction, answers about a unit.

    Args:
        labels: Classes of the unit's pixels in raster order, or VOID, (P,).
        column: How the question is answered, see `alseg.labels.kinds.base.Kind`.
        num_classes: C.

    Returns:
        Of sets the classes with at least `LEAST_SHARE` of the pixels; of masks the labels; else the
        most frequent class.

    >>> implied(np.array([2, 2, 0], np.uint8), "label", 3)
    2
    """
    if column == "masks":
        return labels
    count = np.bincount(labels, minlength=num_classes)[:num_classes]
    if column == "sets":
        return np.flatnonzero(count >= max(1, LEAST_SHARE * labels.size)).tolist()
    return int(count.argmax())
