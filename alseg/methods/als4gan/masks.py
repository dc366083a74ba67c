"""Masks of DeepGlobe Land Cover, whose colours stand for classes."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.data.files import resize_nearest
from alseg.data.masks import Color, MaskReader, read_masks_by_color

#: Colour of each class, RGB, in the order of their ids. Everything else, black for unknown
#: included, has no class.
DEEPGLOBE: dict[str, Color] = {
    "urban": (0, 255, 255),
    "agriculture": (255, 255, 0),
    "rangeland": (255, 0, 255),
    "forest": (0, 255, 0),
    "water": (0, 0, 255),
    "barren": (255, 255, 255),
}


def deepglobe_reader() -> MaskReader:
    """How the masks are to be read: six classes, anything else void."""
    return read_masks_by_color(DEEPGLOBE, others_void=True)


def deepglobe_labels(
    mask: NDArray[np.uint8], size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Labels of a mask: ids of `DEEPGLOBE`, `alseg.images.VOID` elsewhere.

    Args:
        mask: (H, W, 3), uint8, RGB.
        size: Height and width of the result, by nearest neighbours; None keeps the mask's.

    Returns:
        (h, w), uint8.

    >>> deepglobe_labels(np.array([[[255, 255, 255], [0, 0, 0]]], np.uint8)).tolist()
    [[5, 255]]
    """
    reader = deepglobe_reader()
    labels = reader.labels(reader.codes(Image.fromarray(mask))).astype(np.uint8)
    return labels if size is None else resize_nearest(labels, *size)


def released_deepglobe_labels(
    mask: NDArray[np.uint8], size: tuple[int, int] | None = None, *, rgb: bool = False
) -> NDArray[np.uint8]:
    """Labels as the released code of ALS4GAN makes them, for comparison with its numbers only.

    It looks for colours in RGB among pixels in BGR, knows the first five of them, gives everything
    else class 0, and resizes colours by cubic interpolation. In the end urban is class 1;
    rangeland and forest are 2 and 3; agriculture, water, barren, unknown and all blended edges are
    0; and classes 4 and 5 never occur.

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
    for label, color in enumerate(list(DEEPGLOBE.values())[:5]):
        labels[(pixels == color).all(axis=-1)] = label
    return labels
