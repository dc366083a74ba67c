"""What the baselines share: one network per round, trained from scratch on what was answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast, get_args

import numpy as np

from alseg.active.choose import check_budget, most_units, query_from_scores, random_query
from alseg.active.method import Method, RoundContext, Scoring, Stage, Table
from alseg.core.errors import UserError, unknown_name
from alseg.core.images import ImageSet
from alseg.core.seeds import derive
from alseg.labels.budget import Budget
from alseg.labels.supervision import LabelMaps, Supervision
from alseg.labels.tables import PIXELS, AnswerKind, Query
from alseg.nn.recipe import Recipe

if TYPE_CHECKING:  # torch takes seconds to import
    import lightning as L

#: What is asked about a unit unless the user says otherwise.
ANSWERS: dict[str, AnswerKind] = {
    "pixel": "class",
    "patch": "mask",
    "region": "dominant",
    "image": "mask",
}
REDUCTIONS = ("mean", "sum", "max")


@dataclass(frozen=True)
class Random(Method):
    """Units drawn at random, every round: the baseline of baselines.

    Attributes:
        answer: What is asked about a unit: ``class``, ``dominant``, ``class_set`` (of which only
            sets of one class are learnt) or ``mask``; null = ``class`` for pixels, ``dominant``
            for superpixels, ``mask`` for patches and images.
        steps: Training batches of a round.
        batch_size: Images per batch.
        lr: Encoder's learning rate.
        head_factor: Learning rate of decoder and classifier, as a multiple of the encoder's.
        optimizer: ``adamw``, ``adam`` or ``sgd``, see `alseg.nn.recipe.Recipe`.
        weight_decay: Of the optimiser.
        schedule: ``poly``, ``step`` or ``constant``.
        drop_every: Training batches after which ``step`` lowers the learning rate tenfold.
        keep: ``last`` or ``best`` checkpoint on the validation images.
        epoch_steps: Batches between two checkpoints.
    """

    defaults: ClassVar[Mapping[str, str]] = {"budget.rule": "within"}
    small: ClassVar[Mapping[str, str]] = {
        "method.steps": "120",
        "method.batch_size": "4",
        "method.lr": "2e-3",
        "method.head_factor": "1",
        "method.epoch_steps": "40",
    }

    answer: str | None = None
    steps: int = 20_000
    batch_size: int = 4
    lr: float = 5e-5
    head_factor: float = 10.0
    optimizer: str = "adamw"
    weight_decay: float = 2e-4
    schedule: str = "poly"
    drop_every: int | None = None
    keep: str = "last"
    epoch_steps: int = 500

    def __post_init__(self) -> None:
        if self.answer is not None and self.answer not in get_args(AnswerKind):
            raise unknown_name("method.answer", self.answer, get_args(AnswerKind))
        if self.keep not in ("last", "best"):
            raise unknown_name("method.keep", self.keep, ("last", "best"))
        for option in ("steps", "batch_size", "epoch_steps"):
            if not getattr(self, option) > 0:
                raise UserError(f"method.{option} is {getattr(self, option)}; it must be > 0.")
        self.recipe()

    def check(self, images: ImageSet, budget: Budget) -> None:
        """Nothing depends on the images or the budget."""

    def asked(self, context: RoundContext) -> AnswerKind:
        """What is asked about a unit.

        Raises:
            UserError: For a question that makes no sense for one pixel.
        """
        answer = cast(AnswerKind, self.answer or ANSWERS[context.kind])
        if context.kind == "pixel" and answer != "class":
            raise UserError(
                f"method.answer={answer} asks about the pixels of a unit, and regions=pixels has "
                f"units of one pixel; give method.answer=class, or other regions."
            )
        return answer

    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """One fit."""
        shared: dict[str, Any] = {"epoch_steps": self.epoch_steps, "keep": self.keep}
        return [Stage("train", steps=self.steps, batch_size=self.batch_size, **shared)]

    def recipe(self) -> Recipe:
        """Optimiser and schedule."""
        return Recipe(
            lr=self.lr,
            head_factor=self.head_factor,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            drop_every=self.drop_every,
        )

    def training(self, stage: Stage, context: RoundContext) -> dict[str, Any]:
        """Keyword arguments of `alseg.active.module.SegmentationModule`."""
        return {
            "network": context.network.build(context.pool.num_classes),
            "num_classes": context.pool.num_classes,
            "steps": stage.steps,
            "recipe": self.recipe(),
        }

    def module(self, stage: Stage, context: RoundContext) -> "L.LightningModule":
        """A fresh network trained by cross-entropy."""
        from alseg.active.module import CrossEntropyModule

        return CrossEntropyModule(**self.training(stage, context))

    def supervision(self, stage: Stage, context: RoundContext) -> Supervision:
        """Everything answered so far."""
        return LabelMaps(context.pool)

    def first_query(self, context: RoundContext) -> Query:
        """Random units."""
        check_budget(context, self.asked(context))
        return random_query(context, self.asked(context))

    def scorer(self, context: RoundContext) -> Scoring | None:
        """Nothing is scored."""
        return None

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """Random units."""
        return random_query(context, self.asked(context))


@dataclass(frozen=True)
class Scored(Random):
    """The units of highest score. Not a method by itself: `score` names what is measured.

    Attributes:
        reduce: ``mean``, ``sum`` or ``max`` of the pixel scores over a unit.
        power: Exponent of power-law noise on the scores (Kirsch et al., arXiv 2106.12059): 1 is
            their default, larger is closer to the plain ranking; null = no noise.
        pool_fraction: Score this share of the images only, drawn anew in every round: saves time
            and keeps near duplicates apart (Xie et al., DEAL, ACCV 2020, take 0.4 or 0.5).
    """

    score: ClassVar[str]

    reduce: str = "mean"
    power: float | None = None
    pool_fraction: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduce not in REDUCTIONS:
            raise unknown_name("method.reduce", self.reduce, REDUCTIONS)
        if self.power is not None and self.power < 0:
            raise UserError(f"method.power is {self.power}; it must be >= 0, or null for no noise.")
        if not 0 < self.pool_fraction <= 1:
            raise UserError(f"method.pool_fraction is {self.pool_fraction}; it is a share, 0..1.")

    def module(self, stage: Stage, context: RoundContext) -> "L.LightningModule":
        """A fresh network that also scores."""
        from alseg.methods.baselines.module import ScoringModule

        return ScoringModule(**self.scoring(context), **self.training(stage, context))

    def scoring(self, context: RoundContext) -> dict[str, Any]:
        """Keyword arguments of `alseg.methods.baselines.module.ScoringModule`."""
        return {
            "score": self.score,
            "reduce": self.reduce,
            "most": most_units(context, self.asked(context)),
            "power": self.power,
            "seed": derive(context.seed, context.round, "score"),
            "asked": {
                image: context.pool.asked(PIXELS, image) for image in range(len(context.pool))
            }
            if context.kind == "pixel"
            else {},
        }

    def scorer(self, context: RoundContext) -> Scoring | None:
        """The network of the round, on the share of the pool that is to be scored."""
        if self.pool_fraction == 1:
            return Scoring("train")
        left = context.pool.open_images(context.regions)
        count = max(1, round(self.pool_fraction * len(left)))
        return Scoring("train", np.sort(context.rng("pool").choice(left, count, replace=False)))

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """The open units of highest score."""
        units = tables["units"]
        return query_from_scores(
            context,
            self.asked(context),
            units["image"],
            units["unit"],
            units["score"],
            units["pixels"],
        )
