"""Scores of pixels and regions from a network's own small grid, without its logits at full size.

Each function has two back ends. On a CPU the logits are enlarged and `alseg.acquisition.blocks`
reads them. On a GPU a Triton kernel enlarges, takes the softmax, scores pixel by pixel and adds up
regions on the way: what it reads is the grid, what it writes the maps or sums that are wanted.
Where there is no Triton, where a GPU is too old for it, and for logits in float64, plain torch does
the same.

Kernels add up regions in fixed point, as integers: additions of floating-point numbers by many
threads round differently each time, and a query must not depend on that.
"""

import logging
from collections.abc import Callable, Collection
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from alseg.acquisition.blocks import LOG_ZERO, SCANNED
from alseg.acquisition.committee import COMMITTEE_SCORES, CommitteeSums
from alseg.acquisition.scores import best_two, scores_by_name
from alseg.acquisition.statistics import class_sums, region_counts, region_sums, side_by_side
from alseg.core.errors import first_line

log = logging.getLogger(__name__)

Kernel = Literal["maps", "sums", "committee"]

#: Scores of one pass that can be summed.
SUMMED = tuple(name for name in SCANNED if name != "top1")

#: Oldest compute capability that Triton supports.
_CAPABILITY = (7, 0)
#: Most bytes of the grids of a committee that wait for the kernel together.
_MOST_GRIDS = 2**31


class Grid(NamedTuple):
    """Logits on a network's own grid, and what it covers."""

    logits: Tensor
    """(B, C, h, w), 2 <= C <= 255, floating point."""
    canvas: tuple[int, int]
    """Height and width of the padded images that the grid covers."""
    size: tuple[int, int]
    """H and W of the images, not larger than the canvas."""
    align_corners: bool = False
    """How the grid lies on the canvas, see `alseg.nn.interface.upsample`."""

    def enlarged(self) -> Tensor:
        """Logits at the size of the images, (B, C, H, W), float32 (float64 of float64 logits)."""
        full = self.logits if self.logits.dtype == torch.float64 else self.logits.float()
        if full.shape[-2:] != self.canvas:
            how: dict[str, Any] = {"mode": "bilinear", "align_corners": self.align_corners}
            full = F.interpolate(full, size=self.canvas, **how)
        return full[..., : self.size[0], : self.size[1]]


class GridSums(NamedTuple):
    """What is known of the regions of a batch."""

    sums: Tensor
    """Sum of a score over each region, (B, R), or over the pixels of each best class in it,
    (B, R, C), float64; NaN where a pixel's score is."""
    pixels: Tensor
    """Pixels summed over, of the same shape, int64."""
    mean: Tensor
    """Mean probability of each class over all pixels of an image, (B, C), float32; (B, 0) where it
    is not asked for."""


@torch.no_grad()
def grid_scores(
    grid: Grid,
    wanted: Collection[str],
    temperature: float = 1.0,
    fused: bool | None = None,
) -> dict[str, Tensor]:
    """Scores of pixels. Without gradient.

    Args:
        grid: Of a batch.
        wanted: Names among `alseg.acquisition.blocks.SCANNED`.
        temperature: Logits are divided by it, > 0.
        fused: Whether the kernel computes it; None = where the device has it.

    Returns:
        Maps by name, (B, H, W), float32 (float64 of float64 logits); ``top1`` uint8.

    Raises:
        ValueError: For an unknown name.
    """
    names = tuple(name for name in SCANNED if name in wanted)
    if len(names) != len(set(wanted)):
        raise ValueError(f"unknown scores among {sorted(wanted)}; known: {', '.join(SCANNED)}")
    kernels = _chosen("maps", grid, fused)
    if kernels is None:
        return scores_by_name(names, grid.enlarged(), temperature)
    return dict(kernels.score_maps(*_places(grid), names, 1 / temperature, LOG_ZERO))


