"""The stages of ALS4GAN: the classifier that asks, the adversarial training, the mean teacher."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from alseg.active.stage import Stage
from alseg.core.errors import UserError
from alseg.labels.pool import LabelPool
from alseg.labels.supervision import LabelMaps, Streams, Unlabelled
from alseg.methods.als4gan.classifier import ImageClasses, SceneClassifier, build_classifier
from alseg.methods.als4gan.discriminator import Discriminator
from alseg.methods.als4gan.learner import Strategy
from alseg.methods.als4gan.mean_teacher import MeanTeacher
from alseg.methods.als4gan.module import S4GANModule
from alseg.methods.als4gan.options import generator, is_papers, rules
from alseg.nn.segmenter import Segmenter

if TYPE_CHECKING:
    from alseg.methods.als4gan.method import Als4gan

log = logging.getLogger(__name__)


def unlabelled_images(pool: LabelPool) -> NDArray[np.int64]:
    """Images without a mask, ascending, (n,); all images if every one has a mask."""
    everything = np.arange(len(pool))
    others = np.setdiff1d(everything, pool.images(("mask",)))
    return others if len(others) else everything


@dataclass(frozen=True, kw_only=True)
class Classifier(Stage):
    """Learns the classes of whole images, and scores the others by its doubts (E6-E8)."""

    method: "Als4gan"

    def module(self) -> SceneClassifier:
        """A classifier of scenes, or of the classes that cover most of an image."""
        context, method = self.context, self.method
        scenes = method.asked(context.images) == "scene"
        num_classes = len(context.images.scenes) if scenes else context.pool.num_classes
        return SceneClassifier(
            build_classifier(method.classifier, method.classifier_weights, num_classes),
            method.classifier_lr,
            cast(Strategy, method.strategy),
            features=context.diversity is not None and bool(context.diversity.measured),
        )

    def supervision(self) -> ImageClasses:
        """The classes answered so far."""
        return ImageClasses.of(self.context.pool, self.method.version(self.context))


@dataclass(frozen=True, kw_only=True)
class _Masks(Stage):
    """What both stages of the last round share: a segmenter, images with masks, and the others."""

    method: "Als4gan"

    def segmenter(self) -> Segmenter:
        """A fresh segmenter."""
        network = generator(self.method, self.context.network)
        return network.build(self.context.pool.num_classes)

    def labelled(self) -> LabelMaps:
        """Images with masks; the classes of whole images are no labels of their pixels."""
        return LabelMaps(self.context.pool, kinds=("mask",))

    def unlabelled(self) -> Unlabelled:
        """Images without a mask."""
        pool = self.context.pool
        return Unlabelled(unlabelled_images(pool), pool.sizes)


@dataclass(frozen=True, kw_only=True)
class Segment(_Masks):
    """Trains a segmenter against a discriminator, on images with masks and without (E12-E20)."""

    def module(self) -> S4GANModule:
        """A fresh segmenter and a fresh discriminator.

        Raises:
            UserError: If the network needs larger batches.
        """
        method, given = self.method, self.context.network
        network, num_classes = self.segmenter(), self.context.pool.num_classes
        if not is_papers(given):
            log.info(
                "The segmenter is a %s on %s, not the paper's DeepLabV2 on resnet101.",
                given.architecture,
                given.encoder,
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
            rules=rules(method),
            steps=self.fit.steps,
            lr=method.lr,
            discriminator_lr=method.discriminator_lr,
            weight_decay=method.weight_decay,
            decay_steps=method.decay_steps or self.fit.steps,
            checkpoint_every=method.checkpoint_every,
            folder=self.folder / "checkpoints",
        )

    def supervision(self) -> Streams:
        """Labelled images, unlabelled ones, and labelled ones again for the discriminator."""
        labelled = self.labelled()
        return Streams({"labelled": labelled, "unlabelled": self.unlabelled(), "real": labelled})


@dataclass(frozen=True, kw_only=True)
class Mlmt(_Masks):
    """Trains a mean teacher that says which classes an image contains (E21-E24)."""

    def module(self) -> MeanTeacher:
        """A segmenter, which gets the weights of `Segment`, with a fresh student and teacher."""
        method, num_classes = self.method, self.context.pool.num_classes
        return MeanTeacher(
            network=self.segmenter(),
            num_classes=num_classes,
            student=build_classifier(method.classifier, method.classifier_weights, num_classes),
            epochs=self.fit.epochs,
            lr=method.mlmt_lr,
            burn_in=method.mlmt_burn_in,
            threshold=method.mlmt_threshold,
        )

    def supervision(self) -> Streams:
        """A stream of labelled images, and several of others: all have batches of one size."""
        unlabelled, count = self.unlabelled(), self.method.mlmt_unlabelled
        others = {f"unlabelled_{n}": unlabelled for n in range(1, count + 1)}
        return Streams({"labelled": self.labelled(), **others})
