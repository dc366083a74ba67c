"""From scores of units to a query within the budget.

What is chosen depends on an `Asking` alone: the pool and its prices, the regions and what they are,
the round and the seed, and how like units are kept apart.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.acquisition.diversity import Units
from alseg.acquisition.selection import Ties
from alseg.active.affordable import (
    PART,
    Affordable,
    Candidates,
    at_most,
    least_costs,
    open_rows,
)
from alseg.active.context import Asking
from alseg.core.errors import UserError, unknown_name
from alseg.labels.kinds import KINDS
from alseg.labels.pool import LabelPool, rows_by_image
from alseg.labels.tables import PIXELS, AnswerKind, Query


def query_from_scores(
    asking: Asking,
    answer: AnswerKind,
    image: NDArray[np.integer[Any]],
    unit: NDArray[np.integer[Any]],
    score: NDArray[np.floating[Any]],
    pixels: NDArray[np.integer[Any]] | None = None,
    ties: Ties = "first",
    regions: str | None = None,
    suggested: NDArray[np.integer[Any]] | None = None,
) -> Query:
    """The open units of highest score, as many as the budget may pay for.

    Where the price is known before the answer, the query is exactly what is bought. Else it is as
    long as the budget would reach if every answer named one class. (Where void costs nothing and
    very much of what is asked is void, a round may end with a rest of its budget.)

    Args:
        asking: Of the round that asks.
        answer: What is asked.
        image: Image index of each unit, (n,).
        unit: Unit id inside the image, (n,).
        score: Higher is asked first, (n,).
        pixels: Pixels of each unit, (n,); needed only where pixels have a price.
        ties: See `alseg.acquisition.selection.order`.
        regions: Version of the maps the units are of, where they were made for this round and
            nobody has been asked about them; None = the maps of the run.
        suggested: Label suggested for each unit, (n,), for kinds of answers that suggest one.

    Returns:
        The query, possibly empty when nothing is open.
    """
    rows = Candidates(image, unit, score, pixels, suggested)
    own = asking.regions if regions is None else None
    if asking.diversity is None:
        found = Affordable(asking.pool, asking.budget, answer, own, ties)
        for part in rows.parts():
            found.add(part)
        return _query(asking, answer, found.rows, regions)
    rows = open_rows(rows, asking.pool, own)
    least = least_costs(rows, asking.budget, answer)
    images, ids = rows.image.astype(np.int64), rows.unit.astype(np.int64)
    units = Units(images, ids, np.asarray(rows.score, dtype=np.float64))
    if "center" in asking.diversity.way.needs:
        version = asking.regions if regions is None else regions
        units = units._replace(center=_centers(asking.pool, version, images, ids))
    most = at_most(asking.budget, least.min(initial=np.inf), len(least))
    chosen = asking.diversity.choose(units, most, asking.rng("diversity"))
    chosen = chosen[: asking.budget.bought(least[chosen])]
    return _query(asking, answer, rows.rows(chosen), regions)


def _query(asking: Asking, answer: AnswerKind, rows: Candidates, regions: str | None) -> Query:
    """A query about units in the order they are given."""
    return Query(
        round=asking.round,
        kind="pixel" if asking.regions == PIXELS else asking.kind,
        answer=answer,
        regions=asking.regions if regions is None else regions,
        image=rows.image.astype(np.int64),
        unit=rows.unit.astype(np.int64),
        score=rows.score.astype(np.float32),
        suggested=None if rows.suggested is None else rows.suggested.astype(np.uint8),
    )


def whole_images(
    asking: Asking,
    images: NDArray[np.int64],
    score: NDArray[np.floating[Any]] | None = None,
    answer: AnswerKind = "mask",
    regions: str | None = None,
) -> Query:
    """A query about whole images, in the order they are given.

    Args:
        asking: Of the round that asks; its regions are whole images.
        images: The images, (n,).
        score: Why they are asked, (n,); None = all alike.
        answer: What is asked.
        regions: See `query_from_scores`.
    """
    score = np.zeros(len(images)) if score is None else score
    return Query(
        round=asking.round,
        kind=asking.kind,
        answer=answer,
        regions=asking.regions if regions is None else regions,
        image=images.astype(np.int64),
        unit=np.zeros(len(images), dtype=np.int64),
        score=score.astype(np.float32),
    )


def random_query(asking: Asking | LabelPool, answer: AnswerKind) -> Query:
    """Open units in random order, as many as the budget may pay for.

    Region ids without a pixel are never asked.

    Args:
        asking: Of the round that asks; decides the order. A pool that knows its regions stands
            for the next question about it, with seed 0.
        answer: What is asked.

    Raises:
        UserError: For an unknown kind of answer, or one that needs a label suggested.
    """
    check_answer(answer)
    if KINDS[answer].suggests:
        raise UserError(
            f"random questions suggest no label, and answer={answer} confirms or replaces one; "
            f"choose by scores, from a table with a column suggested."
        )
    if isinstance(asking, LabelPool):
        asking = Asking.of(asking)
    asking = replace(asking, diversity=None)
    rng = asking.rng("random")
    if asking.regions == PIXELS:
        image, unit = _random_pixels(asking, most_units(asking, answer), rng)
        score = np.linspace(1, 0, len(image), dtype=np.float32)
        return query_from_scores(asking, answer, image, unit, score, np.ones_like(unit))
    found = Affordable(asking.pool, asking.budget, answer, asking.regions, "first")
    for images, units, pixels in asking.pool.units_in_parts(asking.regions, PART):
        score = rng.random(len(images), dtype=np.float32)
        found.add(Candidates(images, units, score, pixels))
    return _query(asking, answer, found.rows, None)


def _random_pixels(
    asking: Asking, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct open pixels in random order; a pool has too many to list them all."""
    ends = np.cumsum(asking.pool.num_units(PIXELS))
    drawn = np.zeros(0, dtype=np.int64)
    open_pixels = int(ends[-1]) - sum(len(asking.pool.asked(PIXELS, i)) for i in range(len(ends)))
    n = min(n, open_pixels)
    while True:
        more = rng.integers(ends[-1], size=2 * n + 16)
        drawn = np.concatenate([drawn, more])
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]  # first of equals
        image = np.searchsorted(ends, drawn, side="right")
        unit = drawn - (ends - asking.pool.num_units(PIXELS))[image]
        rows = np.flatnonzero(asking.pool.is_open(PIXELS, image, unit))[:n]
        if len(rows) == n:
            return image[rows], unit[rows]


