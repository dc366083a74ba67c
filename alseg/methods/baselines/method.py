"""Random, uncertainty, committee, core-set, BADGE and PixelPick on the shared loop.

All train one network per round from scratch by cross-entropy on what was answered; they differ in
what they ask next. The unit is that of the regions in use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast, get_args

import numpy as np

from alseg.acquisition.selection import top
from alseg.active.budget import Budget
from alseg.active.choose import check_budget, most_units, query_from_scores, random_query
from alseg.active.method import Method, RoundContext, Stage, Supervision, Table
from alseg.active.seeds import derive
from alseg.active.supervision import LabelMaps
from alseg.active.tables import PIXELS, AnswerKind, Query
from alseg.errors import UserError, unknown_name
from alseg.images import ImageSet

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
        weight_decay: Of AdamW.
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
    weight_decay: float = 2e-4
    keep: str = "last"
    epoch_steps: int = 500

    def __post_init__(self) -> None:
        if self.answer is not None and self.answer not in get_args(AnswerKind):
            raise unknown_name("method.answer", self.answer, get_args(AnswerKind))
        if self.keep not in ("last", "best"):
            raise unknown_name("method.keep", self.keep, ("last", "best"))
        for option in ("steps", "batch_size", "lr", "epoch_steps"):
            if not getattr(self, option) > 0:
                raise UserError(f"method.{option} is {getattr(self, option)}; it must be > 0.")

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

    def training(self, stage: Stage, context: RoundContext) -> dict[str, Any]:
        """Keyword arguments of `alseg.active.module.SegmentationModule`."""
        return {
            "network": context.network.build(context.pool.num_classes),
            "num_classes": context.pool.num_classes,
            "steps": stage.steps,
            "lr": self.lr,
            "head_factor": self.head_factor,
            "weight_decay": self.weight_decay,
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

    def scorer(self, context: RoundContext) -> str | None:
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
    """

    score: ClassVar[str]

    reduce: str = "mean"
    power: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduce not in REDUCTIONS:
            raise unknown_name("method.reduce", self.reduce, REDUCTIONS)
        if self.power is not None and self.power < 0:
            raise UserError(f"method.power is {self.power}; it must be >= 0, or null for no noise.")

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

    def scorer(self, context: RoundContext) -> str | None:
        """The network of the round."""
        return "train"

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


@dataclass(frozen=True)
class Entropy(Scored):
    """Highest entropy of the predicted probabilities (Wang & Shang, IJCNN 2014)."""

    score: ClassVar[str] = "entropy"


@dataclass(frozen=True)
class LeastConfidence(Scored):
    """Lowest probability of the best class (Lewis & Gale, SIGIR 1994)."""

    score: ClassVar[str] = "least_confidence"


@dataclass(frozen=True)
class Margin(Scored):
    """Smallest gap between the two best classes (Scheffer et al., IDA 2001)."""

    score: ClassVar[str] = "margin"


@dataclass(frozen=True)
class BvSB(Scored):
    """Largest ratio of second best to best class (Joshi et al., CVPR 2009)."""

    score: ClassVar[str] = "bvsb"


@dataclass(frozen=True)
class Bald(Scored):
    """Mutual information of class and weights, by Monte Carlo dropout (Gal et al., ICML 2017).

    Attributes:
        passes: Stochastic passes over each image, 2..255.
    """

    score: ClassVar[str] = "bald"

    passes: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.passes <= 255:
            raise UserError(f"method.passes is {self.passes}; give 2..255.")

    def scoring(self, context: RoundContext) -> dict[str, Any]:
        """With the number of passes."""
        return {**super().scoring(context), "passes": self.passes}


@dataclass(frozen=True)
class VoteEntropy(Bald):
    """Entropy of the votes of a committee of dropout masks (Dagan & Engelson, ICML 1995)."""

    score: ClassVar[str] = "vote_entropy"


