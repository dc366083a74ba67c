"""Diversity: clusters and covers of feature vectors, independent of the sequence of the rows.

Rows are identified by ids. Every function first sorts the rows by id, so the result is a function
of the set of (id, feature) pairs and of the seed.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from alseg.acquisition.rows import BLOCK, Rows, Vectors, row_blocks
from alseg.core.errors import unknown_name

Metric = Literal["euclidean", "cosine"]

_BLOCK = BLOCK

#: Rows that FAISS searches for at a time: a multiple of its own 4096, whose sums they then keep.
_SEARCHED = 2**14


def kmeans(
    features: NDArray[np.float32],
    k: int,
    ids: NDArray[np.integer],
    seed: int,
    iterations: int = 25,
    weights: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Lloyd's k-means on all rows, by FAISS on the CPU.

    Args:
        features: One vector per row, (n, d), float32, finite.
        k: Number of clusters, 1..n.
        ids: One distinct id per row, (n,).
        seed: Decides the initial centres; equal seeds give equal bits.
        iterations: Rounds of assignment and update, >= 1.
        weights: How much each row counts in the mean of its cluster, > 0, (n,); None = all alike.

    Returns:
        Centres, (k, d), float32, and the nearest centre of each row, (n,), int64. Clusters are
        empty where there are fewer than k distinct vectors.

    Raises:
        ValueError: If k is not in 1..n, a feature is not finite or an id occurs twice.
    """
    import faiss

    rows = _by_id(features, ids)
    n = len(rows)
    if not 1 <= k <= n:
        raise ValueError(f"cannot form {k} clusters of {n} rows")
    if iterations < 1:
        raise ValueError(f"k-means needs at least 1 iteration, not {iterations}")
    ordered = _plain(in_order(features, rows))
    clustering = faiss.Kmeans(
        ordered.shape[1],
        k,
        niter=iterations,
        seed=seed % 2**30,  # a C int to which FAISS adds
        min_points_per_centroid=1,  # below this FAISS warns
        max_points_per_centroid=n,  # above this FAISS silently drops rows
    )
    by_id = None if weights is None else _plain(np.asarray(weights)[rows])
    clustering.train(ordered, weights=by_id)
    centers = np.asarray(clustering.centroids, np.float32)
    assignment = np.empty(n, np.int64)
    assignment[rows] = nearest(ordered, centers)
    return centers, assignment


def nearest(features: Vectors, centers: NDArray[np.float32]) -> NDArray[np.int64]:
    """The nearest centre of each row in Euclidean distance, by FAISS on the CPU.

    Args:
        features: (n, d), float32, finite.
        centers: (k, d), float32, finite, k >= 1.

    Returns:
        Index of the centre, (n,), int64. Centres at equal distance up to float32 rounding are not
        told apart.

    Raises:
        ValueError: If a number is not finite or the shapes do not fit.
    """
    import faiss

    _check_features(features)
    _check_features(centers, "centre")
    if features.shape[1] != centers.shape[1] or not len(centers):
        raise ValueError(f"features {features.shape} do not fit centres {centers.shape}")
    index = faiss.IndexFlatL2(centers.shape[1])
    index.add(np.ascontiguousarray(centers, np.float32))
    found = np.empty(len(features), np.int64)
    for rows in _searches(len(features)):
        found[rows] = index.search(np.ascontiguousarray(features[rows], np.float32), 1)[1][:, 0]
    return found


