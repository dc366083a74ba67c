"""Clusters of superpixels over the whole pool: what each is worth, and which classes it holds.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
Clusters have ids 0..K-1. How they are formed (F6) is in `alseg.methods.madbal.clustering`.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alseg.acquisition.balance import class_balanced


class ClusterTable(NamedTuple):
    """What the superpixels of each cluster add up to (F22)."""

    score_sum: NDArray[np.float64]
    """Sum of their scores, (K,)."""
    pixels: NDArray[np.int64]
    """Number of their pixels that have not been asked, (K,)."""
    superpixels: NDArray[np.int64]
    """Superpixels by predicted class and cluster, (C, K)."""


def cluster_table(
    score: NDArray[np.floating[Any]],
    pixels: NDArray[np.integer[Any]],
    label: NDArray[np.integer[Any]],
    cluster: NDArray[np.integer[Any]],
    num_classes: int,
    num_clusters: int,
) -> ClusterTable:
    """Add up the superpixels of the whole pool (F22).

    Args:
        score: Mean score of each superpixel, (n,).
        pixels: Pixels of it that have not been asked, (n,).
        label: Its predicted class, (n,).
        cluster: Its cluster, (n,).
        num_classes: C.
        num_clusters: K.
    """
    pair = label.astype(np.int64) * num_clusters + cluster
    counts = np.bincount(pair, minlength=num_classes * num_clusters)
    return ClusterTable(
        np.bincount(cluster, score, num_clusters).astype(np.float64),
        np.bincount(cluster, pixels, num_clusters).astype(np.int64),
        counts.reshape(num_classes, num_clusters).astype(np.int64),
    )


def cluster_scores(
    score_sum: NDArray[np.floating[Any]], pixels: NDArray[np.number[Any]]
) -> NDArray[np.float64]:
    """What a cluster is worth: sum of superpixel means over number of pixels (F22).

    The two do not match, so a cluster of large superpixels is worth little.

    Args:
        score_sum: See `ClusterTable`, (K,).
        pixels: See `ClusterTable`, (K,).

    Returns:
        (K,); 0 for a cluster without a pixel, where the reference gives NaN.
    """
    return np.where(pixels > 0, score_sum / np.maximum(pixels, 1), 0.0)


def shares_in_clusters(superpixels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Share of the superpixels of each cluster that are predicted to be of each class (F22).

    Args:
        superpixels: See `ClusterTable`, (C, K).

    Returns:
        ``pi[c, k]``, (C, K); columns sum to 1, or are 0 for a cluster without a superpixel.

    >>> shares_in_clusters(np.array([[1, 0], [3, 0]])).tolist()
    [[0.25, 0.0], [0.75, 0.0]]
    """
    return np.asarray(superpixels / np.maximum(superpixels.sum(0), 1), dtype=np.float64)


def balanced_scores(
    score: NDArray[np.floating[Any]],
    label: NDArray[np.integer[Any]],
    cluster: NDArray[np.integer[Any]],
    shares: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Scores of superpixels, less for classes that are frequent in their cluster (step 2).

    Args:
        score: Mean score of each superpixel, (n,).
        label: Its predicted class, (n,).
        cluster: Its cluster, (n,).
        shares: `shares_in_clusters`, (C, K).

    Returns:
        ``score * exp(-pi[label, cluster])``, (n,); the factor lies in 1/e..1.
    """
    num_clusters = shares.shape[1]
    return class_balanced(score, label.astype(np.int64) * num_clusters + cluster, shares.ravel())
