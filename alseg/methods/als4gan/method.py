"""ALS4GAN as a method of the loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.active.choose import whole_images
from alseg.active.context import RoundContext
from alseg.active.method import Method, Scoring
from alseg.active.stage import Fit, Stage, Start
from alseg.core.errors import UserError
from alseg.core.images import ImageSet
from alseg.labels.budget import Budget
from alseg.labels.tables import AnswerKind, Answers, Query, Table, UnitKind
from alseg.methods.als4gan.options import check_images, check_options, plan
from alseg.regions.base import Maps


@dataclass(frozen=True)
class Als4gan(Method):
    """Images a scene classifier is unsure of, for a semi-supervised GAN (Desai & Ghose, WACV 2022).

    arXiv 2110.07782, on S4GAN, arXiv 1908.05724. A classifier of whole images starts from random
    images, asks for the scene classes of those it is least sure of, and learns again, round by
    round. What it asked about gets masks, once; in the last round a segmenter learns from these
    masks and from all other images against a discriminator, as stage ``segment``. `README.md` has
    the rest.

    Attributes:
        ratio: Share of the images that gets masks.
        strategy: What the classifier is asked by: ``entropy``, ``margin`` or ``least_confidence``;
            ``random`` draws the images that get masks, without a classifier.
        learner: ``scenes``: the classifier learns the data set's scene classes; ``derived``: the
            class that covers most of each image; null = scenes where the data set has them.
        alpha: Share of the number of masks that the classifier starts from.
        beta: Share of that number which each of its rounds asks about.
        classifier: ``vgg16``, ``resnet50``, ``resnet101``, or a timm model with the prefix ``tu-``.
        classifier_weights: ``imagenet``, a path to a state dict, or null for random weights.
        classifier_passes: Passes over the images with a class in every round.
        classifier_batch_size: Images per batch of the classifier.
        classifier_lr: Learning rate of the classifier's SGD.
        steps: Training batches of the GAN.
        batch_size: Images per batch in each of its three streams: labelled, unlabelled, and
            labelled ones for the discriminator.
        lr: Learning rate of the segmenter's encoder (SGD); that of the rest is 10 times, that of
            its biases 20 times as large.
        weight_decay: Of the segmenter.
        decay_steps: Batches after which the segmenter's learning rate is 0; null = `steps`.
        discriminator_lr: Learning rate of the discriminator (Adam).
        discriminator_width: Channels of the discriminator's first layer.
        profile: ``reference`` computes what the authors' code computes where that is unsound, by
            other defaults of the options that are null below; ``fixed`` does not.
        gate: Score of the discriminator above which a predicted map becomes its own label; null =
            0.6, in the reference 0.8. It has to be tuned for a data set.
        matching_weight: Weight of feature matching.
        self_training_weight: Weight of self-training.
        self_training_start: Last batch without self-training.
        own_range: Bring the discriminator's real images to 0..1 by their own range; null = yes, in
            the reference by that of another batch.
        hide_padding: Leave padding out of what the discriminator sees of predictions, and out of
            self-training; null = yes, in the reference no.
        nan_without_labels: Stop with a loss of NaN at a batch without labels; null = no, in the
            reference yes.
        whole_last_round: Buy as many scene classes in the classifier's last round as in the others,
            also where fewer images are still wanted; null = no, in the reference yes.
        random_rounded_down: With ``random``, round the number of masks down instead of up; null =
            no, in the reference yes.
        keep: ``last`` or ``best`` checkpoint of the GAN on the validation images.
        epoch_steps: Batches of the GAN between two checkpoints.
        checkpoint_every: Keep the weights of the GAN every so many batches, in
            ``segment/checkpoints``; 0 = only the last ones.
        mlmt: Train S4GAN's second branch too, in a stage ``mlmt`` after ``segment``: a mean teacher
            that says which classes an image contains. All others are switched off in what the
            segmenter predicts, and ``miou`` is that of the two together. Its network is that of
            `classifier`, with the same `classifier_weights` to start from.
        mlmt_passes: Passes of that stage over the unlabelled images.
        mlmt_batch_size: Labelled images per batch of that stage.
        mlmt_unlabelled: Unlabelled images per labelled one in a batch of that stage.
        mlmt_lr: Learning rate of that stage (SGD) in its first pass; it falls to a 300th.
        mlmt_burn_in: Last pass of that stage, the first being 0, without unlabelled images.
        mlmt_threshold: Probability below which a class is switched off.
    """

    asks: ClassVar[Mapping[UnitKind, tuple[AnswerKind, ...]]] = {
        "image": ("mask", "scene", "dominant")
    }
    defaults: ClassVar[Mapping[str, str]] = {
        "regions": "image",
        "rounds": "null",
        "budget.axis": "units",
        "budget.amount": "inf",
        "augment.scale": "[1,1]",
        "augment.flip": "0",
    }
    small: ClassVar[Mapping[str, str]] = {
        "method.ratio": "0.1",
        "method.classifier": "tu-resnet18",
        "method.classifier_weights": "null",
        "method.classifier_passes": "8",
        "method.classifier_lr": "0.01",
        "method.steps": "120",
        "method.epoch_steps": "40",
        "method.batch_size": "4",
        "method.lr": "0.01",
        "method.discriminator_width": "16",
        "method.self_training_start": "60",
        "method.mlmt_passes": "30",
        "method.mlmt_batch_size": "4",
        "method.mlmt_lr": "0.01",
    }
    plans_rounds: ClassVar[bool] = True

    ratio: float = 0.05
    strategy: str = "entropy"
    learner: str | None = None
    alpha: float = 0.5
    beta: float = 0.9
    classifier: str = "resnet50"
    classifier_weights: str | None = "imagenet"
    classifier_passes: int = 50
    classifier_batch_size: int = 4
    classifier_lr: float = 1e-3
    steps: int = 20_000
    batch_size: int = 10
    lr: float = 2.5e-4
    weight_decay: float = 5e-4
    decay_steps: int | None = None
    discriminator_lr: float = 1e-4
    discriminator_width: int = 64
    profile: str = "fixed"
    gate: float | None = None
    matching_weight: float = 0.1
    self_training_weight: float = 1.0
    self_training_start: int = 1000
    own_range: bool | None = None
    hide_padding: bool | None = None
    nan_without_labels: bool | None = None
    whole_last_round: bool | None = None
    random_rounded_down: bool | None = None
    keep: str = "last"
    epoch_steps: int = 500
    checkpoint_every: int = 0
    mlmt: bool = False
    mlmt_passes: int = 100
    mlmt_batch_size: int = 16
    mlmt_unlabelled: int = 5
    mlmt_lr: float = 0.03
    mlmt_burn_in: int = 10
    mlmt_threshold: float = 0.2

    def __post_init__(self) -> None:
        check_options(self)

    # What is bought, and when

    def rounds_of(self, images: ImageSet) -> int:
        """The classifier's first round, those in which it asks, and that of the masks."""
        sizes = plan(self, len(images)).round_sizes
        return len(sizes) + 2 if sizes else 1

    def check(self, images: ImageSet, budget: Budget) -> None:
        """The classifier's classes, its weights, and a budget that does not interfere."""
        check_images(self, images, budget)

    def asked(self, images: ImageSet) -> AnswerKind:
        """What the classifier asks about an image."""
        return "dominant" if self.learner == "derived" or not images.scenes else "scene"

    def version(self, context: RoundContext) -> str:
        """Name of the maps the classifier asks about.

        They are those of the run under another name: an image whose class is known may still be
        asked for its mask.
        """
        return f"{context.regions}-scenes"

    def regions(self, context: RoundContext) -> Maps | None:
        """Whole images under another name, except in the round of the masks."""
        if _asks_masks(context):
            return None
        from alseg.methods.als4gan.regions import Renamed

        return Renamed(context.pool.maps[context.regions], self.version(context))

    # Training

    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """The classifier while it asks, and adversarial training on the masks in the end.

        In the round between nothing is trained: the classifier has asked for the last time.
        """
        from alseg.methods.als4gan.classifier import ImageClasses
        from alseg.methods.als4gan.stages import Classifier, Mlmt, Segment, unlabelled_images

        shared: dict[str, Any] = {"context": context, "method": self}
        if context.round < context.rounds - 2:
            known = ImageClasses.of(context.pool, self.version(context)).images
            fit = Fit.passes(self.classifier_passes, len(known), self.classifier_batch_size)
            start = Start("classifier", previous_round=True)
            return [Classifier(name="classifier", fit=fit, start=start, evaluate=False, **shared)]
        if not _asks_masks(context):
            return []
        fit = Fit(self.steps, self.batch_size, self.epoch_steps, keep=self.keep)
        segment = Segment(name="segment", fit=fit, **shared)
        if not self.mlmt:
            return [segment]
        together = self.mlmt_batch_size * self.mlmt_unlabelled
        batches = -(-len(unlabelled_images(context.pool)) // together)  # of a pass over these
        fit = Fit(self.mlmt_passes * batches, self.mlmt_batch_size, batches)
        return [segment, Mlmt(name="mlmt", fit=fit, start=Start("segment"), **shared)]

    # Choosing

    def ask(self, context: RoundContext) -> Query | Scoring:
        """Classes of random images first, then of those the classifier is least sure of; masks."""
        if context.round == 0:
            return self._first(context)
        if _asks_masks(context):
            return self._masks(context)
        return Scoring(
            "classifier",
            pick=lambda tables: self.pick(context, tables["scenes"]),
            images=context.pool.open_images(self.version(context)),
        )

    def _first(self, context: RoundContext) -> Query:
        """Random images: their classes, or their masks where there is no classifier."""
        prescribed = self.rounds_of(context.images)
        if context.rounds != prescribed:
            raise UserError(
                f"rounds is {context.rounds}, but what method=als4gan buys takes {prescribed}; "
                f"leave it out."
            )
        bought = plan(self, len(context.pool))
        drawn = context.rng("first").permutation(len(context.pool))
        if _asks_masks(context):
            return whole_images(context, drawn[: bought.masks])
        return self._classes_of(context, drawn[: bought.initial])

    def _classes_of(
        self,
        context: RoundContext,
        images: NDArray[np.int64],
        score: NDArray[np.floating[Any]] | None = None,
    ) -> Query:
        """A query for the classes of images."""
        answer = self.asked(context.images)
        return whole_images(context, images, score, answer, self.version(context))

    def pick(self, context: RoundContext, scenes: Table) -> Query:
        """The classes of the images the classifier is least sure of (E9)."""
        from alseg.methods.als4gan.learner import most_uncertain, spread_out

        image, score = np.asarray(scenes["image"]), np.asarray(scenes["score"])
        size = plan(self, len(context.pool)).round_sizes[context.round - 1]
        if context.diversity is None:
            rows = most_uncertain(score, size)
        else:
            rows = spread_out(image, score, size, context.diversity, context.rng("diversity"))
        return self._classes_of(context, image[rows], score[rows])

    def _masks(self, context: RoundContext) -> Query:
        """The masks of the images the classifier asked about, in that order (E10)."""
        from alseg.methods.als4gan.learner import selection_list

        asked = [answers.image for answers in context.pool.history[1:]]
        # a person may have answered less than was planned
        wanted = min(plan(self, len(context.pool)).masks, sum(map(len, asked)))
        score = np.concatenate([doubts(context, a) for a in context.pool.history[1:]])
        return whole_images(context, selection_list(asked, wanted), score[:wanted])

    def measures(self, context: RoundContext, truth: ImageSet | None) -> Mapping[str, float]:
        """The two kinds of answers apart: classes of images, and masks."""
        history = context.pool.history[: context.round + 1]
        masks = sum(len(answers) for answers in history if answers.masks is not None)
        return {
            "class_labels": float(sum(map(len, history)) - masks),
            "masks": float(masks),
        }


def _asks_masks(context: RoundContext) -> bool:
    """Whether a round is the last one, which asks for masks."""
    return context.round == context.rounds - 1


def doubts(context: RoundContext, answers: Answers) -> NDArray[np.float32]:
    """How unsure the classifier was of the images of an earlier round, 0 where none was asked."""
    query = context.ledger.query(answers.round)
    if query is None:
        return np.zeros(len(answers), dtype=np.float32)
    return query.score[: len(answers)]