def _searches(n: int) -> Iterator[slice]:
    """Rows of each search; the last one takes what is left, if that is little."""
    starts = [*range(0, max(1, n - _SEARCHED // 2), _SEARCHED), n]
    for start, stop in pairwise(starts):
        yield slice(start, stop)


def k_center(
    features: Vectors,
    n: int,
    ids: NDArray[np.integer],
    labelled: NDArray[np.float32] | None = None,
    metric: Metric = "euclidean",
    progress: bool = True,
) -> NDArray[np.int64]:
    """Greedy core-set (Sener & Savarese, ICLR 2018): pick the unit farthest from all picked.

    ``u* = argmax_u min_s d(z_u, z_s)`` over labelled and already picked ``s``; ties go to the
    lowest id. Without labelled vectors every unit is equally far from nothing: the first pick is
    the lowest id.

    Distances only fall, so a stale one is an upper bound: of the blocks of rows only the one that
    holds the highest bound is brought up to date, until that bound holds (lazy greedy). There, most
    units are farther from a pick already by a few coordinates, see `LowerBounds`. The picks are
    those of one pass over all features per pick.

    Args:
        features: One vector per unlabelled unit, (m, d), finite. They may lie on the disk, see
            `alseg.acquisition.rows.Rows`: memory grows with m alone (about 100 bytes per unit), and
            with what is labelled.
        n: Number of picks, 0..m.
        ids: One distinct id per unit, (m,).
        labelled: Vectors that are covered already, (l, d), finite.
        metric: ``cosine`` compares directions and takes no zero vectors.
        progress: Whether to show a progress bar.

    Returns:
        Ids in the order of the picks, (n,), int64.

    Raises:
        ValueError: If n is not in 0..m, a feature is not finite (or zero under ``cosine``), an id
            occurs twice or the metric is unknown.
    """
    from alseg.core.progress import progress_bar

    if metric not in get_args(Metric):
        raise unknown_name("metric", metric, get_args(Metric))
    rows = _by_id(features, ids)
    if not 0 <= n <= len(rows):
        raise ValueError(f"cannot pick {n} of {len(rows)} units")
    if metric == "cosine":
        _check_directions(features)
    prepare = _directions if metric == "cosine" else _plain
    units = Rows(features, rows, prepare)
    distance = np.full(len(units), np.inf, np.float32)
    if labelled is not None and len(labelled):
        if metric == "cosine":
            _check_directions(labelled)
        covered = prepare(labelled)
        # FAISS finds the neighbour; the distance is taken again without its cancellation, so that
        # equal vectors are equally far.
        distance = _squared_distances(units, covered, nearest(units, covered))
    picks = np.empty(n, np.int64)
    blocks = list(_blocks(units))
    bound = np.array([distance[block].max() for block in blocks])  # of the distances in a block
    seen = np.zeros(len(blocks), np.int64)  # picks its distances know of
    least = LowerBounds(units)
    for turn in progress_bar(range(n), "k-center", hidden=not progress):
        while seen[top := int(np.argmax(bound))] < turn:  # the first of equals, as in a block
            known = distance[blocks[top]]
            _approach(known, units, blocks[top], picks[seen[top] : turn], least)
            seen[top], bound[top] = turn, known.max()
        known = distance[blocks[top]]
        inside = int(np.argmax(known))  # rows are sorted by id
        picks[turn] = blocks[top].start + inside
        known[inside] = -1  # below every distance, for good: never again, even among equals
        bound[top] = known.max()
    return np.asarray(ids, np.int64)[rows][picks]


class LowerBounds:
    """Squared distances between vectors, from below, by a few numbers of each.

    The numbers are the coordinates on the main axes of the vectors, and the length of what these
    leave: its difference is the least that the rest can differ by. Less rounding, of the float32
    distances themselves, too.

    Args:
        vectors: (n, d), finite.
        axes: At most so many; d at most.
    """

    def __init__(self, vectors: Vectors, axes: int = 16) -> None:
        n, d = vectors.shape
        some = np.asarray(vectors[:: max(1, n // 512)], np.float64)
        mean = some.mean(axis=0) if n else np.zeros(d)
        main = np.linalg.eigh((some - mean).T @ (some - mean))[1][:, ::-1][:, :axes]
        self._near = np.empty((n, main.shape[1] + 1), np.float32)
        self._square = np.empty(n, np.float32)
        for rows in _blocks(vectors):
            apart = vectors[rows] - mean
            on_axes = apart @ main
            square = np.einsum("nd,nd->n", apart, apart)
            rest = np.maximum(square - np.einsum("nd,nd->n", on_axes, on_axes), 0)
            self._near[rows, :-1], self._near[rows, -1] = on_axes, np.sqrt(rest)
            self._square[rows] = square
        self._rounding = np.float32((d + 64) * 2.0**-22)  # four times what it can be

    def __call__(self, rows: slice, others: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Bounds for the distances of some vectors to others.

        Args:
            rows: The m vectors.
            others: Rows of the k others.

        Returns:
            (m, k), at most the squared distances; may be negative.
        """
        squares = self._square[rows, None] + self._square[others]
        squares *= 1 - self._rounding
        squares -= 2 * (self._near[rows] @ self._near[others].T)
        return squares


def _approach(
    known: NDArray[np.float32],
    units: Vectors,
    block: slice,
    picks: NDArray[np.int64],
    least: LowerBounds,
) -> None:
    """Take squared distances to further picks into account, in place, for the units of a block."""
    inside = None
    for some in (picks[start : start + 1024] for start in range(0, len(picks), 1024)):
        bounds = least(block, some)
        for turn in np.flatnonzero((bounds < known[:, None]).any(axis=0)):
            near = np.flatnonzero(bounds[:, turn] < known)
            if len(near):
                inside = units[block] if inside is None else inside
                point = units[some[turn] : some[turn] + 1][0]
                known[near] = np.minimum(known[near], _squared_distances(inside[near], point))


def in_order(vectors: NDArray[Any], rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
    """``vectors[rows]``, without a copy where these are all the rows in their own order.

    Args:
        vectors: (n, d).
        rows: Row numbers, (m,).

    Returns:
        (m, d); not to be written to.
    """
    return vectors if np.array_equal(rows, np.arange(len(vectors))) else vectors[rows]


def _by_id(features: Vectors, ids: NDArray[np.integer]) -> NDArray[np.int64]:
    """Rows in ascending order of their ids."""
    _check_features(features)
    if np.shape(ids) != (len(features),):
        raise ValueError(f"ids of shape {np.shape(ids)} do not fit {len(features)} rows")
    rows = np.argsort(ids, kind="stable")
    ordered = np.asarray(ids)[rows]
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twice):
        raise ValueError(f"id {ordered[twice[0]]} occurs more than once")
    return rows.astype(np.int64)


def _check_features(features: Vectors, what: str = "feature") -> None:
    if len(features.shape) != 2:
        raise ValueError(f"{what} vectors must be (n, d), not of shape {features.shape}")
    finite = np.empty(len(features), bool)
    for rows in _blocks(features):
        finite[rows] = np.isfinite(features[rows]).all(1)
    bad = np.flatnonzero(~finite)
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(features)} {what} vectors hold NaN or infinity, "
            f"the first in row {bad[0]}"
        )


def _plain(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(vectors, np.float32)


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors: their squared Euclidean distance is twice the cosine distance."""
    length = _lengths(vectors)
    directions = np.empty(vectors.shape, np.float32)
    return np.divide(vectors, length[:, None], out=directions, casting="same_kind")


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)))


def _check_directions(vectors: Vectors) -> None:
    """Refuse zero vectors."""
    zero = sum(np.count_nonzero(_lengths(vectors[rows]) == 0) for rows in _blocks(vectors))
    if zero:
        raise ValueError(f"{zero} zero vectors have no direction (cosine)")


def _squared_distances(
    vectors: Vectors,
    points: NDArray[np.float32],
    own: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Squared Euclidean distance of each row to a point, (d,), or to its own of (k, d) points.

    By difference, not by expanding the square: no cancellation, and equal rows give equal bits.
    """
    distances = np.empty(len(vectors), np.float32)
    for rows in _blocks(vectors):
        gap = vectors[rows] - (points if own is None else points[own[rows]])
        np.einsum("nd,nd->n", gap, gap, out=distances[rows])
    return distances


def _blocks(vectors: Vectors) -> Iterator[slice]:
    return row_blocks(vectors, _BLOCK)
