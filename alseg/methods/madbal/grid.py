"""The coarse grid whose cells are asked about, beside the full size that is trained at.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from alseg.nn.segmenter import upsample


def to_grid(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Outputs of a network on the grid, before any softmax (F17).

    Bilinear and without smoothing: where a cell has 4 x 4 pixels, the mean of its central four.

    Args:
        maps: (B, C, H, W), at the size of the images.
        size: Cells from top to bottom and from left to right.

    Returns:
        (B, C, h, w).
    """
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def sampled_on_grid(
    maps: Tensor,
    canvas: tuple[int, int],
    full: tuple[int, int],
    size: tuple[int, int],
    align_corners: bool = False,
) -> Tensor:
    """Outputs of a network on any grid (F17), without enlarging them to the size of the images.

    Equals ``to_grid(upsample(maps, canvas)[..., :H, :W], size)`` up to rounding: both steps are
    linear and treat rows and columns apart, so that two small matrices do the work of both.

    Args:
        maps: Outputs on a grid over the canvas, (B, C, m, n).
        canvas: Height and width of the padded images.
        full: Height and width of the images, H and W.
        size: Cells from top to bottom and from left to right.
        align_corners: How the grid lies on the canvas, see `alseg.nn.segmenter.upsample`.

    Returns:
        (B, C, h, w).
    """
    rows, columns = (
        _sampling(maps, maps.shape[2 + axis], canvas[axis], full[axis], size[axis], align_corners)
        for axis in (0, 1)
    )
    return rows @ maps @ columns.T


def _sampling(
    maps: Tensor, cells: int, canvas: int, full: int, size: int, align_corners: bool
) -> Tensor:
    """Weights of the outputs along one side in each cell of the grid, (size, cells).

    They are read off one map per output, which is 1 at its place and 0 elsewhere.
    """
    ones = torch.eye(cells, dtype=maps.dtype, device=maps.device)[:, None, :, None].expand(
        -1, 1, -1, 2
    )
    enlarged = upsample(ones, (canvas, 2), align_corners)[:, :, :full]
    return to_grid(enlarged, (size, 2))[:, 0, :, 0].T


def enlarged_to_grid(maps: Tensor, sigmoid: bool = False) -> Tensor:
    """The same (F17) for outputs that have a quarter of the image's size, and with a sigmoid.

    Equals ``to_grid(f(upsample(maps, 4x)), size of maps)``, and takes a sixteenth of the memory:
    the four central pixels of a cell lie an eighth of a cell off its centre. Without ``f`` their
    mean is the filter 1/16, 14/16, 1/16 along both sides.

    Args:
        maps: Outputs on the grid itself, (B, C, h, w).
        sigmoid: Whether ``f`` is the sigmoid; else it is the identity.

    Returns:
        (B, C, h, w).
    """
    if not sigmoid:
        return _smoothed(_smoothed(maps, 2), 3)
    quarters = [samples.sigmoid() for rows in _beside(maps, 2) for samples in _beside(rows, 3)]
    return torch.stack(quarters).mean(0)


def _smoothed(maps: Tensor, dim: int) -> Tensor:
    """Mean of `_beside`, in fewer passes over memory."""
    n = maps.shape[dim]
    smooth = maps * 0.875
    for cells, neighbours in (((1, n - 1), (0, n - 1)), ((0, n - 1), (1, n - 1))):
        smooth.narrow(dim, *cells).add_(maps.narrow(dim, *neighbours), alpha=0.0625)
    for end in (0, n - 1):
        smooth.narrow(dim, end, 1).add_(maps.narrow(dim, end, 1), alpha=0.0625)
    return smooth


def _beside(maps: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Maps interpolated an eighth of a cell before and after each centre, borders repeated."""
    n = maps.shape[dim]
    before = torch.cat([maps.narrow(dim, 0, 1), maps.narrow(dim, 0, n - 1)], dim)
    after = torch.cat([maps.narrow(dim, 1, n - 1), maps.narrow(dim, n - 1, 1)], dim)
    return maps.lerp(before, 0.125), maps.lerp(after, 0.125)
