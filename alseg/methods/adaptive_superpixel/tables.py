"""The tables of one image: which superpixels merge, and what the network says of the merged ones.

`image_tables` runs on the host, in NumPy alone: also in processes that have been forked from one
that computes with torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.methods.adaptive_superpixel.merging import merge, merge_limited
from alseg.regions.geometry import adjacency, region_sizes, resample_corners
from alseg.regions.merged import merged_map

Columns = dict[str, NDArray[Any]]


class Measured(NamedTuple):
    """What an image is merged and scored by."""

    base: NDArray[np.int32]
    """Base superpixels, (H, W), -1 = none."""
    num_regions: int
    """Their number, R."""
    means: NDArray[np.float64]
    """Mean class probabilities of each, then mean uncertainty; zeros for ids without a pixel,
    (R, C + 1)."""
    uncertainty: NDArray[np.float32]
    """Of the pixels the network predicted, (h, w)."""
    top1: NDArray[np.uint8]
    """Their predicted classes, (h, w)."""
    asked: NDArray[np.int64]
    """Base superpixels that have been answered about, each once, (n,)."""


def image_tables(measured: Measured, eps: float | None, limit: float | None) -> dict[str, Columns]:
    """Tables of an image, without their column ``image``.

    Args:
        measured: See `Measured`.
        eps: Largest distance of superpixels that are merged; None merges nothing.
        limit: Share of the base superpixels after which merging stops; None for no limit.

    Returns:
        ``regions``, ``sizes`` and ``merges``, see
        `alseg.methods.adaptive_superpixel.module.Merger.predict_step`.
    """
    base, count, means, uncertainty, top1, asked = measured
    features, doubt = means[:, :-1].copy(), means[:, -1].copy()
    roots = roots_of(base, count, features, doubt, eps, limit)
    merged = merged_map(base, roots)
    return {
        "regions": class_rows(uncertainty, top1, merged, features.shape[1]),
        "sizes": size_rows(base, roots, asked),
        "merges": {"root": roots.astype(np.int32)},
    }


def roots_of(
    base: NDArray[np.int32],
    num_regions: int,
    features: NDArray[np.float64],
    uncertainty: NDArray[np.float64],
    eps: float | None,
    limit: float | None,
) -> NDArray[np.int64]:
    """Which base superpixel each base superpixel is merged into.

    Args:
        base: Base superpixels, (H, W), -1 = none.
        num_regions: Their number, R.
        features: Mean class probabilities of each, (R, C); zeros for ids without a pixel.
        uncertainty: Mean uncertainty of each, (R,).
        eps: See `image_tables`.
        limit: Likewise.

    Returns:
        (R,), int64.
    """
    if eps is None:
        return np.arange(num_regions)
    edges = adjacency(base, num_regions, by_contact=limit is not None)
    if limit is None:
        return merge(features, uncertainty, edges, eps)
    present = region_sizes(base, num_regions) > 0
    uncertainty = np.where(present, uncertainty, -1.0)  # ids without a pixel do not count: last
    return merge_limited(features, uncertainty, edges, eps, limit * int(present.sum()))


def class_rows(
    uncertainty: NDArray[np.floating[Any]],
    top1: NDArray[np.uint8],
    merged: NDArray[np.int32],
    num_classes: int,
) -> Columns:
    """Rows of a `alseg.acquisition.region_table.RegionTable` without its column ``image``.

    Args:
        uncertainty: Of the pixels the network predicted, (h, w).
        top1: Their predicted classes, below C, (h, w).
        merged: Merged superpixels, (H, W), -1 = none.
        num_classes: C.
    """
    grid = resample_corners(merged, *top1.shape).astype(np.int64)
    pairs = ((grid + 1) * num_classes + top1).ravel()  # those of no superpixel come first
    counts = np.bincount(pairs, minlength=num_classes)
    sums = np.bincount(pairs, uncertainty.ravel(), minlength=num_classes)
    seen = np.flatnonzero(counts)
    seen = seen[seen >= num_classes]
    unit, label = np.divmod(seen, num_classes)
    return {
        "unit": (unit - 1).astype(np.int32),
        "label": label.astype(np.int32),
        "uncertainty": sums[seen],
        "pixels": counts[seen].astype(np.int32),
    }


def size_rows(
    base: NDArray[np.int32],
    roots: NDArray[np.int64],
    asked: NDArray[np.int64],
) -> Columns:
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
    return {"unit": unit.astype(np.int32), "pixels": pixels[unit], "asked": again[unit]}


def joined(
    parts: Sequence[Mapping[str, Columns]], index: Sequence[int]
) -> dict[str, dict[str, Tensor]]:
    """Tables of a batch from those of its images, with a column ``image`` before the others.

    Args:
        parts: Tables of every image.
        index: Index of every image.
    """
    tables: dict[str, dict[str, Tensor]] = {}
    for name in parts[0]:
        own = [part[name] for part in parts]
        lengths = [len(next(iter(columns.values()))) for columns in own]
        columns = {"image": np.repeat(np.array(index, dtype=np.int32), lengths)}
        columns |= {key: np.concatenate([one[key] for one in own]) for key in own[0]}
        tables[name] = {key: torch.from_numpy(column) for key, column in columns.items()}
    return tables
