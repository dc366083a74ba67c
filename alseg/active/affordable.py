"""The units a budget may pay for, out of tables of any length that come part by part."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from alseg.acquisition.selection import Ties, top
from alseg.labels.budget import Budget
from alseg.labels.pool import LabelPool
from alseg.labels.tables import AnswerKind

#: Rows of a table that are looked at together.
PART = 1 << 20


class Candidates(NamedTuple):
    """Units that may be asked about, (n,) each."""

    image: NDArray[np.integer[Any]]
    unit: NDArray[np.integer[Any]]
    score: NDArray[np.floating[Any]]
    pixels: NDArray[np.integer[Any]] | None = None
    """Pixels of each unit; needed only where pixels have a price."""
    suggested: NDArray[np.integer[Any]] | None = None

    def rows(self, rows: NDArray[np.int64] | slice) -> Self:
        """Some of the rows."""
        return self._replace(
            **{n: c[rows] for n, c in self._asdict().items() if c is not None},
        )

    def parts(self, length: int | None = None) -> Iterator[Self]:
        """The rows, `PART` or another number at a time."""
        step = length or PART
        for start in range(0, len(self.image), step):
            yield self.rows(slice(start, start + step))

    def with_rows(self, other: Self) -> Self:
        """The rows, and then those of another table with the same columns."""
        return self._replace(
            **{
                name: np.concatenate([column, getattr(other, name)])
                for name, column in self._asdict().items()
                if column is not None
            }
        )


class Affordable:
    """Keeps, of what it is given, the best open units that the budget may pay for.

    Memory holds as many rows as the budget pays for and one part of the table: what lies behind
    the end of the budget is never bought, whatever comes before it.

    Args:
        pool: Knows which units are open.
        budget: Of the round.
        answer: What is asked.
        regions: Version of the maps the units are of; None where nobody has been asked about them.
        ties: See `alseg.acquisition.selection.order`.
    """

    def __init__(
        self, pool: LabelPool, budget: Budget, answer: AnswerKind, regions: str | None, ties: Ties
    ) -> None:
        self.pool = pool
        self.budget = budget
        self.answer = answer
        self.regions = regions
        self.ties = ties
        self._kept: Candidates | None = None
        self._spent = False

    def add(self, part: Candidates) -> None:
        """Look at some more rows."""
        if self._kept is not None and self._spent:
            part = part.rows(np.flatnonzero(~(part.score < self._kept.score[-1])))
        part = open_rows(part, self.pool, self.regions)
        rows = part if self._kept is None else self._kept.with_rows(part)
        least = least_costs(rows, self.budget, self.answer)
        most = at_most(self.budget, least.min(initial=np.inf), len(least))
        order = top(rows.score, rows.image, rows.unit, most, self.ties)
        bought = self.budget.bought(least[order])
        self._spent = self._spent or 0 < bought < len(least)
        self._kept = rows.rows(order[:bought])

    @property
    def rows(self) -> Candidates:
        """The units, the best one first."""
        if self._kept is None:
            none = np.zeros(0, dtype=np.int64)
            return Candidates(none, none, none.astype(np.float32))
        return self._kept


def open_rows(rows: Candidates, pool: LabelPool, regions: str | None) -> Candidates:
    """The rows whose units have not been asked."""
    if regions is None:
        return rows
    is_open = pool.is_open(regions, rows.image, rows.unit)
    return rows if is_open.all() else rows.rows(np.flatnonzero(is_open))


def least_costs(rows: Candidates, budget: Budget, answer: AnswerKind) -> NDArray[np.float64]:
    """Smallest possible price of each unit, (n,), on the axis of the budget.

    Raises:
        ValueError: If it depends on the pixels of a unit, which are not known.
    """
    size = np.zeros(len(rows.image), dtype=np.int64) if rows.pixels is None else rows.pixels
    least = budget.least_cost(answer, size.astype(np.int64))
    if rows.pixels is None and not least.all():
        raise ValueError("the budget counts pixels: their number per unit is needed")
    return least


def at_most(budget: Budget, cheapest: float, count: int) -> int:
    """An upper bound on the number of units the budget pays for.

    Args:
        budget: The budget.
        cheapest: Smallest possible price of a unit; infinite where there is none.
        count: Number of units.
    """
    if not 0 < cheapest < np.inf or budget.amount == np.inf:
        return count
    return int(budget.amount // cheapest) + 2
