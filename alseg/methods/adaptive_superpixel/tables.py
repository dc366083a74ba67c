"""The tables of one image: which superpixels merge, and what the network says of the merged ones.

Everything here runs on the host, in plain arrays.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.statistics import class_sums
from alseg.methods.adaptive_superpixel.merging import merge, merge_limited
from alseg.regions.geometry import adjacency, region_sizes, resample_corners


class MergeJob(NamedTuple):
    """What decides which superpixels of an image merge."""

    base: NDArray[np.int32]
    """Base superpixels, (H, W), -1 = none."""
    num_regions: int
    """Their number, R."""
    features: NDArray[np.float64]
    """Mean class probabilities of each, (R, C); zeros for ids without a pixel."""
    uncertainty: NDArray[np.float64]
    """Mean uncertainty of each, (R,)."""
    eps: float | None
    """Largest distance of superpixels that are merged; None merges nothing."""
    limit: float | None
    """Share of the base superpixels after which merging stops; None for no limit."""


def roots_of(job: MergeJob) -> NDArray[np.int64]:
    """Which base superpixel each base superpixel of an image is merged into, (R,), int64."""
    base, count, features, uncertainty, eps, limit = job
    if eps is None:
        return np.arange(count)
    edges = adjacency(base, count, by_contact=limit is not None)
    if limit is None:
        return merge(features, uncertainty, edges, eps)
    present = region_sizes(base, count) > 0
    uncertainty = np.where(present, uncertainty, -1.0)  # ids without a pixel do not count: last
    return merge_limited(features, uncertainty, edges, eps, limit * int(present.sum()))


def class_rows(
    uncertainty: Tensor, top1: Tensor, merged: NDArray[np.int32], num_classes: int
) -> dict[str, Tensor]:
    """Rows of a `alseg.acquisition.region_table.RegionTable` without its column ``image``.

    Args:
        uncertainty: Of the pixels the network predicted, (h, w), on the CPU.
        top1: Their predicted classes, (h, w).
        merged: Merged superpixels, (H, W), -1 = none.
        num_classes: C.
    """
    grid = torch.from_numpy(resample_corners(merged, *top1.shape))
    count = int(merged.max(initial=-1)) + 1
    both = class_sums(uncertainty, top1, grid, num_classes, count)
    sums, pixels = (part.numpy() for part in both)
    unit, label = np.nonzero(pixels)
    columns = {
        "unit": unit.astype(np.int32),
        "label": label.astype(np.int32),
        "uncertainty": sums[unit, label],
        "pixels": pixels[unit, label].astype(np.int32),
    }
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def size_rows(
    base: NDArray[np.int32],
    roots: NDArray[np.int64],
    asked: NDArray[np.int64],
) -> dict[str, Tensor]:
    """Pixels of the merged superpixels of an image, and how many of them were answered about.

    Args:
        base: Base superpixels, (H, W), -1 = none.
        roots: See `roots_of`, (R,).
        asked: Base superpixels that have been answered about, each once.

    Returns:
        Columns ``unit``, ``pixels`` and ``asked``, (n,), int32, by ascending unit.
    """
    count = len(roots)
    own = region_sizes(base, count)
    before = np.zeros(count, dtype=np.int64)
    before[asked] = own[asked]
    # sums of whole numbers below 2**53: exact
    pixels, again = (np.bincount(roots, part, count).astype(np.int32) for part in (own, before))
    unit = np.flatnonzero(pixels)
    columns = {"unit": unit.astype(np.int32), "pixels": pixels[unit], "asked": again[unit]}
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def joined(
    parts: Sequence[Mapping[str, Mapping[str, Tensor]]], index: Sequence[int]
) -> dict[str, dict[str, Tensor]]:
    """Tables of a batch from those of its images, with a column ``image`` before the others.

    Args:
        parts: Tables of every image.
        index: Index of every image.
    """
    tables: dict[str, dict[str, Any]] = {}
    for name in parts[0]:
        own = [part[name] for part in parts]
        lengths = [len(next(iter(columns.values()))) for columns in own]
        image = torch.tensor(index, dtype=torch.int32).repeat_interleave(torch.tensor(lengths))
        tables[name] = {"image": image}
        tables[name] |= {key: torch.cat([columns[key] for columns in own]) for key in own[0]}
    return tables
