"""Statistics of regions: what a score map and a label map say about each unit.

A region map holds ids ``0..R-1`` in any integer type; ``-1`` marks pixels of no region, which
count nowhere. Maps may have any shape as long as all maps of a call share it. Sums run in float64
and, on a CPU, always in the same order, so that equal inputs give equal bits. On a GPU ids out of
range stop the program from the device: the host does not wait for a look at them.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Values of several maps that are summed together.
_TOGETHER = 2**22


class ClassSums(NamedTuple):
    """One row per (region, label) pair that occurs, sorted by region, then label."""

    region: Tensor
    """Region id, (n,), int64."""
    label: Tensor
    """Class id, (n,), int64."""
    value_sum: Tensor
    """Sum of the values of the pair's pixels, (n,), float64."""
    pixels: Tensor
    """Number of the pair's pixels, (n,), int64."""


def region_counts(regions: Tensor, num_regions: int) -> Tensor:
    """Pixels per region.

    Args:
        regions: Region ids or -1, any shape, integer.
        num_regions: R.

    Returns:
        (R,), int64.

    Raises:
        ValueError: If an id is below -1 or not below `num_regions`.

    >>> region_counts(torch.tensor([[0, 0, 2], [0, -1, 2]]), 3).tolist()
    [3, 0, 2]
    """
    return _counts(_bins(regions, num_regions), num_regions + 1)[1:]


def side_by_side(regions: Tensor, num_regions: int | None = None) -> tuple[Tensor, int]:
    """The region maps of a batch as one map, in which ids do not repeat.

    Args:
        regions: Region ids or -1, (B, H, W), integer.
        num_regions: No image has an id so high; None = look, for which the host waits for a GPU.

    Returns:
        Ids ``b * stride + id`` or -1, (B, H, W), and the stride.

    Raises:
        ValueError: If an id is below -1 or not below `num_regions`.

    >>> ids, stride = side_by_side(torch.tensor([[[0, 1]], [[-1, 1]]]))
    >>> ids.tolist(), stride
    ([[[0, 1]], [[-1, 3]]], 2)
    """
    stride = num_regions
    if stride is None:
        stride = int(regions.max()) + 1 if regions.numel() else 0
    stride = max(stride, 1)
    if len(regions) == 1:
        return regions, stride
    _check_ids(regions, stride)  # it would be one of the next image
    first = torch.arange(len(regions), device=regions.device)[:, None, None] * stride
    return torch.where(regions < 0, -1, first + regions), stride


def region_sums(values: Tensor, regions: Tensor, num_regions: int) -> Tensor:
    """Sum of a map over each region.

    Args:
        values: One number per pixel, shape of `regions`.
        regions: Region ids or -1, any shape, integer.
        num_regions: R.

    Returns:
        (R,), float64.

    Raises:
        ValueError: If the shapes differ, an id is below -1 or not below `num_regions`.

    >>> region_sums(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1, 1, -1]), 2).tolist()
    [0.0, 3.0]
    """
    _check_shapes(values, regions)
    return _sums(values, _bins(regions, num_regions), num_regions + 1)[1:]


def region_vectors(maps: Tensor, regions: Tensor, num_regions: int) -> Tensor:
    """Mean of several maps over each region, also of maps on a coarser grid; 0 without a pixel.

    Args:
        maps: (K, h, w). Pixel ``y`` of the region map reads row ``floor(y * h / H)``, columns
            likewise: a map of half the size is read as if every pixel were doubled.
        regions: Region ids or -1, (H, W), integer.
        num_regions: R.

    Returns:
        (R, K), float64.

    Raises:
        ValueError: If an id is below -1 or not below `num_regions`.

    >>> halves = torch.tensor([[[1.0, 2.0]], [[5.0, 7.0]]])
    >>> region_vectors(halves, torch.tensor([[0, 0, 0, 1]]), 2).tolist()
    [[1.3333333333333333, 5.666666666666667], [2.0, 7.0]]
    """
    rows, columns = (
        torch.arange(n, device=maps.device) * m // n
        for m, n in zip(maps.shape[1:], regions.shape, strict=True)
    )
    bins = _bins(regions, num_regions)
    read = (rows[:, None] * maps.shape[2] + columns).flatten()
    counts = _counts(bins, num_regions + 1).clamp(min=1)
    if maps.device.type == "cpu":
        sums = torch.from_numpy(_sums_of_maps(maps, bins, read, num_regions + 1))
        return (sums / counts[:, None])[1:]
    bins = bins.long()  # once for all maps
    means = []
    for one in maps.flatten(1):  # one map of full size at a time
        full = one.index_select(0, read)
        means.append((_sums(full, bins, num_regions + 1) / counts)[1:])
    return torch.stack(means, dim=1)


