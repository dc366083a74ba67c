"""Masks of DeepGlobe Land Cover as the released code reads them, for comparison only."""

import numpy as np
from numpy.typing import NDArray

from alseg.data.deepglobe import COLORS


def released_deepglobe_labels(
    mask: NDArray[np.uint8], size: tuple[int, int] | None = None, *, rgb: bool = False
) -> NDArray[np.uint8]:
    """Labels as the released code of ALS4GAN makes them, for comparison with its numbers only.

    It looks for colours in RGB among pixels in BGR, knows the first five of them, gives everything
    else class 0, and resizes colours by cubic interpolation. In the end urban is class 1;
    rangeland and forest are 2 and 3; agriculture, water, barren, unknown and all blended edges are
    0; and classes 4 and 5 never occur. What `alseg.data.deepglobe` reads is right for all six.

    Args:
        mask: (H, W, 3), uint8, RGB.
        size: Height and width of the result; None keeps the mask's.
        rgb: Look among pixels in RGB, which the code might have meant.

    Returns:
        (h, w), uint8, 0..4, without void.
    """
    pixels = np.ascontiguousarray(mask if rgb else mask[..., ::-1])
    if size is not None:
        import cv2

        pixels = np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
    labels = np.zeros(pixels.shape[:2], dtype=np.uint8)
    for label, color in enumerate(list(COLORS.values())[:5]):
        labels[(pixels == color).all(axis=-1)] = label
    return labels
