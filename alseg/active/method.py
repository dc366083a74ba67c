"""What a method is to the loop: stages that train, a module that scores, a rule that picks."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from alseg.active.ledger import Ledger
from alseg.core.errors import UserError, unknown_name
from alseg.core.images import ImageSet
from alseg.core.seeds import derive
from alseg.labels.budget import Budget
from alseg.labels.pool import LabelPool
from alseg.labels.supervision import Supervision
from alseg.labels.tables import Query, UnitKind
from alseg.nn.network import Network
from alseg.regions.base import Maps

if TYPE_CHECKING:  # torch takes seconds to import, and this module names the options of methods
    import lightning as L

#: Columns of equal length; every table has a column ``image``.
Table = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Start:
    """Where the weights of a stage come from, when not from scratch.

    Attributes:
        stage: The stage whose weights are loaded, all of which this stage's module must have; what
            it has besides them stays as it was made.
        previous_round: The last weights of the round before (round 0 then starts from scratch),
            else those this round's stage keeps.
        optimizer: Carry the optimiser's state as well, such as Adam's moments; the learning rates
            are those of the new stage.
    """

    stage: str
    previous_round: bool = False
    optimizer: bool = False


@dataclass(frozen=True)
class Stage:
    """One fit of a round.

    Attributes:
        name: Names the folder of the stage and its metrics.
        steps: Training batches, a multiple of `epoch_steps` (or fewer than that).
        batch_size: Images per batch, over all devices.
        epoch_steps: Batches between two checkpoints, validations and reseedings.
        whole_passes: Every epoch is one pass over the images, whose last batch may be smaller:
            `epoch_steps` is then the number of batches of a pass, see `Stage.passes`. Else batches
            are cut from an endless stream of passes, all of one size.
        keep: ``last`` keeps the last weights; ``best`` those of the epoch with the best mIoU on
            the validation images, which are then no longer untouched by training.
        start: Where the weights come from; None = from scratch.
        evaluate: Evaluate this stage on the validation images. The last stage so evaluated gives
            the round's mIoU.
        trainer: Trainer settings the stage needs, e.g. a strategy; the user's own win.
    """

    name: str
    steps: int
    batch_size: int
    epoch_steps: int = 500
    whole_passes: bool = False
    keep: str = "last"
    start: Start | None = None
    evaluate: bool = True
    trainer: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for field_name in ("steps", "batch_size", "epoch_steps"):
            if getattr(self, field_name) < 1:
                raise UserError(
                    f"stage {self.name} has {field_name} {getattr(self, field_name)}; it must be "
                    f"at least 1."
                )
        if self.keep not in ("last", "best"):
            raise unknown_name(f"keep of stage {self.name}", self.keep, ("last", "best"))
        if self.steps > self.epoch_steps and self.steps % self.epoch_steps:
            fitting = max(e for e in range(1, self.epoch_steps + 1) if self.steps % e == 0)
            raise UserError(
                f"{self.name} has {self.steps} steps, which epochs of {self.epoch_steps} do not "
                f"make up; give a multiple of {self.epoch_steps}, or epochs of e.g. {fitting}."
            )

    @classmethod
    def passes(cls, name: str, passes: int, images: int, batch_size: int, **options: Any) -> Self:
        """A stage of whole passes over the images it trains on.

        Args:
            name: See `Stage`.
            passes: Number of passes.
            images: Images a pass goes over.
            batch_size: See `Stage`.
            **options: See `Stage`.
        """
        batches = max(1, -(-images // batch_size))
        return cls(
            name,
            steps=passes * batches,
            batch_size=batch_size,
            epoch_steps=batches,
            whole_passes=True,
            **options,
        )

    @property
    def epochs(self) -> int:
        """Number of epochs. A stage is as long as its batches, however many optimisers step."""
        return max(1, self.steps // self.epoch_steps)

    @property
    def epoch_batches(self) -> int:
        """Batches per epoch."""
        return min(self.steps, self.epoch_steps)


class Preparation(NamedTuple):
    """A predict pass before a stage, e.g. to write pseudo labels.

    Attributes:
        module: Its ``predict_step`` writes one whole file per image.
        images: Images whose files are still missing.
    """

    module: "L.LightningModule"
    images: NDArray[np.int64]


class Scoring(NamedTuple):
    """A predict pass over the pool that ends in a query.

    Attributes:
        stage: The stage whose trained module scores.
        images: Images to score, ascending; None = all that have something left to ask.
    """

    stage: str
    images: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class RoundContext:
    """What a method may know when it is asked something.

    Its images have no ground truth, unless the method says that it reads it
    (`Method.reads_truth`).

    Attributes:
        round: This round, 0-based.
        rounds: Rounds of the run.
        seed: Seed of the run.
        pool: Labels bought so far.
        images: The pool's images.
        regions: Version of the region maps the run asks about.
        kind: What one region of these maps is.
        network: Builds the segmentation network.
        ledger: The run folder.
        cache: Where to keep what other runs on the same images can use.
    """

    round: int
    rounds: int
    seed: int
    pool: LabelPool
    images: ImageSet
    regions: str
    kind: UnitKind
    network: Network
    ledger: Ledger
    cache: Path

    @property
    def budget(self) -> Budget:
        """Budget of every round."""
        return self.pool.budget

    def stage_folder(self, stage: str) -> Path:
        """Folder of a stage of this round."""
        return self.ledger.stage(self.round, stage)

    def checkpoint(self, stage: Stage) -> Path:
        """The weights a finished stage of this round keeps."""
        return self.stage_folder(stage.name) / f"{stage.keep}.ckpt"

    def rng(self, *key: str) -> np.random.Generator:
        """Generator of its own for every round and purpose."""
        return np.random.default_rng(derive(self.seed, self.round, *key))


class Method(ABC):
    """One active-learning method. Subclasses are frozen dataclasses of hyper-parameters.

    Attributes:
        defaults: Options outside the method that it sets unless the user does, such as the kind
            of regions it asks about.
        small: Options it sets, unless the user does, where the data set says that it is small:
            the papers' schedules would train for days on a few hundred thumbnails.
        plans_rounds: What it does in a round depends on the number of rounds, which then cannot
            be changed once a run is begun.
        takes_list: Learns from masks of whole images, so that a list of images to be labelled may
            take the place of its choice (`alseg.active.run.Run.listed`).
    """

    defaults: ClassVar[Mapping[str, str]] = {}
    small: ClassVar[Mapping[str, str]] = {}
    plans_rounds: ClassVar[bool] = False
    takes_list: ClassVar[bool] = False

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

    @property
    def keeps_scores(self) -> Sequence[str]:
        """Names of the tables given to `pick` that stay in the run folder, see `Ledger.scores`."""
        return ()

    @abstractmethod
    def check(self, images: ImageSet, budget: Budget) -> None:
        """Raise `UserError` for settings that cannot work with these images or this budget."""

    @abstractmethod
    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """The fits of a round, in order; a function of the context alone."""

    @abstractmethod
    def module(self, stage: Stage, context: RoundContext) -> "L.LightningModule":
        """A freshly initialised module for a stage; the loop has set the seed."""

    @abstractmethod
    def supervision(self, stage: Stage, context: RoundContext) -> Supervision:
        """What the stage learns from."""

    def prepare(self, stage: Stage, context: RoundContext) -> Preparation | None:
        """A predict pass the stage needs before it starts, or None when nothing is missing."""
        return None

    def first_scorer(self, context: RoundContext) -> Stage | None:
        """A stage of round 0 whose untrained module scores the pool for the first query.

        None: `first_query` needs no scores.
        """
        return None

    def first_query(self, context: RoundContext) -> Query:
        """What to ask before anything is trained; not called if there is a `first_scorer`."""
        raise NotImplementedError(f"{type(self).__name__} has neither first_query nor first_scorer")

    def regions(self, context: RoundContext) -> Maps | None:
        """Region maps of its own that the query of this round asks about, made from kept scores.

        None: the maps of the run. Must be the same whenever it is called again.
        """
        return None

    @abstractmethod
    def scorer(self, context: RoundContext) -> Scoring | None:
        """The pass over the pool with what this round has trained; None to pick without scores."""

    @abstractmethod
    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """What to ask next, from the tables the scorer's ``predict_step`` returned.

        Args:
            context: Of the round that asks; ``context.round`` is the round the query is for.
            tables: Rows sorted by image. Must be a pure function of its arguments: rank 0 calls
                it once, a resumed run may call it again.
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
