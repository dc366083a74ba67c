"""Units at random: the baseline of baselines."""

from dataclasses import dataclass
from typing import ClassVar

from alseg.active.choose import random_query
from alseg.active.context import RoundContext
from alseg.active.one_fit import OneFit
from alseg.labels.tables import Query


@dataclass(frozen=True)
class Random(OneFit):
    """Units drawn at random, every round: the baseline of baselines."""

    ranks: ClassVar[bool] = False

    def ask(self, context: RoundContext) -> Query:
        """Random units."""
        return random_query(context, self.asked(context)) if context.round else self.first(context)
