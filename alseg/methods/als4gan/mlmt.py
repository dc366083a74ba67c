"""The multi-label mean teacher of S4GAN, which says what classes an image contains.

A classifier of whole images, trained apart from the GAN, switches classes off in its predictions;
`mean_teacher.py` trains it.
Equation numbers are those of S4GAN (arXiv 1908.05724) as its reference implementation has them.
ALS4GAN has no such branch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alseg.core.images import VOID
from alseg.nn.precision import at_least_float32

_EPS = 1e-12


def classes_present(labels: Tensor, num_classes: int) -> Tensor:
    """Classes that label maps contain.

    Args:
        labels: Classes or `alseg.core.images.VOID`, (B, H, W), any integer type.
        num_classes: K.

    Returns:
        (B, K), bool.

    >>> classes_present(torch.tensor([[[2, 0, 0]], [[255, 255, 1]]]), 3).int().tolist()
    [[1, 0, 1], [0, 1, 0]]
    """
    columns = torch.where(labels == VOID, num_classes, labels.long()).flatten(1)
    present = torch.zeros(len(labels), num_classes + 1, dtype=torch.bool, device=labels.device)
    return present.scatter_(1, columns, True)[:, :num_classes]


def consistency(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of one minus the cosine of the two's logits, the second term of (E21).

    Args:
        student: Logits of the strong view, (B, K).
        teacher: Logits of the weak view, (B, K); gets no gradient.

    Returns:
        Scalar, 0..2.

    >>> consistency(torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, 0.0]])).item()
    1.0
    """
    a, b = at_least_float32(student), at_least_float32(teacher.detach())
    norms = ((a.square().sum(1) + _EPS) * (b.square().sum(1) + _EPS)).sqrt()
    return (1 - (a * b).sum(1) / norms).mean()


def consistency_weight(epoch: int, epochs: int, burn_in: int = 10) -> float:
    """Weight of the consistency (E22): 0, then growing to 1.

    Args:
        epoch: 0-based.
        epochs: Epochs of the training.
        burn_in: Last epoch without consistency.

    >>> consistency_weight(10, 40), consistency_weight(14, 40), consistency_weight(39, 40)
    (0.0, 0.2, 1.0)
    """
    return max(0.0, min(1.0, 2 * (epoch - burn_in) / epochs))


def mlmt_loss(
    student: Tensor, present: Tensor, student_strong: Tensor, teacher_weak: Tensor, weight: float
) -> Tensor:
    """Classes of labelled images, and agreement on unlabelled ones (E21).

    Args:
        student: Logits of labelled images, (B, K).
        present: Classes they contain, 0 or 1, (B, K).
        student_strong: Logits of unlabelled images, strongly augmented, (B', K).
        teacher_weak: The teacher's logits of the same images, weakly augmented, (B', K).
        weight: `consistency_weight`.

    Returns:
        Scalar.
    """
    logits = at_least_float32(student)
    supervised = F.binary_cross_entropy_with_logits(logits, present.to(logits.dtype))
    return supervised + weight * consistency(student_strong, teacher_weak)


def teacher_decay(step: int, limit: float = 0.999) -> float:
    """Share of the teacher that stays in an update (E23).

    Args:
        step: Updates so far, this one included: 1, 2, ...
        limit: Largest share.

    >>> teacher_decay(1), teacher_decay(10_000)
    (0.5, 0.999)
    """
    return min(1 - 1 / (step + 1), limit)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """Move the teacher's parameters towards the student's (E23); buffers stay.

    Args:
        teacher: Changed in place.
        student: A network of the same kind.
        decay: `teacher_decay`.
    """
    for own, other in zip(teacher.parameters(), student.parameters(), strict=True):
        own.mul_(decay).add_(other, alpha=1 - decay)


def fuse(logits: Tensor, present: Tensor, threshold: float = 0.2) -> Tensor:
    """Segmentation logits with absent classes switched off (E24).

    Args:
        logits: (B, C, H, W).
        present: The teacher's probability of each class in the image, (B, C).
        threshold: Classes below it are off.

    Returns:
        Shape of `logits`. An image without any class that is on keeps its logits.

    >>> logits = torch.tensor([-1.0, -2.0]).view(1, 2, 1, 1)
    >>> fuse(logits, torch.tensor([[0.1, 0.9]])).flatten().tolist()
    [-inf, -2.0]
    """
    off = present < threshold
    off = off & ~off.all(dim=1, keepdim=True)
    return logits.masked_fill(off[..., None, None], -torch.inf)
