"""Ask what differs: spread out, stratified, covering the features or the gradients."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.acquisition.selection import top
from alseg.active.choose import check_budget, most_units, query_from_scores, unit_centers
from alseg.active.context import RoundContext
from alseg.active.one_fit import ANY_REGION_QUESTION, OneFit, Scored
from alseg.core.errors import unknown_name
from alseg.labels.tables import AnswerKind, Query, Table


@dataclass(frozen=True)
class Spread(OneFit):
    """Random units that keep their distance from each other: a strong random baseline."""

    asks = ANY_REGION_QUESTION  # the pixels of a pool are too many to measure distances between
    ranks: ClassVar[bool] = False

    def ask(self, context: RoundContext) -> Query:
        """Best of a few random candidates, by distance to everything asked or picked."""
        from alseg.acquisition.randomized import spatially_spread

        if context.round == 0:
            check_budget(context, self.asked(context))
        image, unit, pixels, center = unit_centers(context.pool, context.regions)
        taken = ~context.pool.is_open(context.regions, image, unit)
        n = most_units(context, self.asked(context))
        order = spatially_spread(image, center, n, context.rng("spread"), taken)
        score = np.full(len(image), -1.0, dtype=np.float32)
        score[order] = np.linspace(1, 0, len(order), dtype=np.float32)
        rows = top(score, image, unit, len(order))
        return query_from_scores(
            context, self.asked(context), image[rows], unit[rows], score[rows], pixels[rows]
        )


@dataclass(frozen=True)
class Stratified(Scored):
    """Random units, as many predicted as each class."""

    ranks: ClassVar[bool] = False
    score: ClassVar[str] = "class"

    def pick(self, context: RoundContext, units: Table) -> Query:
        """Turn by turn one unit of each predicted class."""
        from alseg.acquisition.randomized import stratified_by_class

        order = stratified_by_class(units["score"].astype(np.int64), context.rng("stratified"))
        score = np.empty(len(order), dtype=np.float32)
        score[order] = np.linspace(1, 0, len(order), dtype=np.float32)
        return query_from_scores(
            context, self.asked(context), units["image"], units["unit"], score, units["pixels"]
        )


@dataclass(frozen=True)
class CoreSet(Scored):
    """Units that cover the feature space: greedy k-center (Sener & Savarese, ICLR 2018).

    Attributes:
        metric: ``euclidean`` or ``cosine`` distance of the units' mean features.
    """

    asks = ANY_REGION_QUESTION  # pixels have no features of their own
    ranks: ClassVar[bool] = False
    score: ClassVar[str] = "features"

    metric: str = "euclidean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metric not in ("euclidean", "cosine"):
            raise unknown_name("method.metric", self.metric, ("euclidean", "cosine"))

    def scored_images(self, context: RoundContext) -> NDArray[np.int64] | None:
        """Images that are wholly labelled as well: what is picked has to differ from them."""
        images = super().scored_images(context)
        if images is None:
            images = context.pool.open_images(context.regions)
        return np.union1d(images, context.pool.images())

    def pick(self, context: RoundContext, units: Table) -> Query:
        """Unit after unit the one farthest from everything asked or picked."""
        from alseg.acquisition.clustering import k_center
        from alseg.acquisition.rows import HELD, Rows

        unasked = context.pool.is_open(
            context.regions, units["image"].astype(np.int64), units["unit"].astype(np.int64)
        )
        rows = np.flatnonzero(unasked)
        features = units["features"]  # on the disk, and left there where there are many
        picked = k_center(
            Rows(features, rows, held=HELD),
            min(most_units(context, self.asked(context)), len(rows)),
            rows,
            labelled=np.asarray(features[~unasked], dtype=np.float32),
            metric=self.metric,  # type: ignore[arg-type]
        )
        return _in_order(context, self.asked(context), units, picked)


@dataclass(frozen=True)
class Badge(CoreSet):
    """Diverse gradients of the last layer, by k-means++ (Ash et al., ICLR 2020).

    A unit's gradient is the product of its mean prediction error and its mean features, an
    adaptation to segmentation of alseg's own.

    Attributes:
        share: Share of the units, those with the longest gradients, that are drawn from.
    """

    score: ClassVar[str] = "gradients"

    share: float = 1.0

    def scored_images(self, context: RoundContext) -> NDArray[np.int64] | None:
        """What is labelled takes no part."""
        return Scored.scored_images(self, context)

    def pick(self, context: RoundContext, units: Table) -> Query:
        """Draw units with a probability that grows with their distance from those drawn."""
        from alseg.acquisition.badge import Gradients, badge
        from alseg.acquisition.rows import HELD, Rows

        rows = np.flatnonzero(
            context.pool.is_open(
                context.regions, units["image"].astype(np.int64), units["unit"].astype(np.int64)
            )
        )
        gradients = Gradients(
            Rows(units["error"], rows, _double, HELD), Rows(units["features"], rows, _double, HELD)
        )
        n = min(most_units(context, self.asked(context)), len(rows))
        picked = badge(gradients, rows, context.rng("badge").random(n), share=self.share)
        return _in_order(context, self.asked(context), units, picked)


def _double(block: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(block, np.float64)


def _in_order(
    context: RoundContext, answer: AnswerKind, units: Table, rows: np.ndarray[Any, Any]
) -> Query:
    """A query of some rows of a table in the order given."""
    score = np.linspace(1, 0, len(rows), dtype=np.float32)
    return query_from_scores(
        context,
        answer,
        units["image"][rows],
        units["unit"][rows],
        score,
        units["pixels"][rows],
    )
