"""Where the patches of a grid lie, and the order the reference numbers them in.

alseg numbers the patches of a grid row by row, ``r = iy * cols + ix``; the reference numbers them
column by column, ``p = ix * rows + iy`` (EquAL (F1), arXiv 2008.01860). The order matters because
it decides between equal scores.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError


def patch_of_region(region: NDArray[np.integer[Any]], rows: int, cols: int) -> NDArray[np.int64]:
    """The reference's number of a region of a grid (F1).

    Args:
        region: Region ids, counted row by row, any shape.
        rows: Patches from top to bottom.
        cols: Patches from left to right.

    Returns:
        Patch numbers, counted column by column, shape of `region`.

    >>> patch_of_region(np.arange(6), rows=2, cols=3).tolist()
    [0, 2, 4, 1, 3, 5]
    """
    iy, ix = np.divmod(np.asarray(region, dtype=np.int64), cols)
    return ix * rows + iy


def patch_grid(regions: NDArray[np.integer[Any]]) -> tuple[int, int]:
    """Rows and columns of a map of equal patches, numbered row by row.

    Args:
        regions: Region ids, (H, W).

    Raises:
        UserError: If the regions are no equal rectangles in rows and columns.

    >>> patch_grid(np.array([[0, 0, 1, 1], [2, 2, 3, 3]]))
    (2, 2)
    """
    height, width = regions.shape
    rows, cols = len(np.unique(regions[:, 0])), len(np.unique(regions[0]))
    if height % rows or width % cols:
        raise UserError(
            f"images of {height} x {width} pixels cannot be cut into {rows} x {cols} equal "
            f"patches; give regions.rows and regions.cols that divide them, such as "
            f"{_nearest_divisor(height, rows)} and {_nearest_divisor(width, cols)}."
        )
    y, x = np.mgrid[:rows, :cols].repeat(height // rows, 1).repeat(width // cols, 2)
    if not np.array_equal(regions, y * cols + x):
        raise UserError(
            f"the regions of an image of {height} x {width} pixels are no grid of equal patches; "
            f"give regions=grid with regions.rows and regions.cols that divide the image."
        )
    return rows, cols


def _nearest_divisor(length: int, parts: int) -> int:
    divisors = [d for d in range(1, length + 1) if length % d == 0]
    return min(divisors, key=lambda d: abs(d - parts))
