"""Superpixels as small images, and VGG-16, which makes features of them to cluster by.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
"""

from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alseg.core.errors import UserError, first_line
from alseg.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from alseg.nn.hub import require_download
from alseg.regions.geometry import bounding_boxes, pixels_of

#: Height and width of a patch, in pixels.
SIDE = 16

#: Output and input channels of the convolutions of VGG-16.
_VGG16 = [
    (64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (256, 256),
    (512, 256), *[(512, 512)] * 5,
]  # fmt: skip

_A = -0.75  # of the cubic kernel, as in OpenCV and torch


def superpixel_patches(
    image: NDArray[np.uint8], regions: NDArray[np.integer[Any]], units: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """Cut out superpixels, each on a ground of its mean colour, and bring them to one size (F5).

    The smallest box around a superpixel is enlarged or shrunk to 16 x 16 pixels, bicubic (a =
    -0.75) and without smoothing, with the border of the box repeated.

    Args:
        image: The image on the grid, (h, w, 3), uint8, RGB.
        regions: Superpixel of each pixel, -1 = none, (h, w), integer.
        units: Ids of the superpixels wanted, each with at least one pixel, (n,).

    Returns:
        Normalised as for ImageNet, (n, 3, 16, 16), float32, in the order of `units`.

    Raises:
        ValueError: If a superpixel has no pixel.
    """
    colors = (image.reshape(-1, 3) / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    num_regions = int(regions.max(initial=-1)) + 1
    order, offsets = pixels_of(regions, num_regions)
    units = np.asarray(units, dtype=np.int64)
    empty = units[(units < 0) | (units >= num_regions)]
    if not len(empty):
        empty = units[np.diff(offsets)[units] == 0]
    if len(empty):
        raise ValueError(f"superpixel {empty[0]} has no pixel")
    sizes = np.maximum(np.diff(offsets), 1)[:, None]
    owner = regions.ravel()[order]
    sums = [np.bincount(owner, channel, num_regions) for channel in colors[order].T]
    ground = (np.stack(sums, axis=1) / sizes)[units]
    top, left, bottom, right = bounding_boxes(regions, num_regions)[units].T

    # Rows of all boxes, one behind the other, are resampled along x to (rows, 16, 3).
    heights = bottom - top
    patch = np.repeat(np.arange(len(units)), heights)
    starts = np.cumsum(heights) - heights
    y = np.arange(len(patch)) - np.repeat(starts - top, heights)
    rows = np.zeros((len(patch), SIDE, 3))
    taps, weights = _taps(right - left)
    width = regions.shape[1]
    for tap in range(4):
        place = y[:, None] * width + (left[:, None] + taps[:, :, tap])[patch]
        own = (regions.ravel()[place] == units[patch, None])[..., None]
        rows += weights[patch, :, tap, None] * np.where(own, colors[place], ground[patch, None])

    patches = np.zeros((len(units), SIDE, SIDE, 3))
    taps, weights = _taps(heights)
    for tap in range(4):
        patches += weights[:, :, tap, None, None] * rows[starts[:, None] + taps[:, :, tap]]
    return np.ascontiguousarray(patches.transpose(0, 3, 1, 2), dtype=np.float32)


def check_feature_weights(weights: str | None) -> None:
    """Find out whether the weights of `feature_network` can be had.

    Raises:
        UserError: If they cannot.
    """
    if weights is not None:
        _feature_weights(weights)


def feature_weights_name(weights: str) -> str:
    """A name that differs between weights: ``imagenet``, or a digest of the file."""
    if weights == "imagenet":
        return weights
    with Path(weights).open("rb") as file:
        return file_digest(file, "blake2b").hexdigest()[:16]


def feature_network(weights: str | None = "imagenet") -> nn.Module:
    """VGG-16 up to its last ReLU, which makes one vector of a patch (section 2.3).

    Args:
        weights: ``imagenet`` for those of torchvision, downloaded once; a path to a state dict of
            torchvision's VGG-16; None for random ones.

    Returns:
        In evaluation mode; maps (n, 3, 16, 16) to (n, 512, 1, 1).

    Raises:
        UserError: If the weights cannot be had, or belong to another network.
    """
    from torchvision.models import vgg16

    layers = vgg16(weights=None).features[:-1]
    if weights is not None:
        layers.load_state_dict(_feature_weights(weights))
    return layers.eval().requires_grad_(False)


def _feature_weights(weights: str) -> dict[str, Tensor]:
    """Tensors of the convolutions by their names in `feature_network`."""
    from torchvision.models import VGG16_Weights

    try:
        if weights == "imagenet":
            require_download(VGG16_Weights.IMAGENET1K_V1.url)
            state = dict(VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=True))
        else:
            state = dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:  # a file that is not there, a network that is not, any reader's own
        raise UserError(
            f"the weights {weights!r} of VGG-16 could not be had ({type(error).__name__}: "
            f"{first_line(error)}); give method.feature_weights=PATH to a state dict of "
            f"torchvision's vgg16, or method.features=encoder, which needs none."
        ) from error
    prefix = "features."
    found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    shapes = [v.shape[:2] for k, v in found.items() if k.endswith("weight")]
    if [tuple(shape) for shape in shapes] != _VGG16:
        raise UserError(
            f"{weights} holds no VGG-16 of torchvision; give another method.feature_weights, or "
            f"method.features=encoder."
        )
    return found


def patch_features(network: nn.Module, patches: Tensor) -> Tensor:
    """Features of patches, (n, D), float32, also for a single one. Without gradient.

    Args:
        network: See `feature_network`.
        patches: (n, 3, 16, 16), float32.
    """
    with torch.no_grad():
        return network(patches).flatten(1)


def _taps(sizes: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which four pixels of a side each of the 16 results reads, and their weights.

    Args:
        sizes: Length of the side of each box, (n,).

    Returns:
        Pixels 0..size-1, (n, 16, 4), and weights, (n, 16, 4); pixel centres are aligned.
    """
    center = (np.arange(SIDE) + 0.5) * (sizes[:, None] / SIDE) - 0.5
    first = np.floor(center)
    t = center - first
    near, far = np.stack([t, 1 - t]), np.stack([1 + t, 2 - t])
    inner = ((_A + 2) * near - (_A + 3)) * near**2 + 1
    outer = ((_A * far - 5 * _A) * far + 8 * _A) * far - 4 * _A
    weights = np.stack([outer[0], inner[0], inner[1], outer[1]], axis=-1)
    taps = first.astype(np.int64)[..., None] + np.arange(-1, 3)
    return np.clip(taps, 0, sizes[:, None, None] - 1), weights