@dataclass(frozen=True)
class PixelPick(Scored):
    """A few uncertain pixels of every image (Shin et al., ICCVW 2021, arXiv 2104.06394).

    The budget of a round is dealt out evenly: budget / images pixels in each image, drawn at
    random from the most uncertain ones, which keeps near duplicates apart. Void pixels cost their
    click: the choice does not see the ground truth, as the reference's does.

    Attributes:
        top_share: Share of an image's pixels that are drawn from, the most uncertain ones; 0 takes
            the most uncertain pixels themselves.
    """

    defaults: ClassVar[Mapping[str, str]] = {"regions": "pixels", "budget.rule": "within"}
    score: ClassVar[str] = "margin"

    top_share: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.top_share <= 1:
            raise UserError(f"method.top_share is {self.top_share}; it is a share, 0..1.")

    def each(self, context: RoundContext) -> int:
        """Pixels asked in every image.

        Raises:
            UserError: If the units are not pixels, or the budget does not reach one per image.
        """
        if context.kind != "pixel":
            raise UserError("method=pixelpick asks about pixels; leave out regions=...")
        price = float(context.budget.least_cost("class", np.ones(1, np.int64))[0])
        each = int(context.budget.amount / price / len(context.pool)) if price else 0
        if each < 1:
            raise UserError(
                f"budget.amount is {context.budget.amount:g} {context.budget.axis} for "
                f"{len(context.pool)} images; method=pixelpick needs at least one pixel in each."
            )
        return each

    def scoring(self, context: RoundContext) -> dict[str, Any]:
        """With the number of pixels per image."""
        each = self.each(context)
        return {**super().scoring(context), "most": each, "top_share": self.top_share}

    def first_query(self, context: RoundContext) -> Query:
        """The same number of random pixels in every image."""
        check_budget(context, self.asked(context))
        each, units = self.each(context), []
        for image, (height, width) in enumerate(context.pool.sizes):
            rng = np.random.default_rng(derive(context.seed, "first", image))
            units.append(rng.choice(height * width, each, replace=False))
        return Query(
            round=context.round,
            kind="pixel",
            answer="class",
            regions=PIXELS,
            image=np.repeat(np.arange(len(units)), each),
            unit=np.concatenate(units).astype(np.int64),
            score=np.zeros(each * len(units), dtype=np.float32),
        )

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """What was drawn in every image."""
        units = tables["units"]
        rows = np.lexsort([units["unit"], units["image"]])
        return Query(
            round=context.round,
            kind="pixel",
            answer="class",
            regions=PIXELS,
            image=np.asarray(units["image"])[rows].astype(np.int64),
            unit=np.asarray(units["unit"])[rows].astype(np.int64),
            score=np.asarray(units["score"])[rows].astype(np.float32),
        )


@dataclass(frozen=True)
class Stratified(Scored):
    """Random units, as many predicted as each class."""

    score: ClassVar[str] = "class"

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """Turn by turn one unit of each predicted class."""
        from alseg.acquisition.randomized import stratified_by_class

        units = tables["units"]
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

    score: ClassVar[str] = "features"

    metric: str = "euclidean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metric not in ("euclidean", "cosine"):
            raise unknown_name("method.metric", self.metric, ("euclidean", "cosine"))

    def asked(self, context: RoundContext) -> AnswerKind:
        """Pixels have no features of their own."""
        if context.kind == "pixel":
            raise UserError(
                "regions=pixels would need the features of every pixel of the pool; this method "
                "takes superpixels, patches or images."
            )
        return super().asked(context)

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """Unit after unit the one farthest from everything asked or picked."""
        from alseg.acquisition.clustering import k_center

        units = tables["units"]
        unasked = context.pool.is_open(
            context.regions, units["image"].astype(np.int64), units["unit"].astype(np.int64)
        )
        rows = np.flatnonzero(unasked)
        features = np.asarray(units["features"], dtype=np.float32)
        picked = k_center(
            features[rows],
            min(most_units(context, self.asked(context)), len(rows)),
            rows,
            labelled=features[~unasked],
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

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """Draw units with a probability that grows with their distance from those drawn."""
        from alseg.acquisition.badge import Gradients, badge

        units = tables["units"]
        rows = np.flatnonzero(
            context.pool.is_open(
                context.regions, units["image"].astype(np.int64), units["unit"].astype(np.int64)
            )
        )
        gradients = Gradients(
            np.asarray(units["error"], np.float64)[rows],
            np.asarray(units["features"], np.float64)[rows],
        )
        n = min(most_units(context, self.asked(context)), len(rows))
        picked = badge(gradients, rows, context.rng("badge").random(n), share=self.share)
        return _in_order(context, self.asked(context), units, picked)


@dataclass(frozen=True)
class Spread(Random):
    """Random units that keep their distance from each other: a strong random baseline."""

    def asked(self, context: RoundContext) -> AnswerKind:
        """Single pixels of a whole pool are too many to measure distances between."""
        if context.kind == "pixel":
            raise UserError("regions=pixels is not for method=spread; take superpixels or patches.")
        return super().asked(context)

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """Best of a few random candidates, by distance to everything asked or picked."""
        from alseg.acquisition.randomized import spatially_spread
        from alseg.active.choose import unit_centers

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

    def first_query(self, context: RoundContext) -> Query:
        """Spread out from the start."""
        check_budget(context, self.asked(context))
        return self.pick(context, {})


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
