"""Ask what differs: spread out, stratified, covering the features or the gradients."""

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.acquisition.selection import top
from alseg.active.choose import check_budget, most_units, query_from_scores, unit_centers
from alseg.active.context import RoundContext
from alseg.active.one_fit import ANY_REGION_QUESTION, OneFit, Scored
from alseg.core.errors import UserError, unknown_name
from alseg.labels.tables import AnswerKind, Query, Table, plural

log = logging.getLogger(__name__)

#: Hours a choice may take unannounced.
_HOURS = 1.0


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
        candidates: Units a round picks from, drawn at random from the open ones, and never fewer
            than it picks: bounds the time of a choice, which grows with units times picks, and the
            memory it takes. null = all.
    """

    asks = ANY_REGION_QUESTION  # pixels have no features of their own
    ranks: ClassVar[bool] = False
    score: ClassVar[str] = "features"
    #: Seconds of one core per unit and pick, with 256 features.
    pace: ClassVar[float] = 20e-9

    metric: str = "euclidean"
    candidates: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metric not in ("euclidean", "cosine"):
            raise unknown_name("method.metric", self.metric, ("euclidean", "cosine"))
        if self.candidates is not None and self.candidates < 1:
            raise UserError(
                f"method.candidates is {self.candidates}; give at least 1 unit to pick from, or "
                f"null for all."
            )

    def first(self, context: RoundContext) -> Query:
        """Random units; says before anything is trained if later rounds will choose for hours."""
        query = super().first(context)
        units = int(context.pool.num_units(context.regions).sum())
        self._announce(context, units, min(units, most_units(context, self.asked(context))))
        return query

    def _announce(self, context: RoundContext, units: int, picks: int) -> None:
        """Warn of a choice that takes hours."""
        units = units if self.candidates is None else min(units, max(self.candidates, picks))
        hours, fewer = self.pace * units * picks / 3600, 10 * picks
        if hours > _HOURS:
            log.warning(
                "Picking up to %d of %d %s takes about %.0f hours in every round; "
                "method.candidates=N picks from N of them, drawn at random%s.",
                picks,
                units,
                plural(context.kind),
                hours,
                f", such as {fewer} in {hours * fewer / units:.1f} hours" if fewer < units else "",
            )

    def drawn(
        self, context: RoundContext, unasked: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], int]:
        """Rows of a table that are picked from, ascending, and how many are picked."""
        rows = np.flatnonzero(unasked)
        picks = min(most_units(context, self.asked(context)), len(rows))
        if self.candidates is None or self.candidates >= len(rows):
            return rows, picks
        count = max(self.candidates, picks)
        log.info(
            "Picking up to %d of %d %s, which were drawn at random from the %d open ones.",
            picks,
            count,
            plural(context.kind),
            len(rows),
        )
        return np.sort(context.rng("candidates").choice(rows, count, replace=False)), picks

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

        unasked = _unasked(context, units)
        rows, picks = self.drawn(context, unasked)
        features = units["features"]  # on the disk, and left there where there are many
        picked = k_center(
            Rows(features, rows, held=HELD),
            picks,
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

        rows, picks = self.drawn(context, _unasked(context, units))
        gradients = Gradients(
            Rows(units["error"], rows, held=HELD), Rows(units["features"], rows, held=HELD)
        )
        uniforms = context.rng("badge").random(picks)
        picked = badge(gradients, rows, uniforms, share=self.share)
        return _in_order(context, self.asked(context), units, picked)


def _unasked(context: RoundContext, units: Table) -> NDArray[np.bool_]:
    """Whether the units of a table are open, (n,)."""
    image, unit = (units[column].astype(np.int64) for column in ("image", "unit"))
    return context.pool.is_open(context.regions, image, unit)


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
