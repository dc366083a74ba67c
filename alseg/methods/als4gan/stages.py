"""The stages of ALS4GAN: the scene classifier, the adversarial segmenter, the mean teacher."""

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from alseg.active.stage import Stage
from alseg.core.errors import UserError
from alseg.labels.supervision import LabelMaps, Streams, Supervision, Target, Unlabelled
from alseg.methods.als4gan.classifier import SceneClassifier, build_classifier
from alseg.methods.als4gan.discriminator import Discriminator
from alseg.methods.als4gan.learner import Strategy
from alseg.methods.als4gan.mean_teacher import SIDE, MeanTeacher
from alseg.methods.als4gan.module import S4GANModule
from alseg.nn.network import Network
from alseg.nn.segmenter import Segmenter

if TYPE_CHECKING:
    from alseg.methods.als4gan.method import Als4gan

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Classifier(Stage):
    """Learns the classes of whole images, from the weights of the round before, and asks."""

    method: "Als4gan"

    def module(self) -> SceneClassifier:
        """A classifier with as many outputs as there are classes to ask for."""
        method, images = self.method, self.context.images
        scenes = method.question(images) == "scene"
        num_classes = len(images.scenes) if scenes else self.context.pool.num_classes
        network = build_classifier(method.classifier, method.classifier_weights, num_classes)
        diversity = self.context.diversity
        return SceneClassifier(
            network,
            method.classifier_lr,
            cast(Strategy, method.strategy),
            features=diversity is not None and bool(diversity.measured),
        )

    def supervision(self) -> Supervision:
        """The classes of images that were answered so far."""
        return cast(Supervision, self.method.classes(self.context))


@dataclass(frozen=True, kw_only=True)
class Segment(Stage):
    """A segmenter against a discriminator, on images with masks and without."""

    method: "Als4gan"

    def named(self) -> Network:
        """The run's network, with the reference's running statistics where the profile wants."""
        network = self.context.network
        reference = self.method.profile == "reference" and is_papers(network)
        if reference and "bn_momentum" not in network.options:
            return replace(network, options={**network.options, "bn_momentum": 0.999})
        return network

    def network(self) -> Segmenter:
        """A fresh segmenter."""
        return self.named().build(self.context.pool.num_classes)

    def module(self) -> S4GANModule:
        """A fresh segmenter and a fresh discriminator."""
        network, method, named = self.network(), self.method, self.context.network
        num_classes = self.context.pool.num_classes
        if not is_papers(named):
            log.info(
                "The segmenter is a %s on %s, not the paper's DeepLabV2 on resnet101.",
                named.architecture,
                named.encoder,
            )
        if self.fit.batch_size < network.min_train_images:
            raise UserError(
                f"method.batch_size is {self.fit.batch_size}, but this network trains on at least "
                f"{network.min_train_images} images at once; give as many, on every device."
            )
        return S4GANModule(
            network=network,
            num_classes=num_classes,
            discriminator=Discriminator(num_classes, method.discriminator_width),
            rules=method.rules(),
            steps=self.fit.steps,
            lr=method.lr,
            discriminator_lr=method.discriminator_lr,
            weight_decay=method.weight_decay,
            decay_steps=method.decay_steps or self.fit.steps,
            checkpoint_every=method.checkpoint_every,
            folder=self.folder / "checkpoints",
        )

    def unlabelled(self) -> NDArray[np.int64]:
        """Images without a mask; all, if there are none."""
        everything = np.arange(len(self.context.pool))
        others = np.setdiff1d(everything, self.context.pool.images(("mask",)))
        return others if len(others) else everything

    def _streams(self) -> tuple[LabelMaps, Unlabelled]:
        pool = self.context.pool
        return LabelMaps(pool, kinds=("mask",)), Unlabelled(self.unlabelled(), pool.sizes)

    def supervision(self) -> Streams:
        """Labelled images, unlabelled ones, and labelled ones for the discriminator."""
        labelled, unlabelled = self._streams()
        return Streams({"labelled": labelled, "unlabelled": unlabelled, "real": labelled})


@dataclass(frozen=True)
class LabelsAndClasses(LabelMaps):
    """Label maps, and the classes of whole images whatever a crop shows of them."""

    def __call__(self, image: int) -> Target:
        """``target`` as there, and ``present``: whether each class is there, (C,), bool."""
        target = super().__call__(image)
        present = np.isin(np.arange(self.pool.num_classes), target.maps["target"])
        return target._replace(tables={"present": present})


@dataclass(frozen=True, kw_only=True)
class Mlmt(Segment):
    """A mean teacher that says which classes an image contains, beside the finished segmenter."""

    def module(self) -> MeanTeacher:  # type: ignore[override]
        """The segmenter, and a classifier of several labels."""
        method, num_classes = self.method, self.context.pool.num_classes
        return MeanTeacher(
            network=self.network(),
            num_classes=num_classes,
            student=build_classifier(method.classifier, method.classifier_weights, num_classes),
            epochs=self.fit.epochs,
            lr=method.mlmt_lr,
            burn_in=method.mlmt_burn_in,
            threshold=method.mlmt_threshold,
            side=SIDE if self._released else None,
            teacher_sees_all=self._released,
        )

    @property
    def _released(self) -> bool:
        return self.method.as_reference(self.method.mlmt_released)

    def supervision(self) -> Streams:
        """Labelled images, and several streams of unlabelled ones: batches have one size."""
        labelled, unlabelled = self._streams()
        if self._released:
            labelled = LabelsAndClasses(labelled.pool, labelled.kinds)
        count = self.method.mlmt_unlabelled
        others = {f"unlabelled_{n}": unlabelled for n in range(1, count + 1)}
        return Streams({"labelled": labelled, **others})


def is_papers(network: Network) -> bool:
    """Whether a network is the paper's generator."""
    return network.architecture.lower() == "deeplabv2" and network.encoder == "resnet101"
