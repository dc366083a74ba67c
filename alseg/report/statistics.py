"""Statistics of runs that differ in method and seed, as functions of arrays.

Budgets are spent unevenly, so curves are compared on a shared grid of costs; runs with the same
seed start from the same query and the same weights, so they are compared in pairs.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alseg.core.errors import UserError

#: Most pairs whose sign flips are counted one by one: 2 ** 23 sums of 8 bytes.
MOST_PAIRS = 24
#: Rounds at the end of a curve from which `gain_ahead` goes on, and how many it needs: with three
#: there is one degree of freedom for the noise, and the interval is as wide as that makes it.
RECENT, FEWEST = 5, 3
#: Seeds from which on pictures show intervals: that of two is 13 times as wide as they are apart.
FEWEST_SHOWN = 3


class Interval(NamedTuple):
    """An estimate and the interval around it; the ends are NaN where there is none."""

    value: float
    low: float
    high: float


def flat_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options by their full names.

    >>> flat_options({"seed": 3, "data": {"name": "camvid"}})
    {'seed': 3, 'data.name': 'camvid'}
    """
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{name}.{inner}": kept for inner, kept in flat_options(value).items()}
        else:
            flat[name] = value
    return flat


def group_runs(
    runs: Sequence[Mapping[str, Any]], but: Collection[str] = ("seed",)
) -> list[list[int]]:
    """Group runs whose options are the same but for some.

    Args:
        runs: Options of each run, nested or flat; plain values.
        but: Full names of options that may differ, with all that is under them.

    Returns:
        Indices into ``runs``; groups and their members in the order of ``runs``.
    """
    groups: dict[str, list[int]] = {}
    for index, options in enumerate(runs):
        kept = _without(flat_options(options), but)
        groups.setdefault(json.dumps(kept, sort_keys=True), []).append(index)
    return list(groups.values())


def differing_options(
    one: Mapping[str, Any], other: Mapping[str, Any], but: Collection[str] = ("seed",)
) -> dict[str, tuple[Any, Any]]:
    """Options by full name that differ between two runs, and both values; None where absent.

    Args:
        one: Options of a run, nested or flat.
        other: Those of another.
        but: As in `group_runs`.
    """
    first, second = (_without(flat_options(options), but) for options in (one, other))
    names = [*first, *(name for name in second if name not in first)]
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: (a, b) for name, (a, b) in pairs.items() if a != b}


def _without(flat: Mapping[str, Any], but: Collection[str]) -> dict[str, Any]:
    left_out = tuple(f"{name}." for name in but)
    return {name: value for name, value in flat.items() if not f"{name}.".startswith(left_out)}


