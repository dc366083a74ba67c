"""The two phases of MADBAL: a segmentation network, and what judges how mature it is.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from alseg.active.stage import Preparation, Stage
from alseg.core.images import VOID
from alseg.core.seeds import derive
from alseg.labels.imagefiles import ImageFiles
from alseg.methods.madbal.cells import CellLabels, asked_cells, check_answers, labelled_pixels
from alseg.methods.madbal.clustering import clusters_file
from alseg.methods.madbal.disagreement import Reading
from alseg.methods.madbal.losses import class_weights
from alseg.methods.madbal.module import Between, PhaseOne, PhaseTwo
from alseg.methods.madbal.patches import feature_network
from alseg.methods.madbal.schedule import phase_one_lr
from alseg.methods.madbal.supported import Supported

if TYPE_CHECKING:
    from alseg.methods.madbal.method import Madbal

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Phase(Stage):
    """What both phases share: they learn all answers, with the same optimiser and class weights."""

    method: "Madbal"

    def supervision(self) -> CellLabels:
        """Everything answered so far."""
        return CellLabels(self.context.pool, self.method.grid)

    def training(self, rate: Callable[[int, float], float]) -> dict[str, Any]:
        """Keyword arguments of the modules.

        Args:
            rate: Learning rate of a step, from its number and the rate of the first, where the
                schedule is that of the paper's code.
        """
        pool = self.context.pool
        return {
            "num_classes": pool.num_classes,
            "steps": self.fit.steps,
            "recipe": self.method.recipe(),
            "class_weights": class_weights(torch.from_numpy(labelled_pixels(pool))),
            "rate": rate if self.method.schedule == "as_written" else None,
        }


@dataclass(frozen=True, kw_only=True)
class Segment(_Phase):
    """Phase I: a network learns the answers from scratch (F9, F10)."""

    def module(self) -> PhaseOne:
        """A fresh network.

        Raises:
            UserError: If the pool has answers that cannot be learnt.
        """
        check_answers(self.context.pool)
        # the schedule of the paper's code ends one epoch after the training does
        epochs, batches = self.fit.epochs + 1, self.fit.epoch_batches
        return PhaseOne(
            network=self.context.network.build(self.context.pool.num_classes),
            **self.training(lambda step, base: phase_one_lr(step, epochs, batches, base)),
        )


@dataclass(frozen=True, kw_only=True)
class Support(_Phase):
    """Phase II: support modules learn how far the frozen network is to be believed (F8, F11-F15).

    Attributes:
        segment: Phase I of the same round.
    """

    segment: Segment

    @property
    def class_losses(self) -> ImageFiles:
        """Losses of the trained network by class, for every labelled image (F11)."""
        return ImageFiles(self.folder / "class_losses")

    def module(self) -> PhaseTwo:
        """A fresh network with support modules; the weights of phase I are loaded by the loop.

        Raises:
            UserError: If the pool has answers that cannot be learnt.
        """
        context, method, pool = self.context, self.method, self.context.pool
        check_answers(pool)
        network = context.network.build(pool.num_classes)
        return PhaseTwo(
            network=Supported(network, pool.num_classes, method.frozen_dropout),
            class_losses=self.class_losses,
            images=pool.images(),
            reading=None if method.reading == "none" else cast(Reading, method.reading),
            edges_as_written=method.edges_as_written,
            grid=method.grid,
            asked=partial(asked_cells, pool, grid=method.grid),
            void=VOID if method.skip_void else None,
            **self.training(lambda step, base: base),  # constant in the paper's code (F16)
        )

    def prepare(self) -> Preparation | None:
        """Write the losses by class and, unless clusters are formed, features of superpixels."""
        context, method = self.context, self.method
        labelled = context.pool.images()
        missing = self.class_losses.missing(labelled)
        clustered = clusters_file(context).exists()
        features = None if clustered else method.superpixel_features(context)
        if features is not None:
            every = np.arange(len(context.pool), dtype=np.int64)
            missing = np.union1d(missing, features.missing(every))
        if not len(missing):
            return None
        between = Between(
            network=self.segment.trained().network,
            labels=self.supervision(),
            class_losses=self.class_losses,
            labelled=labelled,
            features=features,
            patch_network=None if features is None else self.patch_network(),
            grid=method.grid,
        )
        return Preparation(between, missing)

    def patch_network(self) -> nn.Module | None:
        """What makes features of superpixels, the same in every round; None = the encoder."""
        method = self.method
        if method.features == "encoder":
            return None
        if method.feature_weights is None:
            log.warning(
                "Superpixels are clustered by a VGG-16 with random weights: such clusters mean "
                "little. Give method.feature_weights=imagenet or a path, or method.features="
                "encoder."
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.context.seed, "vgg16"))
            return feature_network(method.feature_weights)
