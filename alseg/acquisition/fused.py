"""Scores of pixels from a network's own small grid, without its logits at the size of the image.

One function with two back ends. On a CPU the logits are enlarged and `alseg.acquisition.blocks`
reads them. On a GPU a Triton kernel enlarges, takes the softmax and scores pixel by pixel, and can
add up regions on the way: what it reads is the grid, what it writes the maps that are wanted.
Where there is no Triton, or a GPU is too old for it, plain torch does the same.

Sums over regions are added in fixed point, as integers: additions of floating-point numbers by
many threads round differently each time, and a query must not depend on that.
"""

import logging
from collections.abc import Collection
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from alseg.acquisition.blocks import LOG_ZERO, SCANNED
from alseg.acquisition.scores import scores_by_name
from alseg.acquisition.statistics import region_counts, region_sums, side_by_side

log = logging.getLogger(__name__)

#: Oldest compute capability that Triton supports.
_CAPABILITY = (7, 0)


class GridScores(NamedTuple):
    """What is known of the pixels of a batch, and of its regions."""

    maps: dict[str, Tensor]
    """By name, (B, H, W), float32; ``top1`` uint8."""
    sums: Tensor
    """Sum of the first map wanted over each region, (B, R), float64."""
    pixels: Tensor
    """Pixels of each region, (B, R), int64."""


@torch.no_grad()
def grid_scores(
    logits: Tensor,
    canvas: tuple[int, int],
    size: tuple[int, int],
    wanted: Collection[str],
    temperature: float = 1.0,
    align_corners: bool = False,
    regions: Tensor | None = None,
    num_regions: int = 0,
    fused: bool | None = None,
) -> GridScores:
    """Scores of pixels from logits on a network's grid. Without gradient.

    Args:
        logits: (B, C, h, w), 2 <= C <= 255, floating point.
        canvas: Height and width of the padded images that the grid covers.
        size: H and W of the images, not larger than the canvas.
        wanted: Names among `alseg.acquisition.blocks.SCANNED`.
        temperature: Logits are divided by it, > 0.
        align_corners: How the grid lies on the canvas, see `alseg.nn.interface.upsample`.
        regions: Region ids or -1, (B, H, W), integer, over which the one map wanted is summed; None
            sums nothing.
        num_regions: R, no image has an id so high.
        fused: Whether the kernel computes it; None = where the device has it.

    Returns:
        Maps, and sums and counts where `regions` are given (R = 0 otherwise).

    Raises:
        ValueError: For an unknown name, or sums of other than one floating-point map.
    """
    names = tuple(name for name in SCANNED if name in wanted)
    if len(names) != len(set(wanted)):
        raise ValueError(f"unknown scores among {sorted(wanted)}; known: {', '.join(SCANNED)}")
    if regions is not None and (len(names) != 1 or "top1" in names):
        raise ValueError(f"one score is summed over regions, not {', '.join(names)}")
    use = has_kernel(logits.device) if fused is None else fused
    if use and (kernels := _kernels()) is not None:
        maps, sums, counts = kernels.launch(
            logits, canvas, size, names, 1 / temperature, align_corners, LOG_ZERO, regions,
            num_regions,
        )  # fmt: skip
        return GridScores(maps, sums.double() / kernels.SCALE, counts)
    full = logits.float()
    if full.shape[-2:] != canvas:
        full = F.interpolate(full, size=canvas, mode="bilinear", align_corners=align_corners)
    maps = scores_by_name(names, full[..., : size[0], : size[1]], temperature)
    if regions is None:
        nothing = torch.zeros(len(logits), 0, dtype=torch.int64, device=logits.device)
        return GridScores(maps, nothing.double(), nothing)
    joined, stride = side_by_side(regions, num_regions)
    shape, count = (len(logits), stride), len(logits) * stride
    sums = region_sums(maps[names[0]], joined, count).view(shape)
    return GridScores(maps, sums, region_counts(joined, count).view(shape))


@cache
def has_kernel(device: torch.device) -> bool:
    """Whether pixels on a device are scored by the kernel, which is tried on a few first."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _CAPABILITY:
        return False
    return _kernels() is not None and _agrees(device)


def _agrees(device: torch.device) -> bool:
    """Whether the kernel can be built, and says what plain torch says."""
    pixels = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32, device=device)
    grid, where = 3 * pixels.mul(37).sin().view(2, 3, 4, 5), ((16, 20), (15, 18))
    try:
        one, two = (grid_scores(grid, *where, SCANNED, fused=k).maps for k in (True, False))
        same = all(
            torch.allclose(one[name].float(), two[name].float(), rtol=0, atol=1e-4)
            for name in SCANNED
        )
    except Exception as error:  # Triton needs a C compiler, among much else
        reason = (str(error) or type(error).__name__).splitlines()[0]
        log.info("Pixels are scored by plain torch: the kernel cannot be built (%s).", reason)
        return False
    if not same:
        log.warning("Pixels are scored by plain torch: the kernel disagrees with it on this GPU.")
    return same


@cache
def _kernels() -> Any:
    """The module of the kernel; None without Triton."""
    try:
        from alseg.acquisition import kernels
    except ImportError as error:
        log.info("Pixels are scored by plain torch: Triton cannot be imported (%s).", error)
        return None
    return kernels
