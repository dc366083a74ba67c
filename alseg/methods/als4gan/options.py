"""What the options of ALS4GAN mean: their ranges, and what the profiles say where they are null."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from alseg.acquisition.diversity import DIVERSITIES
from alseg.active.stage import KEEPS
from alseg.core.errors import UserError, unknown_name
from alseg.core.images import ImageSet
from alseg.labels.budget import Budget
from alseg.nn.network import Network

if TYPE_CHECKING:  # torch takes seconds to import
    from alseg.methods.als4gan.learner import LearnerPlan
    from alseg.methods.als4gan.method import Als4gan
    from alseg.methods.als4gan.step import Rules

log = logging.getLogger(__name__)

LEARNERS = ("scenes", "derived")
STRATEGIES = ("entropy", "margin", "least_confidence", "random")
PROFILES = ("fixed", "reference")
#: Momentum of the reference's running statistics: they are nearly those of the last batch.
REFERENCE_MOMENTUM = 0.999


def check_options(method: "Als4gan") -> None:
    """Refuse options out of range.

    Raises:
        UserError: Naming the option.
    """
    for option, known in (
        ("strategy", STRATEGIES),
        ("profile", PROFILES),
        ("keep", KEEPS),
        ("learner", (None, *LEARNERS)),
    ):
        if getattr(method, option) not in known:
            names = [name for name in known if name is not None]
            raise unknown_name(f"method.{option}", getattr(method, option), names)
    if not 0 < method.ratio <= 1:
        raise UserError(f"method.ratio is {method.ratio}; it is a share, above 0 and up to 1.")
    for option in ("alpha", "beta"):
        if not 0 <= getattr(method, option) <= 1:
            raise UserError(f"method.{option} is {getattr(method, option)}; it is a share, 0..1.")
    for option in ("gate", "mlmt_threshold"):
        value = getattr(method, option)
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"method.{option} is {value}; it is a probability, 0..1.")
    for option in (
        *("classifier_passes", "classifier_batch_size", "classifier_lr", "steps"),
        *("batch_size", "lr", "discriminator_lr", "discriminator_width", "decay_steps"),
        *("mlmt_passes", "mlmt_batch_size", "mlmt_unlabelled", "mlmt_lr"),
    ):
        value = getattr(method, option)
        if value is not None and not value > 0:
            raise UserError(f"method.{option} is {value}; it must be > 0.")
    for option in ("weight_decay", "matching_weight", "self_training_weight"):
        if not 0 <= getattr(method, option) < float("inf"):
            raise UserError(f"method.{option} is {getattr(method, option)}; it must be >= 0.")
    for option in ("checkpoint_every", "mlmt_burn_in"):
        if getattr(method, option) < 0:
            raise UserError(f"method.{option} is {getattr(method, option)}; give 0 or more.")
    _check_diversity(method)


def _check_diversity(method: "Als4gan") -> None:
    """Whole images have no place in an image, and a random choice has no ranking."""
    if method.diversity is None or method.diversity not in DIVERSITIES:
        return  # an unknown name is refused for all methods alike
    if "center" in DIVERSITIES[method.diversity].needs:
        raise UserError(
            f"method.diversity={method.diversity} keeps regions of one image apart, and "
            f"method=als4gan chooses whole images; take kmeans, k_center, stratified or power."
        )
    if method.strategy == "random":
        raise UserError(
            f"method.diversity={method.diversity} spreads out a ranking, and "
            f"method.strategy=random has none; leave one of them out."
        )


def follows_reference(method: "Als4gan", option: str) -> bool:
    """An option that switches on what the reference does; where it is null the profile decides."""
    given: bool | None = getattr(method, option)
    return method.profile == "reference" if given is None else given


def plan(method: "Als4gan", images: int) -> "LearnerPlan":
    """What the rounds buy; a random choice has no rounds before the masks.

    Args:
        method: The options.
        images: Images of the pool.

    Raises:
        UserError: If the options make no plan for so many images.
    """
    from alseg.methods.als4gan.learner import LearnerPlan, num_random_masks, plan_learner

    if method.strategy == "random":
        down = follows_reference(method, "random_rounded_down")
        masks = num_random_masks(images, method.ratio, rounded_down=down)
        if masks < 1:
            raise UserError(
                f"method.ratio is {method.ratio}, which of {images} images is none; raise it."
            )
        return LearnerPlan(masks, 0, ())
    whole = follows_reference(method, "whole_last_round")
    return plan_learner(images, method.ratio, method.alpha, method.beta, whole_last_round=whole)


def check_images(method: "Als4gan", images: ImageSet, budget: Budget) -> None:
    """Refuse images without the classes the classifier learns, and a budget that interferes.

    Raises:
        UserError: Also for weights of the classifier that cannot be had.
    """
    bought = plan(method, len(images))
    most = max(bought.initial, bought.masks, *bought.round_sizes, 0)
    if budget.axis != "units" or budget.amount < most:
        raise UserError(
            f"method=als4gan plans what each round buys, up to {most} images, by method.ratio, "
            f"alpha and beta; leave out budget.amount and budget.axis."
        )
    if bought.round_sizes:
        _check_answers(method, images)
    if bought.round_sizes or method.mlmt:
        from alseg.methods.als4gan.classifier import build_classifier

        # weights that cannot be had are found out now
        build_classifier(method.classifier, method.classifier_weights, 2)
        if method.classifier_weights is None:
            log.warning("The classifier starts from random weights (method.classifier_weights).")


def _check_answers(method: "Als4gan", images: ImageSet) -> None:
    if method.learner == "scenes" and not images.scenes:
        raise UserError(
            "method.learner=scenes asks for the scene classes of images, and this data set has "
            "none; give method.learner=derived, which asks for the class that covers most of "
            "an image, or leave it out."
        )
    if method.asked(images) == "dominant":
        log.info(
            "The classifier learns the class that covers most of each image%s.",
            "" if method.learner else ", since this data set has no scene classes",
        )


def rules(method: "Als4gan") -> "Rules":
    """What an adversarial step computes: the profile's rules, and the options that are given."""
    from alseg.methods.als4gan.step import FIXED, REFERENCE

    given = {
        option: getattr(method, option)
        for option in ("gate", "own_range", "hide_padding", "nan_without_labels")
        if getattr(method, option) is not None
    }
    return replace(
        REFERENCE if method.profile == "reference" else FIXED,
        matching_weight=method.matching_weight,
        self_training_weight=method.self_training_weight,
        self_training_start=method.self_training_start,
        **given,
    )


def is_papers(network: Network) -> bool:
    """Whether a network is the paper's generator."""
    return network.architecture.lower() == "deeplabv2" and network.encoder == "resnet101"


def generator(method: "Als4gan", network: Network) -> Network:
    """The run's network, with the reference's running statistics where the profile wants them."""
    options = network.options
    if method.profile == "fixed" or not is_papers(network) or "bn_momentum" in options:
        return network
    return replace(network, options={**options, "bn_momentum": REFERENCE_MOMENTUM})
