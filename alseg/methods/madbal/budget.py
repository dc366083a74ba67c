"""Step 2: how many superpixels of each cluster an image is asked about, and which.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.methods.madbal.clusters import (
    balanced_scores,
    cluster_scores,
    cluster_table,
    shares_in_clusters,
)

#: Passes after which the reference's repair gives up.
PASSES = 150


def cluster_quotas(worth: NDArray[np.floating[Any]], n: int) -> NDArray[np.int64]:
    """Deal out the pixels of an image among the clusters (F23).

    In proportion to what the clusters are worth, rounded down; what that leaves goes to the cluster
    that got least, the first of them.

    Args:
        worth: `cluster_scores`, >= 0, (K,).
        n: Pixels per image.

    Returns:
        (K,), int64, sums to `n`. The same for every image.

    Raises:
        ValueError: If a number is negative or not finite.

    >>> cluster_quotas(np.array([3.0, 1.0, 1.5]), 10).tolist()
    [5, 3, 2]
    """
    if not (np.isfinite(worth) & (worth >= 0)).all():
        raise ValueError(f"what clusters are worth must be >= 0 and finite, not {worth}")
    total = worth.sum()
    quotas = (worth * n // (total if total > 0 else 1.0)).astype(np.int64)
    quotas[quotas.argmin()] += n - quotas.sum()
    return quotas


def repair_at_random(
    quotas: NDArray[np.integer[Any]],
    available: NDArray[np.integer[Any]],
    draw: Callable[[int], int],
) -> NDArray[np.int64]:
    """Move quotas an image cannot fill to its other clusters, as the reference does (F24).

    Every pass takes the excess of the clusters that have too few superpixels, gives each of the
    others the same part of it, and the rest to one of them by the draw.

    Args:
        quotas: `cluster_quotas`, (K,).
        available: Superpixels of each cluster in the image, (K,).
        draw: Returns a number in 0..m-1 for m, such as ``rng.integers``; asked once per pass.

    Returns:
        At most `available`, (K,), int64, with the sum of `quotas`. All superpixels where there are
        fewer than that, and `repair_by_room` where no pass has found a fit; the reference fails at
        both.

    >>> repair_at_random(np.array([5, 1, 1]), np.array([2, 9, 9]), lambda m: 0).tolist()
    [2, 3, 2]
    """
    fitted = np.array(quotas, dtype=np.int64)
    if available.sum() < fitted.sum():
        return np.array(available, dtype=np.int64)
    for _ in range(PASSES):
        over = fitted > available
        if not over.any():
            return fitted
        free = np.flatnonzero(~over)  # not empty: there are as many superpixels as asked for
        each, rest = divmod(int((fitted - available)[over].sum()), len(free))
        fitted[free] += each
        fitted[free[draw(len(free))]] += rest
        fitted[over] = available[over]
    return repair_by_room(np.asarray(quotas)[None], np.asarray(available)[None])[0]


def repair_by_room(
    quotas: NDArray[np.integer[Any]], available: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """Move quotas images cannot fill to where most superpixels are left, without chance.

    Args:
        quotas: `cluster_quotas`, (K,) or one row per image, (N, K).
        available: Superpixels of each cluster in each image, (N, K).

    Returns:
        At most `available`, (N, K), int64, with the sums of `quotas`; all superpixels where there
        are not more than that. What is moved goes, one by one, to the cluster with most superpixels
        left, the first of equals.

    >>> repair_by_room(np.array([5, 1, 1]), np.array([[2, 4, 9]])).tolist()
    [[2, 1, 4]]
    """
    wanted = np.broadcast_to(quotas, available.shape)
    fitted = np.minimum(wanted, available).astype(np.int64)
    moved = np.minimum(wanted.sum(1), available.sum(1)) - fitted.sum(1)
    for turn in range(int(moved.max(initial=0))):
        rows = np.flatnonzero(moved > turn)
        fitted[rows, (available - fitted)[rows].argmax(1)] += 1
    return fitted


def best_of_each(
    value: NDArray[np.floating[Any]],
    image: NDArray[np.integer[Any]],
    cluster: NDArray[np.integer[Any]],
    unit: NDArray[np.integer[Any]],
    quotas: NDArray[np.integer[Any]],
) -> NDArray[np.int64]:
    """The best superpixels of each cluster in each image; among equals the higher id first.

    Args:
        value: `balanced_scores`, (n,).
        image: Image index 0..N-1, (n,).
        cluster: Cluster 0..K-1, (n,).
        unit: Superpixel id, (n,).
        quotas: Superpixels wanted, (N, K).

    Returns:
        Row numbers by image, then cluster, then rank, int64; as many as wanted, or as there are.

    Raises:
        ValueError: If a value is NaN.

    >>> value, zeros = np.array([0.5, 0.9, 0.9]), np.zeros(3, dtype=int)
    >>> best_of_each(value, zeros, zeros, np.arange(3), np.array([[2]])).tolist()
    [2, 1]
    """
    if np.isnan(value).any():
        raise ValueError(f"{np.isnan(value).sum()} of {len(value)} scores are NaN")
    group = image.astype(np.int64) * quotas.shape[1] + cluster
    order = np.lexsort((-unit.astype(np.int64), -value, group))
    _, first, size = np.unique(group[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, size)
    return order[rank < quotas.ravel()[group[order]]].astype(np.int64)


def available_superpixels(
    image: NDArray[np.integer[Any]],
    cluster: NDArray[np.integer[Any]],
    num_images: int,
    num_clusters: int,
) -> NDArray[np.int64]:
    """Superpixels of each cluster in each image, (N, K), int64.

    Args:
        image: Image index 0..N-1 of each superpixel that has a pixel left, (n,).
        cluster: Its cluster 0..K-1, (n,).
        num_images: N.
        num_clusters: K.
    """
    pair = image.astype(np.int64) * num_clusters + cluster
    counts = np.bincount(pair, minlength=num_images * num_clusters)
    return counts.reshape(num_images, num_clusters).astype(np.int64)


def choose_superpixels(
    score: NDArray[np.floating[Any]],
    pixels: NDArray[np.integer[Any]],
    label: NDArray[np.integer[Any]],
    image: NDArray[np.integer[Any]],
    cluster: NDArray[np.integer[Any]],
    unit: NDArray[np.integer[Any]],
    n: int,
    *,
    num_images: int,
    num_classes: int,
    num_clusters: int,
    draw: Callable[[int], int] | None = None,
) -> NDArray[np.int64]:
    """The superpixels to ask about one pixel each, from the table of the whole pool.

    Args:
        score: Mean score of each superpixel that has a pixel left, (m,).
        pixels: Pixels of it that are left, (m,).
        label: Its predicted class, (m,).
        image: Its image, 0..N-1, (m,).
        cluster: Its cluster, 0..K-1, (m,).
        unit: Its id in the image, (m,).
        n: Pixels per image.
        num_images: N.
        num_classes: C.
        num_clusters: K.
        draw: Repairs quotas by `repair_at_random`, image by image; None for `repair_by_room`.

    Returns:
        Row numbers, see `best_of_each`: n per image, or all of an image that has fewer.
    """
    table = cluster_table(score, pixels, label, cluster, num_classes, num_clusters)
    quotas = cluster_quotas(cluster_scores(table.score_sum, table.pixels), n)
    available = available_superpixels(image, cluster, num_images, num_clusters)
    if draw is None:
        fitted = repair_by_room(quotas, available)
    else:
        fitted = np.stack([repair_at_random(quotas, row, draw) for row in available])
    value = balanced_scores(score, label, cluster, shares_in_clusters(table.superpixels))
    return best_of_each(value, image, cluster, unit, fitted)
