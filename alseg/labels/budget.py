"""What answers cost, on four axes at once, and when a round's budget is spent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray

from alseg.acquisition.selection import SpendRule, spend
from alseg.core.errors import UserError, unknown_name
from alseg.labels.kinds import KINDS
from alseg.labels.tables import AnswerKind, Answers

AXES = ("clicks", "seconds", "pixels", "units")

#: Price of one answer by kind: ``<axis>_per_<what>``, summed over unit, classes named, and pixels
#: covered. Sources stand beside the kinds, in `alseg.labels.kinds`.
PRICES: dict[str, dict[str, float]] = {name: dict(kind.prices) for name, kind in KINDS.items()}
_RATES = tuple(f"{axis}_per_{what}" for axis in ("clicks", "seconds") for what in
               ("unit", "class", "pixel"))  # fmt: skip


class Cost(NamedTuple):
    """Cost per answer (arrays of equal length) or in total (numbers)."""

    clicks: NDArray[np.float64] | float
    seconds: NDArray[np.float64] | float
    pixels: NDArray[np.float64] | float
    units: NDArray[np.float64] | float

    def total(self) -> "Cost":
        """Sum of every axis."""
        return Cost(*(float(np.sum(axis)) for axis in self))


def cost_of(
    answer: AnswerKind,
    classes: NDArray[np.int64],
    pixels: NDArray[np.int64],
    prices: Mapping[str, Mapping[str, float]],
) -> Cost:
    """Price answers on all four axes.

    Args:
        answer: What was asked.
        classes: Classes named in each answer, (n,).
        pixels: Pixels covered by each unit, (n,).
        prices: Price per kind of answer, as `PRICES`.

    Returns:
        Arrays of (n,), float64, per axis.

    >>> cost_of("class_set", np.array([3]), np.array([50]), PRICES).clicks
    array([3.])
    """
    price = prices[answer]
    amounts = {"unit": np.ones(len(pixels)), "class": classes, "pixel": pixels}

    def priced(axis: str) -> NDArray[np.float64]:
        parts = (price.get(f"{axis}_per_{what}", 0.0) * n for what, n in amounts.items())
        return np.asarray(sum(parts), dtype=np.float64)

    return Cost(
        clicks=priced("clicks"),
        seconds=priced("seconds"),
        pixels=np.asarray(pixels, dtype=np.float64) * KINDS[answer].covers_pixels,
        units=np.ones(len(pixels)),
    )


@dataclass(frozen=True)
class Budget:
    """What each round may spend.

    Attributes:
        amount: Budget of a round, on `axis`.
        axis: ``clicks``, ``seconds``, ``pixels`` or ``units``.
        rule: Where the walk down the query stops: ``exceed`` after the answer that makes the sum
            strictly exceed the budget (mulquery 5.3, arXiv 2309.09319), ``reach`` once the sum
            reaches it, ``within`` before the first answer that would exceed it.
        void_costs: Whether "void" in a class set is a class that costs its click.
        prices: Changes to `PRICES`, e.g. ``{"class_set": {"seconds_per_class": 4.0}}``.
    """

    amount: float = 1000.0
    axis: str = "clicks"
    rule: str = "exceed"
    void_costs: bool = True
    prices: dict[str, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise unknown_name("budget axis", self.axis, AXES)
        if self.rule not in get_args(SpendRule):
            raise unknown_name("budget rule", self.rule, get_args(SpendRule))
        if not self.amount > 0:
            raise UserError(
                f"budget.amount is {self.amount:g}; a round needs a positive number of {self.axis}."
            )
        for answer, price in self.prices.items():
            if answer not in KINDS:
                raise unknown_name("answer in budget.prices", answer, KINDS)
            for rate, value in price.items():
                if rate not in _RATES:
                    raise unknown_name(f"rate in budget.prices.{answer}", rate, _RATES)
                if value < 0:
                    raise UserError(f"budget.prices.{answer}.{rate} is {value:g}; prices are >= 0.")

    @property
    def table(self) -> dict[str, dict[str, float]]:
        """Prices in force. A kind of answer that is changed keeps its other rates."""
        return {name: {**kind.prices, **self.prices.get(name, {})} for name, kind in KINDS.items()}

    def cost(self, answers: Answers, pixels: NDArray[np.int64]) -> Cost:
        """Price given answers.

        Args:
            answers: The n answers.
            pixels: Pixels of each unit, (n,).

        Returns:
            Arrays of (n,) per axis. Seconds are the measured ones where the oracle measured.
        """
        kind = KINDS[answers.answer]
        classes = kind.named(answers.content, answers.num_classes, self.void_costs)
        cost = cost_of(answers.answer, classes, pixels, self.table)
        if answers.seconds is not None:
            measured = np.isfinite(answers.seconds)
            cost = cost._replace(seconds=np.where(measured, answers.seconds, cost.seconds))
        return cost

    def is_certain(self, answer: AnswerKind) -> bool:
        """Whether the price on `axis` is known before the answer is."""
        return not self.table[answer].get(f"{self.axis}_per_class", 0.0)

    def least_cost(self, answer: AnswerKind, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Smallest possible price of units before they are answered, on `axis`, (n,), float64."""
        one = np.ones(len(pixels), dtype=np.int64)
        return np.asarray(getattr(cost_of(answer, one, pixels, self.table), self.axis))

    def bought(self, costs: NDArray[np.float64]) -> int:
        """How many of the answers, in order, the budget pays for.

        Args:
            costs: Price of each answer on `axis`, (n,).
        """
        return spend(costs, self.amount, cast(SpendRule, self.rule))
