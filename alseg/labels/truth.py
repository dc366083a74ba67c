"""What ground truth says of units: what a simulated oracle answers and what experiments score."""

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.regions.geometry import interior


def class_sets(
    regions: NDArray[np.integer],
    truth: NDArray[np.uint8],
    num_classes: int,
    num_regions: int,
    trim: int = 0,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which classes each region contains; no minimum area.

    With `trim`, pixels near a border between regions do not count, unless the region has no others
    (mulquery 2.2: ``trim=5`` leaves out the three pixels on either side of a border).

    Args:
        regions: Region id of each pixel, (H, W), ids below ``num_regions``, -1 = none.
        truth: Ground truth, (H, W), class ids or `VOID`.
        num_classes: C.
        num_regions: R; ids may have holes.
        trim: Side of the square, in pixels, by which borders are widened; 0 keeps every pixel.

    Returns:
        The sets, (R, C + 1), bool, last column void, and the number of pixels each was read from,
        (R,), int64, -1 for ids without a pixel in the map.

    Raises:
        UserError: `truth` holds an id that is neither a class nor `VOID`.

    >>> regions, truth = np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 255]], dtype=np.uint8)
    >>> members, sizes = class_sets(regions, truth, num_classes=2, num_regions=3)
    >>> members.astype(int).tolist(), sizes.tolist()
    ([[1, 1, 0], [0, 1, 1], [0, 0, 0]], [2, 2, -1])
    """
    column = _columns(truth, num_classes)
    ids, pixels = _ids(regions, num_regions)
    used, sizes = np.ones(ids.shape, dtype=bool), pixels
    if trim:
        used = interior(ids, trim)
        trimmed = np.bincount(ids[used], minlength=num_regions + 1)
        vanished = trimmed == 0
        used |= vanished[ids]
        sizes = np.where(vanished, pixels, trimmed)
    members = np.zeros((num_regions + 1, num_classes + 1), dtype=bool)
    members[ids[used], column[used]] = True
    return members[:-1], np.where(pixels > 0, sizes, -1)[:-1]


def dominant_labels(
    regions: NDArray[np.integer],
    truth: NDArray[np.uint8],
    num_classes: int,
    num_regions: int,
    vote_void: bool,
) -> NDArray[np.uint8]:
    """The most frequent label of each region; ties go to the lowest id.

    Args:
        regions: Region id of each pixel, (H, W), ids below ``num_regions``, -1 = none.
        truth: Ground truth, (H, W), class ids or `VOID`.
        num_classes: C.
        num_regions: R; ids may have holes.
        vote_void: Void pixels vote for `VOID`, the highest id; else they do not vote.

    Returns:
        (R,), uint8; `VOID` also for ids without a pixel and for regions where nothing voted.

    Raises:
        UserError: `truth` holds an id that is neither a class nor `VOID`.

    >>> regions, truth = np.array([[0, 0, 0, 1, 1]]), np.array([[255, 255, 1, 1, 0]], np.uint8)
    >>> dominant_labels(regions, truth, 2, 3, vote_void=True).tolist()
    [255, 0, 255]
    >>> dominant_labels(regions, truth, 2, 3, vote_void=False).tolist()
    [1, 0, 255]
    """
    column = _columns(truth, num_classes)
    ids, _ = _ids(regions, num_regions)
    width = num_classes + 1
    votes = np.bincount((ids * width + column).ravel(), minlength=(num_regions + 1) * width)
    votes = votes.reshape(-1, width)[:-1]
    if not vote_void:
        votes[:, num_classes] = 0
    winner = votes.argmax(axis=1)
    void = (votes.sum(axis=1) == 0) | (winner == num_classes)
    return np.where(void, VOID, winner).astype(np.uint8)


def _columns(truth: NDArray[np.uint8], num_classes: int) -> NDArray[np.uint8]:
    """Column of each pixel's label in a class set: the class, or C for void."""
    column = np.minimum(truth, np.uint8(num_classes))
    stray = (column == num_classes) & (truth != VOID)
    if stray.any():
        raise UserError(
            f"the ground truth holds class id {truth[stray].min()}, but the task has "
            f"{num_classes} classes (ids 0..{num_classes - 1}, {VOID} = void); "
            f"map the labels or raise the number of classes."
        )
    return column


def _ids(
    regions: NDArray[np.integer], num_regions: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The map with R in place of -1, and the pixels per id, (R + 1,)."""
    if regions.size and not -1 <= regions.min() <= regions.max() < num_regions:
        raise ValueError(
            f"region ids {regions.min()}..{regions.max()} are not in -1..{num_regions - 1}"
        )
    ids = np.where(regions < 0, num_regions, regions).astype(np.int64)
    return ids, np.bincount(ids.ravel(), minlength=num_regions + 1)
