"""BADGE: diverse and uncertain units by hallucinated gradients (Ash et al., ICLR 2020).

The gradient of the cross-entropy to the predicted class, with respect to the last layer, is the
outer product of ``a = onehot(argmax p) - p`` (C numbers) and the features ``h`` (d numbers). It is
never formed: ``|a h' - b k'|^2 = |a|^2 |h|^2 + |b|^2 |k|^2 - 2 (a . b) (h . k)``. All of it is
computed in float64, whatever the type of the factors.
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
#: Share of the longest gradient's square below which float32 is not trusted.
_TINY = 1e-30


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
    """Factors of every region of a batch: mean error and mean features over its pixels.

    The adaptation to segmentation is alseg's own: the mean of the pixels' gradients has no such
    factors, the product of the means does.

    Args:
        logits: (B, C, H, W), on any grid.
        features: Input of the last layer on the same grid, (B, d, H, W).
        regions: Region ids 0..R-1 on the same grid, -1 = none, (B, H, W); images have none in
            common, see `alseg.acquisition.statistics.side_by_side`.
        num_regions: R.

    Returns:
        Mean error (R, C) and mean features (R, d), float32; 0 for regions without a pixel.
    """
    error = prediction_error(torch.softmax(logits.float(), 1))
    bins = regions.flatten(1).long() + 1  # bin 0 collects the pixels of no region
    pixels = region_counts(regions, num_regions).clamp(min=1)[:, None]
    means = []
    for maps in (error, features.float()):
        sums = maps.new_zeros(num_regions + 1, maps.shape[1])
        for one, places in zip(maps, bins, strict=True):
            sums.index_add_(0, places, one.flatten(1).T)
        means.append(sums[1:] / pixels)
    return means[0], means[1]


def gradient_norms(gradients: Gradients) -> NDArray[np.floating[Any]]:
    """Length of every gradient, (n,): long where the network is unsure.

    >>> gradient_norms(Gradients(np.array([[3.0, 4.0]]), np.array([[0.0, 2.0]]))).tolist()
    [10.0]
    """
    return np.sqrt(_squares(gradients.error) * _squares(gradients.features))


def gradient_distances(gradients: Gradients, row: int) -> NDArray[np.float64]:
    """Euclidean distance of every gradient to that of one row, (n,), float64."""
    return np.sqrt(NearestPick(gradients).add(row))


class NearestPick:
    """Squared distance of every gradient to the nearest of those that are picked.

    A pick ``b k'`` changes the distances of the units near it alone, and most are ruled out without
    their features (Cauchy-Schwarz):
    ``|a h' - b k'|^2 >= |a|^2 |h|^2 + |b|^2 |k|^2 - 2 max(a . b, 0) |h| |k|`` where no feature is
    negative, with ``|a . b|`` for the maximum else. The bound is taken in float32, less than its
    own rounding errors; the distances are those of a pass over all features, to the bit.

    In memory are C float32 numbers per unit besides a few of its own; features are read where they
    lie, a block at a time.

    Args:
        gradients: Of the units, n of them.
    """

    def __init__(self, gradients: Gradients) -> None:
        self._gradients = gradients
        features = _squares(gradients.features)
        #: Squared length of every gradient, (n,), float64.
        self.length = _squares(gradients.error) * features
        #: Squared distance to the nearest pick, (n,), float64; infinite before the first.
        self.distance = np.full(len(features), np.inf)
        self._picks = 0
        longest = float(self.length.max(initial=0))
        self._scale = 1 / longest if longest > 1e-300 else 1.0  # float32 has a short range
        self._feature_length = np.sqrt(features * self._scale)
        self._scaled = np.empty(gradients.error.shape, np.float32)  # errors times feature lengths
        for rows in _all(gradients.error):
            scaled = _double(gradients.error[rows]) * self._feature_length[rows, None]
            self._scaled[rows] = scaled
        self._one_sided = all(
            np.min(gradients.features[rows], initial=0) >= 0 for rows in _all(gradients.features)
        )
        self._rounding = (gradients.error.shape[1] + 4) * 2.0**-22  # four times what it can be
        #: Squared length less distance, less rounding: what 2 (a . b) |h| |k| has to exceed.
        self._excess = np.empty(len(features), np.float32)

    def add(self, row: int) -> NDArray[np.float64]:
        """Pick a unit.

        Args:
            row: Its row.

        Returns:
            `distance`, brought up to date in place.
        """
        near = self._near(row) if self._picks else np.arange(len(self.distance))
        step = max(1, _BLOCK // max(1, self._gradients.features.shape[1]))
        of_error, of_features = (_double(factor[row : row + 1])[0] for factor in self._gradients)
        for rows in (near[start : start + step] for start in range(0, len(near), step)):
            # a dot product per row: its bits do not depend on the rows beside it
            error = np.vecdot(_double(self._gradients.error[rows]), of_error)
            inner = error * np.vecdot(_double(self._gradients.features[rows]), of_features)
            found = np.maximum(self.length[rows] + self.length[row] - 2 * inner, 0)
            self._set(rows, np.minimum(self.distance[rows], found))
        self._set(np.array([row]), np.zeros(1))  # rounding must not let a unit be picked again
        self._picks += 1
        return self.distance

    def _near(self, row: int) -> NDArray[np.int64]:
        """Rows that may come nearer by a pick, ascending."""
        of_error = _double(self._gradients.error[row : row + 1])[0]
        twice = (2 * self._feature_length[row] * of_error).astype(np.float32)
        bound = self._scaled @ twice
        if self._one_sided:
            np.maximum(bound, 0, out=bound)
        else:
            np.abs(bound, out=bound)
        np.subtract(bound, self._excess, out=bound)
        least = self.length[row] * self._scale * (1 - self._rounding) - _TINY
        return np.flatnonzero(bound > np.float32(least))

    def _set(self, rows: NDArray[np.int64], distance: NDArray[np.float64]) -> None:
        self.distance[rows] = distance
        length, distance = self.length[rows] * self._scale, distance * self._scale
        self._excess[rows] = length - distance - self._rounding * (length + distance)


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
    one pass over the errors, and reads the features of the units near it, see `NearestPick`.

    Args:
        gradients: Of the units. The factors may lie on the disk, see
            `alseg.acquisition.rows.Rows`: memory grows with n C.
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
    nearest = NearestPick(chosen)
    open_rows = np.ones(len(units), dtype=bool)
    picks = np.empty(len(uniforms), np.int64)
    for turn in progress_bar(range(len(uniforms)), "BADGE", hidden=not progress):
        if turn == 0:
            pick = int(nearest.length.argmax())
        elif (mass := np.cumsum(nearest.distance))[-1] > 0:
            # the target is positive, and at most the end: no unit of probability 0 is drawn
            target = np.clip(uniforms[turn] * mass[-1], np.finfo(float).tiny, mass[-1])
            pick = int(np.searchsorted(mass, target, side="left"))
        else:
            pick = int(open_rows.argmax())
        picks[turn] = pick
        open_rows[pick] = False
        nearest.add(pick)
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


def _squares(vectors: Vectors) -> NDArray[np.float64]:
    """Squared length of each vector, by the dot product that distances are made of."""
    squares = np.empty(len(vectors))
    for rows in _all(vectors):
        block = _double(vectors[rows])
        squares[rows] = np.vecdot(block, block)
    return squares


def _double(block: NDArray[Any]) -> NDArray[np.float64]:
    return np.ascontiguousarray(block, np.float64)


def _all(vectors: Vectors) -> Iterator[slice]:
    return row_blocks(vectors, _BLOCK)
