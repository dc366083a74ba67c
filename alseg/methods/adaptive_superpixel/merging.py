"""Merge neighbouring superpixels whose mean predictions are alike.

Section numbers are those of adaptive superpixels (arXiv 2303.16817) as its reference has them.
Every round starts again from the base superpixels. A merged superpixel keeps the id of its root,
the base superpixel it grew from, so merging is a table of roots: ``roots[base]`` is the new map.

Where distributions are almost equal, the reference computes a distance of NaN in float32 and does
not merge them; here float64 is used and rounding errors below 0 count as 0.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

#: Stands for probabilities of 0 inside logarithms.
_TINY = np.finfo(np.float64).tiny


def js_distance(p: NDArray[np.floating], q: NDArray[np.floating]) -> NDArray[np.float64]:
    """Jensen-Shannon distance, the square root of the divergence in nats (F10).

    Args:
        p: Distributions along the last axis, >= 0, of any sum > 0, (..., C).
        q: The same, (..., C).

    Returns:
        0..sqrt(ln 2), (...).

    >>> js_distance(np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([0.0, 1.0])).round(4).tolist()
    [0.8326, 0.8326]
    """
    p, q = _normalized(p), _normalized(q)
    return np.sqrt(_divergence(p, _entropy(p), q, _entropy(q)))


def merge(
    features: NDArray[np.floating],
    uncertainty: NDArray[np.floating],
    edges: NDArray[np.integer],
    eps: float,
) -> NDArray[np.int64]:
    """Grow superpixels, the most uncertain first, over neighbours close to their root (F11).

    Roots are taken by descending uncertainty. Each absorbs, again and again, every free neighbour
    of what it has absorbed whose distance to the root's own mean prediction is below `eps`.

    Args:
        features: Mean class probabilities of every base superpixel, (R, C); any numbers for ids
            that do not occur.
        uncertainty: Mean uncertainty, (R,); among equals the lower id comes first.
        edges: Pairs of neighbours, each once, (E, 2).
        eps: Largest distance, exclusive; 0 merges nothing.

    Returns:
        The root of each base superpixel, (R,), int64; ids that do not occur are their own.

    >>> features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> merge(features, np.array([0.1, 0.9, 0.5, 0.2]), np.array([[0, 1], [1, 2], [2, 3]]), 0.1)
    array([1, 1, 2, 3])
    """
    p = _normalized(features)
    entropy = _entropy(p)
    below = eps * eps  # divergences are compared, without roots
    neighbours = _lists(len(p), edges)
    close = _lists(len(p), edges[_divergence(*_pairs(p, entropy, edges)) < below])
    roots = [-1] * len(p)
    seen = [-1] * len(p)  # the last root a superpixel was compared with
    for root in np.argsort(-np.asarray(uncertainty), kind="stable").tolist():
        if roots[root] >= 0:
            continue
        roots[root] = root
        absorbed = [node for node in close[root] if roots[node] < 0]
        if not absorbed:
            continue
        for node in neighbours[root]:
            seen[node] = root
        while absorbed:
            for node in absorbed:
                roots[node] = root
            found = []
            for node in absorbed:
                for other in neighbours[node]:
                    if roots[other] < 0 and seen[other] != root:
                        seen[other] = root
                        found.append(other)
            if not found:
                break
            some = np.array(found)
            near = _divergence(p[some], entropy[some], p[root], entropy[root]) < below
            absorbed = some[near].tolist()
    return np.array(roots, dtype=np.int64)


def merge_limited(
    features: NDArray[np.floating],
    uncertainty: NDArray[np.floating],
    contacts: NDArray[np.integer],
    eps: float,
    most: float,
) -> NDArray[np.int64]:
    """`merge` that stops once so many superpixels are taken, roots included (F12).

    The reference holds this variant, commented out, with a tenth of the base superpixels. The rest
    stay as they are. Which ones these are depends on the sequence of the growth: depth first, over
    neighbours by first contact. When the limit is reached, superpixels that wait to be grown from
    still absorb one more each.

    Args:
        features: As for `merge`, (R, C).
        uncertainty: As for `merge`, (R,).
        contacts: Pairs of neighbours in the order of their first contact, see
            `alseg.regions.geometry.adjacency`, (E, 2).
        eps: Largest distance, exclusive.
        most: Superpixels after which to stop.

    Returns:
        The root of each base superpixel, (R,), int64.
    """
    p = _normalized(features)
    entropy = _entropy(p)
    neighbours = _lists(len(p), contacts)
    roots = np.arange(len(p))
    free = np.ones(len(p), dtype=bool)
    taken = 0
    for root in np.argsort(-np.asarray(uncertainty), kind="stable"):
        if not free[root]:
            continue
        free[root] = False
        taken += 1
        if taken >= most:
            break
        waiting = [root]
        while waiting:
            others = [node for node in neighbours[waiting.pop()] if free[node]]
            near = _divergence(p[others], entropy[others], p[root], entropy[root]) < eps * eps
            for node in np.array(others, dtype=np.int64)[near].tolist():
                roots[node], free[node] = root, False
                taken += 1
                if taken >= most:
                    break
                waiting.append(node)
    return roots


def _normalized(p: NDArray[np.floating]) -> NDArray[np.float64]:
    p = np.asarray(p, dtype=np.float64)
    return p / np.maximum(p.sum(axis=-1, keepdims=True), _TINY)


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    terms = np.maximum(p, _TINY)
    np.log(terms, out=terms)
    terms *= p
    return -np.add.reduce(terms, axis=-1)  # called for a handful of superpixels at a time


def _divergence(
    p: NDArray[np.float64],
    entropy_p: NDArray[np.float64],
    q: NDArray[np.float64],
    entropy_q: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Jensen-Shannon divergence in nats: entropy of the mean less the mean of the entropies."""
    return np.maximum(_entropy((p + q) / 2) - (entropy_p + entropy_q) / 2, 0.0)


def _pairs(
    p: NDArray[np.float64], entropy: NDArray[np.float64], edges: NDArray[np.integer]
) -> tuple[NDArray[np.float64], ...]:
    a, b = edges.T
    return p[a], entropy[a], p[b], entropy[b]


def _lists(size: int, edges: NDArray[np.integer]) -> list[list[int]]:
    """Neighbours of every node, in the order of the edges."""
    both = edges.ravel()
    order = np.argsort(both, kind="stable")
    others = edges[:, ::-1].ravel()[order].tolist()
    ends = np.cumsum(np.bincount(both, minlength=size)).tolist()
    return [others[start:end] for start, end in pairwise([0, *ends])]
