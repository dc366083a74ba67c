"""One fit of a round: how long it is, what it trains on what, and where its weights come from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from alseg.active.context import RoundContext
from alseg.core.errors import UserError, unknown_name
from alseg.labels.supervision import Supervision

if TYPE_CHECKING:  # torch takes seconds to import, and this module names the options of methods
    import lightning as L

KEEPS = ("last", "best")


@dataclass(frozen=True)
class Fit:
    """How long a fit is, and which of its weights stay.

    Attributes:
        steps: Training batches, a multiple of `epoch_steps` (or fewer than that).
        batch_size: Images per batch, over all devices.
        epoch_steps: Batches between two checkpoints, validations and reseedings.
        whole_passes: Every epoch is one pass over the images, whose last batch may be smaller:
            `epoch_steps` is then the number of batches of a pass, see `Fit.passes`. Else batches
            are cut from an endless stream of passes, all of one size.
        keep: ``last`` keeps the last weights; ``best`` those of the epoch with the best mIoU on
            the validation images, which are then no longer untouched by training.
        validate_every: Epochs between two validations, where ``best`` has any.
        augment: What of the training transform is otherwise in this fit, by the names of its
            fields, e.g. ``{"blur": 0.0}``.
    """

    steps: int
    batch_size: int
    epoch_steps: int = 500
    whole_passes: bool = False
    keep: str = "last"
    validate_every: int = 1
    augment: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def passes(cls, passes: int, images: int, batch_size: int, keep: str = "last") -> Self:
        """A fit of whole passes over the images it trains on.

        Args:
            passes: Number of passes.
            images: Images a pass goes over.
            batch_size: Images per batch, over all devices.
            keep: See `Fit`.

        >>> Fit.passes(3, images=5, batch_size=2).steps
        9
        """
        batches = max(1, -(-images // batch_size))
        return cls(passes * batches, batch_size, batches, whole_passes=True, keep=keep)

    @property
    def epochs(self) -> int:
        """Number of epochs. A fit is as long as its batches, however many optimisers step."""
        return max(1, self.steps // self.epoch_steps)

    @property
    def epoch_batches(self) -> int:
        """Batches per epoch."""
        return min(self.steps, self.epoch_steps)

    def check(self, stage: str) -> None:
        """Refuse numbers that make no fit.

        Args:
            stage: Name of the stage, for the sentence.

        Raises:
            UserError: For a number below 1, steps that epochs do not make up, or an unknown `keep`.
        """
        for name in ("steps", "batch_size", "epoch_steps"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"stage {stage} has {name} {getattr(self, name)}; it must be at least 1."
                )
        if self.keep not in KEEPS:
            raise unknown_name(f"keep of stage {stage}", self.keep, KEEPS)
        if self.keep == "best" and not 1 <= self.validate_every <= self.epochs:
            raise UserError(
                f"stage {stage} has {self.epochs} epochs and is validated after every "
                f"{self.validate_every}; give 1 to {self.epochs}, so that one of them is the best."
            )
        if self.steps > self.epoch_steps and self.steps % self.epoch_steps:
            fitting = max(e for e in range(1, self.epoch_steps + 1) if self.steps % e == 0)
            raise UserError(
                f"{stage} has {self.steps} steps, which epochs of {self.epoch_steps} do not "
                f"make up; give a multiple of {self.epoch_steps}, or epochs of e.g. {fitting}."
            )


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


class Preparation(NamedTuple):
    """A predict pass before a stage, e.g. to write pseudo labels.

    Attributes:
        module: Its ``predict_step`` writes one whole file per image.
        images: Images whose files are still missing.
    """

    module: "L.LightningModule"
    images: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """One fit of a round. Subclasses own its work: what is trained, and what it learns from.

    Attributes:
        takes_single: Whether its module trains on a batch of one image with networks that need two
            for their batch norms.
        name: Names the folder of the stage and its metrics.
        fit: How long it is, and which weights stay.
        context: The round it belongs to.
        start: Where the weights come from; None = from scratch.
        evaluate: Evaluate this stage on the validation images. The last stage so evaluated gives
            the round's mIoU.
        trainer: Trainer settings the stage needs, e.g. a strategy (for several devices); the user's
            own win.
    """

    takes_single: ClassVar[bool] = False

    name: str
    fit: Fit
    context: RoundContext
    start: Start | None = None
    evaluate: bool = True
    trainer: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fit.check(self.name)

    @abstractmethod
    def module(self) -> "L.LightningModule":
        """A freshly initialised module; the loop has set the seed."""

    @abstractmethod
    def supervision(self) -> Supervision:
        """What the stage learns from."""

    def prepare(self) -> Preparation | None:
        """A predict pass the stage needs before it starts, or None when nothing is missing."""
        return None

    @property
    def folder(self) -> Path:
        """Folder of the stage in the run folder."""
        return self.context.stage_folder(self.name)

    @property
    def checkpoint(self) -> Path:
        """The weights the finished stage keeps."""
        return self.folder / f"{self.fit.keep}.ckpt"

    @property
    def key(self) -> tuple[int | str, ...]:
        """What seeds of this stage are derived from: run seed, round, name."""
        return self.context.seed, self.context.round, self.name

    def trained(self) -> Any:
        """The module of the finished stage, with the weights it keeps, on the CPU."""
        from alseg.active.checkpoints import load_weights

        module = self.module()
        load_weights(module, self.checkpoint)
        return module
