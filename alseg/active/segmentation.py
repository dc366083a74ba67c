"""A segmentation network as a LightningModule that trains on a pool and scores it."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from alseg.acquisition.committee import COMMITTEE_SCORES
from alseg.active.context import Asking
from alseg.active.module import LoopDataModule
from alseg.active.scoring import SCORES, ScoringModule, UnitScorer
from alseg.core.errors import UserError, unknown_name
from alseg.nn.network import Network
from alseg.nn.recipe import Recipe


class Segmentation(ScoringModule):
    """A segmentation network by name, for notebooks and programs.

    It learns label maps by cross-entropy; in a predict run it scores the units of the data
    module's pool, and an `ActiveLoop` callback chooses among them.

    Args:
        architecture: Of segmentation-models-pytorch, e.g. ``FPN``, see `Network`.
        encoder: E.g. ``resnet18``, or a timm model with the prefix ``tu-``.
        num_classes: C.
        weights: ``imagenet``, a path to a state dict, or None for random weights.
        score: What makes a pixel doubtful: a name of `alseg.active.scoring.SCORES` or
            `alseg.acquisition.committee.COMMITTEE_SCORES`, or a function from logits
            (B, C, H, W) to scores (B, H, W).
        passes: Passes with dropout, for scores of a committee; 1 = one pass without.
        lr: Learning rate.
        recipe: Optimiser and schedule in full; None = AdamW that falls polynomially from `lr`.
        options: More keyword arguments for the architecture.
        in_channels: Channels of the images.

    Raises:
        UserError: For an unknown name, or a committee without dropout.
    """

    def __init__(
        self,
        architecture: str = "DeepLabV3Plus",
        encoder: str = "resnet50",
        num_classes: int = 2,
        weights: str | None = None,
        score: str | Callable[[Tensor], Tensor] = "entropy",
        passes: int = 1,
        lr: float = 1e-3,
        recipe: Recipe | None = None,
        options: Mapping[str, Any] | None = None,
        in_channels: int = 3,
    ) -> None:
        known = COMMITTEE_SCORES if passes > 1 else SCORES
        if passes == 1 and isinstance(score, str) and score in COMMITTEE_SCORES.keys() - SCORES:
            raise UserError(f"score={score!r} compares passes with dropout; give passes=2 or more.")
        if passes > 1 and not isinstance(score, str):
            raise UserError(
                f"a score of your own is a function of the logits of one pass; leave out passes, "
                f"or choose what compares passes: {', '.join(COMMITTEE_SCORES)}."
            )
        if isinstance(score, str) and score not in known:
            raise unknown_name("score", score, known)
        network = Network(architecture, encoder, weights, dict(options or {}))
        super().__init__(
            score=score,
            scorer=UnitScorer(most=1),  # until a predict run says which pool it is
            passes=passes,
            network=network.reading(in_channels).build(num_classes),
            num_classes=num_classes,
            steps=1,  # until a fit says how long it is
            recipe=recipe or Recipe(lr, head_factor=1.0, weight_decay=1e-4),
        )
        self.named = f"{architecture} on {encoder}"

    def __repr__(self) -> str:
        score = self.score if isinstance(self.score, str) else self.score.__name__
        return f"Segmentation({self.named}, {self.num_classes} classes, score={score})"

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (B, C, H, W), of normalised images (B, 3, H, W)."""
        logits: Tensor = self.network(images)
        return logits

    def setup(self, stage: str) -> None:
        """Compare the classes with those of the pool.

        Raises:
            UserError: If their numbers differ.
        """
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, LoopDataModule) and data.pool.num_classes != self.num_classes:
            raise UserError(
                f"the model has {self.num_classes} classes and the data {data.pool.num_classes}; "
                f"give num_classes={data.pool.num_classes}."
            )

    def configure_optimizers(self) -> Any:
        """The recipe's; its schedule is as long as the fit."""
        trainer = self.trainer
        self.steps = trainer.max_steps
        if self.steps < 1:
            # not estimated_stepping_batches, which would build the loader before a resumed fit
            # knows its epoch
            data = getattr(trainer, "datamodule", None)
            batches = data.next_fit()[0].epoch_batches if isinstance(data, LoopDataModule) else 1
            self.steps = max(1, int(trainer.max_epochs or 1)) * batches
        return super().configure_optimizers()

    def on_predict_start(self) -> None:
        """Find out which pool is scored.

        Raises:
            UserError: If the predict run has no ActiveDataModule.
        """
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, LoopDataModule):
            raise UserError(
                "Segmentation scores the pool of an ActiveDataModule; call "
                "trainer.predict(model, datamodule=ActiveDataModule(data, pool))."
            )
        self.scorer = UnitScorer.of(Asking.of(data.pool))
