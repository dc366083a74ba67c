"""Full supervision as a method of the loop: round 0 asks for everything."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from alseg.active.context import RoundContext
from alseg.active.one_fit import OneFit
from alseg.core.errors import UserError
from alseg.labels.tables import AnswerKind, Query, UnitKind

if TYPE_CHECKING:  # torch takes seconds to import
    import lightning as L


@dataclass(frozen=True)
class Supervised(OneFit):
    """Train on the mask of every pool image. The budget is not asked.

    Attributes:
        temperature: Divides the scores; with `cosine`.
        cosine: Classify by cosine similarity.
    """

    asks: ClassVar[Mapping[UnitKind, tuple[AnswerKind, ...]]] = {
        "image": ("mask",),
        "region": ("mask",),
        "patch": ("mask",),
    }
    defaults: ClassVar[Mapping[str, str]] = {"regions": "image", "rounds": "1"}
    ranks: ClassVar[bool] = False
    stage_name: ClassVar[str] = "full"

    steps: int = 80_000
    lr: float = 4e-5
    weight_decay: float = 1e-5
    temperature: float = 1.0
    cosine: bool = False

    def module(self, context: RoundContext) -> "L.LightningModule":
        """A fresh network with plain cross-entropy."""
        from alseg.active.module import CrossEntropyModule

        training = self.training(context, cosine=self.cosine)
        return CrossEntropyModule(temperature=self.temperature, **training)

    def ask(self, context: RoundContext) -> Query:
        """The mask of every region of every image."""
        if context.rounds != 1:
            raise UserError(
                f"method=supervised labels everything in round 0 and has nothing to ask later; "
                f"give rounds=1 instead of {context.rounds}."
            )
        image, unit, _ = context.pool.units(context.regions)
        return Query(
            round=0,
            kind=context.kind,
            answer="mask",
            regions=context.regions,
            image=image.astype(np.int64),
            unit=unit.astype(np.int64),
            score=np.zeros(len(image), dtype=np.float32),
        )
