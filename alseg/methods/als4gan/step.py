"""One adversarial training step of S4GAN.

Equation numbers are those of ALS4GAN (arXiv 2110.07782) and S4GAN (arXiv 1908.05724) as their
reference implementations have them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from alseg.core.errors import UserError
from alseg.methods.als4gan import losses
from alseg.methods.als4gan.discriminator import Discriminator
from alseg.methods.als4gan.inputs import fake_input, real_input


@dataclass(frozen=True)
class Rules:
    """What a step computes; the flags depart from the reference where that is unsound.

    Attributes:
        gate: γ, the score above which a predicted map becomes its own label (E16).
        matching_weight: λ_fm, of feature matching (E17).
        self_training_weight: λ_st, of self-training (E17).
        self_training_start: Last iteration without self-training, 0-based; 0 in S4GAN.
        own_range: Real images are brought to 0..1 by their own range; in the reference their width
            is that of the labelled batch (E13).
        hide_padding: Padding counts neither in what the discriminator sees of predictions nor in
            self-training; in the reference it does, which gives predictions away.
        nan_without_labels: A batch without a labelled pixel gives NaN, as in the reference,
            instead of 0.
    """

    gate: float = 0.6
    matching_weight: float = 0.1
    self_training_weight: float = 1.0
    self_training_start: int = 1000
    own_range: bool = True
    hide_padding: bool = True
    nan_without_labels: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.gate <= 1:
            raise UserError(f"gate is {self.gate}; it is a probability, so give 0 to 1.")
        for name in ("matching_weight", "self_training_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}; give a finite number from 0.")


#: What is sound.
FIXED = Rules()

#: What the reference computes; its gate is that of the authors' commands.
REFERENCE = replace(FIXED, gate=0.8, own_range=False, hide_padding=False, nan_without_labels=True)


class Batches(NamedTuple):
    """The three independent batches of a step."""

    images: Tensor
    """Labelled images for the cross-entropy, (B, 3, H, W)."""
    labels: Tensor
    """Classes or `alseg.core.images.VOID`, (B, H, W), any integer type."""
    unlabelled: Tensor
    """Images without labels, (B', 3, H, W)."""
    real_images: Tensor
    """Labelled images for the discriminator, (B'', 3, H, W)."""
    real_labels: Tensor
    """Their labels, (B'', H, W)."""
    inside: Tensor | None = None
    """Pixels of the unlabelled images that are no padding, (B', H, W), bool; None for all."""


class StepResult(NamedTuple):
    """Losses of a step, scalars, before its updates, and what the gate saw; all detached."""

    generator: Tensor
    """The weighted sum (E17)."""
    cross_entropy: Tensor
    feature_matching: Tensor
    self_training: Tensor
    """0 while the gate rejects every map or self-training has not started."""
    discriminator: Tensor
    """(E18)"""
    discriminator_fake: Tensor
    discriminator_real: Tensor
    scores: Tensor
    """Of the unlabelled images' maps, 0..1, (B',)."""
    real_scores: Tensor
    """Of the real maps, as the generator's loss saw them, (B'',)."""
    passed: Tensor
    """Maps above the gate, (B',), bool, also before self-training starts."""


class Optimizer(Protocol):
    """An optimiser of torch, or what Lightning wraps around it."""

    def zero_grad(self) -> None:
        """Forget gradients."""

    def step(self) -> object:
        """Update."""


def s4gan_step(
    generator: nn.Module,
    discriminator: Discriminator,
    generator_optimizer: Optimizer,
    discriminator_optimizer: Optimizer,
    batches: Batches,
    iteration: int,
    rules: Rules = FIXED,
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> StepResult:
    """Update the generator, then the discriminator, both by the networks before the step.

    The generator learns from labels (E14), from features of the discriminator (E15) and from its
    own predictions where the discriminator took them for real (E16); there is no loss for fooling
    it. The discriminator learns with dropout of its own draw (E18), and judges with dropout too.
    The caller sets the learning rates. Under autocast the generator alone runs in half precision.

    Args:
        generator: Maps (B, 3, H, W) to logits (B, C, H, W); in train mode.
        discriminator: In train mode.
        generator_optimizer: Of the generator's parameters.
        discriminator_optimizer: Of the discriminator's.
        batches: Images and labels.
        iteration: 0-based, for the start of self-training.
        rules: What is computed.
        backward: Computes gradients of a scalar; Lightning has a function of its own.

    Returns:
        Losses by name.
    """
    generator_optimizer.zero_grad()
    discriminator_optimizer.zero_grad()
    device = batches.images.device.type
    inside = batches.inside if rules.hide_padding else None

    discriminator.requires_grad_(False)
    labelled = generator(batches.images)
    logits = generator(batches.unlabelled)
    supervised = losses.cross_entropy(
        labelled, batches.labels, nan_without_labels=rules.nan_without_labels
    )
    with torch.autocast(device, enabled=False):
        fake = fake_input(logits, batches.unlabelled, inside)
        judged = discriminator(fake)
        real = real_input(
            batches.real_labels,
            batches.real_images,
            logits.shape[1],
            None if rules.own_range else batches.images,
        )
        with torch.no_grad():
            true = discriminator(real)
        matching = losses.feature_matching(true.features, judged.features)
        passed = losses.passes_gate(judged.scores, rules.gate)
        started = losses.self_training_starts(iteration, rules.self_training_start)
        own = losses.self_training(logits, passed & started, inside)
        total = supervised + rules.matching_weight * matching + rules.self_training_weight * own
    backward(total)
    discriminator.requires_grad_(True)

    with torch.autocast(device, enabled=False):
        verdict = losses.discriminator_loss(
            discriminator(fake.detach()).scores, discriminator(real).scores
        )
    backward(verdict.total)
    generator_optimizer.step()
    discriminator_optimizer.step()

    terms = (total, supervised, matching, own, *verdict, judged.scores, true.scores, passed)
    return StepResult(*(term.detach() for term in terms))
