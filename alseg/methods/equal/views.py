"""The two views of an image: as it is, and mirrored."""

from collections.abc import Callable

from torch import Tensor


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
