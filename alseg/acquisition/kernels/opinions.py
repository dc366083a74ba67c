"""What several opinions on one image say of a pixel, from their grids at once."""

# Triton reads annotations as types of its own
# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="untyped-decorator,no-untyped-def"

import torch
import triton
import triton.language as tl
from torch import Tensor

from alseg.acquisition.kernels.pixels import (
    between,
    cells_of,
    look,
    plus,
    power_of,
    whole_numbers,
)
from alseg.acquisition.kernels.sums import BROKEN, SCALE, WholeSums

#: Pixels of one program times opinions, of which more are kept in registers than for one opinion.
_BLOCK = 1024


@triton.jit
def _committee(
    grids, regions, scored, sums, counts,
    opinions, classes, h, w, canvas_h, canvas_w, height, width, num_regions,
    log_zero, scale, broken,
    ALIGNED: tl.constexpr, SCORE: tl.constexpr, SUMMED: tl.constexpr,
    OPINIONS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pixel = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))[None, :]
    inside = pixel < height * width
    y0, y1, down = cells_of(pixel // width, h, canvas_h, ALIGNED)
    x0, x1, right = cells_of(pixel % width, w, canvas_w, ALIGNED)
    opinion = tl.arange(0, OPINIONS)[:, None]
    heard = opinion < opinions
    z = grids + opinion.to(tl.int64) * classes * h * w
    best, _, label, total, weighted = look(
        z, classes, h, w, y0, y1, x0, x1, down, right, heard & inside, 1.0, log_zero,
        SCORE != "vote_entropy", OPINIONS, BLOCK,
    )  # fmt: skip
    entropy = tl.full([BLOCK], 0.0, tl.float32)  # of the mean, or of the votes
    first = tl.full([BLOCK], 0.0, tl.float32)
    second = tl.full([BLOCK], 0.0, tl.float32)
    plane = z
    for c in range(classes):
        if SCORE == "vote_entropy":
            share = (label == c).to(tl.float32)
        else:
            value = between(plane, w, y0, y1, x0, x1, down, right, heard & inside)
            power, _ = power_of(value - best, 1.0, log_zero)
            share = power / total
        mean = tl.reduce(tl.where(heard, share, 0.0), 0, plus) / opinions
        floor = tl.maximum(mean, 1e-37, propagate_nan=tl.PropagateNan.ALL)  # 0 ln 0 is 0
        entropy -= mean * tl.log(floor)
        second = tl.maximum(second, tl.minimum(first, mean))
        first = tl.maximum(first, mean, propagate_nan=tl.PropagateNan.ALL)
        plane += h * w
    found = tl.maximum(entropy, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if SCORE == "bald":
        each = tl.where(heard, tl.log(total) - weighted / total, 0.0)
        found = found - tl.reduce(each, 0, plus) / opinions
        found = tl.maximum(found, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if SCORE == "margin":
        found = 1 - (first - second)
    if SCORE == "least_confidence":
        found = 1 - first
    score = found[None, :]
    if SUMMED:
        region = tl.load(regions + pixel, inside, 0)
        region, whole, count = whole_numbers(score, region, num_regions, inside, scale, broken)
        tl.atomic_add(sums + region, whole, region >= 0)
        tl.atomic_add(counts + region, count, region >= 0)
    else:
        tl.store(scored + pixel, score, inside)


def committee(
    grids: Tensor,
    canvas: tuple[int, int],
    size: tuple[int, int],
    align_corners: bool,
    score: str,
    log_zero: float,
    regions: Tensor | None = None,
    num_regions: int = 0,
) -> tuple[Tensor, WholeSums]:
    """Run the kernel; see `committee_map` and `committee_sums` in `alseg.acquisition.fused`.

    Args:
        grids: Logits of T opinions on one image, (T, C, h, w), floating point, on a GPU.
        canvas: What the grids cover.
        size: H and W of the image.
        align_corners: How a grid lies on the canvas.
        score: A name of `alseg.acquisition.committee.COMMITTEE_SCORES`.
        log_zero: Smallest gap of logits that counts.
        regions: Region ids or -1, (H, W), integer, over which the score is summed; None = a map.
        num_regions: R.

    Returns:
        The map (H, W), float32, or sums and counts (R,); the other is empty.
    """
    opinions, classes, h, w = grids.shape
    summed = regions is not None
    padded = max(2, triton.next_power_of_2(opinions))
    block = max(8, _BLOCK // padded)
    scored = grids.new_empty((0, 0) if summed else size, dtype=torch.float32)
    slots = num_regions + 1 if summed else 1
    sums, counts = torch.zeros((2, slots), dtype=torch.int64, device=grids.device)
    with torch.cuda.device_of(grids):
        _committee[(-(-size[0] * size[1] // block),)](
            grids.contiguous(), sums if regions is None else regions.contiguous(),
            grids if summed else scored, sums, counts,
            opinions, classes, h, w, *canvas, *size, num_regions,
            log_zero, float(SCALE), BROKEN,
            ALIGNED=align_corners, SCORE=score, SUMMED=summed, OPINIONS=padded, BLOCK=block,
        )  # fmt: skip
    nothing = sums.new_zeros((1, 0))
    return scored, WholeSums(sums[:-1], counts[:-1], counts[-1], nothing)