def unit_centers(
    pool: LabelPool, regions: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Every region that has a pixel: image, unit id, size, and centroid ``y, x`` in pixels."""
    image, unit, pixels = pool.units(regions)
    images, ids = image.astype(np.int64), unit.astype(np.int64)
    return images, ids, pixels, _centers(pool, regions, images, ids)


def _centers(
    pool: LabelPool, regions: str, image: NDArray[np.int64], unit: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Centroids ``y, x`` of some units, in pixels, (n, 2)."""
    centers = np.empty((len(image), 2))
    for index, rows in rows_by_image(image):
        if regions == PIXELS:
            width = int(pool.sizes[index, 1])
            centers[rows] = np.stack(np.divmod(unit[rows], width), axis=1)
            continue
        ids = pool.maps[regions][index]
        size = pool.region_sizes(regions, index)
        y, x = np.nonzero(ids >= 0)
        inside = ids[y, x]
        sums = [np.bincount(inside, side, minlength=len(size)) for side in (y, x)]
        centers[rows] = (np.stack(sums, axis=1)[unit[rows]]) / size[unit[rows], None]
    return centers


def most_units(asking: Asking, answer: AnswerKind) -> int:
    """An upper bound on the number of units a round's budget pays for."""
    budget = asking.budget
    if asking.regions == PIXELS:
        return at_most(budget, budget.least_cost(answer, np.ones(1, dtype=np.int64))[0], 1)
    count, cheapest = 0, np.inf
    for _, _, pixels in asking.pool.units_in_parts(asking.regions, PART):
        cheapest = min(cheapest, budget.least_cost(answer, pixels).min(initial=np.inf))
        count += len(pixels)
    return at_most(budget, cheapest, count)


def check_answer(answer: str | None) -> None:
    """Refuse a kind of answer there is not; None is the usual one.

    Raises:
        UserError: Naming those there are.
    """
    if answer is not None and answer not in KINDS:
        raise unknown_name("answer", answer, KINDS)


def check_budget(asking: Asking, answer: AnswerKind) -> None:
    """Refuse a budget that would buy the whole pool at once.

    Raises:
        UserError: With the least the pool costs.
    """
    budget, pool = asking.budget, asking.pool
    if asking.regions == PIXELS:
        count = int(pool.num_units(PIXELS).sum())
        least = count * float(budget.least_cost(answer, np.ones(1, dtype=np.int64))[0])
    else:
        count, least = 0, 0.0
        for _, _, pixels in pool.units_in_parts(asking.regions, PART):
            count += len(pixels)
            least += float(budget.least_cost(answer, pixels).sum())
    if budget.amount >= least:
        raise UserError(
            f"budget.amount is {budget.amount:g} {budget.axis} a round, but the whole pool "
            f"({count} {asking.kind}s of {len(pool)} images) costs as little as {least:g}: there "
            f"would be nothing to choose. Give less, or finer regions."
        )
