"""Which units to buy: an order without accidents, the head of it, and where the budget ends."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import unknown_name

Ties = Literal["first", "last"]
SpendRule = Literal["exceed", "reach", "within"]


def order(
    score: NDArray[np.floating],
    image: NDArray[np.integer],
    unit: NDArray[np.integer],
    ties: Ties = "first",
) -> NDArray[np.int64]:
    """Rows by descending score; equal scores by image index, then unit id.

    Args:
        score: Higher is bought first, (n,).
        image: Image index, (n,).
        unit: Unit id inside the image, (n,).
        ties: Among equal scores, ``first`` puts lower ids first, ``last`` higher ids.

    Returns:
        Row numbers, (n,), int64; they depend on the rows' content, not on their sequence (unless
        two rows are equal in all three columns).

    Raises:
        ValueError: If a score is NaN or the columns differ in length.

    >>> order(np.array([0.5, 0.9, 0.5]), np.array([1, 0, 0]), np.array([0, 3, 4])).tolist()
    [1, 2, 0]
    """
    keys = _keys(score, image, unit, ties)
    return np.lexsort(keys[::-1]).astype(np.int64)


def top(
    score: NDArray[np.floating],
    image: NDArray[np.integer],
    unit: NDArray[np.integer],
    n: int,
    ties: Ties = "first",
) -> NDArray[np.int64]:
    """The first `n` rows of `order`, without sorting the others.

    Args:
        score: Higher is bought first, (m,).
        image: Image index, (m,).
        unit: Unit id inside the image, (m,).
        n: Rows wanted, >= 0; all of them if there are fewer.
        ties: Among equal scores, ``first`` puts lower ids first, ``last`` higher ids.

    Returns:
        Row numbers, (min(n, m),), int64: exactly ``order(score, image, unit, ties)[:n]``.

    Raises:
        ValueError: If a score is NaN, `n` is negative or the columns differ in length.
    """
    if n < 0:
        raise ValueError(f"cannot take {n} rows")
    keys = _keys(score, image, unit, ties)
    # Key by key: rows below the cut are in, rows at the cut are decided by the next key.
    chosen: list[NDArray[np.int64]] = []
    open_rows: NDArray[np.int64] | None = None  # all rows, without the cost of listing them
    for key in keys:
        column = key if open_rows is None else key[open_rows]
        if n == 0 or n >= len(column):
            break
        cut = np.partition(column, n - 1)[n - 1]
        below = np.flatnonzero(column < cut)
        level = np.flatnonzero(column == cut)
        chosen.append(below if open_rows is None else open_rows[below])
        open_rows = level if open_rows is None else open_rows[level]
        n -= len(below)
    rest = np.arange(len(keys[0])) if open_rows is None else open_rows
    rows = np.sort(np.concatenate([*chosen, rest[:n]]))  # lexsort is stable: rows in sequence
    return rows[np.lexsort([key[rows] for key in keys[::-1]])].astype(np.int64)


def spend(costs: NDArray[Any], budget: float, rule: SpendRule) -> int:
    """How many rows, from the first on, a budget buys.

    Args:
        costs: Price of each row in the order of purchase, >= 0, (n,).
        budget: What may be spent, in the unit of the prices.
        rule: ``exceed``: the last row is the one that makes the sum strictly exceed the budget
            (mulquery 5.3, arXiv 2309.09319); ``reach``: the purchase ends as soon as the sum is at
            least the budget; ``within``: the first row that would exceed it is not bought.

    Returns:
        Number of rows; all of them if they cost too little to end the purchase.

    Raises:
        ValueError: If a price is negative or NaN, the budget is NaN or the rule is unknown.

    >>> [spend(np.array([2, 3, 1, 4]), 5, rule) for rule in ("exceed", "reach", "within")]
    [3, 2, 2]
    """
    if rule not in get_args(SpendRule):
        raise unknown_name("rule", rule, get_args(SpendRule))
    if np.isnan(budget) or not np.all(np.asarray(costs) >= 0):
        raise ValueError("prices must be >= 0, and neither they nor the budget NaN")
    spent = np.cumsum(costs)
    if rule == "within":
        return int(np.searchsorted(spent, budget, side="right"))
    if rule == "reach" and budget <= 0:
        return 0
    ends = int(np.searchsorted(spent, budget, side="right" if rule == "exceed" else "left"))
    return min(ends + 1, len(spent))


def _keys(
    score: NDArray[np.floating], image: NDArray[np.integer], unit: NDArray[np.integer], ties: Ties
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Columns to sort by, most important first, all ascending."""
    if ties not in get_args(Ties):
        raise unknown_name("ties", ties, get_args(Ties))
    if not len(score) == len(image) == len(unit):
        raise ValueError(
            f"{len(score)} scores, {len(image)} images and {len(unit)} units do not match"
        )
    if not np.issubdtype(score.dtype, np.floating):
        raise ValueError(f"scores must be floating point, not {score.dtype}")
    bad = int(np.count_nonzero(np.isnan(score)))
    if bad:
        raise ValueError(f"{bad} of {len(score)} scores are NaN; the model or its input is broken")
    images, units = image.astype(np.int64), unit.astype(np.int64)  # unsigned ids would wrap around
    return (-score, images, units) if ties == "first" else (-score, -images, -units)
