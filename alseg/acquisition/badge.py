"""BADGE: diverse and uncertain units by hallucinated gradients (Ash et al., ICLR 2020).

The gradient of the cross-entropy to the predicted class, with respect to the last layer, is the
outer product of ``a = onehot(argmax p) - p`` (C numbers) and the features ``h`` (d numbers). It is
never formed: ``|a h' - b k'|^2 = |a|^2 |h|^2 + |b|^2 |k|^2 - 2 (a . b) (h . k)``.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.rows import Rows, Vectors, row_blocks
from alseg.acquisition.statistics import region_counts

#: Numbers of features worked on at a time.
_BLOCK = 2**18


class Gradients(NamedTuple):
    """Factored gradients: row ``i`` is the C x d matrix ``outer(error[i], features[i])``."""

    error: Vectors  #: ``onehot(argmax p) - p``, or its mean, (n, C).
    features: Vectors  #: Input of the last layer, or its mean, (n, d).


def prediction_error(probabilities: Tensor, dim: int = 1) -> Tensor:
    """One-hot vector of the best class, the lowest id among equals, minus the probabilities.

    Args:
        probabilities: (B, C, H, W) or any shape with classes along `dim`.
        dim: Dimension of the classes.

    Returns:
        Shape and type of `probabilities`; sums to 0 over the classes.

    >>> prediction_error(torch.tensor([[0.75, 0.25]])).tolist()
    [[0.25, -0.25]]
    """
    best = probabilities.argmax(dim, keepdim=True)
    return torch.zeros_like(probabilities).scatter_(dim, best, 1.0) - probabilities


def pooled_gradients(
    logits: Tensor, features: Tensor, regions: Tensor, num_regions: int
) -> tuple[Tensor, Tensor]:
    """Factors of every region of an image: mean error and mean features over its pixels.

    The adaptation to segmentation is alseg's own: the mean of the pixels' gradients has no such
    factors, the product of the means does.

    Args:
        logits: (C, H, W), on any grid.
        features: Input of the last layer on the same grid, (d, H, W).
        regions: Region ids 0..R-1 on the same grid, -1 = none, (H, W).
        num_regions: R.

    Returns:
        Mean error (R, C) and mean features (R, d), float32; 0 for regions without a pixel.
    """
    error = prediction_error(torch.softmax(logits.float(), 0), 0)
    bins = regions.reshape(-1).long() + 1  # bin 0 collects the pixels of no region
    pixels = region_counts(regions, num_regions).clamp(min=1)[:, None]
    means = []
    for maps in (error, features.float()):
        sums = maps.new_zeros(num_regions + 1, len(maps))
        means.append(sums.index_add_(0, bins, maps.flatten(1).T)[1:] / pixels)
    return means[0], means[1]


def gradient_norms(gradients: Gradients) -> NDArray[np.floating[Any]]:
    """Length of every gradient, (n,): long where the network is unsure.

    >>> gradient_norms(Gradients(np.array([[3.0, 4.0]]), np.array([[0.0, 2.0]]))).tolist()
    [10.0]
    """
    return np.sqrt(_squares(gradients.error) * _squares(gradients.features))


def gradient_distances(gradients: Gradients, row: int) -> NDArray[np.floating[Any]]:
    """Euclidean distance of every gradient to that of one row, (n,)."""
    length = _squares(gradients.error) * _squares(gradients.features)
    return np.sqrt(_squared_distances(gradients, length, row))


def badge(
    gradients: Gradients,
    ids: NDArray[np.integer[Any]],
    uniforms: NDArray[np.floating[Any]],
    share: float = 1.0,
    progress: bool = True,
) -> NDArray[np.int64]:
    """Pick units by k-means++ on their gradients, one per uniform number.

    The first is the one with the longest gradient. Each further one is drawn with probability
    proportional to the squared distance to the nearest that is already picked. Every pick takes
    one pass over the two factors.

    Args:
        gradients: Of the units. The factors may lie on the disk, see
            `alseg.acquisition.rows.Rows`: memory grows with n alone.
        ids: One distinct id per unit, (n,). The result depends on the set of (id, gradient) pairs
            and on the numbers drawn, not on the sequence of the rows.
        uniforms: One number in [0, 1) per pick, (k,), k <= n, such as ``rng.random(k)``; the first
            is not used. A pick is the first unit, by id, at which the cumulative probability is at
            least its number.
        share: Only this share of the units takes part, those with the longest gradients, but at
            least k units; 0..1. Ties go to the lowest id.
        progress: Whether to show a progress bar.

    Returns:
        Ids in the order of the picks, (k,), int64. Once every unit lies on one that is picked, the
        remaining picks are those with the lowest ids.

    Raises:
        ValueError: If there are more numbers than units, shapes do not fit, an id occurs twice or
            a factor is not finite.
    """
    from alseg.core.progress import progress_bar

    units = _candidates(gradients, ids, len(uniforms), share)
    chosen = Gradients(*(Rows(factor, units) for factor in gradients))
    length = _squares(chosen.error) * _squares(chosen.features)
    distance = np.full(len(units), np.inf)
    open_rows = np.ones(len(units), dtype=bool)
    picks = np.empty(len(uniforms), np.int64)
    for turn in progress_bar(range(len(uniforms)), "BADGE", hidden=not progress):
        if turn == 0:
            pick = int(length.argmax())
        elif (mass := np.cumsum(distance))[-1] > 0:
            # the target is positive, and at most the end: no unit of probability 0 is drawn
            target = np.clip(uniforms[turn] * mass[-1], np.finfo(float).tiny, mass[-1])
            pick = int(np.searchsorted(mass, target, side="left"))
        else:
            pick = int(open_rows.argmax())
        picks[turn] = pick
        open_rows[pick] = False
        np.minimum(distance, _squared_distances(chosen, length, pick), out=distance)
    return np.asarray(ids, np.int64)[units][picks]


def _candidates(
    gradients: Gradients, ids: NDArray[np.integer[Any]], k: int, share: float
) -> NDArray[np.int64]:
    """Rows that take part, in ascending order of their ids."""
    n = len(ids)
    if not len(gradients.error) == len(gradients.features) == n:
        raise ValueError(
            f"{len(gradients.error)} errors, {len(gradients.features)} features and {n} ids "
            f"do not match"
        )
    if k > n:
        raise ValueError(f"cannot pick {k} of {n} units")
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must lie in 0..1")
    if len(np.unique(ids)) != n:
        raise ValueError("an id occurs more than once")
    norms = gradient_norms(gradients)
    if not np.isfinite(norms).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(norms))} of {n} gradients are not finite")
    taken = max(k, int(np.ceil(share * n)))
    rows = np.lexsort((ids, -norms))[:taken]
    return np.asarray(rows[np.argsort(np.asarray(ids)[rows])])


def _squares(vectors: Vectors) -> NDArray[np.floating[Any]]:
    parts = [np.einsum("nd,nd->n", part, part) for part in map(vectors.__getitem__, _all(vectors))]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _squared_distances(
    gradients: Gradients, length: NDArray[np.floating[Any]], row: int
) -> NDArray[np.floating[Any]]:
    error, features = gradients
    of_error, of_features = error[row : row + 1][0], features[row : row + 1][0]
    distance = np.empty_like(length)
    for rows in _all(features):
        inner = (error[rows] @ of_error) * (features[rows] @ of_features)
        distance[rows] = np.maximum(length[rows] + length[row] - 2 * inner, 0)
    distance[row] = 0  # exactly: rounding must not let a unit be picked again
    return distance


def _all(vectors: Vectors) -> Iterator[slice]:
    return row_blocks(vectors, _BLOCK)
