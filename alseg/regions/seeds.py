"""SEEDS superpixels as functions of arrays: colours, histogram bins, the grid of cells."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class CellGrid(NamedTuple):
    """The cells SEEDS starts from; there are ``rows * cols`` superpixels.

    Attributes:
        rows: Cells from top to bottom.
        cols: Cells from left to right.
        height: Of a cell, in pixels. Cells of the last row also take what is left below them.
        width: Of a cell, in pixels. Cells of the last column also take what is left beside them.
        levels: Levels of the block hierarchy, as many as asked or fewer.
    """

    rows: int
    cols: int
    height: int
    width: int
    levels: int


def cell_grid(height: int, width: int, request: int, num_levels: int) -> CellGrid | None:
    """The grid OpenCV makes when asked for a number of superpixels.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        request: Superpixels asked for; OpenCV takes fewer than 10 as 10.
        num_levels: Levels of the block hierarchy asked for.

    Returns:
        The grid, or None where OpenCV would fail: cells would be smaller than two pixels or larger
        than the image (which ends, without a check, in a crash or an endless loop).

    >>> cell_grid(360, 480, 675, num_levels=5)
    CellGrid(rows=11, cols=15, height=32, width=32, levels=5)
    """
    rows = int(math.sqrt(max(request, 10) * height / width))
    cols = rows * width // height
    if rows < 1 or cols < 1:
        return None
    levels = num_levels
    while levels > 1 and min(width / cols, height / rows) / 2 ** (levels - 1) < 1:
        levels -= 1
    step = 2 ** (levels - 1)
    cell_height = math.ceil(height / rows / step) * step
    cell_width = math.ceil(width / cols / step) * step
    rows, cols = height // cell_height, width // cell_width
    if levels < 2 or rows < 1 or cols < 1:
        return None
    return CellGrid(rows, cols, cell_height, cell_width, levels)


def nearest_request(height: int, width: int, aim: int, num_levels: int) -> int:
    """The smallest request for which SEEDS gives, as a ratio, the count nearest to an aim.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        aim: Superpixels wanted.
        num_levels: Levels of the block hierarchy asked for.

    Returns:
        Superpixels to ask for; the aim itself where nothing OpenCV can be asked for works.

    >>> nearest_request(360, 480, 675, num_levels=5)
    706
    """
    best, distance = aim, math.inf
    # cells shrink by less than half from aim to result in each direction, so 4 aim is far enough
    most = math.isqrt(max(4 * aim, 10) * height // width) + 1
    for rows in range(1, most + 1):
        request = max(10, -(-(rows**2) * width // height))  # the fewest that give so many rows
        grid = cell_grid(height, width, request, num_levels)
        if grid is None:
            continue
        off = abs(math.log(grid.rows * grid.cols / aim))
        if off < distance:
            best, distance = request, off
    return best


def equalized(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Equalise the histogram of all channels together.

    Args:
        image: (H, W, C), uint8.

    Returns:
        (H, W, C), float32: the share of all values, whatever their channel, that are not larger.

    >>> equalized(np.array([[[9, 0]], [[9, 7]]], dtype=np.uint8)).tolist()
    [[[1.0, 0.25]], [[1.0, 0.5]]]
    """
    counts = np.bincount(image.ravel(), minlength=256)
    return (np.cumsum(counts) / image.size).astype(np.float32)[image]


def equalized_hsv(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Equalise the histogram of all channels together and convert to HSV.

    Args:
        image: (H, W, 3), uint8, RGB.

    Returns:
        (H, W, 3), float32: hue in degrees, 0..360; saturation and value in 0..1.
    """
    import cv2

    return np.asarray(cv2.cvtColor(equalized(image), cv2.COLOR_RGB2HSV), dtype=np.float32)


def joint_bins(image: NDArray[np.float32], num_bins: int) -> tuple[NDArray[np.int32], int]:
    """Put colours into the bins of a joint histogram and leave out the empty bins.

    Args:
        image: (H, W, C), float32, C channels in 0..1; what lies above counts as 1.
        num_bins: Bins per channel.

    Returns:
        The bin of each pixel, (H, W), int32, 0..B-1, and B. Bins keep their order.

    >>> joint_bins(np.array([[[0.0, 0.9], [0.0, 0.1], [360.0, 0.9]]], dtype=np.float32), 10)
    (array([[1, 0, 2]], dtype=int32), 3)
    """
    bins = np.zeros(image.shape[:2], dtype=np.int64)
    for channel in range(image.shape[2]):
        level = (image[..., channel] * np.float32(num_bins)).astype(np.int32)
        bins = bins * num_bins + np.minimum(level, num_bins - 1)
    used = np.bincount(bins.ravel(), minlength=num_bins ** image.shape[2]) > 0
    rank = (np.cumsum(used) - 1).astype(np.int32)
    return rank[bins], int(used.sum())


def seeds(
    bins: NDArray[np.int32],
    num_bins: int,
    request: int,
    *,
    num_levels: int,
    prior: int,
    double_step: bool,
    iterations: int,
) -> NDArray[np.int32]:
    """SEEDS on colours that are already in histogram bins.

    Args:
        bins: Histogram bin of each pixel, (H, W), int32, 0..B-1.
        num_bins: B.
        request: Superpixels to ask OpenCV for.
        num_levels: Levels of the block hierarchy.
        prior: Smoothing of borders, 0..5.
        double_step: Run every step twice.
        iterations: Iterations on single pixels at the end.

    Returns:
        Superpixel of each pixel, (H, W), int32; ids may have holes.

    Raises:
        ValueError: If OpenCV cannot make a grid for this request, see `cell_grid`.
    """
    import cv2

    height, width = bins.shape
    if cell_grid(height, width, request, num_levels) is None:
        raise ValueError(f"no SEEDS grid for {height} x {width} pixels and request {request}")
    # one channel whose histogram has B bins: OpenCV finds bin b again as int(value * B)
    num_bins = max(num_bins, 2)
    value = ((bins + 0.5) / num_bins).astype(np.float32)
    method = cv2.ximgproc.createSuperpixelSEEDS(
        width, height, 1, request, num_levels, prior, num_bins, double_step
    )
    method.iterate(value, iterations)
    return np.asarray(method.getLabels(), dtype=np.int32)