def shared_grid(costs: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Costs at which all curves have a value: every curve's own ones, where all curves overlap.

    Args:
        costs: Of each curve, increasing, in any unit.

    Returns:
        Increasing costs. The first and the last are those of the overlap.

    Raises:
        UserError: If there is no cost that all curves reach.
    """
    curves = [np.asarray(curve, dtype=np.float64) for curve in costs]
    if not curves or not all(curve.size for curve in curves):
        raise UserError("there is no curve to compare, or one without a single round.")
    start = max(float(curve[0]) for curve in curves)
    stop = min(float(curve[-1]) for curve in curves)
    if start > stop:
        raise UserError(
            f"the runs have no cost in common: one begins at {start:g}, another ends at {stop:g}; "
            f"compare runs whose budgets overlap."
        )
    every = np.unique(np.concatenate(curves))
    return every[(every >= start) & (every <= stop)]


def on_grid(costs: ArrayLike, values: ArrayLike, grid: ArrayLike) -> NDArray[np.float64]:
    """A curve's values between its rounds, on straight lines, never beyond its ends.

    Args:
        costs: (R,), strictly increasing.
        values: (R,).
        grid: (G,), costs asked for.

    Returns:
        (G,).

    Raises:
        ValueError: If costs do not increase, or the grid leaves their range.
    """
    x, y, at = (np.asarray(array, dtype=np.float64) for array in (costs, values, grid))
    if x.shape != y.shape or x.ndim != 1 or not x.size or (np.diff(x) <= 0).any():
        raise ValueError("costs must increase strictly, with one value each")
    if at.size and (at.min() < x[0] or at.max() > x[-1]):
        raise ValueError(f"the grid leaves the curve's costs, {x[0]:g} to {x[-1]:g}")
    return np.interp(at, x, y)


def mean_height(costs: ArrayLike, values: ArrayLike) -> float:
    """Area under a curve, divided by its width: in the unit of its values.

    Args:
        costs: (G,), strictly increasing. A curve of a single cost has the height of its value.
        values: (G,).

    Raises:
        ValueError: If costs do not increase.
    """
    x, y = np.asarray(costs, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or not x.size or (np.diff(x) <= 0).any():
        raise ValueError("costs must increase strictly, with one value each")
    if x.size == 1:
        return float(y[0])
    return float(np.sum((y[1:] + y[:-1]) / 2 * np.diff(x)) / (x[-1] - x[0]))


def paired_t(differences: ArrayLike) -> float:
    """Two-sided p-value of Student's t test on paired differences.

    Args:
        differences: (n,), one per seed.

    Returns:
        In [0, 1]; NaN for fewer than two, or if all are the same: their spread is not known then.
    """
    from scipy.special import stdtr

    values = _finite(differences)
    if values.size < 2 or np.ptp(values) <= 1e-12 * np.abs(values).max():
        return float("nan")
    t = values.mean() / (values.std(ddof=1) / np.sqrt(values.size))
    return float(2 * stdtr(values.size - 1, -abs(t)))


def sign_flip(differences: ArrayLike) -> float:
    """Two-sided exact p-value of paired differences: were their signs given by a fair coin.

    It is the share of all 2 ** n signs whose sum is at least as far from 0 as the one seen; sums
    that differ by rounding alone count as equal.

    Args:
        differences: (n,), one per seed, at most `MOST_PAIRS`.

    Returns:
        In [`least_p` (n), 1]; NaN for none.

    Raises:
        ValueError: For more than `MOST_PAIRS`.
    """
    values = np.abs(_finite(differences))
    if values.size > MOST_PAIRS:
        raise ValueError(f"{values.size} pairs; all signs are counted up to {MOST_PAIRS}")
    if not values.size:
        return float("nan")
    sums = values[:1]  # the other sign of the first gives the same sums, turned round
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    seen = abs(float(np.sum(_finite(differences))))
    return float(np.mean(np.abs(sums) >= seen - 1e-9 * values.sum()))


def least_p(pairs: int) -> float:
    """Smallest p-value that `sign_flip` can give: all differences have one sign.

    >>> least_p(5)
    0.0625
    """
    return min(1.0, 2.0 ** (1 - pairs))


def least_p_words(pairs: int) -> str:
    """What so many seeds can show at best, as a sentence.

    >>> least_p_words(5)
    '5 seeds can at best give p = 0.0625 (exact sign-flip test, two-sided).'
    >>> least_p_words(1)
    '1 seed can at best give p = 1 (exact sign-flip test, two-sided).'
    """
    seeds = "1 seed" if pairs == 1 else f"{pairs} seeds"
    return f"{seeds} can at best give p = {least_p(pairs):.3g} (exact sign-flip test, two-sided)."


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values of a family of tests, adjusted by Holm's step-down method (Holm, 1979).

    Args:
        p_values: (m,), in [0, 1]; NaN are tests that could not be made, which are not counted.

    Returns:
        (m,), at most 1, in the order given; NaN stay NaN.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)[: int(np.isfinite(p).sum())]  # NaN are sorted to the end
    steps = p[order] * np.arange(order.size, 0, -1)
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def mean_interval(values: ArrayLike, coverage: float = 0.95) -> Interval:
    """Mean of independent values, with Student's interval.

    Args:
        values: (n,); for fewer than two the interval is not known.
        coverage: Probability that an interval made so holds the mean.
    """
    from scipy.special import stdtrit

    x = _finite(values)
    if not x.size:
        return Interval(math.nan, math.nan, math.nan)
    mean = float(x.mean())
    if x.size == 1:
        return Interval(mean, math.nan, math.nan)
    half = float(stdtrit(x.size - 1, (1 + coverage) / 2) * x.std(ddof=1) / math.sqrt(x.size))
    return Interval(mean, mean - half, mean + half)


def first_reached(costs: ArrayLike, values: ArrayLike, target: float) -> float:
    """Cost at which a curve, straight between its rounds, first reaches a value.

    Args:
        costs: (R,), strictly increasing.
        values: (R,).
        target: The value.

    Returns:
        The first cost if the curve begins above the target; infinity if it never reaches it.

    >>> first_reached([10, 20, 40], [0.1, 0.3, 0.5], 0.4)
    30.0
    """
    x, y = np.asarray(costs, dtype=np.float64), np.asarray(values, dtype=np.float64)
    above = np.flatnonzero(y >= target)
    if not above.size:
        return math.inf
    end = int(above[0])
    if end == 0:
        return float(x[0])
    share = (target - y[end - 1]) / (y[end] - y[end - 1])
    return float(x[end - 1] + share * (x[end] - x[end - 1]))


def resampled_means(
    values: ArrayLike, draws: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Means over seeds that are drawn with replacement: the bootstrap.

    Args:
        values: (n, ...), one row per seed.
        draws: How many means.
        generator: Draws the seeds.

    Returns:
        (draws, ...).
    """
    rows = np.asarray(values, dtype=np.float64)
    counts = generator.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=draws)
    return np.tensordot(counts / len(rows), rows, axes=1)


