"""Borders, sizes, pixel lists, neighbours, boxes and other grids of the regions of one map.

Everywhere a map is (H, W), integer, with ids 0..R-1, or -1 for pixels in no region.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class RegionPixels(NamedTuple):
    """The pixels of every region, as one list cut into pieces.

    Attributes:
        order: Flat pixel indices ``y * W + x``, region by region, in raster order inside each; the
            pixels of region ``r`` are ``order[offsets[r]:offsets[r + 1]]``. (P,), int64.
        offsets: Where each region starts, (R + 1,), int64.
    """

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]


def boundaries(regions: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels with a side neighbour of another id: both sides of every border.

    Pixels in no region count as of one more id, so where a region meets them is a border. The frame
    of the image is none.

    Args:
        regions: Region map, (H, W).

    Returns:
        (H, W), bool. Equals ``skimage.segmentation.find_boundaries`` with ``mode="thick"`` and
        ``connectivity=1``.

    >>> boundaries(np.array([[0, 0, 0, 1, 1]])).astype(int)
    array([[0, 0, 1, 1, 0]])
    """
    border = np.zeros(regions.shape, dtype=bool)
    across = regions[:, 1:] != regions[:, :-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    down = regions[1:] != regions[:-1]
    border[1:] |= down
    border[:-1] |= down
    return border


def interior(regions: NDArray[np.integer], width: int) -> NDArray[np.bool_]:
    """Pixels away from the borders between regions (mulquery 2.2, arXiv 2309.09319).

    Args:
        regions: Region map, (H, W).
        width: Side of the square, in pixels, that borders are widened by: odd, or 0 to keep every
            pixel. On either side of a border ``(width + 1) / 2`` pixels are left out.

    Returns:
        (H, W), bool. Pixels in no region are treated as one more region.

    Raises:
        ValueError: If `width` is negative, or even and not 0.

    >>> interior(np.array([[0, 0, 0, 0, 1, 1, 1]]), width=3).astype(int)
    array([[1, 1, 0, 0, 0, 0, 1]])
    """
    if width < 0 or (width and width % 2 == 0):
        raise ValueError(f"width is {width}; it must be odd, or 0 to keep every pixel")
    if width == 0:
        return np.ones(regions.shape, dtype=bool)
    return ~widened(boundaries(regions), width // 2)


def widened(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Pixels within `reach` pixels, along both axes, of a pixel of the mask.

    Args:
        mask: (H, W).
        reach: Half the side of the square, its centre left out; 0 changes nothing.

    >>> widened(np.array([[True, False, False, False]]), reach=2).astype(int)
    array([[1, 1, 1, 0]])
    """
    for axis in (0, 1):  # a square widens along one axis, then along the other
        narrow = np.moveaxis(mask, axis, 0)
        wide = narrow.copy(order="K")
        for shift in range(1, reach + 1):
            wide[shift:] |= narrow[:-shift]
            wide[:-shift] |= narrow[shift:]
        mask = np.moveaxis(wide, 0, axis)
    return mask


def region_sizes(regions: NDArray[np.integer], num_regions: int) -> NDArray[np.int64]:
    """Number of pixels of every region, (R,), int64; 0 for ids without a pixel.

    Args:
        regions: Region map, (H, W).
        num_regions: R.

    Raises:
        ValueError: If the map holds an id of `num_regions` or more.

    >>> region_sizes(np.array([[0, 2, 2, -1]]), num_regions=4)
    array([1, 0, 2, 0])
    """
    _check_ids(regions, num_regions)
    return np.bincount(regions[regions >= 0], minlength=num_regions).astype(np.int64)


def pixels_of(regions: NDArray[np.integer], num_regions: int | None = None) -> RegionPixels:
    """List the pixels of every region.

    Args:
        regions: Region map, (H, W).
        num_regions: R; by default the largest id + 1.

    Raises:
        ValueError: If the map holds an id of `num_regions` or more.

    >>> order, offsets = pixels_of(np.array([[1, 0], [-1, 1]]))
    >>> order[offsets[1] : offsets[2]]
    array([0, 3])
    """
    if num_regions is None:
        num_regions = _largest(regions) + 1
    sizes = region_sizes(regions, num_regions)
    ids = regions.ravel()
    if num_regions < 1 << 15:  # numpy sorts 16 bits by radix, several times faster
        ids = ids.astype(np.int16)
    outside = ids.size - int(sizes.sum())  # these sort first
    order = np.argsort(ids, kind="stable")[outside:]
    return RegionPixels(order, np.concatenate([[0], np.cumsum(sizes)]))


def pixels_in(regions: NDArray[np.integer], ids: NDArray[np.integer]) -> RegionPixels:
    """List the pixels of some regions, without sorting those of the others.

    Args:
        regions: Region map, (H, W).
        ids: Regions wanted, each once, in any order, (K,).

    Returns:
        K pieces in the order of `ids`; those of ids that are not in the map are empty.

    Raises:
        ValueError: If an id is negative or there twice.

    >>> order, offsets = pixels_in(np.array([[1, 0], [-1, 1]]), np.array([7, 1]))
    >>> order.tolist(), offsets.tolist()
    ([0, 3], [0, 0, 2])
    """
    ids = np.asarray(ids, dtype=np.int64)
    if ids.min(initial=0) < 0 or len(np.unique(ids)) < len(ids):
        raise ValueError("the ids of regions must be >= 0, and each may be there once")
    row = np.full(max(_largest(regions), int(ids.max(initial=-1))) + 2, -1, dtype=np.int64)
    row[ids] = np.arange(len(ids))
    rows = row[regions].ravel()  # pixels in no region read the last entry, -1
    pixels = np.flatnonzero(rows >= 0)
    rows = rows[pixels]
    sizes = np.bincount(rows, minlength=len(ids))
    order = pixels[np.argsort(rows, kind="stable")]
    return RegionPixels(order, np.concatenate([[0], np.cumsum(sizes)]))


def adjacency(
    regions: NDArray[np.integer],
    num_regions: int,
    connectivity: int = 4,
    by_contact: bool = False,
) -> NDArray[np.int64]:
    """Pairs of regions that touch.

    Args:
        regions: Region map, (H, W).
        num_regions: R.
        connectivity: 4 for neighbours at a side, 8 for neighbours at a side or a corner.
        by_contact: Order the pairs by where they first touch: side by side in raster order, then
            one above the other in raster order (then corners).

    Returns:
        Pairs ``a < b`` without repetition, sorted unless `by_contact`, (E, 2), int64.

    Raises:
        ValueError: If the connectivity is another, or the map holds an id of `num_regions` or more.

    >>> adjacency(np.array([[0, 1], [2, 2]]), num_regions=3)
    array([[0, 1],
           [0, 2],
           [1, 2]])
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity is {connectivity}; it must be 4 or 8")
    _check_ids(regions, num_regions)
    neighbours = [(regions[:, 1:], regions[:, :-1]), (regions[1:], regions[:-1])]
    if connectivity == 8:
        neighbours.append((regions[1:, 1:], regions[:-1, :-1]))
        neighbours.append((regions[1:, :-1], regions[:-1, 1:]))
    found = []
    for one, other in neighbours:
        touch = one != other
        a, b = one[touch], other[touch]
        found.append(np.minimum(a, b).astype(np.int64) * num_regions + np.maximum(a, b))
    pairs = np.concatenate(found)
    pairs = pairs[pairs >= 0]  # where one of the two is -1, it is the lower one
    if by_contact:
        pairs, first = np.unique(pairs, return_index=True)
        pairs = pairs[np.argsort(first)]
    else:
        pairs = np.unique(pairs)
    return np.stack(np.divmod(pairs, max(num_regions, 1)), axis=1)


def bounding_boxes(regions: NDArray[np.integer], num_regions: int) -> NDArray[np.int64]:
    """Smallest box around every region.

    Args:
        regions: Region map, (H, W).
        num_regions: R.

    Returns:
        ``y0, x0, y1, x1`` in pixels, the last two exclusive, (R, 4), int64; zeros for ids without a
        pixel.

    Raises:
        ValueError: If the map holds an id of `num_regions` or more.

    >>> bounding_boxes(np.array([[-1, 2, 2]]), num_regions=3).tolist()
    [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 3]]
    """
    order, offsets = pixels_of(regions, num_regions)
    boxes = np.zeros((num_regions, 4), dtype=np.int64)
    present = np.flatnonzero(np.diff(offsets))
    if len(present):
        starts = offsets[present]
        y, x = np.divmod(order, regions.shape[1])
        boxes[present, 0] = y[starts]  # raster order: the first pixel is in the top row
        boxes[present, 1] = np.minimum.reduceat(x, starts)
        boxes[present, 2] = y[offsets[present + 1] - 1] + 1
        boxes[present, 3] = np.maximum.reduceat(x, starts) + 1
    return boxes


def components(labels: NDArray[np.integer], connectivity: int = 4) -> NDArray[np.int32]:
    """Connected components of equal labels: the coarsest regions that never cross a label's border.

    Args:
        labels: (H, W), integer; every value is a label, VOID included, but -1, which stays -1.
        connectivity: 4 for neighbours at a side, 8 for neighbours at a side or a corner.

    Returns:
        Region map, (H, W), int32, ids in the order of the first pixels in raster order.

    Raises:
        ValueError: If the connectivity is another.

    >>> components(np.array([[5, 5, 2], [2, 5, 2]]))
    array([[0, 0, 1],
           [2, 0, 1]], dtype=int32)
    """
    from skimage.measure import label

    if connectivity not in (4, 8):
        raise ValueError(f"connectivity is {connectivity}; it must be 4 or 8")
    found = label(labels.astype(np.int64), background=-1, connectivity=connectivity // 4)
    return found.astype(np.int32) - np.int32(1)


def resample_corners(values: NDArray[np.generic], height: int, width: int) -> NDArray[np.generic]:
    """Resize a map by nearest neighbours so that its four corner pixels stay corners.

    Target pixel ``i`` of an axis of length ``n`` takes source pixel
    ``round(i * (m - 1) / (n - 1))``, halves up, in whole numbers. This is what bilinear resizing
    with ``align_corners=True`` does to the image; where an axis is halved it reads even pixels in
    the first half and odd ones in the second, so thin regions may vanish.

    Args:
        values: (H, W), any type.
        height: Target height in pixels.
        width: Target width in pixels.

    >>> resample_corners(np.arange(8)[None], 1, 4).tolist()
    [[0, 2, 5, 7]]
    """
    rows, columns = (
        (2 * np.arange(n) * (m - 1) + n - 1) // max(2 * (n - 1), 1)
        for m, n in zip(values.shape, (height, width), strict=True)
    )
    return values[np.ix_(rows, columns)]


def _largest(regions: NDArray[np.integer]) -> int:
    return int(regions.max()) if regions.size else -1


def _check_ids(regions: NDArray[np.integer], num_regions: int) -> None:
    if (largest := _largest(regions)) >= num_regions:
        raise ValueError(f"the map holds region {largest}, but there are {num_regions} regions")
