"""Methods of one fit a round: what the classic baselines share, for methods of your own, too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from alseg.active.choose import check_budget, query_from_scores, random_query
from alseg.active.context import RoundContext
from alseg.active.method import Method, Scoring
from alseg.active.stage import KEEPS, Fit, Stage
from alseg.core.errors import UserError, unknown_name
from alseg.core.images import ImageSet
from alseg.core.seeds import derive
from alseg.labels.budget import Budget
from alseg.labels.kinds import KINDS
from alseg.labels.supervision import LabelMaps, Supervision
from alseg.labels.tables import AnswerKind, Answers, Query, Table, UnitKind
from alseg.nn.recipe import Recipe

if TYPE_CHECKING:  # torch takes seconds to import
    import lightning as L

REDUCTIONS = ("mean", "sum", "max")

#: Every question about every unit; that of a pixel is its class.
ANY_QUESTION: dict[UnitKind, tuple[AnswerKind, ...]] = {
    "pixel": ("class",),
    "patch": ("mask", "dominant", "class", "class_set"),
    "region": ("dominant", "class", "class_set", "mask"),
    "image": ("mask", "dominant", "class", "class_set"),
}
#: Every question about regions.
ANY_REGION_QUESTION: Mapping[UnitKind, tuple[AnswerKind, ...]] = {
    unit: answers for unit, answers in ANY_QUESTION.items() if unit != "pixel"
}


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained, as options of a method.

    Attributes:
        steps: Training batches of a round.
        batch_size: Images per batch.
        lr: Encoder's learning rate.
        head_factor: Learning rate of decoder and classifier, as a multiple of the encoder's.
        optimizer: ``adamw``, ``adam`` or ``sgd``, see `alseg.nn.recipe.Recipe`.
        weight_decay: Of the optimiser.
        schedule: ``poly``, ``step`` or ``constant``.
        drop_every: Training batches after which ``step`` lowers the learning rate tenfold.
        floor: Smallest learning rate of ``poly``.
        decay_kernels_only: No weight decay on batch norms, biases and depthwise convolutions.
        bias_factor: Learning rate of the classifier's biases, as a multiple of the rest of it.
        keep: ``last`` or ``best`` checkpoint on the validation images.
        epoch_steps: Batches between two checkpoints.
        short_batches: The last batch of a pass over the images is as small as what is left of
            them; by default it is filled up from the next pass.
    """

    #: For data sets that say they are small.
    short: ClassVar[Mapping[str, str]] = {
        "method.steps": "120",
        "method.batch_size": "4",
        "method.lr": "2e-3",
        "method.head_factor": "1",
        "method.epoch_steps": "40",
    }
    steps: int = 20_000
    batch_size: int = 4
    lr: float = 5e-5
    head_factor: float = 10.0
    optimizer: str = "adamw"
    weight_decay: float = 2e-4
    schedule: str = "poly"
    drop_every: int | None = None
    floor: float = Recipe.floor
    decay_kernels_only: bool = False
    bias_factor: float = 1.0
    keep: str = "last"
    epoch_steps: int = 500
    short_batches: bool = False

    def __post_init__(self) -> None:
        if self.keep not in KEEPS:
            raise unknown_name("method.keep", self.keep, KEEPS)
        for option in ("steps", "batch_size", "epoch_steps"):
            if not getattr(self, option) > 0:
                raise UserError(f"method.{option} is {getattr(self, option)}; it must be > 0.")
        self.recipe()

    def fit(self) -> Fit:
        """Length of the fit, and what it keeps."""
        return Fit(
            self.steps, self.batch_size, self.epoch_steps, self.short_batches, keep=self.keep
        )

    def recipe(self) -> Recipe:
        """Optimiser and schedule."""
        return Recipe(
            lr=self.lr,
            head_factor=self.head_factor,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            drop_every=self.drop_every,
            floor=self.floor,
            decay_kernels_only=self.decay_kernels_only,
            bias_factor=self.bias_factor,
        )


@dataclass(frozen=True)
class OneFit(TrainingOptions, Method):
    """One network per round, trained from scratch by cross-entropy on everything answered so far.

    Not a method by itself: `ask` says what is asked. By default the first query is random.

    Attributes:
        answer: What is asked about a unit: ``class``, ``dominant``, ``class_set`` (of which only
            sets of one class are learnt) or ``mask``; null = ``class`` for pixels, ``dominant``
            for superpixels, ``mask`` for patches and images.
    """

    asks: ClassVar[Mapping[UnitKind, tuple[AnswerKind, ...]]] = ANY_QUESTION
    defaults: ClassVar[Mapping[str, str]] = {"budget.rule": "within"}
    small: ClassVar[Mapping[str, str]] = TrainingOptions.short
    stage_name: ClassVar[str] = "train"

    answer: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        known = {answer for answers in self.asks.values() for answer in answers}
        if self.answer is not None and self.answer not in known:
            raise unknown_name("method.answer", self.answer, known)

    def learns(self, answers: Answers, own: bool) -> bool:
        """Whatever says something of pixels; the class of a whole image only where it is asked."""
        says = KINDS[answers.answer].covers_pixels
        whole = answers.kind == "image" and answers.masks is None
        return says and (not whole or answers.answer == self.answer)

    def asked(self, context: RoundContext) -> AnswerKind:
        """What is asked about a unit."""
        return self.answer or self.asks[context.kind][0]

    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """One fit."""
        return [Train(name=self.stage_name, fit=self.fit(), context=context, method=self)]

    def training(
        self, context: RoundContext, cosine: bool = False, outputs: int = 0
    ) -> dict[str, Any]:
        """Keyword arguments of `alseg.active.module.CrossEntropyModule`.

        Args:
            context: Of the round.
            cosine: See `alseg.nn.network.Network.build`.
            outputs: Outputs of the network besides the classes.
        """
        return {
            "network": context.network.build(context.pool.num_classes + outputs, cosine=cosine),
            "num_classes": context.pool.num_classes,
            "steps": self.steps,
            "recipe": self.recipe(),
        }

    def module(self, context: RoundContext) -> "L.LightningModule":
        """What is trained in a round."""
        from alseg.active.module import CrossEntropyModule

        return CrossEntropyModule(**self.training(context))

    def first(self, context: RoundContext) -> Query:
        """Random units."""
        check_budget(context, self.asked(context))
        return random_query(context, self.asked(context))


