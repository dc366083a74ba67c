"""Coarse grids over images: cells of several pixels, asked about as one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def grid_of(height: int, width: int, factor: int) -> tuple[int, int]:
    """Cells from top to bottom and from left to right; the last ones may be cut off.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        factor: Pixels along a side of a cell.

    >>> grid_of(1024, 2047, 4)
    (256, 512)
    """
    return -(-height // factor), -(-width // factor)


def shrink_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The image with one pixel per cell.

    Args:
        image: (H, W, 3), uint8, RGB.
        size: Cells from top to bottom and from left to right.

    Returns:
        (h, w, 3), uint8: bicubic, with a filter as wide as a cell.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def grid_labels(labels: NDArray[Any], factor: int) -> NDArray[Any]:
    """What a map says at the top left pixel of each cell.

    Args:
        labels: (..., H, W), any type.
        factor: Pixels along a side of a cell.

    Returns:
        (..., H / factor, W / factor), rounded up.

    >>> grid_labels(np.arange(8).reshape(2, 4), 2).tolist()
    [[0, 2]]
    """
    return labels[..., ::factor, ::factor]


def block_labels(labels: NDArray[Any], factor: int) -> NDArray[Any]:
    """A map of cells as a map of pixels, all of a cell alike.

    Args:
        labels: (h, w), any type.
        factor: Pixels along a side of a cell.

    Returns:
        (h * factor, w * factor): every label in ``factor ** 2`` pixels.

    >>> block_labels(np.array([[1, 2]]), 2).tolist()
    [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    return labels.repeat(factor, axis=0).repeat(factor, axis=1)
