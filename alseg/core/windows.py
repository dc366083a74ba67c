"""Where windows over a big image lie."""

import math
from itertools import pairwise


def window_starts(length: int, window: int, overlap: float = 0.0) -> list[int]:
    """Where windows begin along one axis so that they cover it.

    Neighbours are ``window * (1 - overlap)`` apart; the last one ends at the border.

    Args:
        length: Pixels of the axis.
        window: Pixels of a window; a window longer than the axis is as long as the axis.
        overlap: Share of a window that its neighbour covers too, 0 to below 1.

    >>> window_starts(10, 4, 0.25), window_starts(500, 160), window_starts(3, 4, 0.5)
    ([0, 3, 6], [0, 160, 320, 340], [0])
    """
    stride = max(1, round(window * (1 - overlap)))
    last = max(0, length - window)
    return [min(number * stride, last) for number in range(math.ceil(last / stride) + 1)]


def window_parts(starts: list[int], window: int, length: int) -> list[tuple[int, int]]:
    """The part of each window that belongs to it alone: together they are the axis, once.

    A window reaches to the middle of what it shares with its neighbour, rounded down.

    Args:
        starts: Where windows begin, increasing, such that they cover the axis.
        window: Pixels of a window.
        length: Pixels of the axis.

    Returns:
        First pixel and the one behind the last of each window's part.

    >>> window_parts([0, 160, 320, 340], 160, 500)
    [(0, 160), (160, 320), (320, 410), (410, 500)]
    """
    between = [(left + window + right) // 2 for left, right in pairwise(starts)]
    return list(zip([0, *between], [*between, length], strict=True))