@torch.no_grad()
def grid_sums(
    grid: Grid,
    score: str,
    regions: Tensor,
    num_regions: int,
    temperature: float = 1.0,
    by_class: bool = False,
    mean: bool = False,
    fused: bool | None = None,
) -> GridSums:
    """A score of pixels summed over regions. Without gradient.

    Args:
        grid: Of a batch.
        score: One of `SUMMED`.
        regions: Region ids or -1, (B, H, W), integer.
        num_regions: R >= 1, no image has an id so high.
        temperature: Logits are divided by it, > 0.
        by_class: Apart for each class that is the most probable one of a pixel, the lowest id
            among equals.
        mean: Whether to compute the mean probabilities.
        fused: Whether the kernel computes it; None = where the device has it.

    Raises:
        ValueError: For an unknown score, or regions of another size than the images.
        ValueError, RuntimeError: For region ids below -1 or not below `num_regions`.
    """
    if score not in SUMMED:
        raise ValueError(f"unknown score {score!r}; known: {', '.join(SUMMED)}")
    _check_sizes(regions, (len(grid.logits), *grid.size))
    kernels = _chosen("sums", grid, fused)
    if kernels is None:
        return _plain_sums(grid, score, regions, num_regions, temperature, by_class, mean)
    found = kernels.score_sums(
        *_places(grid), score, regions, num_regions, by_class, mean, 1 / temperature, LOG_ZERO
    )
    shares = found.shares[:, :-1].double() / (kernels.SCALE * grid.size[0] * grid.size[1])
    lost = found.shares[:, -1:] > 0
    return _checked(kernels, found)._replace(mean=shares.masked_fill(lost, torch.nan).float())


def map_sums(scores: Tensor, regions: Tensor, num_regions: int) -> GridSums:
    """Maps summed over regions.

    Args:
        scores: (B, H, W), float.
        regions: Region ids or -1, (B, H, W), integer.
        num_regions: R >= 1, no image has an id so high.
    """
    joined, stride = side_by_side(regions, num_regions)
    shape, count = (len(regions), stride), len(regions) * stride
    sums = region_sums(scores, joined, count).view(shape)
    return GridSums(sums, region_counts(joined, count).view(shape), scores.new_empty(shape[0], 0))


@torch.no_grad()
def committee_map(opinions: Grid, score: str, fused: bool | None = None) -> Tensor:
    """A score of several opinions on each pixel of an image. Without gradient.

    Args:
        opinions: T grids of one image, (T, C, h, w), T <= 255.
        score: A name of `alseg.acquisition.committee.COMMITTEE_SCORES`.
        fused: Whether the kernel computes it; None = where the device has it.

    Returns:
        (H, W), float32 (float64 of float64 logits).

    Raises:
        ValueError: For an unknown score.
    """
    _check_committee(score, opinions)
    kernels = _chosen("committee", opinions, fused)
    if kernels is None:
        first, *others = (opinions._replace(logits=one) for one in opinions.logits.split(1))
        sums = CommitteeSums.of(first.enlarged())
        for other in others:
            sums.add(other.enlarged())
        return COMMITTEE_SCORES[score](sums)[0]
    found: Tensor = kernels.committee(*_places(opinions), score, LOG_ZERO)[0]
    return found


@torch.no_grad()
def committee_sums(
    opinions: Grid, score: str, regions: Tensor, num_regions: int, fused: bool | None = None
) -> GridSums:
    """The same summed over the regions of the image, as a batch of one.

    Args:
        opinions: See `committee_map`.
        score: Likewise.
        regions: Region ids or -1, (H, W), integer.
        num_regions: R >= 1, no id is so high.
        fused: Likewise.

    Raises:
        ValueError: For an unknown score, or regions of another size than the image.
        ValueError, RuntimeError: For region ids below -1 or not below `num_regions`.
    """
    _check_committee(score, opinions, regions)
    kernels = _chosen("committee", opinions, fused)
    if kernels is None:
        scores = committee_map(opinions, score, fused=False)
        return map_sums(scores[None], regions[None], num_regions)
    places = _places(opinions)
    _, found = kernels.committee(*places, score, LOG_ZERO, regions, num_regions)
    one = found._replace(sums=found.sums[None], counts=found.counts[None])
    return _checked(kernels, one)


def fits_together(grid: Grid, opinions: int) -> bool:
    """Whether there is room for the grids of so many opinions on an image.

    >>> fits_together(Grid(torch.zeros(1, 19, 256, 512), (1024, 2048), (1024, 2048)), 10)
    True
    """
    return grid.logits.numel() * grid.logits.element_size() * opinions <= _MOST_GRIDS


