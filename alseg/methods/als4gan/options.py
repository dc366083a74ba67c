"""The options of ALS4GAN, and what its two profiles say where they are left out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from alseg.active.method import Method
from alseg.active.stage import KEEPS
from alseg.core.errors import UserError, unknown_name
from alseg.labels.tables import AnswerKind, UnitKind

if TYPE_CHECKING:  # torch takes seconds to import
    from alseg.methods.als4gan.step import Rules

LEARNERS = ("scenes", "derived")
STRATEGIES = ("entropy", "margin", "least_confidence", "random")
PROFILES = ("fixed", "reference")


@dataclass(frozen=True)
class Options(Method):
    """The options of `alseg.methods.als4gan.method.Als4gan`.

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
        classifier_scale: Smallest and largest factor of the random scale of what the classifier
            learns from; null = `augment.scale`, which is the segmenter's.
        classifier_scale_step: Draw only factors so far apart; null = any between.
        classifier_flip: Probability of the mirror image there; null = `augment.flip`.
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
        mlmt_released: That stage as it was released: passes over the labelled images; an image has
            the classes of its whole mask and is resized to 320 x 320, not cropped; the teacher's
            batch norms see labelled images too. null = no, in the reference yes.
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
    classifier_scale: tuple[float, float] | None = None
    classifier_scale_step: float | None = None
    classifier_flip: float | None = None
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
    mlmt_released: bool | None = None

    def __post_init__(self) -> None:
        for option, known in (
            ("strategy", STRATEGIES),
            ("profile", PROFILES),
            ("keep", KEEPS),
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
        self._check_augmentation()
        for option in ("weight_decay", "matching_weight", "self_training_weight"):
            if not 0 <= getattr(self, option) < float("inf"):
                raise UserError(f"method.{option} is {getattr(self, option)}; it must be >= 0.")
        for option in ("checkpoint_every", "mlmt_burn_in"):
            if getattr(self, option) < 0:
                raise UserError(f"method.{option} is {getattr(self, option)}; give 0 or more.")
        if self.diversity == "spread":
            raise UserError(
                "method.diversity=spread keeps regions of one image apart, and method=als4gan "
                "chooses whole images; take kmeans, k_center, stratified or power."
            )
        if self.diversity is not None and self.strategy == "random":
            raise UserError(
                f"method.diversity={self.diversity} spreads out a ranking, and "
                f"method.strategy=random has none; leave one of them out."
            )

    def _check_augmentation(self) -> None:
        scale, step, flip = self.classifier_scale, self.classifier_scale_step, self.classifier_flip
        if scale is not None and (len(scale) != 2 or not 0 < scale[0] <= scale[1]):
            raise UserError(
                f"method.classifier_scale is {list(scale)}; give [low,high] with 0 < low <= high."
            )
        if step is not None and (scale is None or not step > 0):
            raise UserError(
                f"method.classifier_scale_step is {step}; give > 0, and method.classifier_scale."
            )
        if flip is not None and not 0 <= flip <= 1:
            raise UserError(f"method.classifier_flip is {flip}; it is a probability, 0..1.")

    def classifier_augment(self) -> dict[str, Any]:
        """What of the training transform is otherwise for the classifier."""
        changed: dict[str, Any] = {}
        if self.classifier_scale is not None:
            low, high = self.classifier_scale
            changed |= {"scale": (low, high), "scale_step": self.classifier_scale_step}
        if self.classifier_flip is not None:
            changed["flip"] = self.classifier_flip
        return changed

    def as_reference(self, given: bool | None) -> bool:
        """Whether to do what the reference does, by an option or, where it is null, the profile."""
        return self.profile == "reference" if given is None else given

    def rules(self) -> "Rules":
        """What the adversarial step computes: the profile's rules, and the options given."""
        from alseg.methods.als4gan.step import FIXED, REFERENCE

        names = ("gate", "own_range", "hide_padding", "nan_without_labels")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(
            REFERENCE if self.profile == "reference" else FIXED,
            matching_weight=self.matching_weight,
            self_training_weight=self.self_training_weight,
            self_training_start=self.self_training_start,
            **given,
        )
