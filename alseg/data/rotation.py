"""Images and maps turned about their centre, with mirrored borders."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def random_degrees(most: int, seed: int) -> int:
    """A whole number of degrees between ``-most`` and ``most``, each as likely.

    Args:
        most: At least 0.
        seed: Decides it, apart from everything else that follows from this seed.
    """
    return int(np.random.default_rng((seed, most)).integers(-most, most + 1))


def rotated(
    image: NDArray[np.uint8], maps: Mapping[str, NDArray[Any]], degrees: float
) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]:
    """Turn an image and its maps, against the clock; what comes in from outside is mirrored.

    Args:
        image: (H, W, C), uint8, interpolated bilinearly.
        maps: (H, W) each, of which every pixel takes the nearest one.
        degrees: Of the turn, about the centre of the image.

    Returns:
        Both, in the sizes and types they had.

    >>> picture = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
    >>> rotated(picture, {"map": picture[..., 0]}, 90)[1]["map"].tolist()
    [[1, 3], [0, 2]]
    """
    import cv2

    height, width = image.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, degrees, 1.0)

    def warp(values: NDArray[Any], flag: int) -> NDArray[Any]:
        return cv2.warpAffine(
            values, matrix, (width, height), flags=flag, borderMode=cv2.BORDER_REFLECT
        )

    turned = warp(image, cv2.INTER_LINEAR).reshape(image.shape)
    if not maps:
        return turned, {}
    # rows and columns are turned in place of the maps: OpenCV takes no integers of 32 or 64 bits
    places = np.indices((height, width), dtype=np.float32)
    rows, columns = (warp(axis, cv2.INTER_NEAREST).astype(np.int64) for axis in places)
    return turned, {name: np.asarray(values)[rows, columns] for name, values in maps.items()}
