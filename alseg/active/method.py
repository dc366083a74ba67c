"""What a method is to the loop: stages that train, and a rule that asks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.acquisition.diversity import DIVERSITIES
from alseg.active.context import RoundContext
from alseg.active.stage import Stage
from alseg.core.errors import UserError, unknown_name
from alseg.core.images import ImageSet
from alseg.labels.budget import Budget
from alseg.labels.tables import AnswerKind, Answers, Query, Table, UnitKind, plural
from alseg.regions.base import Maps


@dataclass(frozen=True)
class Scoring:
    """A predict pass over the pool that ends in a query.

    Attributes:
        stage: The stage whose trained module scores; before round 0 nothing is trained, and it is
            the module as it was made.
        pick: The query, from the tables that the module's ``predict_step`` returned: arrays,
            joined over all processes, their rows sorted by image. Must be a pure function: a
            resumed run may call it again.
        images: Images to score, ascending; None = all that have something left to ask.
        keep: Names of the tables that stay in the run folder, see `Ledger.scores`.
        last: Score with the last weights of the stage, where it keeps others.
    """

    stage: str
    pick: Callable[[Mapping[str, Table]], Query]
    images: NDArray[np.int64] | None = None
    keep: tuple[str, ...] = ()
    last: bool = False


@dataclass(frozen=True)
class Method(ABC):
    """One active-learning method. Subclasses are frozen dataclasses of hyper-parameters.

    Attributes:
        diversity: How like units are kept apart when the most doubtful are chosen: ``kmeans``
            (FAISS clusters of the networks' features, one unit of each), ``k_center``, ``power``
            (noise), ``spread`` (distance in the image) or ``stratified`` (predicted classes in
            turn); null = the highest scores. For methods that score regions.
    """

    #: What it can ask about which units, the usual question first.
    asks: ClassVar[Mapping[UnitKind, tuple[AnswerKind, ...]]]
    #: Options outside the method that it sets unless the user does, such as the regions.
    defaults: ClassVar[Mapping[str, str]] = {}
    #: Options it sets, unless the user does, where the data set says that it is small: the papers'
    #: schedules would train for days on a few hundred thumbnails.
    small: ClassVar[Mapping[str, str]] = {}
    #: What it does in a round depends on the number of rounds, which then cannot be changed once a
    #: run is begun.
    plans_rounds: ClassVar[bool] = False
    #: What it keeps in the run folder besides the rounds, by the round whose training makes it.
    kept: ClassVar[Mapping[str, int]] = {}
    #: Whether its choice is a ranking, which `diversity` can spread out.
    ranks: ClassVar[bool] = True

    diversity: str | None = None

    def rounds_of(self, images: ImageSet) -> int | None:
        """Rounds the method prescribes; None = as many as the user says."""
        return None

    @property
    def reads_truth(self) -> bool:
        """Whether choosing reads the ground truth of what nobody was asked about.

        Such a choice is not to be had in the world; it serves as a bound, or for parity with a
        paper. The pool's images then have their truth, and scoring batches have ``target``.
        """
        return False

    def check(self, images: ImageSet, budget: Budget) -> None:  # noqa: B027 - most have nothing
        """Raise `UserError` for settings that cannot work with these images or this budget."""

    def learns(self, answers: Answers, own: bool) -> bool:
        """Whether its stages learn from answers that were given before the run.

        Args:
            answers: The answers.
            own: Whether they are about pixels or regions that this run asks about itself, and not
                about maps of another one, which the pool then has under another version.
        """
        return own and answers.answer in self.asks.get(answers.kind, ())

    @abstractmethod
    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """The fits of a round, in order; a function of the context alone."""

    def regions(self, context: RoundContext) -> Maps | None:
        """Region maps of its own that the query of this round asks about, made from kept scores.

        None: the maps of the run. Must be the same whenever it is called again.
        """
        return None

    @abstractmethod
    def ask(self, context: RoundContext) -> Query | Scoring:
        """What to ask in a round: the query, or the pass over the pool that ends in it.

        Args:
            context: Of the round that asks. In round 0 nothing is trained; later
                ``context.before`` is the round whose stages are.
        """

    def measures(self, context: RoundContext, truth: ImageSet | None) -> Mapping[str, float]:
        """Numbers worth a column of ``rounds.csv``, such as the noise of what was learnt.

        Args:
            context: Of a round that is trained.
            truth: The pool's images with their ground truth, where there is one.

        Returns:
            Numbers by name. Those named ``<whole>/<part>`` add up to a whole, and the report draws
            how it is divided, round by round.
        """
        return {}

    def show(self, context: RoundContext, image: int) -> Mapping[str, NDArray[Any]]:
        """Maps worth a picture in the report, by what they show.

        Args:
            context: Of a round that is trained.
            image: A pool image.

        Returns:
            Maps (H, W): signed integers are regions, drawn as outlines; uint8 are labels; uint16
            are groups, each in a colour of its own, the largest number for none; floating point
            numbers in 0..1 are drawn as heat, NaN for nothing.
        """
        return {}


def check_question(method: Method, unit: UnitKind) -> None:
    """Refuse units a method does not ask about, and questions it does not ask about them.

    Args:
        method: The method.
        unit: What one region is.

    Raises:
        UserError: Naming what the method can ask.
    """
    if unit not in method.asks:
        able = " or ".join(plural(kind) for kind in method.asks)
        raise UserError(
            f"{type(method).__name__} asks about {able}, and these regions are {plural(unit)}; "
            f"leave out regions=..., or choose others."
        )
    answer = getattr(method, "answer", None)
    if answer is not None and answer not in method.asks[unit]:
        able = ", ".join(method.asks[unit])
        raise UserError(
            f"method.answer={answer} is no question about {plural(unit)}; give one of {able}, or "
            f"other regions."
        )
    if method.diversity is None:
        return
    if method.diversity not in DIVERSITIES:
        raise unknown_name("method.diversity", method.diversity, DIVERSITIES)
    if not method.ranks:
        raise UserError(
            f"method.diversity={method.diversity} spreads out a ranking, and "
            f"{type(method).__name__} chooses in another way; leave it out."
        )
    if unit == "pixel" and DIVERSITIES[method.diversity].needs & {"features", "label"}:
        raise UserError(
            f"method.diversity={method.diversity} compares regions, and regions=pixels has none; "
            f"take superpixels, patches or images, or method.diversity=power or spread."
        )
