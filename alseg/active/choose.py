"""From scores of units to a query within the budget."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.acquisition.selection import Ties, top
from alseg.active.method import RoundContext
from alseg.core.errors import UserError
from alseg.labels.budget import Budget
from alseg.labels.pool import LabelPool
from alseg.labels.tables import PIXELS, AnswerKind, Query


def query_from_scores(
    context: RoundContext,
    answer: AnswerKind,
    image: NDArray[np.integer[Any]],
    unit: NDArray[np.integer[Any]],
    score: NDArray[np.floating[Any]],
    pixels: NDArray[np.integer[Any]] | None = None,
    ties: Ties = "first",
    regions: str | None = None,
) -> Query:
    """The open units of highest score, as many as the budget may pay for.

    Where the price is known before the answer, the query is exactly what is bought. Else it is as
    long as the budget would reach if every answer named one class. (Where void costs nothing and
    very much of what is asked is void, a round may end with a rest of its budget.)

    Args:
        context: Of the round that asks.
        answer: What is asked.
        image: Image index of each unit, (n,).
        unit: Unit id inside the image, (n,).
        score: Higher is asked first, (n,).
        pixels: Pixels of each unit, (n,); needed only where pixels have a price.
        ties: See `alseg.acquisition.selection.order`.
        regions: Version of the maps the units are of, where they were made for this round and
            nobody has been asked about them; None = the maps of the run.

    Returns:
        The query, possibly empty when nothing is open.
    """
    images, units = image.astype(np.int64), unit.astype(np.int64)
    open_rows = np.arange(len(images))
    if regions is None:
        open_rows = np.flatnonzero(context.pool.is_open(context.regions, images, units))
    images, units, score = images[open_rows], units[open_rows], score[open_rows]
    size = np.zeros(len(images), dtype=np.int64) if pixels is None else pixels[open_rows]
    least = context.budget.least_cost(answer, size.astype(np.int64))
    if pixels is None and not least.all():
        raise ValueError("the budget counts pixels: their number per unit is needed")
    rows = top(score, images, units, _at_most(context.budget, least), ties)
    rows = rows[: context.budget.bought(least[rows])]
    return Query(
        round=context.round,
        kind="pixel" if context.regions == PIXELS else context.kind,
        answer=answer,
        regions=context.regions if regions is None else regions,
        image=images[rows],
        unit=units[rows],
        score=score[rows].astype(np.float32),
    )


def whole_images(
    context: RoundContext,
    images: NDArray[np.int64],
    score: NDArray[np.floating[Any]] | None = None,
    answer: AnswerKind = "mask",
    regions: str | None = None,
) -> Query:
    """A query about whole images, in the order they are given.

    Args:
        context: Of the round that asks; its regions are whole images.
        images: The images, (n,).
        score: Why they are asked, (n,); None = all alike.
        answer: What is asked.
        regions: See `query_from_scores`.
    """
    score = np.zeros(len(images)) if score is None else score
    return Query(
        round=context.round,
        kind=context.kind,
        answer=answer,
        regions=context.regions if regions is None else regions,
        image=images.astype(np.int64),
        unit=np.zeros(len(images), dtype=np.int64),
        score=score.astype(np.float32),
    )


def _at_most(budget: Budget, least: NDArray[np.float64]) -> int:
    """An upper bound on the number of units the budget pays for."""
    cheapest = float(least.min(initial=np.inf))
    if not 0 < cheapest < np.inf:
        return len(least)
    return int(budget.amount // cheapest) + 2


def random_query(context: RoundContext, answer: AnswerKind) -> Query:
    """Open units in random order, as many as the budget may pay for.

    Region ids without a pixel are never asked.

    Args:
        context: Of the round that asks; decides the order.
        answer: What is asked.
    """
    rng = context.rng("random")
    if context.regions == PIXELS:
        image, unit = _random_pixels(context, most_units(context, answer), rng)
        score = np.linspace(1, 0, len(image), dtype=np.float32)
        return query_from_scores(context, answer, image, unit, score, np.ones_like(unit))
    images, units, pixels = context.pool.units(context.regions)
    score = rng.random(len(images), dtype=np.float32)
    return query_from_scores(context, answer, images, units, score, pixels)


def _random_pixels(
    context: RoundContext, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct open pixels in random order; a pool has too many to list them all."""
    ends = np.cumsum(context.pool.num_units(PIXELS))
    drawn = np.zeros(0, dtype=np.int64)
    open_pixels = int(ends[-1]) - sum(len(context.pool.asked(PIXELS, i)) for i in range(len(ends)))
    n = min(n, open_pixels)
    while True:
        more = rng.integers(ends[-1], size=2 * n + 16)
        drawn = np.concatenate([drawn, more])
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]  # first of equals
        image = np.searchsorted(ends, drawn, side="right")
        unit = drawn - (ends - context.pool.num_units(PIXELS))[image]
        rows = np.flatnonzero(context.pool.is_open(PIXELS, image, unit))[:n]
        if len(rows) == n:
            return image[rows], unit[rows]


def unit_centers(
    pool: LabelPool, regions: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Every region that has a pixel: image, unit id, size, and centroid ``y, x`` in pixels."""
    image, unit, pixels = pool.units(regions)
    centers = []
    for index in range(len(pool)):
        ids = pool.maps[regions][index]
        size = pool.region_sizes(regions, index)
        y, x = np.nonzero(ids >= 0)
        inside = ids[y, x]
        sums = [np.bincount(inside, side, minlength=len(size)) for side in (y, x)]
        centers.append(np.stack(sums, axis=1)[size > 0] / size[size > 0, None])
    return image.astype(np.int64), unit.astype(np.int64), pixels, np.concatenate(centers)


def most_units(context: RoundContext, answer: AnswerKind) -> int:
    """An upper bound on the number of units a round's budget pays for."""
    pixels = np.ones(1, dtype=np.int64)
    if context.regions != PIXELS:
        pixels = context.pool.units(context.regions)[2]
    return _at_most(context.budget, context.budget.least_cost(answer, pixels))


def check_budget(context: RoundContext, answer: AnswerKind) -> None:
    """Refuse a budget that would buy the whole pool at once.

    Raises:
        UserError: With the least the pool costs.
    """
    budget, pool = context.budget, context.pool
    if context.regions == PIXELS:
        count = int(pool.num_units(PIXELS).sum())
        least = count * float(budget.least_cost(answer, np.ones(1, dtype=np.int64))[0])
    else:
        pixels = pool.units(context.regions)[2]
        count, least = len(pixels), float(budget.least_cost(answer, pixels).sum())
    if budget.amount >= least:
        raise UserError(
            f"budget.amount is {budget.amount:g} {budget.axis} a round, but the whole pool "
            f"({count} {context.kind}s of {len(pool)} images) costs as little as {least:g}: there "
            f"would be nothing to choose. Give less, or finer regions."
        )
