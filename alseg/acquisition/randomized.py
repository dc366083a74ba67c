"""Random choice that is hard to beat: spread out, balanced by class, or led by a score.

Each function takes its own generator and depends on the sequence of the rows, so rows must come in
a fixed order (tables of the pool are sorted by image).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def spatially_spread(
    image: NDArray[np.integer[Any]],
    center: NDArray[np.floating[Any]],
    n: int,
    rng: np.random.Generator,
    taken: NDArray[np.bool_] | None = None,
    candidates: int = 8,
) -> NDArray[np.int64]:
    """Random units that keep their distance, within images and among them.

    Mitchell's best candidate (SIGGRAPH 1991): every pick is the one of a few random units that is
    farthest from the nearest unit already taken in its image. Images with nothing taken are
    infinitely far, so they come first. Unlike the farthest of all units, which is always a corner,
    the picks stay random.

    Args:
        image: Image index of each unit, (m,).
        center: Centre of each unit, ``y, x`` in any unit of length, (m, 2).
        n: Units wanted; all that are not taken if there are fewer.
        rng: Draws the candidates.
        taken: Units bought before, (m,): never picked, but kept away from. None = no unit.
        candidates: Units drawn per pick, >= 1; 1 is plain random, more spread farther.

    Returns:
        Row numbers in the order of the picks, (<= n,), int64.

    Raises:
        ValueError: If `n` is negative or `candidates` below 1.
    """
    if n < 0 or candidates < 1:
        raise ValueError(f"cannot pick {n} units from {candidates} candidates each")
    left = np.arange(len(image)) if taken is None else np.flatnonzero(~taken)
    near: dict[int, list[NDArray[np.floating[Any]]]] = {}
    for row in [] if taken is None else np.flatnonzero(taken):
        near.setdefault(int(image[row]), []).append(center[row])
    picks = np.empty(min(n, len(left)), np.int64)
    for turn in range(len(picks)):
        best, farthest = 0, -1.0
        for place in rng.integers(0, len(left) - turn, candidates):
            row = left[place]
            around = near.get(int(image[row]))
            distance = np.inf
            if around is not None:
                distance = float(((np.array(around) - center[row]) ** 2).sum(axis=1).min())
            if distance > farthest:
                best, farthest = int(place), distance
        row = left[best]
        left[best] = left[len(left) - turn - 1]  # the last open unit takes the place of the pick
        near.setdefault(int(image[row]), []).append(center[row])
        picks[turn] = row
    return picks


def stratified_by_class(
    label: NDArray[np.integer[Any]], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Random order in which every class has an equal share, as long as it lasts.

    Any head of the order holds as many units of each class as of the others, give or take one, as
    far as there are units; classes are those the network predicts, such as a unit's most frequent.

    Args:
        label: Class of each unit, (m,).
        rng: Draws the order.

    Returns:
        All row numbers, (m,), int64: in every turn one unit of each class that is left, the classes
        in an order drawn anew each turn.

    >>> order = stratified_by_class(np.array([4, 4, 4, 4, 7, 9]), np.random.default_rng(0))
    >>> sorted(np.array([4, 4, 4, 4, 7, 9])[order[:3]].tolist())
    [4, 7, 9]
    """
    shuffled = rng.permutation(len(label))
    by_class = np.argsort(label[shuffled], kind="stable")
    _, first = np.unique(label[shuffled][by_class], return_index=True)
    sizes = np.diff(first, append=len(label))
    turn = np.empty(len(label), np.int64)
    turn[by_class] = np.arange(len(label)) - np.repeat(first, sizes)
    return shuffled[np.lexsort((rng.random(len(label)), turn))].astype(np.int64)


def power_noise(
    score: NDArray[np.floating[Any]], power: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Scores whose highest n are a random draw by the power of the score.

    Stochastic batch acquisition (Kirsch et al., arXiv 2106.12059, "PowerBALD"):
    ``power * log(score) + Gumbel noise``. Buying by it draws units without replacement, each with
    a probability proportional to ``score ** power`` among those left, which keeps near duplicates
    apart at no cost.

    Args:
        score: Higher is more informative, >= 0, any shape.
        power: >= 0; 0 is plain random, 1 the paper's default, and the larger it is, the closer to
            the plain ranking.
        rng: Draws the noise.

    Returns:
        Finite, shape of `score`; units of score 0 come last, among each other at random (unless
        the power is 0).

    Raises:
        ValueError: If a score is negative, NaN or infinite, or the power is negative or not finite.
    """
    if not (np.isfinite(power) and power >= 0):
        raise ValueError(f"the power must be >= 0 and finite, not {power}")
    values = np.asarray(score, dtype=np.float64)
    bad = int(np.count_nonzero(~(np.isfinite(values) & (values >= 0))))
    if bad:
        raise ValueError(f"{bad} of {values.size} scores are negative or not finite")
    tiny = np.finfo(np.float64).tiny
    return power * np.log(np.maximum(values, tiny)) + rng.gumbel(size=values.shape)
