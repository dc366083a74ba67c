"""What is trained on: the ground truth inside the labelled patches, void elsewhere.

Equation numbers are those of EquAL (arXiv 2008.01860) as its reference implementation has them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import VOID


def patch_target(
    truth: NDArray[np.uint8], corners: NDArray[np.integer[Any]], rows: int, cols: int
) -> NDArray[np.uint8]:
    """Labels inside some patches, `VOID` elsewhere (F12).

    Args:
        truth: Labels at the size trained at, (H, W), class ids or `VOID`.
        corners: Top left pixels ``y, x`` of the labelled patches, (K, 2).
        rows: Patches from top to bottom; a patch is ``H // rows`` pixels high.
        cols: Patches from left to right; a patch is ``W // cols`` pixels wide.

    Returns:
        (H, W), uint8.

    >>> truth = np.arange(8, dtype=np.uint8).reshape(2, 4)
    >>> patch_target(truth, np.array([[0, 2]]), rows=1, cols=2).tolist()
    [[255, 255, 2, 3], [255, 255, 6, 7]]
    """
    height, width = truth.shape
    y = corners[:, :1] + np.arange(height // rows)
    x = corners[:, 1:] + np.arange(width // cols)
    target = np.full_like(truth, VOID)
    inside = y[:, :, None], x[:, None, :]
    target[inside] = truth[inside]
    return target


def rescaled_corners(
    corners: NDArray[np.integer[Any]], size: tuple[int, int], larger: tuple[int, int]
) -> NDArray[np.int64]:
    """Corners of patches in a larger version of their image, for the final training (F12).

    Args:
        corners: Top left pixels ``y, x`` at the first size, (K, 2).
        size: Height and width during active learning.
        larger: Height and width in the final training.

    Returns:
        (K, 2), int64.

    Raises:
        UserError: If the larger size is no whole multiple of the first: the reference rounds the
            ratio down, which puts patches in the wrong place.

    >>> rescaled_corners(np.array([[64, 128]]), (256, 512), (512, 1024)).tolist()
    [[128, 256]]
    """
    if any(new % old for new, old in zip(larger, size, strict=True)):
        raise UserError(
            f"patches chosen at {size[0]} x {size[1]} pixels cannot be found again at "
            f"{larger[0]} x {larger[1]}; train at a whole multiple of the size they were chosen at."
        )
    return corners.astype(np.int64) * (np.array(larger) // np.array(size))