@cache
def has_kernel(device: torch.device, kernel: Kernel = "maps") -> bool:
    """Whether a device has a kernel, which is tried on a few pixels first."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _CAPABILITY:
        return False
    return _kernels() is not None and _agrees(device, kernel)


def _chosen(kernel: Kernel, grid: Grid, fused: bool | None) -> Any:
    """The module of the kernels; None where plain torch is to compute."""
    if fused is None:  # kernels compute in float32
        fused = grid.logits.dtype != torch.float64 and has_kernel(grid.logits.device, kernel)
    return _kernels() if fused else None


def _places(grid: Grid) -> tuple[Tensor, tuple[int, int], tuple[int, int], bool]:
    return grid.logits, grid.canvas, grid.size, grid.align_corners


def _check_committee(score: str, opinions: Grid, regions: Tensor | None = None) -> None:
    if score not in COMMITTEE_SCORES:
        raise ValueError(f"unknown score {score!r}; known: {', '.join(COMMITTEE_SCORES)}")
    if regions is not None:
        _check_sizes(regions, opinions.size)


def _check_sizes(regions: Tensor, size: tuple[int, ...]) -> None:
    """A kernel would read beside the map."""
    if tuple(regions.shape) != size:
        raise ValueError(f"regions of shape {tuple(regions.shape)} are not of {size}")


def _plain_sums(
    grid: Grid,
    score: str,
    regions: Tensor,
    num_regions: int,
    temperature: float,
    by_class: bool,
    mean: bool,
) -> GridSums:
    """`grid_sums` by plain torch."""
    logits = grid.enlarged()
    names = (score, "top1") if by_class else (score,)
    maps = scores_by_name(names, logits, temperature)
    found = map_sums(maps[score], regions, num_regions)
    if by_class:
        joined, stride = side_by_side(regions, num_regions)
        shape = len(regions), stride, logits.shape[1]
        sums, counts = class_sums(maps[score], maps["top1"], joined, shape[2], shape[0] * stride)
        found = found._replace(sums=sums.view(shape), pixels=counts.view(shape))
    if mean:
        found = found._replace(mean=best_two(logits, temperature, mean=True).mean)
    return found


def _checked(kernels: Any, found: Any) -> GridSums:
    """Sums of a kernel as numbers. The host waits for nothing: a stray id stops the device."""
    torch._assert_async(found.stray == 0, "region ids must lie in -1..num_regions - 1")
    lost = found.counts >= kernels.BROKEN
    sums = (found.sums.double() / kernels.SCALE).masked_fill(lost, torch.nan)
    return GridSums(sums, found.counts % kernels.BROKEN, sums.new_empty(len(found.sums), 0).float())


def _agrees(device: torch.device, kernel: Kernel) -> bool:
    """Whether a kernel can be built, and says what plain torch says."""
    try:
        same = all(
            torch.allclose(one.double(), two.double(), rtol=0, atol=1e-4)
            for one, two in zip(*(_TRIALS[kernel](device, k) for k in (True, False)), strict=True)
        )
    except Exception as error:  # Triton needs a C compiler, among much else
        reason = first_line(error)
        log.info("Scores are computed by plain torch: the kernel cannot be built (%s).", reason)
        return False
    if not same:
        log.warning(
            "Scores are computed by plain torch: the kernel of %s disagrees with it on this GPU.",
            kernel,
        )
    return same


def _trial(device: torch.device) -> tuple[Grid, Tensor]:
    """A few pixels in five regions and none."""
    numbers = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32, device=device)
    logits = 3 * numbers.mul(37).sin().view(2, 3, 4, 5)
    regions = torch.arange(2 * 7 * 9, device=device).view(2, 7, 9) // 5 % 6 - 1
    return Grid(logits, (8, 10), (7, 9)), regions


def _try_maps(device: torch.device, fused: bool) -> list[Tensor]:
    return list(grid_scores(_trial(device)[0], SCANNED, fused=fused).values())


def _try_sums(device: torch.device, fused: bool) -> list[Tensor]:
    grid, regions = _trial(device)
    found = [grid_sums(grid, name, regions, 5, fused=fused) for name in SUMMED]
    found.append(grid_sums(grid, "bvsb", regions, 5, 0.3, by_class=True, mean=True, fused=fused))
    return [tensor for one in found for tensor in one]


def _try_committee(device: torch.device, fused: bool) -> list[Tensor]:
    grid, regions = _trial(device)
    found = [committee_map(grid, name, fused) for name in COMMITTEE_SCORES]
    sums = committee_sums(grid, "bald", regions[0], 5, fused)
    return [*found, sums.sums, sums.pixels]


_TRIALS: dict[Kernel, Callable[[torch.device, bool], list[Tensor]]] = {
    "maps": _try_maps,
    "sums": _try_sums,
    "committee": _try_committee,
}


@cache
def _kernels() -> Any:
    """The module of the kernels; None without Triton."""
    try:
        from alseg.acquisition import kernels
    except ImportError as error:
        log.info("Scores are computed by plain torch: Triton cannot be imported (%s).", error)
        return None
    return kernels