@dataclass(frozen=True, kw_only=True)
class Train(Stage):
    """The fit of a `OneFit`."""

    method: OneFit

    def module(self) -> "L.LightningModule":
        """A fresh network."""
        return self.method.module(self.context)

    def supervision(self) -> Supervision:
        """Everything answered so far."""
        return LabelMaps(self.context.pool)


@dataclass(frozen=True)
class Scored(OneFit):
    """The units of highest score. Not a method by itself: `score` says what is measured.

    Attributes:
        reduce: ``mean``, ``sum`` or ``max`` of the pixel scores over a unit.
        power: Exponent of power-law noise on the scores (Kirsch et al., arXiv 2106.12059): 1 is
            their default, larger is closer to the plain ranking; null = no noise.
        pool_fraction: Score this share of the images only, drawn anew in every round: saves time
            and keeps near duplicates apart (Xie et al., DEAL, ACCV 2020, take 0.4 or 0.5).
    """

    #: A name known to `alseg.active.scoring`, or a function from logits (B, C, H, W) to scores
    #: (B, H, W), higher = asked first, as a staticmethod.
    score: ClassVar[Any]

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

    def check(self, images: ImageSet, budget: Budget) -> None:
        """Find out early whether a score of somebody's own is one.

        Raises:
            UserError: If there is none, or it does not give one number per pixel.
        """
        name, score = type(self).__name__, getattr(self, "score", None)
        how = "@staticmethod def score(logits), from (B, C, H, W) to (B, H, W)"
        if score is None:
            raise UserError(f"{name} has no score; give it a {how}.")
        if callable(score):
            import torch

            found = score(torch.linspace(-1, 1, 2 * 3 * 4 * 5).reshape(2, 3, 4, 5))
            shape = getattr(found, "shape", None)
            if shape != (2, 4, 5):
                raise UserError(
                    f"the score of {name} is {type(found).__name__} of shape "
                    f"{None if shape is None else tuple(shape)} for logits (2, 3, 4, 5); give it a "
                    f"{how}."
                )

    def module(self, context: RoundContext) -> "L.LightningModule":
        """A fresh network that also scores."""
        from alseg.active.scoring import ScoringModule

        return ScoringModule(**self.scoring(context))

    def scoring(self, context: RoundContext, outputs: int = 0) -> dict[str, Any]:
        """Keyword arguments of `alseg.active.scoring.ScoringModule`; see `training`."""
        from alseg.active.scoring import UnitScorer

        options = {
            "reduce": self.reduce,
            "power": self.power,
            "seed": derive(context.seed, context.round, "score"),
        }
        scorer = UnitScorer.of(context, self.asked(context), **{**options, **self.drawing(context)})
        return {
            "score": self.score,
            "scorer": scorer,
            "passes": self.committee(),
            "scale": self.scoring_scale(),
            **self.training(context, outputs=outputs),
        }

    def drawing(self, context: RoundContext) -> dict[str, Any]:
        """Options of `alseg.active.scoring.UnitScorer` besides the usual ones."""
        return {}

    def committee(self) -> int:
        """Stochastic passes over each image; 1 = one pass without dropout."""
        return 1

    def scoring_scale(self) -> float:
        """Factor on the size of images for the pass over the pool."""
        return 1.0

    def scored_images(self, context: RoundContext) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """The images to score, ascending; None = all with open units. ``context`` asks."""
        if self.pool_fraction == 1:
            return None
        left = context.pool.open_images(context.regions)
        count = max(1, round(self.pool_fraction * len(left)))
        return np.sort(context.before.rng("pool").choice(left, count, replace=False))

    def ask(self, context: RoundContext) -> Query | Scoring:
        """Random units first, then those of highest score."""
        if context.round == 0:
            return self.first(context)
        return Scoring(
            "train",
            pick=lambda tables: self.pick(context, tables["units"]),
            images=self.scored_images(context),
        )

    def pick(self, context: RoundContext, units: Table) -> Query:
        """The open units of highest score."""
        return query_from_scores(
            context,
            self.asked(context),
            units["image"],
            units["unit"],
            units["score"],
            units["pixels"],
        )
