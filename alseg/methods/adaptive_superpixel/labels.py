"""From answers about regions to the label map one trains on (F14 of arXiv 2303.16817)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID
from alseg.regions.geometry import RegionPixels


def paint(
    labels: NDArray[np.uint8],
    pixels: RegionPixels,
    answers: NDArray[np.integer[Any]],
    kept: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Paint the answers of one round over what earlier rounds have painted.

    Rounds have maps of their own, so regions of different rounds overlap and the last word counts;
    pixels that are sieved out, and regions that were called void, keep the earlier label.

    Args:
        labels: Label map so far, (H, W); all `VOID` before the first round.
        pixels: Pixels of the K asked regions, see `alseg.regions.geometry.pixels_in`.
        answers: Their dominant classes or `VOID`, (K,).
        kept: Pixels that are not sieved out, in the order of ``pixels.order``, (n,); None for all.

    Returns:
        The new map, (H, W).

    >>> pixels = RegionPixels(np.array([0, 2, 3]), np.array([0, 2, 3]))
    >>> paint(np.full((1, 4), 9, np.uint8), pixels, np.array([1, VOID]), np.array([True] * 3))
    array([[1, 9, 1, 9]], dtype=uint8)
    """
    said = np.repeat(np.asarray(answers).astype(np.uint8), np.diff(pixels.offsets))
    painted = said != VOID
    if kept is not None:
        painted &= kept
    result = labels.copy()
    result.reshape(-1)[pixels.order[painted]] = said[painted]
    return result
