"""Superpixels as small images, of which a network of ImageNet makes the features to cluster.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alseg.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from alseg.regions.geometry import bounding_boxes, pixels_of

#: Height and width of a patch, in pixels.
SIDE = 16

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

    # One row of all boxes after the other: (rows, 16, 3) after the pass along x.
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


def feature_network(weights: str | None = "IMAGENET1K_V1") -> nn.Module:
    """VGG-16 up to its last ReLU, which makes one vector of a patch (section 2.3).

    Args:
        weights: Name of the weights of torchvision, downloaded once; None for random ones.

    Returns:
        In evaluation mode; maps (n, 3, 16, 16) to (n, 512, 1, 1).
    """
    from torchvision.models import vgg16

    return vgg16(weights=weights).features[:-1].eval()


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
