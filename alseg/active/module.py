"""The Lightning objects of the loop: what it asks of data, and what all segmenters share."""

from abc import abstractmethod
from collections.abc import Mapping
from math import isfinite
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from alseg.acquisition.scores import most_probable
from alseg.active.finite import require_finite
from alseg.active.progress import Bar
from alseg.active.stage import Fit
from alseg.core.images import VOID
from alseg.labels.pool import LabelPool
from alseg.labels.supervision import Supervision
from alseg.nn.losses import labelled_cross_entropy
from alseg.nn.recipe import Recipe
from alseg.nn.segmenter import Segmenter

#: Steps after which losses on a GPU are looked at.
_READ_EVERY = 50

#: Key of a checkpoint under which its network and images are described.
DESCRIPTION = "alseg"


class LoopDataModule(L.LightningDataModule):
    """What the loop asks of the data, besides Lightning's own loaders.

    Attributes:
        pool: What is known about the images.
    """

    pool: LabelPool

    @abstractmethod
    def next_fit(self) -> tuple[Fit, Supervision, tuple[int | str, ...]]:
        """What the next fit trains on: how long it is, the targets, and its key."""

    @abstractmethod
    def begin_fit(self, fit: Fit, supervision: Supervision, key: tuple[int | str, ...]) -> None:
        """The next fit trains a stage; the key decides order and augmentation.

        Args:
            fit: How long it is.
            supervision: What it learns from.
            key: Names the stage: run seed, round, stage.
        """

    @abstractmethod
    def begin_pass(self, images: NDArray[np.int64], regions: str, truth: bool = False) -> None:
        """The next predict run goes over some pool images with a version of their regions.

        Args:
            images: Image indices.
            regions: Version of the region maps.
            truth: Serve the ground truth as well, as ``target``.
        """

    def description(self) -> dict[str, Any]:
        """What a checkpoint has to say of the images so that it can be used without its run.

        Returns:
            Plain values: ``classes`` (names) and ``colors`` (C x 3) in the order of the ids;
            ``mean`` and ``std`` of the normalisation; ``size`` (or None) and ``scale``, at which
            files are loaded; ``bands`` and ``range``, how image files are read
            (`alseg.data.reading.images.Reading`); ``masks``, how mask files are read
            (`alseg.core.masks.MaskTable.to_plain`; None if there are no files). By default nothing.
        """
        return {}


def normalisation(images: Tensor, datamodule: LoopDataModule) -> tuple[Tensor, Tensor]:
    """By what the channels of images were normalised, for which no device is waited for.

    Args:
        images: Of any shape, on any device.
        datamodule: They are its.

    Returns:
        Mean and standard deviation, (3, 1, 1) each, where the images are.
    """
    about = datamodule.description()
    mean, std = (
        torch.tensor(about[key], dtype=images.dtype).to(images.device, non_blocking=True)
        for key in ("mean", "std")
    )
    return mean[:, None, None], std[:, None, None]


class CheckedModule(L.LightningModule):
    """A module that knows what it is trained for, and can say so when its loss is no number."""

    #: What is at work, such as ``round 1, stage train of Entropy``, for messages.
    where: str = "training"
    #: Losses that are looked at together; None = each by itself on a CPU, where looking costs
    #: nothing, and 50 on other devices, which would run idle while the host looks.
    read_every: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self._unread: list[tuple[int, str, Tensor, Tensor | None]] = []

    def require_finite(
        self,
        loss: Tensor,
        name: str = "loss",
        images: Tensor | None = None,
        step: int | None = None,
    ) -> float:
        """The value of a loss, for which the host waits.

        Args:
            loss: One number.
            name: What it is.
            images: Indices of the images it was computed on.
            step: The step it is of; None = this one.

        Raises:
            UserError: If it is not finite.
        """
        indices = None if images is None else images.tolist()
        at = self.global_step if step is None else step
        return require_finite(self.where, name, loss, at, indices)

    def look_at(self, loss: Tensor, name: str = "loss", images: Tensor | None = None) -> None:
        """Refuse a loss that is not finite, at once or together with those of the next steps.

        Args:
            loss: One number.
            name: What it is.
            images: Indices of the images it was computed on.

        Raises:
            UserError: If it, or one that was not looked at yet, is not finite.
        """
        self._unread.append((self.global_step, name, loss.detach(), images))
        if len(self._unread) >= self._every(loss):
            self.read_losses()

    def read_losses(self) -> None:
        """Look at the losses since the last look, for which the host waits once.

        Raises:
            UserError: If one of them is not finite.
        """
        unread, self._unread = self._unread, []
        losses = [loss.float() for _, _, loss, _ in unread]
        if unread and not all(map(isfinite, torch.stack(losses).tolist())):
            for step, name, loss, images in unread:
                self.require_finite(loss, name, images, step)

    def _every(self, loss: Tensor) -> int:
        return self.read_every or (1 if loss.device.type == "cpu" else _READ_EVERY)

    def on_train_epoch_end(self) -> None:
        """No weights are kept whose loss was not looked at."""
        self.read_losses()

    def tell(self, values: Mapping[str, Tensor], loss: Tensor) -> None:
        """Log the values of a step where somebody reads them; it costs more than all else of it.

        Args:
            values: Numbers by name.
            loss: What a progress bar shows.
        """
        trainer = self._trainer
        if trainer is None or is_logged(trainer):
            self.log_dict({name: value.detach() for name, value in values.items()})
        bar = None if trainer is None else trainer.progress_bar_callback
        if bar is not None and not isinstance(bar, Bar):  # that one is given what a step returns
            self.log("loss", loss.detach(), prog_bar=True, logger=False)


