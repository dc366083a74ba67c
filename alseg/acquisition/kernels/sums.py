"""A score summed over regions, or over the pixels of each best class in them, without its map."""

# Triton reads annotations as types of its own
# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="untyped-decorator,no-untyped-def"

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from alseg.acquisition.kernels.pixels import (
    between,
    cells_of,
    doubt,
    look,
    plus,
    power_of,
    whole_numbers,
)

#: Fixed point of the sums. A score below 16 leaves room for 2^27 pixels of a region.
SCALE = 2**32
#: What a pixel whose score is NaN adds to the count beside itself: more than so many pixels have,
#: and not too much if all of them do.
BROKEN = 2**32

#: Columns and rows of one program. A thread goes down a column and adds to memory where the region
#: changes: neighbours are mostly of one region, and threads that add to one place wait for another.
_BLOCK, _ROWS = 128, 16


class WholeSums(NamedTuple):
    """Sums as integers."""

    sums: Tensor
    """Over each bin, in units of 1 / `SCALE`, int64."""
    counts: Tensor
    """Pixels of each bin, `BROKEN` more for each whose score is NaN, int64."""
    stray: Tensor
    """Pixels whose region is none, int64, a scalar."""
    shares: Tensor
    """Class probabilities over all pixels of an image, in units of 1 / `SCALE`, and the number of
    pixels where these are NaN, (B, C + 1), int64."""


@triton.jit
def _sums(
    logits, regions, sums, counts, shares,
    classes, h, w, canvas_h, canvas_w, height, width, num_regions, stray,
    inverse_temperature, log_zero, scale, broken,
    ALIGNED: tl.constexpr, SCORE: tl.constexpr, BY_CLASS: tl.constexpr, SHARES: tl.constexpr,
    COLUMNS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0).to(tl.int64)
    x = (tl.program_id(2) * BLOCK + tl.arange(0, BLOCK))[None, :]
    inside = x < width
    x0, x1, right = cells_of(x, w, canvas_w, ALIGNED)
    z = logits + image * classes * h * w
    held = tl.full([1, BLOCK], -1, tl.int64)  # the bin that these two have not been added to
    summed = tl.full([1, BLOCK], 0, tl.int64)
    counted = tl.full([1, BLOCK], 0, tl.int64)
    column = tl.arange(0, COLUMNS)
    shared = tl.full([COLUMNS], 0, tl.int64)  # of all classes, and where there is no number
    top = tl.program_id(1) * ROWS
    for row in range(tl.minimum(ROWS, height - top)):
        y = top + row
        y0, y1, down = cells_of(y, h, canvas_h, ALIGNED)
        best, second, label, total, weighted = look(
            z, classes, h, w, y0, y1, x0, x1, down, right, inside, inverse_temperature, log_zero,
            SHARES or SCORE != "bvsb", 1, BLOCK,
        )  # fmt: skip
        if SHARES:
            plane = z
            for c in range(classes):  # the grid is in the cache by now
                value = between(plane, w, y0, y1, x0, x1, down, right, inside)
                power, _ = power_of(value - best, inverse_temperature, log_zero)
                share = tl.where(inside & (total == total), power / total, 0.0)
                whole = (share * scale + 0.5).to(tl.int64)
                whole = tl.reduce(tl.reduce(whole, 1, plus), 0, plus)
                shared += tl.where(column == c, whole, 0)
                plane += h * w
            lost = tl.reduce(tl.reduce((total != total).to(tl.int64), 1, plus), 0, plus)
            shared += tl.where(column == classes, lost, 0)
        score = doubt(best, second, total, weighted, inverse_temperature, SCORE)
        region = tl.load(regions + (image * height + y) * width + x, inside, 0)
        region, whole, count = whole_numbers(score, region, num_regions, inside, scale, broken)
        place = image * num_regions + region
        if BY_CLASS:
            place = place * classes + label
        place = tl.where(region < 0, -1, tl.where(region == num_regions, stray, place))
        moved = place != held
        tl.atomic_add(sums + held, summed, moved & (held >= 0))
        tl.atomic_add(counts + held, counted, moved & (held >= 0))
        summed = tl.where(moved, whole, summed + whole)
        counted = tl.where(moved, count, counted + count)
        held = place
    tl.atomic_add(sums + held, summed, held >= 0)
    tl.atomic_add(counts + held, counted, held >= 0)
    if SHARES:
        tl.atomic_add(shares + image * (classes + 1) + column, shared, column <= classes)


def score_sums(
    logits: Tensor,
    canvas: tuple[int, int],
    size: tuple[int, int],
    align_corners: bool,
    score: str,
    regions: Tensor,
    num_regions: int,
    by_class: bool,
    shares: bool,
    inverse_temperature: float,
    log_zero: float,
) -> WholeSums:
    """Run the kernel; see `alseg.acquisition.fused.grid_sums`.

    Args:
        logits: (B, C, h, w), floating point, on a GPU.
        canvas: What the grid covers.
        size: H and W of the images.
        align_corners: How the grid lies on the canvas.
        score: ``entropy``, ``least_confidence``, ``margin`` or ``bvsb``.
        regions: Region ids or -1, (B, H, W), integer.
        num_regions: R.
        by_class: A bin is a region and a best class, and not a region.
        shares: Whether probabilities are summed over images.
        inverse_temperature: Logits are multiplied by it.
        log_zero: Smallest gap of logits that counts.

    Returns:
        Sums and counts of (B, R) or (B, R, C).
    """
    batch, classes, h, w = logits.shape
    shape = (batch, num_regions, classes) if by_class else (batch, num_regions)
    stray = batch * num_regions * (classes if by_class else 1)
    sums, counts = torch.zeros((2, stray + 1), dtype=torch.int64, device=logits.device)
    columns = classes + 1 if shares else 0
    found = torch.zeros((batch, columns), dtype=torch.int64, device=logits.device)
    with torch.cuda.device_of(logits):
        _sums[(batch, -(-size[0] // _ROWS), -(-size[1] // _BLOCK))](
            logits.contiguous(), regions.contiguous(), sums, counts, found if shares else sums,
            classes, h, w, *canvas, *size, num_regions, stray,
            inverse_temperature, log_zero, float(SCALE), BROKEN,
            ALIGNED=align_corners, SCORE=score, BY_CLASS=by_class, SHARES=shares,
            COLUMNS=triton.next_power_of_2(classes + 1), ROWS=_ROWS, BLOCK=_BLOCK,
        )  # fmt: skip
    return WholeSums(sums[:-1].view(shape), counts[:-1].view(shape), counts[-1], found)
