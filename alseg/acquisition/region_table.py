"""What a pass over the pool leaves of it: one row per region and predicted class that occurs.

Every score of every region follows from these rows, for any weights of the classes, and a region
usually holds a few classes, so they are many times fewer than regions times classes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.statistics import side_by_side, sparse_class_sums


class RegionTable(NamedTuple):
    """Uncertainty of the pool: rows sorted by (image, unit, label), each triple at most once.

    A region is absent from its image if its only row has 0 pixels, which `region_rows` never makes.
    """

    image: NDArray[np.integer]  #: Image index, (n,).
    unit: NDArray[np.integer]  #: Region id inside the image, (n,).
    label: NDArray[np.integer]  #: Predicted class, (n,).
    uncertainty: NDArray[np.floating]  #: Sum of the uncertainty of the pixels predicted so, (n,).
    pixels: NDArray[np.integer]  #: Their number, (n,).


class RegionSummary(NamedTuple):
    """One row per region of a `RegionTable`, in its order."""

    image: NDArray[np.integer]  #: Image index, (m,).
    unit: NDArray[np.integer]  #: Region id inside the image, (m,).
    label: NDArray[np.integer]  #: Most frequent predicted class, lowest among equals, (m,).
    uncertainty: NDArray[np.float64]  #: Mean over the pixels, 0 for absent regions, (m,).
    pixels: NDArray[np.int64]  #: Number of pixels, (m,).


def region_rows(
    uncertainty: Tensor,
    labels: Tensor,
    regions: Tensor,
    num_classes: int,
    num_regions: int | None = None,
) -> dict[str, Tensor]:
    """Reduce the maps of a batch to the rows of a `RegionTable`, on the device they are on.

    Args:
        uncertainty: Of each pixel, (B, H, W), float.
        labels: Predicted class of each pixel, (B, H, W), integer.
        regions: Region id of each pixel, (B, H, W), integer; pixels of no region, -1, get no row.
        num_classes: C.
        num_regions: No image has an id so high; None = look, for which the host waits for a GPU.

    Returns:
        The columns of a `RegionTable` with ``image`` = position in the batch.

    >>> import torch
    >>> u, y, r = torch.tensor([[[0.5, 0.25, 1.0]], [[2, 2, 0]], [[0, 0, 7]]]).unsqueeze(1)
    >>> {name: column.tolist() for name, column in region_rows(u, y, r.long(), 3).items()}
    {'image': [0, 0], 'unit': [0, 7], 'label': [2, 0], 'uncertainty': [0.75, 1.0], 'pixels': [2, 1]}
    """
    joined, stride = side_by_side(regions, num_regions)
    group, label, total, pixels = sparse_class_sums(
        uncertainty, labels, joined, num_classes, len(regions) * stride
    )
    return {
        "image": group // stride,
        "unit": group % stride,
        "label": label,
        "uncertainty": total,
        "pixels": pixels,
    }


def rows_of_sums(sums: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    """The same rows from what has been summed already.

    Args:
        sums: Uncertainty of the pixels of each class in each region, (B, R, C), float64.
        pixels: Their number, (B, R, C), int64.

    Returns:
        As `region_rows`.
    """
    image, unit, label = pixels.nonzero(as_tuple=True)
    place = image, unit, label
    return {
        "image": image,
        "unit": unit,
        "label": label,
        "uncertainty": sums[place],
        "pixels": pixels[place],
    }


def summarize(table: RegionTable, weights: NDArray[np.floating] | None = None) -> RegionSummary:
    """Mean uncertainty, most frequent class and size of each region.

    Args:
        table: Uncertainty of the pool.
        weights: What the uncertainty of pixels predicted as each class is multiplied by, (C,);
            None for 1.

    Returns:
        One row per region.

    >>> columns = [[0, 0], [3, 3], [1, 2], [1.0, 0.5], [1, 2]]
    >>> summary = summarize(RegionTable(*map(np.array, columns)))
    >>> [column.tolist() for column in summary]
    [[0], [3], [2], [0.5], [3]]
    """
    starts = _starts(table)
    pixels = np.add.reduceat(table.pixels, starts, dtype=np.int64)
    sums = table.uncertainty
    if weights is not None:
        sums = np.asarray(weights)[table.label] * sums
    mean = np.add.reduceat(sums, starts, dtype=np.float64) / np.maximum(pixels, 1)
    return RegionSummary(
        table.image[starts], table.unit[starts], _dominant(table, starts), mean, pixels
    )


def _starts(table: RegionTable) -> NDArray[np.int64]:
    """First row of each region."""
    new = np.ones(len(table.image), dtype=bool)
    new[1:] = (np.diff(table.image) != 0) | (np.diff(table.unit) != 0)
    return np.flatnonzero(new)


def _dominant(table: RegionTable, starts: NDArray[np.int64]) -> NDArray[np.integer]:
    """Most frequent predicted class of each region; ties go to the lowest."""
    region = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(table.pixels)))
    largest = np.maximum.reduceat(table.pixels, starts)
    ties = np.flatnonzero(table.pixels == largest[region])
    first = np.diff(region[ties], prepend=-1) != 0
    return table.label[ties[first]]
