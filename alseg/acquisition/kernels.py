"""The kernel behind `alseg.acquisition.fused`: everything about a pixel in one pass on a GPU.

Imported only where Triton is; with ``TRITON_INTERPRET=1`` it runs on tensors of the CPU, slowly.
Only Triton's built-in operators are used, which its interpreter knows wherever it is switched on.
"""

# Triton reads annotations as types of its own
# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="untyped-decorator,no-untyped-def"

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Pixels of one program.
_BLOCK = 256
#: Fixed point of the sums: integers add up to the same in any order. A score below 16 leaves room
#: for 2^27 pixels of a region.
SCALE = 2**32


@triton.jit
def _between(z, w, y0, y1, x0, x1, down, right, inside):
    """The logit of a class between four neighbours of the network's grid."""
    upper = tl.load(z + y0 * w + x0, inside, 0.0).to(tl.float32) * (1 - right)
    upper += tl.load(z + y0 * w + x1, inside, 0.0).to(tl.float32) * right
    lower = tl.load(z + y1 * w + x0, inside, 0.0).to(tl.float32) * (1 - right)
    lower += tl.load(z + y1 * w + x1, inside, 0.0).to(tl.float32) * right
    return upper * (1 - down) + lower * down


@triton.jit
def _score(
    logits, regions, entropy, confidence, margin, bvsb, top1, sums, counts,
    classes, h, w, canvas_h, canvas_w, height, width, num_regions,
    inverse_temperature, log_zero, scale,
    ALIGNED: tl.constexpr, ENTROPY: tl.constexpr, CONFIDENCE: tl.constexpr, MARGIN: tl.constexpr,
    BVSB: tl.constexpr, TOP1: tl.constexpr, SUMMED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < height * width
    y, x = pixel // width, pixel % width
    # where the pixel lies on the network's grid, as torch's upsample_bilinear2d has it
    if ALIGNED:
        top = y.to(tl.float32) * ((h - 1) / tl.maximum(canvas_h - 1, 1))
        left = x.to(tl.float32) * ((w - 1) / tl.maximum(canvas_w - 1, 1))
    else:
        top = tl.maximum((y.to(tl.float32) + 0.5) * (h / canvas_h) - 0.5, 0.0)
        left = tl.maximum((x.to(tl.float32) + 0.5) * (w / canvas_w) - 0.5, 0.0)
    y0, x0 = top.to(tl.int32), left.to(tl.int32)
    y1, x1 = tl.minimum(y0 + 1, h - 1), tl.minimum(x0 + 1, w - 1)
    down, right = top - y0.to(tl.float32), left - x0.to(tl.float32)
    first = logits + image * classes * h * w

    best = tl.full([BLOCK], float("-inf"), tl.float32)
    second = tl.full([BLOCK], float("-inf"), tl.float32)
    label = tl.full([BLOCK], 0, tl.int32)
    for c in range(classes):
        value = _between(first + c * h * w, w, y0, y1, x0, x1, down, right, inside)
        second = tl.maximum(second, tl.minimum(best, value))
        label = tl.where(value > best, c, label)
        best = tl.maximum(best, value)

    total = tl.full([BLOCK], 0.0, tl.float32)
    weighted = tl.full([BLOCK], 0.0, tl.float32)
    if ENTROPY or CONFIDENCE or MARGIN:
        for c in range(classes):  # the grid is small, and in the cache by now
            value = _between(first + c * h * w, w, y0, y1, x0, x1, down, right, inside)
            gap = tl.maximum((value - best) * inverse_temperature, log_zero)
            power = tl.exp(gap)
            total += power
            weighted += power * gap
    ratio = tl.exp((second - best) * inverse_temperature)
    doubt = ratio
    place = image * height * width + pixel
    if BVSB:
        tl.store(bvsb + place, ratio, inside)
    if TOP1:
        tl.store(top1 + place, label.to(tl.uint8), inside)
    if MARGIN:
        doubt = (ratio - 1) / total + 1
        tl.store(margin + place, doubt, inside)
    if CONFIDENCE:
        doubt = (total - 1) / total
        tl.store(confidence + place, doubt, inside)
    if ENTROPY:
        doubt = tl.log(total) - weighted / total
        tl.store(entropy + place, doubt, inside)
    if SUMMED:
        region = tl.load(regions + place, inside, -1).to(tl.int64)
        known = inside & (region >= 0) & (region < num_regions)
        whole = (doubt * scale + 0.5).to(tl.int64)
        tl.atomic_add(sums + image * num_regions + region, whole, known)
        one = tl.full([BLOCK], 1, tl.int64)
        tl.atomic_add(counts + image * num_regions + region, one, known)


def launch(
    logits: Tensor,
    canvas: tuple[int, int],
    size: tuple[int, int],
    wanted: tuple[str, ...],
    inverse_temperature: float,
    align_corners: bool,
    log_zero: float,
    regions: Tensor | None = None,
    num_regions: int = 0,
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Run the kernel; see `alseg.acquisition.fused.grid_scores`.

    Args:
        logits: (B, C, h, w), floating point, on a GPU.
        canvas: What the grid covers.
        size: H and W of the maps.
        wanted: Names of maps.
        inverse_temperature: Logits are multiplied by it.
        align_corners: How the grid lies on the canvas.
        log_zero: Smallest gap of logits that counts.
        regions: Region ids or -1, (B, H, W), integer; None sums nothing. With several maps wanted,
            what is summed is entropy, least confidence, margin or bvsb, the first of these.
        num_regions: No image has an id so high.

    Returns:
        The maps by name; sums (B, R), int64, in units of 1 / `SCALE`; and counts (B, R), int64.
    """
    batch, classes, h, w = logits.shape
    shape = (batch, *size)
    maps = {
        name: torch.empty(
            shape, dtype=torch.uint8 if name == "top1" else torch.float32, device=logits.device
        )
        for name in wanted
    }
    sums, counts = torch.zeros((2, batch, num_regions), dtype=torch.int64, device=logits.device)
    unused = sums if num_regions else counts.new_zeros(1)
    names = ("entropy", "least_confidence", "margin", "bvsb", "top1")
    ids = unused if regions is None else regions.contiguous()
    _score[(batch, -(-size[0] * size[1] // _BLOCK))](
        logits.contiguous(), ids, *(maps.get(name, unused) for name in names), sums, counts,
        classes, h, w, *canvas, *size, num_regions, inverse_temperature, log_zero, float(SCALE),
        ALIGNED=align_corners, ENTROPY="entropy" in maps, CONFIDENCE="least_confidence" in maps,
        MARGIN="margin" in maps, BVSB="bvsb" in maps, TOP1="top1" in maps,
        SUMMED=regions is not None, BLOCK=_BLOCK,
    )  # fmt: skip
    return maps, sums, counts
