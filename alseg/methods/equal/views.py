"""The two views of an image: as it is, and mirrored."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def shrunk(images: Tensor, scale: float) -> Tensor:
    """Images of smaller sides, each pixel the mean of the area it covers, as in training.

    Args:
        images: (B, C, H, W), float.
        scale: Factor on both sides, above 0 and up to 1; whole numbers of pixels are left.

    >>> shrunk(torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]]), 0.5).tolist()
    [[[[4.0]]]]
    """
    if scale == 1:
        return images
    size = [round(scale * side) for side in images.shape[-2:]]
    return F.interpolate(images, size=size, mode="area")


def two_views(network: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs on the images, and on their mirror images turned back (EquAL, arXiv 2008.01860).

    The network is called twice, so a network in train mode updates its running statistics twice
    and normalises each view by its own batch statistics, as the reference does.

    Args:
        network: Maps images to logits of the same height and width.
        images: (B, 3, H, W).

    Returns:
        ``a = f(x)`` and ``b = flip(f(flip(x)))``, both (B, C, H, W).
    """
    return network(images), network(images.flip(-1)).flip(-1)


def paired_views(network: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """The same as `two_views`, from one call on the images and their mirror images together.

    In eval mode the result is the same. In train mode it is an approximation that saves one call:
    both views are normalised by the statistics of the two together.

    Args:
        network: Maps images to logits of the same height and width.
        images: (B, 3, H, W).
    """
    plain, mirrored = network(torch.cat([images, images.flip(-1)])).chunk(2)
    return plain, mirrored.flip(-1)
