"""Full supervision as a method of the loop: round 0 asks for everything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from alseg.active.method import Method, RoundContext, Stage, Table
from alseg.core.errors import UserError
from alseg.core.images import ImageSet
from alseg.labels.budget import Budget
from alseg.labels.supervision import LabelMaps, Supervision
from alseg.labels.tables import Query
from alseg.nn.recipe import Recipe

if TYPE_CHECKING:  # torch takes seconds to import
    import lightning as L


@dataclass(frozen=True)
class Supervised(Method):
    """Train on the mask of every pool image. The budget is not asked.

    Attributes:
        steps: Training batches.
        batch_size: Images per batch.
        lr: Encoder's learning rate.
        head_factor: Learning rate of decoder and classifier, as a multiple of the encoder's.
        weight_decay: Of AdamW.
        temperature: Divides the scores; with `cosine`.
        cosine: Classify by cosine similarity.
        keep: ``last`` or ``best`` checkpoint on the validation images.
        epoch_steps: Batches between two checkpoints.
    """

    defaults: ClassVar[Mapping[str, str]] = {"regions": "image", "rounds": "1"}
    small: ClassVar[Mapping[str, str]] = {
        "method.steps": "120",
        "method.batch_size": "4",
        "method.lr": "2e-3",
        "method.head_factor": "1",
        "method.epoch_steps": "40",
    }

    steps: int = 80_000
    batch_size: int = 4
    lr: float = 4e-5
    head_factor: float = 10.0
    weight_decay: float = 1e-5
    temperature: float = 1.0
    cosine: bool = False
    keep: str = "last"
    epoch_steps: int = 500

    def check(self, images: ImageSet, budget: Budget) -> None:
        """Nothing depends on the images or the budget."""

    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """One fit."""
        return [
            Stage(
                "full",
                steps=self.steps,
                batch_size=self.batch_size,
                epoch_steps=self.epoch_steps,
                keep=self.keep,
            )
        ]

    def module(self, stage: Stage, context: RoundContext) -> "L.LightningModule":
        """A fresh network with plain cross-entropy."""
        from alseg.active.module import CrossEntropyModule

        num_classes = context.pool.num_classes
        return CrossEntropyModule(
            temperature=self.temperature,
            network=context.network.build(num_classes, cosine=self.cosine),
            num_classes=num_classes,
            steps=stage.steps,
            recipe=Recipe(self.lr, self.head_factor, weight_decay=self.weight_decay),
        )

    def supervision(self, stage: Stage, context: RoundContext) -> Supervision:
        """All masks."""
        return LabelMaps(context.pool)

    def first_query(self, context: RoundContext) -> Query:
        """The mask of every region of every image."""
        if context.rounds != 1:
            raise UserError(
                f"method=supervised labels everything in round 0 and has nothing to ask later; "
                f"give rounds=1 instead of {context.rounds}."
            )
        regions = [context.pool.region_sizes(context.regions, i) for i in range(len(context.pool))]
        units = [np.flatnonzero(sizes) for sizes in regions]
        image = np.repeat(np.arange(len(units)), [len(unit) for unit in units])
        return Query(
            round=0,
            kind=context.kind,
            answer="mask",
            regions=context.regions,
            image=image,
            unit=np.concatenate(units),
            score=np.zeros(len(image), dtype=np.float32),
        )

    def scorer(self, context: RoundContext) -> None:
        """Nothing is scored."""

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """Never called: there is one round."""
        raise NotImplementedError("full supervision has one round")