def _sums_of_maps(maps: Tensor, bins: Tensor, read: Tensor, size: int) -> NDArray[np.floating[Any]]:
    """Sums of several maps on a CPU, (size, K), pixel by pixel in raster order as in `_sums`.

    A sparse matrix of ones holds which pixels a bin reads, and is made once for all maps.
    """
    from scipy import sparse

    pixels = len(bins)
    of_bin = sparse.csr_array(
        (np.ones(pixels), bins.numpy(), np.arange(pixels + 1)), shape=(pixels, size)
    ).tocsc()
    flat = maps.detach().flatten(1).numpy()
    reading = sparse.csr_array(
        (of_bin.data, read.numpy()[of_bin.indices], of_bin.indptr), shape=(size, flat.shape[1])
    )
    together = max(1, _TOGETHER // max(1, flat.shape[1]))
    parts = [flat[k : k + together].T for k in range(0, len(flat), together)]
    sums = [reading @ np.ascontiguousarray(part, dtype=np.float64) for part in parts]
    return np.concatenate([np.zeros((size, 0)), *sums], axis=1)


def region_argmax(values: Tensor, regions: Tensor, num_regions: int) -> Tensor:
    """The pixel of highest value in each region, the first in raster order among equals.

    Args:
        values: Floating point, shape of `regions`; no gradient flows through the result.
        regions: Region ids or -1, any shape, integer.
        num_regions: R.

    Returns:
        Flat pixel index, -1 for regions without a pixel or with a NaN, (R,), int64.

    Raises:
        ValueError: If the shapes differ, an id is below -1 or not below `num_regions`.

    >>> values = torch.tensor([[0.1, 0.7], [0.7, 0.9]])
    >>> region_argmax(values, torch.tensor([[1, 1], [1, -1]]), 2).tolist()
    [-1, 1]
    """
    _check_shapes(values, regions)
    bins = _bins(regions, num_regions).long()
    flat = values.detach().reshape(-1)
    largest = flat.new_full((num_regions + 1,), -torch.inf).scatter_reduce(0, bins, flat, "amax")
    # index_select gathers several times faster than indexing
    is_largest = flat == largest.index_select(0, bins)
    none = flat.numel()  # no pixel is looked for by its size: the host would wait for a GPU
    pixel = torch.arange(none, device=flat.device).masked_fill_(~is_largest, none)
    first = bins.new_full((num_regions + 1,), none)
    first = first.scatter_reduce(0, bins, pixel, "amin")[1:]
    return first.where(first < flat.numel(), -1)


def class_histogram(labels: Tensor, regions: Tensor, num_regions: int, num_classes: int) -> Tensor:
    """Pixels of each class in each region.

    Args:
        labels: Class ids, shape of `regions`, integer; ids outside ``0..C-1``, such as VOID, are
            not counted.
        regions: Region ids or -1, any shape, integer.
        num_regions: R.
        num_classes: C.

    Returns:
        (R, C), int64.

    Raises:
        ValueError: If the shapes differ, an id is below -1 or not below `num_regions`.

    >>> labels = torch.tensor([1, 1, 255, 0], dtype=torch.uint8)
    >>> class_histogram(labels, torch.tensor([0, 0, 0, 1]), 2, 2).tolist()
    [[0, 2], [1, 0]]
    """
    pairs = _pairs(labels, regions, num_regions, num_classes)
    size = (num_regions + 1) * (num_classes + 1)
    counts = _counts(pairs, size)
    return counts.view(num_regions + 1, num_classes + 1)[1:, :num_classes]


def region_majority(histogram: Tensor) -> Tensor:
    """The most frequent class of each region.

    Args:
        histogram: Pixels per region and class, (R, C), as `class_histogram` returns them.

    Returns:
        Class ids, lowest among equals, -1 for regions without a labelled pixel, (R,), int64.

    >>> region_majority(torch.tensor([[0, 3, 3], [0, 0, 0]])).tolist()
    [1, -1]
    """
    return torch.where(histogram.amax(1) > 0, histogram.argmax(1), -1)


def sparse_class_sums(
    values: Tensor,
    labels: Tensor,
    regions: Tensor,
    num_classes: int,
    num_regions: int | None = None,
) -> ClassSums:
    """Sum of a map over the pixels of each class in each region, where there are any.

    Weights per class can then be chosen after the pass over the pool:
    ``a(r) = sum_c w_c U[r, c] / sum_c n[r, c]`` (mulquery (A4), arXiv 2309.09319, with ``u`` as
    values and the predicted class as labels). A region usually holds a few classes, so the rows
    are many times fewer than R x C.

    Args:
        values: One number per pixel, shape of `regions`.
        labels: Class ids, shape of `regions`, integer; pixels with ids outside ``0..C-1`` are left
            out.
        regions: Region ids or -1, any shape, integer; the ids of one image (a table of the highest
            id times C is held for a moment).
        num_classes: C.
        num_regions: R; None = one more than the highest id, for which the host waits for a GPU.

    Returns:
        Columns of equal length, sorted by region, then label.

    Raises:
        ValueError: If the shapes differ or an id is below -1.

    >>> u, y, r = torch.tensor([[0.5, 0.25, 1.0], [2, 2, 0], [0, 0, 7]])
    >>> rows = sparse_class_sums(u, y.long(), r.long(), num_classes=3)
    >>> [column.tolist() for column in rows]
    [[0, 7], [2, 0], [0.75, 1.0], [2, 1]]
    """
    if num_regions is None:
        num_regions = int(regions.max()) + 1 if regions.numel() else 0
    sums, counts = class_sums(values, labels, regions, num_classes, num_regions)
    region, label = counts.nonzero(as_tuple=True)
    return ClassSums(region, label, sums[region, label], counts[region, label])


def class_sums(
    values: Tensor, labels: Tensor, regions: Tensor, num_classes: int, num_regions: int
) -> tuple[Tensor, Tensor]:
    """Sum of a map over the pixels of each class in each region; no device is waited for.

    Args:
        values: See `sparse_class_sums`.
        labels: Likewise.
        regions: Region ids or -1, any shape, integer.
        num_classes: C.
        num_regions: R.

    Returns:
        Sums, (R, C), float64, and pixels, (R, C), int64.

    Raises:
        ValueError: If the shapes differ, an id is below -1 or not below `num_regions`.

    >>> u, y, r = torch.tensor([0.5, 0.25]), torch.tensor([1, 1]), torch.tensor([0, 0])
    >>> [maps.tolist() for maps in class_sums(u, y, r, 2, 1)]
    [[[0.0, 0.75]], [[0, 2]]]
    """
    _check_shapes(values, regions)
    pairs = _pairs(labels, regions, num_regions, num_classes)
    size = (num_regions + 1) * (num_classes + 1)
    shape = num_regions + 1, num_classes + 1
    counts = _counts(pairs, size).view(shape)[1:, :num_classes]
    return _sums(values, pairs, size).view(shape)[1:, :num_classes], counts


def _bins(regions: Tensor, num_regions: int, stride: int = 1) -> Tensor:
    """Flat bins ``region + 1``: bin 0 collects the pixels of no region."""
    if regions.dtype != torch.int64:
        regions = regions.to(torch.int32)
    _check_ids(regions, num_regions)
    # Half the memory traffic where ids, later multiplied by the stride, allow it.
    dtype = torch.int32 if (num_regions + 1) * stride < 2**31 else torch.int64
    return regions.reshape(-1).to(dtype) + 1


def _check_ids(regions: Tensor, num_regions: int) -> None:
    """Refuse ids below -1 or not below R; a device stops, and the host does not wait to know."""
    if not regions.numel():
        return
    if regions.device.type != "cpu":
        torch._assert_async(((regions >= -1) & (regions < num_regions)).all())
        return
    ids = regions.numpy()
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < -1 or highest >= num_regions:
        raise ValueError(f"region ids must lie in -1..{num_regions - 1}, found {lowest}..{highest}")


def _pairs(labels: Tensor, regions: Tensor, num_regions: int, num_classes: int) -> Tensor:
    """Flat bins of (region, label); the last label bin of a region collects what is no class."""
    _check_shapes(labels, regions)
    labels = labels.reshape(-1)
    if labels.dtype != torch.uint8:
        labels = torch.where(labels < 0, num_classes, labels.to(torch.int64))
    stride = num_classes + 1
    bins = _bins(regions, num_regions, stride)
    return torch.add(labels.clamp(max=num_classes).to(bins.dtype), bins, alpha=stride)


def _counts(bins: Tensor, size: int) -> Tensor:
    """How often each bin occurs, (size,), int64."""
    if bins.device.type == "cpu":
        return torch.bincount(bins, minlength=size)
    # bincount would have the host wait for the highest bin
    ones = torch.ones((), dtype=torch.int64, device=bins.device).expand(len(bins))
    return ones.new_zeros(size).scatter_add_(0, bins.long(), ones)


def _sums(values: Tensor, bins: Tensor, size: int) -> Tensor:
    if values.device.type == "cpu":
        weights = values.detach().reshape(-1).numpy()
        return torch.from_numpy(np.bincount(bins.numpy(), weights, minlength=size))
    # index_add_ has a deterministic CUDA kernel for those who ask for one; bincount has none.
    dtype = torch.float32 if values.device.type == "mps" else torch.float64  # mps has no float64
    sums = torch.zeros(size, dtype=dtype, device=values.device)
    return sums.index_add_(0, bins, values.reshape(-1).to(dtype))


def _check_shapes(values: Tensor, regions: Tensor) -> None:
    if values.shape != regions.shape:
        raise ValueError(
            f"maps of shape {tuple(values.shape)} and {tuple(regions.shape)} do not match"
        )