def percentile_interval(samples: ArrayLike, coverage: float = 0.95) -> tuple[float, float]:
    """Ends between which the middle of the samples lies; infinite samples count, none is averaged.

    Args:
        samples: (draws,), at least one, may be infinite.
        coverage: Share of the samples between the ends.
    """
    ends = ((1 - coverage) / 2, (1 + coverage) / 2)
    low, high = np.quantile(np.asarray(samples, dtype=np.float64), ends, method="inverted_cdf")
    return float(low), float(high)


def penalty(ours: ArrayLike, theirs: ArrayLike, level: float = 0.05) -> float:
    """Share of the budgets at which one method beats another, by a paired t test each.

    It is an entry of the pairwise penalty matrix of Ash et al. (BADGE, ICLR 2020).

    Args:
        ours: Values of one method, (seeds, budgets).
        theirs: Values of the other with the same seeds at the same budgets.
        level: p-value, two-sided, up to which a higher mean counts.

    Returns:
        In [0, 1]; NaN for fewer than two seeds.
    """
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    if len(differences) < 2:
        return math.nan
    wins = [d.mean() > 0 and paired_t(d) <= level for d in differences.T]  # NaN is no win
    return float(np.mean(wins))


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks of methods, 1 for the highest value; equal ones share the mean of their ranks.

    Args:
        values: (methods,).

    >>> ranks([0.4, 0.6, 0.4]).tolist()
    [2.5, 1.0, 2.5]
    """
    x = np.asarray(values, dtype=np.float64)
    above = (x[None] > x[:, None]).sum(axis=1)
    equal = (x[None] == x[:, None]).sum(axis=1)
    return above + (equal + 1) / 2


def ranks_without_each(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks of methods by their means, each time without one seed.

    Args:
        values: (methods, seeds), at least two seeds.

    Returns:
        (seeds, methods); row ``s`` leaves seed ``s`` out.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.shape[1] < 2:
        raise ValueError("a rank without a seed takes at least two")
    return np.stack([ranks(np.delete(x, seed, axis=1).mean(axis=1)) for seed in range(x.shape[1])])


def gain_ahead(
    costs: ArrayLike, values: ArrayLike, ahead: float, coverage: float = 0.9
) -> Interval | None:
    """What a learning curve is expected to gain if it goes on as in its last rounds.

    ``value = a + b log(cost)`` is fitted to the last `RECENT` rounds by least squares; the gain is
    ``b log((c + ahead) / c)`` from the last cost ``c`` on, and its interval Student's for ``b``.

    Args:
        costs: Of the rounds, (R,), positive, strictly increasing.
        values: Measured after them, (R,).
        ahead: Cost still to be spent.
        coverage: Of the interval, as long as the curve goes on so.

    Returns:
        The gain, in the unit of the values; None for fewer than `FEWEST` rounds, and for more ahead
        than was spent in all, where nothing was seen of what comes.
    """
    from scipy.special import stdtrit

    x, y = np.asarray(costs, dtype=np.float64), _finite(values)
    if x.size < FEWEST or x[0] <= 0 or ahead > x[-1]:
        return None
    logs, y = np.log(x[-RECENT:]), y[-RECENT:]
    centred = logs - logs.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    rest = y - y.mean() - slope * centred
    free = y.size - 2
    error = math.sqrt(float(rest @ rest) / free / spread)
    half = float(stdtrit(free, (1 + coverage) / 2)) * error
    reach = math.log1p(ahead / x[-1])
    return Interval(reach * slope, reach * (slope - half), reach * (slope + half))


def _finite(differences: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("differences must be a row of finite numbers")
    return values