class EvaluatedModule(CheckedModule):
    """A segmenter and how it is evaluated and described; how it learns is left to subclasses.

    What divides the scores in the loss, if anything does, is their attribute ``temperature``.

    Args:
        network: Its outputs may exceed the classes; only the first ``num_classes`` are evaluated.
        num_classes: C.
    """

    def __init__(self, network: Segmenter, num_classes: int) -> None:
        super().__init__()
        self.network = network
        self.num_classes = num_classes
        self.iou = MulticlassJaccardIndex(
            num_classes,
            average="none",
            ignore_index=VOID,
            zero_division=float("nan"),
            validate_args=False,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the network and the images, for those who use the checkpoint elsewhere."""
        images = getattr(self.trainer, "datamodule", None)
        # the first one: a method may wrap its network
        parts = ((n, part) for n, part in self.named_modules() if isinstance(part, Segmenter))
        name, segmenter = next(parts, ("", None))
        checkpoint[DESCRIPTION] = {
            "network": segmenter.description if segmenter else {},
            "network_at": name,
            "num_classes": self.num_classes,
            "temperature": float(getattr(self, "temperature", 1.0)),
            "images": images.description() if isinstance(images, LoopDataModule) else {},
        }

    def evaluate(self, batch: dict[str, Tensor]) -> None:
        """Add a batch of whole images to the confusion matrix."""
        scores = self.network(batch["image"])[:, : self.num_classes]
        self.iou.update(most_probable(scores), batch["target"])

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Evaluate a batch."""
        self.evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/miou``, the mean IoU over the classes present in truth or prediction."""
        self.log("val/miou", self.iou.compute().nanmean(), prog_bar=True)
        self.iou.reset()

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Evaluate a batch."""
        self.evaluate(batch)

    def on_test_epoch_end(self) -> None:
        """Log ``miou`` and one ``iou/<class id>`` per class; a class absent everywhere is NaN."""
        per_class = self.iou.compute()
        self.log("miou", per_class.nanmean())
        self.log_dict({f"iou/{c}": value for c, value in enumerate(per_class)})
        self.iou.reset()


class SegmentationModule(EvaluatedModule):
    """Trains a segmenter with a loss of the method's own.

    Subclasses define `loss`, and `predict_step` if they score the pool.

    Args:
        network: See `EvaluatedModule`.
        num_classes: C.
        steps: Training batches, the horizon of the schedule.
        recipe: Optimiser and schedule.
    """

    def __init__(
        self,
        network: Segmenter,
        num_classes: int,
        steps: int,
        recipe: Recipe,
    ) -> None:
        super().__init__(network, num_classes)
        self.steps = steps
        self.recipe = recipe
        self._nothing_to_learn = False
        self._teaches: bool | None = None  # of the batch at hand; None = not looked at

    @abstractmethod
    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss terms of a batch by name; ``loss`` is the one minimised.

        A loss of exactly 0 means that the batch taught nothing: its update is skipped.
        """

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Compute, check and log the loss."""
        terms = self.loss(batch)
        loss = terms["loss"]
        self._look_and_know(loss, batch.get("index"))
        self._teaches = None
        self.tell({f"train/{name}": term for name, term in terms.items()}, loss)
        return loss

    def _look_and_know(self, loss: Tensor, images: Tensor | None) -> None:
        """Look at a loss, and find out whether there was nothing to learn."""
        self._nothing_to_learn = False
        if self._every(loss) == 1 or not self._teaches:
            self._nothing_to_learn = self.require_finite(loss, "loss", images) == 0.0
        else:
            self.look_at(loss, "loss", images)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """See on the host whether a batch has anything to learn, before a device has it."""
        if self.device.type != "cpu" and self._trainer is not None and self.trainer.training:
            self._teaches = not isinstance(batch, dict) or teaches(batch)
        return batch

    def has_labels(self, batch: Mapping[str, Tensor]) -> bool:
        """Whether the batch at hand has anything to learn, without a look at the device."""
        return teaches(batch) if self._teaches is None else self._teaches

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Skip the update when no process had anything to learn (momentum would move weights)."""
        if self._nothing_to_learn and not any(
            bool(p.grad.any()) for p in self.parameters() if p.grad is not None
        ):
            for parameter in self.parameters():
                parameter.grad = None

    def configure_optimizers(self) -> Any:
        """The recipe's; the rate follows the stage's own number of steps."""
        return self.recipe.build(self.network, self.steps)


def is_logged(trainer: L.Trainer) -> bool:
    """Whether a logger writes what the batch at hand logs, or an epoch ends with it."""
    done = trainer.fit_loop.epoch_loop._batches_that_stepped + 1
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return bool(trainer.is_last_batch or (every and done % every == 0))


def teaches(batch: Mapping[str, Tensor]) -> bool:
    """Whether a batch has a labelled pixel, or one of a region whose classes are known.

    Args:
        batch: Of training images: ``target`` (B, H, W), or ``regions`` (B, H, W), rows of ``sets``
            (B, K, C); without any of these it does.
    """
    if "target" in batch:
        return bool((batch["target"] != VOID).any())
    if "sets" not in batch:
        return True
    regions = batch["regions"].flatten(1)
    known = batch["sets"].bool().any(2).gather(1, regions.clamp(min=0).long())
    return bool((known & (regions >= 0)).any())


class CrossEntropyModule(SegmentationModule):
    """Learns label maps by mean cross-entropy over labelled pixels.

    Args:
        temperature: Divides the scores.
        **shared: See `SegmentationModule`.
    """

    def __init__(self, temperature: float = 1.0, **shared: Any) -> None:
        super().__init__(**shared)
        self.temperature = temperature

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss on ``target`` (B, H, W); 0 when a batch has no labelled pixel."""
        scores = self.network(batch["image"]) / self.temperature
        return {"loss": labelled_cross_entropy(scores, batch["target"])}
