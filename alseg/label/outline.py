"""The outline of a set of pixels, as closed loops along their edges."""

import numpy as np
from numpy.typing import NDArray


def outline(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Closed loops along the edges of pixels, between those inside and those outside.

    Filled by the even-odd rule, the loops give the mask back. A loop goes clockwise around pixels
    and counter-clockwise around holes, with a point at every corner only.

    Args:
        mask: (H, W).

    Returns:
        Per loop the corners ``x, y`` in pixels, x in 0..W, y in 0..H, (n, 2); the first corner is
        not repeated.

    >>> [loop.tolist() for loop in outline(np.array([[True, True]]))]
    [[[0, 0], [2, 0], [2, 1], [0, 1]]]
    """
    inside = np.pad(mask, 1)
    here = inside[1:-1, 1:-1]
    step: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # edges with the inside on their right: along the top, the right, the bottom and the left
    sides = (
        (inside[:-2, 1:-1], (0, 0), (1, 0)),
        (inside[1:-1, 2:], (1, 0), (1, 1)),
        (inside[2:, 1:-1], (1, 1), (0, 1)),
        (inside[1:-1, :-2], (0, 1), (0, 0)),
    )
    for neighbour, (x0, y0), (x1, y1) in sides:
        ys, xs = np.nonzero(here & ~neighbour)
        for y, x in zip(ys.tolist(), xs.tolist(), strict=True):
            step.setdefault((x + x0, y + y0), []).append((x + x1, y + y1))
    loops = []
    while step:
        start = next(iter(step))
        loop, point = [start], start
        while True:
            ways = step[point]
            following = ways.pop()
            if not ways:
                del step[point]
            point = following
            if point == start:
                break
            loop.append(point)
        loops.append(_corners(np.array(loop, dtype=np.int64)))
    return loops


def _corners(loop: NDArray[np.int64]) -> NDArray[np.int64]:
    """The points of a loop at which it turns."""
    before, after = loop - np.roll(loop, 1, axis=0), np.roll(loop, -1, axis=0) - loop
    return loop[(before != after).any(axis=1)]
