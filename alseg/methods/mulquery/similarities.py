"""How alike features are to those of prototypical pixels, read where somebody asks.

Bilinear resizing and the inner product with a prototype commute: features on the network's coarse
grid are compared there, and only the similarities are interpolated, at the pixels that need them.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.nn.precision import at_least_float32


class FeatureMap:
    """Features of an image, on the pixel grid or on a coarser one.

    Attributes:
        grid: Features, (D, h, w).
        size: Height and width of the image's pixel grid, (H, W).
        canvas: Height and width in pixels of what the h x w grid covers; the image is its upper
            left part. Larger than `size` where the network has padded the image.
        align_corners: How the grid lies on the canvas, see `alseg.nn.segmenter.upsample`.
    """

    def __init__(
        self,
        grid: Tensor,
        size: tuple[int, int],
        canvas: tuple[int, int] | None = None,
        align_corners: bool = False,
    ) -> None:
        self.grid = at_least_float32(grid)
        self.size = size
        self.canvas = canvas or size
        self.align_corners = align_corners

    @property
    def coarse(self) -> bool:
        """Whether features have to be interpolated."""
        return self.grid.shape[1:] != self.canvas

    def sample(self, rows: Tensor, pixels: Tensor) -> Tensor:
        """Upsample maps to the canvas, bilinearly, at some pixels only.

        Args:
            rows: Maps on the grid, (c, h * w).
            pixels: Raster indices in the image, (n,), int64.

        Returns:
            (c, n).
        """
        y, x = pixels // self.size[1], pixels % self.size[1]
        if not self.coarse:
            return rows[:, y * self.canvas[1] + x]
        y0, y1, dy = self._lines(y, 0)
        x0, x1, dx = self._lines(x, 1)
        y0, y1 = y0 * self.grid.shape[2], y1 * self.grid.shape[2]
        upper = torch.lerp(rows[:, y0 + x0], rows[:, y0 + x1], dx)
        lower = torch.lerp(rows[:, y1 + x0], rows[:, y1 + x1], dx)
        return torch.lerp(upper, lower, dy)

    def _lines(self, position: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """Grid lines before and after a pixel row or column, and the weight of the latter."""
        last, length = self.grid.shape[1 + axis] - 1, self.canvas[axis]
        if self.align_corners:
            exact = position.to(self.grid.dtype) * (last / max(length - 1, 1))
        else:
            exact = ((position.to(self.grid.dtype) + 0.5) * ((last + 1) / length) - 0.5).clamp(
                min=0
            )
        before = exact.long().clamp(max=last)
        return before, (before + 1).clamp(max=last), exact - before


class Similarities:
    """Inner products of the features with those of prototypical pixels.

    Every feature is used once, so that classes which share a prototypical pixel tie exactly.

    Args:
        field: The features.
        pixels: Raster indices of the prototypes, (P,), int64, on the CPU.
    """

    def __init__(self, field: FeatureMap, pixels: Tensor) -> None:
        self.field = field
        unique, self.row = np.unique(pixels.numpy(), return_inverse=True)
        flat = field.grid.flatten(1)
        self.prototypes = field.sample(flat, there(unique, flat)).T
        self.coarse = self.prototypes @ flat if field.coarse else None

    def at(self, rows: NDArray[np.integer[Any]], pixels: Tensor) -> Tensor:
        """Similarity of some prototypes (c,) to the features of some pixels (n,), (c, n)."""
        places, back = np.unique(self.row[rows], return_inverse=True)
        row = there(places, pixels)
        if self.coarse is None:
            values = self.prototypes[row] @ self.field.sample(self.field.grid.flatten(1), pixels)
        else:
            values = self.field.sample(self.coarse[row], pixels)
        return values[there(back, pixels)]


def there(values: NDArray[Any], like: Tensor) -> Tensor:
    """An array of the host where a tensor is; nobody waits."""
    return torch.from_numpy(values).to(like.device, non_blocking=True)
