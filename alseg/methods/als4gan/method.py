"""ALS4GAN as a method of the loop."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from alseg.active.choose import whole_images
from alseg.active.context import RoundContext
from alseg.active.method import Method, Scoring
from alseg.active.stage import Stage, Start
from alseg.core.errors import UserError, unknown_name
from alseg.core.images import ImageSet
from alseg.labels.budget import Budget
from alseg.labels.supervision import LabelMaps, Streams, Supervision, Unlabelled
from alseg.labels.tables import AnswerKind, Answers, Query, Table, plural
from alseg.nn.network import Network
from alseg.regions.base import Maps

if TYPE_CHECKING:  # torch takes seconds to import
    import lightning as L

    from alseg.methods.als4gan.learner import LearnerPlan
    from alseg.methods.als4gan.step import Rules

log = logging.getLogger(__name__)

LEARNERS = ("scenes", "derived")
STRATEGIES = ("entropy", "margin", "least_confidence", "random")
PROFILES = ("fixed", "reference")
#: Name of the stage that learns the classes of whole images.
CLASSIFIER = "classifier"
#: Name of the adversarial stage.
SEGMENT = "segment"
#: Name of the stage that learns which classes an image contains.
MLMT = "mlmt"


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
    takes_list: ClassVar[bool] = True

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
        for option, known in (
            ("strategy", STRATEGIES),
            ("profile", PROFILES),
            ("keep", ("last", "best")),
        ):
            if getattr(self, option) not in known:
                raise unknown_name(f"method.{option}", getattr(self, option), known)
        if self.learner is not None and self.learner not in LEARNERS:
            raise unknown_name("method.learner", self.learner, LEARNERS)
        if not 0 < self.ratio <= 1:
            raise UserError(f"method.ratio is {self.ratio}; it is a share, above 0 and up to 1.")
        for option in ("alpha", "beta"):
            if not 0 <= getattr(self, option) <= 1:
                raise UserError(f"method.{option} is {getattr(self, option)}; it is a share, 0..1.")
        for option in ("gate", "mlmt_threshold"):
            value = getattr(self, option)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"method.{option} is {value}; it is a probability, 0..1.")
        for option in (
            *("classifier_passes", "classifier_batch_size", "classifier_lr", "steps"),
            *("batch_size", "lr", "discriminator_lr", "discriminator_width", "decay_steps"),
            *("mlmt_passes", "mlmt_batch_size", "mlmt_unlabelled", "mlmt_lr"),
        ):
            value = getattr(self, option)
            if value is not None and not value > 0:
                raise UserError(f"method.{option} is {value}; it must be > 0.")
        for option in ("weight_decay", "matching_weight", "self_training_weight"):
            if not 0 <= getattr(self, option) < float("inf"):
                raise UserError(f"method.{option} is {getattr(self, option)}; it must be >= 0.")
        for option in ("checkpoint_every", "mlmt_burn_in"):
            if getattr(self, option) < 0:
                raise UserError(f"method.{option} is {getattr(self, option)}; give 0 or more.")

    def _flag(self, name: str) -> Any:
        """An option, or what the profile says where it is null."""
        given = getattr(self, name)
        if given is not None:
            return given
        reference = self.profile == "reference"
        return {
            "gate": 0.8 if reference else 0.6,
            "own_range": not reference,
            "hide_padding": not reference,
        }.get(name, reference)

    def _rules(self) -> "Rules":
        from alseg.methods.als4gan.step import Rules

        return Rules(
            gate=self._flag("gate"),
            matching_weight=self.matching_weight,
            self_training_weight=self.self_training_weight,
            self_training_start=self.self_training_start,
            own_range=self._flag("own_range"),
            hide_padding=self._flag("hide_padding"),
            nan_without_labels=self._flag("nan_without_labels"),
        )

    # What is bought, and when

    def _plan(self, images: int) -> "LearnerPlan":
        """What the classifier's rounds buy; it has none with a random choice."""
        from alseg.methods.als4gan.learner import LearnerPlan, num_random_masks, plan_learner

        if self.strategy == "random":
            down = self._flag("random_rounded_down")
            masks = num_random_masks(images, self.ratio, rounded_down=down)
            if masks < 1:
                raise UserError(
                    f"method.ratio is {self.ratio}, which of {images} images is none; raise it."
                )
            return LearnerPlan(masks, 0, ())
        whole = self._flag("whole_last_round")
        return plan_learner(images, self.ratio, self.alpha, self.beta, whole_last_round=whole)

    def rounds_of(self, images: ImageSet) -> int:
        """The classifier's first round, those in which it asks, and that of the masks."""
        sizes = self._plan(len(images)).round_sizes
        return len(sizes) + 2 if sizes else 1

    def check(self, images: ImageSet, budget: Budget) -> None:
        """The classifier's classes, its weights, and a budget that does not interfere."""
        plan = self._plan(len(images))
        most = max(plan.initial, plan.masks, *plan.round_sizes, 0)
        if budget.axis != "units" or budget.amount < most:
            raise UserError(
                f"method=als4gan plans what each round buys, up to {most} images, by method.ratio, "
                f"alpha and beta; leave out budget.amount and budget.axis."
            )
        if plan.round_sizes:
            self._check_answers(images)
        if plan.round_sizes or self.mlmt:
            from alseg.methods.als4gan.classifier import build_classifier

            # weights that cannot be had are found out now
            build_classifier(self.classifier, self.classifier_weights, 2)
            if self.classifier_weights is None:
                log.warning(
                    "The classifier starts from random weights (method.classifier_weights)."
                )

    def _check_answers(self, images: ImageSet) -> None:
        if self.learner == "scenes" and not images.scenes:
            raise UserError(
                "method.learner=scenes asks for the scene classes of images, and this data set has "
                "none; give method.learner=derived, which asks for the class that covers most of "
                "an image, or leave it out."
            )
        if self._answer(images) == "dominant":
            log.info(
                "The classifier learns the class that covers most of each image%s.",
                "" if self.learner else ", since this data set has no scene classes",
            )

    def _answer(self, images: ImageSet) -> AnswerKind:
        """What the classifier asks about an image."""
        if self.learner == "derived" or not images.scenes:
            return "dominant"
        return "scene"

    def _is_last(self, context: RoundContext) -> bool:
        """Whether a round is that of the masks."""
        return context.round == context.rounds - 1

    def _learns(self, context: RoundContext) -> bool:
        """Whether the classifier is trained: what it asks for last is not needed for a choice."""
        return context.round < context.rounds - 2

    def _version(self, context: RoundContext) -> str:
        """Name of the maps the classifier asks about.

        They are those of the run under another name: an image whose class is known may still be
        asked for its mask.
        """
        return f"{context.regions}-scenes"

    def regions(self, context: RoundContext) -> Maps | None:
        """Whole images, for the questions of the classifier."""
        if context.kind != "image":
            raise UserError(
                f"method=als4gan asks about whole images, not {plural(context.kind)}; leave out "
                f"regions=..., or give regions=image."
            )
        if self._is_last(context):
            return None
        from alseg.methods.als4gan.regions import Renamed

        return Renamed(context.pool.maps[context.regions], self._version(context))

    # Training

    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """The classifier while it asks, the GAN in the end, and nothing in between."""
        if self._is_last(context):
            segment = Stage(
                SEGMENT,
                steps=self.steps,
                batch_size=self.batch_size,
                epoch_steps=self.epoch_steps,
                keep=self.keep,
            )
            return [segment, self._mlmt_stage(context)] if self.mlmt else [segment]
        if not self._learns(context):
            return []
        return [
            Stage.passes(
                CLASSIFIER,
                passes=self.classifier_passes,
                images=len(self._classes(context).images),
                batch_size=self.classifier_batch_size,
                start=Start(CLASSIFIER, previous_round=True),
                evaluate=False,
            )
        ]

    def _mlmt_stage(self, context: RoundContext) -> Stage:
        """An epoch goes over the unlabelled images once."""
        together = self.mlmt_batch_size * self.mlmt_unlabelled
        batches = -(-len(self._unlabelled(context)) // together)
        return Stage(
            MLMT,
            steps=self.mlmt_passes * batches,
            batch_size=self.mlmt_batch_size,
            epoch_steps=batches,
            start=Start(SEGMENT),
        )

    def _unlabelled(self, context: RoundContext) -> NDArray[np.int64]:
        """Images without a mask; all, if there are none."""
        everything = np.arange(len(context.pool))
        others = np.setdiff1d(everything, context.pool.images(("mask",)))
        return others if len(others) else everything

    def _classes(self, context: RoundContext) -> Any:
        from alseg.methods.als4gan.classifier import ImageClasses

        return ImageClasses.of(context.pool, self._version(context))

    def module(self, stage: Stage, context: RoundContext) -> "L.LightningModule":
        """The classifier, a segmenter and its discriminator, or a segmenter and its teacher."""
        if stage.name == CLASSIFIER:
            return self._classifier(context)
        num_classes = context.pool.num_classes
        network = self._network(context.network).build(num_classes)
        if stage.name == MLMT:
            from alseg.methods.als4gan.classifier import build_classifier
            from alseg.methods.als4gan.mean_teacher import MeanTeacher

            return MeanTeacher(
                network=network,
                num_classes=num_classes,
                student=build_classifier(self.classifier, self.classifier_weights, num_classes),
                epochs=stage.epochs,
                lr=self.mlmt_lr,
                burn_in=self.mlmt_burn_in,
                threshold=self.mlmt_threshold,
            )
        from alseg.methods.als4gan.discriminator import Discriminator
        from alseg.methods.als4gan.module import S4GANModule

        if not _is_papers(context.network):
            log.info(
                "The segmenter is a %s on %s, not the paper's DeepLabV2 on resnet101.",
                context.network.architecture,
                context.network.encoder,
            )
        if stage.batch_size < network.min_train_images:
            raise UserError(
                f"method.batch_size is {stage.batch_size}, but this network trains on at least "
                f"{network.min_train_images} images at once; give as many, on every device."
            )
        return S4GANModule(
            network=network,
            num_classes=num_classes,
            discriminator=Discriminator(num_classes, self.discriminator_width),
            rules=self._rules(),
            steps=stage.steps,
            lr=self.lr,
            discriminator_lr=self.discriminator_lr,
            weight_decay=self.weight_decay,
            decay_steps=self.decay_steps or stage.steps,
            checkpoint_every=self.checkpoint_every,
            folder=context.stage_folder(stage.name) / "checkpoints",
        )

    def _network(self, network: Network) -> Network:
        """The run's, with the reference's running statistics where the profile wants them."""
        options = network.options
        if self.profile == "fixed" or not _is_papers(network) or "bn_momentum" in options:
            return network
        return replace(network, options={**options, "bn_momentum": 0.999})

    def _classifier(self, context: RoundContext) -> "L.LightningModule":
        from alseg.methods.als4gan.classifier import SceneClassifier, build_classifier
        from alseg.methods.als4gan.learner import Strategy

        scenes = self._answer(context.images) == "scene"
        num_classes = len(context.images.scenes) if scenes else context.pool.num_classes
        network = build_classifier(self.classifier, self.classifier_weights, num_classes)
        return SceneClassifier(network, self.classifier_lr, cast(Strategy, self.strategy))

    def supervision(self, stage: Stage, context: RoundContext) -> Supervision:
        """Classes of images, or streams of images with and without masks."""
        if stage.name == CLASSIFIER:
            return self._classes(context)
        labelled = LabelMaps(context.pool, kinds=("mask",))
        unlabelled = Unlabelled(self._unlabelled(context), context.pool.sizes)
        if stage.name == MLMT:
            # streams have batches of one size
            others = {f"unlabelled_{n}": unlabelled for n in range(1, self.mlmt_unlabelled + 1)}
            return Streams({"labelled": labelled, **others})
        return Streams({"labelled": labelled, "unlabelled": unlabelled, "real": labelled})

    # Choosing

    def first_query(self, context: RoundContext) -> Query:
        """Random images: their masks, or their classes to begin with."""
        prescribed = self.rounds_of(context.images)
        if context.rounds != prescribed:
            raise UserError(
                f"rounds is {context.rounds}, but what method=als4gan buys takes {prescribed}; "
                f"leave it out."
            )
        plan = self._plan(len(context.pool))
        drawn = context.rng("first").permutation(len(context.pool))
        if self._is_last(context):
            return whole_images(context, drawn[: plan.masks])
        return self._ask_classes(context, drawn[: plan.initial])

    def _ask_classes(
        self,
        context: RoundContext,
        images: NDArray[np.int64],
        score: NDArray[np.floating[Any]] | None = None,
    ) -> Query:
        answer = self._answer(context.images)
        return whole_images(context, images, score, answer, self._version(context))

    def scorer(self, context: RoundContext) -> Scoring | None:
        """The classifier, on the images whose class is not known."""
        if not self._learns(context):
            return None
        return Scoring(CLASSIFIER, context.pool.open_images(self._version(context)))

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """The images the classifier is least sure of (E9); in the end their masks (E10)."""
        from alseg.methods.als4gan.learner import most_uncertain, selection_list

        plan = self._plan(len(context.pool))
        if self._is_last(context):
            asked = [answers.image for answers in context.pool.history[1:]]
            wanted = min(plan.masks, sum(map(len, asked)))  # a person may have answered less
            score = np.concatenate([doubts(context, answers) for answers in context.pool.history])
            first = len(context.pool.history[0])
            return whole_images(
                context, selection_list(asked, wanted), score[first : first + wanted]
            )
        table = tables["scenes"]
        size = plan.round_sizes[context.round - 1]
        rows = most_uncertain(np.asarray(table["score"]), size)
        return self._ask_classes(
            context, np.asarray(table["image"])[rows], np.asarray(table["score"])[rows]
        )

    def measures(self, context: RoundContext, truth: ImageSet | None) -> Mapping[str, float]:
        """The two kinds of answers apart: classes of images, and masks."""
        history = context.pool.history[: context.round + 1]
        masks = sum(len(answers) for answers in history if answers.masks is not None)
        return {
            "class_labels": float(sum(map(len, history)) - masks),
            "masks": float(masks),
        }


def _is_papers(network: Network) -> bool:
    """Whether a network is the paper's generator."""
    return network.architecture.lower() == "deeplabv2" and network.encoder == "resnet101"


def doubts(context: RoundContext, answers: Answers) -> NDArray[np.float32]:
    """How unsure the classifier was of the images of an earlier round, 0 where none was asked."""
    query = context.ledger.query(answers.round)
    if query is None:
        return np.zeros(len(answers), dtype=np.float32)
    return query.score[: len(answers)]
