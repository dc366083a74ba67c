"""Rules of EquAL's reference implementation that the library does not need or does not follow.

The golden arrays record them. Equation numbers are those of EquAL (arXiv 2008.01860) as its
reference implementation has them.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import VOID


def patch_budget(num_patches: int, fraction: float) -> int:
    """Patches that may be asked in the whole run, rounded down.

    Args:
        num_patches: Patches of the pool.
        fraction: Share of them that may be asked, 0..1.

    >>> patch_budget(367 * 5 * 5, 0.12), patch_budget(2975 * 4 * 8, 0.12)
    (1101, 11424)
    """
    return int(num_patches * fraction)


def round_size(per_round: int, budget: int, labelled: int) -> int:
    """Patches a round asks for: the last round takes what is left (F11).

    >>> round_size(5, budget=11424, labelled=11420), round_size(5, budget=10, labelled=10)
    (4, 0)
    """
    return max(0, min(per_round, budget - labelled))


def region_of_patch(patch: NDArray[np.integer[Any]], rows: int, cols: int) -> NDArray[np.int64]:
    """The region of a grid behind a number of the reference (F1); undoes `patch_of_region`.

    Args:
        patch: Patch numbers, counted column by column, any shape.
        rows: Patches from top to bottom.
        cols: Patches from left to right.

    Returns:
        Region ids, counted row by row, shape of `patch`.

    >>> region_of_patch(np.arange(6), rows=2, cols=3).tolist()
    [0, 3, 1, 4, 2, 5]
    """
    ix, iy = np.divmod(np.asarray(patch, dtype=np.int64), rows)
    return iy * cols + ix


def patch_corners(height: int, width: int, rows: int, cols: int) -> NDArray[np.int64]:
    """Top left pixel of every patch (F1).

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        rows: Patches from top to bottom.
        cols: Patches from left to right.

    Returns:
        ``y, x`` in the order of the region ids, row by row, (rows * cols, 2), int64.

    >>> patch_corners(4, 9, rows=2, cols=3).tolist()
    [[0, 0], [0, 3], [0, 6], [2, 0], [2, 3], [2, 6]]
    """
    y = np.arange(rows, dtype=np.int64) * height // rows
    x = np.arange(cols, dtype=np.int64) * width // cols
    return np.stack([np.repeat(y, cols), np.tile(x, rows)], axis=1)


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


class ReferenceIoU(NamedTuple):
    """Intersection over union, 0..1, and the counts it comes from."""

    counts: NDArray[np.int64]  #: Pixels per truth (rows) and prediction (columns), (C, C).
    counted: NDArray[np.int64]  #: The same without void's row and column, which are 0.
    per_class: NDArray[np.float64]  #: (C,), NaN for void and for classes absent on both sides.
    mean: float  #: Over the classes that are not NaN; NaN if there is none.


def reference_iou(
    guess: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    num_outputs: int,
    void: int,
) -> ReferenceIoU:
    """Intersection over union as the reference counts it (EquAL (F13), arXiv 2008.01860).

    Args:
        guess: Best of all C outputs, void's included, any shape.
        truth: Channel of the true class, or that of void, shape of `guess`.
        num_outputs: C.
        void: Channel of void.
    """
    pairs = truth.ravel().astype(np.int64) * num_outputs + guess.ravel()
    counts = np.bincount(pairs, minlength=num_outputs**2).reshape(num_outputs, num_outputs)
    counted = counts.copy()
    counted[void, :] = counted[:, void] = 0
    hit = counted.diagonal()
    union = counted.sum(axis=0) + counted.sum(axis=1) - hit
    per_class = np.where(union > 0, hit / np.maximum(union, 1), np.nan)
    known = per_class[~np.isnan(per_class)]
    return ReferenceIoU(counts, counted, per_class, float(known.mean()) if len(known) else np.nan)
