"""The central square of an image whose shorter side is resized to it."""

from typing import NamedTuple


class CentreSquare(NamedTuple):
    """How an image is resized, and where the square lies in what comes out."""

    size: tuple[int, int]
    """Height and width of the resized image; the shorter one is that of the square."""
    top: int
    left: int


def centre_square(height: int, width: int, side: int) -> CentreSquare:
    """The central square, as torchvision's ``Resize(side)`` and ``CenterCrop(side)`` cut it.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        side: Of the square, in pixels.

    >>> centre_square(375, 500, 513)
    CentreSquare(size=(513, 684), top=0, left=86)
    """
    short, long = min(height, width), max(height, width)
    longer = int(side * long / short)
    size = (side, longer) if height <= width else (longer, side)
    top, left = (round((length - side) / 2) for length in size)
    return CentreSquare(size, top, left)
