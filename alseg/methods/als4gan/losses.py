"""Losses of the generator and of the discriminator.

Equation numbers are those of ALS4GAN (arXiv 2110.07782) and S4GAN (arXiv 1908.05724) as their
reference implementations have them. Every function works in at least float32, whatever the
network's precision.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from alseg.core.images import VOID
from alseg.nn.precision import at_least_float32


class DiscriminatorLoss(NamedTuple):
    """The mean (E18) of its two terms, scalars."""

    total: Tensor
    fake: Tensor
    real: Tensor


def cross_entropy(logits: Tensor, labels: Tensor, *, nan_without_labels: bool = False) -> Tensor:
    """Mean cross-entropy over the labelled pixels of the whole batch (E14).

    Args:
        logits: (B, C, H, W).
        labels: Classes 0..C-1 or `VOID`, (B, H, W), any integer type.
        nan_without_labels: A batch without a labelled pixel gives NaN, as in the reference, instead
            of 0. Its gradient is 0 either way.

    Returns:
        Scalar.

    >>> logits = torch.zeros(1, 4, 1, 2)
    >>> round(float(cross_entropy(logits, torch.tensor([[[2, 255]]]))), 6)
    1.386294
    """
    labels = labels.long()
    total = F.cross_entropy(at_least_float32(logits), labels, ignore_index=VOID, reduction="sum")
    known = (labels != VOID).sum()
    return total / (known if nan_without_labels else known.clamp(min=1))


def feature_matching(real: Tensor, fake: Tensor) -> Tensor:
    """Mean absolute difference of the batches' mean features (E15).

    The gradient goes to the fake features alone. A channel with equal means has the gradient 0.

    Args:
        real: Features of real maps, (B, D).
        fake: Features of predicted maps, (B', D).

    Returns:
        Scalar: the mean over the D channels.

    >>> feature_matching(torch.tensor([[1.0, 4.0], [3.0, 4.0]]), torch.tensor([[5.0, 4.0]])).item()
    1.5
    """
    return F.l1_loss(at_least_float32(fake).mean(0), at_least_float32(real.detach()).mean(0))


def passes_gate(scores: Tensor, gate: float) -> Tensor:
    """Which predicted maps the discriminator takes for real (E16).

    Args:
        scores: Probability of being real, (B,); compared in its own precision.
        gate: γ; equality does not pass.

    Returns:
        (B,), bool.

    >>> passes_gate(torch.tensor([0.5, 0.6, 0.7]), 0.6).tolist()
    [False, False, True]
    """
    return scores.detach() > gate


def self_training_starts(iteration: int, start: int) -> bool:
    """Whether self-training may act: strictly after iteration `start` (E16).

    Args:
        iteration: 0-based.
        start: 1000 in ALS4GAN, 0 in S4GAN.

    >>> self_training_starts(1000, 1000), self_training_starts(1001, 1000)
    (False, True)
    """
    return iteration > start


def pseudo_labels(logits: Tensor) -> Tensor:
    """The network's own best class of every pixel, the lowest id among equals, without gradient.

    Args:
        logits: (B, C, H, W).

    Returns:
        (B, H, W), int64.
    """
    return logits.detach().argmax(dim=1)


def self_training(logits: Tensor, passed: Tensor, inside: Tensor | None = None) -> Tensor:
    """Cross-entropy of the maps that passed the gate with their own best classes (E16).

    Args:
        logits: Of unlabelled images, (B, C, H, W).
        passed: `passes_gate`, (B,), bool.
        inside: Pixels of the picture, (B, H, W), bool; None counts padding too, as the reference.

    Returns:
        Scalar: the mean over all pixels of all maps that passed; 0, with a gradient of 0, if none
        did.

    >>> logits = torch.zeros(2, 2, 1, 1)
    >>> round(float(self_training(logits, torch.tensor([True, False]))), 6)
    0.693147
    >>> self_training(logits, torch.tensor([False, False])).item()
    0.0
    """
    labels = pseudo_labels(logits).masked_fill(~passed[:, None, None], VOID)
    if inside is not None:
        labels = labels.masked_fill(~inside, VOID)
    return cross_entropy(logits, labels)


def adversarial_loss(scores: Tensor, real: bool) -> Tensor:
    """Binary cross-entropy of the discriminator's scores, logarithms cut off at -100.

    Args:
        scores: Probability of being real, 0..1, (B,).
        real: Whether the maps are real.

    Returns:
        Scalar: the mean over the batch.
    """
    scores = at_least_float32(scores)
    return F.binary_cross_entropy(scores, torch.full_like(scores, float(real)))


def discriminator_loss(fake: Tensor, real: Tensor) -> DiscriminatorLoss:
    """Half the sum of the losses on predicted and on real maps (E18).

    Args:
        fake: Scores of predicted maps, 0..1, (B,).
        real: Scores of real maps, 0..1, (B',).
    """
    terms = adversarial_loss(fake, real=False), adversarial_loss(real, real=True)
    return DiscriminatorLoss(0.5 * (terms[0] + terms[1]), *terms)
