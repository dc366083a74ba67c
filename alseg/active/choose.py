"""From scores of units to a query within the budget."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.acquisition.selection import Ties, top
from alseg.active.budget import Budget
from alseg.active.method import RoundContext
from alseg.active.pool import LabelPool
from alseg.active.tables import PIXELS, AnswerKind, Query
from alseg.errors import UserError


def query_from_scores(
    context: RoundContext,
    answer: AnswerKind,
    image: NDArray[np.integer[Any]],
    unit: NDArray[np.integer[Any]],
    score: NDArray[np.floating[Any]],
    pixels: NDArray[np.integer[Any]] | None = None,
    ties: Ties = "first",
) -> Query:
    """The open units of highest score, as many as the budget may pay for.

    Where the price is known before the answer, the query is exactly what is bought. Else it is as
    long as the budget would reach if every answer had its least price.

    Args:
        context: Of the round that asks.
        answer: What is asked.
        image: Image index of each unit, (n,).
        unit: Unit id inside the image, (n,).
        score: Higher is asked first, (n,).
        pixels: Pixels of each unit, (n,); needed only where pixels have a price.
        ties: See `alseg.acquisition.selection.order`.

    Returns:
        The query, possibly empty when nothing is open.
    """
    images, units = image.astype(np.int64), unit.astype(np.int64)
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
        regions=context.regions,
        image=images[rows],
        unit=units[rows],
        score=score[rows].astype(np.float32),
    )


def _at_most(budget: Budget, least: NDArray[np.float64]) -> int:
    """An upper bound on the number of units the budget pays for."""
    cheapest = float(least.min(initial=np.inf))
    if cheapest <= 0:
        return len(least)
    return int(min(len(least), budget.amount // cheapest + 2))


def random_query(context: RoundContext, answer: AnswerKind) -> Query:
    """Open units in random order, as many as the budget may pay for.

    Region ids without a pixel are never asked.

    Args:
        context: Of the round that asks; decides the order.
        answer: What is asked.
    """
    image, unit, pixels = _units(context.pool, context.regions)
    score = context.rng("random").random(len(image), dtype=np.float32)
    return query_from_scores(context, answer, image, unit, score, pixels)


def _units(
    pool: LabelPool, regions: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Image, unit id and size of every unit that has a pixel."""
    images, units, sizes = [], [], []
    for image in range(len(pool)):
        if regions == PIXELS:
            size = np.ones(int(pool.sizes[image].prod()), dtype=np.int64)
        else:
            size = pool.region_sizes(regions, image)
        unit = np.flatnonzero(size)
        images.append(np.full(len(unit), image, dtype=np.int64))
        units.append(unit)
        sizes.append(size[unit])
    return np.concatenate(images), np.concatenate(units), np.concatenate(sizes)


def check_budget(context: RoundContext, answer: AnswerKind) -> None:
    """Refuse a budget that would buy the whole pool at once.

    Raises:
        UserError: With the least the pool costs.
    """
    _, _, pixels = _units(context.pool, context.regions)
    budget = context.budget
    least = float(budget.least_cost(answer, pixels).sum())
    if budget.amount >= least:
        raise UserError(
            f"budget.amount is {budget.amount:g} {budget.axis} a round, but the whole pool "
            f"({len(pixels)} {context.kind}s of {len(context.pool)} images) costs as little as "
            f"{least:g}: there would be nothing to choose. Give less, or finer regions."
        )
