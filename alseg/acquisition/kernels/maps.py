"""Maps of several scores, from one look at every pixel."""

# Triton reads annotations as types of its own
# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="untyped-decorator,no-untyped-def"

import torch
import triton
import triton.language as tl
from torch import Tensor

from alseg.acquisition.kernels.pixels import cells_of, doubt, look

#: Pixels of one program.
_BLOCK = 256


@triton.jit
def _maps(
    logits, entropy, confidence, margin, bvsb, top1,
    classes, h, w, canvas_h, canvas_w, height, width, inverse_temperature, log_zero,
    ALIGNED: tl.constexpr, ENTROPY: tl.constexpr, CONFIDENCE: tl.constexpr, MARGIN: tl.constexpr,
    BVSB: tl.constexpr, TOP1: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0).to(tl.int64)
    pixel = (tl.program_id(1) * BLOCK + tl.arange(0, BLOCK))[None, :]
    inside = pixel < height * width
    y0, y1, down = cells_of(pixel // width, h, canvas_h, ALIGNED)
    x0, x1, right = cells_of(pixel % width, w, canvas_w, ALIGNED)
    z = logits + image * classes * h * w
    best, second, label, total, weighted = look(
        z, classes, h, w, y0, y1, x0, x1, down, right, inside, inverse_temperature, log_zero,
        ENTROPY or CONFIDENCE or MARGIN, 1, BLOCK,
    )  # fmt: skip
    place = image * height * width + pixel
    if BVSB:
        found = doubt(best, second, total, weighted, inverse_temperature, "bvsb")
        tl.store(bvsb + place, found, inside)
    if TOP1:
        tl.store(top1 + place, label.to(tl.uint8), inside)
    if MARGIN:
        found = doubt(best, second, total, weighted, inverse_temperature, "margin")
        tl.store(margin + place, found, inside)
    if CONFIDENCE:
        found = doubt(best, second, total, weighted, inverse_temperature, "least_confidence")
        tl.store(confidence + place, found, inside)
    if ENTROPY:
        found = doubt(best, second, total, weighted, inverse_temperature, "entropy")
        tl.store(entropy + place, found, inside)


def score_maps(
    logits: Tensor,
    canvas: tuple[int, int],
    size: tuple[int, int],
    align_corners: bool,
    wanted: tuple[str, ...],
    inverse_temperature: float,
    log_zero: float,
) -> dict[str, Tensor]:
    """Run the kernel; see `alseg.acquisition.fused.grid_scores`.

    Args:
        logits: (B, C, h, w), floating point, on a GPU.
        canvas: What the grid covers.
        size: H and W of the maps.
        align_corners: How the grid lies on the canvas.
        wanted: Names of maps.
        inverse_temperature: Logits are multiplied by it.
        log_zero: Smallest gap of logits that counts.

    Returns:
        Maps by name, (B, H, W), float32; ``top1`` uint8.
    """
    batch, classes, h, w = logits.shape
    maps = {
        name: logits.new_empty(
            (batch, *size), dtype=torch.uint8 if name == "top1" else torch.float32
        )
        for name in wanted
    }
    names = ("entropy", "least_confidence", "margin", "bvsb", "top1")
    with torch.cuda.device_of(logits):
        _maps[(batch, -(-size[0] * size[1] // _BLOCK))](
            logits.contiguous(), *(maps.get(name, logits) for name in names),
            classes, h, w, *canvas, *size, inverse_temperature, log_zero,
            ALIGNED=align_corners, ENTROPY="entropy" in maps, MARGIN="margin" in maps,
            CONFIDENCE="least_confidence" in maps, BVSB="bvsb" in maps, TOP1="top1" in maps,
            BLOCK=_BLOCK,
        )  # fmt: skip
    return maps
