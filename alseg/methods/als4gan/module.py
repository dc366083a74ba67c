"""The adversarial stage: a segmenter and a discriminator that learn from each other."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from alseg.active.module import EvaluatedModule
from alseg.core.errors import UserError
from alseg.methods.als4gan.discriminator import Discriminator
from alseg.methods.als4gan.schedules import stepped_poly_lr
from alseg.methods.als4gan.step import Batches, Rules, s4gan_step
from alseg.nn.deeplabv2 import deeplab_groups
from alseg.nn.schedules import poly_lr
from alseg.nn.segmenter import Segmenter

log = logging.getLogger(__name__)

Streams = dict[str, dict[str, Tensor]]


class S4GANModule(EvaluatedModule):
    """Trains a segmenter on labelled and unlabelled images against a discriminator.

    Two optimisers step in every batch, so a step of Lightning's is half a batch; what counts here
    is batches.

    Args:
        network: The generator.
        num_classes: C.
        discriminator: Judges class maps of so many classes.
        rules: What a step computes.
        steps: Training batches, the horizon of the discriminator's schedule (E20).
        lr: Learning rate of the segmenter's encoder, see `deeplab_groups`.
        discriminator_lr: Learning rate of Adam.
        weight_decay: Of the segmenter.
        decay_steps: Batches after which the segmenter's learning rate is 0 (E19).
        checkpoint_every: Batches between two numbered checkpoints; 0 for none.
        folder: Where these are kept.
    """

    def __init__(
        self,
        network: Segmenter,
        num_classes: int,
        discriminator: Discriminator,
        rules: Rules,
        steps: int,
        lr: float,
        discriminator_lr: float,
        weight_decay: float,
        decay_steps: int,
        checkpoint_every: int,
        folder: Path,
    ) -> None:
        super().__init__(network, num_classes)
        self.automatic_optimization = False
        self.discriminator = discriminator
        self.rules = rules
        self.steps = steps
        self.lr = lr
        self.discriminator_lr = discriminator_lr
        self.weight_decay = weight_decay
        self.decay_steps = decay_steps
        self.checkpoint_every = checkpoint_every
        self.folder = folder

    def configure_optimizers(self) -> Any:
        """SGD for the segmenter, Adam for the discriminator."""
        groups = deeplab_groups(self.network, self.lr, self.weight_decay)
        return [
            torch.optim.SGD(groups, lr=self.lr, momentum=0.9),
            torch.optim.Adam(
                self.discriminator.parameters(), lr=self.discriminator_lr, betas=(0.9, 0.99)
            ),
        ]

    def on_train_start(self) -> None:
        """Refuse what would fail in the middle of a step."""
        wrapped = self.trainer.strategy.model
        if isinstance(wrapped, DistributedDataParallel) and not wrapped.find_unused_parameters:
            raise UserError(
                "each of the two networks learns without the other, which trainer.strategy=ddp "
                "does not allow; leave it out, or give ddp_find_unused_parameters_true."
            )

    def iteration(self, batch_idx: int) -> int:
        """Batches before this one, those of earlier epochs included."""
        return self.trainer.current_epoch * int(self.trainer.num_training_batches) + batch_idx

    def training_step(self, batch: Streams, batch_idx: int) -> Tensor:
        """Step both networks, and log how they do.

        Returns:
            The loss of the segmenter, detached.
        """
        now = self.iteration(batch_idx)
        optimizers: Any = self.optimizers()
        generator_optimizer, discriminator_optimizer = optimizers
        _set_rate(generator_optimizer, stepped_poly_lr(now, 1.0, self.decay_steps))
        _set_rate(discriminator_optimizer, poly_lr(now, self.steps, 1.0))
        result = s4gan_step(
            self.network,
            self.discriminator,
            generator_optimizer,
            discriminator_optimizer,
            batches_of(batch),
            now,
            self.rules,
            self.manual_backward,
        )
        images = torch.cat([part["index"] for part in batch.values()])
        self.look_at(result.generator, "loss of the segmenter", images)
        self.look_at(result.discriminator, "loss of the discriminator", images)
        self.tell(
            {
                "train/loss": result.generator,
                "train/cross_entropy": result.cross_entropy,
                "train/feature_matching": result.feature_matching,
                "train/self_training": result.self_training,
                "train/discriminator": result.discriminator,
                "train/discriminator_fake": result.discriminator_fake,
                "train/discriminator_real": result.discriminator_real,
                "share/passed": result.passed.float().mean(),
                "share/score_of_predicted": result.scores.mean(),
                "share/score_of_real": result.real_scores.mean(),
            },
            result.generator,
        )
        return result.generator

    def on_train_batch_end(self, outputs: Any, batch: Streams, batch_idx: int) -> None:
        """Keep numbered checkpoints."""
        done = self.iteration(batch_idx) + 1
        if self.checkpoint_every and done % self.checkpoint_every == 0:
            self.read_losses()  # no weights are kept whose loss was not looked at
            path = self.folder / f"batch_{done:06d}.ckpt"
            self.trainer.save_checkpoint(path, weights_only=True)


def batches_of(batch: Streams) -> Batches:
    """The three batches of a step, from the streams of the loader."""
    labelled, unlabelled, real = batch["labelled"], batch["unlabelled"], batch["real"]
    return Batches(
        images=labelled["image"],
        labels=labelled["target"],
        unlabelled=unlabelled["image"],
        real_images=real["image"],
        real_labels=real["target"],
        inside=unlabelled["inside"].bool(),
    )


def _set_rate(optimizer: Any, factor: float) -> None:
    """Set the learning rates to a factor of those at the start."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
