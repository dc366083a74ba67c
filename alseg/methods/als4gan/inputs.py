"""What the discriminator is shown: class maps beside images that are brought to 0..1.

Equation numbers are those of ALS4GAN (arXiv 2110.07782) as its reference implementation has it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from alseg.core.images import VOID
from alseg.nn.precision import at_least_float32


def unit_range(images: Tensor, width_of: Tensor | None = None) -> Tensor:
    """Images moved and scaled so that the whole batch spans 0..1 (E12).

    Args:
        images: (B, 3, H, W), padding included.
        width_of: Another batch. In the reference, real images are divided by the largest value of
            the labelled batch minus its smallest instead of their own (E13).

    Returns:
        Shape of `images`; all 0 if they have one value only (NaN in the reference).

    >>> unit_range(torch.tensor([-2.0, 0.0, 2.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    images = at_least_float32(images)
    other = images if width_of is None else at_least_float32(width_of)
    width = other.max() - other.min()
    return (images - images.min()) / torch.where(width > 0, width, 1)


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Class maps of labels; `VOID` belongs to no class (E13).

    Args:
        labels: Classes 0..C-1 or `VOID`, (B, H, W), any integer type.
        num_classes: C.

    Returns:
        (B, C, H, W), float32.

    >>> one_hot(torch.tensor([[[1, 255]]]), 2).tolist()
    [[[[0.0, 0.0]], [[1.0, 0.0]]]]
    """
    known = labels != VOID
    maps = F.one_hot(labels.where(known, 0).long(), num_classes) * known[..., None]
    return maps.movedim(-1, 1).float()


def fake_input(logits: Tensor, images: Tensor, inside: Tensor | None = None) -> Tensor:
    """Predicted class maps beside their images, for the discriminator (E12).

    Args:
        logits: (B, C, H, W).
        images: (B, 3, H, W).
        inside: Pixels of the picture, (B, H, W), bool. Outside them the class maps are 0, as those
            of real labels are; None leaves the softmax there, as in the reference, from which the
            discriminator can tell predictions.

    Returns:
        (B, C + 3, H, W).
    """
    maps = at_least_float32(logits).softmax(dim=1)
    if inside is not None:
        maps = maps * inside[:, None]
    return torch.cat([maps, unit_range(images)], dim=1)


def real_input(
    labels: Tensor, images: Tensor, num_classes: int, width_of: Tensor | None = None
) -> Tensor:
    """Class maps of real labels beside their images, for the discriminator (E13).

    Args:
        labels: Classes 0..C-1 or `VOID`, (B, H, W), any integer type.
        images: (B, 3, H, W).
        num_classes: C.
        width_of: See `unit_range`.

    Returns:
        (B, C + 3, H, W).
    """
    images = unit_range(images, width_of)
    return torch.cat([one_hot(labels, num_classes).to(images.dtype), images], dim=1)
