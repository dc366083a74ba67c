"""A few uncertain pixels of every image."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.active.choose import check_budget
from alseg.active.context import RoundContext
from alseg.active.method import Scoring
from alseg.active.one_fit import Scored, Train
from alseg.active.stage import Stage
from alseg.core.errors import UserError, unknown_name
from alseg.core.images import VOID, ImageSet
from alseg.core.seeds import derive
from alseg.labels.pool import LabelPool
from alseg.labels.supervision import LabelsAndVoid
from alseg.labels.tables import PIXELS, AnswerKind, Query, Table, UnitKind

if TYPE_CHECKING:  # torch takes seconds to import
    import lightning as L

STRATEGIES = ("margin", "entropy", "least_confidence")
SCORE_WITH = ("kept", "last")


@dataclass(frozen=True)
class AskedOrVoid(Mapping[int, NDArray[np.int64]]):
    """Pixels of each image that are not asked: those asked before, and those that are void.

    Attributes:
        pool: Knows what was asked.
        images: With their ground truth.
    """

    pool: LabelPool
    images: ImageSet

    def __getitem__(self, image: int) -> NDArray[np.int64]:
        """Pixel numbers, ascending, (n,), int64."""
        void = np.flatnonzero(self.images.truth(image) == VOID)
        return np.union1d(self.pool.asked(PIXELS, image), void).astype(np.int64)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.pool)))

    def __len__(self) -> int:
        return len(self.pool)


@dataclass(frozen=True, kw_only=True)
class TrainOnVoid(Train):
    """A fit that void answers teach, too."""

    def supervision(self) -> LabelsAndVoid:
        """Everything answered so far, void as a number of its own."""
        return LabelsAndVoid(self.context.pool)


@dataclass(frozen=True)
class PixelPick(Scored):
    """A few uncertain pixels of every image (Shin et al., ICCVW 2021, arXiv 2104.06394).

    The budget of a round is dealt out evenly: budget / images pixels in each image, drawn at
    random from the most uncertain ones, which keeps near duplicates apart. Void pixels cost their
    click: the choice does not see the ground truth, as the reference's does (see `skip_void`).

    Attributes:
        strategy: What makes a pixel uncertain: ``margin``, ``entropy`` or ``least_confidence``.
        top_share: Share of an image's pixels that are drawn from, the most uncertain ones; 0 takes
            the most uncertain pixels themselves.
        reverse_order: Draw that share of the image at random instead, and take the most uncertain
            pixels among those drawn.
        passes: Members of a committee of dropout masks whose mean probabilities are scored, 1..255
            (the paper: 20); 1 = no committee, dropout is off. How much is dropped is an option of
            the network.
        skip_void: Never ask for pixels that are truly void, in the first round neither, as the
            paper's code. Reads ground truth nobody was asked for.
        score_with: Weights that score the pool: those the fit ``kept``, see `keep`, or the
            ``last``, as in the paper, whose best ones are evaluated.
        max_void: Leave for last the pixels that are void with at least this probability, 0..1, by
            a further output of the network that learns it from the void answers paid so far;
            null = void answers teach nothing. Reads no truth.
    """

    asks: ClassVar[Mapping[UnitKind, tuple[AnswerKind, ...]]] = {"pixel": ("class",)}
    defaults: ClassVar[Mapping[str, str]] = {"regions": "pixels", "budget.rule": "within"}
    ranks: ClassVar[bool] = False

    strategy: str = "margin"
    top_share: float = 0.05
    reverse_order: bool = False
    passes: int = 1
    skip_void: bool = False
    score_with: str = "kept"
    max_void: float | None = None

    @property
    def reads_truth(self) -> bool:
        """With `skip_void`."""
        return self.skip_void

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy not in STRATEGIES:
            raise unknown_name("method.strategy", self.strategy, STRATEGIES)
        if self.score_with not in SCORE_WITH:
            raise unknown_name("method.score_with", self.score_with, SCORE_WITH)
        if not 0 <= self.top_share <= 1:
            raise UserError(f"method.top_share is {self.top_share}; it is a share, 0..1.")
        if self.reverse_order and not self.top_share:
            raise UserError(
                "method.reverse_order=true ranks the pixels of a random share of the image, and "
                "method.top_share is 0; give a share above 0."
            )
        if self.pool_fraction != 1:
            raise UserError("method=pixelpick asks in every image; leave out method.pool_fraction.")
        if not 1 <= self.passes <= 255:
            raise UserError(f"method.passes is {self.passes}; give 1..255, where 1 is one network.")
        if self.max_void is not None:
            if not 0 < self.max_void <= 1:
                raise UserError(
                    f"method.max_void is {self.max_void}; it is a probability, above 0 and up to 1."
                )
            if self.passes > 1:
                raise UserError(
                    "method.max_void goes by one pass without dropout, and method.passes="
                    f"{self.passes} asks a committee; leave one of them out."
                )

    def each(self, context: RoundContext) -> int:
        """Pixels asked in every image.

        Raises:
            UserError: If the budget does not reach one per image.
        """
        price = float(context.budget.least_cost("class", np.ones(1, np.int64))[0])
        each = int(context.budget.amount / price / len(context.pool)) if price else 0
        if each < 1:
            raise UserError(
                f"budget.amount is {context.budget.amount:g} {context.budget.axis} for "
                f"{len(context.pool)} images; method=pixelpick needs at least one pixel in each."
            )
        return each

    @property
    def score(self) -> str:
        """What makes a pixel uncertain."""
        return self.strategy

    def drawing(self, context: RoundContext) -> dict[str, Any]:
        """The number of pixels per image, and how they are drawn."""
        options: dict[str, Any] = {
            "most": self.each(context),
            "top_share": self.top_share,
            "reverse": self.reverse_order,
        }
        if self.skip_void:
            options["asked"] = AskedOrVoid(context.pool, context.images)
        return options

    def committee(self) -> int:
        """Members of the committee."""
        return self.passes

    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """One fit; void answers count where the network learns them."""
        if self.max_void is None:
            return super().stages(context)
        fit = self.fit()
        return [TrainOnVoid(name=self.stage_name, fit=fit, context=context, method=self)]

    def module(self, context: RoundContext) -> "L.LightningModule":
        """A fresh network that also scores."""
        if self.max_void is None:
            return super().module(context)
        from alseg.active.voids import VoidScoringModule

        return VoidScoringModule(max_void=self.max_void, **self.scoring(context, outputs=1))

    def ask(self, context: RoundContext) -> Query | Scoring:
        """Random pixels first, then uncertain ones, in every image."""
        asked = super().ask(context)
        if isinstance(asked, Scoring):
            return replace(asked, last=self.score_with == "last")
        return asked

    def first(self, context: RoundContext) -> Query:
        """The same number of random pixels in every image."""
        check_budget(context, self.asked(context))
        each, units = self.each(context), []
        for image, (height, width) in enumerate(context.pool.sizes):
            rng = np.random.default_rng(derive(context.seed, "first", image))
            if self.skip_void:
                open_pixels = np.flatnonzero(context.images.truth(image) != VOID)
                units.append(rng.choice(open_pixels, min(each, len(open_pixels)), replace=False))
            else:
                units.append(rng.choice(height * width, each, replace=False))
        count = [len(chosen) for chosen in units]
        return Query(
            round=context.round,
            kind="pixel",
            answer="class",
            regions=PIXELS,
            image=np.repeat(np.arange(len(units)), count),
            unit=np.concatenate(units).astype(np.int64),
            score=np.zeros(sum(count), dtype=np.float32),
        )

    def pick(self, context: RoundContext, units: Table) -> Query:
        """What was drawn in every image."""
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
